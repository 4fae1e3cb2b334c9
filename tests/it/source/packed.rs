//! Records packed as the producer library packs them, by an encoder of our own.

use std::io::Write;

use md5::{Digest, Md5};

/// One record of these, in the format of the producer library. `hash_key`: given for each of them.
pub(super) fn aggregate<P: AsRef<[u8]>>(records: &[(String, P)], hash_key: Option<&str>) -> Vec<u8> {
    let mut keys: Vec<&str> = records.iter().map(|(key, _)| key.as_str()).collect();
    keys.sort_unstable();
    keys.dedup();
    let mut body: Vec<u8> = keys.iter().flat_map(|key| field(0x0a, key.as_bytes())).collect();
    body.extend(hash_key.iter().flat_map(|key| field(0x12, key.as_bytes())));
    for (key, payload) in records {
        let at = keys.iter().position(|other| other == key).unwrap() as u8;
        let explicit: &[u8] = if hash_key.is_some() { &[0x10, 0] } else { &[] };
        body.extend(field(0x1a, &[&[0x08, at], explicit, &field(0x1a, payload.as_ref())].concat()));
    }
    let digest = Md5::digest(&body);
    [&[0xf3, 0x89, 0x9a, 0xc2], body.as_slice(), digest.as_slice()].concat()
}

/// A field of Protocol Buffers that has a length.
fn field(tag: u8, bytes: &[u8]) -> Vec<u8> {
    let mut length = bytes.len();
    let mut out = vec![tag];
    while length >= 0x80 {
        out.push(length as u8 | 0x80);
        length >>= 7;
    }
    out.push(length as u8);
    [out.as_slice(), bytes].concat()
}

pub(super) fn gzip(text: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(text).unwrap();
    encoder.finish().unwrap()
}
