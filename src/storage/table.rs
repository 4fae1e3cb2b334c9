//! The handle of one table: its newest version in memory, and the recent commits that lead to it.
//!
//! ```text
//!   history   [v-2] [v-1] [v]──────▶ current snapshot          apply: one step forward
//!                  ◀───undo───       an older snapshot         no file of the log is read
//! ```
//!
//! The handle is opened from the log once; after that it changes by commits of this process, and by following the
//! log when another writer is met. It holds the active files, and commits as far back as their number and that of the
//! files that they removed stay within [`HistoryLimits`], so it does not grow with time. What is older is in the log.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use crate::epoch::{Epoch, Version};
use crate::storage::action::{LogEntry, Parsed};
use crate::storage::log::{Opened, Tombstone};
use crate::storage::provider::DeltaProvider;
use crate::storage::{Changes, DataFile, Snapshot};

/// A table of the lake.
#[derive(Debug, Default)]
pub(crate) struct Table {
    /// Its handle; `None` until it is opened.
    pub(crate) handle: parking_lot::Mutex<Option<Handle>>,
    /// Held while the log is written or followed.
    pub(crate) gate: tokio::sync::Mutex<()>,
    /// Held while the table is maintained: what was done when.
    pub(crate) upkeep: tokio::sync::Mutex<Upkeep>,
    /// All rows of one version as a table, the last one that was asked for.
    pub(crate) provider: parking_lot::Mutex<Option<Arc<DeltaProvider>>>,
    /// Numbers the files that are staged.
    pub(crate) staged: AtomicU64,
}

/// What maintenance did last. Nothing is due right after a start except what the log tells.
#[derive(Debug, Default)]
pub(crate) struct Upkeep {
    /// The version of the newest checkpoint; `None` until the log was asked.
    pub(crate) checkpoint: Option<Version>,
    /// The newest checkpoint that was seen to give the table back.
    pub(crate) verified: Option<Version>,
    /// When the log was cleaned, in milliseconds since 1970 UTC.
    pub(crate) cleaned_ms: i64,
    /// When files that nothing refers to were looked for, in milliseconds since 1970 UTC.
    pub(crate) swept_ms: i64,
}

/// How much history stays in memory.
#[derive(Debug, Clone, Copy)]
pub(crate) struct HistoryLimits {
    pub(crate) commits_max: usize,
    /// Removed files, which nothing but the history holds: each has the bounds of all its columns, some kilobytes.
    pub(crate) files_max: usize,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Handle {
    /// The newest version that we know.
    pub(crate) current: Snapshot,
    /// The commits that led to it, oldest first, without gaps.
    history: VecDeque<Arc<LogEntry>>,
    /// Files that were removed by the commits in `history`.
    history_files: usize,
    /// The epoch of the version before the first commit in `history`.
    base_epoch: Epoch,
    /// Files that were removed and may still lie in the folder.
    pub(crate) tombstones: HashMap<String, Tombstone>,
    /// When the log was last looked at, in milliseconds since 1970 UTC; 0: look before the next use.
    pub(crate) seen_ms: i64,
    limits: HistoryLimits,
}

impl Handle {
    /// The handle of a table that was just opened.
    pub(crate) fn new(opened: Opened, seen_ms: i64, limits: HistoryLimits) -> Self {
        Self {
            base_epoch: opened.snapshot.epoch,
            current: opened.snapshot,
            history: VecDeque::new(),
            history_files: 0,
            tombstones: opened.tombstones,
            seen_ms,
            limits,
        }
    }

    /// One step forward: `entry` makes the next version.
    pub(crate) fn apply(&mut self, entry: Arc<LogEntry>) {
        let gone: HashSet<&str> = entry.removed.iter().map(|file| file.path.as_str()).collect();
        let mut files: Vec<Arc<DataFile>> = Vec::with_capacity(self.current.files.len() + entry.added.len());
        if gone.is_empty() {
            files.extend(self.current.files.iter().cloned());
        } else {
            files.extend(self.current.files.iter().filter(|file| !gone.contains(file.path.as_str())).cloned());
        }
        files.extend(entry.added.iter().cloned());
        for file in &entry.removed {
            let tombstone = Tombstone { removed_ms: entry.timestamp_ms, size: file.size };
            self.tombstones.insert(file.path.clone(), tombstone);
        }
        for file in &entry.added {
            self.tombstones.remove(&file.path);
        }
        self.current.files = Arc::new(files);
        self.current.version = entry.version;
        self.current.epoch = self.current.epoch.max(entry.epoch.unwrap_or(0));
        self.history_files += entry.removed.len();
        self.history.push_back(entry);
        self.forget_old();
    }

    /// Bring the history within its limits. The newest commit stays: it leads to the version that was current just now.
    fn forget_old(&mut self) {
        let HistoryLimits { commits_max, files_max } = self.limits;
        while self.history.len() > commits_max || (self.history.len() > 1 && self.history_files > files_max) {
            let Some(dropped) = self.history.pop_front() else { return };
            self.history_files -= dropped.removed.len();
            self.base_epoch = self.base_epoch.max(dropped.epoch.unwrap_or(0));
        }
    }

