//! The integration tests, in one binary.

mod cli;
mod flight;
mod layers;
mod simulator;
