//! The rows of a snapshot's files as a table of DataFusion: one `DataSourceExec` over `ParquetSource`.
//!
//! ```text
//!   Snapshot, files ─prune─▶ files that may match ─by size─▶ file groups, one per core
//!                                  │                             │ partition values as constants
//!                                  ▼                             ▼ Parquet footers from the runtime's cache
//!                            exact statistics             DataSourceExec      columns [stored…, partition…],
//!                            (count, min, max)                                projected to the declared order
//! ```
//!
//! The plan is an ordinary one: it refers to files by path, so it can be sent elsewhere.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use arrow::datatypes::{FieldRef, Schema, SchemaRef};
use async_trait::async_trait;
use chrono::DateTime;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::config::TableParquetOptions;
use datafusion::common::stats::Precision;
use datafusion::common::{ColumnStatistics, Statistics};
use datafusion::datasource::TableType;
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::object_store::ObjectStoreUrl;
use datafusion::datasource::physical_plan::parquet::CachedParquetFileReaderFactory;
use datafusion::datasource::physical_plan::{FileGroup, FileScanConfigBuilder, ParquetSource};
use datafusion::datasource::source::DataSourceExec;
use datafusion::datasource::table_schema::TableSchema;
use datafusion::error::Result as DfResult;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::empty::EmptyExec;
use datafusion::scalar::ScalarValue;
use object_store::{ObjectMeta, ObjectStore};

use crate::error::Result;
use crate::storage::prune::{self, Candidate};
use crate::storage::stats::bounds_are_exact;
use crate::storage::{DataFile, Parts, Snapshot, log, partition};

/// Below this many bytes a scan is not spread over cores: starting them takes longer than reading.
const SPREAD_BYTES_MIN: u64 = 1024 * 1024;

/// The last bytes of a file, read at once; most footers fit.
const FOOTER_BYTES: usize = 32 * 1024;

/// See the module.
#[derive(Debug)]
pub(crate) struct DeltaProvider {
    snapshot: Snapshot,
    files: Arc<Vec<Arc<DataFile>>>,
    store: Arc<dyn ObjectStore>,
    url: ObjectStoreUrl,
    /// Stored columns, then partition columns.
    scan_schema: TableSchema,
    /// For each column of the declared schema its place in `scan_schema`.
    places: Vec<usize>,
    /// Made by the first scan.
    prepared: OnceLock<Prepared>,
}

/// The files as plans need them.
#[derive(Debug)]
struct Prepared {
    candidates: Vec<Candidate>,
    /// Of all files.
    statistics: Statistics,
}

impl DeltaProvider {
    /// The rows of `files`, or of all files of the snapshot.
    pub(crate) fn new(
        snapshot: Snapshot,
        files: Option<Vec<Arc<DataFile>>>,
        store: Arc<dyn ObjectStore>,
        url: ObjectStoreUrl,
    ) -> Self {
        let partition_at = |name: &String| snapshot.partitioned_by.iter().position(|other| other == name);
        let fields = snapshot.schema.fields();
        let stored: Vec<FieldRef> =
            fields.iter().filter(|field| partition_at(field.name()).is_none()).map(Arc::clone).collect();
        let by_name = |name: &String| snapshot.schema.column_with_name(name).map(|(at, _)| Arc::clone(&fields[at]));
        let partitions: Vec<FieldRef> = snapshot.partitioned_by.iter().filter_map(by_name).collect();
        let mut next = 0;
        let places = fields.iter().map(|field| match partition_at(field.name()) {
            Some(at) => stored.len() + at,
            None => {
                next += 1;
                next - 1
            }
        });
        let places = places.collect();
        let scan_schema =
            TableSchema::builder(Arc::new(Schema::new(stored))).with_table_partition_cols(partitions).build();
        let files = files.map_or_else(|| Arc::clone(&snapshot.files), Arc::new);
        Self { snapshot, files, store, url, scan_schema, places, prepared: OnceLock::new() }
    }

