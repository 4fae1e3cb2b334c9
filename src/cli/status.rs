//! `flash status`: where every view stands.

use serde_json::json;

use super::terminal::{Look, Terminal, duration, grouped};
use super::{Context, catalog, lake};
use crate::engine::ViewStatus;
use crate::error::Result;

/// Flags of `flash status`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The lake: a folder, or s3://bucket/prefix
    #[arg(long, value_name = "DIR|s3://...", default_value = lake::DEFAULT)]
    lake: String,
    /// One JSON array, with name, location, version, rows, lag_ms, mode, reason of each view
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    glue: catalog::Flags,
}

/// Print the state of every view, and how the lake's tables stand in Glue where that is asked for.
///
/// # Errors
/// As for opening the lake; `Config` for one that cannot be in Glue.
pub async fn run(context: &Context, args: Args) -> Result<()> {
    let registered = args.glue.lake(&args.lake)?;
    let (engine, storage) = lake::open_existing_over(context, &args.lake).await?;
    let views = engine.status().await?;
    let glue = match registered {
        Some(lake) => Some((catalog::reconciler(lake.clone(), storage).await?.compare().await?, lake)),
        None => None,
    };
    if args.json {
        let row = |view: &ViewStatus| {
            let mut row = row(view);
            if let Some((report, lake)) = &glue {
                row["glue"] = catalog::state(lake, report, &view.name).into();
            }
            row
        };
        let rows: Vec<serde_json::Value> = views.iter().map(row).collect();
        return context.terminal.data(&serde_json::to_string_pretty(&rows)?);
    }
    show(context, &views)?;
    glue.map_or(Ok(()), |(report, _)| catalog::show(context.terminal, &report))
}

fn show(context: &Context, views: &[ViewStatus]) -> Result<()> {
    if views.is_empty() {
        context.terminal.say("no materialized views in this lake yet; `flash run --project sql` makes them");
        return Ok(());
    }
    context.terminal.data(&table(&context.terminal, views))
}

fn row(view: &ViewStatus) -> serde_json::Value {
    json!({
        "name": view.name.to_string(),
        "location": view.location,
        "version": view.version,
        "rows": view.rows,
        "lag_ms": view.lag_ms,
        "mode": view.mode,
        "reason": view.reason,
        "target_lag_ms": view.target_lag_ms,
        "epoch": view.frontier,
        "suspended": view.suspended,
        "quarantined": view.quarantined,
    })
}

fn table(terminal: &Terminal, views: &[ViewStatus]) -> String {
    let rows = views.iter().map(|view| {
        vec![
            view.name.to_string(),
            state(terminal, view),
            grouped(view.rows),
            grouped(view.quarantined),
            view.lag_ms.map_or("-".into(), duration),
            view.target_lag_ms.map_or("-".into(), |ms| duration(ms.try_into().unwrap_or(i64::MAX))),
            view.frontier.to_string(),
            view.mode.clone(),
            view.reason.clone(),
        ]
    });
    let header = ["view", "state", "rows", "quarantined", "lag", "target", "epoch", "refresh", "because"];
    terminal.table(&header, rows.collect(), &[2, 3, 4, 5, 6])
}

/// `fresh`, `late`, `suspended`, or `new` before the first epoch.
fn state(terminal: &Terminal, view: &ViewStatus) -> String {
    let late = view.lag_ms.zip(view.target_lag_ms).is_some_and(|(lag, target)| lag > late_after(target));
    match (view.suspended, view.lag_ms, late) {
        (true, _, _) => terminal.paint(Look::Bad, "suspended"),
        (_, None, _) => "new".into(),
        (_, _, true) => terminal.paint(Look::Bad, "late"),
        _ => terminal.paint(Look::Good, "fresh"),
    }
}

/// A view is called late from twice its target on: a refresh that is just running is no news.
fn late_after(target_ms: u64) -> i64 {
    i64::try_from(target_ms).unwrap_or(i64::MAX).saturating_mul(2)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view(lag_ms: Option<i64>, suspended: bool) -> ViewStatus {
        ViewStatus {
            name: "gold.kpis".parse().unwrap(),
            location: "file:///lake/gold/kpis".into(),
            version: 3,
            rows: 1_200,
            lag_ms,
            target_lag_ms: Some(5_000),
            mode: "merge_state".into(),
            reason: "only inserts".into(),
            frontier: 7,
            suspended,
            quarantined: 2,
        }
    }

    #[test]
    fn the_json_has_the_keys_that_scripts_rely_on() {
        let row = row(&view(Some(12), false));
        for key in ["name", "location", "version", "rows", "lag_ms", "mode", "reason"] {
            assert!(row.get(key).is_some(), "{key}");
        }
        assert_eq!((row["name"].as_str(), row["rows"].as_u64()), (Some("gold.kpis"), Some(1_200)));
    }

    #[test]
    fn the_state_follows_lag_and_suspension() {
        let plain = Terminal { live: false, stdout_is_terminal: false, stdin_is_terminal: false };
        let of = |lag, suspended| state(&plain, &view(lag, suspended));
        assert_eq!([of(None, false), of(Some(0), false), of(Some(10_000), false)], ["new", "fresh", "fresh"]);
        assert_eq!([of(Some(10_001), false), of(Some(0), true)], ["late", "suspended"]);
    }
}
