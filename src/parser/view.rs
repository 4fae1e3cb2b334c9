//! `CREATE MATERIALIZED VIEW`: clauses in any order, then `AS` and a query.
//!
//! ```text
//!  CREATE MATERIALIZED VIEW s.n
//!    ( CONSTRAINT name EXPECT ( predicate ) [ON VIOLATION action], ... )     action := WARN | DROP ROW
//!    PARTITIONED BY ( column | bucket(count, column), ... )                            | QUARANTINE ROW | FAIL UPDATE
//!    COMMENT 'text'
//!    WITH ( option = value, ... )
//!  AS query
//! ```
//!
//! sqlparser reads `FROM t WITH (...)` as table hints, so options written after the query would vanish; they are
//! looked for and refused.

use std::ops::ControlFlow;

use sqlparser::ast::{Query, SetExpr, TableFactor, Visit, Visitor};
use sqlparser::tokenizer::{Token, Word};

use super::ast::{CreateMaterializedView, Expectation, OnViolation, PartitionBy, ViewOptions};
use super::cursor::Cursor;
use super::limits::{BUCKETS_MAX, ITEMS_MAX};
use super::options;
use super::suggest::did_you_mean;
use super::versions;
use crate::error::{Error, Result};

/// What begins a query.
const QUERY_WORDS: [&str; 3] = ["SELECT", "VALUES", "TABLE"];
const CLAUSES: [&str; 4] = ["PARTITIONED BY", "COMMENT", "WITH", "AS"];

/// After `CREATE MATERIALIZED VIEW`.
pub(super) fn create(cursor: &mut Cursor<'_>) -> Result<CreateMaterializedView> {
    let name = cursor.name()?;
    let (mut expectations, mut partitioned_by, mut comment, mut options) = (None, None, None, None);
    loop {
        let offset = cursor.offset();
        let twice = |clause: &str| cursor.error_at(offset, format!("{clause} is given twice"));
        if *cursor.peek(0) == Token::LParen {
            let twice = twice("the list of expectations");
            set(&mut expectations, self::expectations(cursor)?, twice)?;
        } else if cursor.at_words(&["PARTITIONED"]) {
            let twice = twice("PARTITIONED BY");
            set(&mut partitioned_by, self::partitioned_by(cursor)?, twice)?;
        } else if cursor.at_words(&["COMMENT"]) {
            let twice = twice("COMMENT");
            set(&mut comment, self::comment(cursor)?, twice)?;
        } else if cursor.at_words(&["WITH"]) {
            let twice = twice("WITH");
            cursor.skip(1);
            set(&mut options, options::view_options(cursor)?, twice)?;
        } else if cursor.take_words(&["AS"]) {
            break;
        } else {
            return Err(no_clause(cursor));
        }
    }
    let (query, query_offset) = defining(cursor)?;
    Ok(CreateMaterializedView {
        name,
        query,
        query_offset,
        partitioned_by: partitioned_by.unwrap_or_default(),
        comment,
        options: options.unwrap_or_else(ViewOptions::default),
        expectations: expectations.unwrap_or_default(),
    })
}

fn set<T>(slot: &mut Option<T>, value: T, twice: Error) -> Result<()> {
    match slot.replace(value) {
        None => Ok(()),
        Some(_) => Err(twice),
    }
}

/// What stands where a clause should.
fn no_clause(cursor: &Cursor<'_>) -> Error {
    if QUERY_WORDS.iter().any(|word| cursor.is_word(0, word)) {
        return cursor.error("AS is missing before the query").with_hint("write AS SELECT ...");
    }
    if cursor.is_word(0, "PARTITION") {
        return cursor.error("unknown clause PARTITION").with_hint("did you mean PARTITIONED BY?");
    }
    if cursor.is_word(0, "CONSTRAINT") || cursor.is_word(0, "EXPECT") {
        return cursor
            .error("expectations stand in parentheses after the view's name")
            .with_hint("write (CONSTRAINT name EXPECT (...) ON VIOLATION DROP ROW)");
    }
    if *cursor.peek(0) == Token::EOF {
        return cursor.expected("AS and a query").with_hint("a materialized view ends with AS SELECT ...");
    }
    let error = cursor.expected("PARTITIONED BY, COMMENT, WITH or AS");
    let words = CLAUSES.iter().filter_map(|clause| clause.split(' ').next());
    match cursor.word(0).and_then(|word| did_you_mean(&word.value, words)) {
        Some(known) => error.with_hint(format!("did you mean {known}?")),
        None => error,
    }
}

