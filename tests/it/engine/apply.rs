//! `flash apply`: what a project defines is what the lake holds, and readers never see a mixture.

use std::collections::BTreeMap;
use std::sync::Arc;

use fastrand::Rng;
use flashcommerce::engine::plan::{PlannedChange as Change, id};
use flashcommerce::engine::{Pass, PassRequest, ProjectObject};
use flashcommerce::epoch::PublishedRecord;
use flashcommerce::error::ErrorKind;

use super::faults::Failing;
use super::harness::Lake;

const TABLES: [(&str, &str); 2] = [
    ("s.cities", "CREATE TABLE s.cities (shop VARCHAR, city VARCHAR)"),
    ("s.sales", "CREATE TABLE s.sales (shop VARCHAR, product VARCHAR, amount INT)"),
];

/// Views from the bottom up, with what they are built on, in several versions each.
const VIEWS: [(&str, &[&str], &[&str]); 6] = [
    (
        "s.clean",
        &[],
        &[
            "SELECT shop, product, amount FROM s.sales WHERE amount > 0",
            "SELECT shop, product, amount FROM s.sales WHERE amount > 3",
            "SELECT shop, amount, upper(product) AS product, amount * 2 AS twice FROM s.sales",
        ],
    ),
    (
        "s.totals",
        &["s.clean"],
        &[
            "SELECT shop, sum(amount) AS total FROM s.clean GROUP BY shop",
            "SELECT shop, sum(amount) AS total, count(*) AS sales FROM s.clean GROUP BY shop",
            "SELECT shop, CAST(sum(amount) AS BIGINT) + 1 AS total, avg(amount) AS mean FROM s.clean GROUP BY shop",
        ],
    ),
    (
        "s.best",
        &["s.totals"],
        &[
            "SELECT shop, total FROM s.totals ORDER BY total DESC, shop LIMIT 2",
            "SELECT shop, total FROM s.totals ORDER BY total DESC, shop LIMIT 3",
        ],
    ),
    (
        "s.towns",
        &["s.clean"],
        &[
            "SELECT c.city, s.shop, s.amount FROM s.clean s JOIN s.cities c ON c.shop = s.shop",
            "SELECT c.city, s.shop, s.amount FROM s.clean s LEFT JOIN s.cities c ON c.shop = s.shop",
        ],
    ),
    (
        "s.products",
        &["s.clean"],
        &["SELECT DISTINCT product FROM s.clean", "SELECT DISTINCT product, shop FROM s.clean"],
    ),
    (
        "s.ranked",
        &["s.totals", "s.cities"],
        &["SELECT t.shop, rank() OVER (PARTITION BY c.city ORDER BY t.total) AS place \
           FROM s.totals t JOIN s.cities c ON c.shop = t.shop"],
    ),
];

/// Random walks, and steps of each.
const WALKS: u64 = 6;
const STEPS: usize = 8;

/// View -> its query.
type Project = BTreeMap<&'static str, &'static str>;

fn random_project(random: &mut Rng) -> Project {
    let mut project = Project::new();
    for (name, inputs, versions) in VIEWS {
        let there = inputs.iter().all(|input| *input == "s.cities" || project.contains_key(input));
        if there && random.u8(0..5) > 0 {
            project.insert(name, versions[random.usize(0..versions.len())]);
        }
    }
    project
}

fn objects(project: &Project) -> Vec<ProjectObject> {
    let views = project.iter().map(|(name, query)| (*name, format!("CREATE MATERIALIZED VIEW {name} AS {query}")));
    let tables = TABLES.iter().map(|(name, sql)| (*name, sql.to_string()));
    let object = |(name, sql): (&str, String)| {
        let file = format!("sql/{}.sql", name.replace('.', "/"));
        ProjectObject { file: Some(file), sql, data: None }
    };
    tables.chain(views).map(object).collect()
}

async fn sorted(lake: &Lake, sql: &str) -> Vec<String> {
    let mut rows = lake.query(sql).await;
    rows.sort();
    rows
}

