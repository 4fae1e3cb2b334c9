//! The input as tokens that know their bytes, cut into statements.
//!
//! ```text
//!  -- note ⏎ SELECT 'a;b' ; DROP TABLE s.t      sqlparser gives line and column of each token; one walk over the
//!            └────piece──┘  └────piece───┘      characters turns them into byte ranges. Only a `;` token ends a piece:
//!          start        end                     one inside a string, a comment or $$...$$ is no token.
//! ```

use std::mem;
use std::ops::Range;

use sqlparser::tokenizer::{Token, TokenWithSpan, Tokenizer, TokenizerError};

use super::dialect::POSTGRES;
use super::limits::{INPUT_BYTES_MAX, STATEMENT_BYTES_MAX};
use crate::error::{Error, ErrorKind, Location, Result};

/// Editors on Windows put it before the first character.
const BYTE_ORDER_MARK: char = '\u{feff}';

/// A text and where it came from.
#[derive(Debug, Clone, Copy)]
pub(super) struct Script<'a> {
    /// The whole text.
    pub(super) input: &'a str,
    file: Option<&'a str>,
}

/// One statement: its tokens (with white space and comments between them), the bytes of each, and its own bytes.
#[derive(Debug, Default)]
pub(super) struct Piece {
    pub(super) tokens: Vec<TokenWithSpan>,
    pub(super) spans: Vec<Range<usize>>,
    pub(super) start: usize,
    pub(super) end: usize,
}

impl<'a> Script<'a> {
    pub(super) fn new(input: &'a str, file: Option<&'a str>) -> Self {
        Self { input, file }
    }

    /// The line of a byte, with the column in characters. A byte order mark has no column.
    pub(super) fn location(&self, offset: usize) -> Location {
        let offset = self.input.floor_char_boundary(offset.min(self.input.len()));
        let before = &self.input[..offset];
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        let line_end = self.input[offset..].find('\n').map_or(self.input.len(), |newline| offset + newline);
        let line = self.input[line_start..line_end].trim_end_matches('\r').trim_start_matches(BYTE_ORDER_MARK);
        let column = before[line_start..].trim_start_matches(BYTE_ORDER_MARK).chars().count() + 1;
        Location {
            file: self.file.map(str::to_string),
            line: before.bytes().filter(|byte| *byte == b'\n').count() + 1,
            column,
            text: line.to_string(),
        }
    }

    /// A syntax error at a byte of the text.
    pub(super) fn error(&self, offset: usize, message: impl Into<String>) -> Error {
        Error::new(ErrorKind::Syntax, message).with_location(self.location(offset))
    }

    /// The statements, without those that hold no token.
    pub(super) fn pieces(&self) -> Result<Vec<Piece>> {
        if self.input.len() > INPUT_BYTES_MAX {
            return Err(Error::new(ErrorKind::Syntax, "the text is too long")
                .with_detail(format!("it has {} bytes, the limit is {INPUT_BYTES_MAX}", self.input.len()))
                .with_hint("load rows from a file, and run the statements of a long script in parts"));
        }
        let body = self.input.trim_start_matches(BYTE_ORDER_MARK);
        let base = self.input.len() - body.len();
        let mut tokens = Vec::new();
        let outcome = Tokenizer::new(&POSTGRES, body).tokenize_with_location_into_buf(&mut tokens);
        let spans = byte_ranges(body, base, &tokens);
        if let Err(error) = outcome {
            return Err(self.unfinished(&error, spans.last().map_or(base, |span| span.end)));
        }
        self.split(tokens, spans)
    }

    fn split(&self, tokens: Vec<TokenWithSpan>, spans: Vec<Range<usize>>) -> Result<Vec<Piece>> {
        let mut pieces = Vec::new();
        let mut piece = Piece::default();
        for (token, span) in tokens.into_iter().zip(spans) {
            match token.token {
                Token::SemiColon => pieces.push(mem::take(&mut piece)),
                Token::Whitespace(_) if piece.tokens.is_empty() => {}
                Token::Whitespace(_) => piece.push(token, span),
                _ => {
                    piece.end = span.end;
                    piece.push(token, span);
                }
            }
        }
        pieces.push(piece);
        pieces.retain(|piece| !piece.tokens.is_empty());
        for piece in &pieces {
            if piece.end - piece.start > STATEMENT_BYTES_MAX {
                return Err(self
                    .error(piece.start, "the statement is too long")
                    .with_detail(format!(
                        "it has {} bytes, the limit is {STATEMENT_BYTES_MAX}",
                        piece.end - piece.start
                    ))
                    .with_hint("load rows from a file, or insert them in parts"));
            }
        }
        Ok(pieces)
    }

    /// The tokenizer gave up on the token that begins at `offset`.
    fn unfinished(&self, error: &TokenizerError, offset: usize) -> Error {
        let text = &self.input[offset..];
        if text.starts_with("/*") {
            return self.error(offset, "this comment has no end").with_hint("close it with */");
        }
        if text.starts_with('"') {
            return self.error(offset, "this quoted name has no closing quote").with_hint("close it with \"");
        }
        if text.starts_with('$') {
            return self
                .error(offset, "this dollar-quoted string has no end")
                .with_hint("close it with the same $...$ that opens it");
        }
        if error.message.contains("nterminated") {
            return self
                .error(offset, "this string has no closing quote")
                .with_hint("close it with '; a quote inside a string is written twice, as in 'it''s'");
        }
        self.error(offset, super::complaint::plain(&error.message))
    }
}

impl Piece {
    fn push(&mut self, token: TokenWithSpan, span: Range<usize>) {
        if self.tokens.is_empty() {
            self.start = span.start;
        }
        self.tokens.push(token);
        self.spans.push(span);
    }
}

/// See [`super::tokens`].
pub(super) fn tokens(input: &str) -> Option<Vec<(Token, Range<usize>)>> {
    let tokens = Tokenizer::new(&POSTGRES, input).tokenize_with_location().ok()?;
    let ranges = byte_ranges(input, 0, &tokens);
    Some(tokens.into_iter().map(|token| token.token).zip(ranges).collect())
}

/// The bytes of each token. Tokens follow one another without gaps, so their ends say it all.
fn byte_ranges(body: &str, base: usize, tokens: &[TokenWithSpan]) -> Vec<Range<usize>> {
    let mut characters = body.chars();
    let (mut line, mut column, mut at) = (1, 1, base);
    let mut ranges = Vec::with_capacity(tokens.len());
    for token in tokens {
        let start = at;
        let end = (token.span.end.line, token.span.end.column);
        while (line, column) < end {
            let Some(character) = characters.next() else { break };
            at += character.len_utf8();
            (line, column) = if character == '\n' { (line + 1, 1) } else { (line, column + 1) };
        }
        ranges.push(start..at);
    }
    ranges
}

/// See [`super::offset_of`].
pub(super) fn offset_of(input: &str, line: u64, column: u64) -> usize {
    let lines_before = usize::try_from(line.saturating_sub(1)).unwrap_or(usize::MAX);
    let columns_before = usize::try_from(column.saturating_sub(1)).unwrap_or(usize::MAX);
    let Some(text) = input.split_inclusive('\n').nth(lines_before) else { return input.len() };
    let start = text.as_ptr() as usize - input.as_ptr() as usize;
    let mark = if start == 0 { text.len() - text.trim_start_matches(BYTE_ORDER_MARK).len() } else { 0 };
    let line = &text[mark..];
    start + mark + line.char_indices().nth(columns_before).map_or(line.len(), |(index, _)| index)
}
