//! Errors in plain words: what sqlparser says, put into ours, with the place and the most likely remedy.
//!
//! ```text
//!  "Expected: end of statement, found: t at Line: 1, Column: 15"        sqlparser's text
//!        │ what           │ found          └─ the token's index ─▶ byte ─▶ file, line, caret
//!        ▼                ▼
//!  expected the end of the statement, found "t"      hint, the first that fits: a quote from a word processor,
//!                                                    AS OF behind an alias, a comma too many, a misspelled word before or at the place,
//!                                                    a missing semicolon, a clause after AS, a missing comma
//! ```
//!
//! A misspelled keyword is often taken for an alias (`SELECT a FORM t`), and the error is at the word after it: both are
//! looked at.

use datafusion::error::DataFusionError;
use sqlparser::parser::ParserError;
use sqlparser::tokenizer::Token;

use super::cursor::{Cursor, is_keyword};
use super::suggest::did_you_mean;
use super::versions;
use crate::error::Error;

/// Words of SQL that people misspell.
const WORDS: [&str; 62] = [
    "ALTER",
    "BETWEEN",
    "BUCKET",
    "CASE",
    "CAST",
    "COMMENT",
    "CONSTRAINT",
    "CREATE",
    "CROSS",
    "DELETE",
    "DISTINCT",
    "DROP",
    "ELSE",
    "EXCEPT",
    "EXISTS",
    "EXPECT",
    "EXPLAIN",
    "EXTERNAL",
    "FILTER",
    "FROM",
    "FULL",
    "GRANT",
    "GROUP",
    "HAVING",
    "INNER",
    "INSERT",
    "INTERSECT",
    "INTO",
    "JOIN",
    "LATERAL",
    "LEFT",
    "LIKE",
    "LIMIT",
    "LOCATION",
    "MATERIALIZED",
    "NULL",
    "OFFSET",
    "OPTIONS",
    "ORDER",
    "OUTER",
    "OVER",
    "PARTITION",
    "PARTITIONED",
    "POLICY",
    "REFRESH",
    "RESUME",
    "RIGHT",
    "SELECT",
    "SHOW",
    "STORED",
    "SUSPEND",
    "TABLE",
    "THEN",
    "TRUNCATE",
    "UNION",
    "UPDATE",
    "USING",
    "VALUES",
    "VIEW",
    "VIEWS",
    "WHERE",
    "WITH",
];
/// Words that begin a statement.
const STARTS: [&str; 11] =
    ["ALTER", "AUDIT", "CREATE", "DELETE", "DROP", "EXPLAIN", "GRANT", "INSERT", "REFRESH", "TRUNCATE", "UPDATE"];
/// Words after which a comma is one too many.
const AFTER_LISTS: [&str; 8] = ["AS", "FROM", "GROUP", "HAVING", "LIMIT", "ORDER", "UNION", "WHERE"];
/// Characters of a token that a message shows.
const SHOWN_CHARS_MAX: usize = 40;

/// The token at `index` is not `what`.
pub(super) fn expected(cursor: &Cursor<'_>, what: &str, index: usize) -> Error {
    let found = shown(cursor, index);
    let message = match what {
        "an SQL statement" => format!("{found} does not begin a statement"),
        _ => format!("expected {}, found {found}", wanted(what)),
    };
    let error = cursor.error_at(cursor.offset_at(index), message);
    match hint(cursor, what, index) {
        Some(hint) => error.with_hint(hint),
        None => error,
    }
}

