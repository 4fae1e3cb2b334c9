//! The versions that a statement names: found, taken out, and understood.
//!
//! ```text
//!   FROM gold.kpis VERSION AS OF 17          ─▶ Named { gold.kpis, its place in the text, VERSION AS OF 17 }
//!   FROM gold.kpis FOR SYSTEM_TIME AS OF ... ─▶ ...              and 0, 1, 2 ... stand in the statement
//!
//!   17                    ─▶ Wanted::Version
//!   '...', now() - ..     ─▶ Wanted::Moment    one value, known before the query runs; without a zone it is UTC
//! ```

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::sync::Arc;

use arrow::datatypes::{DataType, TimeUnit};
use datafusion::common::{DFSchema, ScalarValue};
use datafusion::execution::SessionState;
use datafusion::logical_expr::Expr;
use datafusion::logical_expr::simplify::SimplifyContext;
use datafusion::optimizer::simplify_expressions::ExprSimplifier;
use datafusion::sql::parser::{CopyToSource, Statement};
use sqlparser::ast::{
    Expr as SqlExpr, ExprWithAlias, FromTable, Ident, ObjectName, Query, Spanned, Statement as SqlStatement,
    TableFactor, TableVersion, Value, ValueWithSpan, Visit, VisitMut, Visitor, VisitorMut,
};
use sqlparser::tokenizer::Location as Place;

use crate::catalog::versioned;
use crate::epoch::Version;
use crate::error::{Error, ErrorKind, Result};
use crate::parser;

/// Versions that one statement may name: each may be looked up in a dozen objects of the lake.
const VERSIONS_MAX: usize = 64;

/// How a moment is written, for hints.
const MOMENTS: &str = "write TIMESTAMP AS OF '2026-11-24 10:00:00', which is UTC, '2026-11-24T15:30:00+05:30', or \
                       now() - INTERVAL '10 minutes'";

/// A table at a version, as a statement names it.
#[derive(Debug)]
pub(super) struct Named {
    /// The table.
    pub(super) name: ObjectName,
    version: TableVersion,
    place: Place,
}

/// What a statement asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wanted {
    Version(Version),
    /// In microseconds since 1970 UTC.
    Moment(i64),
}

/// Take the versions out of a statement, in the order of the numbers that stand there instead.
///
/// # Errors
/// `Definition`, with the place in `sql`.
pub(super) fn take(statement: &mut Statement, sql: &str) -> Result<Vec<Named>> {
    let mut names = Names::default();
    if let ControlFlow::Break((place, error)) = visit(statement, &mut names) {
        return Err(located(error, place, sql));
    }
    let is_cte = |named: &&Named| match named.name.0.as_slice() {
        [part] => part.as_ident().is_some_and(|ident| names.ctes.contains(&normal(ident))),
        _ => false,
    };
    match names.found.iter().find(is_cte) {
        None => Ok(names.found),
        Some(named) => Err(named.located(
            Error::new(
                ErrorKind::Definition,
                format!("{} is a query of this statement, and has no versions", named.name),
            )
            .with_hint("put AS OF behind the tables that it reads"),
            sql,
        )),
    }
}

fn visit(statement: &mut Statement, names: &mut Names) -> ControlFlow<(Place, Error)> {
    match statement {
        Statement::Statement(statement) => VisitMut::visit(statement.as_mut(), names),
        Statement::Explain(explain) => visit(&mut explain.statement, names),
        Statement::CopyTo(copy) => match &mut copy.source {
            CopyToSource::Query(query) => VisitMut::visit(query.as_mut(), names),
            CopyToSource::Relation(_) => ControlFlow::Continue(()),
        },
        Statement::CreateExternalTable(_) | Statement::Reset(_) => ControlFlow::Continue(()),
    }
}

#[derive(Debug, Default)]
struct Names {
    found: Vec<Named>,
    ctes: BTreeSet<String>,
}

