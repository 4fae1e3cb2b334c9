//! `CREATE TABLE` and `CREATE EXTERNAL TABLE`.
//!
//! ```text
//!  CREATE TABLE [IF NOT EXISTS] s.n ( column TYPE [NOT NULL], ... ) [PARTITIONED BY (...)] [COMMENT '...']
//!  CREATE TABLE [IF NOT EXISTS] s.n [PARTITIONED BY (...)] [COMMENT '...'] AS query
//!  CREATE EXTERNAL TABLE s.n [( column TYPE, ... )] STORED AS KINESIS | JSONL | CSV LOCATION '...' [OPTIONS (...)]
//! ```

use std::fmt;

use sqlparser::ast::DataType;
use sqlparser::tokenizer::Token;

use super::ast::{Column, CreateReference, CreateSource, CreateTable, SourceFormat, Statement};
use super::cursor::Cursor;
use super::limits::ITEMS_MAX;
use super::options::external_options;
use super::suggest::did_you_mean;
use super::view;
use crate::error::{Error, Result};

/// The objects that `CREATE` makes in this grammar.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Created {
    View,
    Table,
    External,
}

impl fmt::Display for Created {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::View => "MATERIALIZED VIEW",
            Self::Table => "TABLE",
            Self::External => "EXTERNAL TABLE",
        })
    }
}

const MODIFIERS: [&[&str]; 8] = [
    &["OR", "REPLACE"],
    &["TEMPORARY"],
    &["TEMP"],
    &["UNLOGGED"],
    &["UNBOUNDED"],
    &["GLOBAL"],
    &["LOCAL"],
    &["TRANSIENT"],
];
const FORMATS: [&str; 3] = ["KINESIS", "JSONL", "CSV"];
/// Words that the types of DataFusion's SQL are spelled with, to mend a misspelled one.
const TYPES: [&str; 22] = [
    "BIGINT",
    "BINARY",
    "BOOLEAN",
    "BYTEA",
    "CHAR",
    "DATE",
    "DECIMAL",
    "DOUBLE",
    "FLOAT",
    "INT",
    "INTEGER",
    "INTERVAL",
    "NUMERIC",
    "REAL",
    "SMALLINT",
    "STRING",
    "TEXT",
    "TIME",
    "TIMESTAMP",
    "TIMESTAMPTZ",
    "TINYINT",
    "VARCHAR",
];

/// Which of our objects a `CREATE` at the cursor makes, and the word between that we have not got (`OR REPLACE`,
/// `TEMPORARY`). Goes past `CREATE ... TABLE` when there is none; else, and for objects of DataFusion's, stays.
pub(super) fn created(cursor: &mut Cursor<'_>) -> Option<(Created, Option<String>)> {
    let mut words = 1;
    let mut modifiers: Vec<String> = Vec::new();
    while let Some(modifier) = MODIFIERS
        .iter()
        .find(|modifier| modifier.iter().enumerate().all(|(nth, word)| cursor.is_word(words + nth, word)))
    {
        words += modifier.len();
        modifiers.push(modifier.join(" "));
    }
    let kind = if cursor.is_word(words, "MATERIALIZED") && cursor.is_word(words + 1, "VIEW") {
        words += 2;
        Created::View
    } else if cursor.is_word(words, "EXTERNAL") && cursor.is_word(words + 1, "TABLE") {
        words += 2;
        Created::External
    } else if cursor.is_word(words, "TABLE") {
        words += 1;
        Created::Table
    } else {
        return None;
    };
    if !modifiers.is_empty() {
        return Some((kind, Some(modifiers.join(" "))));
    }
    let conditional = ["IF", "NOT", "EXISTS"].iter().enumerate().all(|(nth, word)| cursor.is_word(words + nth, word));
    if conditional && kind != Created::Table {
        return Some((kind, Some("IF NOT EXISTS".to_string())));
    }
    cursor.skip(words);
    Some((kind, None))
}

/// The refusal of a modifier that [`created`] found.
pub(super) fn no_modifier(cursor: &Cursor<'_>, kind: Created, modifier: &str) -> Error {
    let first = modifier.split(' ').next().unwrap_or_default();
    let nth = (0..10).find(|nth| cursor.is_word(*nth, first)).unwrap_or(0);
    let error = cursor.error_at(cursor.offset_nth(nth), format!("CREATE {kind} takes no {modifier}"));
    match modifier {
        "OR REPLACE" | "IF NOT EXISTS" => error.with_hint(format!(
            "write CREATE {kind}: a file states what should be, and a change of its text changes what is there"
        )),
        _ => error.with_hint(format!("write CREATE {kind}; every table is kept in the lake")),
    }
}

