//! `t VERSION AS OF 17`, `t TIMESTAMP AS OF ...`, `t FOR SYSTEM_TIME AS OF ...`: where they may stand.
//!
//! ```text
//!   tokens ─ three words that say so? ─no─▶ AT, BEFORE and CHANGES after a table are names, as ever
//!                   └yes─▶ FOR VERSION | TIMESTAMP AS OF: without its FOR ─▶ sqlparser reads versions of tables
//!   what defines something: a query or condition that names one ─▶ refused at the table
//! ```

use std::ops::ControlFlow;

use sqlparser::ast::{Spanned, TableFactor, Visit, Visitor};
use sqlparser::tokenizer::{Location, Token, Whitespace};

use super::cursor::Cursor;
use super::text::Piece;
use crate::error::{Error, Result};

/// What defines something may not name a version.
const DEFINED: &str = "a view follows its inputs as they change; AS OF is for queries";

/// Whether a statement names a version of a table. A `FOR` that sqlparser does not know becomes white space.
pub(super) fn prepare(piece: &mut Piece) -> bool {
    let is = |index: usize, words: &[&str]| match &piece.tokens[index].token {
        Token::Word(word) => {
            word.quote_style.is_none() && words.iter().any(|other| word.value.eq_ignore_ascii_case(other))
        }
        _ => false,
    };
    let words = piece.tokens.iter().enumerate();
    let words = words.filter(|(_, token)| !matches!(token.token, Token::Whitespace(_)));
    let words = words.map(|(index, _)| index).collect::<Vec<_>>();
    let (mut named, mut needless) = (false, vec![]);
    for (at, three) in words.windows(3).enumerate() {
        let known = is(three[0], &["VERSION", "TIMESTAMP"]);
        if (known || is(three[0], &["SYSTEM_TIME"])) && is(three[1], &["AS"]) && is(three[2], &["OF"]) {
            named = true;
            needless.extend(at.checked_sub(1).map(|at| words[at]).filter(|before| known && is(*before, &["FOR"])));
        }
    }
    for index in needless {
        piece.tokens[index].token = Token::Whitespace(Whitespace::Space);
    }
    named
}

/// What to say where a version stands behind an alias: at its first word, or at AS, if that was taken for the alias.
pub(super) fn misplaced(cursor: &Cursor<'_>, index: usize, before: Option<usize>) -> Option<String> {
    let next = |index: usize| (index + 1..).find(|index| !matches!(cursor.token_at(*index), Token::Whitespace(_)));
    let is = |index: usize, words: &[&str]| words.iter().any(|word| cursor.text_at(index).eq_ignore_ascii_case(word));
    let names = |index: usize| {
        is(index, &["VERSION", "TIMESTAMP", "SYSTEM_TIME"])
            && next(index)
                .is_some_and(|index| is(index, &["AS"]) && next(index).is_some_and(|index| is(index, &["OF"])))
    };
    let first = [Some(index), before, next(index).filter(|_| is(index, &["FOR"]))];
    let misplaced = first.into_iter().flatten().any(names);
    misplaced.then(|| {
        "AS OF stands behind the table's name, and its alias behind that: FROM s.t VERSION AS OF 17 AS x".into()
    })
}

/// Refuse a version of a table in what defines a view, an expectation, a policy or a mask.
///
/// # Errors
/// `Syntax` at the table.
pub(super) fn refuse(cursor: &Cursor<'_>, definition: &impl Visit, offset: usize) -> Result<()> {
    let ControlFlow::Break(at) = definition.visit(&mut First) else { return Ok(()) };
    let offset = cursor.index_of(at.line, at.column).map_or(offset, |index| cursor.offset_at(index));
    Err(no_version(cursor, offset))
}

fn no_version(cursor: &Cursor<'_>, offset: usize) -> Error {
    cursor
        .error_at(offset, "a definition cannot name a version of a table")
        .with_detail("what it says would stay as it was then")
        .with_hint(DEFINED)
}

/// Finds the first table with a version.
struct First;

impl Visitor for First {
    type Break = Location;

    fn pre_visit_table_factor(&mut self, table: &TableFactor) -> ControlFlow<Location> {
        match table {
            TableFactor::Table { name, version: Some(_), .. } => ControlFlow::Break(name.span().start),
            _ => ControlFlow::Continue(()),
        }
    }
}
