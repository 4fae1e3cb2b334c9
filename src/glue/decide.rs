//! What to do, from what should be there and what is there. Pure.
//!
//! ```text
//!   wanted   found              step
//!   yes      no database        CreateDatabase, CreateTable
//!   yes      no                 CreateTable
//!   yes      ours, the same     none: it is in step
//!   yes      ours, otherwise    UpdateTable, for the version that was found
//!   yes      not ours           none: a conflict, for somebody to settle
//!   no       ours               DeleteTable
//!   no       not ours           none
//! ```
//!
//! That an epoch has come is no difference: a table changes with its folder, its columns and its comments only.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::{Database, Found, Lake, OWNER, Table, Wanted};

/// One thing to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// There is no such database.
    CreateDatabase(Database),
    /// There is no such table.
    CreateTable(Table),
    /// The table differs.
    UpdateTable {
        /// What it should be; with the parameters that others have added.
        table: Table,
        /// The version that was found, for which the step holds.
        version: Option<String>,
        /// In what it differs.
        because: Vec<Aspect>,
    },
    /// The table is of this lake, and the lake does not have it (any more).
    DeleteTable {
        /// Its database.
        database: String,
        /// Its name.
        name: String,
    },
}

/// Something in which a table can differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Aspect {
    /// It is another folder.
    Location,
    /// Names, types, comments or order.
    Columns,
    /// The table's comment.
    Description,
    /// Hive's partition columns, where there should be none.
    PartitionKeys,
    /// What tells readers that it is Delta.
    Format,
}

impl Aspect {
    /// For people.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Location => "location",
            Self::Columns => "columns",
            Self::Description => "comment",
            Self::PartitionKeys => "partition keys",
            Self::Format => "format",
        }
    }
}

impl Step {
    /// `database.table`, or the database.
    pub fn name(&self) -> String {
        match self {
            Self::CreateDatabase(database) => database.name.clone(),
            Self::CreateTable(table) | Self::UpdateTable { table, .. } => table.full_name(),
            Self::DeleteTable { database, name } => format!("{database}.{name}"),
        }
    }

    /// What is wrong as long as it is not done.
    pub fn lacks(&self) -> String {
        match self {
            Self::CreateDatabase(_) => "there is no such database".into(),
            Self::CreateTable(_) => "it is not registered".into(),
            Self::UpdateTable { because, .. } => format!("not as in the lake: {}", list(because)),
            Self::DeleteTable { .. } => "the lake does not have it".into(),
        }
    }

    /// The database that it is done in.
    pub(super) fn database(&self) -> &str {
        match self {
            Self::CreateDatabase(database) => &database.name,
            Self::CreateTable(table) | Self::UpdateTable { table, .. } => &table.database,
            Self::DeleteTable { database, .. } => database,
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CreateDatabase(database) => write!(f, "create database {}", database.name),
            Self::CreateTable(table) => write!(f, "create table {} at {}", table.full_name(), table.location),
            Self::UpdateTable { table, because, .. } => write!(f, "update {} of {}", list(because), table.full_name()),
            Self::DeleteTable { database, name } => write!(f, "delete table {database}.{name}"),
        }
    }
}

fn list(aspects: &[Aspect]) -> String {
    aspects.iter().map(|aspect| aspect.as_str()).collect::<Vec<_>>().join(", ")
}

/// What is to be done, and what is not.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Decision {
    /// To be done; databases before their tables.
    pub steps: Vec<Step>,
    /// Tables that are as they should be.
    pub in_step: Vec<String>,
    /// Tables that are not ours and have the name of one of ours, and whose they are.
    pub conflicts: Vec<(String, String)>,
}

