//! Apply: from statements to the objects of the lake.
//!
//! ```text
//!  stored definitions ─┐
//!                      ├─▶ desired objects ─▶ in order ─▶ compile each ─▶ same fingerprint? keep its table
//!  new statements ─────┘                                        │                otherwise a new one beside it
//!                                                               ▼
//!                                      create tables ─▶ one definitions record ─▶ in memory
//! ```
//!
//! Nothing is written before everything has compiled. A changed view gets a new folder, is built there by the next
//! epoch, and readers move to it when that is published; the old one is `retired`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow::datatypes::{Field, Schema, SchemaRef};
use arrow::record_batch::RecordBatch;
use tokio::sync::Mutex;

use crate::catalog::access::Stated;
use crate::catalog::definitions::{Definitions, Kind, Object, Retired};
use crate::engine::due::in_order;
use crate::engine::stated::StatedChanges;
use crate::engine::{Applied, Engine, Graph, ProjectObject, State, retired};
use crate::error::{Error, ErrorKind, Result};
use crate::name::TableName;
use crate::parser::{self, CreateReference, CreateTable, ObjectFile, Parsed, PartitionBy, Statement};
use crate::refresh::append::quarantine_schema;
use crate::refresh::classify::Shape;
use crate::refresh::compile::{CompiledView, Readable, ReadableKind, ReadableTable, compile, stored_schema};
use crate::refresh::pass::{ViewSlot, source_schema};
use crate::refresh::retention::would_lose;
use crate::storage::Commit;

/// A reference table's file may be this large, in bytes.
const REFERENCE_BYTES_MAX: usize = 64 << 20;

/// An object with its statement.
#[derive(Debug, Clone)]
pub(super) struct Desired {
    pub sql: String,
    pub file: Option<String>,
    pub data: Option<Vec<u8>>,
    pub parsed: Parsed,
    /// Who sees what of it, as its file says.
    pub rules: Vec<Parsed>,
    pub stated: Stated,
}

impl Engine {
    /// Parse, compile, create, record. See the module.
    pub(super) async fn apply_in(
        &self,
        state: &mut State,
        objects: &[ProjectObject],
        removed: &[TableName],
    ) -> Result<Vec<(TableName, Applied)>> {
        self.finish_first(state).await?;
        let mut desired = stored(&state.definitions)?;
        desired.retain(|name, _| !removed.contains(name));
        let mut named = BTreeSet::new();
        for object in objects {
            let (name, wanted) = parse_object(object)?;
            if !named.insert(name.clone()) {
                return Err(Error::new(ErrorKind::Definition, format!("{name} is defined twice")));
            }
            desired.insert(name, wanted);
        }
        let graph = self.build(&desired, &state.definitions, true).await?;
        let mut outcome = Vec::new();
        for name in &named {
            let (old, new) = (state.definitions.objects.get(name), graph.definitions.objects.get(name));
            outcome.push((
                name.clone(),
                match (old, new) {
                    (None, _) => Applied::Created,
                    (Some(old), Some(new)) if old.fingerprint == new.fingerprint => Applied::Unchanged,
                    _ => Applied::Changed,
                },
            ));
        }
        for name in removed {
            self.forget_access(name).await?;
        }
        let stated = StatedChanges::of(&desired, &graph, named.iter().chain(removed));
        self.save_stated(|access| stated.closed(access)).await?;
        self.install(state, graph).await?;
        self.open_changed(state).await?;
        Ok(outcome)
    }

    /// Does the view keep its table, though it compiles to something else than before? A view that changes is computed
    /// anew from what it reads; a stream cannot be read anew, and what has landed of it is in the old table only.
    ///
    /// # Errors
    /// `Definition` where it can neither be kept nor be computed.
    pub(super) fn stays(
        &self,
        view: &CompiledView,
        graph: &Graph,
        old: &Definitions,
        before: &Object,
        object: &Desired,
    ) -> Result<bool> {
        let landed = self.published.borrow().tables.get(&view.name).is_some_and(|state| state.rows > 0);
        let stream = view.inputs.iter().find(|input| graph.sources.contains_key(*input));
        if !landed || before.fingerprint == view.fingerprint {
            return Ok(false);
        }
        let expired = self.expired_input(view, old, graph);
        if stream.or(expired).is_none() {
            return Ok(false);
        }
        // Rows one by one, with nothing beside them: what another version of the program adds fits what is there.
        let plain = matches!(view.shape, Shape::Linear { .. }) && view.definition.options.unique_key.is_empty();
        if plain
            && parser::parse_object_file(&before.sql, None)
                .is_ok_and(|it| parser::same_words(&it.object.text, &object.parsed.text))
        {
            return Ok(true);
        }
        let name = &view.name;
        let Some(stream) = stream else {
            return match expired {
                Some(_) if view.definition.options.ignores_expired => Ok(false),
                Some(input) => Err(would_lose(name, input)),
                None => Ok(false),
            };
        };
        let text = format!("{name} reads the stream {stream}, and holds what has landed of it: it cannot be changed");
        Err(Error::new(ErrorKind::Definition, text)
            .with_detail("its new table would begin empty, and so would everything above it")
            .with_hint(format!(
                "put the change into a view above it; or DROP it with its rows, and read the stream again: \
                 flash backfill {name} --since ..."
            )))
    }

