//! The short statements.
//!
//! ```text
//!  REFRESH MATERIALIZED VIEW s.n [FULL]              DROP MATERIALIZED VIEW | TABLE [IF EXISTS] s.n
//!  ALTER MATERIALIZED VIEW s.n SUSPEND | RESUME ..   INSERT INTO s.n [(columns)] query | VALUES ...
//!  EXPLAIN CREATE MATERIALIZED VIEW ...              EXPLAIN | AUDIT MATERIALIZED VIEW s.n
//! ```

use datafusion::sql::parser::Statement as DataFusionStatement;
use sqlparser::ast::{Insert as SqlInsert, ObjectName, ObjectNamePart, Statement as SqlStatement};
use sqlparser::tokenizer::Token;

use super::ast::{AlterAction, AlterMaterializedView, Drop, DropKind, Forget, Insert, Refresh, Statement};
use super::cursor::Cursor;
use super::limits::RECURSION_DEPTH_MAX;
use super::suggest::did_you_mean;
use super::{table, view};
use crate::error::{Error, Result};
use crate::name::TableName;

/// After `REFRESH`.
pub(super) fn refresh(cursor: &mut Cursor<'_>) -> Result<Statement> {
    cursor.expect_words(&["MATERIALIZED", "VIEW"], "REFRESH")?;
    let name = cursor.name()?;
    let full = cursor.take_words(&["FULL"]);
    let force = full && cursor.take_words(&["FORCE"]);
    if *cursor.peek(0) != Token::EOF {
        let error = cursor.expected(match full {
            true => "FORCE or the end of the statement",
            false => "FULL or the end of the statement",
        });
        return Err(match cursor.word(0).map(|word| word.value.to_ascii_uppercase()).as_deref() {
            Some("WHERE") => error.with_hint("a refresh takes in all changes; FULL recomputes the whole view"),
            Some("CONCURRENTLY" | "WITH") => error.with_hint("leave it away: readers never wait for a refresh"),
            _ => error,
        });
    }
    Ok(Statement::Refresh(Refresh { name, full, force }))
}

/// After `FORGET`.
pub(super) fn forget(cursor: &mut Cursor<'_>) -> Result<Statement> {
    cursor.expect_words(&["WHERE"], "FORGET")?;
    let column = cursor.identifier("the name of a column")?;
    cursor.expect(&Token::Eq, &format!("\"=\" after {column}"))?;
    let at = cursor.offset();
    let value = match cursor.peek(0) {
        Token::Number(number, _) => {
            let number = number.clone();
            cursor.skip(1);
            number
        }
        _ => cursor.string("a text in single quotes, or a number")?,
    };
    if value.is_empty() {
        return Err(cursor.error_at(at, "an empty text names nobody"));
    }
    let comment = match cursor.take_words(&["COMMENT"]) {
        true => Some(cursor.string("a comment in single quotes")?),
        false => None,
    };
    Ok(Statement::Forget(Forget { column, value, comment }))
}

/// After `AUDIT`.
pub(super) fn audit(cursor: &mut Cursor<'_>) -> Result<Statement> {
    cursor.expect_words(&["MATERIALIZED", "VIEW"], "AUDIT")?;
    Ok(Statement::Audit(cursor.name()?))
}

/// After `ALTER MATERIALIZED`.
pub(super) fn alter(cursor: &mut Cursor<'_>) -> Result<Statement> {
    cursor.expect_words(&["VIEW"], "MATERIALIZED")?;
    let name = cursor.name()?;
    let action = if cursor.take_words(&["SUSPEND"]) {
        AlterAction::Suspend
    } else if cursor.take_words(&["RESUME"]) {
        AlterAction::Resume
    } else if cursor.take_words(&["DECLASSIFY"]) {
        AlterAction::Declassify
    } else if cursor.take_words(&["CLASSIFY"]) {
        AlterAction::Classify
    } else {
        let actions = ["SUSPEND", "RESUME", "DECLASSIFY", "CLASSIFY"];
        let error = cursor.expected("SUSPEND, RESUME, DECLASSIFY or CLASSIFY");
        return Err(match cursor.word(0).and_then(|word| did_you_mean(&word.value, actions)) {
            Some(known) => error.with_hint(format!("did you mean {known}?")),
            None => error.with_hint("to change a view, change the text of its CREATE MATERIALIZED VIEW"),
        });
    };
    Ok(Statement::AlterMaterializedView(AlterMaterializedView { name, action }))
}

/// Goes past `DROP MATERIALIZED VIEW` or `DROP TABLE`; None, and stays, where there is neither.
pub(super) fn drop_kind(cursor: &mut Cursor<'_>) -> Result<Option<DropKind>> {
    if cursor.at_words(&["DROP", "EXTERNAL", "TABLE"]) {
        cursor.skip(1);
        return Err(cursor
            .expected("TABLE or MATERIALIZED VIEW")
            .with_hint("an external table goes with DROP TABLE, too"));
    }
    if cursor.take_words(&["DROP", "MATERIALIZED"]) {
        cursor.expect_words(&["VIEW"], "MATERIALIZED")?;
        return Ok(Some(DropKind::MaterializedView));
    }
    Ok(cursor.take_words(&["DROP", "TABLE"]).then_some(DropKind::Table))
}