async fn contents(lake: &Lake, project: &Project) -> BTreeMap<&'static str, Vec<String>> {
    let mut contents = BTreeMap::new();
    for name in project.keys() {
        contents.insert(*name, sorted(lake, &format!("SELECT * FROM {name}")).await);
    }
    contents
}

/// One epoch; its record.
async fn pass(lake: &Lake) -> Option<PublishedRecord> {
    match lake.engine.pass(PassRequest { all: true, full: vec![] }).await.unwrap() {
        Pass::Published { record, .. } => Some((*record).clone()),
        Pass::Idle(_) => None,
    }
}

async fn change_rows(lake: &Lake, random: &mut Rng) {
    let row = |random: &mut Rng| format!("('S{}', 'p{}', {})", random.u8(0..5), random.u8(0..9), random.i32(-2..20));
    let rows = (0..random.usize(1..12)).map(|_| row(random)).collect::<Vec<_>>().join(", ");
    lake.query(&format!("INSERT INTO s.sales VALUES {rows}")).await;
    if random.bool() {
        lake.query(&format!("DELETE FROM s.sales WHERE shop = 'S{}' AND amount > 9", random.u8(0..5))).await;
    }
    if random.u8(0..4) == 0 {
        lake.query(&format!("INSERT INTO s.cities VALUES ('S{}', 'c{}')", random.u8(0..5), random.u8(0..2))).await;
    }
}

#[tokio::test]
async fn a_project_applied_over_another_is_as_if_it_had_been_the_first() {
    for seed in 0..WALKS {
        let mut random = Rng::with_seed(seed);
        let mut lake = Lake::new(&[]).await;
        let (mut now, mut former) = (Project::new(), Project::new());
        lake.engine.apply_project(&objects(&now), None).await.unwrap();
        for step in 0..STEPS {
            let at = format!("seed {seed}, step {step}");
            change_rows(&lake, &mut random).await;
            let next = if random.u8(0..3) == 0 { former.clone() } else { random_project(&mut random) };
            let before = contents(&lake, &now).await;
            let planned = lake.engine.plan(&objects(&next)).await.unwrap();
            lake.engine.apply_project(&objects(&next), Some(&id(&planned))).await.unwrap();
            for (name, rows) in before.iter().filter(|(name, _)| next.contains_key(*name)) {
                let read = sorted(&lake, &format!("SELECT * FROM {name}")).await;
                assert_eq!(read, *rows, "{at}: {name} before it is built");
            }
            if random.bool() {
                lake = lake.restart().await;
            }
            pass(&lake).await;
            for (name, query) in &next {
                let stored = sorted(&lake, &format!("SELECT * FROM {name}")).await;
                assert_eq!(stored, sorted(&lake, query).await, "{at}: {name} AS {query}");
            }
            for name in now.keys().filter(|name| !next.contains_key(*name)) {
                assert!(lake.execute(&format!("SELECT * FROM {name}")).await.is_err(), "{at}: {name} is still there");
            }
            let again = lake.engine.apply_project(&objects(&next), None).await.unwrap();
            assert!(again.iter().all(|object| object.change == Change::Unchanged), "{at}: {again:?}");
            assert!(pass(&lake).await.is_none(), "{at}: something was left to do");
            (former, now) = (now, next);
        }
    }
}

fn chain(clean: usize) -> Project {
    [("s.clean", VIEWS[0].2[clean]), ("s.totals", VIEWS[1].2[0]), ("s.best", VIEWS[2].2[0])].into()
}

