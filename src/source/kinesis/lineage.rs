//! Which shards may be read. Pure.
//!
//! ```text
//!  shard-0 ──split──▶ shard-1, shard-2        shard-1, shard-2 ──merge──▶ shard-3
//!
//!  not listed any more: an ended one is forgotten, any other is lost data
//!  listed, not stored:  found later, so it comes from a reshard: from its beginning
//!  eligible:            not ended, and every parent ended or not listed any more
//! ```

use std::collections::BTreeMap;

use super::aggregate::HashRange;
use crate::epoch::Position;

/// A shard, as it is listed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Shard {
    /// One after a split, two after a merge.
    pub(super) parents: Vec<String>,
    /// Takes no more records.
    pub(super) closed: bool,
    /// The hash keys that it owns, where keys decide on shards.
    pub(super) owned: Option<HashRange>,
}

/// Positions of all shards, and which of them may be read now.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Plan {
    pub(super) positions: BTreeMap<String, Position>,
    pub(super) eligible: Vec<String>,
}

/// The first stored shard that is gone before it was read to its end.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Lost {
    pub(super) shard: String,
    pub(super) position: Position,
}

/// Positions at a first start.
pub(super) fn first(listed: &BTreeMap<String, Shard>, start: &Position) -> BTreeMap<String, Position> {
    listed.keys().map(|id| (id.clone(), start.clone())).collect()
}

/// See the module.
pub(super) fn plan(listed: &BTreeMap<String, Shard>, stored: &BTreeMap<String, Position>) -> Result<Plan, Lost> {
    let lost = stored.iter().find(|(id, position)| !listed.contains_key(*id) && **position != Position::End);
    if let Some((shard, position)) = lost {
        return Err(Lost { shard: shard.clone(), position: position.clone() });
    }
    let positions: BTreeMap<String, Position> =
        listed.keys().map(|id| (id.clone(), stored.get(id).cloned().unwrap_or(Position::TrimHorizon))).collect();
    let ended = |id: &String| positions.get(id).is_none_or(|position| *position == Position::End);
    let eligible = listed.iter().filter(|(id, shard)| !ended(id) && shard.parents.iter().all(ended));
    let eligible = eligible.map(|(id, _)| id.clone()).collect();
    Ok(Plan { positions, eligible })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::epoch::SequenceNumber;

    fn after(n: &str) -> Position {
        Position::After(SequenceNumber(n.into()))
    }

    /// 0 was split into 1 and 2, which were merged into 3.
    fn listed(ids: &[&str]) -> BTreeMap<String, Shard> {
        let parents = |id: &str| match id {
            "1" | "2" => vec!["0".to_string()],
            "3" => vec!["1".to_string(), "2".to_string()],
            _ => vec![],
        };
        ids.iter().map(|id| (id.to_string(), Shard { parents: parents(id), closed: *id != "3", owned: None })).collect()
    }

    fn stored(positions: &[(&str, Position)]) -> BTreeMap<String, Position> {
        positions.iter().map(|(id, position)| (id.to_string(), position.clone())).collect()
    }

    #[test]
    fn parents_come_before_children() {
        use Position::{End, TrimHorizon};
        let eligible =
            |ids: &[&str], positions: &[(&str, Position)]| plan(&listed(ids), &stored(positions)).unwrap().eligible;
        let all = ["0", "1", "2", "3"];
        assert_eq!(eligible(&all, &[]), ["0"]);
        assert_eq!(eligible(&all, &[("0", after("5"))]), ["0"]);
        assert_eq!(eligible(&all, &[("0", End)]), ["1", "2"]);
        // A merge waits for both.
        assert_eq!(eligible(&all, &[("0", End), ("1", End), ("2", after("9"))]), ["2"]);
        assert_eq!(eligible(&all, &[("0", End), ("1", End), ("2", End)]), ["3"]);
        // Parents that are not listed any more are finished.
        assert_eq!(eligible(&["3"], &[("3", TrimHorizon)]), ["3"]);
        assert_eq!(eligible(&["2", "3"], &[("2", End)]), ["3"]);
        assert_eq!(eligible(&all, &[("0", End), ("1", End), ("2", End), ("3", End)]), [""; 0]);
    }

    #[test]
    fn positions_cover_every_listed_shard() {
        let plan = plan(&listed(&["1", "2", "3"]), &stored(&[("0", Position::End), ("1", after("7"))])).unwrap();
        let expected = stored(&[("1", after("7")), ("2", Position::TrimHorizon), ("3", Position::TrimHorizon)]);
        assert_eq!(plan.positions, expected, "the ended one is forgotten, the new ones start at their beginning");
        let start = Position::AtTimestamp(5);
        let at_first = first(&listed(&["0", "1"]), &start);
        assert_eq!(at_first, stored(&[("0", start.clone()), ("1", start)]));
    }

    #[test]
    fn a_shard_that_vanished_unread_is_a_loss() {
        let lost = plan(&listed(&["3"]), &stored(&[("1", Position::End), ("2", after("7"))])).unwrap_err();
        assert_eq!(lost, Lost { shard: "2".into(), position: after("7") });
    }
}
