//! A backend over tables in memory.

use std::any::Any;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, Decimal128Array, DictionaryArray, Int64Array, StringViewArray, TimestampMicrosecondArray,
};
use arrow::datatypes::{DataType, Field, Int32Type, Schema, SchemaRef};
use arrow::record_batch::RecordBatch;
use async_trait::async_trait;
use datafusion::catalog::streaming::StreamingTable;
use datafusion::catalog::{CatalogProvider, MemoryCatalogProvider, MemorySchemaProvider};
use datafusion::datasource::MemTable;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::streaming::PartitionStream;
use datafusion::prelude::{SessionConfig, SessionContext};
use flashcommerce::catalog::Principal;
use flashcommerce::engine::ingest::Ingest;
use flashcommerce::engine::parameters::{self, Described};
use flashcommerce::engine::{Answer, ObjectKind, ViewStatus};
use flashcommerce::epoch::{DataLoss, Loss, Position, PublishedRecord};
use flashcommerce::error::{Error, ErrorKind, Result};
use flashcommerce::name::TableName;
use flashcommerce::server::Backend;
use futures::stream;
use tokio::sync::{mpsc, watch};

/// Schemas gold (kpis, endless), silver (events, sellerXdaily, seller_daily), raw (events: a source), system (refreshes).
pub(crate) struct Memory {
    catalog: Arc<MemoryCatalogProvider>,
    pub(crate) published: watch::Sender<Arc<PublishedRecord>>,
    /// Gets a message when a stream over gold.endless is dropped.
    pub(crate) dropped: tokio::sync::Mutex<mpsc::UnboundedReceiver<()>>,
}

impl Memory {
    pub(crate) fn new() -> Self {
        let (sender, dropped) = mpsc::unbounded_channel();
        let catalog = Arc::new(MemoryCatalogProvider::new());
        for name in ["public", "gold", "silver", "raw", "system"] {
            catalog.register_schema(name, Arc::new(MemorySchemaProvider::new())).unwrap();
        }
        let memory = Self { catalog, published: watch::Sender::default(), dropped: dropped.into() };
        let kpis = kpis();
        memory.register("gold", "kpis", Arc::new(MemTable::try_new(kpis.schema(), vec![vec![kpis]]).unwrap()));
        let endless = Endless { schema: numbers(&[]).schema(), sender };
        let table = StreamingTable::try_new(Arc::clone(&endless.schema), vec![Arc::new(endless)]).unwrap();
        memory.register("gold", "endless", Arc::new(table));
        for (schema, name) in [
            ("silver", "events"),
            ("silver", "sellerXdaily"),
            ("silver", "seller_daily"),
            ("raw", "events"),
            ("system", "refreshes"),
        ] {
            let batch = numbers(&[1, 2, 3]);
            memory.register(schema, name, Arc::new(MemTable::try_new(batch.schema(), vec![vec![batch]]).unwrap()));
        }
        memory
    }

    fn register(&self, schema: &str, name: &str, table: Arc<dyn datafusion::catalog::TableProvider>) {
        self.catalog.schema(schema).unwrap().register_table(name.to_string(), table).unwrap();
    }
}

/// Types that have to be made plain for the wire.
fn kpis() -> RecordBatch {
    let category: DictionaryArray<Int32Type> = vec!["jewelry", "electronics"].into_iter().collect();
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("city", Arc::new(StringViewArray::from(vec!["New Delhi, the capital", "Mumbai"]))),
        ("category", Arc::new(category)),
        ("revenue", Arc::new(Decimal128Array::from(vec![12_50, 7_25]).with_precision_and_scale(12, 2).unwrap())),
        ("at", Arc::new(TimestampMicrosecondArray::from(vec![0, 1]).with_timezone("UTC"))),
    ];
    RecordBatch::try_from_iter(columns).unwrap()
}

fn numbers(values: &[i64]) -> RecordBatch {
    let schema = Schema::new(vec![Field::new("n", DataType::Int64, false)]);
    RecordBatch::try_new(Arc::new(schema), vec![Arc::new(Int64Array::from(values.to_vec()))]).unwrap()
}

/// One row, then nothing, for ever.
#[derive(Debug)]
struct Endless {
    schema: SchemaRef,
    sender: mpsc::UnboundedSender<()>,
}

