//! Tests of the parser: statements, errors, exact texts and offsets, random texts.
//!
//! Errors are cases in `tests/errors.txt`: a text, `----`, and all that its error renders to.

mod access;
mod errors;
mod exact;
mod random;

use std::collections::BTreeMap;

use sqlparser::ast::{DataType, ExactNumberInfo};

use super::*;
use crate::name::TableName;

/// The one statement of a text.
fn one(sql: &str) -> Parsed {
    let mut parsed = parse(sql, Some("test.sql")).unwrap_or_else(|error| panic!("{sql}\n{}", error.render()));
    assert_eq!(parsed.len(), 1, "{sql}");
    parsed.remove(0)
}

fn view(sql: &str) -> CreateMaterializedView {
    match one(sql).statement {
        Statement::CreateMaterializedView(view) => view,
        other => panic!("{sql}: {other:?}"),
    }
}

fn name(text: &str) -> TableName {
    text.parse().unwrap()
}

fn column(name: &str, data_type: DataType, nullable: bool) -> Column {
    Column { name: name.to_string(), data_type, nullable }
}

/// The statements of DESIGN's dialect, whole.
const EVENTS: &str = "\
CREATE MATERIALIZED VIEW silver.events (
  CONSTRAINT has_seller EXPECT (seller_id IS NOT NULL)  ON VIOLATION QUARANTINE ROW,
  CONSTRAINT sane_price EXPECT (price >= 0)             ON VIOLATION DROP ROW,
  CONSTRAINT known_city EXPECT (city IS NOT NULL),      -- counted, kept
  CONSTRAINT no_future  EXPECT (event_time < TIMESTAMP '2100-01-01') ON VIOLATION FAIL UPDATE
) PARTITIONED BY (seller_id)
  COMMENT 'One row per event, cleaned.'
  WITH (target_lag = '5 seconds', unique_key = 'event_id', dedupe_within = '1 day')
AS SELECT seller_id, price FROM bronze.events";

#[test]
fn a_view_with_everything() {
    let view = view(EVENTS);
    assert_eq!(view.name, name("silver.events"));
    assert_eq!(view.query, "SELECT seller_id, price FROM bronze.events");
    assert_eq!(view.partitioned_by, [PartitionBy::Column("seller_id".into())]);
    assert_eq!(view.comment.as_deref(), Some("One row per event, cleaned."));
    let options = ViewOptions {
        target_lag_ms: Some(5_000),
        refresh_mode: RefreshMode::Incremental,
        unique_key: vec!["event_id".into()],
        dedupe_within_ms: Some(86_400_000),
        retention: None,
        ignores_expired: false,
    };
    assert_eq!(view.options, options);
    let expectations: Vec<_> = view
        .expectations
        .iter()
        .map(|expectation| (&*expectation.name, &*expectation.predicate, expectation.on_violation.as_str()))
        .collect();
    let expected = [
        ("has_seller", "seller_id IS NOT NULL", "quarantine_row"),
        ("sane_price", "price >= 0", "drop_row"),
        ("known_city", "city IS NOT NULL", "warn"),
        ("no_future", "event_time < TIMESTAMP '2100-01-01'", "fail_update"),
    ];
    assert_eq!(expectations, expected);
}

#[test]
fn clauses_of_a_view_stand_in_any_order() {
    let one_way = "PARTITIONED BY (a) COMMENT 'c' WITH (target_lag = downstream)";
    for clauses in [
        one_way,
        "WITH (target_lag = 'Downstream') COMMENT 'c' PARTITIONED BY (\"a\")",
        "comment 'c' partitioned by (A) with (TARGET_LAG = 'downstream')",
    ] {
        let found = view(&format!("CREATE MATERIALIZED VIEW gold.x {clauses} AS SELECT 1 AS a"));
        let expected = view(&format!("CREATE MATERIALIZED VIEW gold.x {one_way} AS SELECT 1 AS a"));
        let found = CreateMaterializedView { query_offset: expected.query_offset, ..found };
        assert_eq!(found, expected, "{clauses}");
    }
}

