//! The rows of gold that a question is about, from memory as far as they are kept there.
//!
//! ```text
//!   files of the table by day ─┬─ kept, and of these files ───────────────────▶ rows
//!                              └─ others ─▶ one query for all of these days ─▶ rows by day ─▶ kept from now on
//! ```
//!
//! A relation has no filter but its days and its seller. The caller's policies hold below the query; what is kept is
//! found by their rights. What is kept of all sellers serves for one of them, too: whoever reads a relation asks for the
//! seller once more.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Int64Array};
use arrow::compute::{cast, concat_batches, partition};
use arrow::datatypes::{DataType, Date32Type, Field, Schema};
use arrow::record_batch::RecordBatch;
use chrono::{Days, Duration, NaiveDate};
use datafusion::common::TableReference;
use datafusion::physical_plan::aggregates::group_values::new_group_values;
use datafusion::physical_plan::aggregates::order::GroupOrdering;
use datafusion::prelude::SessionContext;

use crate::catalog::guard::parts;
use crate::dashboard::kept::{Kept, Key};
use crate::dashboard::parameters::{Parameter, Parameters};
use crate::dashboard::period::{Grain, Period};
use crate::dashboard::queries::TILES;
use crate::dashboard::request::Request;
use crate::dashboard::tiles::rows;
use crate::error::{Error, ErrorKind, Result};
use crate::storage::Parts;

/// Schema of the tables.
const GOLD: &str = "gold";

/// The column by which they are cut.
const DAY: &str = "day";

/// What makes a visit.
const VISIT_OF: [&str; 3] = [DAY, "seller_id", "session_id"];

/// The number of a visit, in its relation.
const VISIT: &str = "visit";

/// Texts of few values, which are held as numbers with a list of the values.
const FEW_VALUES: [&str; 4] = ["seller_id", "city", "category", "product"];

/// Bits of a visit's number that tell visits of one slice apart; those above them are the day.
const VISIT_BITS: u32 = 32;

/// How far back the visitors of just now are looked for.
const VISITORS_BACK: Duration = Duration::minutes(5);

/// How far back the trend by minute looks: an hour, and the same hour of the day before.
const MINUTES_BACK: Duration = Duration::hours(25);

/// A query over one table of gold.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Relation {
    /// Its name in `tiles.sql`.
    pub(super) name: &'static str,
    table: &'static str,
    of: Of,
}

/// What a relation is cut by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Of {
    /// Sellers and days, of the period and the time before.
    Orders,
    /// Sellers and days, of the period and just now.
    Visits,
    /// Sellers.
    Sellers,
    /// Nothing.
    All,
}

/// All of them.
pub(super) static RELATIONS: [Relation; 6] = [
    Relation { name: "places", table: "places", of: Of::All },
    Relation { name: "sold", table: "orders", of: Of::Orders },
    Relation { name: "steps", table: "visit_steps", of: Of::Visits },
    Relation { name: "shelf", table: "product_velocity", of: Of::Sellers },
    Relation { name: "last_orders", table: "stock_levels", of: Of::Sellers },
    Relation { name: "sellers", table: "kpis", of: Of::All },
];

/// A part of a relation that is read and kept as one.
#[derive(Debug)]
struct Slice {
    days: Option<Range<NaiveDate>>,
    files: Vec<String>,
}

impl Relation {
    /// The days that the question is about.
    fn days(&self, request: &Request, period: &Period) -> Option<Range<NaiveDate>> {
        let day_of = |back: Duration| (period.now - back).date();
        match self.of {
            Of::Orders if request.grain == Grain::Minute => Some(period.before.min(day_of(MINUTES_BACK))..period.to),
            Of::Orders => Some(period.before..period.to),
            Of::Visits => Some(period.from.min(day_of(VISITORS_BACK))..day_of(Duration::zero()) + Days::new(1)),
            Of::Sellers | Of::All => None,
        }
    }

    fn key(&self, whose: &Arc<str>, seller: Option<&String>, slice: &Slice) -> Key {
        let seller = if self.of == Of::All { None } else { seller.cloned() };
        Key { whose: Arc::clone(whose), seller, relation: self.name, days: slice.days.clone() }
    }

