//! Incremental refresh of any plan: after every commit a view holds what its own query gives.
//!
//! ```text
//!   commit ─▶ refresh of every view ─┬─▶ SELECT * FROM view ─┐
//!                                    └─▶ the view's query  ──┴─▶ equal as multisets; no refresh was a full one
//!
//!   fuzz         plans and commits made from a seed; a failure is shrunk and printed as a script
//!   metamorphic  what must give the same: one refresh or many, a change and its negation, compaction
//!   tpch         the 22 queries, over tables that are inserted into, updated and deleted from
//!   nexmark      the queries of the auction benchmark, over a stream of inserts with some deletes
//! ```

mod fuzz;
mod metamorphic;
mod nexmark;
pub mod oracle;
mod public;
mod tpch;
