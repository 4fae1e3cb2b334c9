//! A failing script, made smaller as long as it fails in the same way.
//!
//! ```text
//!   the failing view and what it reads ─▶ steps left out ─▶ rows left out ─▶ a part of the plan instead of the whole
//!           └──────────────────────────────── again, until nothing more can go ◀──────────────────────────────┘
//! ```

use super::commits::{Change, Step};
use super::script::{Failure, Planned, Script};

/// The smallest script found in so many runs, and how it fails.
pub async fn shrink(script: &Script, failure: &Failure, mut runs: usize) -> (Script, Failure) {
    let mut best = (script.clone(), failure.clone());
    best.0.steps.truncate(failure.step + 1);
    loop {
        let mut smaller = None;
        for candidate in candidates(&best.0, best.1.view.as_deref()) {
            if runs == 0 {
                return best;
            }
            runs -= 1;
            let failed = candidate.run().await.failure;
            if let Some(failed) = failed.filter(|failed| failed.kind == best.1.kind) {
                smaller = Some((candidate, failed));
                break;
            }
        }
        match smaller {
            Some(found) => best = found,
            None => return best,
        }
    }
}

/// Scripts with a little less in them, the most promising first.
fn candidates(script: &Script, view: Option<&str>) -> Vec<Script> {
    let mut found = Vec::new();
    if let Some(view) = view {
        let wanted = script.with_inputs(view);
        let others = |step: &Step| matches!(step, Step::Create(at) if !wanted.contains(&script.views[*at].view.name));
        found.extend(without(script, others));
    }
    for size in [script.steps.len() / 2, script.steps.len() / 4, 1] {
        for from in (0..script.steps.len()).step_by(size.max(1)) {
            let mut steps = script.steps.clone();
            steps.drain(from..(from + size.max(1)).min(steps.len()));
            found.push(Script { steps, ..script.clone() });
        }
    }
    found.extend((0..script.views.len()).flat_map(|at| simpler(script, at)));
    for (at, step) in script.steps.iter().enumerate() {
        for changed in fewer(step) {
            let mut steps = script.steps.clone();
            steps[at] = changed;
            found.push(Script { steps, ..script.clone() });
        }
    }
    found
}

fn without(script: &Script, gone: impl Fn(&Step) -> bool) -> Option<Script> {
    let mut steps = script.steps.clone();
    steps.retain(|step| !gone(step));
    (steps.len() < script.steps.len()).then(|| Script { steps, ..script.clone() })
}

/// The script with a part of a view's plan as its plan; views that read it fail to plan then, and are left out.
fn simpler(script: &Script, at: usize) -> Vec<Script> {
    let parts = script.views[at].plan.parts.iter().map(|part| {
        let mut view = script.views[at].view.clone();
        view.query = part.query();
        let mut views = script.views.clone();
        views[at] = Planned { view, plan: part.clone() };
        Script { views, ..script.clone() }
    });
    parts.collect()
}

/// A step with one change, or one row, left out.
fn fewer(step: &Step) -> Vec<Step> {
    let (Step::Each(changes) | Step::Together(changes)) = step else { return vec![] };
    let mut found = Vec::new();
    for (at, change) in changes.iter().enumerate() {
        let mut fewer = vec![];
        if changes.len() > 1 {
            fewer.push(None);
        }
        if let Change::Insert(table, rows) = change
            && rows.len() > 1
        {
            let half = rows.len() / 2;
            fewer.push(Some(Change::Insert(table, rows[..half].to_vec())));
            fewer.push(Some(Change::Insert(table, rows[half..].to_vec())));
            fewer.extend((0..rows.len()).map(|gone| {
                let mut rows = rows.clone();
                rows.remove(gone);
                Some(Change::Insert(table, rows))
            }));
        }
        for change in fewer {
            let mut changes = changes.clone();
            match change {
                Some(change) => changes[at] = change,
                None => drop(changes.remove(at)),
            }
            found.push(match step {
                Step::Together(_) => Step::Together(changes),
                _ => Step::Each(changes),
            });
        }
    }
    found
}
