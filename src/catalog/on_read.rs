//! A table that is made when it is read: what changes between epochs, or would be made for every session and asked by few.

use std::fmt;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::error::DataFusionError;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown, TableType};
use datafusion::physical_plan::ExecutionPlan;
use futures::future::BoxFuture;

use crate::error::Result;

/// How it is made.
type Make = dyn Fn() -> BoxFuture<'static, Result<Arc<dyn TableProvider>>> + Send + Sync;

/// See the module.
pub struct OnRead {
    schema: SchemaRef,
    make: Box<Make>,
}

impl OnRead {
    /// A table of this schema; what `make` gives has the same.
    pub fn table(
        schema: SchemaRef,
        make: impl Fn() -> BoxFuture<'static, Result<Arc<dyn TableProvider>>> + Send + Sync + 'static,
    ) -> Arc<dyn TableProvider> {
        Arc::new(Self { schema, make: Box::new(make) })
    }
}

impl fmt::Debug for OnRead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OnRead").field("schema", &self.schema).finish_non_exhaustive()
    }
}

#[async_trait]
impl TableProvider for OnRead {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn supports_filters_pushdown(
        &self,
        filters: &[&Expr],
    ) -> datafusion::common::Result<Vec<TableProviderFilterPushDown>> {
        // They may choose files; rows are judged above.
        Ok(vec![TableProviderFilterPushDown::Inexact; filters.len()])
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> datafusion::common::Result<Arc<dyn ExecutionPlan>> {
        let table = (self.make)().await.map_err(DataFusionError::from)?;
        table.scan(state, projection, filters, limit).await
    }
}