/// An error of sqlparser's or of DataFusion's parser.
pub(super) fn translate(cursor: &Cursor<'_>, error: &DataFusionError) -> Error {
    let text = match error.find_root() {
        DataFusionError::SQL(inner, _) => match inner.as_ref() {
            ParserError::RecursionLimitExceeded => return cursor.too_deep(),
            ParserError::ParserError(text) | ParserError::TokenizerError(text) => text.clone(),
        },
        other => other.strip_backtrace(),
    };
    let (text, place) = split_place(&text);
    let expectation = text.strip_prefix("Expected").and_then(|rest| rest.split_once(", found: "));
    let placed = place.and_then(|(line, column)| cursor.index_of(line, column)).unwrap_or(cursor.index_last());
    let index = match expectation {
        Some((_, "EOF")) if place.is_none() => cursor.index(usize::MAX),
        // Without the colon, the place is that of the token after the one that is meant.
        Some((what, found)) if !what.starts_with(':') => {
            (0..=placed).rev().find(|index| cursor.text_at(*index) == found).unwrap_or(placed)
        }
        _ => placed,
    };
    let expectation = expectation.map(|(what, found)| (what.trim_start_matches(':').trim(), found));
    match expectation {
        Some((what, _)) => expected(cursor, what, index),
        None => {
            let error = cursor.error_at(cursor.offset_at(index), plain(text));
            match hint(cursor, "", index) {
                Some(hint) => error.with_hint(hint),
                None => error,
            }
        }
    }
}

/// A message of somebody else's in our style: no capital at the front, no full stop.
pub(super) fn plain(message: &str) -> String {
    let message = message.trim_start_matches("sql parser error: ").trim().trim_end_matches('.');
    let mut characters = message.chars();
    let first = characters.next();
    let acronym = characters.clone().next().is_some_and(char::is_uppercase);
    match first {
        Some(first) if !acronym => first.to_lowercase().chain(characters).collect(),
        _ => message.to_string(),
    }
}

/// `... at Line: 3, Column: 5` apart.
fn split_place(text: &str) -> (&str, Option<(u64, u64)>) {
    let parsed = text.rsplit_once(" at Line: ").and_then(|(message, place)| {
        let (line, column) = place.split_once(", Column: ")?;
        Some((message, (line.parse().ok()?, column.trim().parse().ok()?)))
    });
    match parsed {
        Some((message, place)) => (message, Some(place)),
        None => (text, None),
    }
}

/// The token for a message: as written, shortened.
fn shown(cursor: &Cursor<'_>, index: usize) -> String {
    let text = cursor.text_at(index);
    if text.is_empty() {
        return "the end of the statement".to_string();
    }
    let first_line = text.lines().next().unwrap_or_default();
    let mut short: String = first_line.chars().take(SHOWN_CHARS_MAX).collect();
    if short.len() < text.len() {
        short.push_str("...");
    }
    if text.starts_with(['\'', '"']) { short } else { format!("\"{short}\"") }
}

/// sqlparser's name for what it wanted, in words that a reader of SQL knows.
fn wanted(what: &str) -> String {
    match what {
        "end of statement" => "the end of the statement".to_string(),
        "identifier" => "a name".to_string(),
        "literal string" | "string literal" | "a string" => "text in single quotes".to_string(),
        "literal int" | "literal number" | "number" => "a number".to_string(),
        "joined table" => "a table".to_string(),
        "SELECT, VALUES, or a subquery in the query body" => "a query".to_string(),
        _ if !what.chars().any(char::is_alphanumeric) => format!("\"{what}\""),
        _ => what.to_string(),
    }
}

/// The most likely remedy.
fn hint(cursor: &Cursor<'_>, what: &str, index: usize) -> Option<String> {
    let before = cursor.before(index);
    foreign_quote(cursor, index)
        .or_else(|| foreign_space(cursor, index, before))
        .or_else(|| versions::misplaced(cursor, index, before))
        .or_else(|| comma_too_many(cursor, index, before))
        .or_else(|| misspelled(cursor, index, before))
        .or_else(|| clause_after_as(cursor, index, before))
        .or_else(|| no_semicolon(cursor, what, index, before))
        .or_else(|| open_bracket(cursor, what, index))
        .or_else(|| reserved(cursor, what, index))
        .or_else(|| comma_missing(cursor, index, before))
}

/// Curly quotes come from word processors and chat windows.
fn foreign_quote(cursor: &Cursor<'_>, index: usize) -> Option<String> {
    let curly = cursor.text_at(index).starts_with(['‘', '’', '“', '”', '`', '´']);
    curly.then(|| "text stands between straight single quotes: '...'".to_string())
}

