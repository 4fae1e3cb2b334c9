//! The named queries of `tiles.sql` and `operations.sql`.
//!
//! ```text
//!   -- name: kpis                        ┐
//!   -- What it means, for people.        ├─▶ ("kpis", "SELECT ...")
//!   SELECT ... ;                         ┘
//! ```

use std::collections::BTreeMap;
use std::sync::LazyLock;

/// What every tile of the dashboard means.
pub const TILES_SQL: &str = include_str!("tiles.sql");

/// What the operators' page shows.
pub const OPERATIONS_SQL: &str = include_str!("operations.sql");

/// Queries by name.
pub type Queries = BTreeMap<&'static str, &'static str>;

/// Those of `tiles.sql`.
pub static TILES: LazyLock<Queries> = LazyLock::new(|| read(TILES_SQL));

/// Those of `operations.sql`.
pub static OPERATIONS: LazyLock<Queries> = LazyLock::new(|| read(OPERATIONS_SQL));

fn read(text: &'static str) -> Queries {
    let parts = text.split("-- name: ").skip(1);
    let named = parts.filter_map(|part| part.split_once('\n'));
    named.map(|(name, sql)| (name.trim(), sql.trim().trim_end_matches(';'))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_query_has_a_name_and_one_statement() {
        for queries in [&*TILES, &*OPERATIONS] {
            assert!(queries.len() > 5);
            for (name, sql) in queries {
                assert!(!sql.contains(';') && sql.contains("SELECT"), "{name}: {sql}");
            }
        }
        assert_eq!(TILES_SQL.matches("-- name: ").count(), TILES.len(), "two of one name");
    }

    #[test]
    fn nothing_is_read_of_all_sellers_where_one_is_asked_for() {
        let of_sellers = ["gold.", "sold", "steps", "shelf", "last_orders"];
        for (name, sql) in TILES.iter() {
            let tables: usize = of_sellers.iter().map(|table| sql.matches(&format!("FROM {table}")).count()).sum();
            let bounded = sql.matches("$seller IS NULL OR seller_id = $seller").count();
            let free = matches!(*name, "places" | "sellers");
            assert!(free || tables == bounded, "{name} reads {tables} tables of sellers and bounds {bounded}");
            assert!(!of_sellers.iter().any(|table| sql.contains(&format!("JOIN {table}"))), "{name}");
        }
    }
}
