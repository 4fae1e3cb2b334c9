//! What the simulator has handed out: the other side of every bookkeeping test.

use super::shop::{Draft, Fault, Kind};

/// What has been handed out so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Ledger {
    /// All records: clean, duplicates, broken, bad fields.
    pub records: u64,
    /// Good events, each counted once.
    pub clean: u64,
    /// Repetitions of good events.
    pub duplicates: u64,
    /// Records that are not JSON.
    pub broken: u64,
    /// Records with a missing or impossible value.
    pub bad_fields: u64,
    /// Those of the clean ones that came late.
    pub late: u64,
    /// Clean `view` events.
    pub views: u64,
    /// Clean `add_to_cart` events.
    pub carts: u64,
    /// Clean `purchase` events.
    pub purchases: u64,
    /// Revenue of the clean purchases, in paise.
    pub revenue_paise: u64,
    /// Profit of the clean purchases, in paise.
    pub profit_paise: u64,
}

impl Ledger {
    pub(super) fn enter(&mut self, draft: &Draft) {
        self.records += 1;
        match draft.fault {
            Fault::Duplicate => self.duplicates += 1,
            Fault::Broken => self.broken += 1,
            Fault::BadField => self.bad_fields += 1,
            Fault::None | Fault::Late => {
                self.clean += 1;
                self.late += u64::from(draft.fault == Fault::Late);
                match draft.kind {
                    Kind::View => self.views += 1,
                    Kind::AddToCart => self.carts += 1,
                    Kind::Purchase => {
                        self.purchases += 1;
                        self.revenue_paise += draft.revenue_paise();
                        self.profit_paise += draft.profit_paise();
                    }
                    Kind::RemoveFromCart | Kind::Restock | Kind::Review => {}
                }
            }
        }
    }
}