    /// A commit of another writer on top of the current version: its removed files are those that we know.
    pub(crate) fn resolve(&self, version: Version, parsed: Parsed) -> LogEntry {
        let gone: HashSet<&str> = parsed.removed.iter().map(String::as_str).collect();
        let removed = self.current.files.iter().filter(|file| gone.contains(file.path.as_str())).cloned();
        LogEntry {
            version,
            timestamp_ms: parsed.timestamp_ms,
            commit_id: parsed.commit_id,
            epoch: parsed.epoch,
            removed: if gone.is_empty() { Vec::new() } else { removed.collect() },
            added: parsed.added,
            data_change: parsed.data_change,
            expiry: parsed.expiry,
        }
    }

    /// The oldest version whose snapshot and later changes are in memory.
    pub(crate) fn oldest(&self) -> Version {
        self.current.version - self.history.len() as Version
    }

    /// Commits of versions after `version`, oldest first; `None` where they are not all in memory.
    pub(crate) fn since(&self, version: Version) -> Option<Vec<Arc<LogEntry>>> {
        (version >= self.oldest())
            .then(|| self.history.iter().filter(|entry| entry.version > version).map(Arc::clone).collect())
    }

    /// The table at an older version, by undoing what came after it; `None` where that is not in memory.
    pub(crate) fn at(&self, version: Version) -> Option<Snapshot> {
        if version == self.current.version {
            return Some(self.current.clone());
        }
        if version > self.current.version || version < self.oldest() {
            return None;
        }
        let mut undone: BTreeMap<&str, Option<&Arc<DataFile>>> = BTreeMap::new();
        for entry in self.history.iter().rev().take_while(|entry| entry.version > version) {
            undone.extend(entry.added.iter().map(|file| (file.path.as_str(), None)));
            undone.extend(entry.removed.iter().map(|file| (file.path.as_str(), Some(file))));
        }
        let kept = self.current.files.iter().filter(|file| !undone.contains_key(file.path.as_str()));
        let back = undone.values().flatten().copied();
        let files = kept.chain(back).map(Arc::clone).collect();
        let epochs = self.history.iter().take_while(|entry| entry.version <= version).filter_map(|entry| entry.epoch);
        let epoch = epochs.fold(self.base_epoch, Epoch::max);
        Some(Snapshot { version, epoch, files: Arc::new(files), ..self.current.clone() })
    }

    /// See [`crate::storage::Storage::first_removed_ms`].
    pub(crate) fn first_removed_ms(&self, snapshot: &Snapshot) -> Option<i64> {
        let active: HashSet<&str> = self.current.files.iter().map(|file| file.path.as_str()).collect();
        let gone = snapshot.files.iter().filter(|file| !active.contains(file.path.as_str()));
        gone.map(|file| self.tombstones.get(&file.path).map_or(0, |tombstone| tombstone.removed_ms)).min()
    }

