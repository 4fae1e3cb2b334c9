//! What was kept since the last seal: sorted lists in memory, merged like the digits of a binary counter.
//!
//! ```text
//!  push 8  push 8       push 8      push 8
//!  [8]     [8][8]->[16] [16][8]     [16][8][8]->[16][16]->[32]      few lists, n log n work, and sealing
//! ```                                                               finds them sorted

use super::run::Entry;

/// See the module.
#[derive(Debug, Clone, Default)]
pub(super) struct Taken {
    lists: Vec<Vec<Entry>>,
}

impl Taken {
    pub(super) fn is_empty(&self) -> bool {
        self.lists.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.lists.iter().map(Vec::len).sum()
    }

    pub(super) fn memory_bytes(&self) -> usize {
        self.lists.iter().map(|list| list.capacity() * size_of::<Entry>()).sum()
    }

    /// Add entries, sorted and without two of one key.
    pub(super) fn push(&mut self, entries: Vec<Entry>) {
        if entries.is_empty() {
            return;
        }
        self.lists.push(entries);
        while let [.., before, last] = self.lists.as_slice()
            && last.len() * 2 > before.len()
        {
            self.merge_last_two();
        }
    }

    fn merge_last_two(&mut self) {
        if let (Some(last), Some(before)) = (self.lists.pop(), self.lists.pop()) {
            self.lists.push(merge_sorted([before, last].concat()));
        }
    }

    /// Everything, sorted, with the newest entry of each key.
    pub(super) fn sorted(&self) -> Vec<Entry> {
        match self.lists.as_slice() {
            [only] => only.clone(),
            lists => merge_sorted(lists.concat()),
        }
    }

    /// Tell `found` the arrival of each of these sorted keys that is here, by its place in `keys`.
    pub(super) fn look_up(&self, keys: &[u128], mut found: impl FnMut(usize, i64)) {
        for list in &self.lists {
            look_up_sorted(list.len(), |row| list[row], keys, &mut found);
        }
    }
}

/// Sort, and leave the newest entry of each key. Cheap when `entries` are a few sorted lists behind one another.
pub(super) fn merge_sorted(mut entries: Vec<Entry>) -> Vec<Entry> {
    entries.sort_by_key(|entry| entry.hash);
    entries.dedup_by(|next, kept| {
        let same = next.hash == kept.hash;
        if same {
            kept.arrived_us = kept.arrived_us.max(next.arrived_us);
        }
        same
    });
    entries
}

/// Find sorted `keys` among `len` sorted entries, by steps that double from one key to the next: m log(n/m) work.
pub(super) fn look_up_sorted(
    len: usize,
    get: impl Fn(usize) -> Entry,
    keys: &[u128],
    mut found: impl FnMut(usize, i64),
) {
    let mut at = 0;
    for (place, key) in keys.iter().enumerate() {
        let mut step = 1;
        while at + step < len && get(at + step).hash < *key {
            at += step;
            step *= 2;
        }
        let mut end = (at + step).min(len);
        while at < end {
            let middle = at.midpoint(end);
            if get(middle).hash < *key { at = middle + 1 } else { end = middle }
        }
        if at == len {
            return;
        }
        let entry = get(at);
        if entry.hash == *key {
            found(place, entry.arrived_us);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn entries(hashes: impl IntoIterator<Item = u128>, arrived_us: i64) -> Vec<Entry> {
        hashes.into_iter().map(|hash| Entry { hash, arrived_us }).collect()
    }

    #[test]
    fn lists_stay_few_and_keep_the_newest_entry() {
        let mut taken = Taken::default();
        let mut all = BTreeMap::new();
        let keys: Vec<u128> = (0..500).collect();
        for round in 0..100_u32 {
            let hashes = (0..10).map(|n| u128::from(n * 7 + round * 3));
            all.extend(hashes.clone().map(|hash| (hash, i64::from(round))));
            taken.push(entries(hashes, i64::from(round)));
            assert!(taken.lists.len() <= 8, "{} lists after {round}", taken.lists.len());
            let mut newest = BTreeMap::new();
            taken.look_up(&keys, |place, at| {
                let held = newest.entry(keys[place]).or_insert(at);
                *held = (*held).max(at);
            });
            assert_eq!(newest, all);
        }
        let sorted: Vec<_> = taken.sorted().iter().map(|entry| (entry.hash, entry.arrived_us)).collect();
        assert_eq!(sorted, all.into_iter().collect::<Vec<_>>());
    }

    #[test]
    fn keys_before_between_and_after_the_entries_are_not_found() {
        let list = entries((0..50).map(|n| n * 2 + 10), 1);
        for keys in [vec![0, 1, 10, 11, 12, 107, 108, 109, 200], (0..200).collect(), vec![108], vec![109], vec![]] {
            let mut places = Vec::new();
            look_up_sorted(list.len(), |row| list[row], &keys, |place, _| places.push(keys[place]));
            let expected: Vec<_> =
                keys.iter().copied().filter(|key| (10..=108).contains(key) && key % 2 == 0).collect();
            assert_eq!(places, expected);
        }
        look_up_sorted(0, |row| list[row], &[1, 2], |_, _| unreachable!("nothing is held"));
    }
}
