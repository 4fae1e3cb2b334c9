//! A differential fuzzer: random views over random commits, each view compared with its own query after every commit.
//!
//! ```text
//!   seed ─▶ plans ─▶ views ─┐
//!      └──▶ commits ────────┴─▶ Script ─▶ run ─▶ Outcome ─┬─▶ summary: views, cases, modes, refusals
//!                                                         └─▶ failure ─▶ shrink ─▶ the smallest script that fails
//! ```
//!
//! `FUZZ_SEED=n` runs that script alone; `FUZZ_CASES=n` runs so many comparisons, from the seed `FUZZ_FROM` on.
//! `FUZZ_FAILURES=n` ends with so many failures, and `FUZZ_SHRINK=n` takes at most so many runs to shrink each.

pub mod commits;
mod expressions;
mod joins;
mod keyed;
pub mod plans;
pub mod script;
mod shrink;

use std::collections::BTreeMap;

use flashcommerce::engine::Prefer;
use tokio::task::JoinSet;

use self::plans::Generator;
use self::script::{Outcome, Planned, Script};
use super::oracle::View;

/// Comparisons of a view with its query in a run of all tests.
const CASES: usize = 2_000;
const VIEWS: usize = 8;
const COMMITS: usize = 9;
/// Failures that are shrunk and reported.
const FAILURES_MAX: usize = 5;
/// Runs that shrinking a failure may take.
const SHRINK_RUNS_MAX: usize = 400;
/// Scripts at a time.
const CONCURRENT: usize = 3;
/// Most of the views that are made at random must be held incrementally, in percent.
const REFUSED_PERCENT_MAX: usize = 25;
/// Random queries that DataFusion itself refuses say something about the generator, in percent.
const UNPLANNED_PERCENT_MAX: usize = 10;

#[allow(clippy::disallowed_methods, reason = "which seeds are run is the business of whoever runs the tests")]
fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap())
}

fn count(name: &str, otherwise: usize) -> usize {
    setting(name).map_or(otherwise, |count| count as usize)
}

/// The script of a seed. Of four seeds two take the cheapest plans, one the most general, one recomputes: each plan
/// that is right is forced in turn.
pub fn script(seed: u64, views: usize, commits: usize) -> Script {
    let mut generator = Generator::new(seed);
    let mut planned = Vec::new();
    for nth in 0..views {
        let depth = generator.rng.usize(1..5);
        // Rows are taken off a group only where it is on top, and of its kind.
        let plan = if generator.chance(15) { generator.counted(depth.min(2)) } else { generator.plan(depth) };
        let name = format!("s.v{nth}");
        generator.relations.push(plan.as_view(&name));
        planned.push(Planned { view: View { name, query: plan.query() }, plan });
    }
    let steps = commits::steps(&mut generator, views, commits);
    let prefer = [Prefer::Cheapest, Prefer::General, Prefer::Cheapest, Prefer::Full][(seed % 4) as usize];
    Script { seed, prefer, views: planned, steps }
}

/// What all runs found.
#[derive(Default)]
struct Summary {
    scripts: usize,
    views: usize,
    unplanned: usize,
    cases: usize,
    /// How often each mode was used, by what was preferred.
    modes: BTreeMap<String, BTreeMap<String, usize>>,
    refused: BTreeMap<String, usize>,
    held: BTreeMap<&'static str, usize>,
    failures: Vec<String>,
}

impl Summary {
    async fn add(&mut self, script: &Script, outcome: Outcome) {
        self.scripts += 1;
        self.views += script.views.len();
        self.unplanned += outcome.unplanned;
        self.cases += outcome.cases;
        let modes = outcome.refreshes.totals();
        let counted = self.modes.entry(format!("{:?}", script.prefer)).or_default();
        modes.into_iter().for_each(|(mode, times)| *counted.entry(mode).or_default() += times);
        outcome.refused.into_iter().for_each(|(operator, times)| *self.refused.entry(operator).or_default() += times);
        outcome.held.into_iter().for_each(|(operator, times)| *self.held.entry(operator).or_default() += times);
        if let Some(failure) = outcome.failure {
            let (small, how) = shrink::shrink(script, &failure, count("FUZZ_SHRINK", SHRINK_RUNS_MAX)).await;
            let text = format!(
                "FUZZ_SEED={}  {:?}  {} in step {}, after {} cases\n{}\n-- shrunk to:\n{}-- {}\n{}",
                script.seed,
                script.prefer,
                failure.kind,
                failure.step,
                self.cases,
                failure.text,
                small.text(),
                how.kind,
                how.text
            );
            println!("{text}");
            self.failures.push(text);
        }
    }

    fn print(&self) {
        println!("scripts {}, views {}, cases {}", self.scripts, self.views, self.cases);
        println!("refreshes {:?}", self.modes);
        println!("held      {:?}", self.held);
        println!("refused   {:?}, not planned by DataFusion {}", self.refused, self.unplanned);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn random_views_equal_their_queries_after_every_commit() {
    let mut seeds = setting("FUZZ_SEED").unwrap_or_else(|| setting("FUZZ_FROM").unwrap_or(1))..u64::MAX;
    if let Some(seed) = setting("FUZZ_SEED") {
        seeds.end = seed + 1;
    }
    let (wanted, failures_max) = (count("FUZZ_CASES", CASES), count("FUZZ_FAILURES", FAILURES_MAX));
    let mut summary = Summary::default();
    let mut running = JoinSet::new();
    loop {
        while running.len() < CONCURRENT && summary.cases < wanted && summary.failures.len() < failures_max {
            let Some(seed) = seeds.next() else { break };
            let script = script(seed, VIEWS, COMMITS);
            running.spawn(async move {
                let outcome = script.run().await;
                (script, outcome)
            });
        }
        let Some(done) = running.join_next().await else { break };
        let (script, outcome) = done.unwrap();
        summary.add(&script, outcome).await;
    }
    summary.print();
    assert!(summary.failures.is_empty(), "{} scripts failed:\n{}", summary.failures.len(), summary.failures[0]);
    let refused = summary.refused.values().sum::<usize>();
    assert!(refused * 100 <= summary.views * REFUSED_PERCENT_MAX, "{refused} of {} views are refused", summary.views);
    assert!(summary.unplanned * 100 <= summary.views * UNPLANNED_PERCENT_MAX, "{} unplanned", summary.unplanned);
}
