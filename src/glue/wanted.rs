//! What should be registered: the tables of the newest published epoch that are still defined, quarantine tables too.
//!
//! ```text
//!  _flash/definitions/N.json ─▶ names that are defined ─┐
//!  _flash/published/E.json   ─▶ their folders ──────────┼─▶ Table: what Glue should hold
//!  Delta logs                ─▶ columns, by folder ─────┘   Refused: what Athena would misread, and why
//! ```
//!
//! Read from the lake's records each time, never from an engine's memory: whoever asks may not be the one who writes. A
//! folder's columns never change, so they are read once.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use futures::{StreamExt, TryStreamExt};
use parking_lot::Mutex;

use super::columns::columns;
use super::{Format, Lake, OWNER, Table, name};
use crate::catalog::definitions::{Definitions, Kind, Object};
use crate::epoch::{PUBLISHED, PublishedRecord};
use crate::error::{Error, Result};
use crate::name::TableName;
use crate::parser::{self, Statement};
use crate::storage::Storage;

/// Delta logs that are opened at the same time.
const OPENED_CONCURRENT_MAX: usize = 8;

/// Characters of a description; Glue takes 2,048 bytes.
const DESCRIPTION_BYTES_MAX: usize = 2_000;

/// Classes of a table that only who knows Delta can read: its folder also holds files that are not in it any more.
const INPUT: &str = "org.apache.hadoop.mapred.SequenceFileInputFormat";
const OUTPUT: &str = "org.apache.hadoop.hive.ql.io.HiveSequenceFileOutputFormat";
const SERDE: &str = "org.apache.hadoop.hive.serde2.lazy.LazySimpleSerDe";

/// What should be in Glue.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wanted {
    /// To be registered.
    pub tables: Vec<Table>,
    /// Not to be registered.
    pub refused: Vec<Refused>,
    /// Schema of each database that has a table.
    pub schemas: BTreeMap<String, String>,
}

/// A table of the lake that is not registered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// Its name in the lake.
    pub name: TableName,
    /// Why.
    pub because: String,
}

/// The columns of a folder, and those that partition it.
#[derive(Debug, Clone)]
pub(super) struct Layout {
    schema: SchemaRef,
    partitioned_by: Vec<String>,
}

/// What was read of folders.
pub(super) type Layouts = Mutex<BTreeMap<String, Layout>>;

/// Read the lake's records, and say what Glue should hold.
///
/// # Errors
/// `Storage`, `Corrupt`, `Transient`.
pub(super) async fn wanted(storage: &Arc<dyn Storage>, lake: &Lake, layouts: &Layouts) -> Result<Wanted> {
    let definitions = Definitions::load(storage.as_ref()).await?;
    let published = newest(storage.as_ref()).await?;
    let registered = registered(&definitions, &published);
    let known = layouts.lock().clone();
    let opens = registered.values().map(|entry| {
        let (storage, folder, held) = (Arc::clone(storage), entry.folder.clone(), known.get(&entry.folder).cloned());
        async move {
            if let Some(layout) = held {
                return Ok::<_, Error>((folder, layout));
            }
            let snapshot = storage.snapshot(&folder, None).await?;
            Ok((folder, Layout { schema: snapshot.schema, partitioned_by: snapshot.partitioned_by }))
        }
    });
    let opens: Vec<_> = opens.collect();
    let opened: Vec<_> = futures::stream::iter(opens).buffer_unordered(OPENED_CONCURRENT_MAX).try_collect().await?;
    // Folders that nothing is registered at are forgotten.
    let opened = BTreeMap::from_iter(opened);
    layouts.lock().clone_from(&opened);
    Ok(tables(lake, &registered, &opened))
}

/// The newest published record; an empty one where nothing is published.
async fn newest(storage: &dyn Storage) -> Result<PublishedRecord> {
    let names = storage.list_newest(PUBLISHED, 1).await?;
    let Some(name) = names.first() else { return Ok(PublishedRecord::default()) };
    let path = format!("{PUBLISHED}/{name}");
    serde_json::from_slice(&storage.get(&path).await?).map_err(|error| Error::from(error).context(path))
}

/// A table of the lake.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Entry {
    folder: String,
    comment: Option<String>,
}

