//! The integration tests, in one binary.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    unreachable_pub,
    reason = "helpers of tests fail by panicking, and are seen by their modules only"
)]

mod access;
mod cli;
mod dashboard;
mod engine;
mod flight;
mod glue;
mod incremental;
mod layers;
mod simulator;
mod slt;
mod source;
mod storage;
mod store;
