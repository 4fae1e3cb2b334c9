//! Statements of a prompt: what each one does to the lake.
//!
//! ```text
//!  query, SHOW, SET, EXPLAIN query ─▶ DataFusion, on the pinned session
//!  EXPLAIN [CREATE] MATERIALIZED VIEW ─▶ the refresh plan as rows
//!  CREATE, DROP, ALTER ─▶ definitions ─┐
//!  INSERT ─▶ one commit ───────────────┼─▶ passes until the change is published ─▶ done
//!  REFRESH ────────────────────────────┘
//! ```

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::StringArray;
use arrow::datatypes::{DataType, Field, Schema};
use arrow::record_batch::RecordBatch;
use datafusion::execution::SessionState;
use datafusion::logical_expr::{DmlStatement, LogicalPlan, WriteOp};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::prelude::{SQLOptions, SessionContext};

use crate::catalog::Principal;
use crate::catalog::definitions::Kind;
use crate::engine::as_of::Planned;
use crate::engine::epochs::{full_of, views_due};
use crate::engine::parameters::{self, Described};
use crate::engine::{Answer, Engine, Pass, PassRequest, ProjectObject, State, apply};
use crate::error::{Error, ErrorKind, Result};
use crate::name::TableName;
use crate::parser::{self, AlterAction, DropKind, Parsed, Privilege, Statement};
use crate::refresh::compile::{Readable, ReadableKind, ReadableTable};
use crate::refresh::execute::{collect, conform, stream};
use crate::refresh::pass::source_schema;
use crate::storage::Commit;

/// Passes that one statement may take until its change is published.
const PASSES_MAX: usize = 1_000;

impl Engine {
    /// Run one statement of the dialect (query, DDL, DML, REFRESH, EXPLAIN, SHOW, SET) in `session`.
    ///
    /// # Errors
    /// Any kind; the text is meant for the user.
    pub async fn execute(&self, session: &SessionContext, principal: &Principal, sql: &str) -> Result<Answer> {
        self.execute_with(session, principal, sql, &RecordBatch::new_empty(Arc::new(Schema::empty()))).await
    }

    /// As [`Engine::execute`], with values: a column for each of `$1`, `$2`, ..., of the types that
    /// [`Engine::describe`] tells; a row for each execution. An INSERT of many rows is one commit, an UPDATE, DELETE
    /// or MERGE is one for each row.
    ///
    /// # Errors
    /// As [`Engine::execute`]; `Query` for a parameter without a value.
    pub async fn execute_with(
        &self,
        session: &SessionContext,
        principal: &Principal,
        sql: &str,
        values: &RecordBatch,
    ) -> Result<Answer> {
        let parsed = single(sql)?;
        self.allowed(principal, &parsed.statement).await?;
        match &parsed.statement {
            Statement::Sql(_) => {
                let Planned { plan, held } = self.plan_of(session, &parsed.statement, sql).await?;
                let answer = self.query(session, principal, parameters::bound(plan, values)?).await?;
                Ok(Planned::until_the_end(held, answer))
            }
            Statement::ShowMaterializedViews => {
                let query = "SELECT view_name, mode, rows, version, frontier, target_lag_ms, suspended, reason \
                             FROM system.materialized_views";
                rows(session, session.state().create_logical_plan(query).await?).await
            }
            Statement::Explain(view) => self.explain(view, sql).await,
            Statement::ExplainView(name) => self.explain_view(name).await,
            Statement::Audit(name) => self.audit(name).await,
            Statement::Forget(forget) => self.forget(principal, forget).await,
            Statement::CreateMaterializedView(_) | Statement::CreateSource(_) | Statement::CreateReference(_) => {
                self.create(sql).await
            }
            Statement::CreateTable(table) => self.create_table(session, table, &parsed, sql).await,
            Statement::Insert(_) => {
                let Planned { plan, held: _held } = self.plan_of(session, &parsed.statement, sql).await?;
                self.insert(&session.state(), parameters::bound(plan, values)?).await
            }
            Statement::Refresh(refresh) => self.refresh(refresh).await,
            Statement::AlterMaterializedView(alter) => match alter.action {
                AlterAction::Suspend | AlterAction::Resume => self.alter(&alter.name, alter.action).await,
                AlterAction::Declassify | AlterAction::Classify => self.classify_view(&alter.name, alter.action).await,
            },
            Statement::Drop(drop) => self.drop_object(&drop.name, drop.kind, drop.if_exists).await,
            Statement::Access(statement) => self.change_access(principal, statement).await,
        }
    }