/// The query of a view after `AS`: its exact text and where it begins.
fn defining(cursor: &mut Cursor<'_>) -> Result<(String, usize)> {
    let (query, offset) = parsed(cursor)?;
    versions::refuse(cursor, &query, offset)?;
    Ok((cursor.text_since(offset), offset))
}

/// The query after `AS`: its exact text and where it begins.
pub(super) fn query(cursor: &mut Cursor<'_>) -> Result<(String, usize)> {
    let (_, offset) = parsed(cursor)?;
    Ok((cursor.text_since(offset), offset))
}

fn parsed(cursor: &mut Cursor<'_>) -> Result<(Box<Query>, usize)> {
    if *cursor.peek(0) == Token::EOF {
        return Err(cursor.expected("a query after AS"));
    }
    let offset = cursor.offset();
    let query = cursor.parse(|parser| parser.parser.parse_query())?;
    if matches!(*query.body, SetExpr::Insert(_) | SetExpr::Update(_) | SetExpr::Delete(_) | SetExpr::Merge(_)) {
        return Err(cursor
            .error_at(offset, "AS is followed by a query, not by a change")
            .with_hint("write AS SELECT ..."));
    }
    if has_table_hints(&query) {
        let index = cursor.index(0);
        let with = (0..index).rev().find(|index| cursor.text_at(*index).eq_ignore_ascii_case("WITH"));
        return Err(cursor
            .error_at(with.map_or(offset, |index| cursor.offset_at(index)), "WITH (...) does not belong into the query")
            .with_hint("the options of a view stand before AS"));
    }
    Ok((query, offset))
}

/// Whether sqlparser took a `WITH (...)` after a table for hints to another database's optimizer.
fn has_table_hints(query: &Query) -> bool {
    struct Hints;
    impl Visitor for Hints {
        type Break = ();
        fn pre_visit_table_factor(&mut self, table: &TableFactor) -> ControlFlow<()> {
            match table {
                TableFactor::Table { with_hints, .. } if !with_hints.is_empty() => ControlFlow::Break(()),
                _ => ControlFlow::Continue(()),
            }
        }
    }
    query.visit(&mut Hints).is_break()
}

/// `PARTITIONED BY (...)`.
pub(super) fn partitioned_by(cursor: &mut Cursor<'_>) -> Result<Vec<PartitionBy>> {
    cursor.expect_words(&["PARTITIONED", "BY"], "the name")?;
    cursor.expect(&Token::LParen, "\"(\" after PARTITIONED BY")?;
    let mut partitions: Vec<PartitionBy> = Vec::new();
    loop {
        let offset = cursor.offset();
        let partition = partition(cursor)?;
        if partitions.contains(&partition) {
            return Err(cursor.error_at(offset, "the same partition is given twice"));
        }
        if partitions.len() >= ITEMS_MAX {
            return Err(cursor.error_at(offset, "too many partition columns"));
        }
        partitions.push(partition);
        if !cursor.take(&Token::Comma) {
            break;
        }
    }
    cursor.expect(&Token::RParen, "\",\" or \")\" after a partition column")?;
    Ok(partitions)
}

fn partition(cursor: &mut Cursor<'_>) -> Result<PartitionBy> {
    let offset = cursor.offset();
    let call = *cursor.peek(1) == Token::LParen;
    if !call {
        return Ok(PartitionBy::Column(cursor.identifier("the name of a column")?));
    }
    if !cursor.is_word(0, "bucket") {
        return Err(cursor
            .error_at(offset, "PARTITIONED BY takes columns and bucket(count, column), not expressions")
            .with_hint("give the expression a name in the SELECT, and partition by that name"));
    }
    cursor.skip(2);
    let wrong = |cursor: &Cursor<'_>| {
        cursor
            .error(format!("bucket takes a count from 1 to {BUCKETS_MAX} and a column"))
            .with_hint("write bucket(64, seller_id)")
    };
    let count = match cursor.peek(0) {
        Token::Number(digits, _) => digits.parse::<u32>().ok().filter(|count| (1..=BUCKETS_MAX).contains(count)),
        _ => None,
    };
    let Some(count) = count else { return Err(wrong(cursor)) };
    cursor.skip(1);
    if !cursor.take(&Token::Comma) {
        return Err(wrong(cursor));
    }
    let column = cursor.identifier("the name of a column")?;
    cursor.expect(&Token::RParen, "\")\" after the column")?;
    Ok(PartitionBy::Bucket { count, column })
}

