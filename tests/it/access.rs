//! Users, grants, policies and masks: nobody sees what is not theirs, and everybody sees all that is.
//!
//! ```text
//!   rows of all sellers ─▶ views ─▶ a seller's answer, by policy ─┐
//!                                                                 ├─ the same, query by query
//!   rows of one seller  ─▶ views ─▶ the owner's answer ───────────┘
//! ```

mod as_of;
mod escapes;
mod grants;
mod http;
mod limits;
mod masks;
mod policies;
mod server;
mod stated;
mod tls;

use std::sync::Arc;

use flashcommerce::catalog::Principal;
use flashcommerce::engine::Answer;
use flashcommerce::error::{Error, ErrorKind, Result};
use futures::TryStreamExt;

use crate::engine::harness::{Lake, lines};

/// Tables and views of a small store, by seller where that can be.
const STORE: [&str; 13] = [
    "CREATE TABLE s.sales (seller_id VARCHAR, product VARCHAR, city VARCHAR, buyer VARCHAR, amount INT, day DATE)",
    "CREATE TABLE s.cities (city VARCHAR, state VARCHAR)",
    "CREATE MATERIALIZED VIEW s.clean AS SELECT seller_id AS shop, product, upper(city) AS city, buyer, amount, day \
     FROM s.sales WHERE amount > 0",
    "CREATE MATERIALIZED VIEW s.by_product AS SELECT shop, product, sum(amount) AS revenue, count(*) AS sales, \
     count(DISTINCT buyer) AS buyers, min(buyer) AS first_buyer FROM s.clean GROUP BY shop, product",
    "CREATE MATERIALIZED VIEW s.with_state AS SELECT c.shop, c.product, t.state, c.amount FROM s.clean c \
     LEFT JOIN s.cities t ON upper(t.city) = c.city",
    "CREATE MATERIALIZED VIEW s.ranked AS SELECT shop, product, revenue, \
     row_number() OVER (PARTITION BY shop ORDER BY revenue DESC, product) AS place FROM s.by_product",
    "CREATE MATERIALIZED VIEW s.best AS SELECT r.shop, r.product, b.buyers FROM s.ranked r \
     JOIN s.by_product b ON r.shop = b.shop AND r.product = b.product WHERE r.place <= 2",
    "CREATE MATERIALIZED VIEW s.returning AS SELECT shop, product, buyer FROM s.clean c WHERE EXISTS \
     (SELECT 1 FROM s.clean d WHERE d.shop = c.shop AND d.buyer = c.buyer AND d.product <> c.product)",
    "CREATE MATERIALIZED VIEW s.shops AS SELECT DISTINCT shop FROM s.clean",
    // From here on a seller's rows cannot be told apart any more.
    "CREATE MATERIALIZED VIEW s.total AS SELECT count(*) AS sales, sum(amount) AS revenue FROM s.clean",
    "CREATE MATERIALIZED VIEW s.overall AS SELECT shop, product, rank() OVER (PARTITION BY product ORDER BY revenue DESC) \
     AS place FROM s.by_product",
    "CREATE MATERIALIZED VIEW s.rivals AS SELECT a.shop, b.product, b.revenue FROM s.by_product a \
     JOIN s.by_product b ON a.product = b.product",
    "CREATE MATERIALIZED VIEW s.top AS SELECT shop, product, revenue FROM s.by_product ORDER BY revenue DESC, shop, product \
     LIMIT 3",
];

/// Views that tell a seller's rows apart.
const APART: [&str; 7] = ["clean", "by_product", "with_state", "ranked", "best", "returning", "shops"];

/// Views that do not.
const MIXED: [&str; 4] = ["total", "overall", "rivals", "top"];

const SELLERS: [&str; 3] = ["S1", "S2", "S3"];

