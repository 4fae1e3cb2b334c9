//! Test scripts: plain sqllogictest, as a list of records.
//!
//! ```text
//!   # what is tested                      a comment
//!   statement ok                          it is carried out; `count N`: it changes N rows; `error TEXT`: it is refused,
//!   INSERT INTO s.t VALUES (1, 'a b')     in words that hold TEXT
//!                                         an empty line ends a record
//!   query IT rowsort                      one letter a column; rowsort: the order of the rows does not matter
//!   SELECT * FROM s.t                     a word more is a label: queries with the same label have the same rows
//!   ----
//!   1 a b                                 one line a row; NULL; (empty) for an empty text
//!   halt                                  what comes below is not looked at
//! ```
//!
//! Pure: text in, records or the first mistake out.

use crate::error::{Error, ErrorKind, Location, Result};
use crate::parser::did_you_mean;

/// What separates a query from its rows.
const RULE: &str = "----";

/// Letters of a column's type. They are for the reader; only their number is judged.
const TYPES: &str = "TIRBD?";

/// How a record looks.
const GRAMMAR: &str =
    "write `statement ok`, `statement count N`, `statement error TEXT`, `query TYPES [rowsort] [label]`, or `halt`";

/// A script.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Script {
    /// The file, as errors name it.
    pub file: String,
    /// Its records, in order; at least one.
    pub records: Vec<Record>,
}

/// One statement or query, and what is expected of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Where it begins; 1-based.
    pub line: usize,
    /// The statement.
    pub sql: String,
    /// What it must come to.
    pub expect: Expect,
}

/// What a record must come to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Expect {
    /// It is carried out.
    Ok,
    /// It changes so many rows.
    Count(u64),
    /// It is refused, in words that hold this text.
    Error(String),
    /// It gives these rows.
    Rows(Rows),
}

/// The rows of a query.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rows {
    /// How many columns they have.
    pub columns: usize,
    /// Their order does not matter.
    pub any_order: bool,
    /// Queries of one label have the same rows.
    pub label: Option<String>,
    /// The rows, a line each, cells separated by one blank.
    pub lines: Vec<String>,
}

impl Script {
    /// The records of a text.
    ///
    /// # Errors
    /// `Syntax`, with the place.
    pub fn parse(file: &str, text: &str) -> Result<Self> {
        let mut reader = Reader { file, lines: text.lines().collect(), next: 0 };
        let mut records = Vec::new();
        while let Some(line) = reader.lines.get(reader.next) {
            let at = reader.next;
            reader.next += 1;
            let (word, rest) = first_word(line);
            match word {
                "" => {}
                word if word.starts_with('#') => {}
                "statement" => records.push(reader.statement(at, rest)?),
                "query" => records.push(reader.query(at, rest)?),
                "halt" => break,
                other => {
                    let hint = did_you_mean(other, ["statement", "query", "halt"])
                        .map_or_else(|| GRAMMAR.to_string(), |word| format!("did you mean {word}?"));
                    return Err(reader.error(at, other, format!("\"{other}\" begins no record")).with_hint(hint));
                }
            }
        }
        match records.is_empty() {
            false => Ok(Self { file: file.to_string(), records }),
            true => Err(Error::new(ErrorKind::Syntax, format!("{file} tests nothing")).with_hint(GRAMMAR)),
        }
    }

    /// How many records ask for rows.
    pub fn queries(&self) -> usize {
        self.records.iter().filter(|record| matches!(record.expect, Expect::Rows(_))).count()
    }

    /// How many records do not.
    pub fn statements(&self) -> usize {
        self.records.len() - self.queries()
    }
}

/// The cells of a row as a script writes them: white space within a cell is one blank, an empty text shows.
pub fn line_of(cells: &[String]) -> String {
    let cell = |cell: &String| match cell.is_empty() {
        true => "(empty)".to_string(),
        false => words(cell),
    };
    words(&cells.iter().map(cell).collect::<Vec<_>>().join(" "))
}