impl VisitorMut for Names {
    type Break = (Place, Error);

    fn pre_visit_statement(&mut self, statement: &mut SqlStatement) -> ControlFlow<Self::Break> {
        match target(statement) {
            Some(TableFactor::Table { name, version: Some(_), .. }) => ControlFlow::Break((
                name.span().start,
                Error::new(ErrorKind::Definition, format!("{name} is changed as it is now, not as it was"))
                    .with_hint("AS OF belongs behind tables that are read"),
            )),
            _ => ControlFlow::Continue(()),
        }
    }

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<Self::Break> {
        let ctes = query.with.iter().flat_map(|with| &with.cte_tables);
        self.ctes.extend(ctes.map(|cte| normal(&cte.alias.name)));
        ControlFlow::Continue(())
    }

    fn pre_visit_table_factor(&mut self, table: &mut TableFactor) -> ControlFlow<Self::Break> {
        let TableFactor::Table { name, version, args, .. } = table else { return ControlFlow::Continue(()) };
        let Some(slot) = version.as_mut() else { return ControlFlow::Continue(()) };
        let place = name.span().start;
        if args.is_some() {
            let error = Error::new(ErrorKind::Definition, format!("{name} is a function, and has no versions"));
            return ControlFlow::Break((place, error));
        }
        if self.found.len() >= VERSIONS_MAX {
            let error = Error::new(ErrorKind::Definition, "this statement names too many versions")
                .with_detail(format!("the limit is {VERSIONS_MAX} tables AS OF something"));
            return ControlFlow::Break((place, error));
        }
        let version = std::mem::replace(slot, versioned::number(self.found.len()));
        self.found.push(Named { name: name.clone(), version, place });
        ControlFlow::Continue(())
    }
}

/// The table that a statement changes.
fn target(statement: &SqlStatement) -> Option<&TableFactor> {
    match statement {
        SqlStatement::Update(update) => Some(&update.table.relation),
        SqlStatement::Delete(delete) => {
            let (FromTable::WithFromKeyword(tables) | FromTable::WithoutKeyword(tables)) = &delete.from;
            tables.first().map(|table| &table.relation)
        }
        SqlStatement::Merge(merge) => Some(&merge.table),
        _ => None,
    }
}

fn normal(name: &Ident) -> String {
    if name.quote_style.is_some() { name.value.clone() } else { name.value.to_ascii_lowercase() }
}

fn located(error: Error, place: Place, sql: &str) -> Error {
    error.with_location(parser::location_at(sql, parser::offset_of(sql, place.line, place.column), None))
}

impl Named {
    /// An error at this table.
    pub(super) fn located(&self, error: Error, sql: &str) -> Error {
        located(error, self.place, sql)
    }

    /// What is asked for. `state` tells what time it is.
    ///
    /// # Errors
    /// `Definition`.
    pub(super) fn wanted(&self, state: &SessionState) -> Result<Wanted> {
        match &self.version {
            TableVersion::VersionAsOf(version) => {
                no_parameter(version)?;
                version.to_string().parse().map(Wanted::Version).map_err(|_| {
                    Error::new(ErrorKind::Definition, format!("{version} is no version"))
                        .with_hint("a version is a whole number, as in system.versions")
                })
            }
            TableVersion::TimestampAsOf(moment) | TableVersion::ForSystemTimeAsOf(moment) => {
                no_parameter(moment)?;
                moment_us(state, moment).map(Wanted::Moment)
            }
            TableVersion::Function(_) | TableVersion::Changes { .. } => {
                Err(Error::new(ErrorKind::Definition, "this way to name a version is another database's")
                    .with_hint("write VERSION AS OF 17, or TIMESTAMP AS OF '2026-11-24 10:00:00'"))
            }
        }
    }
}

