//! Refresh: what a change of the inputs means for a view, and carrying it out.
//!
//! ```text
//! view SQL ─▶ analyzed ─▶ kernel ─▶ Shape: Linear | Merge | Keyed | Full(reason)    compile, normalize, classify
//!                                                    │
//!        for one epoch: inputs' changes ─────────────┤                              inputs
//!                                                    ▼
//!        RefreshPlan: Nothing | Append | MergeState | ReplaceKeys | Full(reason)    plan
//!                                                    │
//!   rows of the change (rewrite), or weights (delta, restrict, keyed, weighted)
//!      ─▶ expectations ─▶ unique key ─▶ stage ─▶ commit                             append, merge, replace
//! ```
//!
//! `pass` runs one epoch over all participating views; rows that one view has just made reach the views above it
//! from memory.

pub mod append;
pub mod change;
pub mod classify;
pub mod combinator;
pub mod compile;
pub mod cost;
pub mod counted;
pub mod delta;
pub mod derived;
pub mod execute;
pub mod expect;
pub mod expire;
pub mod forget;
pub mod identity;
pub mod inputs;
pub mod keyed;
pub mod layout;
pub mod lineage;
mod living;
pub mod merge;
pub mod normalize;
pub mod pass;
pub mod plan;
pub mod preview;
pub mod prune;
pub mod refresh_view;
pub mod replace;
pub mod restrict;
pub mod retention;
pub mod rewrite;
pub mod rounded;
pub mod unique;
pub mod weighted;
