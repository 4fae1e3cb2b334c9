//! What to do after a conditional put of a commit failed. Pure.
//!
//! ```text
//!   the table, read again      ┌ our own try is in the log, or txn >= epoch ──▶ AlreadyCommitted(version)
//!        │                     ├ tries are used up, or would all end so ─────▶ GiveUp
//!   after_error ───────────────┼ a file to remove was merged into others ────▶ Rebase, removing those
//!                              ├ a file to remove is gone otherwise ─────────▶ GiveUp(Conflict)
//!                              └ else ───────────────────────────────────────▶ Rebase
//! ```
//!
//! An error never tells that the commit did not land: the answer may be lost after the write. What it tells is whether
//! another try can help: a lost race is tried often, a fault a few times, and a full disk or a closed door not at all.

use std::collections::{BTreeSet, HashSet};
use std::io;

use crate::epoch::{Epoch, Version};
use crate::error::{Error, ErrorKind};
use crate::storage::action::LogEntry;

/// Tries of one commit that end with a fault, and not with a lost race. Where a request goes over the network, the
/// store's client has repeated it already.
const FAULTS_MAX: u32 = 5;

/// The failed tries of one commit.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Tries {
    /// All of them.
    pub(crate) count: u32,
    /// Those that were no lost races.
    faults: u32,
    /// The last one met what repeating cannot mend.
    lasting: bool,
}

impl Tries {
    /// One more, and why it failed.
    pub(crate) fn add(&mut self, error: &object_store::Error) {
        use object_store::Error as E;
        let race = matches!(error, E::AlreadyExists { .. } | E::Precondition { .. });
        self.count += 1;
        self.faults += u32::from(!race);
        self.lasting = !race && is_lasting(error);
    }

    fn are_used_up(&self, count_max: u32) -> bool {
        self.lasting || self.faults >= FAULTS_MAX || self.count >= count_max
    }
}

/// Will every try end like this one until somebody acts?
fn is_lasting(error: &object_store::Error) -> bool {
    use io::ErrorKind as K;
    use object_store::Error as E;
    let refused = matches!(
        error,
        E::PermissionDenied { .. } | E::Unauthenticated { .. } | E::NotSupported { .. } | E::NotImplemented { .. }
    );
    let causes = std::iter::successors(std::error::Error::source(error), |cause| cause.source());
    let mut kinds = causes.filter_map(|cause| cause.downcast_ref::<io::Error>()).map(io::Error::kind);
    refused
        || kinds
            .any(|kind| matches!(kind, K::StorageFull | K::QuotaExceeded | K::PermissionDenied | K::ReadOnlyFilesystem))
}

/// What the log says after the error.
#[derive(Debug)]
pub(crate) struct Facts<'a> {
    /// The epoch that we tried to commit.
    pub(crate) epoch: Option<Epoch>,
    /// The id of our try.
    pub(crate) commit_id: &'a str,
    /// The files that we want to remove.
    pub(crate) remove: &'a BTreeSet<String>,
    /// The newest epoch of the table.
    pub(crate) table_epoch: Epoch,
    /// Commits that came since our base, oldest first.
    pub(crate) since: &'a [std::sync::Arc<LogEntry>],
    /// Paths of the active files.
    pub(crate) active: &'a HashSet<&'a str>,
    /// Tries so far, this one included.
    pub(crate) tries: Tries,
    /// The most tries against other writers.
    pub(crate) tries_max: u32,
}

/// What to do.
#[derive(Debug)]
pub(crate) enum AfterError {
    /// It landed: our own try, at this version, or the epoch, at a version to be looked up.
    AlreadyCommitted(Option<Version>),
    /// Try again on top of the newest version, removing these files.
    Rebase(BTreeSet<String>),
    /// Tell the caller.
    GiveUp(Error),
}

/// See the module. `error` is why the put failed.
pub(crate) fn after_error(facts: &Facts<'_>, error: Error) -> AfterError {
    let ours = facts.since.iter().find(|entry| entry.commit_id.as_deref() == Some(facts.commit_id));
    if let Some(entry) = ours {
        return AfterError::AlreadyCommitted(Some(entry.version));
    }
    if facts.epoch.is_some_and(|epoch| facts.table_epoch >= epoch) {
        return AfterError::AlreadyCommitted(None);
    }
    if facts.tries.are_used_up(facts.tries_max) {
        return AfterError::GiveUp(error);
    }
    let remove = follow_rewrites(facts.remove.clone(), facts.since);
    match remove.iter().find(|path| !facts.active.contains(path.as_str())) {
        Some(path) => AfterError::GiveUp(gone(path)),
        None => AfterError::Rebase(remove),
    }
}

/// A file to remove is not in the table any more.
pub(crate) fn gone(path: &str) -> Error {
    Error::new(ErrorKind::Conflict, format!("file \"{path}\" is not in the table any more"))
        .with_detail("another writer replaced it")
        .with_hint("compute the change again from the newest version")
}

