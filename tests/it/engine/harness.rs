//! A lake in memory with a source that tests push records into.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, BinaryArray, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use async_trait::async_trait;
use flashcommerce::catalog::Principal;
use flashcommerce::clock::Clock;
use flashcommerce::engine::{Answer, Engine, EngineOptions, Pass, PassRequest, Prefer, ProjectObject};
use flashcommerce::epoch::{Loss, Position, Positions, SequenceNumber, SourceRange};
use flashcommerce::error::Result;
use flashcommerce::name::TableName;
use flashcommerce::source::{Slice, SliceLimits, Source};
use flashcommerce::storage::{DeltaStorage, Storage, StorageOptions};
use futures::TryStreamExt;
use object_store::ObjectStore;
use object_store::memory::InMemory;
use parking_lot::Mutex;

/// `count` events from number `from` on: 7 shops, 3 % unreadable, 4 % negative, 5 % repetitions.
pub fn events(from: usize, count: usize) -> Vec<String> {
    let event = |n: usize| {
        if n % 33 == 5 {
            return "{broken".to_string();
        }
        let id = if n % 20 == 7 { n - 3 } else { n };
        let amount = if id % 25 == 9 { -1.5 } else { (id * 37 % 100) as f64 + 0.25 };
        let second = id % 60;
        format!(r#"{{"id":"e{id}","shop":"S{}","amount":{amount},"at":"2026-11-20T10:00:{second:02}Z"}}"#, id * 13 % 7)
    };
    (from..from + count).map(event).collect()
}

/// Records in memory, by position.
#[derive(Debug, Default)]
pub struct Scripted {
    records: Mutex<Vec<String>>,
    /// Records that a first start passes over.
    pub first: Mutex<usize>,
    /// Shards without records.
    pub quiet: Mutex<BTreeMap<String, Position>>,
    /// What the next answer is said to have lost.
    pub lost: Mutex<Vec<Loss>>,
}

impl Scripted {
    pub fn push(&self, records: Vec<String>) {
        self.records.lock().extend(records);
    }

    fn slice(&self, from: usize, to: usize) -> Slice {
        let records = self.records.lock();
        let text = |value: &str| Arc::new(StringArray::from(vec![value; to - from])) as ArrayRef;
        let sequences = (from + 1..=to).map(|n| format!("{n:010}")).collect::<Vec<_>>();
        let arrived = (from..to).map(|n| 1_763_600_000_000_000 + n as i64 * 1_000).collect::<Vec<_>>();
        let batch = RecordBatch::try_new(
            flashcommerce::source::schema(),
            vec![
                text("scripted"),
                text("shard-0"),
                Arc::new(StringArray::from(sequences)),
                Arc::new(Int64Array::from(vec![0; to - from])),
                Arc::new(StringArray::from(vec![None::<&str>; to - from])),
                Arc::new(TimestampMicrosecondArray::from(arrived).with_timezone("UTC")),
                Arc::new(BinaryArray::from_iter_values(records[from..to].iter().map(String::as_bytes))),
                Arc::new(StringArray::from(vec![None::<&str>; to - from])),
            ],
        );
        Slice {
            batches: vec![batch.unwrap()],
            to: at(to),
            records: to - from,
            payload_bytes: 0,
            behind_ms: None,
            caught_up: to == records.len(),
        }
    }
}

fn at(read: usize) -> Positions {
    let position = Position::After(SequenceNumber(format!("{read:010}")));
    Positions { incarnation: None, shards: BTreeMap::from([("shard-0".to_string(), position)]) }
}

fn read(positions: &Positions) -> usize {
    match positions.shards.get("shard-0") {
        Some(Position::After(sequence)) => sequence.0.parse().unwrap(),
        _ => 0,
    }
}

#[async_trait]
impl Source for Scripted {
    fn describe(&self) -> String {
        "scripted".into()
    }

    async fn start(&self) -> Result<Positions> {
        Ok(at(*self.first.lock()))
    }

    async fn since(&self, _instant_ms: i64) -> Result<Positions> {
        Ok(at(0))
    }

    async fn poll(&self, from: Option<&Positions>, limits: SliceLimits) -> Result<Slice> {
        let from = from.map_or(0, read);
        let there = self.records.lock().len();
        let mut slice = self.slice(from, there.min(from + limits.records_max));
        slice.to.shards.extend(self.quiet.lock().clone());
        Ok(slice)
    }

    async fn read(&self, range: &SourceRange) -> Result<Slice> {
        Ok(self.slice(read(&range.from), read(&range.to)))
    }

    fn losses(&self) -> Vec<Loss> {
        std::mem::take(&mut self.lost.lock())
    }

    async fn landed(&self, _to: &Positions) -> Result<()> {
        Ok(())
    }
}

pub struct Lake {
    pub engine: Arc<Engine>,
    pub source: Arc<Scripted>,
    pub store: Arc<dyn ObjectStore>,
    pub prefer: Prefer,
}

impl Lake {
    pub async fn new(views: &[&str]) -> Self {
        let lake = Self::open(Arc::new(InMemory::new()), Arc::default()).await.unwrap();
        let objects = views.iter().map(|sql| ProjectObject { file: None, sql: (*sql).into(), data: None });
        lake.engine.apply(&objects.collect::<Vec<_>>()).await.unwrap();
        lake
    }

    /// Empty; refreshes take this plan of those that are right.
    pub async fn preferring(prefer: Prefer) -> Self {
        Self::open_with(Arc::new(InMemory::new()), Arc::default(), prefer).await.unwrap()
    }

    pub async fn open(store: Arc<dyn ObjectStore>, source: Arc<Scripted>) -> Result<Self> {
        Self::open_with(store, source, Prefer::default()).await
    }

    /// Empty; what commits remove stays for this long, and this is the time.
    pub async fn keeping(retention_ms: i64, clock: Clock) -> Self {
        let options = StorageOptions { retention_ms, ..StorageOptions::default() };
        let (store, source) = (Arc::new(InMemory::new()), Arc::default());
        Self::open_at(store, source, Prefer::default(), options, clock).await.unwrap()
    }

    async fn open_with(store: Arc<dyn ObjectStore>, source: Arc<Scripted>, prefer: Prefer) -> Result<Self> {
        Self::open_at(store, source, prefer, StorageOptions::default(), Clock::System).await
    }

    pub async fn open_at(
        store: Arc<dyn ObjectStore>,
        source: Arc<Scripted>,
        prefer: Prefer,
        options: StorageOptions,
        clock: Clock,
    ) -> Result<Self> {
        let root = "memory:///".parse().unwrap();
        let storage: Arc<dyn Storage> = DeltaStorage::with_options(Arc::clone(&store), root, options);
        let sources = BTreeMap::from([(TableName::new("raw", "events"), Arc::clone(&source) as Arc<dyn Source>)]);
        let slice = SliceLimits { payload_bytes_max: 1 << 20, records_max: 1_000 };
        let engine = Engine::open(EngineOptions { storage, sources, slice, prefer, clock }).await?;
        Ok(Self { engine, source, store, prefer })
    }

    pub async fn restart(self) -> Self {
        let lake = Self::open_with(self.store, self.source, self.prefer).await.unwrap();
        lake.engine.recover().await.unwrap();
        lake
    }

    pub async fn apply(&self, sql: &str) {
        self.engine.apply(&[ProjectObject { file: None, sql: sql.into(), data: None }]).await.unwrap();
    }

    pub async fn pass_until_idle(&self) {
        for _ in 0..50 {
            let request = PassRequest { all: true, full: vec![] };
            if let Pass::Idle(_) = self.engine.pass(request).await.unwrap() {
                return;
            }
        }
        panic!("there is always something new");
    }

    pub async fn execute(&self, sql: &str) -> Result<String> {
        let session = self.engine.session(&Principal::system()).await?;
        match self.engine.execute(&session, &Principal::system(), sql).await? {
            Answer::Done { message, .. } => Ok(message),
            Answer::Rows { stream, .. } => {
                let batches: Vec<RecordBatch> = stream.try_collect().await?;
                Ok(lines(&batches).join("\n"))
            }
        }
    }

    /// Rows as text, cells separated by `|`.
    pub async fn query(&self, sql: &str) -> Vec<String> {
        let text = self.execute(sql).await.unwrap_or_else(|error| panic!("{sql}\n{}", error.render()));
        text.lines().map(ToString::to_string).collect()
    }

    pub async fn modes(&self) -> Vec<(String, String)> {
        let lines = self.query("SELECT view_name, mode FROM system.refreshes ORDER BY epoch").await;
        lines.iter().filter_map(|line| line.split_once('|')).map(|(a, b)| (a.into(), b.into())).collect()
    }

    /// Every gold view equals its own query over what is published.
    pub async fn check_all(&self) {
        let definitions = self.query(
            "SELECT view_name, replace(definition, chr(10), ' ') FROM system.materialized_views WHERE view_name LIKE 'gold.%'",
        );
        for line in definitions.await {
            let (view, definition) = line.split_once('|').unwrap();
            let query = definition.split_once(" AS ").unwrap().1;
            let query = query.trim_start_matches(|c: char| c != 'S');
            let mut stored = self.query(&format!("SELECT * FROM {view}")).await;
            let mut computed = self.query(query).await;
            stored.sort();
            computed.sort();
            assert_eq!(stored, computed, "{view}: {query}");
        }
    }
}

pub fn lines(batches: &[RecordBatch]) -> Vec<String> {
    let options = FormatOptions::default().with_null("NULL");
    let mut out = Vec::new();
    for batch in batches {
        let cells = batch.columns().iter().map(|column| ArrayFormatter::try_new(column, &options).unwrap());
        let cells = cells.collect::<Vec<_>>();
        for row in 0..batch.num_rows() {
            let values =
                cells.iter().zip(batch.columns()).map(|(cell, column)| rounded(&cell.value(row).to_string(), column));
            out.push(values.collect::<Vec<_>>().join("|"));
        }
    }
    out
}

/// Floating point is compared to nine digits: its sums depend on order.
fn rounded(text: &str, column: &ArrayRef) -> String {
    match (column.data_type().is_floating(), text.parse::<f64>()) {
        (true, Ok(value)) => format!("{value:.8e}"),
        _ => text.to_string(),
    }
}
