//! What shoppers do: one visit after the other, as drafts of events.
//!
//! ```text
//! visit     city ─▶ shopper ─▶ device, 1 to 8 products, mostly of one category
//! product   view ─┬─▶ nothing                      one spread draw per view and product decides
//!                 ├─▶ add_to_cart [─▶ remove]
//!                 └─▶ add_to_cart ─▶ purchase ─▶ (days later) review
//! beside    restocks by sellers
//! ```

use std::collections::VecDeque;

use super::calendar::SECOND;
use super::catalogue::{CATEGORIES, CITIES, DEVICES, PAYMENTS, PRODUCTS, Product, REVIEWS};
use super::random::{Choice, Random, Spread, chance, mix};
use super::{CARTS_PER_VIEW, PURCHASES_PER_VIEW};

/// Products waiting to be viewed; a visit prefers those of its category.
const WAITING: usize = 64;
/// Purchases that may still be reviewed.
const REVIEWABLE_MAX: usize = 16_384;
/// Shoppers, by records: about as many visits each as in a month.
const RECORDS_PER_SHOPPER: u64 = 20;
const SHOPPERS_MIN: u64 = 200;
const SHOPPERS_MAX: u64 = 900_000;

/// What a visit's other events are: removals, reviews, the rest being restocks.
const REMOVAL_SHARE: f64 = 0.35;
const REVIEW_SHARE: f64 = 0.45;

/// How many products a visit looks at: weights of 1, 2, 3, ...
const VIEWS_WEIGHTS: [u32; 8] = [45, 25, 14, 8, 4, 2, 1, 1];
/// Of 1,000 good events, how many have their numbers as strings.
const STRINGS_PER_MILLE: u32 = 20;
/// Of 1,000 views, how many come without a city.
const CITYLESS_PER_MILLE: u32 = 4;

/// The type of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    View,
    AddToCart,
    RemoveFromCart,
    Purchase,
    Restock,
    Review,
}

/// What is wrong with a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    None,
    Late,
    Duplicate,
    Broken,
    BadField,
}

/// One event before it is written.
#[derive(Debug, Clone, Copy)]
pub(super) struct Draft {
    pub(super) kind: Kind,
    pub(super) fault: Fault,
    pub(super) id: u64,
    /// From the start of the visit, then since 1970, in microseconds.
    pub(super) time_us: i64,
    /// The shopper and the session; `None` for restocks.
    pub(super) shopper: Option<(u32, u64)>,
    pub(super) seller: u8,
    /// Index of the catalogue's arrays, as are those below.
    pub(super) product: u8,
    pub(super) city: Option<u8>,
    pub(super) device: Option<u8>,
    pub(super) payment: Option<u8>,
    pub(super) review: Option<u8>,
    pub(super) quantity: u16,
    /// Numbers are written as strings.
    pub(super) strings: bool,
}

impl Draft {
    pub(super) fn product(&self) -> &'static Product {
        &PRODUCTS[usize::from(self.product)]
    }

    pub(super) fn revenue_paise(&self) -> u64 {
        u64::from(self.product().price) * u64::from(self.quantity) * 100
    }

    pub(super) fn profit_paise(&self) -> u64 {
        u64::from(self.product().price - self.product().cost) * u64::from(self.quantity) * 100
    }
}