    /// What a principal without all rights may do: ask, and change rows where that was granted. Objects are made and
    /// explained by administrators.
    async fn allowed(&self, principal: &Principal, statement: &Statement) -> Result<()> {
        match statement {
            _ if principal.is_admin() => Ok(()),
            Statement::Sql(_) | Statement::ShowMaterializedViews | Statement::Access(_) => Ok(()),
            Statement::Insert(insert) => {
                self.may_change(principal, Privilege::Insert, &insert.name, "insert rows into").await
            }
            Statement::Explain(_) | Statement::ExplainView(_) | Statement::Audit(_) => {
                Err(principal.denied("look into how views are kept"))
            }
            Statement::CreateMaterializedView(_)
            | Statement::CreateSource(_)
            | Statement::CreateReference(_)
            | Statement::CreateTable(_)
            | Statement::Refresh(_)
            | Statement::AlterMaterializedView(_)
            | Statement::Drop(_) => Err(principal.denied("create, refresh, alter or drop objects")),
            Statement::Forget(_) => Err(principal.denied("forget rows")),
        }
    }

    /// The parameters of a query, INSERT, UPDATE, DELETE, MERGE or EXPLAIN, and the columns of its rows. Nothing is
    /// carried out.
    ///
    /// # Errors
    /// `Syntax`, `Definition`.
    pub async fn describe(&self, session: &SessionContext, sql: &str) -> Result<Described> {
        let parsed = single(sql)?;
        parameters::describe(&session.state(), self.plan_of(session, &parsed.statement, sql).await?.plan)
    }

    async fn query(
        &self,
        session: &SessionContext,
        principal: &Principal,
        mut plans: Vec<LogicalPlan>,
    ) -> Result<Answer> {
        if let Some(LogicalPlan::Dml(dml)) = plans.first() {
            self.may_modify(principal, dml).await?;
            return self.modify_each(&session.state(), &plans).await;
        }
        let (Some(plan), true) = (plans.pop(), plans.is_empty()) else {
            return Err(Error::new(ErrorKind::Query, "a query takes one row of values")
                .with_hint("execute it once for each row"));
        };
        let allowed = SQLOptions::new().with_allow_ddl(false).with_allow_dml(false);
        // SET reaches settings that all sessions share.
        let allowed = allowed.with_allow_statements(principal.is_admin());
        allowed.verify_plan(&plan).map_err(|error| {
            Error::from(error).with_hint("the statements that change a lake are CREATE MATERIALIZED VIEW, CREATE TABLE, INSERT, UPDATE, DELETE, MERGE, TRUNCATE, REFRESH, ALTER, DROP")
        })?;
        rows(session, plan).await
    }

    async fn may_modify(&self, principal: &Principal, dml: &DmlStatement) -> Result<()> {
        let name = crate::refresh::compile::table_name(&dml.table_name);
        let rights: &[(Privilege, &str)] = match &dml.op {
            WriteOp::Update => &[(Privilege::Update, "update")],
            WriteOp::Delete => &[(Privilege::Delete, "delete from")],
            WriteOp::Truncate => &[(Privilege::Delete, "truncate")],
            WriteOp::Insert(_) => &[(Privilege::Insert, "insert rows into")],
            _ => &[
                (Privilege::Insert, "merge into"),
                (Privilege::Update, "merge into"),
                (Privilege::Delete, "merge into"),
            ],
        };
        // The rows that a condition finds can be told from how many were changed.
        for (privilege, verb) in rights.iter().chain([&(Privilege::Select, "look for rows of")]) {
            self.may_change(principal, *privilege, &name, verb).await?;
        }
        Ok(())
    }

    /// One statement for each row of its values. What the first ones have done stays when a later one fails.
    async fn modify_each(&self, session: &SessionState, plans: &[LogicalPlan]) -> Result<Answer> {
        let (mut answer, mut total) = (done("nothing to do".into(), Some(0)), 0);
        for (before, plan) in plans.iter().enumerate() {
            let LogicalPlan::Dml(dml) = plan else { continue };
            let modified = self.modify(session, dml).await;
            answer = modified.map_err(|error| match plans.len() {
                1 => error,
                of => error.context(format!("after {before} of {of} rows of values, which stay carried out")),
            })?;
            if let Answer::Done { rows_affected: Some(rows), .. } = &mut answer {
                total += *rows;
                *rows = total;
            }
        }
        Ok(answer)
    }