    /// The rows that the question is about, days that are not asked for among them.
    ///
    /// # Errors
    /// `NotFound` or `Denied` where the caller may not read the table; as [`rows`].
    pub(super) async fn read(
        &self,
        session: SessionContext,
        (kept, whose): (Arc<Kept>, Arc<str>),
        request: &Request,
        period: &Period,
    ) -> Result<Vec<RecordBatch>> {
        // Of a table that they may not read the query will say so.
        let table = session.table_provider(TableReference::partial(GOLD, self.table)).await.ok();
        let parts = table.and_then(|table| parts(table.as_ref(), DAY));
        let (seller, days) = (request.seller.as_ref(), self.days(request, period));
        let (mut found, mut missing) = (vec![], vec![]);
        for slice in slices(parts, days.as_ref()) {
            let held = |seller| kept.get(&self.key(&whose, seller, &slice), &slice.files);
            match held(seller).or_else(|| seller.and_then(|_| held(None))) {
                Some(rows) => found.push(rows),
                None => missing.push(slice),
            }
        }
        if missing.is_empty() && !found.is_empty() {
            return Ok(found);
        }
        let read = rows(&session, &TILES, self.name, &asked(seller, days.as_ref(), &missing)).await?;
        if missing.is_empty() {
            // Nothing is there, or it is not to be kept.
            found.push(compact(&read, None)?);
            return Ok(found);
        }
        let mut by_day = if days.is_some() { by_day(&read)? } else { BTreeMap::new() };
        let none = || read.iter().take(1).cloned().collect::<Vec<_>>();
        for slice in missing {
            let rows = match &slice.days {
                Some(days) if is_one(days) => by_day.remove(&days.start).unwrap_or_else(none),
                _ => read.clone(),
            };
            let rows = compact(&rows, slice.days.as_ref().map(|days| days.start))?;
            kept.put(self.key(&whose, seller, &slice), slice.files, rows.clone());
            found.push(rows);
        }
        Ok(found)
    }
}

/// What the rows of these days are kept as: one slice a day where the files tell, and else one of all.
fn slices(parts: Option<Parts>, days: Option<&Range<NaiveDate>>) -> Vec<Slice> {
    match (parts, days) {
        (None, _) => vec![],
        (Some(Parts::Whole(files)), days) => vec![Slice { days: days.cloned(), files }],
        (Some(Parts::By(by)), None) => {
            let mut files: Vec<String> = by.into_values().flatten().collect();
            files.sort_unstable();
            vec![Slice { days: None, files }]
        }
        (Some(Parts::By(by)), Some(days)) => {
            let slice = |(day, files): (String, Vec<String>)| {
                let day: NaiveDate = day.parse().ok().filter(|day| days.contains(day))?;
                Some(Slice { days: Some(day..day + Days::new(1)), files })
            };
            by.into_iter().filter_map(slice).collect()
        }
    }
}

fn is_one(days: &Range<NaiveDate>) -> bool {
    days.start + Days::new(1) == days.end
}

/// The values of a relation's parameters: these slices, or all of these days.
fn asked(seller: Option<&String>, days: Option<&Range<NaiveDate>>, slices: &[Slice]) -> Parameters {
    let mut parameters = Parameters::from([("seller", Parameter::Text(seller.cloned()))]);
    if let Some(days) = days {
        let single = slices.iter().filter_map(|slice| slice.days.as_ref()).filter(|days| is_one(days));
        let single: BTreeSet<NaiveDate> = single.map(|days| days.start).collect();
        let first = single.first().map_or(days.start, |first| *first);
        let end = single.last().map_or(days.end, |last| *last + Days::new(1));
        parameters.insert("first", Parameter::Day(first));
        parameters.insert("end", Parameter::Day(end));
        parameters.insert("any_day", Parameter::Flag(single.is_empty()));
        parameters.insert("days", Parameter::Days(single));
    }
    parameters
}

