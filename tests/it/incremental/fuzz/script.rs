//! One script: tables, views and steps; how it is run, and how it reads.
//!
//! ```text
//!   step ─▶ follow the refreshes ─▶ every view that is not resting: stored = computed? ─▶ Failure, with the step
//! ```
//!
//! Computed by DataFusion alone; by the engine's AUDIT where ties in an ORDER BY leave more than one answer.

use std::collections::{BTreeMap, BTreeSet};

use flashcommerce::engine::Prefer;

use super::commits::{Change, Step, creates};
use super::plans::{Plan, TIES};
use crate::engine::harness::Lake;
use crate::incremental::oracle::{Refreshes, View, audit, create, difference, rows};

/// A view and the plan it is made from.
#[derive(Clone)]
pub struct Planned {
    pub view: View,
    pub plan: Plan,
}

impl Planned {
    /// The view reads this one.
    fn reads(&self, other: &str) -> bool {
        let query = &self.view.query;
        query.match_indices(other).any(|(at, _)| !query[at + other.len()..].starts_with(|c: char| c.is_ascii_digit()))
    }
}

/// See the module.
#[derive(Clone)]
pub struct Script {
    pub seed: u64,
    /// Which of the plans that are right is taken.
    pub prefer: Prefer,
    pub views: Vec<Planned>,
    pub steps: Vec<Step>,
}

/// What a run found.
#[derive(Default)]
pub struct Outcome {
    pub cases: usize,
    pub refreshes: Refreshes,
    /// Refused views, by the operator that the engine names.
    pub refused: BTreeMap<String, usize>,
    /// Views whose query DataFusion itself does not plan.
    pub unplanned: usize,
    /// Operators of the views that are held.
    pub held: BTreeMap<&'static str, usize>,
    pub failure: Option<Failure>,
}

/// The first thing that was wrong.
#[derive(Debug, Clone)]
pub struct Failure {
    /// The first words tell one kind of failure from another.
    pub kind: &'static str,
    pub text: String,
    pub view: Option<String>,
    pub step: usize,
}

impl Script {
    /// Views that this one is built on, itself included.
    pub fn with_inputs(&self, name: &str) -> BTreeSet<String> {
        let mut wanted = BTreeSet::from([name.to_string()]);
        for planned in self.views.iter().rev() {
            if self.views.iter().any(|reader| wanted.contains(&reader.view.name) && reader.reads(&planned.view.name)) {
                wanted.insert(planned.view.name.clone());
            }
        }
        wanted
    }

    /// All of it as statements.
    pub fn text(&self) -> String {
        let mut lines = creates();
        let all = |changes: &[Change]| changes.iter().map(Change::sql).collect::<Vec<_>>();
        for step in &self.steps {
            match step {
                Step::Create(view) => lines.push(self.views[*view].view.create()),
                Step::Each(changes) => lines.extend(all(changes)),
                Step::Together(changes) => {
                    lines.push("-- all views suspended".into());
                    lines.extend(all(changes));
                    lines.push("-- all views resumed and refreshed".into());
                }
                Step::Restart => lines.push("-- restart".into()),
                Step::Suspend(view) => lines.push(alter(&self.views[*view].view, "SUSPEND")),
                Step::Resume(view) => lines.push(alter(&self.views[*view].view, "RESUME")),
            }
        }
        lines.join(";\n") + ";\n"
    }

    /// Run it to the end, or to the first failure.
    pub async fn run(&self) -> Outcome {
        let mut run = Run {
            lake: Lake::preferring(self.prefer).await,
            views: vec![],
            resting: BTreeSet::new(),
            out: Outcome::default(),
        };
        for sql in creates() {
            run.lake.execute(&sql).await.unwrap();
        }
        for (at, step) in self.steps.iter().enumerate() {
            if let Err(mut failure) = run.step(self, step).await {
                failure.step = at;
                run.out.failure = Some(failure);
                return run.out;
            }
        }
        for planned in run.views.clone() {
            if let Err(text) = audit(&run.lake, &planned.view).await {
                let view = Some(planned.view.name);
                run.out.failure = Some(Failure { kind: "audit", text, view, step: self.steps.len() });
                break;
            }
        }
        run.out
    }
}

fn alter(view: &View, action: &str) -> String {
    format!("ALTER MATERIALIZED VIEW {} {action}", view.name)
}

