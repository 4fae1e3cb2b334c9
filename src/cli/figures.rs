//! The key figures of the store, from the gold views, and the bookkeeping that must close.
//!
//! ```text
//!  gold.kpis, top_products, profit_by_category, revenue_by_city ─▶ Figures   (rates: numerator and denominator)
//!  bronze = silver + quarantined + dropped + duplicates         ─▶ Books     (every record is somewhere)
//! ```
//!
//! Views are by seller; the store is their sum, and its rates come from its own totals.

use std::sync::Arc;

use arrow::array::{Array, AsArray};
use arrow::compute::{cast, concat_batches};
use arrow::datatypes::{DataType, Float64Type, Int64Type};
use arrow::record_batch::RecordBatch;
use futures::TryStreamExt;
use serde_json::{Value, json};

use super::terminal::{Look, Terminal, grouped};
use crate::catalog::Principal;
use crate::engine::{Answer, Engine};
use crate::error::{Error, ErrorKind, Result};

const TOTALS: &str = "SELECT sum(revenue) AS revenue, sum(profit) AS profit, sum(views) AS views, sum(carts) AS carts, \
                      sum(purchases) AS purchases FROM gold.kpis";

const PRODUCTS: &str =
    "SELECT product_name AS name, profit AS value FROM gold.top_products ORDER BY profit DESC, 1 LIMIT 5";

const CATEGORIES: &str = "SELECT category AS name, sum(profit) AS value FROM gold.profit_by_category \
                          GROUP BY category ORDER BY value DESC, name LIMIT 5";

const CITIES: &str = "SELECT city AS name, sum(revenue) AS value FROM gold.revenue_by_city \
                      GROUP BY city ORDER BY value DESC, name LIMIT 5";

const BOOKS: &str = "SELECT \
  (SELECT count(*) FROM bronze.events) AS bronze, \
  (SELECT count(*) FROM silver.events) AS silver, \
  (SELECT count(*) FROM silver.events_quarantine) AS quarantined, \
  (SELECT dropped FROM system.materialized_views WHERE view_name = 'silver.events') AS dropped, \
  (SELECT duplicates FROM system.materialized_views WHERE view_name = 'silver.events') AS duplicates";

/// A name with its figure, in rupees.
#[derive(Debug, Clone, PartialEq)]
pub struct Ranked {
    /// Of the product, category or city.
    pub name: String,
    /// Rupees.
    pub value: f64,
}

/// The key figures of the whole store.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Figures {
    /// Rupees: price times quantity of the purchases.
    pub revenue: f64,
    /// Rupees: (price minus cost) times quantity of the purchases.
    pub profit: f64,
    /// Views of products.
    pub views: i64,
    /// Products put into carts.
    pub carts: i64,
    /// Purchases.
    pub purchases: i64,
    /// By profit, best first.
    pub top_products: Vec<Ranked>,
    /// By profit, best first.
    pub top_categories: Vec<Ranked>,
    /// By revenue, best first.
    pub top_cities: Vec<Ranked>,
}

/// Where every record has gone.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Books {
    /// Records that were put into the stream, over the life of the lake.
    pub put: i64,
    /// Rows of bronze.
    pub bronze: i64,
    /// Rows of silver.
    pub silver: i64,
    /// Rows of silver's quarantine.
    pub quarantined: i64,
    /// Rows that an expectation dropped.
    pub dropped: i64,
    /// Rows that were the same event again.
    pub duplicates: i64,
}

impl Figures {
    /// Read them from the newest published epoch.
    ///
    /// # Errors
    /// As `Engine::execute`.
    pub async fn read(engine: &Arc<Engine>) -> Result<Self> {
        let totals = rows(engine, TOTALS).await?;
        Ok(Self {
            revenue: float(&totals, 0, 0)?,
            profit: float(&totals, 1, 0)?,
            views: int(&totals, 2, 0)?,
            carts: int(&totals, 3, 0)?,
            purchases: int(&totals, 4, 0)?,
            top_products: ranking(&rows(engine, PRODUCTS).await?)?,
            top_categories: ranking(&rows(engine, CATEGORIES).await?)?,
            top_cities: ranking(&rows(engine, CITIES).await?)?,
        })
    }

