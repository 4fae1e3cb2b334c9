//! What Tab offers at the prompt.
//!
//! ```text
//!   SELECT seller_id FROM gold.k|         the word before the cursor, and the words before that
//!       after FROM, JOIN, INTO ...        tables and views
//!       elsewhere                         columns of the tables that the statement names (of all, where it names none),
//!                                         tables, keywords
//!   \t|                                   commands
//! ```

use std::collections::{BTreeMap, BTreeSet};

use rustyline::completion::Completer;
use rustyline::highlight::Highlighter;
use rustyline::hint::Hinter;
use rustyline::validate::Validator;
use rustyline::{Context, Helper};

/// The most that is offered.
const OFFERED_MAX: usize = 200;

/// Words after which a table follows.
const BEFORE_TABLE: [&str; 8] = ["from", "join", "into", "update", "table", "view", "describe", "\\d"];

/// Words that begin or go on with a statement of the dialect.
const KEYWORDS: &str = "ALTER AND AS ASC AUDIT BETWEEN BY CASE CAST COMMENT CONSTRAINT COUNT CREATE CROSS DECLASSIFY DELETE \
    DESC DISTINCT DROP ELSE END EXISTS EXPECT EXPLAIN EXTERNAL FALSE FROM FULL GRANT GROUP HAVING IN INNER INSERT INTERVAL \
    INTO IS JOIN LEFT LIKE LIMIT MASK MATERIALIZED MERGE NOT NULL ON OPTIONS OR ORDER OVER PARTITION PARTITIONED POLICY \
    QUARANTINE REFRESH RESUME REVOKE ROLE ROW SELECT SET SHOW SUM SUSPEND TABLE THEN TIMESTAMP TO TOKEN TRUE TRUNCATE UNION \
    UPDATE USER USING VALUES VIEW VIEWS VIOLATION WHEN WHERE WITH";

/// The commands of the prompt.
pub(super) const COMMANDS: [&str; 9] = ["\\?", "\\d", "\\dp", "\\du", "\\dv", "\\f", "\\i", "\\q", "\\timing"];

/// The names that there are, and the lines of the statement before this one.
#[derive(Debug, Default)]
pub(super) struct Names {
    /// Columns by table.
    pub tables: BTreeMap<String, Vec<String>>,
    /// What was typed so far.
    pub before: String,
}

impl Names {
    /// Where the word begins, and what it may become.
    pub(super) fn offer(&self, line: &str, cursor: usize) -> (usize, Vec<String>) {
        let line = &line[..cursor];
        let start = line.rfind(|c: char| !is_part(c)).map_or(0, |at| at + 1);
        let start = if line[..start].ends_with('\\') { start - 1 } else { start };
        let (rest, word) = line.split_at(start);
        if word.starts_with('\\') {
            return (start, COMMANDS.iter().filter(|it| it.starts_with(word)).map(ToString::to_string).collect());
        }
        let text = format!("{} {rest}", self.before).to_lowercase();
        let tables = self.tables.keys().map(String::as_str);
        let last = text.split_whitespace().next_back().unwrap_or_default();
        let typed = word.to_lowercase();
        let fits = |name: &&str| name.to_lowercase().starts_with(&typed);
        let mut offered: Vec<String> = if BEFORE_TABLE.contains(&last) {
            tables.filter(fits).map(String::from).collect()
        } else {
            let named = |table: &&String| text.contains(table.as_str());
            let of_named: BTreeSet<&str> = self
                .tables
                .iter()
                .filter(|(table, _)| named(table))
                .flat_map(|(_, it)| it)
                .map(String::as_str)
                .collect();
            let of_all = || self.tables.values().flatten().map(String::as_str).collect();
            let columns: BTreeSet<&str> = if of_named.is_empty() { of_all() } else { of_named };
            let lower = word.starts_with(|c: char| c.is_ascii_lowercase());
            let keyword = |word: &str| if lower { word.to_lowercase() } else { word.to_string() };
            let keywords = KEYWORDS.split_whitespace().filter(fits).map(keyword);
            let keywords = keywords.filter(|_| !word.is_empty());
            let names = columns.into_iter().chain(tables).filter(fits).map(String::from);
            names.chain(keywords).collect()
        };
        offered.truncate(OFFERED_MAX);
        (start, offered)
    }
}

/// A letter of a name, qualified or quoted.
fn is_part(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '_' | '.' | '"')
}

impl Completer for Names {
    type Candidate = String;

    fn complete(&self, line: &str, cursor: usize, _: &Context<'_>) -> rustyline::Result<(usize, Vec<String>)> {
        Ok(self.offer(line, cursor))
    }
}

impl Hinter for Names {
    type Hint = String;
}

impl Highlighter for Names {}

impl Validator for Names {}

impl Helper for Names {}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(before: &str) -> Names {
        let columns = |names: &[&str]| names.iter().map(ToString::to_string).collect();
        let tables = [("gold.kpis", columns(&["seller_id", "revenue"])), ("gold.places", columns(&["city", "state"]))];
        Names { tables: tables.map(|(name, of)| (name.to_string(), of)).into(), before: before.into() }
    }

    fn offered(before: &str, line: &str) -> Vec<String> {
        names(before).offer(line, line.len()).1
    }

    #[test]
    fn tables_follow_from_and_columns_are_those_of_the_tables_that_are_named() {
        assert_eq!(offered("", "SELECT * FROM go"), ["gold.kpis", "gold.places"]);
        assert_eq!(offered("", "SELECT * FROM gold.k"), ["gold.kpis"]);
        assert_eq!(offered("", "select s"), ["seller_id", "state", "select", "set", "show", "sum", "suspend"]);
        assert_eq!(offered("SELECT * FROM gold.kpis\n", "WHERE se"), ["seller_id", "select", "set"]);
        assert_eq!(offered("SELECT * FROM gold.places\n", "WHERE SE"), ["SELECT", "SET"]);
        assert_eq!(offered("", "\\d gold.p"), ["gold.places"]);
    }

    #[test]
    fn commands_and_words_begin_where_they_begin() {
        assert_eq!(offered("", "\\d"), ["\\d", "\\dp", "\\du", "\\dv"]);
        assert_eq!(names("").offer("SELECT count(reve", 17), (13, vec!["revenue".to_string()]));
        assert_eq!(names("").offer("SELECT reve FROM x", 11), (7, vec!["revenue".to_string()]), "before the cursor");
        assert!(offered("", "SELEC").contains(&"SELECT".to_string()));
        assert!(offered("", "é.").is_empty(), "no letter is cut in two");
    }
}
