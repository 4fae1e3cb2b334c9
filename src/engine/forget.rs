//! FORGET: one user's rows go out of every table and view, now; their bytes from storage as soon as nobody may need the
//! versions that hold them.
//!
//! ```text
//!   FORGET WHERE user_id = 'u17'
//!     every view has followed everything, and can forget (`refresh::forget::way`)      else: refused, nothing is done
//!     request, begun                                                  _flash/forgotten    (without the value)
//!     ordinary tables with the column ─▶ a commit each, views follow
//!     an epoch that names column and value ─▶ views of streams, silver, quarantines, and all above them, in order
//!     its record is deleted: it held the value
//!     is a row left anywhere? ─▶ refused, said where                  else: request, forgotten
//!   upkeep: files that a commit has removed go after the retention; when none is left ─▶ request, gone
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::catalog::Principal;
use crate::catalog::forgotten::{Forgotten, Place, Request};
use crate::engine::statements::done;
use crate::engine::{Answer, Engine, State};
use crate::epoch::{EpochRecord, Forget, Version};
use crate::error::{Error, ErrorKind, Result};
use crate::name::TableName;
use crate::parser;
use crate::refresh::classify::Shape;
use crate::refresh::derived::{derived, is_untraced};
use crate::refresh::forget::{Matcher, Way, way};
use crate::refresh::pass::ViewSlot;
use crate::storage::{Commit, Storage};

/// How much younger than the request an object may be that still held the rows, in milliseconds: a compaction that was under
/// way, or a clock that is not ours.
const MARGIN_MS: i64 = 5 * 60_000;

/// How long to wait before bytes are looked for again, in microseconds.
const LOOK_AGAIN_US: i64 = 60_000_000;

/// Epochs that one request may take: in each, the lowest views with rows left give them up.
const EPOCHS_MAX: usize = 8;

/// Times that the record of requests is written anew because another process was faster.
const SAVES_MAX: usize = 10;

impl Engine {
    /// Carry out FORGET.
    ///
    /// # Errors
    /// `Definition` when a view cannot forget, `Query` when rows are left; as `pass`.
    pub(super) async fn forget(&self, principal: &Principal, asked: &parser::Forget) -> Result<Answer> {
        let mut state = self.state.lock().await;
        self.settle(&mut state).await?;
        let forget = Forget { column: asked.column.clone(), value: asked.value.clone() };
        self.can_forget(&state, &forget.column).await?;
        let mut request = Request {
            column: asked.column.clone(),
            comment: asked.comment.clone(),
            asked_by: principal.subject.clone(),
            begun_us: self.clock.now_us(),
            ..Request::default()
        };
        request.id = save_request(self.storage.as_ref(), &request).await?;
        // Nothing goes back to a table that has the rows.
        self.give_up_retired(&mut state).await?;
        let before = self.rows_by_table(&state);
        self.forget_in_tables(&mut state, &forget).await?;
        for left in (0..EPOCHS_MAX).rev() {
            self.forget_in_views(&mut state, &forget).await?;
            self.settle(&mut state).await?;
            // A view that has followed its inputs, and has rows left, gives them up with the next epoch.
            match self.nothing_left(&state, &forget).await {
                Err(error) if left == 0 => return Err(error),
                Err(error) if error.kind() == ErrorKind::Query => {}
                Err(error) => return Err(error),
                Ok(()) => break,
            }
        }
        if let Some(task) = state.maintenance.take() {
            // What it merges may be of files with the rows.
            let _ = task.await;
        }
        let after = self.rows_by_table(&state);
        let less = |(name, (_, rows)): (TableName, (String, u64))| {
            let now = after.get(&name).map_or(0, |(_, rows)| *rows);
            (rows > now).then_some((name, rows - now))
        };
        request.rows = before.into_iter().filter_map(less).collect();
        request.forgotten_us = Some(self.clock.now_us());
        request.places = self.places(&state).await?;
        save_request(self.storage.as_ref(), &request).await?;
        state.look_us = Some(self.clock.now_us() + self.storage.retention_ms() * 1_000);
        let rows = request.rows.values().sum::<u64>();
        let tables = request.rows.iter().map(|(name, rows)| format!("{name} {rows}")).collect::<Vec<_>>().join(", ");
        let hours = self.storage.retention_ms() as f64 / 3_600_000.0;
        let of = if tables.is_empty() { "no table has such rows".to_string() } else { tables };
        Ok(done(
            format!(
                "FORGET {rows} ({of}); their bytes go from storage in {hours:.1} hours or later: \
                 SELECT * FROM system.forgotten WHERE id = {}",
                request.id
            ),
            Some(rows),
        ))
    }

