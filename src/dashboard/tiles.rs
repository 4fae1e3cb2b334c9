//! All tiles of one request, from one session, and so from one set of view versions.
//!
//! ```text
//!   session over gold, Kept ──relations──▶ places, sold, steps, ...   rows in memory
//!                                              │ one plan each, with the question's parameters
//!                                              ├──▶ cube ────▶ kpis, trend, cities, ...
//!                                              ├──▶ visits ──▶ funnel, carts, ...
//!                                              └──▶ visitors, orders, stock, ...              ─▶ JSON by tile
//! ```
//!
//! Gold is read only where its files have changed; the caller's policies hold in the session below all of it.

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
use datafusion::physical_plan::execute_stream;
use datafusion::prelude::SessionContext;
use futures::TryStreamExt;
use futures::future::try_join_all;
use serde_json::value::RawValue;

use crate::catalog::session::{DEFAULT_SCHEMA, session_within};
use crate::dashboard::kept::Kept;
use crate::dashboard::parameters::{self, Parameters, bound};
use crate::dashboard::period::{Grain, Period};
use crate::dashboard::queries::{Queries, TILES};
use crate::dashboard::relations::RELATIONS;
use crate::dashboard::request::Request;
use crate::error::{Error, ErrorKind, Result};
use crate::name::TableName;

/// Rows of one relation in memory; beyond it the range has to be a shorter one.
pub const RELATION_ROWS_MAX: usize = 5_000_000;

/// The question's own relations, and the tiles over them.
const CUBE: (&str, [&str; 5]) = ("cube", ["kpis", "trend", "cities", "products", "categories"]);
const VISITS: (&str, [&str; 3]) = ("visits", ["funnel", "carts", "largest_carts"]);

/// Tiles over the rows of gold.
const OVER_ROWS: [&str; 4] = ["visitors", "stock", "orders", "last_order"];

/// A tile that is a relation as it is.
const SELLERS: &str = "sellers";

/// In the place of the trend, where it is by minute.
const TREND: (&str, &str) = ("trend", "trend_by_minute");

/// The rows of a tile, as a JSON array of objects.
pub type Rows = Box<RawValue>;

/// The rows of every tile, by its name. `whose`: the caller's rights, equal for equal rights only.
///
/// # Errors
/// `Query` for too much at once; `NotFound` or `Denied` where the caller may not read gold.
pub async fn tiles(
    session: &SessionContext,
    (kept, whose): (&Arc<Kept>, &Arc<str>),
    request: &Request,
    period: &Period,
) -> Result<BTreeMap<String, Rows>> {
    let reads = RELATIONS.iter().map(|relation| {
        let (session, kept, request, period) = (session.clone(), Arc::clone(kept), request.clone(), *period);
        let whose = Arc::clone(whose);
        let read = async move { relation.read(session, (kept, whose), &request, &period).await };
        async { Ok::<_, Error>((relation.name, ended(SpawnedTask::spawn(read)).await?)) }
    });
    let relations: BTreeMap<&str, Vec<RecordBatch>> = try_join_all(reads).await?.into_iter().collect();
    let parameters = parameters::of(request, period, cities(request, &relations["places"])?);
    let mut tiles = BTreeMap::from([(SELLERS.to_string(), json(&relations[SELLERS])?)]);

    let asked = Asked { memory: in_memory(session, relations)?, parameters: Arc::new(parameters) };
    let (cube, visits) = (asked.start(CUBE.0), asked.start(VISITS.0));
    let mut started: Vec<(&str, Task)> = OVER_ROWS.iter().map(|tile| (*tile, asked.start(tile))).collect();
    asked.hold(CUBE.0, ended(cube).await?)?;
    started.extend(CUBE.1.iter().map(|tile| match request.grain {
        Grain::Minute if *tile == TREND.0 => (*tile, asked.start(TREND.1)),
        _ => (*tile, asked.start(tile)),
    }));
    asked.hold(VISITS.0, ended(visits).await?)?;
    started.extend(VISITS.1.iter().map(|tile| (*tile, asked.start(tile))));
    for (tile, task) in started {
        tiles.insert(tile.to_string(), json(&ended(task).await?)?);
    }
    Ok(tiles)
}

/// One question, and the rows that it is asked of.
struct Asked {
    memory: SessionContext,
    parameters: Arc<Parameters>,
}

/// A query under way on a thread of its own; it ends with whoever waits for it.
type Task = SpawnedTask<Result<Vec<RecordBatch>>>;

impl Asked {
    fn start(&self, name: &'static str) -> Task {
        let (memory, parameters) = (self.memory.clone(), Arc::clone(&self.parameters));
        SpawnedTask::spawn(async move { rows(&memory, &TILES, name, &parameters).await })
    }

    /// Have these rows as a table.
    fn hold(&self, name: &str, batches: Vec<RecordBatch>) -> Result<()> {
        self.memory.register_table(name, table(name, batches)?)?;
        Ok(())
    }
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
///
/// # Errors
/// As its tables; `Query` for more rows than [`RELATION_ROWS_MAX`].
pub(super) async fn rows(
    session: &SessionContext,
    queries: &Queries,
    name: &str,
    parameters: &Parameters,
) -> Result<Vec<RecordBatch>> {
    let unknown = || Error::new(ErrorKind::Internal, format!("there is no query {name}"));
    let statement = bound(queries.get(name).ok_or_else(unknown)?, parameters)?;
    let state = session.state();
    let plan = state.statement_to_plan(statement).await?;
    let plan = state.create_physical_plan(&plan).await?;
    let mut stream = execute_stream(plan, state.task_ctx())?;
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
fn in_memory(session: &SessionContext, relations: BTreeMap<&str, Vec<RecordBatch>>) -> Result<SessionContext> {
    let tables = relations
        .into_iter()
        .map(|(name, batches)| Ok::<_, Error>((TableName::new(DEFAULT_SCHEMA, name), table(name, batches)?)));
    session_within(session, tables.collect::<Result<_>>()?)
}

fn table(name: &str, batches: Vec<RecordBatch>) -> Result<Arc<dyn TableProvider>> {
    let columns = batches.first().map(RecordBatch::schema);
    let columns = columns.ok_or_else(|| Error::new(ErrorKind::Internal, format!("{name} has no columns")))?;
    Ok(Arc::new(MemTable::try_new(columns, vec![batches])?))
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
        let relations = RELATIONS.iter().map(|relation| relation.name).chain([CUBE.0, VISITS.0]);
        let tiles = CUBE.1.into_iter().chain(VISITS.1).chain(OVER_ROWS).chain([TREND.1]);
        let mut named: Vec<&str> = relations.chain(tiles).collect();
        named.sort_unstable();
        assert_eq!(named, TILES.keys().copied().collect::<Vec<_>>());
        assert!(named.contains(&SELLERS) && CUBE.1.contains(&TREND.0));
    }

    #[test]
    fn only_what_is_kept_reads_gold() {
        for (name, sql) in TILES.iter() {
            let kept = RELATIONS.iter().any(|relation| relation.name == *name);
            assert_eq!(sql.contains("gold."), kept, "{name}");
        }
    }
}