/// One row of `s.sales`; some have no seller, or nothing that can be parsed or divided by.
fn sales() -> Vec<(Option<&'static str>, String)> {
    let row = |n: usize| {
        let seller = [Some("S1"), Some("S2"), Some("S3"), None, Some("S1")][n * 7 % 5];
        let text = seller.map_or("NULL".to_string(), |seller| format!("'{seller}'"));
        let city = ["delhi", "Mumbai", "pune", "goa"][n % 4];
        let product = if n % 11 == 3 { "NULL".to_string() } else { format!("'p{}'", n * 5 % 6) };
        let values = format!(
            "({text}, {product}, '{city}', 'b{}', {}, DATE '2026-11-{:02}')",
            n * 3 % 8,
            (n * 37 % 23) as i64 - 2,
            1 + n % 20
        );
        (seller, values)
    };
    (0..60).map(row).collect()
}

/// The store, with all sales or those of one seller.
async fn store(only: Option<&str>) -> Lake {
    let lake = Lake::new(&STORE).await;
    let sales = sales();
    let rows = sales.iter().filter(|(seller, _)| only.is_none() || *seller == only).map(|(_, values)| values.as_str());
    lake.query(&format!("INSERT INTO s.sales VALUES {}", rows.collect::<Vec<_>>().join(", "))).await;
    lake.query("INSERT INTO s.cities VALUES ('Delhi', 'DL'), ('Mumbai', 'MH'), ('Pune', 'MH')").await;
    lake
}

/// Users: `root`, a seller for each of `SELLERS`, `ann` who analyses everything, `nobody`.
async fn people(lake: &Lake) {
    lake.query("CREATE USER root PASSWORD 'correct horse' ROLE admin").await;
    for sql in [
        "CREATE ROLE seller",
        "CREATE ROLE analyst",
        "CREATE USER ann PASSWORD 'analyses all' ROLE analyst",
        "CREATE USER nobody PASSWORD 'nothing at all'",
        "GRANT SELECT ON SCHEMA s TO seller, analyst",
        "CREATE POLICY own_rows ON s.sales FOR SELECT TO seller USING (seller_id = current_seller())",
        "CREATE POLICY all_rows ON s.sales TO analyst USING (true)",
    ] {
        lake.query(sql).await;
    }
    for seller in SELLERS {
        let name = seller.to_lowercase();
        lake.query(&format!(
            "CREATE USER {name} PASSWORD 'sells as {seller}' ROLE seller ATTRIBUTES (seller_id = '{seller}')"
        ))
        .await;
    }
}

/// The whole store with everybody in it.
async fn open_store() -> Lake {
    let lake = store(None).await;
    people(&lake).await;
    lake
}

async fn principal(lake: &Lake, user: &str) -> Principal {
    lake.engine.access().await.unwrap().principal(user).unwrap_or_else(|| panic!("{user} may not come in"))
}

/// A statement of this user.
async fn ask(lake: &Lake, user: &str, sql: &str) -> Result<Vec<String>> {
    run(lake, &principal(lake, user).await, sql).await
}

async fn run(lake: &Lake, principal: &Principal, sql: &str) -> Result<Vec<String>> {
    let session = lake.engine.session(principal).await?;
    match lake.engine.execute(&session, principal, sql).await? {
        Answer::Done { message, .. } => Ok(vec![message]),
        Answer::Rows { stream, .. } => Ok(lines(&stream.try_collect::<Vec<_>>().await?)),
    }
}

async fn refused(lake: &Lake, user: &str, sql: &str) -> Error {
    match ask(lake, user, sql).await {
        Err(error) => error,
        Ok(rows) => panic!("{user} could {sql}: {rows:?}"),
    }
}

async fn denied(lake: &Lake, user: &str, sql: &str) -> Error {
    let error = refused(lake, user, sql).await;
    assert_eq!(error.kind(), ErrorKind::Denied, "{sql}: {error}");
    error
}

/// The lines of an answer, in no order.
fn lines_of(answer: Result<Vec<String>>) -> Vec<String> {
    sorted(answer.unwrap_or_else(|error| panic!("{}", error.render())))
}

/// All lines, in no order.
fn sorted(mut lines: Vec<String>) -> Vec<String> {
    lines.sort();
    lines
}

/// Share a lake between tasks.
fn shared(lake: Lake) -> Arc<Lake> {
    Arc::new(lake)
}