/// `COMMENT 'text'`.
pub(super) fn comment(cursor: &mut Cursor<'_>) -> Result<String> {
    cursor.expect_words(&["COMMENT"], "the name")?;
    cursor.string("the comment in single quotes")
}

/// `(CONSTRAINT ..., ...)`.
fn expectations(cursor: &mut Cursor<'_>) -> Result<Vec<Expectation>> {
    cursor.expect(&Token::LParen, "\"(\"")?;
    let mut expectations: Vec<Expectation> = Vec::new();
    loop {
        if !cursor.take_words(&["CONSTRAINT"]) {
            return Err(no_constraint(cursor));
        }
        let offset = cursor.offset();
        let expectation = expectation(cursor)?;
        if expectations.iter().any(|other| other.name == expectation.name) {
            return Err(cursor
                .error_at(offset, format!("the expectation \"{}\" is given twice", expectation.name))
                .with_hint("each expectation is counted under its own name"));
        }
        if expectations.len() >= ITEMS_MAX {
            return Err(cursor.error_at(offset, "too many expectations"));
        }
        expectations.push(expectation);
        if !cursor.take(&Token::Comma) {
            break;
        }
    }
    cursor.expect(&Token::RParen, "\",\", \")\" or ON VIOLATION after an expectation")?;
    Ok(expectations)
}

fn no_constraint(cursor: &Cursor<'_>) -> Error {
    let error = cursor.expected("CONSTRAINT");
    let Some(word) = cursor.word(0) else { return error };
    if let Some(known) = did_you_mean(&word.value, ["CONSTRAINT"]) {
        return error.with_hint(format!("did you mean {known}?"));
    }
    if word.value.eq_ignore_ascii_case("EXPECT") {
        return error.with_hint("give it a name: CONSTRAINT name EXPECT (...)");
    }
    error.with_hint("these parentheses hold expectations; columns are named in the SELECT, with AS")
}

/// After `CONSTRAINT`.
fn expectation(cursor: &mut Cursor<'_>) -> Result<Expectation> {
    let name = cursor.identifier("the name of the expectation")?;
    if cursor.is_word(0, "CHECK") {
        return Err(cursor
            .error("a view has expectations, not CHECK constraints")
            .with_hint(format!("write CONSTRAINT {name} EXPECT (...) ON VIOLATION FAIL UPDATE")));
    }
    cursor.expect_words(&["EXPECT"], &format!("CONSTRAINT {name}"))?;
    if *cursor.peek(0) != Token::LParen {
        return Err(cursor.expected("\"(\" after EXPECT").with_hint("the condition stands in parentheses"));
    }
    cursor.skip(1);
    let offset = cursor.offset();
    let condition = cursor.parse(|parser| parser.parser.parse_expr())?;
    versions::refuse(cursor, &condition, offset)?;
    let predicate = cursor.text_since(offset);
    cursor.expect(&Token::RParen, "\")\" after the condition")?;
    let on_violation = if cursor.take_words(&["ON"]) { on_violation(cursor)? } else { OnViolation::Warn };
    Ok(Expectation { name, predicate, predicate_offset: offset, on_violation })
}

/// After `ON`.
fn on_violation(cursor: &mut Cursor<'_>) -> Result<OnViolation> {
    cursor.expect_words(&["VIOLATION"], "ON")?;
    if cursor.take_words(&["WARN"]) {
        return Ok(OnViolation::Warn);
    }
    let actions = [
        ("DROP", "ROW", OnViolation::DropRow),
        ("QUARANTINE", "ROW", OnViolation::QuarantineRow),
        ("FAIL", "UPDATE", OnViolation::FailUpdate),
    ];
    for (verb, object, action) in actions {
        if cursor.take_words(&[verb]) {
            if cursor.take_words(&[object]) {
                return Ok(action);
            }
            let hint = format!("write ON VIOLATION {verb} {object}");
            return Err(cursor.expected(&format!("{object} after {verb}")).with_hint(hint));
        }
    }
    let error = cursor
        .expected("what to do after ON VIOLATION")
        .with_detail("the actions are WARN, DROP ROW, QUARANTINE ROW and FAIL UPDATE");
    match cursor.peek(0) {
        Token::Word(Word { value, .. }) => match did_you_mean(value, ["WARN", "DROP", "QUARANTINE", "FAIL"]) {
            Some(known) => Err(error.with_hint(format!("did you mean {known}?"))),
            None => Err(error),
        },
        _ => Err(error),
    }
}