    /// Whether this is the table of all rows of `snapshot`.
    pub(crate) fn is_all_of(&self, snapshot: &Snapshot) -> bool {
        self.snapshot.version == snapshot.version && Arc::ptr_eq(&self.files, &snapshot.files)
    }

    /// The version that it is of.
    pub(crate) fn snapshot(&self) -> &Snapshot {
        &self.snapshot
    }

    /// The files whose rows this is.
    pub(crate) fn files(&self) -> &[Arc<DataFile>] {
        &self.files
    }

    /// See [`crate::storage::parts_of`].
    pub(crate) fn parts(&self, column: &str) -> Parts {
        let Snapshot { location, partitioned_by, .. } = &self.snapshot;
        let path = |file: &DataFile| format!("{location}/{}", file.path);
        let mut parts = match partitioned_by.iter().position(|name| name == column) {
            None => Parts::Whole(self.files.iter().map(|file| path(file)).collect()),
            Some(at) => {
                let mut by: BTreeMap<String, Vec<String>> = BTreeMap::new();
                for file in self.files.iter() {
                    if let Some(value) = &file.partition[at] {
                        by.entry(value.clone()).or_default().push(path(file));
                    }
                }
                Parts::By(by)
            }
        };
        match &mut parts {
            Parts::Whole(files) => files.sort_unstable(),
            Parts::By(by) => by.values_mut().for_each(|files| files.sort_unstable()),
        }
        parts
    }

    fn prepared(&self) -> Result<&Prepared> {
        if let Some(prepared) = self.prepared.get() {
            return Ok(prepared);
        }
        let candidates: Vec<Candidate> = self.files.iter().map(|file| self.candidate(file)).collect::<Result<_>>()?;
        let statistics = self.merged(candidates.iter())?;
        Ok(self.prepared.get_or_init(|| Prepared { candidates, statistics }))
    }