    pub(super) async fn create(&self, sql: &str) -> Result<Answer> {
        let object = ProjectObject { file: None, sql: sql.to_string(), data: None };
        let mut state = self.state.lock().await;
        let applied = self.apply_in(&mut state, &[object], &[]).await?;
        let (name, outcome) = applied.first().cloned().unwrap_or((TableName::new("", ""), super::Applied::Unchanged));
        self.settle(&mut state).await?;
        let mut said = format!("{name}: {}", format!("{outcome:?}").to_lowercase());
        let published = Arc::clone(&self.published.borrow());
        let refreshed = published.refreshes.get(&name).filter(|_| outcome != super::Applied::Unchanged);
        if let Some(error) = refreshed.and_then(|facts| facts.error.as_ref()) {
            said += &format!("; its first refresh failed, and is tried again with the next one: {error}");
        }
        Ok(done(said, None))
    }

    async fn create_table(
        &self,
        session: &SessionContext,
        table: &parser::CreateTable,
        parsed: &Parsed,
        sql: &str,
    ) -> Result<Answer> {
        if self.kind(&table.name).is_some() {
            return match table.if_not_exists {
                true => Ok(done(format!("{} is there", table.name), None)),
                false => Err(Error::new(ErrorKind::AlreadyExists, format!("{} exists", table.name))
                    .with_hint("CREATE TABLE IF NOT EXISTS leaves it as it is")),
            };
        }
        let Some(query) = &table.query else { return self.create(&parsed.text).await };
        let state = session.state();
        let planned = self.plan_as_of(session, parser::parse_query(query)?, query).await;
        let Planned { plan, held: _held } = planned.map_err(|error| located(error, sql))?;
        let schema = crate::refresh::compile::stored_schema(plan.schema())?;
        self.create(&create_text(&table.name, &schema)?).await?;
        let batches = collect(&state, plan).await?;
        let batches = batches.iter().map(|batch| conform(batch, &schema)).collect::<Result<Vec<_>>>()?;
        self.append(&table.name, batches).await
    }

    /// The plan of a statement that has one.
    async fn plan_of(&self, session: &SessionContext, statement: &Statement, sql: &str) -> Result<Planned> {
        let statement = match statement {
            Statement::Sql(statement) => statement,
            Statement::Insert(insert) => &insert.statement,
            _ => {
                return Err(Error::new(ErrorKind::Definition, "this statement takes no parameters")
                    .with_detail("queries, INSERT, UPDATE, DELETE, MERGE and EXPLAIN do"));
            }
        };
        let planned = self.plan_as_of(session, statement.as_ref().clone(), sql).await;
        planned.map_err(|error| located(error, sql))
    }

    /// The rows of all plans in one commit. They are of one statement, so that they have one table.
    async fn insert(&self, session: &SessionState, plans: Vec<LogicalPlan>) -> Result<Answer> {
        let (mut name, mut batches) = (None, vec![]);
        for plan in plans {
            let LogicalPlan::Dml(dml) = plan else {
                return Err(Error::new(ErrorKind::Internal, "INSERT planned as something else"));
            };
            if dml.op != WriteOp::Insert(datafusion::logical_expr::dml::InsertOp::Append) {
                return Err(Error::new(ErrorKind::Definition, format!("{} is not built yet", dml.op)));
            }
            name = Some(crate::refresh::compile::table_name(&dml.table_name));
            batches.extend(collect(session, dml.input.as_ref().clone()).await?);
        }
        match name {
            Some(name) => self.append(&name, batches).await,
            None => Ok(done("INSERT 0".into(), Some(0))),
        }
    }

    /// One commit of rows to an ordinary table, and the epoch that holds it.
    async fn append(&self, name: &TableName, batches: Vec<RecordBatch>) -> Result<Answer> {
        let mut state = self.state.lock().await;
        let Some(location) = state.graph.tables.get(name).cloned() else {
            return Err(Error::new(ErrorKind::Definition, format!("{name} takes no INSERT"))
                .with_hint("only ordinary tables do; views follow their inputs"));
        };
        let snapshot = self.storage.snapshot(&location, None).await?;
        let batches = batches.iter().filter(|batch| batch.num_rows() > 0);
        let batches = batches.map(|batch| conform(batch, &snapshot.schema)).collect::<Result<Vec<_>>>()?;
        let rows = batches.iter().map(|batch| batch.num_rows() as u64).sum::<u64>();
        if rows > 0 {
            let epoch = self.published.borrow().epoch;
            let add = self.storage.stage(&snapshot, epoch, &batches).await?;
            let commit = Commit { add, data_change: true, operation: "WRITE", ..Commit::default() };
            self.storage.commit(&location, commit).await?;
            self.settle(&mut state).await?;
        }
        Ok(done(format!("INSERT {rows}"), Some(rows)))
    }

