//! All tiles of one request, from one session, and so from one set of view versions.
//!
//! ```text
//!   session over gold ──places, cube, visits──▶ rows in memory ──kpis, trend, cities, ...──┐
//!        └─────────visitors, orders, stock, ...──────────────────────────────────────────────┴─▶ JSON by tile
//! ```
//!
//! Gold is read three times, not once a tile; the caller's policies hold in the session below all of it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow::array::AsArray;
use arrow::compute::cast;
use arrow::datatypes::DataType;
use arrow::json::WriterBuilder;
use arrow::json::writer::JsonArray;
use arrow::record_batch::RecordBatch;
use datafusion::catalog::TableProvider;
use datafusion::common::runtime::SpawnedTask;
use datafusion::datasource::MemTable;
use datafusion::prelude::SessionContext;
use futures::TryStreamExt;
use futures::future::try_join_all;
use serde_json::value::RawValue;

use crate::catalog::session::{DEFAULT_SCHEMA, session_within};
use crate::dashboard::parameters::{self, Parameters, bound};
use crate::dashboard::period::{Grain, Period};
use crate::dashboard::queries::{Queries, TILES};
use crate::dashboard::request::Request;
use crate::error::{Error, ErrorKind, Result};
use crate::name::TableName;

/// Rows of one relation in memory; beyond it the range has to be a shorter one.
pub const RELATION_ROWS_MAX: usize = 5_000_000;

/// Relations that tiles read instead of gold.
const RELATIONS: [&str; 3] = ["places", "cube", "visits"];

/// Tiles over the relations.
const IN_MEMORY: [&str; 8] = ["kpis", "trend", "funnel", "cities", "products", "categories", "carts", "largest_carts"];

/// Tiles over gold.
const OVER_GOLD: [&str; 5] = ["visitors", "stock", "orders", "last_order", "sellers"];

/// The rows of a tile, as a JSON array of objects.
pub type Rows = Box<RawValue>;

/// The rows of every tile, by its name.
///
/// # Errors
/// `Query` for too much at once; `NotFound` or `Denied` where the caller may not read gold.
pub async fn tiles(session: &SessionContext, request: &Request, period: &Period) -> Result<BTreeMap<String, Rows>> {
    let places = rows(session, &TILES, "places", &Parameters::new()).await?;
    let parameters = Arc::new(parameters::of(request, period, cities(request, &places)?));
    let by_minute = request.grain == Grain::Minute;
    let relations = [start(session, "cube", &parameters), start(session, "visits", &parameters)];
    let over_gold =
        OVER_GOLD.iter().map(|name| (*name, *name)).chain(by_minute.then_some(("trend", "trend_by_minute")));
    let over_gold: Vec<_> = over_gold.map(|(tile, query)| (tile, start(session, query, &parameters))).collect();
    let mut tiles = BTreeMap::new();
    let [cube, visits] = relations;
    let memory = in_memory(session, [places, ended(cube).await?, ended(visits).await?])?;
    for name in IN_MEMORY.into_iter().filter(|name| !by_minute || *name != "trend") {
        tiles.insert(name.to_string(), json(&rows(&memory, &TILES, name, &parameters).await?)?);
    }
    for (tile, task) in over_gold {
        tiles.insert(tile.to_string(), json(&ended(task).await?)?);
    }
    Ok(tiles)
}

/// A query of a tile under way on a thread of its own; it ends with whoever waits for it.
type Task = SpawnedTask<Result<Vec<RecordBatch>>>;

fn start(session: &SessionContext, name: &'static str, parameters: &Arc<Parameters>) -> Task {
    let (session, parameters) = (session.clone(), Arc::clone(parameters));
    SpawnedTask::spawn(async move { rows(&session, &TILES, name, &parameters).await })
}

async fn ended(task: Task) -> Result<Vec<RecordBatch>> {
    task.join().await.unwrap_or_else(|error| Err(Error::new(ErrorKind::Internal, error.to_string())))
}

