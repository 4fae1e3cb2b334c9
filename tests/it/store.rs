//! The product's own SQL, run as plain queries over simulated events: what the views must contain, whatever keeps them.
//!
//! ```text
//! simulator ─▶ bronze ─▶ silver's query ─▶ its constraints, its unique key ─▶ every gold query
//!     └── ledger ───────────────────────── must agree ─────────────────────────┘
//! ```

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail the test")]

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{AsArray, BinaryArray, RecordBatch, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, Decimal128Type, Field, Int64Type, Schema, TimeUnit};
use datafusion::catalog::{CatalogProviderList, MemoryCatalogProvider, MemoryCatalogProviderList};
use datafusion::common::TableReference;
use datafusion::datasource::MemTable;
use datafusion::execution::SessionStateBuilder;
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use datafusion::physical_plan::displayable;
use datafusion::prelude::{DataFrame, SessionContext};
use flashcommerce::catalog::session::{CATALOG, base_state};
use flashcommerce::parser::{CreateMaterializedView, OnViolation, RefreshMode, Statement, parse};
use flashcommerce::simulator::{END_DEFAULT_US, Event, Ledger, Profile, Simulator, SimulatorOptions};

/// The view that a file of `sql/` defines.
macro_rules! view {
    ($path:literal) => {
        view($path, include_str!(concat!("../../sql/", $path)))
    };
}

fn view(path: &str, text: &str) -> CreateMaterializedView {
    match parse(text, Some(path)).unwrap_or_else(|error| panic!("{}", error.render())).remove(0).statement {
        Statement::CreateMaterializedView(view) => {
            assert_eq!(format!("{}.sql", view.name.to_string().replace('.', "/")), path, "named as its file");
            assert!(view.comment.is_some(), "{path} has a comment");
            view
        }
        other => panic!("{path}: {other:?}"),
    }
}

/// The product's session, over tables in memory.
fn session() -> SessionContext {
    let base = base_state(RuntimeEnvBuilder::new().build_arc().unwrap());
    let catalogs = MemoryCatalogProviderList::new();
    catalogs.register_catalog(CATALOG.into(), Arc::new(MemoryCatalogProvider::new()));
    SessionContext::new_with_state(
        SessionStateBuilder::new_from_existing(base).with_catalog_list(Arc::new(catalogs)).build(),
    )
}

async fn register(session: &SessionContext, name: &str, batches: Vec<RecordBatch>) {
    let (schema, table) = name.split_once('.').unwrap();
    session.sql(&format!("CREATE SCHEMA IF NOT EXISTS {schema}")).await.unwrap();
    let provider = MemTable::try_new(batches[0].schema(), vec![batches]).unwrap();
    session.register_table(TableReference::partial(schema, table), Arc::new(provider)).unwrap();
}

async fn query(session: &SessionContext, sql: &str) -> DataFrame {
    session.sql(sql).await.unwrap_or_else(|error| panic!("{sql}\n{error}"))
}

/// The rows of a query as one batch.
async fn rows(session: &SessionContext, sql: &str) -> RecordBatch {
    let frame = query(session, sql).await;
    let schema = Arc::new(frame.schema().as_arrow().clone());
    let batches = frame.collect().await.unwrap_or_else(|error| panic!("{sql}\n{error}"));
    arrow::compute::concat_batches(&schema, &batches).unwrap()
}

async fn count(session: &SessionContext, sql: &str) -> u64 {
    let answer = rows(session, sql).await;
    answer.column(0).as_primitive::<Int64Type>().value(0) as u64
}

/// What bronze holds of these records.
fn bronze(events: &[Event]) -> RecordBatch {
    let payload = BinaryArray::from_iter_values(events.iter().map(|event| event.json.as_bytes()));
    let arrived = TimestampMicrosecondArray::from(vec![END_DEFAULT_US; events.len()]).with_timezone("UTC");
    let instant = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
    let schema =
        Schema::new(vec![Field::new("_arrived_at", instant, false), Field::new("_payload", DataType::Binary, true)]);
    RecordBatch::try_new(Arc::new(schema), vec![Arc::new(arrived), Arc::new(payload)]).unwrap()
}