    async fn refresh(&self, asked: &parser::Refresh) -> Result<Answer> {
        let (name, full) = (&asked.name, asked.full);
        let mut state = self.state.lock().await;
        let Some(slot) = state.graph.slots.get(name).cloned() else { return Err(no_view(name)) };
        if state.definitions.objects.get(name).is_some_and(|object| object.suspended) {
            return Err(Error::new(ErrorKind::Definition, format!("{name} is suspended"))
                .with_hint(format!("ALTER MATERIALIZED VIEW {name} RESUME")));
        }
        if let (true, Some(source)) =
            (full, slot.view.inputs.iter().find(|input| state.graph.sources.contains_key(*input)))
        {
            return Err(Error::new(ErrorKind::Definition, format!("{name} cannot be recomputed from {source}"))
                .with_detail("a stream holds its records for a while only; this view is where they are kept"));
        }
        if full {
            let request = PassRequest { all: false, full: vec![name.clone()] };
            if !asked.force {
                self.nothing_is_lost(&state, &full_of(&views_due(&state), &request))?;
            }
            self.pass_in(&mut state, &request).await?;
        }
        self.settle(&mut state).await?;
        if let Some((_, facts)) = self.last_refresh(name) {
            if let Some(error) = facts.error {
                return Err(Error::new(ErrorKind::Query, format!("{name} was not refreshed: {error}")));
            }
            return Ok(done(
                format!("REFRESH {name}: {}, {} rows ({})", facts.mode, facts.rows_out, facts.reason),
                None,
            ));
        }
        Ok(done(format!("REFRESH {name}: nothing has come yet"), None))
    }

    /// Passes over everything until there is nothing new.
    pub(super) async fn settle(&self, state: &mut State) -> Result<()> {
        for _ in 0..PASSES_MAX {
            let request = PassRequest { all: true, full: vec![] };
            match self.pass_in(state, &request).await? {
                Pass::Idle(_) | Pass::Published { caught_up: true, .. } => return Ok(()),
                Pass::Published { .. } => {}
            }
        }
        Ok(())
    }

    async fn alter(&self, name: &TableName, action: AlterAction) -> Result<Answer> {
        let mut state = self.state.lock().await;
        if !state.graph.slots.contains_key(name) {
            return Err(no_view(name));
        }
        self.finish_first(&mut state).await?;
        let desired = apply::stored(&state.definitions)?;
        let mut graph = self.build(&desired, &state.definitions, false).await?;
        if let Some(object) = graph.definitions.objects.get_mut(name) {
            object.suspended = action == AlterAction::Suspend;
        }
        self.install(&mut state, graph).await?;
        state.last_us.remove(name);
        Ok(done(format!("{name}: {}", if action == AlterAction::Suspend { "suspended" } else { "resumed" }), None))
    }

    pub(super) async fn drop_object(&self, name: &TableName, kind: DropKind, if_exists: bool) -> Result<Answer> {
        let mut state = self.state.lock().await;
        let found = state.definitions.objects.get(name).map(|object| object.kind);
        let fits = match kind {
            DropKind::MaterializedView => found == Some(Kind::View),
            DropKind::Table => matches!(found, Some(Kind::Table | Kind::Source)),
        };
        if !fits {
            return match (found, if_exists) {
                (None, true) => Ok(done(format!("{name} is not there"), None)),
                (None, false) => Err(Error::new(ErrorKind::NotFound, format!("there is no {name}"))),
                (Some(_), _) => Err(Error::new(ErrorKind::Definition, format!("{name} is of another kind"))
                    .with_hint("DROP MATERIALIZED VIEW for a view, DROP TABLE for a table or a source")),
            };
        }
        let readers = state.graph.slots.iter().filter(|(_, slot)| slot.view.inputs.contains(name));
        let readers = readers.map(|(reader, _)| reader.to_string()).collect::<Vec<_>>();
        if !readers.is_empty() {
            return Err(Error::new(ErrorKind::Definition, format!("{name} is read by {}", readers.join(", ")))
                .with_hint("drop those first"));
        }
        self.finish_first(&mut state).await?;
        let mut desired = apply::stored(&state.definitions)?;
        desired.remove(name);
        let graph = self.build(&desired, &state.definitions, false).await?;
        self.forget_access(name).await?;
        self.install(&mut state, graph).await?;
        Ok(done(format!("{name}: dropped; its files stay in the lake for 7 days"), None))
    }