/// After `CREATE TABLE`.
pub(super) fn create(cursor: &mut Cursor<'_>) -> Result<CreateTable> {
    let if_not_exists = cursor.take_words(&["IF", "NOT", "EXISTS"]);
    let name = cursor.name()?;
    let columns_offset = cursor.offset();
    let columns = columns(cursor)?;
    let mut table = CreateTable {
        name,
        if_not_exists,
        columns: columns.unwrap_or_default(),
        partitioned_by: vec![],
        comment: None,
        query: None,
        query_offset: 0,
    };
    loop {
        if cursor.at_words(&["PARTITIONED"]) && table.partitioned_by.is_empty() {
            table.partitioned_by = view::partitioned_by(cursor)?;
        } else if cursor.at_words(&["COMMENT"]) && table.comment.is_none() {
            table.comment = Some(view::comment(cursor)?);
        } else if cursor.take_words(&["AS"]) {
            if !table.columns.is_empty() {
                return Err(cursor
                    .error_at(columns_offset, "CREATE TABLE has either columns or AS, not both")
                    .with_hint("name the columns in the SELECT, with AS, and leave the list away"));
            }
            let (query, offset) = view::query(cursor)?;
            (table.query, table.query_offset) = (Some(query), offset);
            return Ok(table);
        } else {
            break;
        }
    }
    if *cursor.peek(0) == Token::EOF && table.columns.is_empty() {
        return Err(cursor.expected("columns in parentheses, or AS and a query"));
    }
    if *cursor.peek(0) != Token::EOF {
        let error = cursor.expected("PARTITIONED BY, COMMENT or AS");
        let known = cursor.word(0).and_then(|word| did_you_mean(&word.value, ["PARTITIONED", "COMMENT"]));
        return Err(match known {
            Some(known) => error.with_hint(format!("did you mean {known}?")),
            None => error,
        });
    }
    Ok(table)
}

/// After `CREATE EXTERNAL TABLE`.
pub(super) fn create_external(cursor: &mut Cursor<'_>) -> Result<Statement> {
    let name_offset = cursor.offset();
    let name = cursor.name()?;
    let columns = columns(cursor)?.unwrap_or_default();
    let (mut format, mut location, mut options) = (None, None, None);
    loop {
        let offset = cursor.offset();
        let twice = |clause: &str| cursor.error_at(offset, format!("{clause} is given twice"));
        if cursor.at_words(&["STORED"]) {
            let twice = twice("STORED AS");
            cursor.expect_words(&["STORED", "AS"], "the name")?;
            if format.replace(self::format(cursor)?).is_some() {
                return Err(twice);
            }
        } else if cursor.at_words(&["LOCATION"]) {
            let twice = twice("LOCATION");
            cursor.skip(1);
            let offset = cursor.offset();
            let text = cursor.string("the location in single quotes")?;
            if text.trim().is_empty() {
                return Err(cursor.error_at(offset, "the location is empty"));
            }
            if location.replace(text).is_some() {
                return Err(twice);
            }
        } else if cursor.at_words(&["OPTIONS"]) {
            let twice = twice("OPTIONS");
            cursor.skip(1);
            if options.replace(external_options(cursor)?).is_some() {
                return Err(twice);
            }
        } else {
            break;
        }
    }
    if *cursor.peek(0) != Token::EOF {
        return Err(no_clause(cursor));
    }
    let format = format.ok_or_else(|| {
        cursor.expected("STORED AS").with_hint("say what it reads: STORED AS KINESIS, STORED AS JSONL or STORED AS CSV")
    })?;
    let location = location.ok_or_else(|| {
        cursor.expected("LOCATION").with_hint("say where it reads from: LOCATION 'kinesis://region/stream'")
    })?;
    let options = options.unwrap_or_default();
    let format = match format {
        Some(format) => format,
        None if columns.is_empty() => {
            return Err(cursor
                .error_at(name_offset, format!("{name} declares no columns"))
                .with_hint("a CSV file has no types: write (name VARCHAR, latitude DOUBLE, ...) after the name"));
        }
        None => return Ok(Statement::CreateReference(CreateReference { name, location, options, columns })),
    };
    Ok(Statement::CreateSource(CreateSource { name, format, location, options, columns }))
}

fn no_clause(cursor: &Cursor<'_>) -> Error {
    let error = cursor.expected("STORED AS, LOCATION or OPTIONS");
    if cursor.is_word(0, "WITH") {
        return error.with_hint("an external table has OPTIONS ('name' 'value'), not WITH");
    }
    if cursor.is_word(0, "PARTITIONED") {
        return error.with_hint("an external table is only read; partition the view over it");
    }
    let clauses = ["STORED", "LOCATION", "OPTIONS"];
    match cursor.word(0).and_then(|word| did_you_mean(&word.value, clauses)) {
        Some(known) => error.with_hint(format!("did you mean {known}?")),
        None => error,
    }
}