/// The rows that silver keeps, and how many each of its constraints takes away.
async fn silver(session: &SessionContext) -> BTreeMap<OnViolation, u64> {
    let view = view!("silver/events.sql");
    assert_eq!(
        (view.options.unique_key.as_slice(), view.options.dedupe_within_ms),
        (&["event_id".into()][..], Some(86_400_000))
    );
    let typed = rows(session, &view.query).await;
    register(session, "silver.typed", vec![typed]).await;
    let mut removed = BTreeMap::new();
    let mut kept = "TRUE".to_string();
    let by = |action| view.expectations.iter().filter(move |expectation| expectation.on_violation == action);
    for action in [OnViolation::FailUpdate, OnViolation::QuarantineRow, OnViolation::DropRow] {
        for expectation in by(action) {
            let fails = format!("({kept}) AND ({}) IS NOT TRUE", expectation.predicate);
            let failed = count(session, &format!("SELECT count(*) FROM silver.typed WHERE {fails}")).await;
            assert!(failed > 0 || action == OnViolation::FailUpdate, "nothing fails {}", expectation.name);
            *removed.entry(action).or_default() += failed;
            kept = format!("{kept} AND ({}) IS TRUE", expectation.predicate);
        }
    }
    // A duplicate is the same record again, so that it does not matter which one stays.
    let kept = rows(session, &format!("SELECT DISTINCT * FROM silver.typed WHERE {kept}")).await;
    register(session, "silver.events", vec![kept]).await;
    removed
}

async fn store(events: u64, profile: Profile) -> (SessionContext, Ledger, BTreeMap<OnViolation, u64>) {
    let session = session();
    let mut simulator = Simulator::new(SimulatorOptions::new(events, 1, profile));
    let records: Vec<Event> = simulator.by_ref().collect();
    register(&session, "bronze.events", records.chunks(8192).map(bronze).collect()).await;
    let removed = silver(&session).await;
    let cities = include_str!("../../sql/ref/cities.csv").lines().skip(1).map(|line| {
        let fields: Vec<&str> = line.split(',').collect();
        format!("('{}', '{}', {}, {})", fields[0], fields[1], fields[2], fields[3])
    });
    let values = format!(
        "SELECT * FROM (VALUES {}) AS c (name, state, latitude, longitude)",
        cities.collect::<Vec<_>>().join(", ")
    );
    let cities = rows(&session, &values).await;
    register(&session, "ref.cities", vec![cities]).await;
    (session, simulator.ledger(), removed)
}

#[test]
fn sources_are_as_designed() {
    let raw = parse(include_str!("../../sql/raw/events.sql"), Some("raw/events.sql")).unwrap().remove(0).statement;
    let Statement::CreateSource(raw) = raw else { panic!("{raw:?}") };
    assert_eq!((raw.name.to_string().as_str(), raw.location.as_str()), ("raw.events", "kinesis://ap-south-1/E_com"));
    assert_eq!(raw.options["start"], "trim_horizon");
    let cities = parse(include_str!("../../sql/ref/cities.sql"), Some("ref/cities.sql")).unwrap().remove(0).statement;
    let Statement::CreateReference(cities) = cities else { panic!("{cities:?}") };
    let names: Vec<&str> = cities.columns.iter().map(|column| column.name.as_str()).collect();
    let header = include_str!("../../sql/ref/cities.csv").lines().next().unwrap();
    assert_eq!((cities.location.as_str(), names.join(",").as_str()), ("cities.csv", header));
}

#[tokio::test]
async fn silver_decodes_each_record_once() {
    let session = session();
    register(&session, "bronze.events", vec![bronze(&[])]).await;
    let frame = query(&session, &view!("silver/events.sql").query).await;
    let plan = displayable(frame.create_physical_plan().await.unwrap().as_ref()).indent(true).to_string();
    assert_eq!(plan.matches("from_json(").count(), 1, "{plan}");
}