    pub(super) async fn readable(&self) -> Result<Readable> {
        let graph = Arc::clone(&self.graph.read());
        let mut readable = BTreeMap::new();
        for (name, location) in &graph.tables {
            let schema = self.storage.snapshot(location, None).await?.schema;
            readable.insert(name.clone(), table(&graph, name, schema, ReadableKind::Table));
        }
        for name in graph.sources.keys() {
            readable.insert(name.clone(), table(&graph, name, source_schema(), ReadableKind::Source));
        }
        for (name, slot) in &graph.slots {
            let of_view = table(&graph, name, Arc::clone(&slot.view.schema), slot.view.kind);
            readable.insert(name.clone(), ReadableTable { expires: slot.view.retention.is_some(), ..of_view });
        }
        Ok(readable)
    }
}

fn single(sql: &str) -> Result<Parsed> {
    let mut statements = parser::parse(sql, None)?;
    match (statements.pop(), statements.is_empty()) {
        (Some(parsed), true) => Ok(parsed),
        _ => Err(Error::new(ErrorKind::Syntax, "one statement at a time")
            .with_hint("flash sql -c takes several, separated by ;")),
    }
}

fn table(
    graph: &super::Graph,
    name: &TableName,
    schema: arrow::datatypes::SchemaRef,
    kind: ReadableKind,
) -> ReadableTable {
    let fingerprint = graph.definitions.objects.get(name).map(|object| object.fingerprint.clone()).unwrap_or_default();
    ReadableTable { schema, fingerprint, kind, expires: false }
}

pub(super) fn no_view(name: &TableName) -> Error {
    Error::new(ErrorKind::NotFound, format!("there is no materialized view {name}"))
        .with_hint("SHOW MATERIALIZED VIEWS lists them")
}

pub(super) fn done(message: String, rows_affected: Option<u64>) -> Answer {
    Answer::Done { message, rows_affected }
}

async fn rows(session: &SessionContext, plan: LogicalPlan) -> Result<Answer> {
    let frame = session.execute_logical_plan(plan).await?;
    let schema = Arc::clone(frame.schema().inner());
    let (state, plan) = frame.into_parts();
    Ok(Answer::Rows { schema, stream: stream(&state, plan).await? })
}

pub(super) fn text_rows(column: &str, lines: Vec<String>) -> Result<Answer> {
    let schema = Arc::new(Schema::new(vec![Field::new(column, DataType::Utf8, false)]));
    let batch = RecordBatch::try_new(Arc::clone(&schema), vec![Arc::new(StringArray::from(lines))])?;
    let stream = futures::stream::iter([Ok(batch)]);
    Ok(Answer::Rows { schema: Arc::clone(&schema), stream: Box::pin(RecordBatchStreamAdapter::new(schema, stream)) })
}

/// Put the statement's text below an error that has no place of its own.
fn located(error: Error, sql: &str) -> Error {
    match (error.location(), error.kind()) {
        (None, ErrorKind::Syntax | ErrorKind::Definition) => error.with_location(parser::location_at(sql, 0, None)),
        _ => error,
    }
}

/// CREATE TABLE with these columns.
pub(super) fn create_text(name: &TableName, schema: &Schema) -> Result<String> {
    let quoted = |name: &str| format!("\"{}\"", name.replace('"', "\"\""));
    let columns = schema.fields().iter();
    let columns = columns.map(|field| Ok(format!("{} {}", quoted(field.name()), sql_type(field.data_type())?)));
    let columns = columns.collect::<Result<Vec<_>>>()?.join(", ");
    Ok(format!("CREATE TABLE {}.{} ({columns})", quoted(&name.schema), quoted(&name.name)))
}

/// The SQL spelling of a stored type.
fn sql_type(data_type: &DataType) -> Result<String> {
    Ok(match data_type {
        DataType::Utf8 => "VARCHAR".into(),
        DataType::Binary => "BYTEA".into(),
        DataType::Boolean => "BOOLEAN".into(),
        DataType::Int8 | DataType::Int16 => "SMALLINT".into(),
        DataType::Int32 => "INT".into(),
        DataType::Int64 => "BIGINT".into(),
        DataType::Float32 => "REAL".into(),
        DataType::Float64 => "DOUBLE".into(),
        DataType::Date32 => "DATE".into(),
        DataType::Decimal128(precision, scale) => format!("DECIMAL({precision}, {scale})"),
        DataType::Timestamp(_, None) => "TIMESTAMP".into(),
        DataType::Timestamp(_, Some(_)) => "TIMESTAMPTZ".into(),
        other => {
            return Err(Error::new(
                ErrorKind::Definition,
                format!("a column of type {other} has no SQL spelling here"),
            )
            .with_hint("CAST it in the query"));
        }
    })
}
