//! The SQL functions of FlashCommerce. This crate knows Arrow and DataFusion's expressions, nothing else.
//!
//! ```text
//! to_ist(timestamp)                  an instant as the wall clock in India shows it
//! margin(price, cost, quantity)      (price - cost) * quantity, exactly
//! margin_pct(profit, revenue)        profit in percent of revenue, two decimals
//! from_json(text, 'id BIGINT, ...')  a JSON object as a struct
//! ```
//!
//! All of them are immutable, vectorised, and give NULL, not an error, for values that have no answer.

mod from_json;
mod margin;
mod to_ist;

use datafusion_expr::ScalarUDF;

/// All functions, to be registered with a session.
pub fn all() -> Vec<ScalarUDF> {
    vec![
        from_json::FromJson::new().into(),
        margin::Margin::new().into(),
        margin::MarginPct::new().into(),
        to_ist::ToIst::new().into(),
    ]
}
