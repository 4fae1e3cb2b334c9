//! FlashCommerce: SQL materialized views over Kinesis, kept incrementally and exactly once as Delta tables.
//!
//! ```text
//!  5  cli
//!  4  scheduler   server (flight, http)   project (sql/ files -> plan -> apply)
//!  3  refresh     (normalize, classify, append, merge_state, full, explain), engine
//!  2  catalog     (objects, lineage, principals, sessions, system tables)
//!  1  parser      source (kinesis, embedded, files)    storage (delta)    simulator
//!  0  error   name   config   epoch
//! ```
//!
//! A module may use only the rows below its own (`tests/it/layers.rs`). ARCHITECTURE.md tells the whole.

pub mod epoch;
pub mod error;
pub mod name;
pub mod source;
pub mod storage;
