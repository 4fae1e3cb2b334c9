//! Metrics for Prometheus: gauges from the engine's status; counters summed over the records published since the start.

use std::collections::BTreeMap;
use std::fmt::Write;

use crate::engine::ViewStatus;
use crate::epoch::{DataLoss, PublishedRecord};
use crate::glue;
use crate::name::TableName;

/// Sums over the records that were published while this server ran. Records that come faster than they can be looked
/// at are left out, so these are for rates; `system.refreshes` has them all.
#[derive(Default)]
pub(super) struct Tally {
    epochs: u64,
    refreshes: BTreeMap<(TableName, String), RefreshTally>,
}

#[derive(Default)]
struct RefreshTally {
    count: u64,
    failures: u64,
    took_ms: u64,
    rows_in: u64,
    rows_out: u64,
    bytes_written: u64,
}

impl Tally {
    pub(super) fn add(&mut self, record: &PublishedRecord) {
        self.epochs += 1;
        for (view, facts) in &record.refreshes {
            let tally = self.refreshes.entry((view.clone(), facts.mode.clone())).or_default();
            tally.count += 1;
            tally.failures += u64::from(facts.error.is_some());
            tally.took_ms += facts.took_ms;
            tally.rows_in += facts.rows_in;
            tally.rows_out += facts.rows_out;
            tally.bytes_written += facts.bytes_written;
        }
    }
}

/// All of them, in the text format of Prometheus.
pub(super) fn text(record: &PublishedRecord, views: &[ViewStatus], lost: &[DataLoss], tally: &Tally) -> String {
    let mut text = String::new();
    gauges(&mut text, record, views);
    sources(&mut text, record);
    losses(&mut text, lost);
    counters(&mut text, tally);
    text
}

fn gauges(text: &mut String, record: &PublishedRecord, views: &[ViewStatus]) {
    family(text, "flash_published_epoch", "gauge", "The newest published epoch.");
    line(text, "flash_published_epoch", "", record.epoch);
    family(text, "flash_published_timestamp_seconds", "gauge", "When it was published, in seconds since 1970 UTC.");
    line(text, "flash_published_timestamp_seconds", "", seconds(record.published_us, 1_000_000.0));
    let mut each = |name: &str, help: &str, value: &dyn Fn(&ViewStatus) -> Option<f64>| {
        family(text, name, "gauge", help);
        for view in views {
            if let Some(value) = value(view) {
                line(text, name, &format!("view=\"{}\"", label(&view.name.to_string())), value);
            }
        }
    };
    each("flash_view_rows", "Rows of the view.", &|view| Some(float(view.rows)));
    each("flash_view_frontier_epoch", "The epoch that the view reflects.", &|view| Some(float(view.frontier)));
    each("flash_view_lag_seconds", "How far the view is behind; 0 when nothing has come since.", &|view| {
        view.lag_ms.map(|lag_ms| seconds(lag_ms, 1000.0))
    });
    each("flash_view_quarantined_rows", "Rows in the quarantine table of the view.", &|view| {
        Some(float(view.quarantined))
    });
    each("flash_view_suspended", "1 while the view is suspended.", &|view| Some(f64::from(u8::from(view.suspended))));
}

fn sources(text: &mut String, record: &PublishedRecord) {
    family(text, "flash_source_shards", "gauge", "Shards (or files) of the source whose positions are kept.");
    for (source, positions) in &record.sources {
        line(
            text,
            "flash_source_shards",
            &format!("source=\"{}\"", label(&source.to_string())),
            positions.shards.len(),
        );
    }
    let name = "flash_source_behind_seconds";
    family(text, name, "gauge", "How far the last landed record is behind the newest one of its shard.");
    for (source, behind) in &record.behind_ms {
        for shard in record.sources.get(source).into_iter().flat_map(|positions| positions.shards.keys()) {
            let labels = format!("source=\"{}\",shard=\"{}\"", label(&source.to_string()), label(shard));
            line(text, name, &labels, seconds(behind.get(shard).copied().unwrap_or(0), 1000.0));
        }
    }
}

fn losses(text: &mut String, losses: &[DataLoss]) {
    let mut by_source: BTreeMap<String, usize> = BTreeMap::new();
    losses.iter().for_each(|found| *by_source.entry(found.source.to_string()).or_default() += 1);
    let name = "flash_source_data_losses_total";
    family(text, name, "counter", "Times that records of the source were found gone unread; see system.data_loss.");
    by_source.iter().for_each(|(source, count)| line(text, name, &format!("source=\"{}\"", label(source)), count));
}

