//! The dashboard: what a page asks, and what that is in SQL. Values and queries only; `server` speaks HTTP.
//!
//! ```text
//!   ?range=7d&state=Goa ─request─▶ Request ─┐                            tiles.sql: what every tile means
//!   the time in India ──────────── Period ──┴─parameters─▶ $from, $seller, $cities, ...
//!                                                │                          │
//!   SessionContext of the caller, pinned to one epoch ────────tiles─────────┴─▶ {"kpis": [..], "trend": [..], ..}
//!        └─relations─▶ rows of gold, day by day, kept from question to question (kept) ──┘
//!
//!   name, seller, expiry ─link─▶ signed text ─▶ the same, if nobody has changed it
//! ```
//!
//! The page's own files lie in `web/`; `build.rs` bundles them.
//!
//! ```text
//!  ┌──────────────────────────────────────────────────────────────────────────────┐
//!  │ ⚡ Shop S001   ● Live, as of 12:04:07     Today Yesterday 7 days 28 days All   │   phone: one column,
//!  │ (State Goa ×) (Category Books ×) Clear                                       │   in this order
//!  ├───────────┬───────────┬───────────┬───────────┬───────────┬──────────────────┤
//!  │ Revenue   │ Profit    │ Margin    │ Average   │ Orders    │ Visitors now     │
//!  ├───────────┴───────────┴───────────┴──────┬────┴───────────┴──────────────────┤
//!  │ trend, and the same time before          │ from visit to purchase            │
//!  ├──────────────────────┬───────────────────┴─────┬─────────────────────────────┤
//!  │ India, states, cities│ products by profit      │ categories                  │
//!  ├──────────────────────┼─────────────────────────┼─────────────────────────────┤
//!  │ latest orders        │ abandoned carts         │ stock: fast and slow        │
//!  └──────────────────────┴─────────────────────────┴─────────────────────────────┘
//! ```

pub mod kept;
pub mod link;
pub mod parameters;
pub mod period;
pub mod queries;
mod relations;
pub mod request;
pub mod tiles;