    /// The object that `--json` prints; its keys are relied upon.
    pub fn json(&self, books: &Books) -> Value {
        let names = |list: &[Ranked]| list.iter().map(|ranked| ranked.name.clone()).collect::<Vec<_>>();
        json!({
            "revenue": rounded(self.revenue),
            "profit": rounded(self.profit),
            "margin_pct": rounded(percent(self.profit, self.revenue)),
            "views_to_cart_pct": rounded(percent(self.carts as f64, self.views as f64)),
            "views_to_purchase_pct": rounded(percent(self.purchases as f64, self.views as f64)),
            "top_products": names(&self.top_products),
            "top_categories": names(&self.top_categories),
            "top_cities": names(&self.top_cities),
            "records_put": books.put,
            "bronze_rows": books.bronze,
            "silver_rows": books.silver,
            "quarantined": books.quarantined,
            "dropped": books.dropped,
            "duplicates": books.duplicates,
        })
    }

    /// The figures as a person reads them.
    pub fn text(&self, terminal: &Terminal) -> String {
        let rate = |part: f64, whole: f64| terminal.paint(Look::Strong, &format!("{:.2} %", percent(part, whole)));
        let of = |part: i64, what: &str| {
            format!("{} {what} of {} views", grouped(part.unsigned_abs()), grouped(self.views.unsigned_abs()))
        };
        let (views, carts, purchases) = (self.views as f64, self.carts as f64, self.purchases as f64);
        let key = [
            ("revenue", terminal.paint(Look::Strong, &millions(self.revenue)), "price × quantity of purchases".into()),
            ("profit", terminal.paint(Look::Strong, &millions(self.profit)), "(price - cost) × quantity".into()),
            ("margin", rate(self.profit, self.revenue), "profit / revenue".into()),
            ("views to cart", rate(carts, views), of(self.carts, "added to a cart")),
            ("views to purchase", rate(purchases, views), of(self.purchases, "purchases")),
        ];
        let key = key.into_iter().map(|(name, value, note): (&str, String, String)| vec![name.into(), value, note]);
        let lists = [&self.top_products, &self.top_categories, &self.top_cities];
        let longest = lists.iter().map(|list| list.len()).max().unwrap_or(0);
        let ranks = (0..longest).map(|at| {
            let cells = lists.iter().flat_map(|list| match list.get(at) {
                Some(ranked) => [ranked.name.clone(), millions(ranked.value)],
                None => [String::new(), String::new()],
            });
            std::iter::once((at + 1).to_string()).chain(cells).collect()
        });
        let header = ["", "top products", "profit", "top categories", "profit", "top cities", "revenue"];
        format!(
            "{}\n\n{}",
            terminal.table(&["", "", ""], key.collect(), &[1]),
            terminal.table(&header, ranks.collect(), &[2, 4, 6])
        )
    }
}

impl Books {
    /// Read them from the newest published epoch.
    ///
    /// # Errors
    /// As `Engine::execute`.
    pub async fn read(engine: &Arc<Engine>, put: u64) -> Result<Self> {
        let books = rows(engine, BOOKS).await?;
        Ok(Self {
            put: i64::try_from(put).unwrap_or(i64::MAX),
            bronze: int(&books, 0, 0)?,
            silver: int(&books, 1, 0)?,
            quarantined: int(&books, 2, 0)?,
            dropped: int(&books, 3, 0)?,
            duplicates: int(&books, 4, 0)?,
        })
    }

    /// Nothing is missing and nothing is there twice.
    pub fn close(&self) -> bool {
        self.put == self.bronze && self.bronze == self.silver + self.quarantined + self.dropped + self.duplicates
    }

    /// The equation, in numbers.
    pub fn text(&self) -> String {
        let [put, bronze, silver, quarantined, dropped, duplicates] =
            [self.put, self.bronze, self.silver, self.quarantined, self.dropped, self.duplicates]
                .map(|count| grouped(count.unsigned_abs()));
        format!(
            "{put} records put = {bronze} in bronze = {silver} in silver + {quarantined} quarantined + {dropped} dropped \
             + {duplicates} duplicates"
        )
    }
}

/// All rows of a query, as the system sees them.
///
/// # Errors
/// As `Engine::execute`.
pub async fn rows(engine: &Arc<Engine>, sql: &str) -> Result<RecordBatch> {
    let principal = Principal::system();
    let session = engine.session(&principal).await?;
    match engine.execute(&session, &principal, sql).await? {
        Answer::Rows { schema, stream } => {
            let batches: Vec<_> = stream.map_err(Error::from).try_collect().await?;
            Ok(concat_batches(&schema, &batches)?)
        }
        Answer::Done { .. } => Err(Error::new(ErrorKind::Internal, format!("no rows from {sql}"))),
    }
}