fn words(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn first_word(line: &str) -> (&str, &str) {
    let line = line.trim();
    line.split_once(char::is_whitespace).map_or((line, ""), |(word, rest)| (word, rest.trim()))
}

/// Where the reading stands.
struct Reader<'a> {
    file: &'a str,
    lines: Vec<&'a str>,
    next: usize,
}

impl<'a> Reader<'a> {
    /// After `statement`, in line `at`.
    fn statement(&mut self, at: usize, rest: &str) -> Result<Record> {
        let (word, text) = first_word(rest);
        let expect = match word {
            "ok" if text.is_empty() => Expect::Ok,
            "count" => match text.parse() {
                Ok(count) => Expect::Count(count),
                Err(_) => return Err(self.error(at, text, format!("\"{text}\" is no number of rows"))),
            },
            "error" => Expect::Error(text.to_string()),
            _ => return Err(self.error(at, rest, format!("a statement is not \"{rest}\"")).with_hint(GRAMMAR)),
        };
        self.without_rows(at, expect)
    }

    /// After `query`, in line `at`.
    fn query(&mut self, at: usize, rest: &str) -> Result<Record> {
        let (types, rest) = first_word(rest);
        if types == "error" {
            return self.without_rows(at, Expect::Error(rest.to_string()));
        }
        if types.is_empty() || !types.chars().all(|letter| TYPES.contains(letter)) {
            return Err(self.error(at, types, format!("\"{types}\" does not name the types of the columns")).with_hint(
                "one letter a column: T text, I integer, R another number, B boolean, D date or time; such as query TIR",
            ));
        }
        let mut rows = Rows { columns: types.len(), ..Rows::default() };
        let mut words = rest.split_whitespace().peekable();
        rows.any_order = match words.peek().copied() {
            Some("rowsort") => words.next().is_some(),
            Some("nosort") => words.next().is_none(),
            Some("valuesort") => {
                return Err(self.error(at, "valuesort", "rows are compared, not single values").with_hint("rowsort"));
            }
            _ => false,
        };
        rows.label = words.next().map(str::to_string);
        if let Some(word) = words.next() {
            return Err(self.error(at, word, format!("\"{word}\" is a word too many")).with_hint(GRAMMAR));
        }
        let (sql, ruled) = self.block();
        if !ruled {
            return Err(self.error(at, "query", format!("a query without {RULE}")).with_hint(format!(
                "write {RULE} below the query, and below that the rows that it gives; none, if it gives none"
            )));
        }
        let sql = self.text(at, &sql)?;
        rows.lines = self.block().0.into_iter().map(self::words).collect();
        Ok(Record { line: at + 1, sql, expect: Expect::Rows(rows) })
    }

    fn without_rows(&mut self, at: usize, expect: Expect) -> Result<Record> {
        let (sql, ruled) = self.block();
        if ruled {
            return Err(self.error(self.next - 1, RULE, "rows are expected of a query only").with_hint(GRAMMAR));
        }
        Ok(Record { line: at + 1, sql: self.text(at, &sql)?, expect })
    }

    /// The lines up to an empty one or a rule, which is passed; whether it was a rule.
    fn block(&mut self) -> (Vec<&'a str>, bool) {
        let rest = &self.lines[self.next..];
        let ends = |line: &&str| line.trim().is_empty() || line.trim_end() == RULE;
        let length = rest.iter().position(ends).unwrap_or(rest.len());
        let ruled = rest.get(length).is_some_and(|line| line.trim_end() == RULE);
        let block = rest[..length].to_vec();
        self.next += length + usize::from(length < rest.len());
        (block, ruled)
    }

    fn text(&self, at: usize, lines: &[&str]) -> Result<String> {
        match lines.is_empty() {
            false => Ok(lines.join("\n")),
            true => Err(self.error(at, "", "no SQL stands below this line")),
        }
    }

