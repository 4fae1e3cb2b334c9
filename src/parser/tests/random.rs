//! Whatever the text, the parser answers: never a panic, every error has a place, every text is a slice of the input.

use datafusion::sql::parser::DFParserBuilder;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use sqlparser::dialect::PostgreSqlDialect;

use crate::parser::*;

/// Texts to start from.
const SEEDS: [&str; 9] = [
    super::EVENTS,
    "CREATE EXTERNAL TABLE raw.e (a VARCHAR, b DECIMAL(12,2)) STORED AS KINESIS LOCATION 'kinesis://r/s' OPTIONS ('a' 'b')",
    "CREATE MATERIALIZED VIEW gold.x PARTITIONED BY (bucket(64, a)) AS SELECT a, count(*) FILTER (WHERE b) FROM t GROUP BY a",
    "CREATE TABLE IF NOT EXISTS ref.t (id BIGINT NOT NULL, tags TEXT[]) PARTITIONED BY (id) COMMENT $$x$$",
    "INSERT INTO ref.t (a, b) VALUES (1, 'x;y'), (2, E'\\n'); REFRESH MATERIALIZED VIEW gold.x FULL",
    "EXPLAIN CREATE MATERIALIZED VIEW gold.x WITH (unique_key = 'a, b') AS WITH y AS (SELECT 1) SELECT * FROM y",
    "ALTER MATERIALIZED VIEW gold.x SUSPEND; DROP TABLE IF EXISTS ref.t; SHOW MATERIALIZED VIEWS;",
    "CREATE POLICY p ON gold.x FOR SELECT TO seller USING (seller_id = current_seller()); GRANT SELECT ON gold.x TO a",
    "SELECT CASE WHEN a THEN b ELSE c END, x::TEXT, y[1], INTERVAL '1 day' FROM a JOIN b USING (c) -- भारत 🛒",
];
/// What is put between: tokens that open, close, quote and separate, words of the grammar, odd characters.
const BITS: [&str; 44] = [
    "(",
    ")",
    "[",
    "]",
    "{",
    "}",
    ",",
    ";",
    ".",
    "'",
    "\"",
    "$$",
    "$1",
    "/*",
    "*/",
    "--",
    "\n",
    "\r",
    "\t",
    " ",
    "=",
    "<",
    ">",
    ">>",
    "::",
    "-",
    "\\",
    "\0",
    "\u{feff}",
    "भा",
    "🛒",
    "‘",
    "AS",
    "WITH",
    "EXPECT",
    "ON VIOLATION",
    "CREATE",
    "MATERIALIZED VIEW",
    "EXPLAIN",
    "SELECT",
    "NOT",
    "INTERVAL",
    "E'",
    "9999999999999999999999",
];

/// One change of a text.
#[derive(Debug, Clone)]
enum Edit {
    Insert(Index, &'static str),
    Remove(Index, u8),
    Repeat(Index, u8, u8),
    Swap(Index, Index),
}

fn edit() -> impl Strategy<Value = Edit> {
    prop_oneof![
        (any::<Index>(), select(&BITS[..])).prop_map(|(at, bit)| Edit::Insert(at, bit)),
        (any::<Index>(), 1..20_u8).prop_map(|(at, count)| Edit::Remove(at, count)),
        (any::<Index>(), 1..20_u8, 1..5_u8).prop_map(|(at, count, times)| Edit::Repeat(at, count, times)),
        (any::<Index>(), any::<Index>()).prop_map(|(a, b)| Edit::Swap(a, b)),
    ]
}

fn apply(text: &mut Vec<char>, edit: &Edit) {
    if text.is_empty() {
        return;
    }
    let slice = |at: &Index, count: u8| {
        let from = at.index(text.len());
        from..(from + usize::from(count)).min(text.len())
    };
    match edit {
        Edit::Insert(at, bit) => {
            let at = at.index(text.len());
            text.splice(at..at, bit.chars());
        }
        Edit::Remove(at, count) => {
            let range = slice(at, *count);
            text.drain(range);
        }
        Edit::Repeat(at, count, times) => {
            let range = slice(at, *count);
            let part = text[range.clone()].repeat(usize::from(*times));
            text.splice(range.end..range.end, part);
        }
        Edit::Swap(a, b) => {
            let (a, b) = (a.index(text.len()), b.index(text.len()));
            text.swap(a, b);
        }
    }
}

/// What stock sqlparser makes of the text, where that is fast and has no node that we read otherwise.
fn same_as_stock(text: &str, found: &datafusion::sql::parser::Statement) -> Result<(), TestCaseError> {
    if text.matches(['(', '[']).count() > 8 {
        return Ok(());
    }
    let stock = DFParserBuilder::new(text).with_dialect(&PostgreSqlDialect {}).build();
    let stock = stock.and_then(|mut parser| parser.parse_statement()).unwrap();
    let otherwise = ["ExprNamed", "Interval("].iter().any(|node| format!("{stock:?}").contains(node));
    prop_assert!(*found == stock || otherwise, "{}\n{:?}\n{:?}", text, found, stock);
    Ok(())
}

fn holds(input: &str) -> Result<(), TestCaseError> {
    match parse(input, None) {
        Err(error) => {
            prop_assert_eq!(error.kind(), crate::error::ErrorKind::Syntax);
            let location = error.location().unwrap();
            prop_assert!(location.column <= location.text.chars().count() + 1, "{}", error.render());
            prop_assert!(!error.message().contains("Line:"), "{}", error.render());
        }
        Ok(parsed) => {
            for parsed in parsed {
                prop_assert_eq!(&input[parsed.offset..][..parsed.text.len()], &parsed.text);
                let again = parse(&parsed.text, None);
                prop_assert!(again.is_ok_and(|again| again.len() == 1), "{}", parsed.text);
                if let Statement::Sql(found) = &parsed.statement {
                    same_as_stock(&parsed.text, found)?;
                }
                if let Statement::CreateMaterializedView(view) = &parsed.statement {
                    prop_assert_eq!(&input[view.query_offset..][..view.query.len()], &view.query);
                }
            }
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn mutated_statements(seed in select(&SEEDS[..]), edits in prop::collection::vec(edit(), 1..8)) {
        let mut text: Vec<char> = seed.chars().collect();
        edits.iter().for_each(|edit| apply(&mut text, edit));
        holds(&text.into_iter().collect::<String>())?;
    }

    #[test]
    fn bits_in_a_row(bits in prop::collection::vec(select(&BITS[..]), 0..40)) {
        holds(&bits.join(" "))?;
        holds(&bits.concat())?;
    }

    #[test]
    fn any_text(text in "\\PC*") {
        holds(&text)?;
    }
}
