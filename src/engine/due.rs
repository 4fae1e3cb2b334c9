//! Which views take part in a pass: a pure decision over lags and the graph.
//!
//! ```text
//!  due = its target_lag has half run out        half: the other half is for the refresh itself
//!  taken = due, and everything they are built on, minus the suspended and what is built on those
//! ```

use std::collections::{BTreeMap, BTreeSet};

use crate::name::TableName;

/// The lag of a view that declares none and that nothing is built on, in milliseconds.
pub const TARGET_LAG_MS_DEFAULT: u64 = 5_000;

/// What the decision needs to know of a view.
#[derive(Debug, Clone)]
pub struct ViewDue {
    /// What it reads, sources and tables included.
    pub inputs: BTreeSet<TableName>,
    /// The declared lag in milliseconds; `None`: as the views over it need.
    pub target_lag_ms: Option<u64>,
    /// Suspended by ALTER.
    pub suspended: bool,
    /// When it took part last, in microseconds since 1970 UTC; 0: never.
    pub last_us: i64,
}

/// Views that take part now, and milliseconds until the next one is due.
pub fn due(views: &BTreeMap<TableName, ViewDue>, now_us: i64, all: bool) -> (BTreeSet<TableName>, u64) {
    let barred = barred(views);
    let mut taken = BTreeSet::new();
    let mut wait_ms = TARGET_LAG_MS_DEFAULT;
    for (name, view) in views {
        if barred.contains(name) {
            continue;
        }
        if all {
            taken.insert(name.clone());
            continue;
        }
        let Some(lag_ms) = lag(views, &barred, name, view) else { continue };
        let elapsed_ms = u64::try_from((now_us - view.last_us) / 1000).unwrap_or(0);
        match elapsed_ms >= lag_ms / 2 {
            true => take(views, name, &mut taken),
            false => wait_ms = wait_ms.min(lag_ms / 2 - elapsed_ms),
        }
    }
    taken.retain(|name| !barred.contains(name));
    (taken, wait_ms)
}

/// The declared lag, or the default for a view that nothing is built on that takes part.
fn lag(
    views: &BTreeMap<TableName, ViewDue>,
    barred: &BTreeSet<TableName>,
    name: &TableName,
    view: &ViewDue,
) -> Option<u64> {
    let leaf = !views.iter().any(|(other, due)| !barred.contains(other) && due.inputs.contains(name));
    view.target_lag_ms.or(leaf.then_some(TARGET_LAG_MS_DEFAULT))
}

fn take(views: &BTreeMap<TableName, ViewDue>, name: &TableName, taken: &mut BTreeSet<TableName>) {
    let Some(view) = views.get(name) else { return };
    if taken.insert(name.clone()) {
        view.inputs.iter().for_each(|input| take(views, input, taken));
    }
}

/// The suspended, and what is built on them.
fn barred(views: &BTreeMap<TableName, ViewDue>) -> BTreeSet<TableName> {
    let mut barred: BTreeSet<_> =
        views.iter().filter(|(_, view)| view.suspended).map(|(name, _)| name.clone()).collect();
    loop {
        let more = views.iter().filter(|(name, view)| !barred.contains(*name) && !view.inputs.is_disjoint(&barred));
        let more = more.map(|(name, _)| name.clone()).collect::<Vec<_>>();
        if more.is_empty() {
            return barred;
        }
        barred.extend(more);
    }
}

/// `seeds` and everything that is built on them.
pub fn downstream(
    views: &BTreeMap<TableName, BTreeSet<TableName>>,
    seeds: &BTreeSet<TableName>,
) -> BTreeSet<TableName> {
    let mut reached = seeds.clone();
    loop {
        let more = views.iter().filter(|(name, inputs)| !reached.contains(*name) && !inputs.is_disjoint(&reached));
        let more = more.map(|(name, _)| name.clone()).collect::<Vec<_>>();
        if more.is_empty() {
            return reached;
        }
        reached.extend(more);
    }
}

/// Inputs before what is built on them; `Err` names a view on a cycle.
///
/// # Errors
/// The name of one view on a cycle.
pub fn in_order(views: &BTreeMap<TableName, BTreeSet<TableName>>) -> Result<Vec<TableName>, TableName> {
    let mut order: Vec<TableName> = Vec::with_capacity(views.len());
    while order.len() < views.len() {
        let ready = |name: &&TableName| {
            !order.contains(name)
                && views[*name].iter().all(|input| !views.contains_key(input) || order.contains(input))
        };
        let next = views.keys().filter(ready).cloned().collect::<Vec<_>>();
        if next.is_empty() {
            let stuck = views.keys().find(|name| !order.contains(name)).cloned();
            return Err(stuck.unwrap_or_else(|| TableName::new("?", "?")));
        }
        order.extend(next);
    }
    Ok(order)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> TableName {
        text.parse().unwrap()
    }

    fn view(inputs: &[&str], target_lag_ms: Option<u64>, last_us: i64) -> ViewDue {
        ViewDue { inputs: inputs.iter().map(|i| name(i)).collect(), target_lag_ms, suspended: false, last_us }
    }

    fn graph() -> BTreeMap<TableName, ViewDue> {
        BTreeMap::from([
            (name("b.e"), view(&["raw.e"], None, 0)),
            (name("s.e"), view(&["b.e"], None, 0)),
            (name("g.fast"), view(&["s.e"], Some(1_000), 0)),
            (name("g.slow"), view(&["s.e"], Some(60_000), 0)),
        ])
    }

    fn names(set: &BTreeSet<TableName>) -> Vec<String> {
        set.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_due_view_takes_what_it_is_built_on() {
        let (taken, wait_ms) = due(&graph(), 600_000, false);
        assert_eq!(names(&taken), ["b.e", "g.fast", "s.e"]);
        assert_eq!(wait_ms, TARGET_LAG_MS_DEFAULT);
        let (taken, wait_ms) = due(&graph(), 400_000, false);
        assert!(taken.is_empty());
        assert_eq!(wait_ms, 100);
        assert_eq!(due(&graph(), 0, true).0.len(), 4);
    }

    #[test]
    fn a_suspended_view_bars_what_is_built_on_it() {
        let mut views = graph();
        views.get_mut(&name("s.e")).unwrap().suspended = true;
        // What it is built on goes on, with the default lag where nothing else asks for one.
        assert_eq!(names(&due(&views, 60_000_000, true).0), ["b.e"]);
        assert_eq!(names(&due(&views, 60_000_000, false).0), ["b.e"]);
    }

    #[test]
    fn order_and_cycles() {
        let inputs = graph().into_iter().map(|(name, view)| (name, view.inputs)).collect::<BTreeMap<_, _>>();
        let order = in_order(&inputs).unwrap().iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(order, ["b.e", "s.e", "g.fast", "g.slow"]);
        let seeds = BTreeSet::from([name("s.e")]);
        assert_eq!(names(&downstream(&inputs, &seeds)), ["g.fast", "g.slow", "s.e"]);
        let cycle = BTreeMap::from([
            (name("a.a"), BTreeSet::from([name("b.b")])),
            (name("b.b"), BTreeSet::from([name("a.a")])),
        ]);
        assert!(in_order(&cycle).is_err());
    }
}
