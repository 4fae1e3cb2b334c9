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
    let mut wrong = String::new();
    for case in CASES.split("====\n") {
        let (sql, expected) = case.split_once("----\n").unwrap();
        let found = rendered(sql.strip_suffix('\n').unwrap());
        if found != expected {
            wrong += &format!("{sql}----\n{found}====\n");
        }
    }
    assert!(wrong.is_empty(), "these render otherwise now:\n{wrong}");
    assert!(CASES.split("====\n").count() >= 60);
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
    let cases = [
        ("(", ")"),
        ("replace(", ", 'a', 'b')"),
        ("CAST(", " AS TEXT)"),
        ("NOT (", ")"),
        ("ARRAY[", "]"),
        ("CASE WHEN true THEN ", " END"),
        ("coalesce(CASE WHEN a THEN 0 ELSE ", " END)"),
        ("- ", ""),
    ];
    for (open, close) in cases {
        assert_eq!(message(&nested(open, close, 15)), "", "{open}");
        assert_eq!(message(&nested(open, close, 60)), deep, "{open}");
        let endless = message(&nested(open, close, 2_000));
        assert!([deep, "this expression is too long"].contains(&&*endless), "{open}: {endless}");
    }
    assert_eq!(message(&nested("replace(", ", 'a', 'b')", 40)), "");
    assert_eq!(message(&nested("(SELECT ", ")", 10)), "");
    for word in ["NOT ", "INTERVAL ", "EXPLAIN ", "ARRAY<", "[", "{", "! ", "!", "INTERVAL - ", "INTERVAL DAY ", "a."] {
        let found = message(&format!("EXPLAIN SELECT {}", word.repeat(50_000)));
        assert!([deep, "this expression is too long"].contains(&&*found), "{word}: {found}");
    }
    assert_eq!(message(&"EXPLAIN ".repeat(1_000)), deep);
    assert_eq!(message(&format!("{}SELECT 1", "EXPLAIN ANALYZE ".repeat(900))), deep);
    assert_eq!(message(&format!("CREATE TABLE ref.t (a {}", "ARRAY<".repeat(100_000))), deep);
}

/// A mistake deep inside is told at once: stock sqlparser goes back and tries again at every level.
#[test]
fn mistakes_inside_nested_text_are_cheap() {
    for open in
        ["abs(", "CAST(", "NOT (", "CASE WHEN a THEN ", "ARRAY[", "EXTRACT(", "OVERLAY(", "POSITION(", "INTERVAL ("]
    {
        let found = message(&format!("SELECT {} FRM", open.repeat(40)));
        assert!(!found.is_empty(), "{open}");
    }
    let nested = "CASE WHEN a THEN 1 ELSE ";
    let error = parse(&format!("SELECT {}2 {}, b FORM t", nested.repeat(20), "END ".repeat(20)), None).unwrap_err();
    assert_eq!(error.hint(), Some("did you mean FROM instead of FORM?"));
}

#[test]
fn chains_have_a_limit_and_lists_have_none() {
    let long = "this expression is too long";
    let parts = "this query has too many parts";
    for (start, link, fine, bad, wanted) in [
        ("SELECT 1", " + 1", 900, 1_100, long),
        ("SELECT a", " OR a = 'x'", 450, 600, long),
        ("SELECT 1, 2", " UNION ALL SELECT 3, 4", 450, 550, parts),
        ("SELECT 1 FROM a", ", a", 450, 550, parts),
        ("SELECT 1 FROM a", " NATURAL JOIN b", 450, 550, parts),
        ("SELECT 1", ", 1", 10_000, usize::MAX, ""),
        ("INSERT INTO ref.t VALUES (1, -1)", ", (1 + 2, 'x')", 10_000, usize::MAX, ""),
        ("SELECT 1 WHERE 1 IN (1", ", 2", 10_000, usize::MAX, "expected"),
    ] {
        let close = if start.ends_with("(1") { ")" } else { "" };
        assert_eq!(message(&format!("{start}{}{close}", link.repeat(fine))), "", "{start}{link}");
        if bad < usize::MAX {
            assert_eq!(message(&format!("{start}{}{close}", link.repeat(bad))), wanted, "{start}{link}");
        }
    }
}

#[test]
fn the_statement_with_the_error_is_named() {
    let error = parse("SELECT 1;\n\n  SELECT 2 FORM t;", None).unwrap_err();
    let location = error.location().unwrap();
    assert_eq!((location.line, location.column, &*location.text), (3, 17, "  SELECT 2 FORM t;"));
}
