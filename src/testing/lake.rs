//! The lake of a test: a project in memory, with a clock that stands still and sources that the test fills.
//!
//! ```text
//!   INSERT INTO raw.events ...   ─▶ records of its source ─▶ passes until every view has followed
//!   SET flash.now = '...'        ─▶ the clock             ─▶ passes, since views with now() move
//!   SET flash.user = '...'       ─▶ whose the statements below are, by the rules of who sees what
//!   anything else                ─▶ the engine, which does the same for what it changes
//! ```
//!
//! Nothing is mocked above the source: decoding, expectations, quarantine, unique keys and every layer up to gold go
//! the way of the program.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Array, AsArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, TimeUnit, TimestampMicrosecondType};
use arrow::record_batch::RecordBatch;
use async_trait::async_trait;
use datafusion::sql::parser::Statement as DataFusionStatement;
use futures::TryStreamExt;
use sqlparser::ast::{Set, Statement as SqlStatement};

use crate::catalog::Principal;
use crate::clock::Clock;
use crate::config::{SLICE_PAYLOAD_BYTES_MAX, SLICE_RECORDS_MAX};
use crate::engine::{Answer, Engine, EngineOptions, ObjectKind, Pass, PassRequest, Prefer, ProjectObject};
use crate::error::{Error, ErrorKind, Result};
use crate::name::TableName;
use crate::parser::{self, Statement};
use crate::source::{SliceLimits, Source};
use crate::storage::{DeltaStorage, StorageOptions};
use crate::testing::insert::Insert;
use crate::testing::script::Script;
use crate::testing::source::{Inserted, records};
use crate::testing::{Database, Outcome, text_rows};

/// Where the clock stands until a test sets it: the beginning of 2000, UTC, in microseconds since 1970.
const NOW_US: i64 = 946_684_800_000_000;

/// What a test sets to move the clock.
const NOW: &str = "flash.now";

/// What a test sets to ask as somebody; NULL: as the one who may do everything.
const USER: &str = "flash.user";

/// Passes until everything has followed one statement.
const PASSES_MAX: usize = 1_000;

/// See the module.
#[derive(Debug)]
pub struct Lake {
    engine: Arc<Engine>,
    clock: Clock,
    sources: BTreeMap<TableName, Fed>,
    /// Whose statements they are; `None`: the system's.
    user: Option<String>,
}

/// A source that the test fills.
#[derive(Debug)]
struct Fed {
    inserted: Arc<Inserted>,
    /// The columns that it declares: an INSERT that names none means them.
    declared: Vec<String>,
}

impl Lake {
    /// A lake of its own for a script: the objects of its project, up to date, and nothing else.
    ///
    /// # Errors
    /// As `Engine::apply`.
    pub async fn open(objects: &[ProjectObject], script: &Script) -> Result<Self> {
        let texts = objects.iter().map(|object| &object.sql).chain(script.records.iter().map(|record| &record.sql));
        let sources = texts.flat_map(|text| fed(text)).collect::<BTreeMap<_, _>>();
        let overrides = sources.iter().map(|(name, fed)| (name.clone(), Arc::clone(&fed.inserted) as Arc<dyn Source>));
        let clock = Clock::fixed(NOW_US);
        let engine = Engine::open(EngineOptions {
            storage: DeltaStorage::open("memory:", StorageOptions::default()).await?,
            sources: overrides.collect(),
            slice: SliceLimits { payload_bytes_max: SLICE_PAYLOAD_BYTES_MAX, records_max: SLICE_RECORDS_MAX },
            prefer: Prefer::Cheapest,
            clock: clock.clone(),
        })
        .await?;
        engine.apply(objects).await?;
        let lake = Self { engine, clock, sources, user: None };
        lake.settle().await?;
        Ok(lake)
    }

    /// Passes over everything until there is nothing new.
    async fn settle(&self) -> Result<()> {
        for _ in 0..PASSES_MAX {
            match self.engine.pass(PassRequest { all: true, full: vec![] }).await? {
                Pass::Idle(_) | Pass::Published { caught_up: true, .. } => return Ok(()),
                Pass::Published { .. } => {}
            }
        }
        Err(Error::new(ErrorKind::Internal, format!("there is something new after {PASSES_MAX} passes")))
    }