/// Tables that are defined and published, by name: where readers find them.
fn registered(definitions: &Definitions, published: &PublishedRecord) -> BTreeMap<TableName, Entry> {
    let mut entries = BTreeMap::new();
    for (name, object) in definitions.objects.iter().filter(|(_, object)| object.kind != Kind::Source) {
        if let Some(at) = published.tables.get(name) {
            entries.insert(name.clone(), Entry { folder: at.location.clone(), comment: comment(object) });
        }
        let quarantine = object.quarantine.as_ref().and_then(|_| published.tables.get(&name.quarantine()));
        if let Some(at) = quarantine {
            let comment = format!("Rows that {name} does not take, and the expectation that each of them fails");
            entries.insert(name.quarantine(), Entry { folder: at.location.clone(), comment: Some(comment) });
        }
    }
    entries
}

/// What the statement says of its table; one that is not understood any more says nothing.
fn comment(object: &Object) -> Option<String> {
    match parser::parse(&object.sql, None).ok()?.pop()?.statement {
        Statement::CreateMaterializedView(view) => view.comment,
        Statement::CreateTable(table) => table.comment,
        _ => None,
    }
}

/// See the module.
fn tables(lake: &Lake, entries: &BTreeMap<TableName, Entry>, layouts: &BTreeMap<String, Layout>) -> Wanted {
    let mut wanted = Wanted::default();
    let mut taken: BTreeMap<(String, String), &TableName> = BTreeMap::new();
    for (name, entry) in entries {
        let Some(layout) = layouts.get(&entry.folder) else { continue };
        let made = table(lake, name, entry, layout).and_then(|table| {
            let key = (table.database.clone(), table.name.clone());
            match taken.insert(key, name) {
                Some(other) => Err(format!("{other} has the same name to Athena")),
                None => Ok(table),
            }
        });
        match made {
            Ok(table) => {
                wanted.schemas.insert(table.database.clone(), name.schema.to_lowercase());
                wanted.tables.push(table);
            }
            Err(because) => wanted.refused.push(Refused { name: name.clone(), because }),
        }
    }
    wanted
}

fn table(lake: &Lake, name: &TableName, entry: &Entry, layout: &Layout) -> Result<Table, String> {
    let location = lake.place(&entry.folder);
    let columns = columns(&layout.schema, &layout.partitioned_by)?;
    let text = |pairs: &[(&str, &str)]| pairs.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect();
    Ok(Table {
        database: self::name(&format!("{}{}", lake.prefix, name.schema))?,
        name: self::name(&name.name)?,
        description: entry.comment.as_deref().and_then(description),
        columns,
        partition_keys: vec![],
        table_type: "EXTERNAL_TABLE".into(),
        // Not `table_type`, which is for what Athena's own DDL has made.
        parameters: text(&[("EXTERNAL", "TRUE"), ("spark.sql.sources.provider", "delta"), (OWNER, &lake.root)]),
        format: Format {
            input: INPUT.into(),
            output: OUTPUT.into(),
            serde: SERDE.into(),
            parameters: text(&[("serialization.format", "1"), ("path", &location)]),
        },
        location,
    })
}

/// A comment as Glue takes it: not too long, without control characters but line ends and tabs.
fn description(comment: &str) -> Option<String> {
    let plain = |c: char| if c.is_control() && !matches!(c, '\n' | '\r' | '\t') { ' ' } else { c };
    let mut text = comment.chars().map(plain).collect::<String>().trim().to_string();
    let end = (0..=DESCRIPTION_BYTES_MAX.min(text.len())).rev().find(|end| text.is_char_boundary(*end));
    text.truncate(end.unwrap_or(0));
    (!text.is_empty()).then_some(text)
}

#[cfg(test)]
mod tests {
    use arrow::datatypes::{DataType, Field, Schema};

    use super::*;
    use crate::epoch::TableState;

    fn object(kind: Kind, sql: &str, quarantine: bool) -> Object {
        Object {
            kind,
            sql: sql.into(),
            file: None,
            location: "elsewhere".into(),
            quarantine: quarantine.then(|| "elsewhere".into()),
            fingerprint: String::new(),
            suspended: false,
        }
    }