    /// Views that an older version of the program had compiled otherwise are built anew, beside what they were.
    pub(super) async fn bring_up_to_date(&self, state: &mut State) -> Result<()> {
        if state.graph.outdated {
            tracing::info!("views of another version of the program are built anew");
            self.apply_in(state, &[], &[]).await?;
        }
        Ok(())
    }

    /// Record a new graph, if it differs, and use it.
    pub(super) async fn install(&self, state: &mut State, mut graph: Graph) -> Result<()> {
        graph.definitions.number = state.definitions.number;
        if graph.definitions.objects != state.definitions.objects {
            let now_us = self.clock.now_us();
            let then_us = |epoch| {
                let history = self.history.read();
                history.iter().find(|record| record.epoch == epoch).map(|record| record.now_us)
            };
            let mut replaced = retired::replaced(&state.graph, &graph, &self.published.borrow(), then_us, now_us);
            replaced.extend(retired::dropped(&state.graph, &graph, now_us));
            // The newest is what counts of a table that was retired before.
            graph.definitions.retired.retain(|old| replaced.iter().all(|it| it.object.location != old.object.location));
            graph.definitions.retired.extend(replaced);
            graph.definitions.save(self.storage.as_ref()).await?;
        }
        state.definitions = graph.definitions.clone();
        // A view that is the same keeps what it holds in memory.
        for (name, slot) in &mut graph.slots {
            if let Some(old) = state.graph.slots.get(name).filter(|old| old.location == slot.location) {
                let held = old.unique.lock().await.take();
                *slot.unique.lock().await = held;
            }
        }
        state.graph = Arc::new(graph);
        *self.graph.write() = Arc::clone(&state.graph);
        self.definitions.send_replace(state.definitions.number);
        Ok(())
    }

    /// Compile all objects. `create`: also make the tables that are missing.
    pub(super) async fn build(
        &self,
        desired: &BTreeMap<TableName, Desired>,
        old: &Definitions,
        create: bool,
    ) -> Result<Graph> {
        let mut graph = Graph::default();
        graph.definitions.retired.clone_from(&old.retired);
        let mut readable = Readable::new();
        for (name, object) in desired {
            self.build_table(name, object, old, create, &mut graph, &mut readable).await?;
        }
        let quarantines: BTreeMap<_, _> = desired.keys().map(|name| (name.quarantine(), name.clone())).collect();
        let mut reads = BTreeMap::new();
        for (name, object) in desired {
            if let Statement::CreateMaterializedView(view) = &object.parsed.statement {
                let reads_of = self.references(view, object)?;
                // What is built on a quarantine comes after the view that fills it.
                let view_of = |name: TableName| quarantines.get(&name).cloned().unwrap_or(name);
                reads.insert(name.clone(), reads_of.into_iter().map(view_of).collect());
            }
        }
        let order = in_order(&reads).map_err(|name| {
            Error::new(ErrorKind::Definition, format!("{name} is built on itself")).with_hint("break the cycle")
        })?;
        for name in order {
            self.build_view(&name, &desired[&name], old, create, &mut graph, &mut readable).await?;
        }
        Ok(graph)
    }

