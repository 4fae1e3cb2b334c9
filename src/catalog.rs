//! Catalog: what exists, what it is built on, and who may see it. The only maker of sessions.

pub mod principal;

pub use principal::Principal;