/// A statement is planned before it has values, and which columns a table had depends on its version.
fn no_parameter(expr: &SqlExpr) -> Result<()> {
    struct Parameter;
    impl Visitor for Parameter {
        type Break = ();
        fn pre_visit_value(&mut self, value: &ValueWithSpan) -> ControlFlow<()> {
            if matches!(value.value, Value::Placeholder(_)) {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        }
    }
    match Visit::visit(expr, &mut Parameter) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(()) => Err(Error::new(ErrorKind::Definition, "AS OF takes no parameter")
            .with_detail("which columns a table has depends on its version, and is known when a statement is prepared")
            .with_hint("write the version or the moment into the statement")),
    }
}

/// A moment in microseconds since 1970 UTC.
fn moment_us(state: &SessionState, moment: &SqlExpr) -> Result<i64> {
    let nothing = Arc::new(DFSchema::empty());
    let named = ExprWithAlias { expr: moment.clone(), alias: None };
    let expr = state.create_logical_expr_from_sql_expr(named, &nothing);
    let expr = expr.map_err(|error| not_known(moment).with_detail(Error::from(error).message()))?;
    let context = SimplifyContext::builder()
        .with_schema(Arc::clone(&nothing))
        .with_config_options(Arc::clone(state.config_options()))
        .with_query_execution_start_time(state.execution_props().query_execution_start_time);
    let simplifier = ExprSimplifier::new(context.build());
    let value = match simplifier.simplify(simplifier.coerce(expr, &nothing)?)? {
        Expr::Literal(value, _) => value,
        _ => return Err(not_known(moment)),
    };
    let is_moment = value.data_type().is_temporal()
        && !matches!(value.data_type(), DataType::Time32(_) | DataType::Time64(_))
        || value.data_type().is_string();
    let instant = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
    match value.cast_to(&instant) {
        Ok(ScalarValue::TimestampMicrosecond(Some(moment_us), _)) if is_moment => Ok(moment_us),
        _ => Err(Error::new(ErrorKind::Definition, format!("{moment} is no moment")).with_hint(MOMENTS)),
    }
}

fn not_known(moment: &SqlExpr) -> Error {
    Error::new(ErrorKind::Definition, format!("{moment} is not known before the query runs")).with_hint(MOMENTS)
}

#[cfg(test)]
mod tests {
    use datafusion::execution::runtime_env::RuntimeEnv;
    use datafusion::prelude::SessionContext;

    use super::*;
    use crate::catalog::session::base_state;

    fn taken(sql: &str) -> Result<(String, Vec<Named>)> {
        let mut statement = parser::parse_query(sql).unwrap_or_else(|error| panic!("{}", error.render()));
        let named = take(&mut statement, sql)?;
        Ok((statement.to_string(), named))
    }

    fn wanted(version: &str) -> std::result::Result<Wanted, String> {
        let session = SessionContext::new_with_state(base_state(Arc::new(RuntimeEnv::default())));
        let (_, named) = taken(&format!("SELECT * FROM s.t {version} AS v")).unwrap();
        named[0].wanted(&session.state()).map_err(|error| error.message().to_string())
    }

    #[test]
    fn versions_are_taken_out_wherever_they_stand() {
        let (rest, named) = taken(
            "EXPLAIN WITH c AS (SELECT * FROM s.a VERSION AS OF 1) SELECT (SELECT max(x) FROM s.b FOR VERSION AS OF 2) \
             FROM c JOIN s.c FOR SYSTEM_TIME AS OF now() AS d ON true WHERE EXISTS (SELECT 1 FROM s.d FOR TIMESTAMP AS OF 'x') \
             UNION ALL SELECT * FROM (s.e TIMESTAMP AS OF now() - INTERVAL '1 hour' CROSS JOIN s.f)",
        )
        .unwrap();
        assert!(!rest.contains("AS OF") && !rest.contains("now()") && rest.contains("s.c AS d 2"), "{rest}");
        let names = named.iter().map(|named| named.name.to_string()).collect::<Vec<_>>();
        assert_eq!(names, ["s.a", "s.b", "s.c", "s.d", "s.e"]);
    }