struct Run {
    lake: Lake,
    views: Vec<Planned>,
    resting: BTreeSet<String>,
    out: Outcome,
}

impl Run {
    async fn sql(&self, sql: &str) -> Result<(), Failure> {
        let answer = self.lake.execute(sql).await;
        answer.map(drop).map_err(|error| failure("statement", format!("{sql}\n{}", error.render())))
    }

    async fn step(&mut self, script: &Script, step: &Step) -> Result<(), Failure> {
        match step {
            Step::Create(view) => self.create(script, &script.views[*view]).await?,
            Step::Each(changes) => {
                for change in changes {
                    self.sql(&change.sql()).await?;
                }
            }
            Step::Together(changes) => {
                let moving = self.views.iter().filter(|planned| !self.resting.contains(&planned.view.name));
                let moving = moving.map(|planned| planned.view.clone()).collect::<Vec<_>>();
                for view in &moving {
                    self.sql(&alter(view, "SUSPEND")).await?;
                }
                for change in changes {
                    self.sql(&change.sql()).await?;
                }
                for view in &moving {
                    self.sql(&alter(view, "RESUME")).await?;
                }
                if let Some(view) = moving.first() {
                    self.sql(&format!("REFRESH MATERIALIZED VIEW {}", view.name)).await?;
                }
            }
            Step::Restart => {
                let empty = Lake::new(&[]).await;
                self.lake = std::mem::replace(&mut self.lake, empty).restart().await;
            }
            Step::Suspend(view) | Step::Resume(view) => {
                let view = &script.views[*view].view;
                if !self.views.iter().any(|planned| planned.view.name == view.name) {
                    return Ok(());
                }
                if let Step::Suspend(_) = step {
                    self.sql(&alter(view, "SUSPEND")).await?;
                    self.resting.insert(view.name.clone());
                } else if self.resting.remove(&view.name) {
                    self.sql(&alter(view, "RESUME")).await?;
                    self.sql(&format!("REFRESH MATERIALIZED VIEW {}", view.name)).await?;
                }
            }
        }
        self.out.refreshes.follow(&self.lake).await.map_err(|text| failure("refresh", text))?;
        self.check(script).await
    }

    /// Make a view, unless it cannot be held, or reads one that was not.
    async fn create(&mut self, script: &Script, planned: &Planned) -> Result<(), Failure> {
        let missing = |input: &String| *input != planned.view.name && !self.views.iter().any(|v| v.view.name == *input);
        if script.with_inputs(&planned.view.name).iter().any(missing) {
            return Ok(());
        }
        if rows(&self.lake, &planned.view.query).await.is_err() {
            self.out.unplanned += 1;
            return Ok(());
        }
        match create(&self.lake, &planned.view).await {
            Ok(None) => {
                for operator in &planned.plan.operators {
                    *self.out.held.entry(operator).or_default() += 1;
                }
                self.views.push(planned.clone());
            }
            Ok(Some(operator)) => *self.out.refused.entry(operator).or_default() += 1,
            Err(text) => return Err(Failure { view: Some(planned.view.name.clone()), ..failure("create", text) }),
        }
        Ok(())
    }

    async fn check(&mut self, script: &Script) -> Result<(), Failure> {
        for planned in &self.views {
            let name = &planned.view.name;
            if script.with_inputs(name).iter().any(|input| self.resting.contains(input)) {
                continue;
            }
            self.out.cases += 1;
            if let Err(wrong) = self.compare(planned).await {
                return Err(Failure { view: Some(name.clone()), ..wrong });
            }
        }
        Ok(())
    }

    async fn compare(&self, planned: &Planned) -> Result<(), Failure> {
        let Planned { view, plan } = planned;
        if plan.operators.contains(TIES) {
            let found = audit(&self.lake, view).await;
            return found.map_err(|text| failure("audit", format!("{}\n{text}", view.create())));
        }
        match difference(&self.lake, view).await {
            Ok(None) => Ok(()),
            Ok(Some(difference)) => Err(failure("mismatch", format!("{}\n{difference}", view.create()))),
            Err(error) => Err(failure("query", format!("{}\n{}", view.query, error.render()))),
        }
    }
}

fn failure(kind: &'static str, text: String) -> Failure {
    Failure { kind, text, view: None, step: 0 }
}
