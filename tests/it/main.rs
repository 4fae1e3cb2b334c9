//! The integration tests, in one binary.

mod cli;
mod engine;
mod flight;
mod layers;
mod simulator;
mod source;
mod store;