    /// A view whose inputs are there.
    pub(super) async fn build_view(
        &self,
        name: &TableName,
        object: &Desired,
        old: &Definitions,
        create: bool,
        graph: &mut Graph,
        readable: &mut Readable,
    ) -> Result<()> {
        let Statement::CreateMaterializedView(definition) = &object.parsed.statement else { return Ok(()) };
        let view = compile(&self.base, definition, readable, &object.sql, object.file.as_deref()).await?;
        one_reader(graph, &view, readable)?;
        self.same_clock(&view, old)?;
        self.check_rules(object, &view.schema)?;
        let entry = self.place(&view, object, graph, old, create).await?;
        readable.insert(
            name.clone(),
            ReadableTable {
                schema: Arc::clone(&view.schema),
                fingerprint: view.fingerprint.clone(),
                kind: view.kind,
                expires: view.retention.is_some(),
            },
        );
        if let Some(folder) = &entry.quarantine {
            readable.insert(
                name.quarantine(),
                ReadableTable {
                    schema: quarantine_schema(&view.schema),
                    fingerprint: format!("{} {folder}", view.fingerprint),
                    kind: ReadableKind::Log,
                    expires: false,
                },
            );
        }
        graph.outdated |= entry.fingerprint != view.fingerprint;
        graph.order.push(name.clone());
        let slot = ViewSlot {
            location: entry.location.clone(),
            quarantine: entry.quarantine.clone(),
            unique: Mutex::new(None),
            view,
        };
        graph.slots.insert(name.clone(), Arc::new(slot));
        graph.definitions.objects.insert(name.clone(), entry);
        Ok(())
    }

    /// Sources, ordinary tables and reference tables.
    pub(super) async fn build_table(
        &self,
        name: &TableName,
        object: &Desired,
        old: &Definitions,
        create: bool,
        graph: &mut Graph,
        readable: &mut Readable,
    ) -> Result<()> {
        let mut entry = Object {
            kind: Kind::Table,
            sql: object.sql.clone(),
            file: object.file.clone(),
            location: String::new(),
            quarantine: None,
            fingerprint: String::new(),
            suspended: false,
        };
        let (schema, kind) = match &object.parsed.statement {
            Statement::CreateSource(source) => {
                entry.kind = Kind::Source;
                // Where a source reads from can change without a change of what was read.
                entry.fingerprint = format!("source {name}");
                graph.sources.insert(name.clone(), source.clone());
                (source_schema(), ReadableKind::Source)
            }
            Statement::CreateReference(reference) => {
                let schema = self.columns_schema(&reference.columns).await?;
                self.place_reference(name, reference, object, &schema, old, create, &mut entry).await?;
                (schema, ReadableKind::Table)
            }
            Statement::CreateTable(table) => {
                let schema = self.table_schema(table).await?;
                let partitions = plain_partitions(&table.partitioned_by)?;
                entry.fingerprint = hash(&format!("table {schema:?} {partitions:?}"));
                self.place_table(name, &schema, &partitions, table.comment.as_deref(), old, create, &mut entry).await?;
                (schema, ReadableKind::Table)
            }
            _ => return Ok(()),
        };
        self.check_rules(object, &schema)?;
        readable.insert(
            name.clone(),
            ReadableTable { schema, fingerprint: entry.fingerprint.clone(), kind, expires: false },
        );
        if entry.kind == Kind::Table {
            graph.tables.insert(name.clone(), entry.location.clone());
        }
        graph.definitions.objects.insert(name.clone(), entry);
        Ok(())
    }

    #[expect(clippy::too_many_arguments, reason = "one call, all of them needed")]
    async fn place_table(
        &self,
        name: &TableName,
        schema: &SchemaRef,
        partitions: &[String],
        comment: Option<&str>,
        old: &Definitions,
        create: bool,
        entry: &mut Object,
    ) -> Result<()> {
        let before = old.objects.get(name);
        if let Some(before) = before.filter(|before| before.fingerprint == entry.fingerprint) {
            entry.location.clone_from(&before.location);
            return Ok(());
        }
        if before.is_some_and(|before| before.kind == Kind::Table) {
            return Err(Error::new(ErrorKind::Definition, format!("{name} exists with other columns"))
                .with_hint(format!("DROP TABLE {name} first; its rows go with it")));
        }
        if create {
            entry.location = self.fresh_table(old, name, &entry.fingerprint, schema, partitions, comment).await?;
        }
        Ok(())
    }

    #[expect(clippy::too_many_arguments, reason = "one call, all of them needed")]
    async fn place_reference(
        &self,
        name: &TableName,
        reference: &CreateReference,
        object: &Desired,
        schema: &SchemaRef,
        old: &Definitions,
        create: bool,
        entry: &mut Object,
    ) -> Result<()> {
        let before = old.objects.get(name);
        let Some(data) = &object.data else {
            // A restart: the rows are in the lake.
            return match before {
                Some(before) => {
                    entry.clone_from(before);
                    Ok(())
                }
                None => Err(Error::new(ErrorKind::Definition, format!("{name}: {} was not found", reference.location))
                    .with_hint("LOCATION is relative to the SQL file")),
            };
        };
        if data.len() > REFERENCE_BYTES_MAX {
            return Err(Error::new(
                ErrorKind::Definition,
                format!("{} is too large for a reference table", reference.location),
            )
            .with_hint("load it with CREATE TABLE and INSERT"));
        }
        let content = twox_hash::XxHash3_128::oneshot(data) as u64;
        entry.fingerprint = hash(&format!("csv {schema:?} {:?} {content:016x}", reference.options));
        if let Some(before) = before.filter(|before| before.fingerprint == entry.fingerprint) {
            entry.location.clone_from(&before.location);
            return Ok(());
        }
        let batches = read_csv(data, schema, reference)?;
        if create {
            entry.location = self.fresh_table(old, name, &entry.fingerprint, schema, &[], None).await?;
            let snapshot = self.storage.snapshot(&entry.location, None).await?;
            let add = self.storage.stage(&snapshot, 0, &batches).await?;
            let commit = Commit { add, data_change: true, operation: "WRITE", ..Commit::default() };
            self.storage.commit(&entry.location, commit).await?;
        }
        Ok(())
    }

