//! The limits of a text, checked on its tokens before anything recurses over them.
//!
//! ```text
//!  a + ( b , c )  ;        depth: open brackets. sqlparser counts most of its own recursion, not all of it.
//!  └run┘ └┘  └┘            run: tokens with no bracket, comma or other end between them. A chain such as
//!                          1 + 1 + 1 + ... is a tree as deep as the run is long, and trees are cloned and dropped
//!                          recursively: at 4,000 terms a clone overflows a stack of 2 MB.
//!  FROM a, b JOIN c        parts: tables of one FROM, and queries of one UNION; they, too, become a deep tree.
//!  UNION SELECT ...
//! ```
//!
//! A list of any length (VALUES, IN, the columns of SELECT) has short runs and is one part.

use std::mem;

use sqlparser::tokenizer::{Token, TokenWithSpan};

use super::text::{Piece, Script};
use crate::error::{Error, Result};

/// Bytes of a text, all statements together.
pub const INPUT_BYTES_MAX: usize = 4 << 20;
/// Bytes of one statement.
pub const STATEMENT_BYTES_MAX: usize = 1 << 20;
/// Brackets open at once.
pub const BRACKETS_DEPTH_MAX: usize = 64;
/// Levels of recursion in sqlparser, which is also DataFusion's own default.
pub(super) const RECURSION_DEPTH_MAX: usize = 50;
/// Tokens in a row without a bracket or comma between them.
pub const RUN_TOKENS_MAX: usize = 2_000;
/// Tables of one FROM and queries of one UNION, together.
pub const QUERY_PARTS_MAX: usize = 500;
/// The same token in a row: `NOT NOT NOT ...`, `INTERVAL INTERVAL ...`.
const REPEATED_TOKENS_MAX: usize = 16;
/// Bytes of one part of a name.
pub(super) const NAME_BYTES_MAX: usize = 128;
/// Columns, partition columns, options, expectations of one statement.
pub(super) const ITEMS_MAX: usize = 2_000;
/// Buckets of one `bucket(count, column)`.
pub(super) const BUCKETS_MAX: u32 = 10_000;

/// What has been counted between two brackets.
#[derive(Debug, Default)]
struct Level {
    run: usize,
    parts: usize,
    in_from: bool,
}

impl Level {
    fn count(&mut self, token: &Token) {
        self.run += 1;
        match token {
            Token::Comma => {
                self.run = 0;
                self.parts += usize::from(self.in_from);
            }
            Token::Word(word) if word.quote_style.is_none() => match word.value.to_ascii_uppercase().as_str() {
                "FROM" => self.in_from = true,
                "JOIN" => self.parts += 1,
                "UNION" | "EXCEPT" | "INTERSECT" => {
                    self.parts += 1;
                    self.in_from = false;
                }
                "WHERE" | "GROUP" | "HAVING" | "ORDER" | "SELECT" => self.in_from = false,
                _ => {}
            },
            _ => {}
        }
    }
}

/// Whether this statement may be parsed.
///
/// # Errors
/// `Syntax` at the token that goes too far.
pub(super) fn check(script: Script<'_>, piece: &Piece) -> Result<()> {
    let mut outer: Vec<Level> = Vec::new();
    let mut level = Level::default();
    let (mut angles, mut repeated) = (0_usize, 0);
    let mut previous: Option<&Token> = None;
    for (TokenWithSpan { token, .. }, span) in piece.tokens.iter().zip(&piece.spans) {
        if matches!(token, Token::Whitespace(_)) {
            continue;
        }
        level.count(token);
        repeated = if previous == Some(token) && !ends_case(token) { repeated + 1 } else { 0 };
        match token {
            Token::LParen | Token::LBracket | Token::LBrace => {
                outer.push(mem::take(&mut level));
                repeated = 0;
            }
            Token::RParen | Token::RBracket | Token::RBrace => {
                level = outer.pop().unwrap_or(level);
                repeated = 0;
            }
            Token::Lt if previous.is_some_and(opens_type) => angles += 1,
            Token::Gt => angles = angles.saturating_sub(1),
            Token::ShiftRight => angles = angles.saturating_sub(2),
            _ => {}
        }
        if outer.len() + angles > BRACKETS_DEPTH_MAX || repeated > REPEATED_TOKENS_MAX {
            return Err(too_deep(script, span.start));
        }
        if level.run > RUN_TOKENS_MAX {
            return Err(too_long(script, span.start));
        }
        if level.parts > QUERY_PARTS_MAX {
            return Err(script
                .error(span.start, "this query has too many parts")
                .with_detail(format!("the limit is {QUERY_PARTS_MAX} tables and queries between two brackets"))
                .with_hint("put parts of it into views of their own"));
        }
        previous = Some(token);
    }
    Ok(())
}

fn too_long(script: Script<'_>, offset: usize) -> Error {
    script
        .error(offset, "this expression is too long")
        .with_detail(format!("the limit is {RUN_TOKENS_MAX} words and operators between two commas or brackets"))
        .with_hint("compare with a list, as in x IN (1, 2, 3), or join with a table of the values")
}

/// A statement that is nested too deeply, at this byte.
pub(super) fn too_deep(script: Script<'_>, offset: usize) -> Error {
    script
        .error(offset, "the statement is nested too deeply")
        .with_detail(format!("the limit is {RECURSION_DEPTH_MAX} levels"))
        .with_hint("name inner queries in front, as in WITH part AS (SELECT ...) SELECT ...")
}

/// `END END END` closes nested CASEs.
fn ends_case(token: &Token) -> bool {
    matches!(token, Token::Word(word) if word.value.eq_ignore_ascii_case("END"))
}

/// `ARRAY<...>` and its like nest without brackets that tell them from a comparison.
fn opens_type(token: &Token) -> bool {
    let Token::Word(word) = token else { return false };
    word.quote_style.is_none() && ["ARRAY", "STRUCT", "MAP"].iter().any(|name| word.value.eq_ignore_ascii_case(name))
}