    /// The version that carried `epoch`, where that is in memory.
    pub(crate) fn version_of(&self, epoch: Epoch) -> Option<Version> {
        self.history.iter().find(|entry| entry.epoch == Some(epoch)).map(|entry| entry.version)
    }
}

/// What came and went over these commits, oldest first. A file that came and went within them is no change; where
/// files that came were merged, the merged file stands for them. What expired had come, and is left out.
pub(crate) fn net_changes(entries: &[Arc<LogEntry>]) -> Changes {
    let mut added: BTreeMap<&str, &Arc<DataFile>> = BTreeMap::new();
    let mut removed: BTreeMap<&str, &Arc<DataFile>> = BTreeMap::new();
    for entry in entries.iter().filter(|entry| !entry.expiry) {
        if !entry.data_change && !entry.removed.iter().all(|file| added.contains_key(file.path.as_str())) {
            continue;
        }
        for file in &entry.removed {
            if added.remove(file.path.as_str()).is_none() {
                removed.insert(&file.path, file);
            }
        }
        for file in &entry.added {
            if removed.remove(file.path.as_str()).is_none() {
                added.insert(&file.path, file);
            }
        }
    }
    let files = |map: BTreeMap<&str, &Arc<DataFile>>| map.into_values().map(Arc::clone).collect();
    Changes { added: files(added), removed: files(removed) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::datatypes::Schema;

    fn file(path: &str) -> Arc<DataFile> {
        let (partition, stats) = (vec![], Default::default());
        Arc::new(DataFile { path: path.into(), size: 1, rows: 1, partition, stats, modified_ms: 0 })
    }

    fn handle(commits_max: usize) -> Handle {
        handle_within(HistoryLimits { commits_max, files_max: 100 })
    }

    fn handle_within(limits: HistoryLimits) -> Handle {
        let snapshot = Snapshot {
            location: "t".into(),
            version: 0,
            schema: Arc::new(Schema::empty()),
            partitioned_by: vec![],
            files: Arc::default(),
            epoch: 0,
        };
        Handle::new(Opened { snapshot, tombstones: HashMap::new() }, 0, limits)
    }

    fn step(handle: &mut Handle, epoch: Option<Epoch>, removed: &[&str], added: &[&str], data_change: bool) {
        let files = |paths: &[&str]| paths.iter().map(|path| file(path)).collect::<Vec<_>>();
        handle.apply(Arc::new(LogEntry {
            version: handle.current.version + 1,
            timestamp_ms: 9,
            commit_id: None,
            epoch,
            added: files(added),
            removed: files(removed),
            data_change,
            expiry: false,
        }));
    }

    fn paths(files: &[Arc<DataFile>]) -> Vec<&str> {
        let mut paths: Vec<&str> = files.iter().map(|file| file.path.as_str()).collect();
        paths.sort_unstable();
        paths
    }

    #[test]
    fn older_versions_are_reached_by_undoing() {
        let mut handle = handle(10);
        step(&mut handle, Some(1), &[], &["a", "b"], true);
        step(&mut handle, Some(2), &["a"], &["c"], true);
        step(&mut handle, None, &["b", "c"], &["bc"], false);
        step(&mut handle, Some(4), &["bc"], &[], true);
        let expected: [(&[&str], Epoch); 5] = [(&[], 0), (&["a", "b"], 1), (&["b", "c"], 2), (&["bc"], 2), (&[], 4)];
        for (version, (files, epoch)) in (0_u64..).zip(expected) {
            let snapshot = handle.at(version).unwrap();
            assert_eq!((paths(&snapshot.files).as_slice(), snapshot.epoch), (files, epoch), "version {version}");
        }
        assert!(handle.at(5).is_none());
        let removed = |handle: &Handle, version| handle.first_removed_ms(&handle.at(version).unwrap());
        assert_eq!((removed(&handle, 3), removed(&handle, 4)), (Some(9), None));
        let vacuumed = handle.tombstones.remove("b");
        assert_eq!((removed(&handle, 1), removed(&handle, 3)), (Some(0), Some(9)));
        handle.tombstones.extend(vacuumed.map(|tombstone| ("b".to_string(), tombstone)));
        assert_eq!(handle.version_of(2), Some(2));
        assert_eq!(handle.tombstones.keys().len(), 4);
    }

    #[test]
    fn history_is_bounded_and_says_so() {
        let mut handle = handle(2);
        for epoch in 1..=5 {
            step(&mut handle, Some(epoch), &[], &[&format!("f{epoch}")], true);
        }
        assert_eq!(handle.oldest(), 3);
        assert_eq!(handle.at(3).unwrap().epoch, 3);
        assert!(handle.at(2).is_none() && handle.since(2).is_none());
        assert_eq!(handle.since(3).unwrap().len(), 2);
    }

    #[test]
    fn history_is_bounded_by_the_files_that_only_it_holds() {
        let mut handle = handle_within(HistoryLimits { commits_max: 100, files_max: 3 });
        let held = |of: &Handle| of.history.iter().map(|entry| entry.removed.len()).sum::<usize>();
        step(&mut handle, Some(1), &[], &["a", "b"], true);
        let first = Arc::downgrade(&handle.current.files[0]);
        for epoch in 2..=9 {
            let before = paths(&handle.current.files).join(" ");
            let gone: Vec<&str> = before.split(' ').collect();
            step(&mut handle, Some(epoch), &gone, &[&format!("a{epoch}"), &format!("b{epoch}")], true);
            assert!(held(&handle) <= 3 && held(&handle) == handle.history_files, "{epoch}");
        }
        assert!(first.upgrade().is_none(), "a file that went long ago is not held");
        assert_eq!((handle.oldest(), handle.at(8).unwrap().epoch), (8, 8));
        assert!(handle.at(7).is_none() && handle.since(7).is_none());
        // One commit that removes more than that is still known; commits without removals do not count.
        let all: Vec<String> = (0..9).map(|n| format!("c{n}")).collect();
        let all: Vec<&str> = all.iter().map(String::as_str).collect();
        step(&mut handle, Some(10), &[], &all, true);
        step(&mut handle, Some(11), &all, &[], true);
        assert_eq!((handle.oldest(), handle.history_files), (10, 9));
        for epoch in 12..20 {
            step(&mut handle, Some(epoch), &[], &[&format!("d{epoch}")], true);
        }
        assert_eq!((handle.oldest(), handle.history_files), (11, 0));
    }

    #[test]
    fn changes_leave_out_rewrites_and_what_came_and_went() {
        let mut handle = handle(10);
        step(&mut handle, Some(1), &[], &["a", "b"], true);
        step(&mut handle, None, &["a", "b"], &["ab"], false);
        step(&mut handle, Some(2), &["ab"], &["c"], true);
        step(&mut handle, Some(3), &["c"], &["d"], true);
        let changes = |from| net_changes(&handle.since(from).unwrap());
        assert_eq!(paths(&changes(0).added), ["d"]);
        assert_eq!(changes(0).removed.len(), 0);
        assert_eq!((changes(1).added.len(), paths(&changes(1).removed)), (1, vec!["ab"]));
        assert_eq!(paths(&changes(2).added), ["d"]);
        assert_eq!(paths(&changes(2).removed), ["ab"]);
        assert_eq!((changes(4).added.len(), changes(4).removed.len()), (0, 0));
    }
}