struct TellWhenDropped(mpsc::UnboundedSender<()>);

impl Drop for TellWhenDropped {
    fn drop(&mut self) {
        let _ = self.0.send(());
    }
}

impl PartitionStream for Endless {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, _: Arc<TaskContext>) -> SendableRecordBatchStream {
        let guard = TellWhenDropped(self.sender.clone());
        let batches = stream::unfold((0, guard), async |(at, guard)| {
            if at > 0 {
                std::future::pending::<()>().await;
            }
            Some((Ok(numbers(&[at])), (at + 1, guard)))
        });
        Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&self.schema), batches))
    }
}

#[async_trait]
impl Backend for Memory {
    async fn session(&self, _: &Principal) -> Result<SessionContext> {
        let config = SessionConfig::new()
            .with_default_catalog_and_schema("flash", "public")
            .with_create_default_catalog_and_schema(false)
            .with_information_schema(true);
        #[allow(clippy::disallowed_methods, reason = "this backend makes its own sessions")]
        let session = SessionContext::new_with_config(config);
        session.register_catalog("flash", Arc::clone(&self.catalog) as _);
        Ok(session)
    }

    async fn execute(
        &self,
        session: &SessionContext,
        _: &Principal,
        sql: &str,
        values: &RecordBatch,
    ) -> Result<Answer> {
        match sql {
            "REFRESH" => return Ok(Answer::Done { message: "REFRESH gold.kpis: nothing".into(), rows_affected: None }),
            "PANIC" | "SHOW PANIC" => panic!("asked for"),
            "CONFLICT" => return Err(Error::new(ErrorKind::Conflict, "another writer won").with_hint("stop one")),
            _ => {}
        }
        let plan = session.state().create_logical_plan(sql).await?;
        let mut plans = parameters::bound(plan, values)?;
        let (Some(plan), true) = (plans.pop(), plans.is_empty()) else {
            return Err(Error::new(ErrorKind::Query, "this backend takes one row of values"));
        };
        let change = matches!(plan, LogicalPlan::Dml(_) | LogicalPlan::Ddl(_));
        let frame = session.execute_logical_plan(plan).await?;
        if !change {
            let schema = Arc::new(frame.schema().as_arrow().clone());
            return Ok(Answer::Rows { schema, stream: frame.execute_stream().await? });
        }
        let batches = frame.collect().await?;
        let count = batches.first().filter(|batch| batch.num_rows() > 0).map(|batch| {
            let count: &dyn Any = batch.column(0).as_any();
            count.downcast_ref::<arrow::array::UInt64Array>().unwrap().value(0)
        });
        Ok(Answer::Done { message: "done".into(), rows_affected: count })
    }

    async fn describe(&self, session: &SessionContext, sql: &str) -> Result<Described> {
        parameters::describe(&session.state(), session.state().create_logical_plan(sql).await?)
    }

    async fn ingest(&self, _: &Principal, _: &Ingest, _: SendableRecordBatchStream) -> Result<u64> {
        Err(Error::new(ErrorKind::Definition, "this backend takes no rows"))
    }

    fn kind(&self, name: &TableName) -> Option<ObjectKind> {
        match name.schema.as_str() {
            "gold" => Some(ObjectKind::MaterializedView),
            "raw" => Some(ObjectKind::Source),
            "silver" => Some(ObjectKind::Table),
            _ => None,
        }
    }

    fn published(&self) -> watch::Receiver<Arc<PublishedRecord>> {
        self.published.subscribe()
    }

    fn losses(&self) -> Vec<DataLoss> {
        let loss = Loss { shard: "a".into(), after: Position::TrimHorizon, next: None, reason: "expired".into() };
        vec![DataLoss { source: TableName::new("raw", "events"), loss, found_us: 1 }]
    }

    async fn status(&self) -> Result<Vec<ViewStatus>> {
        Ok(vec![ViewStatus {
            name: TableName::new("gold", "kpis"),
            location: "memory://gold/kpis".into(),
            version: 3,
            rows: 2,
            lag_ms: Some(1500),
            target_lag_ms: Some(5000),
            mode: "append".into(),
            reason: "rows of the change only".into(),
            frontier: 7,
            suspended: false,
            quarantined: 0,
        }])
    }
}