#[test]
fn options_of_a_view() {
    let options = |text: &str| view(&format!("CREATE MATERIALIZED VIEW gold.x WITH ({text}) AS SELECT 1")).options;
    assert_eq!(options("refresh_mode = 'full'").refresh_mode, RefreshMode::Full);
    assert_eq!(options("refresh_mode = AUTO").refresh_mode, RefreshMode::Auto);
    assert_eq!(options("refresh_mode = 'incremental'"), ViewOptions::default());
    assert_eq!(options("unique_key = 'Order_Id, \"Line\"'").unique_key, ["order_id", "Line"]);
    assert_eq!(options("unique_key = event_id, dedupe_within = '2 hours'").dedupe_within_ms, Some(7_200_000));
    assert_eq!(options("target_lag = '500 milliseconds'").target_lag_ms, Some(500));
}

#[test]
fn partitions() {
    let view =
        view("CREATE MATERIALIZED VIEW silver.e PARTITIONED BY (bucket(64, Seller_id), day, bucket) AS SELECT 1");
    let expected = [
        PartitionBy::Bucket { count: 64, column: "seller_id".into() },
        PartitionBy::Column("day".into()),
        PartitionBy::Column("bucket".into()),
    ];
    assert_eq!(view.partitioned_by, expected);
}

#[test]
fn words_of_the_dialect_are_still_names() {
    let view = view(
        "CREATE MATERIALIZED VIEW gold.quarantine (CONSTRAINT expect EXPECT (violation > 0)) \
         AS SELECT violation, expect FROM silver.refresh AS suspend",
    );
    assert_eq!(view.name, name("gold.quarantine"));
    assert_eq!(view.expectations[0].name, "expect");
}

#[test]
fn sources() {
    let Statement::CreateSource(source) =
        one("CREATE EXTERNAL TABLE raw.events (event_id VARCHAR, price DECIMAL(12, 2)) \
         STORED AS KINESIS LOCATION 'kinesis://ap-south-1/E_com' OPTIONS ('Start' 'trim_horizon', poll.ms 500)")
        .statement
    else {
        panic!("not a source")
    };
    assert_eq!(source.name, name("raw.events"));
    assert_eq!(source.format, SourceFormat::Kinesis);
    assert_eq!(source.location, "kinesis://ap-south-1/E_com");
    let options = [("start", "trim_horizon"), ("poll.ms", "500")].map(|(key, value)| (key.into(), value.into()));
    assert_eq!(source.options, BTreeMap::from(options));
    let decimal = DataType::Decimal(ExactNumberInfo::PrecisionAndScale(12, 2));
    assert_eq!(source.columns, [column("event_id", DataType::Varchar(None), true), column("price", decimal, true)]);

    let Statement::CreateSource(source) = one("create external table raw.e location '/data' stored as jsonl").statement
    else {
        panic!("not a source")
    };
    assert_eq!((source.format, source.columns, source.options), (SourceFormat::Jsonl, vec![], BTreeMap::new()));
}

#[test]
fn references() {
    let sql =
        "CREATE EXTERNAL TABLE ref.cities (name VARCHAR NOT NULL, latitude DOUBLE) STORED AS CSV LOCATION 'cities.csv'";
    let expected = CreateReference {
        name: name("ref.cities"),
        location: "cities.csv".into(),
        options: BTreeMap::new(),
        columns: vec![
            column("name", DataType::Varchar(None), false),
            column("latitude", DataType::Double(ExactNumberInfo::None), true),
        ],
    };
    assert_eq!(one(sql).statement, Statement::CreateReference(expected));
}