    /// Every view shows what its inputs hold, and there is a way for each; some table has the column.
    async fn can_forget(&self, state: &State, column: &str) -> Result<()> {
        let published = Arc::clone(&self.published.borrow());
        let shows = |slot: &Arc<ViewSlot>| slot.view.schema.index_of(column).is_ok();
        let mut known = state.graph.slots.values().any(shows);
        for location in state.graph.tables.values() {
            known |= self.storage.snapshot(location, None).await?.schema.index_of(column).is_ok();
        }
        if !known {
            return Err(Error::new(ErrorKind::Definition, format!("no table and no view shows a column {column}"))
                .with_detail("a misspelt name would forget nothing"));
        }
        for (name, slot) in &state.graph.slots {
            let at = published.tables.get(name).filter(|at| at.location == slot.location);
            // Before the first epoch there are no rows.
            let follows = at.map_or(published.epoch == 0, |at| at.frontier == published.epoch);
            let suspended = state.definitions.objects.get(name).is_some_and(|object| object.suspended);
            if !follows || suspended || state.failed.contains_key(name) {
                return Err(Error::new(ErrorKind::Definition, format!("{name} does not follow its inputs now"))
                    .with_detail("it is suspended, or its refresh fails: rows could come back with it")
                    .with_hint(format!("resume it, or mend it, or drop it: SELECT reason FROM system.materialized_views WHERE view_name = '{name}'")));
            }
            let above = !derived(state.graph.slots.values(), name, column).is_empty();
            if way(&slot.view, column, above) == Way::Refused {
                return Err(Error::new(ErrorKind::Definition, format!("{name} cannot forget by {column}"))
                    .with_detail("it removes repetitions or bad rows as they come, so that it follows no removal, and does not show that column")
                    .with_hint(format!("let it show {column}")));
            }
            let expired = slot
                .view
                .inputs
                .iter()
                .find(|input| published.tables.get(*input).is_some_and(|at| at.totals.expired > 0));
            let reads_stream = slot.view.inputs.iter().any(|input| state.graph.sources.contains_key(input));
            if reads_stream
                && slot.view.schema.index_of(column).is_err()
                && is_untraced(state.graph.slots.values(), name, column)
            {
                return Err(Error::new(ErrorKind::Definition, format!("records of {name} cannot be told by {column}"))
                    .with_detail("a view above it makes that column of a UNION or an UNNEST, or of another table, too")
                    .with_hint(format!("show {column} in a view that reads {name} row by row")));
            }
            let stays = matches!(slot.view.shape, Shape::Linear { .. } | Shape::Merge { retracts: false, .. });
            if let (true, Some(input)) = (stays, expired)
                && way(&slot.view, column, above) == Way::Follows
                && !slot.view.definition.options.ignores_expired
            {
                return Err(Error::new(
                    ErrorKind::Definition,
                    format!("{name} cannot forget: rows of {input} have expired"),
                )
                .with_detail(format!(
                    "it does not show {column}, and what it made of those rows cannot be found, or not be taken off"
                ))
                .with_hint(format!(
                    "let it show {column}; or WITH (expired_inputs = 'ignore') in its definition leaves those alone"
                )));
            }
        }
        Ok(())
    }

    /// A commit for each ordinary table with such rows.
    async fn forget_in_tables(&self, state: &mut State, forget: &Forget) -> Result<()> {
        for (name, location) in state.graph.tables.clone() {
            let snapshot = self.storage.snapshot(&location, None).await?;
            let above = derived(state.graph.slots.values(), &name, &forget.column);
            let Some(matcher) = Matcher::new(&self.base, &snapshot.schema, forget, above)? else { continue };
            let epoch = self.published.borrow().epoch;
            let forgotten = matcher.take(self.storage.as_ref(), &self.base, &snapshot, epoch).await?;
            if !forgotten.remove.is_empty() {
                let commit = Commit {
                    add: forgotten.add,
                    remove: forgotten.remove,
                    data_change: true,
                    operation: "DELETE",
                    ..Commit::default()
                };
                self.storage.commit(&location, commit).await?;
            }
        }
        self.settle(state).await
    }