/// How one product sells.
#[derive(Debug)]
struct Shelf {
    outcome: Spread,
    purchase_bound: u32,
    cart_bound: u32,
    quantity: Spread,
    pieces: Choice,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Shop {
    seed: u64,
    ids: u64,
    random: Random,
    products: (Choice, Spread),
    waiting: Vec<u8>,
    shelves: Vec<Shelf>,
    cities: (Choice, Spread),
    /// Where the shoppers of each city begin, and how many there are.
    shoppers: Vec<(u32, u32)>,
    view_counts: Choice,
    payments: Choice,
    devices: Choice,
    reviews: Choice,
    removal: (u32, Spread),
    review: (u32, Spread),
    restock: (u32, Spread),
    purchased: VecDeque<Draft>,
}

impl Shop {
    /// A shop for about this many records, with so many events per view besides views, carts and purchases.
    pub(super) fn new(seed: u64, records: u64, others_per_view: f64) -> Self {
        let shelf = |(product, at): (&Product, u64)| Shelf {
            outcome: Spread::new(seed, 1000 + at),
            purchase_bound: chance(f64::from(product.purchases_per_mille) / 1000.0),
            cart_bound: chance(f64::from(product.carts_per_mille) / 1000.0),
            quantity: Spread::new(seed, 2000 + at),
            pieces: Choice::new(product.pieces.iter().copied()),
        };
        let removals = others_per_view * REMOVAL_SHARE / (CARTS_PER_VIEW - PURCHASES_PER_VIEW);
        let restocks = others_per_view * (1.0 - REMOVAL_SHARE - REVIEW_SHARE);
        Self {
            seed,
            ids: mix(seed ^ 0x5EED),
            random: Random::new(seed, 10),
            products: (Choice::new(PRODUCTS.map(|product| product.views_ppm)), Spread::new(seed, 11)),
            waiting: Vec::with_capacity(WAITING),
            shelves: PRODUCTS.iter().zip(0..).map(shelf).collect(),
            cities: (Choice::new(CITIES.map(|city| city.weight)), Spread::new(seed, 12)),
            shoppers: shoppers(records),
            view_counts: Choice::new(VIEWS_WEIGHTS),
            payments: Choice::new(PAYMENTS.map(|(_, weight)| weight)),
            devices: Choice::new(DEVICES.map(|(_, weight)| weight)),
            reviews: Choice::new(REVIEWS.map(|(_, weight, _)| weight)),
            removal: (chance(removals), Spread::new(seed, 13)),
            review: (chance(others_per_view * REVIEW_SHARE), Spread::new(seed, 14)),
            restock: (chance(restocks), Spread::new(seed, 15)),
            purchased: VecDeque::new(),
        }
    }

    /// An event id that was not given before.
    pub(super) fn next_id(&mut self) -> u64 {
        self.ids = self.ids.wrapping_add(1);
        mix(self.ids)
    }

    /// Add the events of one visit, their times counted from its start, in the order of time per product.
    pub(super) fn visit(&mut self, visit: &mut Vec<Draft>) {
        let visitor = self.visitor();
        let count = 1 + self.view_counts.pick(self.random.draw());
        let mut at_us = 0;
        let mut category = None;
        for _ in 0..count {
            let product = self.next_product(category);
            category = Some(PRODUCTS[usize::from(product)].category);
            at_us = self.look_at(product, Draft { time_us: at_us, ..visitor }, visit);
            if self.review.1.draw() < self.review.0 {
                self.add_review(at_us, visit);
            }
            if self.restock.1.draw() < self.restock.0 {
                self.add_restock(at_us, visit);
            }
            at_us += self.random.between(15 * SECOND, 120 * SECOND);
        }
    }

    /// A shopper from somewhere, looking at nothing yet.
    fn visitor(&mut self) -> Draft {
        let city = self.cities.0.pick(self.cities.1.draw());
        let (first, count) = self.shoppers[city];
        // The product of two draws: some come often, most seldom.
        let among = (u64::from(self.random.draw()) * u64::from(self.random.draw())) >> 32;
        let rank = first + ((among * u64::from(count)) >> 32) as u32;
        let number = ((u64::from(rank) * 387_421 + 104_729) % 1_000_000) as u32;
        let session = self.next_id();
        // Most use their own device, whose kind follows from who they are.
        let own = (mix(self.seed.wrapping_add(u64::from(number))) >> 32) as u32;
        let device = if self.random.below(10) < 8 { own } else { self.random.draw() };
        Draft {
            kind: Kind::View,
            fault: Fault::None,
            id: 0,
            time_us: 0,
            shopper: Some((number, session)),
            seller: 0,
            product: 0,
            city: Some(city as u8),
            device: Some(self.devices.pick(device) as u8),
            payment: None,
            review: None,
            quantity: 1,
            strings: false,
        }
    }

    /// The next product to view: the first that waits, or the first of this category.
    fn next_product(&mut self, category: Option<usize>) -> u8 {
        while self.waiting.len() < WAITING {
            let draw = self.products.1.draw();
            self.waiting.push(self.products.0.pick(draw) as u8);
        }
        let wanted = category.filter(|_| self.random.below(10) < 7);
        let of_category = |product: &u8| Some(PRODUCTS[usize::from(*product)].category) == wanted;
        let at = self.waiting.iter().position(of_category).unwrap_or(0);
        self.waiting.swap_remove(at)
    }