/// After `STORED AS`: a source's format, or None for CSV.
fn format(cursor: &mut Cursor<'_>) -> Result<Option<SourceFormat>> {
    let offset = cursor.offset();
    let word = match cursor.peek(0) {
        Token::Word(word) => word.value.clone(),
        _ => return Err(cursor.expected("KINESIS, JSONL or CSV after STORED AS")),
    };
    let error = |hint: String| {
        cursor
            .error_at(offset, format!("unknown format {word}"))
            .with_detail("the formats are KINESIS, JSONL and CSV")
            .with_hint(hint)
    };
    let format = match word.to_ascii_uppercase().as_str() {
        "KINESIS" => Some(SourceFormat::Kinesis),
        "JSONL" => Some(SourceFormat::Jsonl),
        "CSV" => None,
        "JSON" | "NDJSON" => return Err(error("one JSON object a line is STORED AS JSONL".to_string())),
        _ => {
            return Err(match did_you_mean(&word, FORMATS) {
                Some(known) => error(format!("did you mean {known}?")),
                None => error("events come from KINESIS or JSONL, small tables from CSV".to_string()),
            });
        }
    };
    cursor.skip(1);
    Ok(format)
}

/// `(column TYPE [NOT NULL], ...)`, when there is one.
fn columns(cursor: &mut Cursor<'_>) -> Result<Option<Vec<Column>>> {
    if !cursor.take(&Token::LParen) {
        return Ok(None);
    }
    let mut columns: Vec<Column> = Vec::new();
    loop {
        let offset = cursor.offset();
        no_table_constraint(cursor)?;
        let column = column(cursor)?;
        if columns.iter().any(|other| other.name == column.name) {
            return Err(cursor.error_at(offset, format!("the column \"{}\" is given twice", column.name)));
        }
        if columns.len() >= ITEMS_MAX {
            return Err(cursor.error_at(offset, "too many columns").with_detail(format!("the limit is {ITEMS_MAX}")));
        }
        columns.push(column);
        if !cursor.take(&Token::Comma) {
            break;
        }
    }
    cursor.expect(&Token::RParen, "\",\" or \")\" after a column")?;
    Ok(Some(columns))
}

fn column(cursor: &mut Cursor<'_>) -> Result<Column> {
    let name = cursor.identifier("the name of a column")?;
    let offset = cursor.offset();
    if matches!(cursor.peek(0), Token::Comma | Token::RParen) {
        return Err(cursor.expected(&format!("a type after {name}")).with_hint(format!("write {name} VARCHAR, say")));
    }
    let data_type = cursor.parse(|parser| parser.parser.parse_data_type())?;
    if let DataType::Custom(unknown, _) = &data_type {
        let error = cursor.error_at(offset, format!("unknown type {unknown}"));
        return Err(match did_you_mean(&unknown.to_string(), TYPES) {
            Some(known) => error.with_hint(format!("did you mean {known}?")),
            None => error.with_hint("types are VARCHAR, BIGINT, DOUBLE, DECIMAL(12,2), BOOLEAN, DATE, TIMESTAMP, ..."),
        });
    }
    let mut nullable = None;
    while cursor.is_word(0, "NOT") || cursor.is_word(0, "NULL") {
        let twice = cursor.error("NULL is given twice");
        let not = cursor.take_words(&["NOT"]);
        cursor.expect_words(&["NULL"], "NOT")?;
        if nullable.replace(!not).is_some() {
            return Err(twice);
        }
    }
    let nullable = nullable.unwrap_or(true);
    for option in ["DEFAULT", "PRIMARY", "UNIQUE", "CHECK", "REFERENCES", "CONSTRAINT", "GENERATED", "COLLATE"] {
        if cursor.is_word(0, option) {
            return Err(no_constraint(cursor, option));
        }
    }
    Ok(Column { name, data_type, nullable })
}

/// `PRIMARY KEY (...)` and its like, in place of a column.
fn no_table_constraint(cursor: &Cursor<'_>) -> Result<()> {
    let constraint =
        ["UNIQUE", "CHECK"].iter().find(|word| cursor.is_word(0, word) && *cursor.peek(1) == Token::LParen);
    let key = ["PRIMARY", "FOREIGN"].iter().find(|word| cursor.is_word(0, word) && cursor.is_word(1, "KEY"));
    match constraint.or(key) {
        Some(word) => Err(no_constraint(cursor, word)),
        None => Ok(()),
    }
}

fn no_constraint(cursor: &Cursor<'_>, word: &str) -> Error {
    let word = match word {
        "PRIMARY" | "FOREIGN" => format!("{word} KEY"),
        _ => word.to_string(),
    };
    cursor
        .error(format!("a table takes no {word}"))
        .with_hint("columns have a name, a type and NOT NULL; check rows in a view, with CONSTRAINT ... EXPECT (...)")
}
