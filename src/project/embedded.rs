//! The product's own `sql/`, inside the binary: `flash demo` needs no checkout.
//!
//! The files are listed once, here; a test fails when one is missing from the list. (Tests stay outside.)

use super::object;
use crate::engine::ProjectObject;
use crate::error::{Error, ErrorKind, Result};

/// A file below `sql/`, and its bytes.
struct File {
    path: &'static str,
    bytes: &'static [u8],
}

macro_rules! files {
    ($($path:literal),* $(,)?) => {
        &[$(File { path: concat!("sql/", $path), bytes: include_bytes!(concat!("../../sql/", $path)) }),*]
    };
}

const FILES: &[File] = files![
    "bronze/events.sql",
    "gold/abandoned_carts.sql",
    "gold/conversion_funnel.sql",
    "gold/kpis.sql",
    "gold/orders.sql",
    "gold/places.sql",
    "gold/product_velocity.sql",
    "gold/profit_by_category.sql",
    "gold/profit_by_product.sql",
    "gold/revenue_by_city.sql",
    "gold/sales_by_minute.sql",
    "gold/sessions.sql",
    "gold/shop_cube.sql",
    "gold/stock_levels.sql",
    "gold/top_products.sql",
    "gold/visit_steps.sql",
    "raw/events.sql",
    "ref/cities.csv",
    "ref/cities.sql",
    "silver/events.sql",
];

/// The objects of the product's own project.
///
/// # Errors
/// As `project::load`; none in a binary that passed its tests.
pub fn embedded() -> Result<Vec<ProjectObject>> {
    FILES.iter().filter(|file| file.path.ends_with(".sql")).map(read).collect()
}

fn read(file: &File) -> Result<ProjectObject> {
    let text = std::str::from_utf8(file.bytes)
        .map_err(|_| Error::new(ErrorKind::Internal, format!("{} is not UTF-8 text", file.path)))?;
    let folder = file.path.rsplit_once('/').map_or("", |(folder, _)| folder);
    object(file.path, text, |csv| {
        let path = format!("{folder}/{csv}");
        let found = FILES.iter().find(|file| file.path == path);
        found
            .map(|file| file.bytes.to_vec())
            .ok_or_else(|| Error::new(ErrorKind::Internal, format!("{path} is missing")))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn on_disk(folder: &std::path::Path) -> Vec<String> {
        let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
        let mut out = Vec::new();
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                out.extend(on_disk(&path));
            } else if path.extension().is_none_or(|extension| extension != "slt") {
                out.push(path.strip_prefix(root).unwrap().display().to_string());
            }
        }
        out.sort();
        out
    }

    #[test]
    fn every_file_of_sql_is_in_the_binary() {
        let mut listed: Vec<String> = FILES.iter().map(|file| file.path.to_string()).collect();
        listed.sort();
        assert_eq!(listed, on_disk(&std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("sql")));
    }

    #[test]
    fn every_object_of_sql_is_well_formed() {
        let objects = embedded().unwrap();
        assert_eq!(objects.len(), FILES.iter().filter(|file| file.path.ends_with(".sql")).count());
    }
}