    /// A view and what follows from it; the time of the last.
    fn look_at(&mut self, product: u8, mut draft: Draft, visit: &mut Vec<Draft>) -> i64 {
        let sellers = &CATEGORIES[PRODUCTS[usize::from(product)].category].sellers;
        let count = u32::from(sellers.end() - sellers.start()) + 1;
        // The smaller of two draws: the first sellers of a category sell most.
        let rank = self.random.below(count).min(self.random.below(count));
        draft.product = product;
        draft.seller = sellers.start() + rank as u8;
        let with_city = draft.city;
        if self.random.below(1000) < CITYLESS_PER_MILLE {
            draft.city = None;
        }
        self.add(visit, draft);
        draft.city = with_city;

        let shelf = &mut self.shelves[usize::from(product)];
        let outcome = shelf.outcome.draw();
        if outcome >= shelf.cart_bound {
            return draft.time_us;
        }
        let buys = outcome < shelf.purchase_bound;
        let quantity = if buys { shelf.quantity.draw() } else { self.random.draw() };
        draft.quantity = 1 + shelf.pieces.pick(quantity) as u16;
        draft.kind = Kind::AddToCart;
        draft.time_us += self.random.between(5 * SECOND, 60 * SECOND);
        self.add(visit, draft);
        if buys {
            draft.kind = Kind::Purchase;
            draft.time_us += self.random.between(20 * SECOND, 200 * SECOND);
            draft.payment = Some(self.payments.pick(self.random.draw()) as u8);
            self.add(visit, draft);
            self.purchased.push_back(draft);
            if self.purchased.len() > REVIEWABLE_MAX {
                self.purchased.pop_front();
            }
        } else if self.removal.1.draw() < self.removal.0 {
            draft.kind = Kind::RemoveFromCart;
            draft.time_us += self.random.between(10 * SECOND, 120 * SECOND);
            self.add(visit, draft);
        }
        draft.time_us
    }

    /// A review of something bought earlier, the older half of what is not reviewed yet.
    fn add_review(&mut self, time_us: i64, visit: &mut Vec<Draft>) {
        let among = self.purchased.len().div_ceil(2);
        let at = self.random.below(among as u32) as usize;
        let Some(bought) = self.purchased.swap_remove_front(at) else {
            return;
        };
        let review = Some(self.reviews.pick(self.random.draw()) as u8);
        let session = self.next_id();
        let shopper = bought.shopper.map(|(number, _)| (number, session));
        self.add(visit, Draft { kind: Kind::Review, time_us, review, shopper, payment: None, quantity: 1, ..bought });
    }

    /// A seller's new stock.
    fn add_restock(&mut self, time_us: i64, visit: &mut Vec<Draft>) {
        let product = self.random.below(PRODUCTS.len() as u32) as u8;
        let sellers = &CATEGORIES[PRODUCTS[usize::from(product)].category].sellers;
        let count = u32::from(sellers.end() - sellers.start()) + 1;
        let seller = sellers.start() + self.random.below(count) as u8;
        let draft = Draft {
            kind: Kind::Restock,
            fault: Fault::None,
            id: 0,
            time_us,
            shopper: None,
            seller,
            product,
            city: Some(seller % 8),
            device: None,
            payment: None,
            review: None,
            quantity: 10 * (2 + self.random.below(49)) as u16,
            strings: false,
        };
        self.add(visit, draft);
    }

    fn add(&mut self, visit: &mut Vec<Draft>, mut draft: Draft) {
        draft.id = self.next_id();
        draft.strings = self.random.below(1000) < STRINGS_PER_MILLE;
        visit.push(draft);
    }
}

/// The first shopper of each city and how many there are.
fn shoppers(records: u64) -> Vec<(u32, u32)> {
    let total = (records / RECORDS_PER_SHOPPER).clamp(SHOPPERS_MIN, SHOPPERS_MAX);
    let weights: u64 = CITIES.iter().map(|city| u64::from(city.weight)).sum();
    let mut first = 0;
    let block = |city: &super::catalogue::City| {
        let count = 1 + (total * u64::from(city.weight) / weights) as u32;
        first += count;
        (first - count, count)
    };
    CITIES.iter().map(block).collect()
}
