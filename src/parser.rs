//! The SQL dialect: text to [`Statement`]s. Stock sqlparser (PostgreSQL) through DataFusion's `DFParser`, and a small
//! grammar of ours over its token stream for the statements that DataFusion has not got. No fork.
//!
//! ```text
//!  input ──tokenize──▶ tokens, each with its bytes ──split at ;──▶ pieces ──limits──▶ Cursor (DFParser + bytes)
//!                                                                                        │ first words
//!          ┌──────────────────────────────┬──────────────────────────┬───────────────────┴───┬──────────────┐
//!   CREATE MATERIALIZED VIEW      CREATE [EXTERNAL] TABLE     REFRESH ALTER DROP          INSERT       anything else
//!     view.rs, options.rs               table.rs              SHOW EXPLAIN  command.rs   command.rs    DFParser as is
//!                                                             USER ROLE GRANT POLICY MASK TOKEN  access.rs
//!          │ queries, predicates, types: sqlparser
//!          ▼
//!   Parsed { statement, its exact text, its byte offset }        any mistake: complaint.rs ─▶ file, line, caret, hint
//! ```
//!
//! Texts (queries, predicates) are slices of the input, byte for byte: what is stored is what was written. Nothing here
//! looks at a catalog; whether names and types mean anything is decided by the layers above.

mod access;
mod ast;
mod command;
mod complaint;
mod cursor;
mod dialect;
mod limits;
mod object_file;
mod options;
mod suggest;
mod table;
#[cfg(test)]
mod tests;
mod text;
mod versions;
mod view;

use std::ops::Range;

use sqlparser::ast::ExprWithAlias;
use sqlparser::tokenizer::Token;

use crate::error::{Location, Result};

pub use access::PUBLIC;
pub use ast::{
    AccessStatement, AlterAction, AlterMaterializedView, Column, CreateMaterializedView, CreateReference, CreateSource,
    CreateTable, Drop, DropKind, Expectation, Forget, GrantOn, GrantWhat, Insert, OnViolation, Parsed, PartitionBy,
    Privilege, Refresh, RefreshMode, RetentionOptions, RoleLimits, Secret, SourceFormat, Statement, UserChange,
    ViewOptions,
};
pub use limits::{BRACKETS_DEPTH_MAX, INPUT_BYTES_MAX, QUERY_PARTS_MAX, RUN_TOKENS_MAX, STATEMENT_BYTES_MAX};
pub use object_file::{ObjectFile, parse_object_file};
pub use options::{INTERVAL_MS_MAX, interval_ms};
pub use suggest::did_you_mean;

use cursor::Cursor;
use dialect::Budgeted;
use text::{Piece, Script};

/// Stack that parsing one statement may take; with less left it runs on a stack of its own.
const STACK_NEEDED_BYTES: usize = 8 << 20;
/// Size of that stack; memory only as far as it is used.
const STACK_BYTES: usize = 32 << 20;

/// All statements of a text, separated by `;`. An empty text, or one of comments alone, holds none.
///
/// `file` is what errors name; `None` is text typed at a prompt.
///
/// # Errors
/// `Syntax`, with the place in `input`.
pub fn parse(input: &str, file: Option<&str>) -> Result<Vec<Parsed>> {
    let script = Script::new(input, file);
    let mut statements = Vec::new();
    for piece in script.pieces()? {
        let (offset, end) = (piece.start, piece.end);
        let statement = whole(script, piece, statement)?;
        statements.push(Parsed { statement, text: input[offset..end].to_string(), offset });
    }
    Ok(statements)
}

/// All of one piece. Each level of sqlparser's recursion takes some 20 kB of stack, more than a worker's thread has for
/// the levels that are allowed.
fn whole<T>(script: Script<'_>, mut piece: Piece, parse: impl FnOnce(&mut Cursor<'_>) -> Result<T>) -> Result<T> {
    let versions = versions::prepare(&mut piece);
    let dialect = Budgeted::new(piece.tokens.len(), versions);
    let mut cursor = Cursor::new(script, piece, &dialect)?;
    stacker::maybe_grow(STACK_NEEDED_BYTES, STACK_BYTES, || {
        let parsed = parse(&mut cursor)?;
        cursor.expect_end()?;
        Ok(parsed)
    })
}