/// After the kind.
pub(super) fn drop(cursor: &mut Cursor<'_>, kind: DropKind) -> Result<Statement> {
    let if_exists = cursor.take_words(&["IF", "EXISTS"]);
    let name = cursor.name()?;
    if *cursor.peek(0) != Token::EOF {
        let error = cursor.expected("the end of the statement");
        return Err(match cursor.peek(0) {
            Token::Comma => error.with_hint("drop one object a statement"),
            _ if cursor.is_word(0, "CASCADE") => error.with_hint("drop the views that are built on it first"),
            _ => error,
        });
    }
    Ok(Statement::Drop(Drop { kind, name, if_exists }))
}

/// At `EXPLAIN`.
pub(super) fn explain(cursor: &mut Cursor<'_>) -> Result<Statement> {
    if cursor.take_words(&["EXPLAIN", "MATERIALIZED"]) {
        cursor.expect_words(&["VIEW"], "MATERIALIZED")?;
        return Ok(Statement::ExplainView(cursor.name()?));
    }
    if cursor.at_words(&["EXPLAIN", "REFRESH"]) {
        cursor.skip(1);
        return Err(cursor
            .error("EXPLAIN takes the view, not its refresh")
            .with_hint("write EXPLAIN MATERIALIZED VIEW schema.name"));
    }
    // DataFusion's parser recurses for each EXPLAIN without counting.
    if cursor.count_words("EXPLAIN") > RECURSION_DEPTH_MAX {
        return Err(cursor.too_deep());
    }
    let options = (1..4).take_while(|nth| ["ANALYZE", "VERBOSE"].iter().any(|word| cursor.is_word(*nth, word))).count();
    let made = |nth: usize| {
        cursor.is_word(nth, "CREATE")
            && (cursor.is_word(nth + 1, "MATERIALIZED")
                || ["OR", "REPLACE", "MATERIALIZED"].iter().zip(nth + 1..).all(|(word, nth)| cursor.is_word(nth, word)))
    };
    if !made(1 + options) {
        return Ok(Statement::Sql(Box::new(cursor.datafusion()?)));
    }
    if options > 0 {
        return Err(cursor
            .error_at(cursor.offset_nth(1), "EXPLAIN CREATE MATERIALIZED VIEW takes no options")
            .with_hint("explain the view's query to see how it runs: EXPLAIN ANALYZE SELECT ..."));
    }
    cursor.skip(1);
    match table::created(cursor) {
        Some((table::Created::View, None)) => Ok(Statement::Explain(Box::new(view::create(cursor)?))),
        Some((kind, Some(modifier))) => Err(table::no_modifier(cursor, kind, &modifier)),
        _ => Err(cursor.expected("VIEW after MATERIALIZED")),
    }
}

/// At `INSERT`. Our own look at the name, for its place; DataFusion's parser does the rest.
pub(super) fn insert(cursor: &mut Cursor<'_>) -> Result<Statement> {
    let start = cursor.offset();
    if !cursor.is_word(1, "INTO") {
        cursor.skip(1);
        let overwrite = cursor.is_word(0, "OVERWRITE");
        return Err(cursor.expected("INTO after INSERT").with_hint(match overwrite {
            true => "TRUNCATE the table, then INSERT INTO it",
            false => "write INSERT INTO schema.name",
        }));
    }
    let nth = if cursor.is_word(2, "TABLE") { 3 } else { 2 };
    let (name, _) = cursor.name_ahead(nth)?;
    let statement = cursor.datafusion()?;
    let DataFusionStatement::Statement(inner) = &statement else {
        return Err(cursor.error_at(start, "INSERT INTO takes a query or VALUES"));
    };
    let SqlStatement::Insert(insert) = inner.as_ref() else {
        return Err(cursor.error_at(start, "INSERT INTO takes a query or VALUES"));
    };
    if let Some((word, why)) = unsupported(insert) {
        return Err(no_insert_clause(cursor, start, word, why));
    }
    let columns = insert.columns.iter().map(column_name).collect::<Option<Vec<_>>>();
    let columns = columns.ok_or_else(|| cursor.error_at(start, "the columns of INSERT INTO are plain names"))?;
    Ok(insert_statement(name, columns, statement))
}

fn insert_statement(name: TableName, columns: Vec<String>, statement: DataFusionStatement) -> Statement {
    Statement::Insert(Insert { name, columns, statement: Box::new(statement) })
}

/// A clause that would be dropped silently, and why it is not there.
fn unsupported(insert: &SqlInsert) -> Option<(&'static str, &'static str)> {
    if insert.on.is_some() {
        return Some(("ON CONFLICT", "a table has no unique key; a view may have one: WITH (unique_key = '...')"));
    }
    if insert.returning.is_some() {
        return Some(("RETURNING", "select the rows after the insert"));
    }
    if insert.partitioned.is_some() {
        return Some(("PARTITION", "rows find their partition by themselves"));
    }
    insert.source.is_none().then_some(("DEFAULT", "write VALUES (...) or a query"))
}

fn no_insert_clause(cursor: &Cursor<'_>, start: usize, word: &str, why: &str) -> Error {
    let end = cursor.index(0);
    let first = word.split(' ').next().unwrap_or_default();
    let index = (0..end).rev().find(|index| cursor.text_at(*index).eq_ignore_ascii_case(first));
    let offset = index.map_or(start, |index| cursor.offset_at(index));
    cursor.error_at(offset, format!("INSERT INTO takes no {word}")).with_hint(why)
}

fn column_name(name: &ObjectName) -> Option<String> {
    match name.0.as_slice() {
        [ObjectNamePart::Identifier(part)] if part.quote_style.is_some() => Some(part.value.clone()),
        [ObjectNamePart::Identifier(part)] => Some(part.value.to_ascii_lowercase()),
        _ => None,
    }
}