/// The rows by their day. Each day has a first batch without rows, so that its rows will be copied out of those of others.
fn by_day(batches: &[RecordBatch]) -> Result<BTreeMap<NaiveDate, Vec<RecordBatch>>> {
    let mut by_day: BTreeMap<NaiveDate, Vec<RecordBatch>> = BTreeMap::new();
    for batch in batches.iter().filter(|batch| batch.num_rows() > 0) {
        let days = column(batch, DAY)?;
        for run in partition(std::slice::from_ref(days))?.ranges() {
            let Some(day) = days.as_primitive::<Date32Type>().value_as_date(run.start) else { continue };
            let of_day = by_day.entry(day).or_insert_with(|| vec![batch.slice(0, 0)]);
            of_day.push(batch.slice(run.start, run.len()));
        }
    }
    Ok(by_day)
}

/// The rows in as few bytes as they need, visits numbered. Visits of different slices have different numbers where these
/// are of different days.
fn compact(batches: &[RecordBatch], first: Option<NaiveDate>) -> Result<RecordBatch> {
    let schema = batches.first().map(RecordBatch::schema);
    let schema = schema.ok_or_else(|| Error::new(ErrorKind::Internal, "a relation has no columns"))?;
    let rows = concat_batches(&schema, batches)?;
    let mut columns: Vec<(Field, ArrayRef)> = vec![];
    for (field, values) in schema.fields().iter().zip(rows.columns()) {
        let few = field.data_type() == &DataType::Utf8 && FEW_VALUES.contains(&field.name().as_str());
        let values = match few {
            true => cast(values, &DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8)))?,
            false => Arc::clone(values),
        };
        columns.push((Field::new(field.name(), values.data_type().clone(), true), values));
    }
    if VISIT_OF.iter().all(|name| schema.index_of(name).is_ok()) {
        columns.push((Field::new(VISIT, DataType::Int64, true), visits(&rows, first)?));
    }
    let (fields, values): (Vec<Field>, Vec<ArrayRef>) = columns.into_iter().unzip();
    Ok(RecordBatch::try_new(Arc::new(Schema::new(fields)), values)?)
}

/// Equal numbers for rows of one visit.
fn visits(rows: &RecordBatch, first: Option<NaiveDate>) -> Result<ArrayRef> {
    let keys = VISIT_OF.iter().map(|name| rows.schema().index_of(name)).collect::<Result<Vec<_>, _>>()?;
    let keys = rows.project(&keys)?;
    let mut groups = new_group_values(keys.schema(), &GroupOrdering::None)?;
    let mut group_of_row = Vec::with_capacity(rows.num_rows());
    groups.intern(keys.columns(), &mut group_of_row)?;
    let since_1970 = first.unwrap_or_default().signed_duration_since(NaiveDate::default()).num_days();
    let numbers = group_of_row.into_iter().map(|group| (since_1970 << VISIT_BITS) | group as i64);
    Ok(Arc::new(Int64Array::from_iter_values(numbers)))
}

fn column<'a>(batch: &'a RecordBatch, name: &str) -> Result<&'a ArrayRef> {
    let missing = || Error::new(ErrorKind::Internal, format!("a relation has no column {name}"));
    batch.column_by_name(name).ok_or_else(missing)
}

#[cfg(test)]
pub(super) fn parameters_of_all() -> Parameters {
    asked(None, Some(&(NaiveDate::default()..NaiveDate::default())), &[])
}

#[cfg(test)]
mod tests {
    use arrow::array::{Date32Array, StringArray};

    use super::*;
    use crate::dashboard::period::Range as Span;

    fn day(day: u32) -> NaiveDate {
        NaiveDate::from_ymd_opt(2026, 11, day).unwrap()
    }

