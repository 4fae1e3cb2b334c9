//! Refresh: what a change of the inputs means for a view, and carrying it out.
//!
//! ```text
//! view SQL ─▶ analyzed LogicalPlan ─▶ classify ─▶ Shape: Linear | Merge | Full(reason)   compile, classify
//!                                                    │
//!        for one epoch: inputs' changes ─────────────┤
//!                                                    ▼
//!                      RefreshPlan: Nothing | Append | MergeState | Full(reason)          plan
//!                                                    │
//!   delta plan (rewrite) ─▶ batches ─▶ expectations ─▶ unique key ─▶ stage ─▶ commit      append, merge, full
//! ```
//!
//! `pass` runs one epoch over all participating views; rows that one view has just made reach the views above it
//! from memory.

pub mod append;
pub mod change;
pub mod classify;
pub mod combinator;
pub mod compile;
pub mod execute;
pub mod expect;
pub mod merge;
pub mod pass;
pub mod plan;
pub mod prune;
pub mod refresh_view;
pub mod rewrite;
pub mod unique;
