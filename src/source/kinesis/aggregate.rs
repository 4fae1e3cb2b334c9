//! Records that a producer library (the KPL and its ports) has packed into one Kinesis record.
//!
//! ```text
//!  f3 89 9a c2 │ protobuf: keys, hash keys, records (index of key, index of hash key, data) │ MD5 of the protobuf
//!
//!  another beginning, or another MD5     ─▶ a record like any other
//!  a hash key outside of the shard       ─▶ landed whole, with the reason: its producer puts it again (see below)
//!  damaged, or more records than allowed ─▶ landed whole, with the reason
//!  else                                  ─▶ its records, with sub-sequences 0, 1, 2, ...
//! ```
//!
//! The format is that of the Kinesis Producer Library, "KPL Aggregated Record Format". A producer packs by the shards that
//! it knows. After a reshard an aggregate can land in a shard that does not own all of its keys; the KPL sees that in the
//! answer and puts those records again, and consumers of AWS leave such an aggregate out. So do we, but as a row with its
//! bytes and the reason, which the views above judge: nothing goes away unseen.

use bytes::Bytes;
use md5::{Digest, Md5};
use prost::Message;

/// What an aggregate begins with.
const MAGIC: [u8; 4] = [0xf3, 0x89, 0x9a, 0xc2];
/// Bytes of the MD5 at its end.
const DIGEST_BYTES: usize = 16;
/// Records that one aggregate may hold.
const PACKED_RECORDS_MAX: usize = 1_000_000;

#[derive(Clone, PartialEq, Message)]
struct AggregatedRecord {
    #[prost(string, repeated, tag = "1")]
    partition_keys: Vec<String>,
    #[prost(string, repeated, tag = "2")]
    explicit_hash_keys: Vec<String>,
    #[prost(message, repeated, tag = "3")]
    records: Vec<PackedRecord>,
}

#[derive(Clone, PartialEq, Message)]
struct PackedRecord {
    #[prost(uint64, required, tag = "1")]
    partition_key: u64,
    #[prost(uint64, optional, tag = "2")]
    explicit_hash_key: Option<u64>,
    #[prost(bytes = "bytes", required, tag = "3")]
    data: Bytes,
}

/// The hash keys that a shard owns, both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct HashRange {
    pub(super) from: u128,
    pub(super) to: u128,
}

/// An aggregate, taken apart.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Aggregate {
    keys: Vec<String>,
    records: Vec<(usize, Bytes)>,
}

impl Aggregate {
    /// Key and data of each record, in order.
    pub(super) fn records(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.records.iter().map(|(key, data)| (self.keys[*key].as_str(), data.as_ref()))
    }
}

/// The records in `data`, or why they cannot be had. `None`: it is no aggregate. `owned`: what the record's shard owns,
/// where keys decide on shards.
pub(super) fn unpack(data: &[u8], owned: Option<&HashRange>) -> Option<Result<Aggregate, String>> {
    let (body, digest) = data.strip_prefix(&MAGIC)?.split_last_chunk::<DIGEST_BYTES>()?;
    (Md5::digest(body).as_slice() == digest).then(|| take_apart(body, owned))
}

fn take_apart(body: &[u8], owned: Option<&HashRange>) -> Result<Aggregate, String> {
    let packed = AggregatedRecord::decode(Bytes::copy_from_slice(body))
        .map_err(|error| format!("aggregate cannot be decoded: {error}"))?;
    if packed.records.len() > PACKED_RECORDS_MAX {
        return Err(format!(
            "aggregate of {} records, at most {PACKED_RECORDS_MAX} are taken apart",
            packed.records.len()
        ));
    }
    let mut records = Vec::with_capacity(packed.records.len());
    for record in packed.records {
        let at = usize::try_from(record.partition_key).unwrap_or(usize::MAX);
        let Some(key) = packed.partition_keys.get(at) else {
            return Err(format!("aggregate names partition key {at} of {}", packed.partition_keys.len()));
        };
        if let Some(owned) = owned {
            let explicit = record.explicit_hash_key.map(|at| usize::try_from(at).unwrap_or(usize::MAX));
            let hash_key = hash_key(key, explicit, &packed.explicit_hash_keys)?;
            if hash_key < owned.from || hash_key > owned.to {
                return Err(
                    "aggregate with keys of another shard, from before a reshard: its producer puts it again".into()
                );
            }
        }
        records.push((at, record.data));
    }
    Ok(Aggregate { keys: packed.partition_keys, records })
}