/// See the module. `found`: the tables of each database that was read; `None` where there is no such database. What was not
/// read is not decided on.
pub fn decide(lake: &Lake, wanted: &Wanted, found: &BTreeMap<String, Option<Vec<Found>>>) -> Decision {
    let mut decision = Decision::default();
    for (database, schema) in &wanted.schemas {
        if found.get(database).is_some_and(Option::is_none) {
            let database = Database { name: database.clone(), ..lake.database(schema) };
            decision.steps.push(Step::CreateDatabase(database));
        }
    }
    let mut names = BTreeSet::new();
    for table in &wanted.tables {
        let Some(there) = found.get(&table.database) else { continue };
        names.insert((table.database.as_str(), table.name.as_str()));
        let there = there.iter().flatten().find(|found| found.table.name == table.name);
        match there {
            None => decision.steps.push(Step::CreateTable(table.clone())),
            Some(found) if found.table.owner() != Some(&lake.root) => {
                let whose = match found.table.owner() {
                    Some(other) => format!("it is registered for the lake {other}"),
                    None => format!("it was made by somebody else: it has no parameter {OWNER}"),
                };
                decision.conflicts.push((table.full_name(), whose));
            }
            Some(found) => match differences(table, &found.table) {
                because if because.is_empty() => decision.in_step.push(table.full_name()),
                because => {
                    let (table, version) = (with_others(table, &found.table), found.version.clone());
                    decision.steps.push(Step::UpdateTable { table, version, because });
                }
            },
        }
    }
    for (database, tables) in found {
        for Found { table, .. } in tables.iter().flatten() {
            if table.owner() == Some(&lake.root) && !names.contains(&(database.as_str(), table.name.as_str())) {
                decision.steps.push(Step::DeleteTable { database: database.clone(), name: table.name.clone() });
            }
        }
    }
    decision
}

fn differences(wanted: &Table, found: &Table) -> Vec<Aspect> {
    let place = |table: &Table| table.location.trim_end_matches('/').to_string();
    let has = |found: &BTreeMap<String, String>, wanted: &BTreeMap<String, String>| {
        wanted.iter().all(|(key, value)| found.get(key) == Some(value))
    };
    let (format, other) = (&wanted.format, &found.format);
    let classes = [&format.input, &format.output, &format.serde] == [&other.input, &other.output, &other.serde];
    let same_format = wanted.table_type == found.table_type
        && has(&found.parameters, &wanted.parameters)
        // Athena's own mark makes it read the table in another way than the parameters of ours do.
        && !found.parameters.contains_key("table_type")
        && classes
        && has(&other.parameters, &format.parameters);
    let differs = [
        (place(wanted) != place(found), Aspect::Location),
        (wanted.columns != found.columns, Aspect::Columns),
        (wanted.description != found.description, Aspect::Description),
        (wanted.partition_keys != found.partition_keys, Aspect::PartitionKeys),
        (place(wanted) == place(found) && !same_format, Aspect::Format),
    ];
    differs.into_iter().filter_map(|(differs, aspect)| differs.then_some(aspect)).collect()
}

/// With what others have noted at the table: an update replaces all of it.
fn with_others(wanted: &Table, found: &Table) -> Table {
    let mut table = wanted.clone();
    for (key, value) in found.parameters.iter().filter(|(key, _)| *key != "table_type") {
        table.parameters.entry(key.clone()).or_insert_with(|| value.clone());
    }
    table
}

#[cfg(test)]
mod tests {
    use super::super::Column;
    use super::*;

    fn lake() -> Lake {
        Lake::new("s3://b/shop", "fc_").unwrap()
    }

    fn table(name: &str) -> Table {
        let column = |name: &str| Column { name: name.into(), data_type: "int".into(), comment: None };
        let (database, location) = ("fc_gold".to_string(), format!("s3://b/shop/gold/{name}/"));
        let mut table = Table { database, name: name.into(), ..Table::default() };
        table.columns = vec![column("a"), column("b")];
        table.table_type = "EXTERNAL_TABLE".into();
        table.parameters = BTreeMap::from([(OWNER.into(), lake().root), ("EXTERNAL".into(), "TRUE".into())]);
        table.format.parameters = BTreeMap::from([("path".into(), location.clone())]);
        Table { location, ..table }
    }

    fn wanted(names: &[&str]) -> Wanted {
        let tables = names.iter().map(|name| table(name)).collect();
        Wanted { tables, schemas: BTreeMap::from([("fc_gold".into(), "gold".into())]), refused: vec![] }
    }

    fn there(tables: Vec<Table>) -> BTreeMap<String, Option<Vec<Found>>> {
        let found = tables.into_iter().map(|table| Found { table, version: Some("7".into()) }).collect();
        BTreeMap::from([("fc_gold".into(), Some(found))])
    }