#[tokio::test]
async fn going_back_reads_only_what_has_come_since() {
    let mut lake = Lake::new(&[]).await;
    lake.engine.apply_project(&objects(&chain(0)), None).await.unwrap();
    lake.query("INSERT INTO s.sales SELECT 'S' || value % 7, 'p', value % 50 FROM range(1, 5001)").await;
    let locations = async |lake: &Lake| {
        let status = lake.engine.status().await.unwrap();
        status.into_iter().map(|view| (view.name.to_string(), view.location)).collect::<BTreeMap<_, _>>()
    };
    let first = locations(&lake).await;
    lake.engine.apply_project(&objects(&chain(1)), None).await.unwrap();
    pass(&lake).await.unwrap();
    let second = locations(&lake).await;
    assert!(first.iter().all(|(name, location)| second[name] != *location), "{second:?}");
    lake.query("INSERT INTO s.sales VALUES ('S1', 'p', 2), ('S2', 'p', 7)").await;

    lake.engine.apply_project(&objects(&chain(0)), None).await.unwrap();
    assert_eq!(lake.query("SELECT count(*) FROM s.clean WHERE amount = 2").await, ["0"], "readers are where they were");
    lake = lake.restart().await;
    let record = pass(&lake).await.unwrap();
    assert_eq!(locations(&lake).await, first);
    let facts = |name: &str| &record.refreshes[&name.parse().unwrap()];
    assert_eq!((facts("s.clean").rows_in, facts("s.clean").mode.as_str()), (2, "append"));
    assert_eq!(facts("s.totals").mode, "merge_state");
    assert_eq!(sorted(&lake, "SELECT * FROM s.totals").await, sorted(&lake, VIEWS[1].2[0]).await);
    // And forward once more.
    lake.engine.apply_project(&objects(&chain(1)), None).await.unwrap();
    pass(&lake).await.unwrap();
    assert_eq!(locations(&lake).await, second);
    assert_eq!(sorted(&lake, "SELECT * FROM s.clean").await, sorted(&lake, VIEWS[0].2[1]).await);
}

#[tokio::test]
async fn a_view_that_cannot_be_built_leaves_readers_where_they_were() {
    let lake = Lake::new(&[]).await;
    lake.engine.apply_project(&objects(&chain(0)), None).await.unwrap();
    lake.query("INSERT INTO s.sales VALUES ('S1', 'p', 5), ('S2', 'p', 7)").await;
    let mut wrong = objects(&chain(0));
    let clean = wrong.iter_mut().find(|object| object.file.as_deref() == Some("sql/s/clean.sql")).unwrap();
    clean.sql = "CREATE MATERIALIZED VIEW s.clean (CONSTRAINT small EXPECT (amount < 6) ON VIOLATION FAIL UPDATE) AS \
                 SELECT shop, product, amount FROM s.sales"
        .into();
    lake.engine.apply_project(&wrong, None).await.unwrap();
    let record = pass(&lake).await.unwrap();
    assert!(record.refreshes[&"s.clean".parse().unwrap()].error.is_some(), "{:?}", record.refreshes);
    assert_eq!(sorted(&lake, "SELECT * FROM s.totals").await, ["S1|5", "S2|7"]);
    lake.engine.apply_project(&objects(&chain(0)), None).await.unwrap();
    lake.query("INSERT INTO s.sales VALUES ('S2', 'p', 1)").await;
    assert_eq!(sorted(&lake, "SELECT * FROM s.totals").await, ["S1|5", "S2|8"]);
}

#[tokio::test]
async fn another_plan_than_the_one_that_was_shown_is_refused() {
    let lake = Lake::new(&[]).await;
    lake.engine.apply_project(&objects(&chain(0)), None).await.unwrap();
    let shown = id(&lake.engine.plan(&objects(&chain(1))).await.unwrap());
    lake.query("INSERT INTO s.sales VALUES ('S1', 'p', 5)").await;
    let same = id(&lake.engine.plan(&objects(&chain(1))).await.unwrap());
    assert_eq!(shown, same, "rows are no part of a plan");
    lake.apply("CREATE MATERIALIZED VIEW s.best AS SELECT max(total) AS total FROM s.totals").await;
    let refused = lake.engine.apply_project(&objects(&chain(1)), Some(&shown)).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Conflict, "{refused}");
    assert_eq!(sorted(&lake, "SELECT definition FROM system.materialized_views").await.len(), 3);
    assert!(lake.query("SELECT definition FROM system.materialized_views").await.join("\n").contains("max(total)"));
}