#[test]
fn tables() {
    let create = |sql: &str| match one(sql).statement {
        Statement::CreateTable(table) => table,
        other => panic!("{sql}: {other:?}"),
    };
    let table = create(
        "CREATE TABLE IF NOT EXISTS Ref.\"T\" (id BIGINT NOT NULL, \"Date\" DATE NULL, tags TEXT[]) \
         PARTITIONED BY (id) COMMENT $$it's$$",
    );
    assert_eq!(table.name, TableName::new("ref", "T"));
    assert!(table.if_not_exists);
    assert_eq!(table.columns.iter().map(|column| &*column.name).collect::<Vec<_>>(), ["id", "Date", "tags"]);
    assert_eq!(table.columns.iter().map(|column| column.nullable).collect::<Vec<_>>(), [false, true, true]);
    assert_eq!(table.comment.as_deref(), Some("it's"));
    assert_eq!((table.query, table.query_offset), (None, 0));

    let table = create("CREATE TABLE flash.ref.t AS (SELECT 1 AS a);");
    assert_eq!((table.name, table.columns), (name("ref.t"), vec![]));
    assert_eq!((table.query.as_deref(), table.query_offset), (Some("(SELECT 1 AS a)"), 28));
}

#[test]
fn inserts() {
    for (sql, columns) in [
        ("INSERT INTO ref.t VALUES (1, 'a'), (2, 'b')", vec![]),
        ("INSERT INTO ref.t (Id, \"Name\") SELECT id, name FROM gold.x", vec!["id", "Name"]),
        ("INSERT INTO ref.t WITH x AS (SELECT 1) SELECT * FROM x", vec![]),
    ] {
        let Statement::Insert(insert) = one(sql).statement else { panic!("{sql}") };
        assert_eq!((insert.name, insert.columns), (name("ref.t"), columns.into_iter().map(String::from).collect()));
        assert!(insert.statement.to_string().starts_with("INSERT INTO ref.t"), "{}", insert.statement);
    }
}

#[test]
fn commands() {
    let refresh = |full| Statement::Refresh(Refresh { name: name("gold.x"), full, force: false });
    let alter = |action| Statement::AlterMaterializedView(AlterMaterializedView { name: name("gold.x"), action });
    let drop = |kind, if_exists| Statement::Drop(Drop { kind, name: name("gold.x"), if_exists });
    for (sql, expected) in [
        ("REFRESH MATERIALIZED VIEW gold.x", refresh(false)),
        ("refresh materialized view gold.x full", refresh(true)),
        ("ALTER MATERIALIZED VIEW gold.x SUSPEND", alter(AlterAction::Suspend)),
        ("ALTER MATERIALIZED VIEW gold.x RESUME", alter(AlterAction::Resume)),
        ("DROP MATERIALIZED VIEW gold.x", drop(DropKind::MaterializedView, false)),
        ("DROP MATERIALIZED VIEW IF EXISTS gold.x", drop(DropKind::MaterializedView, true)),
        ("DROP TABLE gold.x", drop(DropKind::Table, false)),
        ("DROP TABLE IF EXISTS \"flash\".gold.x", drop(DropKind::Table, true)),
        ("SHOW MATERIALIZED VIEWS", Statement::ShowMaterializedViews),
        ("EXPLAIN MATERIALIZED VIEW gold.x", Statement::ExplainView(name("gold.x"))),
    ] {
        assert_eq!(one(sql).statement, expected, "{sql}");
        assert_eq!(one(&format!("-- a comment\n  {sql} /* and */ ;\n;; -- more")).statement, expected, "{sql}");
    }
}

#[test]
fn explain_takes_a_file_as_it_stands() {
    let file = format!("-- Silver: one row per event.\n{EVENTS}\n;\n");
    let Statement::Explain(explained) = one(&format!("EXPLAIN {file}")).statement else { panic!("not explained") };
    let mut plain = view(&file);
    plain.query_offset = explained.query_offset;
    for (plain, explained) in plain.expectations.iter_mut().zip(&explained.expectations) {
        plain.predicate_offset = explained.predicate_offset;
    }
    assert_eq!(*explained, plain);
}