    async fn put(&self, insert: &Insert, source: &Fed) -> Result<Outcome> {
        let columns = if insert.columns.is_empty() { &source.declared } else { &insert.columns };
        if columns.is_empty() {
            return Err(Error::new(ErrorKind::Definition, format!("the INSERT names no columns of {}", insert.name))
                .with_hint("name the fields of the JSON object: INSERT INTO raw.events (event_id, price) VALUES ('e1', 499); or give its text as (_payload)"));
        }
        let mut put = Vec::new();
        for query in insert.queries() {
            for rows in self.rows(&query).await? {
                put.extend(records(columns, &rows, self.clock.now_us())?);
            }
        }
        let count = put.len() as u64;
        source.inserted.push(put);
        self.settle().await?;
        Ok(Outcome::Done(count))
    }

    /// `SET flash.now = value`.
    async fn set_clock(&self, value: &str) -> Result<Outcome> {
        let rows = self.rows(&format!("SELECT {value} AS now")).await?;
        let instant = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
        let column = rows.first().map(|rows| cast(rows.column(0), &instant)).transpose()?;
        let Some(column) = column.filter(|column| column.len() == 1 && column.is_valid(0)) else {
            return Err(Error::new(ErrorKind::Definition, format!("{value} is no instant")).with_hint(format!(
                "SET {NOW} = '2026-11-22T09:00:00+05:30', or SET {NOW} = now() + INTERVAL '1 hour'"
            )));
        };
        let now_us = column.as_primitive::<TimestampMicrosecondType>().value(0);
        if now_us < self.clock.now_us() {
            return Err(Error::new(ErrorKind::Definition, "the clock of a test goes forward only")
                .with_detail("what was refreshed at a later time is there already")
                .with_hint("begin with the earliest time; each file has a lake and a clock of its own"));
        }
        self.clock.set(now_us);
        self.settle().await?;
        Ok(Outcome::Done(0))
    }

    /// `SET flash.user = value`.
    async fn set_user(&mut self, value: &str) -> Result<Outcome> {
        let rows = text_rows(&self.rows(&format!("SELECT {value} IS NULL, CAST({value} AS VARCHAR)")).await?)?;
        self.user = match rows.first().map(Vec::as_slice) {
            Some([null, user]) if null == "false" => Some(user.clone()),
            _ => None,
        };
        self.principal().await.map(|_| Outcome::Done(0))
    }

    async fn principal(&self) -> Result<Principal> {
        let Some(user) = &self.user else { return Ok(Principal::system()) };
        self.engine.access().await?.principal(user).ok_or_else(|| {
            Error::new(ErrorKind::NotFound, format!("there is no user {user}"))
                .with_hint(format!("CREATE USER {user} first; SET {USER} = NULL ends asking as somebody"))
        })
    }

    /// The rows of what a test sets or inserts. Who asks does not matter to it.
    async fn rows(&self, sql: &str) -> Result<Vec<RecordBatch>> {
        match self.answer(&Principal::system(), sql).await? {
            Answer::Rows { stream, .. } => stream.try_collect().await.map_err(Error::from),
            Answer::Done { .. } => Ok(vec![]),
        }
    }

    async fn answer(&self, principal: &Principal, sql: &str) -> Result<Answer> {
        let session = self.engine.session(principal).await?;
        self.engine.execute(&session, principal, sql).await
    }
}

#[async_trait]
impl Database for Lake {
    async fn run(&mut self, sql: &str) -> Result<Outcome> {
        match setting(sql) {
            Some((NOW, value)) => return self.set_clock(&value).await,
            Some((_, value)) => return self.set_user(&value).await,
            None => {}
        }
        if let Some(insert) = Insert::of(sql)
            && let Some(source) = self.sources.get(&insert.name)
            && self.engine.kind(&insert.name) == Some(ObjectKind::Source)
        {
            return self.put(&insert, source).await;
        }
        match self.answer(&self.principal().await?, sql).await? {
            Answer::Done { rows_affected, .. } => Ok(Outcome::Done(rows_affected.unwrap_or(0))),
            Answer::Rows { schema, stream } => {
                let batches = stream.try_collect::<Vec<_>>().await.map_err(Error::from)?;
                Ok(Outcome::Rows { columns: schema.fields().len(), rows: text_rows(&batches)? })
            }
        }
    }