    /// The epoch that forgets.
    async fn forget_in_views(&self, state: &mut State, forget: &Forget) -> Result<()> {
        let epoch = self.published.borrow().epoch + 1;
        let record = EpochRecord {
            epoch,
            now_us: self.clock.now_us(),
            definitions: state.definitions.hash(),
            tables: self.table_versions(&state.graph).await?,
            views: state.graph.order.clone(),
            forget: Some(forget.clone()),
            ..EpochRecord::default()
        };
        if record.views.is_empty() {
            return Ok(());
        }
        self.write_record(&record).await?;
        state.unfinished = Some(record.clone());
        let published = self.carry_out(state, record, BTreeMap::new(), BTreeMap::new()).await?;
        match published.refreshes.iter().find_map(|(name, facts)| Some((name, facts.error.as_ref()?))) {
            None => Ok(()),
            Some((name, error)) => Err(Error::new(ErrorKind::Query, format!("{name} has not forgotten: {error}"))
                .with_detail("the views below it have; it shows what it did before")
                .with_hint(format!("REFRESH MATERIALIZED VIEW {name} FULL computes it from them; then ask again"))),
        }
    }

    /// Look for such rows in everything that shows the column.
    async fn nothing_left(&self, state: &State, forget: &Forget) -> Result<()> {
        let published = Arc::clone(&self.published.borrow());
        for (name, at) in &published.tables {
            if !state.definitions.objects.contains_key(name)
                && !state.graph.slots.keys().any(|view| view.quarantine() == *name)
            {
                continue;
            }
            let snapshot = self.storage.snapshot(&at.location, Some(at.version)).await?;
            let above = derived(state.graph.slots.values(), name, &forget.column);
            let Some(matcher) = Matcher::new(&self.base, &snapshot.schema, forget, above)? else { continue };
            let left = matcher.count(self.storage.as_ref(), &self.base, &snapshot).await?;
            if left > 0 {
                return Err(Error::new(
                    ErrorKind::Query,
                    format!("{left} rows with this {} are left in {name}", forget.column),
                )
                .with_detail("they came of rows that its inputs have let expire, so that nothing is left to follow")
                .with_hint(format!(
                    "REFRESH MATERIALIZED VIEW {name} FULL FORCE computes it from what there is; then ask again"
                )));
            }
        }
        Ok(())
    }

    /// Rows of each published table.
    fn rows_by_table(&self, state: &State) -> BTreeMap<TableName, (String, u64)> {
        let published = self.published.borrow();
        let quarantines: BTreeSet<TableName> = state.graph.slots.keys().map(TableName::quarantine).collect();
        let known = |name: &TableName| state.definitions.objects.contains_key(name) || quarantines.contains(name);
        let tables = published.tables.iter().filter(|(name, _)| known(name));
        tables.map(|(name, at)| (name.clone(), (at.location.clone(), at.rows))).collect()
    }

    /// Everywhere where bytes of the rows may be.
    async fn places(&self, state: &State) -> Result<Vec<Place>> {
        let mut places = Vec::new();
        let mut add = async |location: &String, state_folder: Option<String>| -> Result<()> {
            let version = self.storage.snapshot(location, None).await?.version;
            places.push(Place { location: location.clone(), state_folder, version });
            Ok(())
        };
        for location in state.graph.tables.values() {
            add(location, None).await?;
        }
        for slot in state.graph.slots.values() {
            add(&slot.location, Some(slot.view.state_folder())).await?;
            if let Some(quarantine) = &slot.quarantine {
                add(quarantine, None).await?;
            }
        }
        let retired = state.definitions.retired.iter();
        places.extend(
            retired.flat_map(|retired| retired.object.folders().chain([&retired.state_folder])).map(|folder| Place {
                location: folder.clone(),
                state_folder: None,
                version: Version::MAX,
            }),
        );
        Ok(places)
    }