#[test]
fn anything_else_is_datafusions() {
    for sql in [
        "SELECT 1",
        "WITH x AS (SELECT 1 AS a) SELECT * FROM x WHERE a = 1",
        "EXPLAIN SELECT 1",
        "EXPLAIN ANALYZE VERBOSE SELECT 1",
        "UPDATE ref.t SET a = 1 WHERE b = 2",
        "DELETE FROM ref.t WHERE a = 1",
        "TRUNCATE TABLE ref.t",
        "MERGE INTO ref.t USING ref.s ON t.a = s.a WHEN MATCHED THEN DELETE",
        "SET wait_for_views = off",
        "SHOW TABLES",
        "CREATE VIEW gold.v AS SELECT 1",
        "DROP VIEW gold.v",
        "DESCRIBE gold.x",
    ] {
        let parsed = one(sql);
        let expected = datafusion::sql::parser::DFParserBuilder::new(sql)
            .with_dialect(&sqlparser::dialect::PostgreSqlDialect {})
            .build()
            .and_then(|mut parser| parser.parse_statement())
            .unwrap();
        assert_eq!(parsed.statement, Statement::Sql(Box::new(expected)), "{sql}");
        assert_eq!(parsed.text, sql);
    }
}

#[test]
fn queries_and_expressions_on_their_own() {
    let Statement::Sql(expected) = one("SELECT replace(a, 'x', 'y') FROM t").statement else { panic!("not SQL") };
    assert_eq!(parse_query(" SELECT replace(a, 'x', 'y') FROM t -- x").unwrap(), *expected);
    assert_eq!(
        parse_expression("price >= 0 AND city IS NOT NULL -- x").unwrap().to_string(),
        "price >= 0 AND city IS NOT NULL"
    );
    for (text, column) in [("", 1), ("a; b", 4), ("a > ", 4), ("a b", 3)] {
        assert_eq!(parse_expression(text).unwrap_err().location().map(|place| place.column), Some(column), "{text}");
    }
    assert!(parse_query("SELECT 1; SELECT 2").is_err());
}

#[test]
fn durations() {
    for (text, milliseconds) in [
        ("5 seconds", 5_000),
        ("1 minute", 60_000),
        ("1 day", 86_400_000),
        ("500 milliseconds", 500),
        (" 1 DAY  12 hours ", 129_600_000),
        ("90s", 90_000),
        ("2 weeks", 1_209_600_000),
        ("0 ms", 0),
        ("36525 days", INTERVAL_MS_MAX),
    ] {
        assert_eq!(interval_ms(text).unwrap(), milliseconds, "{text}");
    }
    for (text, hint) in [
        ("", "write a number and a unit, such as '5 seconds' or '1 day'"),
        ("soon", "write a number and a unit, such as '5 seconds' or '1 day'"),
        ("5", "write a unit after the number, such as '5 seconds' or '1 day'"),
        ("-5 seconds", "write a number and a unit, such as '5 seconds' or '1 day'"),
        ("1.5 seconds", "write whole numbers, such as '500 milliseconds'"),
        ("5 secnds", "did you mean seconds?"),
        ("5 fortnights", "the units are milliseconds, seconds, minutes, hours, days and weeks"),
        ("1 month", "months and years differ in length; write days"),
        ("36526 days", "the longest duration is 100 years"),
        ("99999999999999999999 days", "the longest duration is 100 years"),
        ("18446744073709551615 ms 1 ms", "the longest duration is 100 years"),
    ] {
        assert_eq!(interval_ms(text).unwrap_err().hint(), Some(hint), "{text}");
    }
}

#[test]
fn nearest_word() {
    let nearest = |word| did_you_mean(word, ["FROM", "GROUP", "MATERIALIZED"]);
    assert_eq!(nearest("form"), Some("FROM"));
    assert_eq!(nearest("GRUOP"), Some("GROUP"));
    assert_eq!(nearest("materialised"), Some("MATERIALIZED"));
    for other in ["from", "fr", "", "firm", "flamingo", "mtrlzd"] {
        assert_eq!(nearest(other), None, "{other}");
    }
}
