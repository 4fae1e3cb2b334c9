//! `system.versions`: which version of each table readers have had, and since when. What AS OF can be asked for.
//!
//! ```text
//!   published records in memory ─▶ one row where the version of a table is another than the record before says
//!                                  (tables that stand elsewhere now are left out: their numbers mean another table)
//! ```
//!
//! It has as many rows as there were epochs and tables, so it is made when it is read, and not for every session.

use std::collections::BTreeMap;
use std::sync::Arc;

use datafusion::catalog::TableProvider;
use futures::FutureExt;

use crate::catalog::on_read::OnRead;
use crate::catalog::system::Table;
use crate::epoch::PublishedRecord;
use crate::error::Result;

/// The table of these records, oldest first.
///
/// # Errors
/// `Internal` when columns differ in length.
pub(super) fn versions(
    newest: &Arc<PublishedRecord>,
    history: &[Arc<PublishedRecord>],
) -> Result<Arc<dyn TableProvider>> {
    let schema = rows(newest, &[])?.schema();
    let (newest, history) = (Arc::clone(newest), history.to_vec());
    Ok(OnRead::table(schema, move || {
        let (newest, history) = (Arc::clone(&newest), history.clone());
        async move { rows(&newest, &history) }.boxed()
    }))
}

fn rows(newest: &PublishedRecord, history: &[Arc<PublishedRecord>]) -> Result<Arc<dyn TableProvider>> {
    let (mut lines, mut before) = (Vec::new(), BTreeMap::new());
    for record in history {
        for (name, state) in &record.tables {
            let is_here = newest.tables.get(name).is_some_and(|now| now.location == state.location);
            if is_here && before.insert(name, state.version) != Some(state.version) {
                lines.push((record, name, state));
            }
        }
    }
    Table::default()
        .text("object_name", lines.iter().map(|(_, name, _)| Some(name.to_string())))
        .number("version", lines.iter().map(|(.., state)| Some(state.version)))
        .number("epoch", lines.iter().map(|(record, ..)| Some(record.epoch)))
        .instant("published_at", lines.iter().map(|(record, ..)| Some(record.published_us)))
        .number("rows", lines.iter().map(|(.., state)| Some(state.rows)))
        .provider()
}

#[cfg(test)]
mod tests {
    use arrow::array::AsArray;
    use arrow::datatypes::Int64Type;
    use datafusion::prelude::SessionContext;

    use super::*;
    use crate::catalog::session::base_state;
    use crate::epoch::TableState;
    use crate::name::TableName;

    #[tokio::test]
    async fn a_version_is_listed_once_and_only_where_the_table_stands_now() {
        let state = |location: &str, version| TableState {
            location: location.into(),
            version,
            frontier: 0,
            rows: version * 10,
            totals: Default::default(),
        };
        let record = |(epoch, location, version): (u64, &str, u64)| {
            let tables =
                [(TableName::new("s", "v"), state(location, version)), (TableName::new("s", "w"), state("s/w", 1))];
            let published_us = epoch as i64;
            Arc::new(PublishedRecord { epoch, published_us, tables: tables.into(), ..PublishedRecord::default() })
        };
        let history = [(1, "s/a", 7), (2, "s/b", 3), (3, "s/b", 3), (4, "s/b", 5)].map(record);
        let session = SessionContext::new_with_state(base_state(Arc::default()));
        let table = versions(&history[3], &history).unwrap();
        let rows = session.read_table(table).unwrap().collect().await.unwrap();
        let column = |at: usize| rows[0].column(at).as_primitive::<Int64Type>().values().to_vec();
        assert_eq!(rows[0].column(0).as_string::<i32>().iter().flatten().collect::<Vec<_>>(), ["s.w", "s.v", "s.v"]);
        assert_eq!((column(1), column(2), column(4)), (vec![1, 3, 5], vec![1, 2, 4], vec![10, 30, 50]));
    }
}
