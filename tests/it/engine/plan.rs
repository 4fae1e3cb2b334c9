//! `flash plan` and `flash check`: what would change is what does change, and every mistake is found.

use std::collections::BTreeMap;

use flashcommerce::engine::plan::{PlannedChange as Change, PlannedObject};
use flashcommerce::engine::{Applied, Engine, PassRequest, ProjectObject};
use flashcommerce::name::TableName;

use super::harness::Lake;

const PROJECT: [(&str, &str); 5] = [
    ("s.sales", "CREATE TABLE s.sales (shop VARCHAR, amount INT)"),
    ("s.cities", "CREATE TABLE s.cities (city VARCHAR)"),
    ("s.clean", "CREATE MATERIALIZED VIEW s.clean AS SELECT shop, amount FROM s.sales WHERE amount > 0"),
    ("s.totals", "CREATE MATERIALIZED VIEW s.totals AS SELECT shop, sum(amount) AS total FROM s.clean GROUP BY shop"),
    ("s.towns", "CREATE MATERIALIZED VIEW s.towns AS SELECT DISTINCT city FROM s.cities"),
];

fn name(text: &str) -> TableName {
    text.parse().unwrap()
}

/// The project, with some files changed, made, or (empty) removed.
fn project(edits: &[(&str, &str)]) -> Vec<ProjectObject> {
    let mut files: BTreeMap<&str, &str> = PROJECT.into();
    files.extend(edits.iter().copied());
    files.retain(|_, sql| !sql.is_empty());
    let object = |(name, sql): (&str, &str)| {
        let file = format!("sql/{}.sql", name.replace('.', "/"));
        ProjectObject { file: Some(file), sql: sql.into(), data: None }
    };
    files.into_iter().map(object).collect()
}

async fn plan(engine: &Engine, edits: &[(&str, &str)]) -> BTreeMap<String, PlannedObject> {
    let planned = engine.plan(&project(edits)).await.unwrap();
    planned.into_iter().map(|object| (object.name.to_string(), object)).collect()
}

/// What changes, by name.
fn changes(planned: &BTreeMap<String, PlannedObject>) -> Vec<(&str, Change)> {
    let changed = planned.iter().filter(|(_, object)| object.change != Change::Unchanged);
    changed.map(|(name, object)| (name.as_str(), object.change.clone())).collect()
}

async fn applied() -> Lake {
    let lake = Lake::new(&[]).await;
    lake.engine.apply(&project(&[])).await.unwrap();
    lake.query("INSERT INTO s.sales VALUES ('a', 1), ('b', 2), ('c', -3)").await;
    lake
}

#[tokio::test]
async fn a_project_on_an_empty_lake_is_all_new_and_nothing_is_written() {
    let lake = Lake::new(&[]).await;
    let planned = plan(&lake.engine, &[]).await;
    assert!(planned.len() == 5 && planned.values().all(|object| object.change == Change::New));
    assert_eq!(planned["s.totals"].mode, (None, Some("merge_state".into())));
    assert!(lake.engine.status().await.unwrap().is_empty(), "a plan has made views");
}

#[tokio::test]
async fn spaces_and_comments_are_no_change() {
    let lake = applied().await;
    assert_eq!(changes(&plan(&lake.engine, &[]).await), []);
    let reformatted = "-- totals\nCREATE MATERIALIZED VIEW s.totals\nAS SELECT\n  shop, /* all */ SUM(amount) AS total\n\
                       FROM s.clean\nGROUP BY shop";
    assert_eq!(changes(&plan(&lake.engine, &[("s.totals", reformatted)]).await), []);
}

#[tokio::test]
async fn how_fresh_a_view_is_and_what_is_said_of_it_change_without_its_rows() {
    let lake = applied().await;
    for beside in ["COMMENT 'by shop'", "WITH (target_lag = '1 minute')"] {
        let altered =
            format!("CREATE MATERIALIZED VIEW s.clean {beside} AS SELECT shop, amount FROM s.sales WHERE amount > 0");
        let edit = ("s.clean", altered.as_str());
        assert_eq!(changes(&plan(&lake.engine, &[edit]).await), [("s.clean", Change::Altered)], "{beside}");
        let epoch = lake.engine.published().borrow().epoch;
        let deployed = lake.engine.deploy(&project(&[edit]), None).await.unwrap();
        assert!(deployed.built.is_empty() && deployed.epoch == epoch, "{deployed:?}");
        assert_eq!(changes(&plan(&lake.engine, &[edit]).await), [], "{beside}");
    }
    let lag = "SELECT target_lag_ms FROM system.materialized_views WHERE view_name = 's.clean'";
    assert_eq!(lake.query(lag).await, ["60000"]);
}