    /// Tables that were replaced still have the rows: no definition takes them up again.
    async fn give_up_retired(&self, state: &mut State) -> Result<()> {
        if state.definitions.retired.iter().all(|retired| retired.states.is_empty()) {
            return Ok(());
        }
        let mut definitions = state.definitions.clone();
        definitions.retired.iter_mut().for_each(|retired| retired.states.clear());
        definitions.save(self.storage.as_ref()).await?;
        state.definitions = definitions;
        Ok(())
    }

    /// When bytes are to be looked for next; known when the lake is opened.
    pub(super) async fn load_look_us(&self) -> Result<Option<i64>> {
        let record = Forgotten::load(self.storage.as_ref()).await?;
        let pending = record.requests.iter().filter(|request| request.is_pending());
        let kept_us = self.storage.retention_ms() * 1_000;
        Ok(pending.filter_map(|request| request.forgotten_us).map(|at| at + kept_us).min())
    }

    /// Is it time to look whether bytes are gone? Once told, it is for a while not.
    pub(super) async fn is_look_due(&self, state: &mut State) -> Result<bool> {
        let now_us = self.clock.now_us();
        if state.look_us.is_none_or(|at| at > now_us) {
            return Ok(false);
        }
        state.look_us = self.load_look_us().await?.map(|at| at.max(now_us + LOOK_AGAIN_US));
        Ok(state.look_us.is_some())
    }
}

/// Write down of each pending request whether its bytes are gone. Which is the case when nothing that is older than it is
/// left of the places that had them, but for what the newest version names.
///
/// # Errors
/// `Storage`, `Conflict`.
pub(super) async fn look(storage: &dyn Storage, now_us: i64) -> Result<()> {
    let mut record = Forgotten::load(storage).await?;
    let kept_us = storage.retention_ms() * 1_000;
    let mut found = false;
    for request in record.requests.iter_mut().filter(|request| request.is_pending()) {
        let Some(forgotten_us) = request.forgotten_us.filter(|at| at + kept_us <= now_us) else { continue };
        let before_ms = forgotten_us / 1_000 + MARGIN_MS;
        let (before, mut left) = (request.places.len(), Vec::new());
        for place in std::mem::take(&mut request.places) {
            let objects =
                storage.left_of(&place.location, place.state_folder.as_deref(), place.version, before_ms).await?;
            if objects.files > 0 {
                left.push(place);
            }
        }
        found |= left.len() < before || left.is_empty();
        request.gone_us = left.is_empty().then_some(now_us);
        request.places = left;
    }
    if found { record.save(storage).await } else { Ok(()) }
}

/// The versions from which on a table holds no forgotten rows: the log before them is to go.
///
/// # Errors
/// `Storage`.
pub(super) async fn versions(storage: &dyn Storage) -> Result<BTreeMap<String, Version>> {
    let record = Forgotten::load(storage).await?;
    let places = record.requests.into_iter().filter(Request::is_pending).flat_map(|request| request.places);
    let mut versions = BTreeMap::<String, Version>::new();
    for place in places.filter(|place| place.version < Version::MAX) {
        let version = versions.entry(place.location).or_default();
        *version = place.version.max(*version);
    }
    Ok(versions)
}

/// Has this version of a table, or this table as a whole, rows that were forgotten since?
///
/// # Errors
/// `Storage`.
pub(super) async fn is_before(storage: &dyn Storage, location: &str, version: Version) -> Result<bool> {
    let record = Forgotten::load(storage).await?;
    let mut places = record.requests.iter().filter(|request| request.is_pending()).flat_map(|request| &request.places);
    Ok(places.any(|place| place.location == location && version < place.version))
}

/// Write a request down; its number.
async fn save_request(storage: &dyn Storage, request: &Request) -> Result<u64> {
    let mut tries = 0;
    loop {
        let mut record = Forgotten::load(storage).await?;
        let id = record.put(request.clone());
        match record.save(storage).await {
            Ok(()) => return Ok(id),
            Err(error) if error.kind() == ErrorKind::Conflict && tries < SAVES_MAX => tries += 1,
            Err(error) => return Err(error),
        }
    }
}