/// Spaces that are none to SQL come from the same places.
fn foreign_space(cursor: &Cursor<'_>, index: usize, before: Option<usize>) -> Option<String> {
    let invisible = |character: &char| {
        !character.is_ascii() && character.is_whitespace() || ('\u{200b}'..='\u{200f}').contains(character)
    };
    let named = |index: usize| matches!(cursor.token_at(index), Token::Word(word) if word.quote_style.is_none());
    let within = |index: usize| cursor.text_at(index).chars().find(invisible).filter(|_| named(index));
    let character = within(index).or_else(|| within(before?))?;
    Some(format!("an unusual space, U+{:04X}, stands here; type an ordinary one", u32::from(character)))
}

fn comma_too_many(cursor: &Cursor<'_>, index: usize, before: Option<usize>) -> Option<String> {
    let comma = *cursor.token_at(before?) == Token::Comma;
    let closes = matches!(cursor.token_at(index), Token::RParen | Token::RBracket | Token::EOF)
        || AFTER_LISTS.iter().any(|word| cursor.text_at(index).eq_ignore_ascii_case(word));
    (comma && closes).then(|| format!("remove the comma before {}", shown(cursor, index)))
}

fn misspelled(cursor: &Cursor<'_>, index: usize, before: Option<usize>) -> Option<String> {
    let near = |index: usize| match cursor.token_at(index) {
        Token::Word(word) if word.quote_style.is_none() && !is_keyword(cursor.token_at(index)) => {
            did_you_mean(&word.value, WORDS).map(|known| format!("did you mean {known} instead of {}?", word.value))
        }
        _ => None,
    };
    near(index).or_else(|| near(before?))
}

/// `PARTITIONED BY`, `COMMENT` and `WITH (...)` after the query of a view.
fn clause_after_as(cursor: &Cursor<'_>, index: usize, before: Option<usize>) -> Option<String> {
    let clauses = ["PARTITIONED BY", "COMMENT", "WITH (...)"];
    let is = |index: usize, word: &str| cursor.text_at(index).eq_ignore_ascii_case(word);
    let clause = clauses.iter().find(|clause| {
        let word = clause.split(' ').next().unwrap_or_default();
        is(index, word) || before.is_some_and(|before| is(before, word))
    })?;
    let view = is(0, "CREATE") || is(0, "EXPLAIN");
    let first = (0..index).find(|index| is(*index, "AS"))?;
    (view && first < index).then(|| format!("{clause} stands before AS"))
}

fn no_semicolon(cursor: &Cursor<'_>, what: &str, index: usize, before: Option<usize>) -> Option<String> {
    if !what.contains("end of") {
        return None;
    }
    let starts = |index: usize| STARTS.iter().find(|word| cursor.text_at(index).eq_ignore_ascii_case(word));
    let at = if starts(index).is_some() { index } else { before? };
    starts(at).map(|word| format!("end the statement before {word} with a semicolon"))
}

/// Where the bracket opens that a `)` should close.
fn open_bracket(cursor: &Cursor<'_>, what: &str, index: usize) -> Option<String> {
    if !matches!(what, ")" | "\")\"") {
        return None;
    }
    let mut open = Vec::new();
    for at in 0..index {
        match cursor.token_at(at) {
            Token::LParen => open.push(at),
            Token::RParen => drop(open.pop()),
            _ => {}
        }
    }
    let place = cursor.location(cursor.offset_at(open.pop()?));
    Some(format!("the \"(\" in line {}, column {} is still open", place.line, place.column))
}

/// A word of SQL where a name belongs.
fn reserved(cursor: &Cursor<'_>, what: &str, index: usize) -> Option<String> {
    let text = cursor.text_at(index);
    let name = what == "identifier" || what.starts_with("the name") || what.starts_with("a name");
    (name && is_keyword(cursor.token_at(index)) && !text.starts_with('"'))
        .then(|| format!("{text} is a word of SQL; as a name it stands in double quotes"))
}

/// Two names in a row.
fn comma_missing(cursor: &Cursor<'_>, index: usize, before: Option<usize>) -> Option<String> {
    let name = |index: usize| matches!(cursor.token_at(index), Token::Word(_)) && !is_keyword(cursor.token_at(index));
    (name(index) && name(before?))
        .then(|| format!("is a comma or an operator missing before {}?", shown(cursor, index)))
}