#[tokio::test]
async fn silver_keeps_what_the_simulator_calls_clean() {
    let (session, ledger, removed) = store(40_000, Profile::Faulty).await;
    let kept = count(&session, "SELECT count(*) FROM silver.events").await;
    assert_eq!(kept, ledger.clean);
    let quarantined = removed[&OnViolation::QuarantineRow];
    let dropped = removed[&OnViolation::DropRow];
    assert_eq!(quarantined + dropped, ledger.broken + ledger.bad_fields);
    assert!(quarantined > ledger.broken && dropped > 0, "{removed:?}");
    assert_eq!(removed.get(&OnViolation::FailUpdate).copied().unwrap_or(0), 0);
    let unreadable =
        "SELECT count(*) FROM silver.typed WHERE event_id IS NULL AND event_type IS NULL AND event_time IS NULL";
    assert_eq!(count(&session, unreadable).await, ledger.broken);
    // Indian time, revenue where there is a sale, numbers whether or not they came as strings.
    let wrong = "SELECT count(*) FROM silver.events WHERE event_time_ist <> to_ist(event_time)
                 OR (event_type = 'purchase') <> (revenue > 0) OR revenue < profit OR (revenue = 0) <> (margin IS NULL)
                 OR price IS NULL OR quantity IS NULL OR (event_type = 'review') <> (rating BETWEEN 1 AND 5)";
    assert_eq!(count(&session, wrong).await, 0);
}