    /// The table of a view: the one it has, when the fingerprint is the same or nothing is to be made; else a new one.
    async fn place(
        &self,
        view: &CompiledView,
        object: &Desired,
        graph: &Graph,
        old: &Definitions,
        create: bool,
    ) -> Result<Object> {
        let before = old.objects.get(&view.name);
        let mut entry = Object {
            kind: Kind::View,
            sql: object.sql.clone(),
            file: object.file.clone(),
            location: String::new(),
            quarantine: None,
            fingerprint: view.fingerprint.clone(),
            suspended: before.is_some_and(|before| before.suspended),
        };
        if let Some(before) = before.filter(|before| !create || before.fingerprint == view.fingerprint) {
            entry.location.clone_from(&before.location);
            entry.quarantine.clone_from(&before.quarantine);
            entry.fingerprint.clone_from(&before.fingerprint);
            return Ok(entry);
        }
        if let Some(before) = before
            && self.stays(view, graph, old, before, object)?
        {
            entry.location.clone_from(&before.location);
            entry.quarantine.clone_from(&before.quarantine);
            return Ok(entry);
        }
        let now_us = self.clock.now_us();
        let former = retired::former(view, graph, old, now_us, self.storage.retention_ms()).filter(|_| create);
        if let Some(former) = former
            && self.stands_where_it_was(former).await?
        {
            entry.location.clone_from(&former.object.location);
            entry.quarantine.clone_from(&former.object.quarantine);
            return Ok(entry);
        }
        if create {
            let comment = view.definition.comment.as_deref();
            entry.location = self
                .fresh_table(old, &view.name, &view.fingerprint, &view.schema, &view.partitioned_by, comment)
                .await?;
            if view.expectations.quarantines() {
                let schema = quarantine_schema(&view.schema);
                let name = view.name.quarantine();
                entry.quarantine = Some(self.fresh_table(old, &name, &view.fingerprint, &schema, &[], None).await?);
            }
        }
        Ok(entry)
    }

