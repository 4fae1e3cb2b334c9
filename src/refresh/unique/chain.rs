//! Which objects of the folder make up the state at a frontier: decided from their names alone.
//!
//! ```text
//!  {to}-{from}-00000.parquet  a chunk of the run (from, to]; worth nothing without ...
//!  {to}-{from}-index.parquet  ... its index, written last: the run exists
//!  {to}-{from}-only.parquet   a run of one chunk, which is its own index
//!
//!  (0,3] (3,4] (4,7] (7,9]            chain of 9: newest run that ends at or before 9, the longest of those,
//!  (0───────7]                        then on from where it begins:  (7,9] (0,7]
//!                    (9,10]           ends after 9: not there for a state at 9 (sealed, then the commit failed)
//! ```
//!
//! Why this is unambiguous: a run that ends at E is written before the view commits E, and nothing that ends at or
//! before a committed frontier is written after. A run that was sealed for an epoch whose commit failed is always
//! jumped over, since the next run that is sealed ends later and begins earlier. Merged runs begin and end where
//! runs of the chain begin and end. Epochs in which nothing was kept may leave a gap.

use std::collections::BTreeSet;
use std::fmt;

use crate::epoch::Epoch;

/// What an object is within its run. The order is that of preference between equals.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Part {
    /// The whole run.
    Only,
    /// The list of its chunks.
    Index,
    /// One chunk.
    Chunk(u32),
}

/// The epochs whose kept keys a run holds: (from, to].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Span {
    pub(super) to: Epoch,
    pub(super) from: Epoch,
}

/// The name of an object of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct ObjectName {
    pub(super) span: Span,
    pub(super) part: Part,
}

impl fmt::Display for ObjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:020}-{:020}-", self.span.to, self.span.from)?;
        match self.part {
            Part::Only => write!(f, "only.parquet"),
            Part::Index => write!(f, "index.parquet"),
            Part::Chunk(number) => write!(f, "{number:05}.parquet"),
        }
    }
}

impl ObjectName {
    /// The name in a path or a bare name; `None` for what is not ours.
    pub(super) fn parse(path: &str) -> Option<Self> {
        let name = path.rsplit('/').next()?.strip_suffix(".parquet")?;
        let mut fields = name.splitn(3, '-');
        let (to, from) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
        let part = match fields.next()? {
            "only" => Part::Only,
            "index" => Part::Index,
            number => Part::Chunk(number.parse().ok()?),
        };
        (from < to).then_some(Self { span: Span { to, from }, part })
    }
}

/// The runs that hold exactly what was kept in (0, frontier], oldest first.
pub(super) fn chain(names: &[ObjectName], frontier: Epoch) -> Vec<ObjectName> {
    let runs: BTreeSet<_> = names.iter().filter(|name| !matches!(name.part, Part::Chunk(_))).collect();
    let mut chain = Vec::new();
    let mut end = frontier;
    // Descending by end, so that ascending by beginning is the last step among equal ends.
    let mut best: Option<&ObjectName> = None;
    for name in runs.into_iter().rev() {
        match best {
            Some(held) if held.span.to == name.span.to => best = Some(name),
            _ if name.span.to > end => {}
            Some(held) => {
                chain.push(*held);
                end = held.span.from;
                best = (name.span.to <= end).then_some(name);
            }
            None => best = Some(name),
        }
    }
    chain.extend(best);
    chain.reverse();
    chain
}

/// The objects that no state at or after `published` needs, given the listing of the folder: of these delete the
/// first list before the second, so that no run ever seems to exist without its chunks.
pub(super) fn prunable(names: &[ObjectName], published: Epoch, expired: &[Span]) -> (Vec<ObjectName>, Vec<ObjectName>) {
    let needed: BTreeSet<Span> = chain(names, published).iter().map(|name| name.span).collect();
    let gone = |name: &&ObjectName| {
        name.span.to <= published && (!needed.contains(&name.span) || expired.contains(&name.span))
    };
    names.iter().filter(gone).partition(|name| !matches!(name.part, Part::Chunk(_)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(from: Epoch, to: Epoch) -> ObjectName {
        ObjectName { span: Span { to, from }, part: Part::Only }
    }

    fn spans(names: &[ObjectName]) -> Vec<(Epoch, Epoch)> {
        names.iter().map(|name| (name.span.from, name.span.to)).collect()
    }

    #[test]
    fn names_are_read_as_written() {
        for part in [Part::Only, Part::Index, Part::Chunk(0), Part::Chunk(123_456)] {
            let name = ObjectName { part, ..run(7, 12) };
            assert_eq!(ObjectName::parse(&format!("_state/a.b/x/keys/{name}")), Some(name));
        }
        let other = ["00000.parquet", "5-5-only.parquet", "4-5-only.parquet", "5-4-x.parquet", "5-4-only.json", ""];
        for name in other {
            assert_eq!(ObjectName::parse(name), None, "{name}");
        }
    }

    #[test]
    fn the_chain_ends_at_the_frontier_and_prefers_merged_runs() {
        let names = [run(0, 3), run(3, 4), run(4, 7), run(0, 7), run(7, 9), run(9, 10), run(4, 10)];
        assert_eq!(spans(&chain(&names, 0)), []);
        assert_eq!(spans(&chain(&names, 3)), [(0, 3)]);
        assert_eq!(spans(&chain(&names, 6)), [(0, 3), (3, 4)]);
        assert_eq!(spans(&chain(&names, 7)), [(0, 7)]);
        assert_eq!(spans(&chain(&names, 9)), [(0, 7), (7, 9)]);
        assert_eq!(spans(&chain(&names, 11)), [(0, 3), (3, 4), (4, 10)]);
    }

    #[test]
    fn a_run_whose_commit_failed_is_jumped_over() {
        let names = [run(0, 5), run(5, 6), run(2, 6), run(5, 7), run(7, 9)];
        assert_eq!(spans(&chain(&names, 9)), [(0, 5), (5, 7), (7, 9)]);
        assert_eq!(spans(&chain(&[run(0, 5), run(0, 6), run(5, 7)], 7)), [(0, 5), (5, 7)]);
    }

    #[test]
    fn chunks_without_an_index_are_no_run() {
        let chunk = |number| ObjectName { part: Part::Chunk(number), ..run(5, 6) };
        let mut names = vec![run(0, 5), chunk(0), chunk(1)];
        assert_eq!(spans(&chain(&names, 6)), [(0, 5)]);
        names.push(ObjectName { part: Part::Index, ..run(5, 6) });
        assert_eq!(spans(&chain(&names, 6)), [(0, 5), (5, 6)]);
    }

    #[test]
    fn pruning_spares_what_a_state_from_the_published_one_on_needs() {
        let chunk = ObjectName { part: Part::Chunk(0), ..run(0, 3) };
        let index = ObjectName { part: Part::Index, ..run(0, 3) };
        let names = [chunk, index, run(3, 4), run(4, 7), run(0, 7), run(7, 9), run(0, 9)];
        let gone = |published, expired: &[Span]| {
            let (first, then) = prunable(&names, published, expired);
            (spans(&first), spans(&then))
        };
        assert_eq!(gone(4, &[]), (vec![], vec![]));
        assert_eq!(gone(8, &[]), (vec![(0, 3), (3, 4), (4, 7)], vec![(0, 3)]));
        assert_eq!(gone(3, &[index.span]), (vec![(0, 3)], vec![(0, 3)]));
        assert_eq!(gone(2, &[index.span]), (vec![], vec![]));
    }
}
