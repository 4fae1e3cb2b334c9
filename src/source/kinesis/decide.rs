//! What to do next with one shard. Pure.
//!
//! ```text
//!  position ──iterator_for──▶ Want ──Reader::open──▶ reader ──Reader::page──▶ Answer ──next──▶ Next
//!                               ▲                                                            │
//!                               └────────────── Renew (expired), ReadOn, BackOff ◀───────────┤
//!                                          CaughtUp, Yield, Ended: the shard's part is done ◀┘
//! ```

use std::time::Duration;

use super::client::Fault;
use crate::epoch::{Position, SequenceNumber};

/// Empty answers in a row after which a poll leaves a shard to the next poll. Empty answers aren't the end of the
/// data; the iterator moves with each of them and is kept.
pub(super) const EMPTY_READS_MAX: u32 = 20;
/// Passing faults in a row after which a poll gives up.
pub(super) const FAULTS_MAX: u32 = 8;
/// How far in the past an idle shard's time position is set, in milliseconds: beyond any difference of clocks.
pub(super) const IDLE_MARGIN_MS: i64 = 60 * 60 * 1000;
const BACK_OFF_MIN: Duration = Duration::from_millis(100);
const BACK_OFF_MAX: Duration = Duration::from_secs(5);

/// The iterator that a position means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Want {
    /// The oldest record.
    TrimHorizon,
    /// The first record since an instant, in milliseconds.
    AtTimestamp(i64),
    /// This record again, to prove that nothing between it and the next was trimmed; it is then left out.
    At(SequenceNumber),
    /// The record after this one, without the proof.
    After(SequenceNumber),
}

/// `None`: the shard has ended, or the position isn't one of a shard.
pub(super) fn iterator_for(position: &Position, prove: bool) -> Option<Want> {
    match position {
        Position::TrimHorizon => Some(Want::TrimHorizon),
        Position::AtTimestamp(ms) => Some(Want::AtTimestamp(*ms)),
        Position::After(sequence) if prove => Some(Want::At(sequence.clone())),
        Position::After(sequence) => Some(Want::After(sequence.clone())),
        Position::Offset { .. } | Position::End => None,
    }
}

/// How a read went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Answer {
    /// Records, maybe none.
    Page {
        /// How many.
        records: usize,
        /// As many as were asked for.
        full: bool,
        /// What the service says about the distance to the newest record.
        behind_ms: i64,
        /// There is no next iterator: the shard is closed and read.
        ended: bool,
    },
    /// Nothing has been sent since the last answer.
    Silence {
        /// There was more then, or nothing was known.
        behind: bool,
    },
    /// No records, for a reason.
    Fault(Fault),
}

/// What is known about a shard while it is read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Mood {
    /// The listing says that it takes no more records.
    pub(super) closed: bool,
    /// Empty answers in a row.
    pub(super) empty_reads: u32,
    /// Throttled or failed reads in a row.
    pub(super) faults: u32,
    /// The record that was read last was asked for again, as proof that none is missing, and has not come.
    pub(super) expects: bool,
    /// How long the stream keeps a record, in milliseconds; 0: not known.
    pub(super) retention_ms: i64,
}

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Next {
    /// There is more, or may be.
    ReadOn,
    /// Nothing more for now.
    CaughtUp,
    /// Enough for this poll, though there may be more.
    Yield,
    /// Nothing more for ever.
    Ended,
    /// A new reader from the last record that was read.
    Renew,
    /// The same again, after up to this time.
    BackOff(Duration),
    /// The record that was read last is gone, and maybe others after it.
    Lost {
        /// The shard has ended, too.
        ended: bool,
    },
    /// The shard is gone.
    Gone(String),
    /// The caller must know.
    Fail(Fault),
}