#[tokio::test]
async fn what_changed_in_a_view_is_told_row_by_row() {
    let lake = Lake::new(&[]).await;
    lake.engine.apply_project(&objects(&chain(0)), None).await.unwrap();
    lake.query("INSERT INTO s.sales VALUES ('S1', 'p', 5), ('S1', 'p', 5), ('S2', 'q', 7), ('S3', 'r', 2)").await;
    let first = lake.engine.status().await.unwrap()[0].frontier;
    let diff = async |view: &str, from: Option<u64>| {
        let found = lake.engine.diff(&view.parse().unwrap(), from, None, 10).await.unwrap();
        let rows = found.rows.iter().flat_map(|batch| super::harness::lines(std::slice::from_ref(batch)));
        (found.came, found.went, rows.collect::<Vec<_>>())
    };
    lake.query("INSERT INTO s.sales VALUES ('S1', 'p', 1), ('S4', 'p', 9), ('S4', 'p', 9)").await;
    assert_eq!(diff("s.totals", None).await, (2, 1, vec!["S1|10|-1".into(), "S1|11|1".into(), "S4|18|1".into()]));
    assert_eq!(diff("s.clean", Some(first)).await.2, ["S1|p|1|1", "S4|p|9|2"]);
    lake.query("DELETE FROM s.sales WHERE shop = 'S4'").await;
    assert_eq!(diff("s.clean", None).await, (0, 2, vec!["S4|p|9|-2".into()]));
    assert_eq!(diff("s.clean", Some(first)).await, (1, 0, vec!["S1|p|1|1".into()]), "what came and went is nothing");

    // A new definition, with another column.
    let mut next = chain(0);
    next.insert("s.clean", "SELECT shop, amount, 'x' AS product, 1 AS one FROM s.sales WHERE amount > 3");
    lake.engine.apply_project(&objects(&next), None).await.unwrap();
    pass(&lake).await.unwrap();
    let found = lake.engine.diff(&"s.clean".parse().unwrap(), None, None, 10).await.unwrap();
    assert_eq!((found.added, found.dropped), (vec!["one".to_string()], vec![]));
    assert_eq!((found.came, found.went), (3, 5), "S1 5 twice and S2 7 with another product; 1 and 2 are gone");
    let unheard = lake.engine.diff(&"s.clean".parse().unwrap(), Some(999), None, 10).await.unwrap_err();
    assert_eq!(unheard.kind(), ErrorKind::NotFound);
}

#[tokio::test]
async fn a_view_that_had_no_rows_is_built_anew_too() {
    let lake = Lake::new(&[]).await;
    let of = |least: u32| {
        let sql = format!("SELECT shop, sum(amount) AS total FROM s.sales WHERE amount > {least} GROUP BY shop");
        let sql: &'static str = Box::leak(sql.into_boxed_str());
        objects(&Project::from([("s.totals", sql), ("s.best", "SELECT max(total) AS total FROM s.totals")]))
    };
    lake.engine.apply_project(&of(1_000), None).await.unwrap();
    lake.query("INSERT INTO s.sales VALUES ('S1', 'p', 5), ('S2', 'p', 7)").await;
    assert!(lake.query("SELECT * FROM s.totals").await.is_empty());
    lake.engine.apply_project(&of(3), None).await.unwrap();
    pass(&lake).await.unwrap();
    assert_eq!(sorted(&lake, "SELECT * FROM s.totals").await, ["S1|5", "S2|7"]);
    assert_eq!(lake.query("SELECT * FROM s.best").await, ["7"]);
    lake.engine.apply_project(&of(1_000), None).await.unwrap();
    lake.query("INSERT INTO s.sales VALUES ('S3', 'p', 2000)").await;
    assert_eq!(sorted(&lake, "SELECT * FROM s.totals").await, ["S3|2000"]);
}

