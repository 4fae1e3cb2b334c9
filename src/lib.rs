//! FlashCommerce: SQL materialized views over Kinesis, kept incrementally and exactly once as Delta tables.
//!
//! ```text
//!  6  cli
//!  5  scheduler   server (flight, http)   project (sql/ files -> objects)   testing (scripts, run twice)
//!  4  engine      (definitions, passes, statements)   dashboard (questions, tiles)
//!  3  refresh     (normalize, classify, append, merge_state, full, explain)   glue (tables for Athena)
//!  2  catalog     (objects, lineage, principals, sessions, system tables)
//!  1  parser      source (kinesis, embedded, files, producer)    storage (delta)    simulator
//!  0  error   name   config   epoch   clock   aws
//! ```
//!
//! A module may use only the rows below its own (`tests/it/layers.rs`). ARCHITECTURE.md tells the whole.

pub mod aws;
pub mod catalog;
pub mod cli;
pub mod clock;
pub mod config;
pub mod dashboard;
pub mod engine;
pub mod epoch;
pub mod error;
pub mod glue;
pub mod name;
pub mod parser;
pub mod project;
pub mod refresh;
pub mod scheduler;
pub mod server;
pub mod simulator;
pub mod source;
pub mod storage;
pub mod testing;