    fn files(names: &[&str]) -> Vec<String> {
        names.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn rows_are_kept_by_day_where_the_files_tell() {
        let by = ["2026-11-19", "2026-11-20", "2026-11-21", "1", ""].map(|day| (day.to_string(), files(&[day])));
        let by = || Some(Parts::By(by.clone().into()));
        let days = day(20)..day(22);
        let found = slices(by(), Some(&days));
        let found: Vec<_> = found.iter().map(|slice| (slice.days.clone().unwrap(), slice.files.clone())).collect();
        let wanted = [(day(20)..day(21), files(&["2026-11-20"])), (day(21)..day(22), files(&["2026-11-21"]))];
        assert_eq!(found, wanted);
        let whole = slices(Some(Parts::Whole(files(&["a", "b"]))), Some(&days));
        assert_eq!((whole.len(), &whole[0].days, &whole[0].files), (1, &Some(days.clone()), &files(&["a", "b"])));
        assert_eq!((slices(by(), None).len(), slices(None, Some(&days)).len()), (1, 0));
    }

    #[test]
    fn days_that_are_missing_are_asked_for_and_no_others() {
        let slice = |days| Slice { days: Some(days), files: vec![] };
        let all = day(1)..day(23);
        let some = asked(None, Some(&all), &[slice(day(5)..day(6)), slice(day(20)..day(21))]);
        assert_eq!((&some["first"], &some["end"]), (&Parameter::Day(day(5)), &Parameter::Day(day(21))));
        assert_eq!(some["days"], Parameter::Days([day(5), day(20)].into()));
        assert_eq!(some["any_day"], Parameter::Flag(false));
        let whole = asked(None, Some(&all), &[slice(all.clone())]);
        assert_eq!((&whole["first"], &whole["end"]), (&Parameter::Day(day(1)), &Parameter::Day(day(23))));
        assert_eq!(whole["any_day"], Parameter::Flag(true));
    }

    #[test]
    fn a_question_is_about_its_period_and_about_just_now() {
        let just_after_midnight = "2026-11-22T18:32:00Z".parse().unwrap();
        let of = |range, grain, name: &str| {
            let request = Request { range, grain, ..Request::default() };
            let relation = RELATIONS.iter().find(|relation| relation.name == name).unwrap();
            relation.days(&request, &Period::of(range, just_after_midnight))
        };
        assert_eq!(of(Span::Today, Grain::Hour, "sold"), Some(day(22)..day(24)));
        assert_eq!(of(Span::Today, Grain::Minute, "sold"), Some(day(21)..day(24)));
        assert_eq!(of(Span::Today, Grain::Hour, "steps"), Some(day(22)..day(24)));
        assert_eq!(of(Span::Yesterday, Grain::Hour, "sold"), Some(day(21)..day(23)));
        assert_eq!(of(Span::Yesterday, Grain::Hour, "steps"), Some(day(22)..day(24)));
        assert_eq!(of(Span::All, Grain::Day, "shelf"), None);
    }

    fn steps(rows: &[(NaiveDate, &str, &str)]) -> RecordBatch {
        let days = rows
            .iter()
            .map(|(day, ..)| i32::try_from(day.signed_duration_since(NaiveDate::default()).num_days()).unwrap());
        let columns: [(&str, ArrayRef); 3] = [
            (DAY, Arc::new(Date32Array::from_iter_values(days))),
            ("seller_id", Arc::new(StringArray::from_iter_values(rows.iter().map(|(_, seller, _)| seller)))),
            ("session_id", Arc::new(StringArray::from_iter_values(rows.iter().map(|(.., session)| session)))),
        ];
        RecordBatch::try_from_iter(columns).unwrap()
    }

    fn numbers(batch: &RecordBatch) -> Vec<i64> {
        batch[VISIT].as_primitive::<arrow::datatypes::Int64Type>().values().to_vec()
    }

    #[test]
    fn rows_of_a_visit_have_its_number() {
        let (a, b) = (day(20), day(21));
        let rows = steps(&[(a, "S1", "x"), (a, "S1", "y"), (a, "S2", "x"), (a, "S1", "x"), (b, "S1", "x")]);
        let by_day = by_day(&[rows.slice(0, 0), rows.slice(0, 2), rows.slice(2, 3)]).unwrap();
        assert_eq!(by_day.keys().copied().collect::<Vec<_>>(), [a, b]);
        let first = compact(&by_day[&a], Some(a)).unwrap();
        let second = compact(&by_day[&b], Some(b)).unwrap();
        let found = numbers(&first);
        assert_eq!(found[0], found[3]);
        let all: BTreeSet<i64> = found.into_iter().chain(numbers(&second)).collect();
        assert_eq!(all.len(), 4, "of one seller, one session and one day");
        let whole = numbers(&compact(&[rows], Some(a)).unwrap());
        assert_eq!(whole.iter().collect::<BTreeSet<_>>().len(), 4);
        assert!(first.get_array_memory_size() < 2_000, "a copy of a day's rows, not a view of all");
    }
}