/// See the module.
pub(super) fn next(answer: &Answer, mood: Mood) -> Next {
    match answer {
        Answer::Page { ended: true, .. } if mood.expects => Next::Lost { ended: true },
        Answer::Page { ended: true, .. } => Next::Ended,
        // A position that was trimmed away can answer with empty pages for a long time.
        Answer::Page { records: 0, behind_ms, .. }
            if mood.expects && mood.retention_ms > 0 && *behind_ms >= mood.retention_ms =>
        {
            Next::Lost { ended: false }
        }
        Answer::Page { records, full, behind_ms, .. } if *records > 0 => {
            // Some emulators always say that nothing is behind; a full page tells that something may be.
            if *full || *behind_ms > 0 || mood.closed { Next::ReadOn } else { Next::CaughtUp }
        }
        Answer::Page { behind_ms, .. } if *behind_ms > 0 || mood.closed => {
            if mood.empty_reads < EMPTY_READS_MAX {
                Next::ReadOn
            } else {
                Next::Yield
            }
        }
        Answer::Page { .. } if mood.expects => Next::Lost { ended: false },
        Answer::Page { .. } => Next::CaughtUp,
        Answer::Silence { behind } if *behind || mood.closed || mood.expects => Next::Yield,
        Answer::Silence { .. } => Next::CaughtUp,
        Answer::Fault(Fault::Expired) => Next::Renew,
        Answer::Fault(Fault::Throttled) => Next::BackOff(back_off(mood.faults)),
        Answer::Fault(Fault::Passing(_)) if mood.faults < FAULTS_MAX => Next::BackOff(back_off(mood.faults)),
        Answer::Fault(Fault::NotFound(why)) => Next::Gone(why.clone()),
        Answer::Fault(fault) => Next::Fail(fault.clone()),
    }
}

/// The longest wait before attempt number `faults + 1`; the wait itself is a random part of it.
pub(super) fn back_off(faults: u32) -> Duration {
    BACK_OFF_MIN.saturating_mul(1 << faults.min(10)).min(BACK_OFF_MAX)
}

