//! Random numbers that are the same on every platform: splitmix64, weighted choices, and spread draws.
//!
//! A *spread* draw is a uniform number too, but the numbers of one sequence lie evenly: after n draws every
//! interval of length p has been hit p·n times, give or take two or three, where plain random draws would be
//! off by √(p·n). A golden-ratio walk gives the evenness; each block of the walk is shuffled, so that
//! neighbours tell nothing of each other.
//!
//! ```text
//! walk      x, x+φ, x+2φ, …  (mod 1)      ·  ·    ·  ·   · ·    ·  ·   even at every length
//! block     32 steps, shuffled            the order is random, the set is not
//! ```

/// Draws in one shuffled block.
const BLOCK: usize = 32;

/// 2³² divided by the golden ratio, made odd.
const GOLDEN: u32 = 0x9E37_79B9;

/// The splitmix64 finaliser: a bijection of 64-bit numbers that scatters them.
pub(super) fn mix(mut value: u64) -> u64 {
    value = (value ^ (value >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    value = (value ^ (value >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    value ^ (value >> 31)
}

/// A stream of random numbers.
#[derive(Debug, Clone)]
pub(super) struct Random(u64);

impl Random {
    /// The stream of this seed. Streams of one simulation differ by `stream`.
    pub(super) fn new(seed: u64, stream: u64) -> Self {
        Self(mix(seed ^ mix(stream.wrapping_add(0xA076_1D64_78BD_642F))))
    }

    /// 64 random bits.
    pub(super) fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        mix(self.0)
    }

    /// 32 random bits, for [`Choice::pick`] and [`chance`].
    pub(super) fn draw(&mut self) -> u32 {
        (self.bits() >> 32) as u32
    }

    /// Uniform in 0..`limit`; 0 for a limit of 0.
    pub(super) fn below(&mut self, limit: u32) -> u32 {
        ((u64::from(self.draw()) * u64::from(limit)) >> 32) as u32
    }

    /// Uniform in `from`..`to`; `from` where that is empty.
    pub(super) fn between(&mut self, from: i64, to: i64) -> i64 {
        let span = u64::try_from(to - from).unwrap_or(0);
        from + ((u128::from(self.bits()) * u128::from(span)) >> 64) as i64
    }
}

/// The draw below which an event of this probability happens.
pub(super) fn chance(probability: f64) -> u32 {
    (probability.clamp(0.0, 1.0) * f64::from(u32::MAX)) as u32
}

/// A stream of evenly spread numbers; see the module.
#[derive(Debug, Clone)]
pub(super) struct Spread {
    walk: u32,
    order: Random,
    block: [u32; BLOCK],
    next: usize,
}

impl Spread {
    /// The stream of this seed, with a random start.
    pub(super) fn new(seed: u64, stream: u64) -> Self {
        let mut order = Random::new(seed, stream);
        Self { walk: order.draw(), order, block: [0; BLOCK], next: BLOCK }
    }

    /// The next number.
    pub(super) fn draw(&mut self) -> u32 {
        if self.next == BLOCK {
            self.refill();
        }
        self.next += 1;
        self.block[self.next - 1]
    }

    fn refill(&mut self) {
        for slot in &mut self.block {
            self.walk = self.walk.wrapping_add(GOLDEN);
            *slot = self.walk;
        }
        for last in (1..BLOCK).rev() {
            let other = self.order.below(last as u32 + 1) as usize;
            self.block.swap(last, other);
        }
        self.next = 0;
    }
}

/// A choice among weighted things: turns a draw into an index.
#[derive(Debug, Clone)]
pub(super) struct Choice(Vec<u32>);

impl Choice {
    /// By weights, in proportion to their sum.
    pub(super) fn new(weights: impl IntoIterator<Item = u32>) -> Self {
        let weights: Vec<u64> = weights.into_iter().map(u64::from).collect();
        let total = weights.iter().sum::<u64>().max(1);
        let mut sum = 0;
        let bound = |weight: &u64| {
            sum += *weight;
            u32::try_from((sum << 32) / total).unwrap_or(u32::MAX)
        };
        Self(weights.iter().map(bound).collect())
    }

    /// The index that this draw falls on.
    pub(super) fn pick(&self, draw: u32) -> usize {
        self.0.partition_point(|bound| *bound <= draw).min(self.0.len().saturating_sub(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spread_draws_hit_every_share_almost_exactly() {
        for (stream, share) in [0.4415, 0.149, 0.02, 0.0025].into_iter().enumerate() {
            let mut spread = Spread::new(7, stream as u64);
            let bound = chance(share);
            let mut hits = 0;
            for n in 1..=200_000 {
                hits += i64::from(spread.draw() < bound);
                let expected = share * f64::from(n);
                assert!((hits as f64 - expected).abs() < 8.0, "{hits} of {n} at {share}");
            }
        }
    }

    #[test]
    fn a_choice_follows_its_weights() {
        let choice = Choice::new([1, 0, 3]);
        assert_eq!(choice.pick(0), 0);
        assert_eq!(choice.pick(u32::MAX / 4 - 1), 0);
        assert_eq!(choice.pick(u32::MAX / 4 + 1), 2);
        assert_eq!(choice.pick(u32::MAX), 2);
    }
}
