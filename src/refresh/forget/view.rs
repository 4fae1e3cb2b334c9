//! One view's refresh in an epoch that forgets, where the view gives up its own rows.

use std::collections::HashSet;
use std::sync::Arc;

use arrow::datatypes::DataType;
use datafusion::datasource::provider_as_source;
use datafusion::logical_expr::{Expr, LogicalPlanBuilder, cast, lit};

use crate::epoch::{Forget, RefreshFacts};
use crate::error::Result;
use crate::refresh::change::{Change, Rows};
use crate::refresh::classify::plain;
use crate::refresh::derived::derived;
use crate::refresh::execute::collect;
use crate::refresh::expire::Groups;
use crate::refresh::forget::Matcher;
use crate::refresh::identity::{IDENTITY, identities};
use crate::refresh::inputs::{change_between, change_of};
use crate::refresh::refresh_view::{ViewRefresh, Work};

impl ViewRefresh<'_> {
    /// Take rows out of the view's own files, and out of its quarantine.
    pub(in crate::refresh) async fn forget(
        &self,
        forget: &Forget,
        above: Vec<Expr>,
        facts: &mut RefreshFacts,
    ) -> Result<Work> {
        let (storage, state, epoch) = (self.pass.storage.as_ref(), &self.pass.base, self.pass.record.epoch);
        facts.mode = "replace_keys".into();
        facts.reason = format!("rows were forgotten, by {}", forget.column);
        let mut work = Work::nothing(self.before);
        if let Some(matcher) = Matcher::new(state, &self.snapshot.schema, forget, above)? {
            let forgotten = matcher.take(storage, state, self.snapshot, epoch).await?;
            facts.rows_in = forgotten.count();
            work.touches = !forgotten.remove.is_empty();
            work.change = Change::of(vec![], forgotten.rows);
            (work.add, work.remove) = (forgotten.add, forgotten.remove);
        }
        if let Some(location) = &self.slot.quarantine {
            let snapshot = storage.snapshot(location, None).await?;
            let above = derived(self.pass.slots.iter(), &self.slot.view.name.quarantine(), &forget.column);
            let records = self.forgotten_records().await?;
            if let Some(matcher) = Matcher::of_records(state, &snapshot.schema, forget, above, records)? {
                let forgotten = matcher.take(storage, state, &snapshot, epoch).await?;
                (work.quarantine, work.quarantine_remove) = (forgotten.add, forgotten.remove);
            }
        }
        Ok(work)
    }

    /// Nothing has come to its inputs, and nothing has gone.
    pub(in crate::refresh) async fn rests(&self) -> Result<bool> {
        for input in &self.slot.view.inputs {
            if !matches!(change_of(self.pass, input, self.frontier).await?, Change::Nothing) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Take groups out of the view, whatever is left of what they were made of.
    pub(in crate::refresh) async fn forget_groups(&self, forget: &Forget, facts: &mut RefreshFacts) -> Result<Work> {
        facts.mode = "replace_keys".into();
        facts.reason = format!("rows were forgotten, by {}", forget.column);
        let groups = Groups { storage: self.pass.storage.as_ref(), state: &self.pass.base, view: &self.slot.view };
        let which = cast(plain(&forget.column), DataType::Utf8).eq(lit(forget.value.clone()));
        let epoch = self.pass.record.epoch;
        let (merged, rows) = groups.take(self.snapshot, epoch, which, None, self.has_readers()).await?;
        facts.rows_in = rows as u64;
        let mut work = Work::nothing(self.before);
        work.touches = !merged.remove.is_empty();
        work.change = match merged.change {
            Some((added, removed)) => Change::of(added, removed),
            None if work.touches => Change::Committed,
            None => Change::Nothing,
        };
        (work.add, work.remove) = (merged.add, merged.remove);
        Ok(work)
    }

    /// The records that the inputs have forgotten in this epoch.
    async fn forgotten_records(&self) -> Result<HashSet<u128>> {
        let mut records = HashSet::new();
        for input in &self.slot.view.inputs {
            let mut change = change_of(self.pass, input, self.frontier).await?;
            if let (Change::Committed, Some(marks)) = (&change, self.pass.marks.get(input)) {
                let at = marks.committed.wait().await.as_ref().map_err(Clone::clone)?;
                change =
                    change_between(self.pass, &at.location, self.pass.seen(input, self.frontier)?, at.version, false)
                        .await?;
            }
            let Change::Changed { added, removed } = change else { continue };
            records.extend(self.identities(&removed).await?);
            // Of files that were rewritten, those that are in the new ones.
            for id in self.identities(&added).await? {
                records.remove(&id);
            }
        }
        Ok(records)
    }

    async fn identities(&self, rows: &Rows) -> Result<Vec<u128>> {
        let schema = match rows {
            Rows::Files(snapshot, _) => Arc::clone(&snapshot.schema),
            Rows::Memory(batches) => match batches.first() {
                Some(batch) => batch.schema(),
                None => return Ok(vec![]),
            },
        };
        if IDENTITY.iter().any(|name| schema.index_of(name).is_err()) {
            return Ok(vec![]);
        }
        let provider = provider_as_source(rows.provider(self.pass.storage.as_ref(), &schema, 1)?);
        let plan = LogicalPlanBuilder::scan("__changed", provider, None)?.project(IDENTITY.map(plain))?.build()?;
        let mut ids = Vec::new();
        for batch in collect(&self.pass.base, plan).await? {
            ids.extend(identities(&batch)?);
        }
        Ok(ids)
    }
}
