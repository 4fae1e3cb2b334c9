//! A first project: small, complete, and to be changed.
//!
//! ```text
//!   README.md  .gitignore  events/sample.jsonl
//!   sql/raw/events.sql ─▶ bronze/events.sql ─▶ silver/orders.sql ─▶ gold/sales_by_day.sql      tests/orders.slt
//! ```

/// A file, and its text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct File {
    /// Its path below the project's own folder, with `/`.
    pub path: &'static str,
    /// What stands in it.
    pub text: &'static str,
}

macro_rules! files {
    ($($path:literal from $source:literal),* $(,)?) => {
        [$(File { path: $path, text: include_str!(concat!("skeleton/", $source)) }),*]
    };
}

/// The files.
pub const FILES: [File; 8] = files![
    "README.md" from "README.md",
    ".gitignore" from "gitignore",
    "events/sample.jsonl" from "events.txt",
    "sql/raw/events.sql" from "sql/raw/events.sql",
    "sql/bronze/events.sql" from "sql/bronze/events.sql",
    "sql/silver/orders.sql" from "sql/silver/orders.sql",
    "sql/gold/sales_by_day.sql" from "sql/gold/sales_by_day.sql",
    "sql/tests/orders.slt" from "sql/tests/orders.slt",
];
