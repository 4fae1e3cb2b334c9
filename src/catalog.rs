//! Catalog: what exists, what it is built on, and who may see it. The only maker of sessions.

pub mod definitions;
mod optimizer;
pub mod principal;
pub mod session;
pub mod system;

pub use principal::Principal;