    fn merged<'a>(&self, candidates: impl Iterator<Item = &'a Candidate>) -> Result<Statistics> {
        let each: Vec<&Statistics> =
            candidates.filter_map(|candidate| candidate.object.statistics.as_deref()).collect();
        Ok(Statistics::try_merge_iter(each, self.scan_schema.table_schema())?)
    }

    fn candidate(&self, file: &Arc<DataFile>) -> Result<Candidate> {
        let Snapshot { location, schema, partitioned_by, .. } = &self.snapshot;
        let partition = partition::scalars(&file.partition, schema, partitioned_by)
            .map_err(|error| error.context(format!("\"{location}/{}\"", file.path)))?;
        let meta = ObjectMeta {
            location: log::path_of(&format!("{location}/{}", file.path))?,
            last_modified: DateTime::from_timestamp_millis(file.modified_ms).unwrap_or_default(),
            size: file.size,
            e_tag: None,
            version: None,
        };
        let mut object = PartitionedFile::new_from_meta(meta);
        // Not `with_statistics`, which takes it that a partition value is never NULL.
        object.statistics = Some(Arc::new(self.statistics(file, &partition)));
        object.partition_values = partition;
        Ok(Candidate { file: Arc::clone(file), object })
    }

    /// What is known about one file: columns as in `scan_schema`.
    fn statistics(&self, file: &DataFile, partition: &[ScalarValue]) -> Statistics {
        let stored = self.scan_schema.file_schema().fields().iter().map(|field| {
            let Some(stats) = file.stats.get(field.name()) else {
                return ColumnStatistics::new_unknown();
            };
            let bound = |value: &Option<_>| match value.clone() {
                None => Precision::Absent,
                Some(value) if bounds_are_exact(field.data_type()) => Precision::Exact(value),
                Some(value) => Precision::Inexact(value),
            };
            let mut column = ColumnStatistics::new_unknown();
            column.null_count = Precision::Exact(stats.nulls as usize);
            (column.min_value, column.max_value) = (bound(&stats.min), bound(&stats.max));
            column
        });
        let partitions = partition.iter().map(|value| {
            let mut column = ColumnStatistics::new_unknown();
            if value.is_null() {
                column.null_count = Precision::Exact(file.rows as usize);
            } else {
                column.null_count = Precision::Exact(0);
                column.min_value = Precision::Exact(value.clone());
                column.max_value = Precision::Exact(value.clone());
            }
            column
        });
        Statistics {
            num_rows: Precision::Exact(file.rows as usize),
            total_byte_size: Precision::Inexact(file.size as usize),
            column_statistics: stored.chain(partitions).collect(),
        }
    }

    fn source(&self, session: &dyn Session) -> ParquetSource {
        let options = TableParquetOptions {
            global: session.config_options().execution.parquet.clone(),
            ..TableParquetOptions::default()
        };
        let footers = session.runtime_env().cache_manager.get_file_metadata_cache();
        let reader = CachedParquetFileReaderFactory::new(Arc::clone(&self.store), footers);
        ParquetSource::new(self.scan_schema.clone())
            .with_table_parquet_options(options)
            .with_pushdown_filters(true)
            .with_metadata_size_hint(FOOTER_BYTES)
            .with_parquet_file_reader_factory(Arc::new(reader))
    }

    fn plan(
        &self,
        session: &dyn Session,
        projection: &[usize],
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let (schema, keys) = (&self.snapshot.schema, &self.snapshot.partitioned_by);
        let prepared = self.prepared()?;
        let kept = prune::prune(session, schema, keys, &prepared.candidates, filters)?;
        if kept.is_empty() {
            return Ok(Arc::new(EmptyExec::new(Arc::new(schema.project(projection)?))));
        }
        let total = match kept.len() == prepared.candidates.len() {
            true => prepared.statistics.clone(),
            false => self.merged(kept.iter().copied())?,
        };
        let files = kept.into_iter().map(|candidate| candidate.object.clone()).collect();
        let groups = spread(files, session.config().target_partitions());
        let config = FileScanConfigBuilder::new(self.url.clone(), Arc::new(self.source(session)))
            .with_file_groups(groups)
            .with_statistics(total)
            .with_projection_indices(Some(projection.iter().map(|&at| self.places[at]).collect()))?
            .with_limit(limit)
            .build();
        Ok(DataSourceExec::from_data_source(config))
    }
}

/// Files in at most `cores` groups of about the same size; the largest files first, so that none comes late.
fn spread(mut files: Vec<PartitionedFile>, cores: usize) -> Vec<FileGroup> {
    let bytes: u64 = files.iter().map(|file| file.object_meta.size).sum();
    if bytes < SPREAD_BYTES_MIN || cores < 2 || files.len() < 2 {
        return vec![FileGroup::new(files)];
    }
    files.sort_by_key(|file| std::cmp::Reverse(file.object_meta.size));
    let mut groups: Vec<(u64, Vec<PartitionedFile>)> = vec![Default::default(); cores.min(files.len())];
    for file in files {
        if let Some(group) = groups.iter_mut().min_by_key(|(bytes, _)| *bytes) {
            group.0 += file.object_meta.size;
            group.1.push(file);
        }
    }
    groups.into_iter().map(|(_, files)| FileGroup::new(files)).collect()
}

#[async_trait]
impl TableProvider for DeltaProvider {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.snapshot.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> DfResult<Vec<TableProviderFilterPushDown>> {
        Ok(filters.iter().map(|filter| prune::support(filter, &self.snapshot.partitioned_by)).collect())
    }

    async fn scan(
        &self,
        session: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> DfResult<Arc<dyn ExecutionPlan>> {
        let all: Vec<usize>;
        let projection = match projection {
            Some(projection) => projection,
            None => {
                all = (0..self.places.len()).collect();
                &all
            }
        };
        Ok(self.plan(session, projection, filters, limit)?)
    }
}