    fn state(folder: &str) -> TableState {
        TableState { location: folder.into(), version: 3, frontier: 2, rows: 1, totals: Default::default() }
    }

    fn named<T: Clone>(pairs: &[(&str, T)]) -> BTreeMap<TableName, T> {
        pairs.iter().map(|(name, value)| (name.parse().unwrap(), value.clone())).collect()
    }

    #[test]
    fn what_is_published_and_still_defined_is_registered_where_readers_find_it() {
        let view = "CREATE MATERIALIZED VIEW gold.v COMMENT 'Orders.' AS SELECT 1 AS n";
        let objects = named(&[
            ("raw.events", object(Kind::Source, "", false)),
            ("gold.v", object(Kind::View, view, true)),
            ("gold.new", object(Kind::View, "not understood", false)),
            ("ref.cities", object(Kind::Table, "CREATE TABLE ref.cities (n BIGINT) COMMENT 'Cities.'", false)),
        ]);
        let definitions = Definitions { objects, ..Definitions::default() };
        let tables = ["raw.events", "gold.v", "gold.v_quarantine", "ref.cities", "gold.dropped"];
        let tables = tables.map(|name| (name, state(&format!("at/{name}"))));
        let published = PublishedRecord { tables: named(&tables), ..PublishedRecord::default() };
        let entries = registered(&definitions, &published);
        let found: Vec<_> = entries.iter().map(|(name, entry)| (name.to_string(), entry.folder.as_str())).collect();
        let wanted = ["gold.v", "gold.v_quarantine", "ref.cities"].map(|name| (name.to_string(), format!("at/{name}")));
        assert!(found.iter().map(|(name, at)| (name.clone(), at.to_string())).eq(wanted), "{found:?}");
        let comments: Vec<_> = entries.values().map(|entry| entry.comment.as_deref().unwrap()).collect();
        assert_eq!((comments[0], comments[2]), ("Orders.", "Cities."));
    }

    #[test]
    fn a_table_is_what_athena_wants_and_names_that_it_folds_are_refused() {
        let lake = Lake::new("s3://b/shop", "fc_").unwrap();
        let entry = |folder: &str| Entry { folder: folder.into(), comment: Some("\u{1}All.".into()) };
        let entries = named(&[
            ("gold.Kpis", entry("f")),
            ("gold.kpis", entry("f")),
            ("gold.odd", entry("odd")),
            ("Ref.c", entry("f")),
        ]);
        let layout = |data_type| Layout {
            schema: Arc::new(Schema::new(vec![
                Field::new("day", DataType::Utf8, true),
                Field::new("n", data_type, true),
            ])),
            partitioned_by: vec!["day".into()],
        };
        let layouts =
            BTreeMap::from([("f".to_string(), layout(DataType::Int64)), ("odd".into(), layout(DataType::UInt64))]);
        let wanted = tables(&lake, &entries, &layouts);
        assert_eq!(wanted.tables.iter().map(Table::full_name).collect::<Vec<_>>(), ["fc_ref.c", "fc_gold.kpis"]);
        assert_eq!(wanted.schemas.get("fc_ref").map(String::as_str), Some("ref"));
        let table = &wanted.tables[1];
        assert_eq!((table.location.as_str(), table.description.as_deref()), ("s3://b/shop/f/", Some("All.")));
        assert_eq!((table.columns.len(), table.partition_keys.len(), table.owner()), (2, 0, Some("s3://b/shop")));
        assert_eq!(table.format.parameters["path"], table.location);
        assert_eq!(table.parameters["spark.sql.sources.provider"], "delta");
        assert!(!table.parameters.contains_key("table_type"));
        let refused: Vec<_> = wanted.refused.iter().map(|it| (it.name.to_string(), it.because.as_str())).collect();
        let (same, odd) = ("gold.Kpis has the same name to Athena", "column n: Athena has no type for UInt64");
        assert_eq!(refused, [("gold.kpis".to_string(), same), ("gold.odd".to_string(), odd)]);
    }

    #[test]
    fn a_description_fits() {
        assert_eq!(description("  "), None);
        assert_eq!(description("a\nb\u{7}c").as_deref(), Some("a\nb c"));
        assert_eq!(description(&"é".repeat(3_000)).unwrap().len(), DESCRIPTION_BYTES_MAX);
    }
}