    #[test]
    fn what_is_changed_has_no_version_and_neither_has_a_query() {
        for (sql, message, column) in [
            ("DELETE FROM s.t VERSION AS OF 1 WHERE x = 1", "s.t is changed as it is now, not as it was", 13),
            ("UPDATE s.t VERSION AS OF 1 SET x = 1", "s.t is changed as it is now, not as it was", 8),
            (
                "MERGE INTO s.t VERSION AS OF 1 USING s.u ON true WHEN MATCHED THEN DELETE",
                "s.t is changed as it is now, not as it was",
                12,
            ),
            (
                "WITH c AS (SELECT 1) SELECT * FROM C VERSION AS OF 1",
                "C is a query of this statement, and has no versions",
                36,
            ),
        ] {
            let error = taken(sql).unwrap_err();
            assert_eq!((error.message(), error.location().unwrap().column), (message, column), "{sql}");
        }
        let many = |count: usize| vec!["SELECT x FROM s.t VERSION AS OF 1"; count].join(" UNION ALL ");
        assert_eq!(taken(&many(VERSIONS_MAX)).unwrap().1.len(), VERSIONS_MAX);
        assert_eq!(taken(&many(VERSIONS_MAX + 1)).unwrap_err().message(), "this statement names too many versions");
        let (_, named) =
            taken("MERGE INTO s.t USING s.u VERSION AS OF 1 AS u ON true WHEN MATCHED THEN DELETE").unwrap();
        assert_eq!(named.len(), 1);
    }

    #[test]
    fn moments_are_utc_unless_they_say_otherwise() {
        let ten = Ok(Wanted::Moment(1_763_978_400_000_000));
        for moment in [
            "TIMESTAMP AS OF '2025-11-24 10:00:00'",
            "TIMESTAMP AS OF TIMESTAMP '2025-11-24 10:00:00'",
            "FOR SYSTEM_TIME AS OF '2025-11-24T15:30:00+05:30'",
            "FOR TIMESTAMP AS OF CAST('2025-11-24T10:00:00Z' AS TIMESTAMPTZ)",
            "TIMESTAMP AS OF TIMESTAMP '2025-11-24 11:00:00' - INTERVAL '60 minutes'",
            "TIMESTAMP AS OF to_timestamp_seconds(1763978400)",
            "TIMESTAMP AS OF TIMESTAMP '2025-11-24 15:30:00' AT TIME ZONE 'Asia/Kolkata'",
        ] {
            assert_eq!(wanted(moment), ten, "{moment}");
        }
        let Ok(Wanted::Moment(now_us)) = wanted("TIMESTAMP AS OF now() - INTERVAL '1 minute'") else { panic!() };
        let ago = chrono::Utc::now().timestamp_micros() - now_us;
        assert!((60_000_000..70_000_000).contains(&ago), "{ago}");
        assert_eq!(wanted("VERSION AS OF 17"), Ok(Wanted::Version(17)));
    }

    #[test]
    fn what_is_no_moment_is_refused() {
        for (version, message) in [
            ("TIMESTAMP AS OF 'noon'", "'noon' is no moment"),
            ("TIMESTAMP AS OF 17", "17 is no moment"),
            ("TIMESTAMP AS OF NULL", "NULL is no moment"),
            ("TIMESTAMP AS OF x", "x is not known before the query runs"),
            (
                "TIMESTAMP AS OF (SELECT max(at) FROM s.t)",
                "(SELECT max(at) FROM s.t) is not known before the query runs",
            ),
            ("TIMESTAMP AS OF $1", "AS OF takes no parameter"),
            ("VERSION AS OF $1", "AS OF takes no parameter"),
            ("VERSION AS OF 1.5", "1.5 is no version"),
        ] {
            assert_eq!(wanted(version), Err(message.to_string()), "{version}");
        }
    }
}