    fn steps(decision: &Decision) -> Vec<String> {
        decision.steps.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn what_is_missing_is_created_and_what_is_too_many_is_deleted() {
        let nothing = BTreeMap::from([("fc_gold".to_string(), None)]);
        let decision = decide(&lake(), &wanted(&["k"]), &nothing);
        assert_eq!(steps(&decision), ["create database fc_gold", "create table fc_gold.k at s3://b/shop/gold/k/"]);
        let Step::CreateDatabase(database) = &decision.steps[0] else { panic!("{decision:?}") };
        assert_eq!(database.location, "s3://b/shop/gold/");
        let decision = decide(&lake(), &wanted(&["k"]), &there(vec![table("old"), table("k")]));
        assert_eq!(steps(&decision), ["delete table fc_gold.old"]);
        assert_eq!(decision.in_step, ["fc_gold.k"]);
        assert_eq!(decide(&lake(), &wanted(&["k"]), &BTreeMap::new()), Decision::default(), "it was not read");
        let none = Wanted::default();
        assert_eq!(steps(&decide(&lake(), &none, &there(vec![table("k")]))), ["delete table fc_gold.k"]);
    }

    /// A change of what was found, and what the update says.
    fn update(change: impl Fn(&mut Table)) -> Option<Step> {
        let mut found = table("k");
        change(&mut found);
        decide(&lake(), &wanted(&["k"]), &there(vec![found])).steps.pop()
    }

    #[test]
    fn a_difference_is_an_update_of_the_version_that_was_found() {
        let because = |change: fn(&mut Table)| match update(change) {
            Some(Step::UpdateTable { version, because, table: updated, .. }) => {
                assert_eq!((version.as_deref(), updated), (Some("7"), table("k")));
                because
            }
            other => panic!("{other:?}"),
        };
        assert_eq!(because(|it| it.location = "s3://b/shop/gold/k-1/".into()), [Aspect::Location]);
        assert_eq!(because(|it| it.columns[0].data_type = "bigint".into()), [Aspect::Columns]);
        assert_eq!(because(|it| it.columns[0].comment = Some("c".into())), [Aspect::Columns]);
        assert_eq!(because(|it| it.columns.swap(0, 1)), [Aspect::Columns]);
        assert_eq!(because(|it| it.description = Some("c".into())), [Aspect::Description]);
        assert_eq!(because(|it| it.partition_keys = vec![Column::default()]), [Aspect::PartitionKeys]);
        assert_eq!(because(|it| it.table_type = "MANAGED_TABLE".into()), [Aspect::Format]);
        assert_eq!(because(|it| drop(it.parameters.remove("EXTERNAL"))), [Aspect::Format]);
        assert_eq!(
            because(|it| drop(it.format.parameters.insert("path".into(), "s3://b/x/".into()))),
            [Aspect::Format]
        );
        assert_eq!(because(|it| it.format.input = "parquet".into()), [Aspect::Format]);
        assert_eq!(because(|it| drop(it.parameters.insert("table_type".into(), "DELTA".into()))), [Aspect::Format]);
    }

    #[test]
    fn what_others_have_noted_stays_and_is_no_difference() {
        let noted = |it: &mut Table| drop(it.parameters.insert("owner_team".into(), "sales".into()));
        assert_eq!(update(noted), None);
        assert_eq!(update(|it| it.location.truncate(it.location.len() - 1)), None, "a slash at the end");
        let moved = |it: &mut Table| {
            noted(it);
            it.location = "s3://elsewhere/".into();
        };
        let Some(Step::UpdateTable { table, .. }) = update(moved) else { panic!("no update") };
        assert_eq!(table.parameters["owner_team"], "sales");
    }

    #[test]
    fn a_table_that_is_not_ours_is_a_conflict_and_left_alone() {
        let mut foreign = table("k");
        foreign.parameters.remove(OWNER);
        let mut others = table("other");
        others.parameters.insert(OWNER.into(), "s3://b/another".into());
        let mut unrelated = table("unrelated");
        unrelated.parameters.clear();
        let decision = decide(&lake(), &wanted(&["k", "other"]), &there(vec![foreign, others, unrelated]));
        assert!(decision.steps.is_empty() && decision.in_step.is_empty(), "{decision:?}");
        let [(one, made), (two, registered)] = &decision.conflicts[..] else { panic!("{decision:?}") };
        assert_eq!((one.as_str(), two.as_str()), ("fc_gold.k", "fc_gold.other"));
        assert!(made.contains("somebody else") && registered.contains("s3://b/another"));
    }
}