/// A whole number; 0 for NULL.
///
/// # Errors
/// `Query` for a column that is no number, `Internal` for one that is not there.
pub fn int(rows: &RecordBatch, column: usize, row: usize) -> Result<i64> {
    let values = cast(cell(rows, column, row)?, &DataType::Int64)?;
    let values = values.as_primitive::<Int64Type>();
    Ok(if values.is_null(row) { 0 } else { values.value(row) })
}

/// A number; 0 for NULL.
///
/// # Errors
/// As `int`.
pub fn float(rows: &RecordBatch, column: usize, row: usize) -> Result<f64> {
    let values = cast(cell(rows, column, row)?, &DataType::Float64)?;
    let values = values.as_primitive::<Float64Type>();
    Ok(if values.is_null(row) { 0.0 } else { values.value(row) })
}

/// A text; empty for NULL.
///
/// # Errors
/// As `int`.
pub fn text(rows: &RecordBatch, column: usize, row: usize) -> Result<String> {
    let values = cast(cell(rows, column, row)?, &DataType::Utf8)?;
    let values = values.as_string::<i32>();
    Ok(if values.is_null(row) { String::new() } else { values.value(row).to_string() })
}

fn cell(rows: &RecordBatch, column: usize, row: usize) -> Result<&dyn Array> {
    if column >= rows.num_columns() || row >= rows.num_rows() {
        return Err(Error::new(ErrorKind::Internal, format!("no value in column {column} of row {row}")));
    }
    Ok(rows.column(column))
}

fn ranking(rows: &RecordBatch) -> Result<Vec<Ranked>> {
    (0..rows.num_rows()).map(|row| Ok(Ranked { name: text(rows, 0, row)?, value: float(rows, 1, row)? })).collect()
}

/// 0 where there is nothing to take a part of.
fn percent(part: f64, whole: f64) -> f64 {
    if whole == 0.0 { 0.0 } else { 100.0 * part / whole }
}

fn rounded(value: f64) -> f64 {
    (value * 100.0).round() / 100.0
}

/// Rupees as a person says them.
pub fn millions(rupees: f64) -> String {
    match rupees.abs() {
        large if large >= 100_000.0 => format!("Rs {:.2} million", rupees / 1e6),
        _ => format!("Rs {rupees:.2}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figures() -> Figures {
        Figures {
            revenue: 357_400_000.0,
            profit: 83_500_000.0,
            views: 10_000,
            carts: 4_415,
            purchases: 2_068,
            top_products: vec![Ranked { name: "Diamond Ring".into(), value: 1_500_000.0 }],
            top_categories: vec![],
            top_cities: vec![Ranked { name: "New Delhi".into(), value: 99.5 }],
        }
    }

    #[test]
    fn the_json_has_exactly_the_keys_that_scripts_rely_on() {
        let books = Books { put: 6, bronze: 6, silver: 3, quarantined: 1, dropped: 1, duplicates: 1 };
        let object = figures().json(&books);
        let keys: Vec<&str> = object.as_object().unwrap().keys().map(String::as_str).collect();
        let mut wanted = vec![
            "revenue",
            "profit",
            "margin_pct",
            "views_to_cart_pct",
            "views_to_purchase_pct",
            "top_products",
            "top_categories",
            "top_cities",
            "records_put",
            "bronze_rows",
            "silver_rows",
            "quarantined",
            "dropped",
            "duplicates",
        ];
        wanted.sort_unstable();
        assert_eq!(keys, wanted);
        assert_eq!(object["margin_pct"], json!(23.36));
        assert_eq!(object["views_to_cart_pct"], json!(44.15));
        assert_eq!(object["top_cities"], json!(["New Delhi"]));
        assert!(books.close());
    }

    #[test]
    fn books_that_do_not_close_are_noticed() {
        let books = Books { put: 6, bronze: 6, silver: 4, quarantined: 1, dropped: 1, duplicates: 1 };
        assert!(!books.close());
        assert!(!Books { put: 7, silver: 3, ..books }.close());
    }

    #[test]
    fn rates_state_their_numerator_and_denominator() {
        let plain = Terminal { live: false, stdout_is_terminal: false, stdin_is_terminal: false };
        let text = figures().text(&plain);
        assert!(text.contains("44.15 %"), "{text}");
        assert!(text.contains("4,415 added to a cart of 10,000 views"), "{text}");
        assert!(text.contains("Rs 357.40 million"), "{text}");
        let nothing = Figures::default().text(&plain);
        assert!(nothing.contains("0.00 %"), "{nothing}");
    }
}