    /// A mistake in line `at`, at the first place of a word of it.
    fn error(&self, at: usize, word: &str, message: impl Into<String>) -> Error {
        let text = self.lines[at].trim_end();
        let column = text[..text.find(word).unwrap_or(0)].chars().count() + 1;
        let place = Location { file: Some(self.file.to_string()), line: at + 1, column, text: text.to_string() };
        Error::new(ErrorKind::Syntax, message).with_location(place)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCRIPT: &str = "\
# what it is

statement ok
CREATE TABLE s.t (
  a INT)

statement count 2
INSERT INTO s.t VALUES (1), (2)

query IT rowsort first
SELECT a,   'x  y' FROM s.t
----
2   x y
 1 x y

query I
SELECT 1 WHERE false
----

statement error no such  table
SELECT 1 FROM s.u

query error
SELECT 1 FROM s.u

halt
anything at all
";

    fn refused(text: &str) -> (String, usize, usize) {
        let error = Script::parse("t.slt", text).unwrap_err();
        let at = error.location().unwrap_or_else(|| panic!("{error}"));
        (error.message().to_string(), at.line, at.column)
    }

    #[test]
    fn records_are_what_was_written() {
        let script = Script::parse("t.slt", SCRIPT).unwrap();
        assert_eq!((script.statements(), script.queries(), script.file.as_str()), (4, 2, "t.slt"));
        let lines = script.records.iter().map(|record| record.line).collect::<Vec<_>>();
        assert_eq!(lines, [3, 7, 10, 16, 20, 23]);
        assert_eq!(script.records[0].sql, "CREATE TABLE s.t (\n  a INT)");
        assert_eq!(script.records[1].expect, Expect::Count(2));
        let rows = Rows {
            columns: 2,
            any_order: true,
            label: Some("first".into()),
            lines: vec!["2 x y".into(), "1 x y".into()],
        };
        assert_eq!(script.records[2].expect, Expect::Rows(rows));
        assert_eq!(script.records[3].expect, Expect::Rows(Rows { columns: 1, ..Rows::default() }));
        assert_eq!(script.records[4].expect, Expect::Error("no such  table".into()));
        assert_eq!(script.records[5].expect, Expect::Error(String::new()));
    }

    #[test]
    fn each_mistake_has_its_place() {
        assert_eq!(refused("\nstatment ok\nSELECT 1"), ("\"statment\" begins no record".into(), 2, 1));
        assert_eq!(refused("statement good\nSELECT 1"), ("a statement is not \"good\"".into(), 1, 11));
        assert_eq!(refused("statement count x\nSELECT 1"), ("\"x\" is no number of rows".into(), 1, 17));
        assert_eq!(refused("statement ok\n\nSELECT 1"), ("no SQL stands below this line".into(), 1, 1));
        assert_eq!(refused("statement ok\nSELECT 1\n----\n1"), ("rows are expected of a query only".into(), 3, 1));
        assert_eq!(refused("query\nSELECT 1\n----\n1").1, 1);
        assert_eq!(refused("query int\nSELECT 1\n----\n1").0, "\"int\" does not name the types of the columns");
        assert_eq!(refused("query I\nSELECT 1\n\n1"), ("a query without ----".into(), 1, 1));
        assert_eq!(refused("query I rowsort a b\nSELECT 1\n----"), ("\"b\" is a word too many".into(), 1, 19));
        assert_eq!(refused("query I valuesort\nSELECT 1\n----").2, 9);
        let nothing = Script::parse("t.slt", "# only a comment\n").unwrap_err();
        assert!(nothing.message().contains("t.slt tests nothing"), "{nothing}");
    }

    #[test]
    fn cells_are_written_so_that_they_can_be_read() {
        let cells = ["a  b\nc", "", "NULL", " 1 "].map(String::from);
        assert_eq!(line_of(&cells), "a b c (empty) NULL 1");
    }
}