/// The answers of all these queries, by name.
///
/// # Errors
/// As their tables.
pub async fn all(session: &SessionContext, queries: &Queries) -> Result<BTreeMap<String, Rows>> {
    let none = &Parameters::new();
    let answers = queries
        .keys()
        .map(async |name| Ok::<_, Error>(((*name).to_string(), json(&rows(session, queries, name, none).await?)?)));
    Ok(try_join_all(answers).await?.into_iter().collect())
}

/// Run a named query.
async fn rows(
    session: &SessionContext,
    queries: &Queries,
    name: &str,
    parameters: &Parameters,
) -> Result<Vec<RecordBatch>> {
    let unknown = || Error::new(ErrorKind::Internal, format!("there is no query {name}"));
    let statement = bound(queries.get(name).ok_or_else(unknown)?, parameters)?;
    let plan = session.state().statement_to_plan(statement).await?;
    let mut stream = session.execute_logical_plan(plan).await?.execute_stream().await?;
    // A relation has its columns also where it has no rows.
    let mut batches = vec![RecordBatch::new_empty(stream.schema())];
    let mut count = 0;
    while let Some(batch) = stream.try_next().await? {
        count += batch.num_rows();
        if count > RELATION_ROWS_MAX {
            let error = Error::new(ErrorKind::Query, "too much to show at once");
            return Err(error.with_hint("choose fewer days, or one seller"));
        }
        batches.push(batch);
    }
    Ok(batches)
}

/// The cities that are asked for, by name or by state.
fn cities(request: &Request, places: &[RecordBatch]) -> Result<BTreeSet<String>> {
    let mut cities = request.cities.clone();
    for batch in places {
        let text = |column: usize| cast(batch.column(column), &DataType::Utf8);
        let (names, states) = (text(0)?, text(1)?);
        let pairs = names.as_string::<i32>().iter().zip(states.as_string::<i32>());
        let wanted = pairs.filter(|(_, state)| state.is_some_and(|state| request.states.contains(state)));
        cities.extend(wanted.filter_map(|(city, _)| city.map(str::to_string)));
    }
    Ok(cities)
}

/// A session over nothing but these relations.
fn in_memory(session: &SessionContext, relations: [Vec<RecordBatch>; 3]) -> Result<SessionContext> {
    let table = |(name, batches): (&&str, Vec<RecordBatch>)| {
        let columns = batches.first().map(RecordBatch::schema);
        let columns = columns.ok_or_else(|| Error::new(ErrorKind::Internal, format!("{name} has no columns")))?;
        let table: Arc<dyn TableProvider> = Arc::new(MemTable::try_new(columns, vec![batches])?);
        Ok((TableName::new(DEFAULT_SCHEMA, *name), table))
    };
    session_within(session, RELATIONS.iter().zip(relations).map(table).collect::<Result<_>>()?)
}

/// Rows as JSON: decimals with all their digits, times as ISO 8601.
fn json(batches: &[RecordBatch]) -> Result<Rows> {
    let mut writer = WriterBuilder::new().with_explicit_nulls(true).build::<_, JsonArray>(Vec::new());
    for batch in batches {
        writer.write(batch)?;
    }
    writer.finish()?;
    let text = writer.into_inner();
    let text = if text.is_empty() { "[]".to_string() } else { String::from_utf8_lossy(&text).into_owned() };
    Ok(RawValue::from_string(text)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_query_is_a_relation_or_a_tile() {
        let mut named: Vec<&str> = RELATIONS.into_iter().chain(IN_MEMORY).chain(OVER_GOLD).collect();
        named.push("trend_by_minute");
        named.sort_unstable();
        assert_eq!(named, TILES.keys().copied().collect::<Vec<_>>());
    }

    #[test]
    fn tiles_read_either_gold_or_the_relations() {
        for (name, sql) in TILES.iter() {
            assert_eq!(sql.contains("gold."), !IN_MEMORY.contains(name), "{name}");
        }
    }
}
