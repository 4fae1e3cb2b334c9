//! EXPLAIN of a view: how it is kept and why, and what its next refresh would read and replace.
//!
//! ```text
//!   gold.by_day  refresh: merge_state
//!     because    sum merges exactly, while the inputs only insert
//!     reads      silver.events  version 12: 198,000 rows in 40 files
//!     next       replace_keys: groups that rows may have left are computed anew
//!       takes    what came to silver.events since version 11: 500 rows in 2 files
//!       reads    5 of 40 files of silver.events, for rows with the same keys: at most 9000 of 198000 rows
//!       replaces 14 keys, in 3 of its 40 files: at most 1200 of 80000 rows are read and written
//! ```

use std::sync::Arc;

use crate::catalog::definitions::Kind;
use crate::engine::statements::{no_view, text_rows};
use crate::engine::{Answer, Engine};
use crate::epoch::EpochRecord;
use crate::error::{Error, ErrorKind, Result};
use crate::name::TableName;
use crate::parser::{self, CreateMaterializedView, Statement};
use crate::refresh::classify::Shape;
use crate::refresh::compile::{CompiledView, compile, names};
use crate::refresh::cost::Extent;
use crate::refresh::pass::ViewSlot;
use crate::refresh::plan::{RefreshPlan, kept_by};
use crate::refresh::preview::{Preview, preview};

impl Engine {
    /// Of a definition as it stands, which need not be in the lake.
    pub(super) async fn explain(&self, definition: &CreateMaterializedView, sql: &str) -> Result<Answer> {
        let readable = self.readable().await?;
        let view = compile(&self.base, definition, &readable, sql, None).await?;
        let graph = Arc::clone(&self.graph.read());
        let built = graph.definitions.objects.get(&view.name).map(|object| object.fingerprint == view.fingerprint);
        let next = match (graph.slots.get(&view.name), built) {
            (Some(slot), Some(true)) => Some(self.preview(slot).await),
            _ => None,
        };
        match next.transpose() {
            Ok(None) if built == Some(false) => {
                let mut lines = self.lines(&view, None);
                lines.push("  next       built anew beside the table that is there, which answers until then:".into());
                lines.push("             that was filled by another definition, or by another version".into());
                text_rows("plan", lines)
            }
            Ok(next) => text_rows("plan", self.lines(&view, next.as_ref())),
            // What the refresh would say, too.
            Err(error) if error.kind() == ErrorKind::NotIncremental => {
                let mut lines = self.lines(&view, None);
                lines.push(format!("  next       refused: {error}"));
                text_rows("plan", lines)
            }
            Err(error) => Err(error),
        }
    }

    /// Of a view of the lake.
    pub(super) async fn explain_view(&self, name: &TableName) -> Result<Answer> {
        let graph = Arc::clone(&self.graph.read());
        let Some(object) = graph.definitions.objects.get(name).filter(|object| object.kind == Kind::View) else {
            return Err(no_view(name));
        };
        let statements = parser::parse(&object.sql, object.file.as_deref())?;
        match statements.first().map(|parsed| &parsed.statement) {
            Some(Statement::CreateMaterializedView(view)) => self.explain(view, &object.sql).await,
            _ => Err(Error::new(ErrorKind::Corrupt, format!("the stored definition of {name} is no view"))),
        }
    }

    /// The next refresh, from what has been published and what ordinary tables hold now.
    async fn preview(&self, slot: &ViewSlot) -> Result<Preview> {
        let graph = Arc::clone(&self.graph.read());
        let previous = Arc::clone(&self.published.borrow());
        let record = EpochRecord {
            epoch: previous.epoch + 1,
            now_us: self.clock.now_us(),
            tables: self.table_versions(&graph).await?,
            ..EpochRecord::default()
        };
        let pass = self.bare_pass(&graph, previous, record).await?;
        preview(&pass, slot).await
    }

    fn lines(&self, view: &CompiledView, next: Option<&Preview>) -> Vec<String> {
        let mut lines = vec![format!("{}  refresh: {}", view.name, view.shape.mode())];
        lines.push(format!("  because    {}", kept_by(&view.shape)));
        for input in &view.inputs {
            let pending = next.and_then(|next| next.inputs.iter().find(|pending| pending.name == *input));
            let standing = match pending {
                Some(pending) => format!("  version {}: {}", pending.version, extent(pending.now)),
                None => self.standing(input),
            };
            lines.push(format!("  reads      {input}{standing}"));
        }
        lines.push(format!("  writes     {}", names(&view.schema)));
        if !view.partitioned_by.is_empty() {
            lines.push(format!("  partitions {}", view.partitioned_by.join(", ")));
        }
        if !view.definition.options.unique_key.is_empty() {
            lines.push(format!("  unique     {}", view.definition.options.unique_key.join(", ")));
        }
        lines.extend(next.into_iter().flat_map(coming));
        lines.push(format!(
            "  not incremental: {}",
            match &view.shape {
                Shape::Full { reason, .. } => reason.as_str(),
                _ => "none",
            }
        ));
        lines
    }

    /// Version and rows of an input that is not looked at more closely.
    fn standing(&self, input: &TableName) -> String {
        let published = self.published.borrow();
        match published.tables.get(input) {
            Some(state) => format!("  version {}: {} rows", state.version, state.rows),
            None => String::new(),
        }
    }
}

/// The next refresh in words.
fn coming(next: &Preview) -> Vec<String> {
    let plan = format!("  next       {}: {}", next.plan.mode(), next.plan.reason());
    let mut lines = vec![plan];
    if matches!(next.plan, RefreshPlan::Nothing) {
        return lines;
    }
    let all = matches!(next.plan, RefreshPlan::Full { .. });
    for input in &next.inputs {
        if all {
            lines.push(format!("    takes    all of {}: {}", input.name, extent(input.now)));
        } else if input.change.rows > 0 {
            let since = format!("since version {}", input.seen);
            lines.push(format!("    takes    what came to {} {since}: {}", input.name, extent(input.change)));
        }
    }
    for input in &next.inputs {
        if let Some(read) = input.restricted {
            lines.push(format!(
                "    reads    {} of {} of {}, for rows with the same keys: at most {} of {} rows",
                read.files,
                counted(input.now.files as u64, "file"),
                input.name,
                read.rows,
                input.now.rows
            ));
        }
    }
    if let Some(touched) = &next.replaced {
        lines.push(format!(
            "    replaces {}, in {} of its {}: at most {} of {} rows are read and written",
            counted(touched.keys as u64, "key"),
            touched.held.files,
            counted(touched.all.files as u64, "file"),
            touched.held.rows,
            touched.all.rows
        ));
    }
    lines
}

fn extent(of: Extent) -> String {
    match of.files {
        0 => counted(of.rows, "row"),
        files => format!("{} in {}", counted(of.rows, "row"), counted(files as u64, "file")),
    }
}

fn counted(number: u64, noun: &str) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}