/// The hash key that was given, or the MD5 of the partition key as a number.
fn hash_key(key: &str, explicit: Option<usize>, hash_keys: &[String]) -> Result<u128, String> {
    let Some(at) = explicit else {
        return Ok(u128::from_be_bytes(Md5::digest(key.as_bytes()).into()));
    };
    let text = hash_keys.get(at).ok_or_else(|| format!("aggregate names hash key {at} of {}", hash_keys.len()))?;
    text.parse().map_err(|_| format!("aggregate with the hash key \"{text}\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(partition_key: u64, explicit_hash_key: Option<u64>, data: &'static [u8]) -> PackedRecord {
        PackedRecord { partition_key, explicit_hash_key, data: Bytes::from_static(data) }
    }

    fn pack(keys: &[&str], hash_keys: &[&str], records: Vec<PackedRecord>) -> Vec<u8> {
        let texts = |some: &[&str]| some.iter().map(ToString::to_string).collect();
        let body = AggregatedRecord { partition_keys: texts(keys), explicit_hash_keys: texts(hash_keys), records };
        let body = body.encode_to_vec();
        [&MAGIC[..], &body, &Md5::digest(&body)].concat()
    }

    fn unpacked(data: &[u8], owned: Option<&HashRange>) -> Vec<(String, Vec<u8>)> {
        let aggregate = unpack(data, owned).unwrap().unwrap();
        aggregate.records().map(|(key, data)| (key.to_string(), data.to_vec())).collect()
    }

    #[test]
    fn records_come_out_in_order_with_their_keys() {
        let data = pack(&["a", "b"], &[], vec![record(1, None, b"1"), record(0, None, b""), record(1, None, b"3")]);
        let expected =
            [("b", "1"), ("a", ""), ("b", "3")].map(|(key, data)| (key.to_string(), data.as_bytes().to_vec()));
        assert_eq!(unpacked(&data, None), expected);
        assert_eq!(unpacked(&pack(&[], &[], vec![]), None), []);
    }

    #[test]
    fn bytes_as_the_producer_library_writes_them() {
        // keys ["k"], one record of key 0 with data "hi": field 1 "k", field 3 { 1: 0, 3: "hi" }.
        let body = b"\x0a\x01k\x1a\x06\x08\x00\x1a\x02hi";
        let data = [&MAGIC[..], body, &Md5::digest(body)].concat();
        assert_eq!(unpacked(&data, None), [("k".to_string(), b"hi".to_vec())]);
        // Tags (field 4) and fields of later versions are passed over.
        let body = b"\x0a\x01k\x1a\x0c\x08\x00\x1a\x02hi\x22\x04\x0a\x02ab\x48\x07";
        let data = [&MAGIC[..], body, &Md5::digest(body)].concat();
        assert_eq!(unpacked(&data, None), [("k".to_string(), b"hi".to_vec())]);
    }

    #[test]
    fn an_aggregate_that_another_library_has_made() {
        // By aws-kinesis-agg for Python: keys shop-1, shop-2 (with the highest hash key) and shop-1 again.
        let hex = "f3899ac20a0673686f702d310a0673686f702d32122733343032383233363639323039333834363334363333373436303734\
                   33313736383231313435351a0b08001a077b226e223a317d1a0d080110001a077b226e223a327d1a0d08001a091f8b20627\
                   26f6b656e8e70ed17446b16360bb7174a0ad7eff5";
        let data: Vec<u8> =
            (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect();
        let expected = [("shop-1", &b"{\"n\":1}"[..]), ("shop-2", b"{\"n\":2}"), ("shop-1", b"\x1f\x8b broken")];
        let expected = expected.map(|(key, data)| (key.to_string(), data.to_vec()));
        assert_eq!(unpacked(&data, None), expected);
        let lower = HashRange { from: 0, to: u128::MAX / 2 };
        assert!(unpack(&data, Some(&lower)).unwrap().is_err(), "shop-2 is of the upper half");
    }

    #[test]
    fn what_is_no_aggregate_is_left_alone() {
        let mut data = pack(&["a"], &[], vec![record(0, None, b"1")]);
        *data.last_mut().unwrap() ^= 1;
        for plain in [&data[..], b"", b"{}", &MAGIC, &data[..12], &data[1..]] {
            assert_eq!(unpack(plain, None), None);
        }
    }

    #[test]
    fn damage_tells_its_reason() {
        let broken = b"\x0a\x7f";
        let broken = [&MAGIC[..], broken, &Md5::digest(broken)].concat();
        for (data, reason) in [
            (broken, "cannot be decoded"),
            (pack(&["a"], &[], vec![record(1, None, b"")]), "partition key 1 of 1"),
            (pack(&["a"], &["7"], vec![record(0, Some(1), b"")]), "hash key 1 of 1"),
            (pack(&["a"], &["x"], vec![record(0, Some(0), b"")]), "the hash key \"x\""),
        ] {
            let everything = HashRange { from: 0, to: u128::MAX };
            let why = unpack(&data, Some(&everything)).unwrap().unwrap_err();
            assert!(why.contains(reason), "{why}");
        }
    }

    #[test]
    fn an_aggregate_of_another_shard_is_not_taken_apart() {
        // MD5 of "a" is 0cc175b9..., of "b" 92eb5ffe...
        let middle = 1_u128 << 127;
        let (low, high) = (HashRange { from: 0, to: middle - 1 }, HashRange { from: middle, to: u128::MAX });
        let of_a = pack(&["a"], &[], vec![record(0, None, b"1")]);
        assert_eq!(unpacked(&of_a, Some(&low)).len(), 1);
        assert!(unpack(&of_a, Some(&high)).unwrap().unwrap_err().contains("another shard"));
        // One record too many is enough, and an explicit hash key counts before the partition key.
        let of_both = pack(&["a", "b"], &[], vec![record(0, None, b"1"), record(1, None, b"2")]);
        assert!(unpack(&of_both, Some(&low)).unwrap().is_err());
        let explicit = pack(&["b"], &["0"], vec![record(0, Some(0), b"1")]);
        assert_eq!(unpacked(&explicit, Some(&low)).len(), 1);
        assert!(unpack(&explicit, Some(&high)).unwrap().is_err());
        // Where the service chooses the shard, keys say nothing.
        assert_eq!(unpacked(&of_both, None).len(), 2);
    }
}