/// Values at the edge of their types are an expectation's business and stop nothing.
#[tokio::test]
async fn extreme_values_are_quarantined_or_dropped() {
    let record = |changes: &str| {
        let good = r#""event_type":"purchase","seller_id":"S001","price":1,"cost":0,"quantity":1,"city":"Pune""#;
        Event {
            partition_key: String::new(),
            json: format!("{{\"event_time\":\"2026-11-08T00:00:00Z\",{good},{changes}}}"),
        }
    };
    let records = [
        record(r#""event_id":"future","event_time":"9999-12-31T23:59:59.999999Z""#),
        record(r#""event_id":"past","event_time":"0001-01-01T00:00:00Z""#),
        record(r#""event_id":"quantity","quantity":2147483647,"price":9999999999.99"#),
        record(r#""event_id":"loss","quantity":2147483647,"cost":9999999999.99"#),
        record(r#""event_id":"wide","quantity":1e30,"price":1e30,"cost":"-1e30""#),
        record(r#""event_id":"seller","seller_id":"""#),
        record(r#""event_id":"","price":5"#),
        record(r#""event_id":"good","event_id":"better""#),
    ];
    let session = session();
    register(&session, "bronze.events", vec![bronze(&records)]).await;
    let view = view!("silver/events.sql");
    register(&session, "silver.typed", vec![rows(&session, &view.query).await]).await;
    let kept: Vec<String> = view
        .expectations
        .iter()
        .filter(|expectation| expectation.on_violation != OnViolation::Warn)
        .map(|expectation| format!("({}) IS TRUE", expectation.predicate))
        .collect();
    let kept = rows(&session, &format!("SELECT event_id FROM silver.typed WHERE {}", kept.join(" AND "))).await;
    assert_eq!(kept.num_rows(), 1);
    assert_eq!(arrow::util::display::array_value_to_string(kept.column(0), 0).unwrap(), "better");
}

/// Sums over the views that are registered, beside the ledger's.
async fn views_add_up(session: &SessionContext, ledger: &Ledger) {
    for (sum, wanted) in [
        ("SELECT CAST(sum(purchases) AS BIGINT) FROM gold.sessions", ledger.purchases),
        ("SELECT CAST(sum(views + carts) AS BIGINT) FROM gold.sessions", ledger.views + ledger.carts),
        ("SELECT CAST(sum(views + carts) AS BIGINT) FROM gold.visit_steps", ledger.views + ledger.carts),
        ("SELECT count(*) FROM gold.orders", ledger.purchases),
        ("SELECT CAST(sum(revenue) * 100 AS BIGINT) FROM gold.orders", ledger.revenue_paise),
        ("SELECT count(*) FROM gold.orders AS o LEFT ANTI JOIN gold.places AS c ON o.city = c.city", 0),
        (
            "SELECT count(*) FROM (SELECT DISTINCT day, seller_id, session_id FROM gold.visit_steps) AS v
          LEFT ANTI JOIN gold.sessions AS s ON v.day = s.day AND v.seller_id = s.seller_id AND v.session_id = s.session_id",
            0,
        ),
        ("SELECT count(*) FROM gold.abandoned_carts WHERE items <= 0 OR cart_value <= 0", 0),
        ("SELECT count(*) FROM gold.stock_levels WHERE stock <> received - sold", 0),
        (
            "SELECT count(*) FROM gold.stock_levels AS s LEFT ANTI JOIN gold.product_velocity AS v
          ON s.seller_id = v.seller_id AND s.product_id = v.product_id AND s.sold = v.sold",
            0,
        ),
    ] {
        assert_eq!(count(session, sum).await, wanted, "{sum}");
    }
    for (name, measures) in
        [("kpis", "views + carts"), ("conversion_funnel", "views + carts"), ("shop_cube", "views + carts")]
    {
        let sum = format!("SELECT CAST(sum({measures}) AS BIGINT) FROM gold.{name}");
        assert_eq!(count(session, &sum).await, ledger.views + ledger.carts, "{name}");
    }
}

#[tokio::test]
async fn gold_adds_up_to_the_ledger() {
    let (session, ledger, _) = store(40_000, Profile::Default).await;
    let money = [ledger.revenue_paise, ledger.profit_paise];
    let views = [
        view!("gold/kpis.sql"),
        view!("gold/conversion_funnel.sql"),
        view!("gold/shop_cube.sql"),
        view!("gold/revenue_by_city.sql"),
        view!("gold/profit_by_product.sql"),
        view!("gold/profit_by_category.sql"),
        view!("gold/sales_by_minute.sql"),
        view!("gold/visit_steps.sql"),
        view!("gold/top_products.sql"),
    ];
    for view in views {
        let name = view.name.to_string();
        let contents = rows(&session, &view.query).await;
        assert!(contents.num_rows() > 0, "{name}");
        assert_eq!(view.options.refresh_mode, RefreshMode::Incremental, "{name}");
        register(&session, &name, vec![contents]).await;
        let purchases = format!("SELECT CAST(sum(purchases) AS BIGINT) FROM {name}");
        if name == "gold.top_products" {
            assert!(count(&session, &purchases).await < ledger.purchases);
            continue;
        }
        assert_eq!(count(&session, &purchases).await, ledger.purchases, "{name}");
        if !["gold.conversion_funnel", "gold.visit_steps"].contains(&name.as_str()) {
            let sums = rows(&session, &format!("SELECT sum(revenue), sum(profit) FROM {name}")).await;
            let sum = |column: usize| sums.column(column).as_primitive::<Decimal128Type>().value(0) as u64;
            assert_eq!([sum(0), sum(1)], money, "{name}");
        }
    }
    for view in [
        view!("gold/sessions.sql"),
        view!("gold/orders.sql"),
        view!("gold/places.sql"),
        view!("gold/abandoned_carts.sql"),
        view!("gold/stock_levels.sql"),
        view!("gold/product_velocity.sql"),
    ] {
        let contents = rows(&session, &view.query).await;
        assert!(contents.num_rows() > 0, "{}", view.name);
        register(&session, &view.name.to_string(), vec![contents]).await;
    }
    views_add_up(&session, &ledger).await;
    let top = rows(&session, "SELECT product_name FROM gold.top_products ORDER BY profit DESC").await;
    let top: Vec<String> = (0..top.num_rows())
        .map(|row| arrow::util::display::array_value_to_string(top.column(0), row).unwrap())
        .collect();
    assert_eq!((top.len(), &top[..2]), (5, &["Diamond Ring".to_string(), "Treadmill".to_string()][..]));
    let rates = "SELECT count(*) FROM gold.conversion_funnel
                 WHERE views_to_cart_pct <> CAST(100.0 * carts / views AS DECIMAL(18, 2))
                 OR views_to_cart_pct NOT BETWEEN 30 AND 65 OR views_to_purchase_pct NOT BETWEEN 10 AND 45";
    assert_eq!(count(&session, rates).await, 0, "rates of every seller are percents of its views");
}
