//! A filter over the sorted hashes of one chunk: which keys may be in it, and at which row.
//!
//! ```text
//!  hashes of a chunk, sorted   first ├──┬──┬──┬──┬──┬──┬──┬──┤ last      evenly spread, so the key's place
//!                                    │0 │1 │2 │3 │4 │5 │6 │7 │           in the range names its bucket:
//!  starts, one u16 a bucket          0  5  8  13 17 ...                  4 keys in each on average
//!  prints, one u16 a key             ▪▪▪▪▪▪▪▪▪▪▪▪▪▪▪▪▪▪▪▪▪▪▪▪▪           the low 16 bits of each hash
//! ```
//!
//! A probe reads one pair of starts and about four prints that lie side by side. 20 bits a key, wrong for 4 / 65,536
//! of the keys that are not there; a Bloom filter of that size is wrong for three times as many, does not name the
//! row, and is not built by one pass over sorted keys.

/// Keys in a bucket on average.
const BUCKET_KEYS: usize = 4;

/// The most keys in a chunk: a row number fits 16 bits. (An object of 1.5 MB.)
pub(super) const CHUNK_KEYS_MAX: usize = u16::MAX as usize;

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Filter {
    first: u64,
    /// Buckets per unit of the hash's upper half, times 2^64.
    scale: u128,
    buckets: usize,
    /// `buckets` starts, then one print for each key.
    words: Vec<u16>,
}

/// Bytes of the filter of this many keys.
pub(super) fn filter_bytes(keys: usize) -> usize {
    (buckets_of(keys) + keys) * size_of::<u16>()
}

fn buckets_of(keys: usize) -> usize {
    keys.div_ceil(BUCKET_KEYS)
}

fn upper(hash: u128) -> u64 {
    (hash >> 64) as u64
}

impl Filter {
    /// The filter of a chunk; `hashes` are sorted, between 1 and [`CHUNK_KEYS_MAX`] of them.
    pub(super) fn new(hashes: impl ExactSizeIterator<Item = u128> + Clone) -> Self {
        let keys = hashes.len();
        let (first, last) = (hashes.clone().next().unwrap_or(0), hashes.clone().last().unwrap_or(0));
        let mut filter = Self::empty(first, last, keys);
        filter.words = vec![0; filter.buckets + keys];
        let mut next_bucket = 0;
        for (row, hash) in hashes.enumerate() {
            let bucket = filter.bucket(hash);
            if bucket >= next_bucket {
                filter.words[next_bucket..=bucket].fill(row as u16);
                next_bucket = bucket + 1;
            }
            filter.words[filter.buckets + row] = hash as u16;
        }
        filter.words[next_bucket..filter.buckets].fill(keys as u16);
        filter
    }

    fn empty(first: u128, last: u128, keys: usize) -> Self {
        let span = u128::from(upper(last) - upper(first)) + 1;
        let buckets = buckets_of(keys);
        Self { first: upper(first), scale: ((buckets as u128) << 64) / span, buckets, words: Vec::new() }
    }

    /// The filter that [`Filter::to_bytes`] wrote, of a chunk with these bounds. `None`: not of this size.
    pub(super) fn from_bytes(bytes: &[u8], first: u128, last: u128, keys: usize) -> Option<Self> {
        if bytes.len() != filter_bytes(keys) || keys == 0 || last < first {
            return None;
        }
        let words = bytes.as_chunks::<2>().0.iter().map(|word| u16::from_le_bytes(*word)).collect();
        Some(Self { words, ..Self::empty(first, last, keys) })
    }

    /// Its words, little-endian; what else it needs are the chunk's bounds.
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        self.words.iter().flat_map(|word| word.to_le_bytes()).collect()
    }

    /// Bytes held.
    pub(super) fn memory_bytes(&self) -> usize {
        self.words.len() * size_of::<u16>()
    }

    /// `hash` is between the chunk's bounds.
    fn bucket(&self, hash: u128) -> usize {
        ((u128::from(upper(hash) - self.first) * self.scale) >> 64) as usize
    }

    /// Tell `found` every row that may hold `hash`, which is between the chunk's bounds.
    pub(super) fn probe(&self, hash: u128, mut found: impl FnMut(u16)) {
        let bucket = self.bucket(hash);
        let (starts, prints) = self.words.split_at(self.buckets);
        let start = usize::from(starts[bucket]);
        let end = starts.get(bucket + 1).map_or(prints.len(), |end| usize::from(*end));
        for (row, print) in prints.iter().enumerate().take(end).skip(start) {
            if *print == hash as u16 {
                found(row as u16);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use twox_hash::XxHash3_128;

    use super::*;

    fn hashes(from: u64, count: u64) -> Vec<u128> {
        let mut hashes: Vec<_> = (from..from + count).map(|n| XxHash3_128::oneshot(&n.to_le_bytes())).collect();
        hashes.sort_unstable();
        hashes
    }

    fn check(held: &[u128]) -> Filter {
        let filter = Filter::new(held.iter().copied());
        for (row, hash) in held.iter().enumerate() {
            let mut rows = Vec::new();
            filter.probe(*hash, |row| rows.push(usize::from(row)));
            assert!(rows.contains(&row), "{row} of {} is not found", held.len());
        }
        filter
    }

    #[test]
    fn every_key_is_found_at_its_row() {
        for count in [1, 2, 3, 4, 5, 100, 4097, CHUNK_KEYS_MAX as u64] {
            let held = hashes(7, count);
            let filter = check(&held);
            assert_eq!(filter.memory_bytes(), filter_bytes(held.len()));
            let again = Filter::from_bytes(&filter.to_bytes(), held[0], held[held.len() - 1], held.len());
            assert_eq!(again.as_ref(), Some(&filter));
            assert_eq!(Filter::from_bytes(&filter.to_bytes()[2..], held[0], held[0], held.len()), None);
        }
    }

    #[test]
    fn keys_at_the_ends_of_the_range_and_in_one_place_are_found() {
        check(&[0, u128::MAX]);
        check(&[0, 1, 2, u128::MAX - 1, u128::MAX]);
        check(&(0..1000).collect::<Vec<_>>());
        check(&(0..1000).map(|n| u128::from(u64::MAX) + n).collect::<Vec<_>>());
        check(&[5, 5]);
    }

    #[test]
    fn a_few_absent_keys_in_ten_thousand_are_taken_for_present() {
        let held = hashes(0, CHUNK_KEYS_MAX as u64);
        let filter = Filter::new(held.iter().copied());
        let mut wrong = 0;
        let between = |hash: &u128| *hash >= held[0] && *hash <= held[held.len() - 1];
        for hash in hashes(1_000_000, 500_000).into_iter().filter(between) {
            filter.probe(hash, |_| wrong += 1);
        }
        assert!((10..100).contains(&wrong), "{wrong} of 500000 instead of about 30");
    }
}