#[tokio::test]
async fn a_change_reaches_what_is_built_on_it_and_nothing_else() {
    let lake = applied().await;
    let edit = ("s.clean", "CREATE MATERIALIZED VIEW s.clean AS SELECT shop, amount FROM s.sales WHERE amount > 1");
    let planned = plan(&lake.engine, &[edit]).await;
    let because = vec![name("s.clean")];
    assert_eq!(changes(&planned), [("s.clean", Change::Changed), ("s.totals", Change::Rebuilt { because })]);
    let [read] = planned["s.clean"].reads.as_slice() else { panic!("{:?}", planned["s.clean"].reads) };
    assert_eq!((read.input.clone(), read.rows), (name("s.sales"), Some(3)));
    assert!(read.bytes > 0);

    // What is planned is what happens, and then there is nothing left to do.
    let outcome = lake.engine.apply(&project(&[edit])).await.unwrap();
    for (name, what) in outcome {
        let planned = &planned[&name.to_string()].change;
        assert_eq!(what == Applied::Unchanged, *planned == Change::Unchanged, "{name}: {what:?}, {planned:?}");
    }
    lake.engine.pass(PassRequest { all: true, full: vec![] }).await.unwrap();
    assert_eq!(lake.query("SELECT shop, total FROM s.totals").await, ["b|2"]);
    assert_eq!(changes(&plan(&lake.engine, &[edit]).await), []);
}

#[tokio::test]
async fn new_removed_and_otherwise_refreshed_views_are_told() {
    let lake = applied().await;
    lake.query("CREATE MATERIALIZED VIEW s.at_a_prompt AS SELECT count(*) AS n FROM s.sales").await;
    let full = "CREATE MATERIALIZED VIEW s.totals WITH (refresh_mode = 'full') AS \
                SELECT shop, sum(amount) AS total FROM s.clean GROUP BY shop";
    let new = "CREATE MATERIALIZED VIEW s.best AS SELECT max(total) AS total FROM s.totals";
    let planned = plan(&lake.engine, &[("s.totals", full), ("s.best", new), ("s.towns", "")]).await;
    assert_eq!(planned["s.towns"].change, Change::Removed);
    assert_eq!(planned["s.best"].change, Change::New);
    assert_eq!(planned["s.at_a_prompt"].change, Change::Unchanged, "no file has ever defined it");
    assert_eq!(planned["s.totals"].mode, (Some("merge_state".into()), Some("full".into())));
    let twice = [project(&[]), project(&[])].concat();
    assert!(lake.engine.plan(&twice).await.unwrap_err().message().contains("defined twice"));
}

#[tokio::test]
async fn every_mistake_is_found_and_what_is_built_on_one_is_not_looked_at() {
    let lake = Lake::new(&[]).await;
    let edits = [
        ("s.clean", "CREATE MATERIALIZED VIEW s.clean AS SELECT shop, amuont FROM s.sales"),
        ("s.best", "CREATE MATERIALIZED VIEW s.best AS SELECT max(total) FROM s.totals"),
        ("s.towns", "CREATE MATERIALIZED VIEW s.towns AS SELECT random() AS r FROM s.cities"),
        ("s.broken", "CREATE MATERIALIZED VEW s.broken AS SELECT 1"),
        ("s.fine", "CREATE MATERIALIZED VIEW s.fine AS SELECT count(*) AS n FROM s.sales"),
        ("s.alone", "CREATE TABLE s.alone (a INT)"),
    ];
    let checked = lake.engine.check(&project(&edits)).await;
    let told = checked.errors.iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(told.len(), 3, "{told:#?}");
    for part in ["amuont", "random", "VEW"] {
        assert!(told.iter().any(|text| text.to_lowercase().contains(&part.to_lowercase())), "{part}: {told:#?}");
    }
    let mut skipped = checked.skipped;
    skipped.sort();
    assert_eq!(skipped, [name("s.best"), name("s.totals")]);
    let views = checked.views.iter().map(|(view, ..)| view.clone()).collect::<Vec<_>>();
    assert_eq!(views, [name("s.fine")]);
    assert_eq!(checked.unused, [name("s.alone")]);

    let cycle = [
        ("s.clean", "CREATE MATERIALIZED VIEW s.clean AS SELECT shop, total AS amount FROM s.totals"),
        ("s.towns", ""),
        ("s.cities", ""),
    ];
    let checked = lake.engine.check(&project(&cycle)).await;
    assert!(checked.errors[0].message().contains("built on itself"), "{:?}", checked.errors);
}