/// One query, such as the text of a view's, for `SessionState::statement_to_plan`. Unlike the session's own parsing of a
/// text, this takes linear time over nested calls.
///
/// # Errors
/// `Syntax`, with the place in `text`, also where there is no statement or more than one.
pub fn parse_query(text: &str) -> Result<datafusion::sql::parser::Statement> {
    within(text, |cursor| cursor.datafusion())
}

/// One expression, such as the predicate of an expectation, for `SessionState::create_logical_expr_from_sql_expr`.
///
/// # Errors
/// `Syntax`, with the place in `text`.
pub fn parse_expression(text: &str) -> Result<ExprWithAlias> {
    within(text, |cursor| {
        let expr = cursor.parse(|parser| parser.parser.parse_expr())?;
        Ok(ExprWithAlias { expr, alias: None })
    })
}

fn within<T>(text: &str, parse: impl FnOnce(&mut Cursor<'_>) -> Result<T>) -> Result<T> {
    let script = Script::new(text, None);
    let mut pieces = script.pieces()?;
    let piece = match pieces.len() {
        1 => pieces.remove(0),
        _ => return Err(script.error(pieces.get(1).map_or(0, |piece| piece.start), "expected one query or expression")),
    };
    whole(script, piece, parse)
}

/// The tokens of a text, white space and comments included, each with its bytes; `None` where one has no end.
pub fn tokens(input: &str) -> Option<Vec<(Token, Range<usize>)>> {
    text::tokens(input)
}

/// Do two texts differ in nothing but white space and comments?
pub fn same_words(one: &str, other: &str) -> bool {
    let words = |text| {
        let tokens = text::tokens(text)?.into_iter().map(|(token, _)| token);
        Some(tokens.filter(|token| !matches!(token, Token::Whitespace(_))).collect::<Vec<_>>())
    };
    one == other || words(one).is_some_and(|words_of_one| words(other) == Some(words_of_one))
}

/// The place of a byte of `input`, for a caret. An offset past the end is the end; one inside a character is its start.
pub fn location_at(input: &str, byte_offset: usize, file: Option<&str>) -> Location {
    Script::new(input, file).location(byte_offset)
}

/// The byte offset of a 1-based line and column (in characters), which is how sqlparser's spans and DataFusion's
/// diagnostics tell a place. Beyond the text: its end.
pub fn offset_of(input: &str, line: u64, column: u64) -> usize {
    text::offset_of(input, line, column)
}

/// One statement, by its first words. The cursor stands after it; what follows is an error of the caller's.
fn statement(cursor: &mut Cursor<'_>) -> Result<Statement> {
    if let Some(statement) = access::statement(cursor)? {
        return Ok(statement);
    }
    if cursor.at_words(&["CREATE"]) {
        return create(cursor);
    }
    if cursor.at_words(&["EXPLAIN"]) {
        return command::explain(cursor);
    }
    if cursor.at_words(&["INSERT"]) {
        return command::insert(cursor);
    }
    if cursor.take_words(&["REFRESH"]) {
        return command::refresh(cursor);
    }
    if cursor.take_words(&["FORGET"]) {
        return command::forget(cursor);
    }
    if cursor.take_words(&["AUDIT"]) {
        return command::audit(cursor);
    }
    if cursor.take_words(&["ALTER", "MATERIALIZED"]) {
        return command::alter(cursor);
    }
    if let Some(kind) = command::drop_kind(cursor)? {
        return command::drop(cursor, kind);
    }
    if cursor.take_words(&["SHOW", "MATERIALIZED"]) {
        cursor.expect_words(&["VIEWS"], "SHOW MATERIALIZED")?;
        return Ok(Statement::ShowMaterializedViews);
    }
    Ok(Statement::Sql(Box::new(cursor.datafusion()?)))
}

/// `CREATE ...`: a view, a table, an external table, or one of DataFusion's.
fn create(cursor: &mut Cursor<'_>) -> Result<Statement> {
    let Some((kind, modifier)) = table::created(cursor) else {
        return Ok(Statement::Sql(Box::new(cursor.datafusion()?)));
    };
    if let Some(modifier) = modifier {
        return Err(table::no_modifier(cursor, kind, &modifier));
    }
    match kind {
        table::Created::View => Ok(Statement::CreateMaterializedView(view::create(cursor)?)),
        table::Created::Table => Ok(Statement::CreateTable(table::create(cursor)?)),
        table::Created::External => table::create_external(cursor),
    }
}