    async fn held_back(&mut self) -> Vec<String> {
        let published = Arc::clone(&self.engine.published().borrow());
        let failed = published.refreshes.iter().filter_map(|(view, facts)| Some((view, facts.error.as_ref()?)));
        failed.map(|(view, error)| format!("{view} was not refreshed: {error}")).collect()
    }
}

/// The sources that a text defines; one with mistakes defines none, and the engine tells of them.
fn fed(text: &str) -> Vec<(TableName, Fed)> {
    let parsed = parser::parse(text, None).unwrap_or_default();
    let sources = parsed.into_iter().filter_map(|parsed| match parsed.statement {
        Statement::CreateSource(source) => Some(source),
        _ => None,
    });
    let fed = sources.map(|source| {
        let declared = source.columns.into_iter().map(|column| column.name).collect();
        (source.name.clone(), Fed { inserted: Arc::new(Inserted::new(source.name.to_string())), declared })
    });
    fed.collect()
}

/// What a statement sets of a test, and to what.
fn setting(sql: &str) -> Option<(&'static str, String)> {
    let parsed = parser::parse(sql, None).ok()?;
    let [parsed] = <[_; 1]>::try_from(parsed).ok()?;
    let Statement::Sql(statement) = parsed.statement else { return None };
    let DataFusionStatement::Statement(statement) = *statement else { return None };
    let SqlStatement::Set(Set::SingleAssignment { variable, values, .. }) = *statement else { return None };
    let name = [NOW, USER].into_iter().find(|name| variable.to_string().eq_ignore_ascii_case(name))?;
    match values.as_slice() {
        [value] => Some((name, value.to_string())),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn lake(objects: &[&str]) -> Lake {
        let objects = objects.iter().map(|sql| ProjectObject { file: None, sql: (*sql).into(), data: None });
        let script = Script { file: "t.slt".into(), records: vec![] };
        Lake::open(&objects.collect::<Vec<_>>(), &script).await.unwrap()
    }

    async fn rows(lake: &mut Lake, sql: &str) -> Vec<String> {
        match lake.run(sql).await.unwrap_or_else(|error| panic!("{sql}\n{}", error.render())) {
            Outcome::Rows { rows, .. } => rows.iter().map(|row| row.join("|")).collect(),
            Outcome::Done(count) => vec![format!("done {count}")],
        }
    }

    #[test]
    fn only_what_is_a_tests_own_is_set_here() {
        let set = |sql: &str| setting(sql).map(|(name, value)| format!("{name} {value}"));
        assert_eq!(set("SET flash.now = '2026-01-01';").as_deref(), Some("flash.now '2026-01-01'"));
        assert_eq!(
            set("set FLASH.NOW to now() + INTERVAL '1' DAY").as_deref(),
            Some("flash.now now() + INTERVAL '1' DAY")
        );
        assert_eq!(set("SET flash.user = NULL").as_deref(), Some("flash.user NULL"));
        assert!(set("SET datafusion.execution.batch_size = 1").is_none() && set("SELECT 1").is_none());
    }

    #[tokio::test]
    async fn the_clock_stands_where_it_was_set_for_queries_and_for_views() {
        let mut lake = lake(&[
            "CREATE TABLE s.t (at TIMESTAMP)",
            "CREATE MATERIALIZED VIEW s.recent AS SELECT at FROM s.t WHERE at > now() - INTERVAL '1 hour'",
        ])
        .await;
        let now = "SELECT now() = TIMESTAMP '2000-01-01 00:00:00', current_date, current_timestamp = now()";
        assert_eq!(rows(&mut lake, now).await, ["true|2000-01-01|true"]);
        rows(&mut lake, "SET flash.now = '2026-11-22T14:30:00+05:30'").await;
        rows(
            &mut lake,
            "INSERT INTO s.t VALUES (now()), (now() - INTERVAL '50 minutes'), (TIMESTAMP '2026-11-22 07:00:00')",
        )
        .await;
        let recent = "SELECT at FROM s.recent ORDER BY at";
        assert_eq!(rows(&mut lake, recent).await, ["2026-11-22T08:10:00", "2026-11-22T09:00:00"]);
        rows(&mut lake, "SET flash.now = now() + INTERVAL '11 minutes'").await;
        assert_eq!(rows(&mut lake, recent).await, ["2026-11-22T09:00:00"]);
        let back = lake.run("SET flash.now = '2026-11-22T09:00:00Z'").await.unwrap_err();
        assert!(back.message().contains("forward only"), "{back}");
        let nonsense = lake.run("SET flash.now = 'noon'").await.unwrap_err();
        assert!(nonsense.message().contains("is no instant"), "{nonsense}");
    }

    #[tokio::test]
    async fn a_source_is_filled_by_insert_and_its_views_follow() {
        let mut lake = lake(&[
            "CREATE EXTERNAL TABLE raw.e (id VARCHAR, price INT) STORED AS KINESIS LOCATION 'kinesis://r/e'",
            "CREATE MATERIALIZED VIEW bronze.e AS SELECT * FROM raw.e",
            "CREATE MATERIALIZED VIEW s.e (CONSTRAINT known EXPECT (id IS NOT NULL) ON VIOLATION QUARANTINE ROW) \
             WITH (unique_key = 'id') AS SELECT d['id'] AS id, d['price'] AS price FROM \
             (SELECT from_json(_payload, 'id VARCHAR, price DECIMAL(9, 2)') AS d FROM bronze.e) AS j",
        ])
        .await;
        assert_eq!(rows(&mut lake, "INSERT INTO raw.e VALUES ('a', 1.10), ('b', NULL), ('a', 2)").await, ["done 3"]);
        assert_eq!(rows(&mut lake, "INSERT INTO raw.e (_payload) VALUES ('broken')").await, ["done 1"]);
        rows(&mut lake, "INSERT INTO raw.e (id) SELECT 'q' || CAST(value AS VARCHAR) FROM generate_series(1, 2)").await;
        assert_eq!(rows(&mut lake, "SELECT * FROM s.e ORDER BY id").await, ["a|1.10", "b|NULL", "q1|NULL", "q2|NULL"]);
        assert_eq!(rows(&mut lake, "SELECT expectation FROM s.e_quarantine").await, ["known"]);
        let arrived = "SELECT count(DISTINCT _sequence_number), min(_arrived_at) = max(_arrived_at) FROM bronze.e";
        assert_eq!(rows(&mut lake, arrived).await, ["6|true"]);
        assert!(
            lake.run("DELETE FROM raw.e").await.is_err()
                && lake.run("INSERT INTO raw.f (id) VALUES (1)").await.is_err()
        );
    }

    #[tokio::test]
    async fn who_sees_what_is_asked_as_somebody() {
        let mut lake = lake(&["CREATE TABLE s.t (seller_id VARCHAR)"]).await;
        for sql in [
            "INSERT INTO s.t VALUES ('S1'), ('S2')",
            "CREATE USER root ROLE admin",
            "CREATE ROLE seller",
            "CREATE USER asha ROLE seller ATTRIBUTES (seller_id = 'S1')",
            "GRANT SELECT ON s.t TO seller",
            "CREATE POLICY own ON s.t TO seller USING (seller_id = current_seller())",
            "SET flash.user = 'asha'",
        ] {
            rows(&mut lake, sql).await;
        }
        assert_eq!(rows(&mut lake, "SELECT current_user, seller_id FROM s.t").await, ["asha|S1"]);
        assert_eq!(lake.run("INSERT INTO s.t VALUES ('S1')").await.unwrap_err().kind(), ErrorKind::Denied);
        rows(&mut lake, "SET flash.user = NULL").await;
        assert_eq!(rows(&mut lake, "SELECT count(*) FROM s.t").await, ["2"]);
        let unknown = lake.run("SET flash.user = 'nobody'").await.unwrap_err();
        assert_eq!(unknown.message(), "there is no user nobody");
    }
}