/// The position of an idle shard, moved on in time so that a restart needn't search through old emptiness, nor ask for
/// a record that has expired since. `quiet_since_ms`: the shard had nothing after `position` at that instant, and never
/// since.
///
/// A record's arrival time is approximate, so a margin lies between the instant and everything that was read before
/// or can come after. The instants are multiples of the margin: shards move on together, and are written down at once.
pub(super) fn moved_on(position: &Position, quiet_since_ms: i64, now_ms: i64) -> Option<Position> {
    let latest = (now_ms - IDLE_MARGIN_MS) / IDLE_MARGIN_MS * IDLE_MARGIN_MS;
    let to = match position {
        Position::TrimHorizon => latest,
        Position::AtTimestamp(at) => latest.max(*at),
        Position::After(_) if latest - quiet_since_ms >= IDLE_MARGIN_MS => latest,
        _ => return None,
    };
    match position {
        Position::AtTimestamp(at) if to - at < IDLE_MARGIN_MS => None,
        _ => Some(Position::AtTimestamp(to)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: i64 = IDLE_MARGIN_MS;

    fn page(records: usize, full: bool, behind_ms: i64, ended: bool) -> Answer {
        Answer::Page { records, full, behind_ms, ended }
    }

    #[test]
    fn positions_mean_iterators() {
        let sequence = SequenceNumber("7".into());
        let after = Position::After(sequence.clone());
        assert_eq!(iterator_for(&Position::TrimHorizon, true), Some(Want::TrimHorizon));
        assert_eq!(iterator_for(&Position::AtTimestamp(3), true), Some(Want::AtTimestamp(3)));
        assert_eq!(iterator_for(&after, true), Some(Want::At(sequence.clone())));
        assert_eq!(iterator_for(&after, false), Some(Want::After(sequence)));
        assert_eq!(iterator_for(&Position::End, true), None);
    }

    #[test]
    fn what_comes_after_an_answer() {
        let open = Mood::default();
        let closed = Mood { closed: true, ..open };
        let patience_gone = Mood { empty_reads: EMPTY_READS_MAX, ..open };
        let tired = Mood { faults: FAULTS_MAX, ..open };
        let expects = Mood { expects: true, retention_ms: 1000, ..open };
        let passing = || Answer::Fault(Fault::Passing("reset".into()));
        for (answer, mood, expected) in [
            (page(5, false, 0, false), open, Next::CaughtUp),
            (page(5, false, 900, false), open, Next::ReadOn),
            (page(5, true, 0, false), open, Next::ReadOn),
            (page(5, false, 0, false), closed, Next::ReadOn),
            (page(5, false, 0, true), closed, Next::Ended),
            (page(0, false, 0, false), open, Next::CaughtUp),
            // Empty is not the end while something is behind, or until a closed shard says so.
            (page(0, false, 900, false), open, Next::ReadOn),
            (page(0, false, 900, false), patience_gone, Next::Yield),
            (page(0, false, 0, false), closed, Next::ReadOn),
            (page(0, false, 0, true), open, Next::Ended),
            // What was read last does not come again: it is gone, not the end.
            (page(0, false, 0, false), expects, Next::Lost { ended: false }),
            (page(0, false, 999, false), expects, Next::ReadOn),
            (page(0, false, 1000, false), expects, Next::Lost { ended: false }),
            (page(0, false, 1000, false), Mood { retention_ms: 0, ..expects }, Next::ReadOn),
            (page(0, false, 0, true), expects, Next::Lost { ended: true }),
            (Answer::Fault(Fault::Expired), tired, Next::Renew),
            // A subscription that says nothing has nothing, unless it owes something.
            (Answer::Silence { behind: false }, open, Next::CaughtUp),
            (Answer::Silence { behind: true }, open, Next::Yield),
            (Answer::Silence { behind: false }, closed, Next::Yield),
            (Answer::Silence { behind: false }, expects, Next::Yield),
            // Throttling never fails, other faults do in the end.
            (Answer::Fault(Fault::Throttled), tired, Next::BackOff(BACK_OFF_MAX)),
            (passing(), open, Next::BackOff(BACK_OFF_MIN)),
            (passing(), tired, Next::Fail(Fault::Passing("reset".into()))),
            (Answer::Fault(Fault::NotFound("no".into())), open, Next::Gone("no".into())),
            (Answer::Fault(Fault::Refused("denied".into())), open, Next::Fail(Fault::Refused("denied".into()))),
        ] {
            assert_eq!(next(&answer, mood), expected, "{answer:?} {mood:?}");
        }
    }

    #[test]
    fn waits_grow_to_a_limit() {
        let waits: Vec<u128> = [0, 1, 2, 5, 6, 63].map(|faults| back_off(faults).as_millis()).to_vec();
        assert_eq!(waits, [100, 200, 400, 3200, 5000, 5000]);
    }

    #[test]
    fn idle_shards_move_on_in_time() {
        let minutes = 20 * HOUR / 60;
        let now = 1000 * HOUR + minutes;
        let at = Position::AtTimestamp;
        let after = Position::After(SequenceNumber("7".into()));
        // Nothing was ever read: an hour ago is as good as the beginning.
        assert_eq!(moved_on(&Position::TrimHorizon, now, now), Some(at(999 * HOUR)));
        assert_eq!(moved_on(&at(now - 3 * HOUR), now, now), Some(at(999 * HOUR)));
        assert_eq!(moved_on(&at(999 * HOUR), now, now), None);
        assert_eq!(moved_on(&at(999 * HOUR), now, now + HOUR), Some(at(1000 * HOUR)), "once an hour");
        assert_eq!(moved_on(&at(now + HOUR), now, now), None, "never back");
        // Something was read: only when the quiet has lasted, and an hour from both ends of it.
        assert_eq!(moved_on(&after, now - HOUR, now), None);
        assert_eq!(moved_on(&after, 998 * HOUR, now), Some(at(999 * HOUR)));
        assert_eq!(moved_on(&after, 998 * HOUR + 1, now), None);
        assert_eq!(moved_on(&after, 900 * HOUR, now), Some(at(999 * HOUR)));
        assert_eq!(moved_on(&Position::End, now - 9 * HOUR, now), None);
    }
}
