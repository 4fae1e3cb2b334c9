//! Texts are exact and offsets point at them, whatever stands around and inside.

use crate::parser::*;

/// Texts that a careless splitter would cut or move.
const QUERIES: [&str; 10] = [
    "SELECT 'a;b', \"c;d\", $$e;f$$, $x$g;'h$x$ FROM t",
    "SELECT 1 -- a comment; with 'a quote\n  , 2",
    "SELECT /* a; /* nested; */ comment */ 1",
    "SELECT 'it''s', E'it\\'s', 'ends with \\' FROM t",
    "SELECT\r\n\t1\r\n\r\nFROM\r\n\tt",
    "SELECT 'भारत', '🛒', \"प्राइस\" FROM \"दुकान\"",
    "SELECT '🛒\n\u{a0}🛒', 1 + 2 -- ️\u{2003}\n, 3",
    "WITH x AS (SELECT 1) (SELECT * FROM x) UNION ALL VALUES (1)",
    "SELECT a->>'b', c::TEXT, d || e, f <> g, U&'\\0041', X'00', B'01', 1.5e3, $1 FROM t",
    "TABLE gold.x",
];
const AROUND: [(&str, &str); 6] = [
    ("", ""),
    ("\u{feff}", "\n"),
    ("-- ünï; code\n", " -- after"),
    ("SELECT 'x;🛒'; /* ; */ ;\n\n", ";"),
    ("\t", " /* after */ ; SELECT 1"),
    ("\r\n", "\r\n;\r\n"),
];

#[test]
fn queries_survive() {
    for query in QUERIES {
        for (before, after) in AROUND {
            let view = format!("CREATE MATERIALIZED VIEW gold.x\n/* ünï; */ COMMENT ';🛒' AS -- here:\n  {query}");
            let input = format!("{before}{view}{after}");
            let parsed = parse(&input, None).unwrap_or_else(|error| panic!("{}", error.render()));
            let parsed = parsed.iter().find(|parsed| matches!(parsed.statement, Statement::CreateMaterializedView(_)));
            let parsed = parsed.unwrap();
            assert_eq!(parsed.text, view);
            assert_eq!(parsed.offset, before.len());
            let Statement::CreateMaterializedView(found) = &parsed.statement else { unreachable!() };
            assert_eq!(found.query, query);
            assert_eq!(&input[found.query_offset..found.query_offset + query.len()], query);
        }
    }
}

#[test]
fn predicates_survive() {
    for predicate in ["a IN (';', 'b)')", "a /* ) ; */ > 0", "(a) = '🛒' -- )\n AND b", "x > 0"] {
        let input =
            format!("CREATE MATERIALIZED VIEW gold.x (CONSTRAINT \"ü\" EXPECT ( {predicate} -- )\n )) AS SELECT 1");
        let parsed = parse(&input, None).unwrap_or_else(|error| panic!("{}", error.render()));
        let Statement::CreateMaterializedView(found) = &parsed[0].statement else { unreachable!() };
        let expectation = &found.expectations[0];
        assert_eq!((&*expectation.name, &*expectation.predicate), ("ü", predicate));
        assert_eq!(&input[expectation.predicate_offset..][..predicate.len()], predicate);
    }
}

#[test]
fn nothing_to_do() {
    for input in ["", " \n", ";", ";;\n;", "-- only\n-- comments", "/* ; */", "\u{feff}", "\u{feff}-- x"] {
        assert_eq!(parse(input, None).unwrap(), [], "{input:?}");
    }
}

#[test]
fn several_statements() {
    let input = "SELECT 1; SELECT ';' ;\n-- x\nSELECT 3";
    let found: Vec<_> = parse(input, None).unwrap().into_iter().map(|parsed| (parsed.offset, parsed.text)).collect();
    let expected = [(0, "SELECT 1"), (10, "SELECT ';'"), (28, "SELECT 3")].map(|(at, text)| (at, text.to_string()));
    assert_eq!(found, expected);
}

#[test]
fn places() {
    let input = "\u{feff}ab\r\nü🛒c\n\nd";
    for (offset, line, column, text) in [
        (0, 1, 1, "ab"),
        (3, 1, 1, "ab"),
        (4, 1, 2, "ab"),
        (7, 2, 1, "ü🛒c"),
        (9, 2, 2, "ü🛒c"),
        (10, 2, 2, "ü🛒c"),
        (13, 2, 3, "ü🛒c"),
        (14, 2, 4, "ü🛒c"),
        (15, 3, 1, ""),
        (16, 4, 1, "d"),
        (17, 4, 2, "d"),
        (99, 4, 2, "d"),
    ] {
        let found = location_at(input, offset, Some("f"));
        assert_eq!((found.line, found.column, &*found.text), (line, column, text), "{offset}");
    }
    for (line, column, offset) in [
        (1, 1, 3),
        (1, 2, 4),
        (2, 1, 7),
        (2, 2, 9),
        (2, 3, 13),
        (3, 1, 15),
        (4, 1, 16),
        (4, 2, 17),
        (4, 9, 17),
        (9, 1, 17),
    ] {
        assert_eq!(offset_of(input, line, column), offset, "{line}:{column}");
    }
}