/// Where all inputs of a rewrite were to go, its outputs go instead: they hold the same rows.
fn follow_rewrites(mut remove: BTreeSet<String>, since: &[std::sync::Arc<LogEntry>]) -> BTreeSet<String> {
    for entry in since.iter().filter(|entry| !entry.data_change && !entry.removed.is_empty()) {
        if entry.removed.iter().all(|file| remove.contains(&file.path)) {
            entry.removed.iter().for_each(|file| {
                remove.remove(&file.path);
            });
            remove.extend(entry.added.iter().map(|file| file.path.clone()));
        }
    }
    remove
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::storage::DataFile;

    fn file(path: &str) -> Arc<DataFile> {
        Arc::new(DataFile {
            path: path.into(),
            size: 1,
            rows: 1,
            partition: vec![],
            stats: Default::default(),
            modified_ms: 0,
        })
    }

    fn entry(version: Version, id: &str, removed: &[&str], added: &[&str], data_change: bool) -> Arc<LogEntry> {
        Arc::new(LogEntry {
            version,
            timestamp_ms: 0,
            commit_id: Some(id.into()),
            epoch: None,
            added: added.iter().map(|path| file(path)).collect(),
            removed: removed.iter().map(|path| file(path)).collect(),
            data_change,
            expiry: false,
        })
    }

    fn race() -> object_store::Error {
        object_store::Error::AlreadyExists { path: "t".into(), source: "it is there".into() }
    }

    fn fault(cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> object_store::Error {
        // As the stores do it: a local folder's own error around that of the system.
        let inner = object_store::Error::Generic { store: "inner", source: cause.into() };
        object_store::Error::Generic { store: "outer", source: Box::new(inner) }
    }

    fn tries(errors: &[object_store::Error]) -> Tries {
        let mut tries = Tries::default();
        errors.iter().for_each(|error| tries.add(error));
        tries
    }

    fn run(remove: &[&str], since: &[Arc<LogEntry>], active: &[&str], table_epoch: Epoch, races: usize) -> AfterError {
        let remove = remove.iter().map(|path| path.to_string()).collect();
        let active = active.iter().copied().collect();
        let facts = Facts {
            epoch: Some(5),
            commit_id: "mine",
            remove: &remove,
            table_epoch,
            since,
            active: &active,
            tries: tries(&std::iter::repeat_with(race).take(races).collect::<Vec<_>>()),
            tries_max: 3,
        };
        after_error(&facts, Error::new(ErrorKind::Storage, "the put failed"))
    }

    #[test]
    fn a_lost_answer_is_recognised_by_id_and_by_epoch() {
        let landed = [entry(8, "mine", &["a"], &["b"], true)];
        assert!(matches!(run(&["a"], &landed, &["b"], 4, 3), AfterError::AlreadyCommitted(Some(8))));
        let twin = [entry(8, "theirs", &["a"], &["b"], true)];
        assert!(matches!(run(&["a"], &twin, &["b"], 5, 1), AfterError::AlreadyCommitted(None)));
        assert!(matches!(run(&["a"], &twin, &["b"], 6, 3), AfterError::AlreadyCommitted(None)));
    }

    #[test]
    fn a_lost_race_is_rebased_while_the_removes_stand() {
        let append = [entry(8, "theirs", &[], &["n"], true)];
        let AfterError::Rebase(remove) = run(&["a"], &append, &["a", "n"], 4, 1) else { panic!() };
        assert_eq!(remove, BTreeSet::from(["a".to_string()]));
        assert!(matches!(run(&[], &append, &["n"], 4, 2), AfterError::Rebase(remove) if remove.is_empty()));
    }

    #[test]
    fn a_file_that_went_is_a_conflict() {
        let overwrite = [entry(8, "theirs", &["a"], &["n"], true)];
        let AfterError::GiveUp(error) = run(&["a"], &overwrite, &["n"], 4, 1) else { panic!() };
        assert_eq!(error.kind(), ErrorKind::Conflict);
    }

    #[test]
    fn a_rewrite_is_followed_only_when_all_its_inputs_go() {
        let merged = [entry(8, "theirs", &["a", "b"], &["ab"], false)];
        let AfterError::Rebase(remove) = run(&["a", "b", "c"], &merged, &["ab", "c"], 4, 1) else { panic!() };
        assert_eq!(remove, BTreeSet::from(["ab".to_string(), "c".to_string()]));
        assert!(matches!(run(&["a"], &merged, &["ab", "c"], 4, 1), AfterError::GiveUp(_)));
    }

    #[test]
    fn a_race_is_tried_often_a_fault_seldom_and_what_repeating_cannot_mend_once() {
        let used_up = |errors: &[object_store::Error]| tries(errors).are_used_up(20);
        let many = |n, error: fn() -> object_store::Error| std::iter::repeat_with(error).take(n).collect::<Vec<_>>();
        assert!(!used_up(&many(19, race)) && used_up(&many(20, race)));
        let refused = || fault(io::Error::from(io::ErrorKind::ConnectionRefused));
        let faults = FAULTS_MAX as usize;
        assert!(!used_up(&many(faults - 1, refused)) && used_up(&many(faults, refused)));
        assert!(!used_up(&many(10, race).into_iter().chain(many(faults - 1, refused)).collect::<Vec<_>>()));
        for kind in [
            io::ErrorKind::StorageFull,
            io::ErrorKind::QuotaExceeded,
            io::ErrorKind::PermissionDenied,
            io::ErrorKind::ReadOnlyFilesystem,
        ] {
            assert!(used_up(&[fault(io::Error::from(kind))]), "{kind}");
        }
        assert!(used_up(&[object_store::Error::PermissionDenied { path: "t".into(), source: "no".into() }]));
        assert!(!used_up(&[fault("no space, says a text that nobody reads")]));
    }

    #[test]
    fn tries_are_limited() {
        let AfterError::GiveUp(error) = run(&[], &[], &[], 4, 3) else { panic!() };
        assert_eq!(error.message(), "the put failed");
    }
}
