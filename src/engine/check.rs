//! Check: what a project is, without a lake. A mistake in one object does not hide those in others.
//!
//! ```text
//!  files ─▶ parse each ─▶ tables ─▶ views, inputs first ─▶ refresh mode of each, and why
//!             │              │         │ └─ on something broken: not looked at
//!             └──────────────┴─────────┴─▶ mistakes                what nothing reads, who sees too little or too much
//! ```

use std::collections::{BTreeMap, BTreeSet};

use crate::catalog::definitions::Definitions;
use crate::engine::apply::{Desired, parse_object};
use crate::engine::due::in_order;
use crate::engine::{Engine, Graph, ProjectObject};
use crate::error::{Error, ErrorKind};
use crate::name::TableName;
use crate::parser::Statement;
use crate::refresh::compile::Readable;
use crate::refresh::plan::kept_by;

/// What `check` found.
#[derive(Debug, Default)]
pub struct Checked {
    /// Views that compile: how each is refreshed, and why.
    pub views: Vec<(TableName, &'static str, String)>,
    /// Mistakes, by object as far as it is known.
    pub errors: Vec<Error>,
    /// Views that could not be looked at, because what they are built on has a mistake.
    pub skipped: Vec<TableName>,
    /// What is surely not meant, of who sees what.
    pub warnings: Vec<Error>,
    /// Sources and tables that nothing reads.
    pub unused: Vec<TableName>,
}

impl Engine {
    /// Compile a project that is in no lake. Every object is looked at.
    pub async fn check(&self, objects: &[ProjectObject]) -> Checked {
        let (mut checked, mut desired) = (Checked::default(), BTreeMap::new());
        for object in objects {
            match parse_object(object) {
                Ok((name, wanted)) => drop(desired.insert(name, wanted)),
                Err(error) => checked.errors.push(error),
            }
        }
        let (mut graph, mut readable, none) = (Graph::default(), Readable::new(), Definitions::default());
        let (mut broken, mut reads) = (BTreeSet::new(), BTreeMap::new());
        for (name, object) in &desired {
            let built = self.build_table(name, object, &none, false, &mut graph, &mut readable).await;
            let references = match &object.parsed.statement {
                Statement::CreateMaterializedView(view) => self.references(view, object).map(Some),
                _ => Ok(None),
            };
            match built.and(references) {
                Ok(Some(references)) => drop(reads.insert(name.clone(), references)),
                Ok(None) => {}
                Err(error) => {
                    checked.errors.push(in_file(error, object));
                    broken.insert(name.clone());
                }
            }
        }
        let order = match in_order(&reads) {
            Ok(order) => order,
            Err(name) => {
                let error = Error::new(ErrorKind::Definition, format!("{name} is built on itself"));
                checked.errors.push(in_file(error.with_hint("break the cycle"), &desired[&name]));
                return checked;
            }
        };
        for name in order {
            if reads[&name].iter().any(|input| broken.contains(input)) {
                broken.insert(name.clone());
                checked.skipped.push(name);
                continue;
            }
            let object = &desired[&name];
            if let Err(error) = self.build_view(&name, object, &none, false, &mut graph, &mut readable).await {
                checked.errors.push(in_file(error, object));
                broken.insert(name);
            }
        }
        let shape = |name: &TableName| &graph.slots[name].view.shape;
        checked.views.extend(graph.order.iter().map(|name| (name.clone(), shape(name).mode(), kept_by(shape(name)))));
        checked.warnings = self.unguarded(&desired, &graph, &readable);
        let read: BTreeSet<&TableName> = reads.values().flatten().collect();
        let unused = desired.keys().filter(|name| !reads.contains_key(*name) && !read.contains(name));
        checked.unused.extend(unused.filter(|name| !broken.contains(*name)).cloned());
        checked
    }
}

/// An error that has no place is at least in this file.
fn in_file(error: Error, object: &Desired) -> Error {
    match (error.location(), &object.file) {
        (None, Some(file)) => error.context(file),
        _ => error,
    }
}
