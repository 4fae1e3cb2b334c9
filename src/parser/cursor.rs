//! A place in one statement: sqlparser's token stream with the bytes of each token, and the few steps that our grammar
//! is made of. Words are compared without case; quoted ones are never words.
//!
//! ```text
//!   take_words(["PARTITIONED", "BY"])   both there: go past them        expect_words(..)   or else: an error here
//!   name()  identifier()  string()      our own terminals               parse(|p| ...)     sqlparser's, errors mended
//!   offset()  behind()                  byte of the next token, end of the last one: exact texts are cut with them
//! ```

use std::ops::Range;

use datafusion::error::DataFusionError;
use datafusion::sql::parser::{DFParser, DFParserBuilder, Statement as DataFusionStatement};
use sqlparser::keywords::Keyword;
use sqlparser::tokenizer::{Token, Word};

use super::complaint;
use super::dialect::Budgeted;
use super::limits::{self, NAME_BYTES_MAX, RECURSION_DEPTH_MAX};
use super::text::{Piece, Script};
use crate::error::{Error, Location, Result};
use crate::name::TableName;

/// The name of the one catalog; tools write it in front of schema and table.
const CATALOG: &str = "flash";

/// See the module.
pub(super) struct Cursor<'a> {
    script: Script<'a>,
    spans: Vec<Range<usize>>,
    end: usize,
    parser: DFParser<'a>,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(script: Script<'a>, piece: Piece, dialect: &'a Budgeted) -> Result<Self> {
        limits::check(script, &piece)?;
        let Piece { tokens, spans, end, .. } = piece;
        let parser =
            DFParserBuilder::new(tokens).with_dialect(dialect).with_recursion_limit(RECURSION_DEPTH_MAX).build()?;
        Ok(Self { script, spans, end, parser })
    }

    /// The index of the nth token from here, white space aside.
    pub(super) fn index(&self, nth: usize) -> usize {
        let mut index = self.parser.parser.index();
        let mut left = nth;
        while index < self.spans.len() {
            if !matches!(self.token_at(index), Token::Whitespace(_)) {
                if left == 0 {
                    break;
                }
                left -= 1;
            }
            index += 1;
        }
        index
    }

    pub(super) fn token_at(&self, index: usize) -> &Token {
        &self.parser.parser.token_at(index).token
    }

    /// The nth token from here; `EOF` past the end.
    pub(super) fn peek(&self, nth: usize) -> &Token {
        self.token_at(self.index(nth))
    }

    /// The nth token from here, if it is an unquoted word.
    pub(super) fn word(&self, nth: usize) -> Option<&Word> {
        match self.peek(nth) {
            Token::Word(word) if word.quote_style.is_none() => Some(word),
            _ => None,
        }
    }

    pub(super) fn is_word(&self, nth: usize, word: &str) -> bool {
        self.word(nth).is_some_and(|found| found.value.eq_ignore_ascii_case(word))
    }

    pub(super) fn at_words(&self, words: &[&str]) -> bool {
        words.iter().enumerate().all(|(nth, word)| self.is_word(nth, word))
    }

    pub(super) fn skip(&mut self, tokens: usize) {
        for _ in 0..tokens {
            self.parser.parser.advance_token();
        }
    }

    pub(super) fn take_words(&mut self, words: &[&str]) -> bool {
        let there = self.at_words(words);
        if there {
            self.skip(words.len());
        }
        there
    }

    /// Go past these words, the first of which belongs after `context`.
    pub(super) fn expect_words(&mut self, words: &[&str], context: &str) -> Result<()> {
        for (nth, word) in words.iter().enumerate() {
            if !self.take_words(&[word]) {
                let before = if nth == 0 { context } else { words[nth - 1] };
                return Err(self.expected(&format!("{word} after {before}")));
            }
        }
        Ok(())
    }

    pub(super) fn take(&mut self, token: &Token) -> bool {
        let there = self.peek(0) == token;
        if there {
            self.skip(1);
        }
        there
    }

    pub(super) fn expect(&mut self, token: &Token, what: &str) -> Result<()> {
        if self.take(token) { Ok(()) } else { Err(self.expected(what)) }
    }

    pub(super) fn expect_end(&self) -> Result<()> {
        if *self.peek(0) == Token::EOF { Ok(()) } else { Err(self.expected("the end of the statement")) }
    }

    /// The byte where the nth token from here begins; the end of the statement past the last one.
    pub(super) fn offset_nth(&self, nth: usize) -> usize {
        self.offset_at(self.index(nth))
    }

    pub(super) fn offset_at(&self, index: usize) -> usize {
        self.spans.get(index).map_or(self.end, |span| span.start)
    }

    /// The byte where the next token begins.
    pub(super) fn offset(&self) -> usize {
        self.offset_nth(0)
    }

    /// The exact text from `start` to the end of the last token that was gone past.
    pub(super) fn text_since(&self, start: usize) -> String {
        let last = self.before(self.index(0)).unwrap_or(0);
        let end = self.spans.get(last).map_or(self.end, |span| span.end);
        self.script.input.get(start..end).unwrap_or_default().to_string()
    }

    /// The index of the last token before this one, white space aside.
    pub(super) fn before(&self, index: usize) -> Option<usize> {
        (0..index.min(self.spans.len())).rev().find(|index| !matches!(self.token_at(*index), Token::Whitespace(_)))
    }

    /// The exact text of a token.
    pub(super) fn text_at(&self, index: usize) -> &'a str {
        self.spans.get(index).and_then(|span| self.script.input.get(span.clone())).unwrap_or_default()
    }

    /// The index of the token at this line and column of sqlparser's.
    pub(super) fn index_of(&self, line: u64, column: u64) -> Option<usize> {
        (0..self.spans.len()).find(|index| {
            let start = self.parser.parser.token_at(*index).span.start;
            (start.line, start.column) == (line, column)
        })
    }

    /// The index of the token that sqlparser took last.
    pub(super) fn index_last(&self) -> usize {
        self.parser.parser.get_current_index()
    }

    pub(super) fn location(&self, offset: usize) -> Location {
        self.script.location(offset)
    }

    pub(super) fn error_at(&self, offset: usize, message: impl Into<String>) -> Error {
        self.script.error(offset, message)
    }

    /// An error at the next token.
    pub(super) fn error(&self, message: impl Into<String>) -> Error {
        self.error_at(self.offset(), message)
    }

    /// The next token is not what belongs here.
    pub(super) fn expected(&self, what: &str) -> Error {
        complaint::expected(self, what, self.index(0))
    }

    /// Something that sqlparser can parse, its error put into our words.
    pub(super) fn parse<T, E: Into<DataFusionError>>(
        &mut self,
        parse: impl FnOnce(&mut DFParser<'a>) -> Result<T, E>,
    ) -> Result<T> {
        parse(&mut self.parser).map_err(|error| complaint::translate(self, &error.into()))
    }

    /// A statement of DataFusion's.
    pub(super) fn datafusion(&mut self) -> Result<DataFusionStatement> {
        self.parse(DFParser::parse_statement)
    }

    /// The statement is nested too deeply at the token that sqlparser took last.
    pub(super) fn too_deep(&self) -> Error {
        limits::too_deep(self.script, self.offset_at(self.parser.parser.get_current_index()))
    }

    /// How often this word stands in the whole statement.
    pub(super) fn count_words(&self, word: &str) -> usize {
        (0..self.spans.len()).filter(|index| self.text_at(*index).eq_ignore_ascii_case(word)).count()
    }

    /// A plain name, normalised: lowercase unless quoted.
    pub(super) fn identifier(&mut self, what: &str) -> Result<String> {
        let name = self.identifier_at(self.index(0), what)?;
        self.skip(1);
        Ok(name)
    }

    fn identifier_at(&self, index: usize, what: &str) -> Result<String> {
        let Token::Word(word) = self.token_at(index) else {
            return Err(complaint::expected(self, what, index));
        };
        if word.value.is_empty() {
            return Err(self.error_at(self.offset_at(index), "a name is empty"));
        }
        if word.value.len() > NAME_BYTES_MAX {
            return Err(self
                .error_at(self.offset_at(index), "this name is too long")
                .with_detail(format!("the limit is {NAME_BYTES_MAX} bytes")));
        }
        Ok(normal(word))
    }

    /// `schema.name`.
    pub(super) fn name(&mut self) -> Result<TableName> {
        let (name, tokens) = self.name_ahead(0)?;
        self.skip(tokens);
        Ok(name)
    }

    /// The `schema.name` that begins at the nth token from here, and how many tokens it has.
    pub(super) fn name_ahead(&self, nth: usize) -> Result<(TableName, usize)> {
        let offset = self.offset_nth(nth);
        let mut parts = vec![self.part(nth, "a name")?];
        while *self.peek(nth + 2 * parts.len() - 1) == Token::Period {
            parts.push(self.part(nth + 2 * parts.len(), "a name after the dot")?);
        }
        let tokens = 2 * parts.len() - 1;
        if let [catalog, ..] = parts.as_slice()
            && parts.len() == 3
            && catalog == CATALOG
        {
            parts.remove(0);
        }
        match parts.as_slice() {
            [schema, _] if schema.starts_with('_') => Err(self
                .error_at(offset, format!("the schema \"{schema}\" is taken"))
                .with_hint("names of schemas that begin with _ belong to the lake itself")),
            [schema, name] => Ok((TableName::new(schema, name), tokens)),
            [name] => Err(self
                .error_at(offset, format!("\"{name}\" is not a qualified name"))
                .with_hint(format!("write schema.name, such as silver.{name}"))),
            _ => Err(self
                .error_at(offset, format!("\"{}\" has too many parts", parts.join(".")))
                .with_hint("write schema.name, such as silver.events")),
        }
    }

    /// One part of a table's name: it becomes a folder, so it holds nothing that a path would read otherwise.
    fn part(&self, nth: usize, what: &str) -> Result<String> {
        let index = self.index(nth);
        let part = self.identifier_at(index, what)?;
        match part.chars().find(|character| !character.is_alphanumeric() && *character != '_') {
            None => Ok(part),
            Some(other) => Err(self
                .error_at(self.offset_at(index), format!("the name \"{part}\" holds {other:?}"))
                .with_hint("names of tables and views are made of letters, digits and _")),
        }
    }

    /// Text in single quotes (or `E'..'`, or `$$..$$`).
    pub(super) fn string(&mut self, what: &str) -> Result<String> {
        let text = match self.peek(0) {
            Token::SingleQuotedString(text) | Token::EscapedStringLiteral(text) => text.clone(),
            Token::DollarQuotedString(text) => text.value.clone(),
            Token::Word(Word { value, quote_style: Some('"'), .. }) => {
                let hint = format!("write '{value}': single quotes hold text, double quotes a name");
                return Err(self.error(format!("expected {what}, found a name in double quotes")).with_hint(hint));
            }
            _ => return Err(self.expected(what)),
        };
        self.skip(1);
        Ok(text)
    }
}

/// Lowercase unless quoted, as DataFusion does it.
pub(super) fn normal(word: &Word) -> String {
    if word.quote_style.is_some() { word.value.clone() } else { word.value.to_ascii_lowercase() }
}

/// Whether a token is a word of SQL that sqlparser knows, and not merely a name.
pub(super) fn is_keyword(token: &Token) -> bool {
    matches!(token, Token::Word(word) if word.keyword != Keyword::NoKeyword)
}
