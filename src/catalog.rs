//! Catalog: what exists, what it is built on, and who may see it. The only maker of sessions.

pub mod access;
pub mod definitions;
pub mod forgotten;
pub mod guard;
pub mod maintenance;
mod memory;
pub mod moment;
mod numbered;
pub mod on_read;
mod optimizer;
pub mod policy;
pub mod principal;
mod published;
pub mod session;
pub mod system;
pub mod versioned;

pub use principal::Principal;