    /// Does a retired table hold what was last read of it, and nothing else?
    async fn stands_where_it_was(&self, retired: &Retired) -> Result<bool> {
        for state in retired.states.values() {
            if self.storage.snapshot(&state.location, None).await?.epoch > state.frontier {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Create an empty table: at `schema/name` if nothing was ever there, else beside it. What somebody has or had is never
    /// given out again, however empty; what a crash has left is.
    async fn fresh_table(
        &self,
        old: &Definitions,
        name: &TableName,
        fingerprint: &str,
        schema: &SchemaRef,
        partitions: &[String],
        comment: Option<&str>,
    ) -> Result<String> {
        let plain = format!("{}/{}", name.schema, name.name);
        let beside = format!("{plain}-{}", &fingerprint[..8.min(fingerprint.len())]);
        let unused = format!("{beside}-{}", uuid::Uuid::new_v4().simple());
        let known: BTreeSet<String> = {
            let objects = old.objects.values().chain(old.retired.iter().map(|retired| &retired.object));
            let read = self.published.borrow();
            let read = read.tables.values().map(|state| state.location.clone());
            objects.flat_map(Object::folders).cloned().chain(read).collect()
        };
        for location in [plain, beside].into_iter().filter(|location| !known.contains(location)) {
            match self.storage.create(&location, schema, partitions, comment).await {
                Ok(snapshot) if snapshot.version == 0 => return Ok(location),
                Ok(_) => {}
                // Another schema lives there; a type that no table can hold fails the last attempt, too.
                Err(error) if error.kind() == ErrorKind::Definition => {}
                Err(error) => return Err(error.context(name)),
            }
        }
        self.storage.create(&unused, schema, partitions, comment).await.map_err(|error| error.context(name))?;
        Ok(unused)
    }

    /// The stored schema of declared columns: what CAST makes of their types.
    async fn columns_schema(&self, columns: &[parser::Column]) -> Result<SchemaRef> {
        let casts =
            columns.iter().enumerate().map(|(index, column)| format!("CAST(NULL AS {}) AS c{index}", column.data_type));
        let plan = self.base.create_logical_plan(&format!("SELECT {}", casts.collect::<Vec<_>>().join(", "))).await?;
        let types = stored_schema(plan.schema())?;
        let fields = types.fields().iter().zip(columns);
        let fields = fields.map(|(field, column)| Field::new(&column.name, field.data_type().clone(), column.nullable));
        Ok(Arc::new(Schema::new(fields.collect::<Vec<_>>())))
    }

    async fn table_schema(&self, table: &CreateTable) -> Result<SchemaRef> {
        match table.columns.is_empty() {
            false => self.columns_schema(&table.columns).await,
            true => Err(Error::new(ErrorKind::Definition, format!("{} has no columns", table.name))
                .with_hint("CREATE TABLE ... AS SELECT works at a prompt; in sql/ write the columns, or a view")),
        }
    }

    /// The objects that a view's query names.
    pub(super) fn references(
        &self,
        view: &parser::CreateMaterializedView,
        object: &Desired,
    ) -> Result<BTreeSet<TableName>> {
        let located = |error: datafusion::error::DataFusionError| {
            let at = parser::location_at(&object.sql, view.query_offset, object.file.as_deref());
            Error::from(error).with_location(at)
        };
        let statement = parser::parse_query(&view.query)?;
        let references = self.base.resolve_table_references(&statement).map_err(located)?;
        let qualified = references.iter().filter(|reference| reference.schema().is_some());
        Ok(qualified.map(crate::refresh::compile::table_name).collect())
    }
}

/// A source feeds one view: it is read once.
fn one_reader(graph: &Graph, view: &CompiledView, readable: &Readable) -> Result<()> {
    let source = |name: &&TableName| readable.get(*name).is_some_and(|table| table.kind == ReadableKind::Source);
    for input in view.inputs.iter().filter(source) {
        if let Some((other, _)) = graph.slots.iter().find(|(_, slot)| slot.view.inputs.contains(input)) {
            return Err(Error::new(ErrorKind::Definition, format!("{input} is read by {other} already"))
                .with_detail("a stream is read once, by one view")
                .with_hint(format!("build {} on {other}", view.name)));
        }
    }
    Ok(())
}

/// The stored definitions as objects.
pub(super) fn stored(definitions: &Definitions) -> Result<BTreeMap<TableName, Desired>> {
    let mut desired = BTreeMap::new();
    for (name, object) in &definitions.objects {
        let project = ProjectObject { file: object.file.clone(), sql: object.sql.clone(), data: None };
        // Rules are looked at when they are applied; the lake holds them apart.
        let (_, stored) = parse_object(&project)?;
        desired.insert(name.clone(), Desired { rules: vec![], ..stored });
    }
    Ok(desired)
}

pub(super) fn parse_object(object: &ProjectObject) -> Result<(TableName, Desired)> {
    let ObjectFile { name, object: parsed, rules } = parser::parse_object_file(&object.sql, object.file.as_deref())?;
    let stated = Stated::of(&rules).map_err(|error| error.context(&name))?;
    let (sql, file, data) = (object.sql.clone(), object.file.clone(), object.data.clone());
    Ok((name, Desired { sql, file, data, parsed, rules, stated }))
}

fn plain_partitions(partitions: &[PartitionBy]) -> Result<Vec<String>> {
    let plain = partitions.iter().map(|partition| match partition {
        PartitionBy::Column(column) => Ok(column.clone()),
        PartitionBy::Bucket { .. } => Err(Error::new(ErrorKind::Definition, "bucket partitions are not built yet")),
    });
    plain.collect()
}

fn read_csv(data: &[u8], schema: &SchemaRef, reference: &CreateReference) -> Result<Vec<RecordBatch>> {
    let header = reference.options.get("format.has_header").or(reference.options.get("has_header"));
    let header = header.is_none_or(|value| value != "false");
    let reader = arrow::csv::ReaderBuilder::new(Arc::clone(schema)).with_header(header).build(data);
    let batches = reader.and_then(Iterator::collect::<std::result::Result<Vec<_>, _>>);
    batches.map_err(|error| {
        Error::new(ErrorKind::Definition, format!("{} does not fit its columns", reference.location))
            .with_detail(error.to_string())
    })
}

fn hash(text: &str) -> String {
    format!("{:016x}", (twox_hash::XxHash3_128::oneshot(text.as_bytes())) as u64)
}