/// How the tables' registration in Glue goes.
pub(super) fn glue(text: &mut String, status: &glue::Status) {
    let name = "flash_glue_tables";
    family(text, name, "gauge", "Tables of the lake, by how they stand in Glue; see flash status --glue.");
    let (conflict, refused) = (status.conflicts, status.refused);
    let states = [
        ("in_step", status.in_step),
        ("out_of_step", status.out_of_step),
        ("conflict", conflict),
        ("refused", refused),
    ];
    states.iter().for_each(|(state, count)| line(text, name, &format!("state=\"{state}\""), count));
    let name = "flash_glue_failures_total";
    family(text, name, "counter", "Looks at Glue that ended with a fault; the log says which.");
    line(text, name, "", status.failures);
    let name = "flash_glue_up";
    family(text, name, "gauge", "0 while the last look at Glue ended with a fault.");
    line(text, name, "", u8::from(status.error.is_none()));
    if let Some(at_us) = status.in_step_us {
        let name = "flash_glue_in_step_timestamp_seconds";
        family(text, name, "gauge", "When Glue was last in step with the lake, in seconds since 1970 UTC.");
        line(text, name, "", seconds(at_us, 1_000_000.0));
    }
}

fn counters(text: &mut String, tally: &Tally) {
    family(text, "flash_epochs_total", "counter", "Epochs published since the start.");
    line(text, "flash_epochs_total", "", tally.epochs);
    let mut each = |name: &str, help: &str, value: &dyn Fn(&RefreshTally) -> f64| {
        family(text, name, "counter", help);
        for ((view, mode), tally) in &tally.refreshes {
            let labels = format!("view=\"{}\",mode=\"{}\"", label(&view.to_string()), label(mode));
            line(text, name, &labels, value(tally));
        }
    };
    each("flash_refreshes_total", "Refreshes.", &|tally| float(tally.count));
    each("flash_refresh_failures_total", "Refreshes that failed; the view kept its version.", &|t| float(t.failures));
    each("flash_refresh_seconds_total", "Time in refreshes.", &|tally| float(tally.took_ms) / 1000.0);
    each("flash_refresh_rows_in_total", "Rows of the inputs' changes.", &|tally| float(tally.rows_in));
    each("flash_refresh_rows_out_total", "Rows written.", &|tally| float(tally.rows_out));
    each("flash_refresh_bytes_written_total", "Bytes of Parquet written.", &|tally| float(tally.bytes_written));
}

fn family(text: &mut String, name: &str, kind: &str, help: &str) {
    // Writing to a String cannot fail.
    let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}");
}

fn line(text: &mut String, name: &str, labels: &str, value: impl std::fmt::Display) {
    let _ = match labels {
        "" => writeln!(text, "{name} {value}"),
        labels => writeln!(text, "{name}{{{labels}}} {value}"),
    };
}

/// A label's value, quoted as Prometheus wants it.
fn label(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

/// Counts beyond 2^53 lose their last digits; a metric may.
#[allow(clippy::cast_precision_loss, reason = "see above")]
fn float(count: u64) -> f64 {
    count as f64
}

#[allow(clippy::cast_precision_loss, reason = "a time in seconds needs fewer digits than an f64 has")]
fn seconds(units: i64, units_per_second: f64) -> f64 {
    units as f64 / units_per_second
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::epoch::RefreshFacts;

    #[test]
    fn counters_are_summed_by_view_and_mode() {
        let facts = |mode: &str, took_ms| RefreshFacts { mode: mode.into(), took_ms, ..RefreshFacts::default() };
        let record = |mode| PublishedRecord {
            refreshes: BTreeMap::from([(TableName::new("gold", "a\"b"), facts(mode, 250))]),
            ..PublishedRecord::default()
        };
        let mut tally = Tally::default();
        tally.add(&record("append"));
        tally.add(&record("append"));
        tally.add(&record("full"));
        let mut text = String::new();
        counters(&mut text, &tally);
        assert!(text.contains("flash_epochs_total 3\n"), "{text}");
        assert!(text.contains("flash_refreshes_total{view=\"gold.a\\\"b\",mode=\"append\"} 2\n"), "{text}");
        assert!(text.contains("flash_refresh_seconds_total{view=\"gold.a\\\"b\",mode=\"append\"} 0.5\n"), "{text}");
    }

    #[test]
    fn glue_is_counted_by_how_tables_stand() {
        let status = glue::Status {
            in_step: 3,
            conflicts: 1,
            failures: 2,
            in_step_us: Some(1_500_000),
            ..glue::Status::default()
        };
        let mut text = String::new();
        super::glue(&mut text, &status);
        for line in [
            "flash_glue_tables{state=\"in_step\"} 3",
            "flash_glue_tables{state=\"conflict\"} 1",
            "flash_glue_tables{state=\"out_of_step\"} 0",
            "flash_glue_failures_total 2",
            "flash_glue_up 1",
            "flash_glue_in_step_timestamp_seconds 1.5",
        ] {
            assert!(text.lines().any(|it| it == line), "{line}: {text}");
        }
    }
}
