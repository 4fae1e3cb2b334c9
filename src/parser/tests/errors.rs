//! Every mistake says what is wrong, where, and what to do: `errors.txt`, and the limits.

use crate::error::ErrorKind;
use crate::parser::*;

const CASES: &str = include_str!("errors.txt");

/// What a text's error renders to.
fn rendered(sql: &str) -> String {
    match parse(sql, Some("test.sql")) {
        Ok(parsed) => format!("no error: {parsed:?}\n"),
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::Syntax, "{sql}");
            assert!(error.location().is_some(), "{sql}");
            error.render()
        }
    }
}

#[test]
fn errors_read_as_written_down() {
    let mut checked = 0;
    for case in CASES.split("====\n") {
        let (sql, expected) = case.split_once("----\n").unwrap();
        let found = rendered(sql.strip_suffix('\n').unwrap());
        assert_eq!(found, expected, "\n{sql}----\n{found}====");
        checked += 1;
    }
    assert!(checked >= 60);
}

/// The first error in a text that is too long to be written down.
fn message(sql: &str) -> String {
    parse(sql, None).err().map(|error| error.message().to_string()).unwrap_or_default()
}

#[test]
fn texts_have_limits() {
    let long = |bytes: usize| format!("SELECT '{}'", "x".repeat(bytes));
    assert_eq!(message(&long(STATEMENT_BYTES_MAX - 9)), "");
    assert_eq!(message(&long(STATEMENT_BYTES_MAX - 8)), "the statement is too long");
    assert_eq!(message(&format!("{};", long(1_000_000)).repeat(4)), "");
    assert_eq!(message(&format!("{};", long(1_000_000)).repeat(5)), "the text is too long");
}

#[test]
fn nesting_has_a_limit() {
    let deep = "the statement is nested too deeply";
    let nested =
        |open: &str, close: &str, levels: usize| format!("SELECT {}1{}", open.repeat(levels), close.repeat(levels));
    for (open, close) in [("(", ")"), ("abs(", ")"), ("(SELECT ", ")"), ("CASE WHEN true THEN ", " END"), ("- ", "")] {
        assert_eq!(message(&nested(open, close, 10)), "", "{open}");
        assert_eq!(message(&nested(open, close, 60)), deep, "{open}");
        assert_eq!(message(&nested(open, close, 100_000 / open.len())), deep, "{open}");
    }
    for word in ["NOT ", "INTERVAL ", "EXPLAIN ", "ARRAY<", "[", "{"] {
        let text = format!("EXPLAIN SELECT {}", word.repeat(100_000));
        let found = message(&text);
        assert!([deep, "this expression is too long"].contains(&&*found), "{word}: {found}");
    }
    assert_eq!(message(&"EXPLAIN ".repeat(1_000)), deep);
    assert_eq!(message(&format!("{}SELECT 1", "EXPLAIN ANALYZE ".repeat(1_000))), deep);
    assert_eq!(message(&format!("CREATE TABLE ref.t (a {}", "ARRAY<".repeat(100_000))), deep);
}

#[test]
fn chains_have_a_limit_and_lists_have_none() {
    let chain = |terms: usize| format!("SELECT 1{}", " + 1".repeat(terms));
    assert_eq!(message(&chain(1_900)), "");
    assert_eq!(message(&chain(2_100)), "this expression is too long");
    assert_eq!(message(&format!("SELECT 1{}", ", 1".repeat(100_000))), "");
    assert_eq!(message(&format!("INSERT INTO ref.t VALUES (1, -1){}", ", (1 + 2, 'x')".repeat(20_000))), "");
    assert_eq!(message(&format!("SELECT 1 WHERE 1 IN (1{})", ", 2".repeat(50_000))), "");
}

#[test]
fn the_statement_with_the_error_is_named() {
    let error = parse("SELECT 1;\n\n  SELECT 2 FORM t;", None).unwrap_err();
    let location = error.location().unwrap();
    assert_eq!((location.line, location.column, &*location.text), (3, 17, "  SELECT 2 FORM t;"));
}