#[tokio::test]
async fn each_definition_has_a_quarantine_of_its_own() {
    let lake = Lake::new(&[]).await;
    let of = |least: u32| {
        let mut objects = objects(&Project::new());
        let sql = format!(
            "CREATE MATERIALIZED VIEW s.clean (CONSTRAINT small EXPECT (amount < 100) ON VIOLATION QUARANTINE ROW) AS \
             SELECT shop, amount FROM s.sales WHERE amount > {least}"
        );
        objects.push(ProjectObject { file: Some("sql/s/clean.sql".into()), sql, data: None });
        objects
    };
    let counts = async |lake: &Lake| {
        let count = async |table: &str| lake.query(&format!("SELECT count(*) FROM {table}")).await.join("");
        (count("s.clean").await, count("s.clean_quarantine").await)
    };
    let quarantine = || {
        let published = lake.engine.published();
        published.borrow().tables[&"s.clean_quarantine".parse().unwrap()].location.clone()
    };
    lake.engine.apply_project(&of(0), None).await.unwrap();
    lake.query("INSERT INTO s.sales VALUES ('S1', 'p', 1), ('S2', 'p', 7)").await;
    assert_eq!(counts(&lake).await, ("2".into(), "0".into()));
    let first = quarantine();
    lake.engine.apply_project(&of(1), None).await.unwrap();
    pass(&lake).await.unwrap();
    assert_ne!(quarantine(), first, "an empty one, too, is its definition's own");
    lake.query("INSERT INTO s.sales VALUES ('S3', 'p', 200)").await;
    assert_eq!(counts(&lake).await, ("1".into(), "1".into()));
    lake.engine.apply_project(&of(0), None).await.unwrap();
    pass(&lake).await.unwrap();
    assert_eq!(counts(&lake).await, ("2".into(), "1".into()), "what has come since is quarantined here, too, and once");
    lake.query("INSERT INTO s.sales VALUES ('S4', 'p', 300)").await;
    assert_eq!(counts(&lake).await, ("2".into(), "2".into()));
}

#[tokio::test]
async fn a_table_that_is_made_again_is_empty_and_can_be_read() {
    let lake = Lake::new(&[]).await;
    lake.engine.apply_project(&objects(&chain(0)), None).await.unwrap();
    for shop in ["S1", "S2", "S3"] {
        lake.query(&format!("INSERT INTO s.cities VALUES ('{shop}', 'Pune')")).await;
    }
    lake.query("DROP TABLE s.cities").await;
    lake.query("CREATE TABLE s.cities (shop VARCHAR, city VARCHAR)").await;
    assert_eq!(lake.query("SELECT count(*) FROM s.cities").await, ["0"]);
    lake.query("INSERT INTO s.cities VALUES ('S9', 'Pune')").await;
    assert_eq!(lake.query("SELECT shop FROM s.cities").await, ["S9"]);
}

/// An epoch that was begun with one project is not carried out with another.
#[tokio::test]
async fn an_unfinished_epoch_is_finished_before_anything_changes() {
    for write in 0..40 {
        let store = Failing::calm();
        let lake = Lake::open(Arc::clone(&store) as _, Arc::default()).await.unwrap();
        lake.engine.apply_project(&objects(&chain(0)), None).await.unwrap();
        lake.query("INSERT INTO s.sales VALUES ('S1', 'p', 5), ('S2', 'p', 7)").await;
        store.fail_at(write);
        let failed = lake.execute("INSERT INTO s.sales VALUES ('S3', 'p', 9)").await.is_err();
        store.fail_at(i64::MAX);
        let mut next = chain(1);
        next.insert("s.products", "SELECT DISTINCT product FROM s.sales");
        next.insert(
            "s.totals",
            "SELECT c.shop, count(*) AS n FROM s.clean c JOIN s.products p ON p.product = c.product GROUP BY c.shop",
        );
        next.remove("s.best");
        lake.engine.apply_project(&objects(&next), None).await.unwrap();
        while pass(&lake).await.is_some() {}
        for (name, query) in &next {
            assert_eq!(
                sorted(&lake, &format!("SELECT * FROM {name}")).await,
                sorted(&lake, query).await,
                "{write}: {name}"
            );
        }
        if !failed {
            return;
        }
    }
    panic!("no statement takes so many writes");
}
