//! The lake's tables in Glue: over a catalog in memory, and over ministack's (where FLASH_S3 says that one is).

mod keeping;
mod places;
mod writers;

use std::sync::Arc;

use flashcommerce::glue::{Catalog, Lake as Registered, Reconciler, Report, Table};
use flashcommerce::storage::DeltaStorage;

use super::engine::harness::{Lake, events};
use places::{Place, places};

/// Where the tests say that the lake is; its files are in memory.
const ROOT: &str = "s3://lakes/glue";

const VIEWS: [&str; 5] = [
    "CREATE EXTERNAL TABLE raw.events STORED AS JSONL LOCATION '/nowhere'",
    "CREATE MATERIALIZED VIEW bronze.events AS SELECT *, CAST(_arrived_at AS DATE) AS day FROM raw.events",
    "CREATE MATERIALIZED VIEW silver.events (
       CONSTRAINT readable EXPECT (id IS NOT NULL) ON VIOLATION QUARANTINE ROW
     ) PARTITIONED BY (shop) COMMENT 'One row per event.'
     AS SELECT e['id'] AS id, e['shop'] AS shop, e['amount'] AS amount, to_ist(e['at']) AS at_ist FROM (
       SELECT from_json(_payload, 'id VARCHAR, shop VARCHAR, amount DECIMAL(10,2), at TIMESTAMP') AS e FROM bronze.events
     ) AS d",
    SALES,
    "CREATE TABLE ref.shops (shop VARCHAR, name VARCHAR)",
];

const SALES: &str =
    "CREATE MATERIALIZED VIEW gold.sales AS SELECT shop, count(*) AS n FROM silver.events GROUP BY shop";
const SALES_CHANGED: &str = "CREATE MATERIALIZED VIEW gold.sales AS SELECT shop, count(*) AS n, sum(amount) AS total FROM silver.events GROUP BY shop";

const TABLES: [&str; 5] = ["bronze.events", "gold.sales", "ref.shops", "silver.events", "silver.events_quarantine"];

/// A lake with an epoch, and a place to register it.
async fn lake() -> Lake {
    let lake = Lake::new(&VIEWS).await;
    lake.source.push(events(0, 40));
    lake.pass_until_idle().await;
    lake
}

impl Place {
    /// As another process would have it: with a storage of its own, knowing nothing.
    fn reconciler(&self, lake: &Lake) -> Reconciler {
        self.reconciler_over(lake, Arc::clone(&self.catalog))
    }

    fn reconciler_over(&self, lake: &Lake, catalog: Arc<dyn Catalog>) -> Reconciler {
        let storage = DeltaStorage::new(Arc::clone(&lake.store), "memory:///".parse().unwrap());
        Reconciler::new(Registered::new(ROOT, &self.prefix).unwrap(), storage, catalog)
    }

    async fn table(&self, name: &str) -> Option<(Table, String)> {
        let (schema, name) = name.split_once('.').unwrap();
        let tables = self.catalog.tables(&format!("{}{schema}", self.prefix)).await.unwrap()?;
        let found = tables.into_iter().find(|found| found.table.name == name)?;
        Some((found.table, found.version.unwrap()))
    }

    fn names(&self, names: &[&str]) -> Vec<String> {
        names.iter().map(|name| format!("{}{name}", self.prefix)).collect()
    }
}

/// Nothing to be done, and these are in step.
fn in_step(place: &Place, report: &Report, names: &[&str]) {
    let mut found = report.in_step.clone();
    found.sort();
    assert_eq!(found, place.names(names), "{report:?}");
    assert!(report.is_in_step() && report.left.is_empty(), "{report:?}");
}

fn done(report: &Report) -> Vec<String> {
    let mut done: Vec<_> = report.done.iter().map(ToString::to_string).collect();
    done.sort();
    done
}

/// Create, an epoch, change, swap, another comment, drop: each by a process that knows nothing of the one before.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tables_follow_their_views_from_create_to_drop() {
    for place in places("life").await {
        let lake = lake().await;
        let report = place.reconciler(&lake).reconcile().await.unwrap();
        in_step(&place, &report, &TABLES);
        assert_eq!(report.done.len(), TABLES.len() + 4, "and four databases: {:?}", report.done);

        let (silver, version) = place.table("silver.events").await.unwrap();
        assert_eq!((silver.location.as_str(), version.as_str()), ("s3://lakes/glue/silver/events/", "1"));
        assert_eq!(silver.description.as_deref(), Some("One row per event."));
        let columns: Vec<_> = silver.columns.iter().map(|it| (it.name.as_str(), it.data_type.as_str())).collect();
        assert_eq!(
            columns,
            [("id", "string"), ("shop", "string"), ("amount", "decimal(10,2)"), ("at_ist", "timestamp")]
        );
        assert!(silver.columns[1].comment.as_ref().unwrap().contains("partitions the table"));
        assert!(silver.columns[3].comment.as_ref().unwrap().contains("wall clock"));
        assert!(silver.partition_keys.is_empty() && silver.table_type == "EXTERNAL_TABLE");

        lake.source.push(events(40, 40));
        lake.pass_until_idle().await;
        let report = place.reconciler(&lake).reconcile().await.unwrap();
        assert!(report.done.is_empty(), "an epoch is no change: {:?}", report.done);

        lake.apply(SALES_CHANGED).await;
        let report = place.reconciler(&lake).reconcile().await.unwrap();
        assert!(report.done.is_empty(), "readers are where they were: {:?}", report.done);
        lake.pass_until_idle().await;
        let report = place.reconciler(&lake).reconcile().await.unwrap();
        assert_eq!(done(&report), [format!("update location, columns of {}gold.sales", place.prefix)]);
        let (sales, version) = place.table("gold.sales").await.unwrap();
        assert!(sales.location.starts_with("s3://lakes/glue/gold/sales-") && version == "2", "{sales:?}");
        assert_eq!(sales.columns.len(), 3);

        lake.apply(&SALES_CHANGED.replacen("AS SELECT", "COMMENT 'Sales.' AS SELECT", 1)).await;
        let report = place.reconciler(&lake).reconcile().await.unwrap();
        assert_eq!(done(&report), [format!("update comment of {}gold.sales", place.prefix)]);

        // The last view of its schema: no table says any more that there is such a database.
        lake.execute("DROP MATERIALIZED VIEW gold.sales").await.unwrap();
        let report = place.reconciler(&lake).reconcile().await.unwrap();
        assert_eq!(done(&report), [format!("delete table {}gold.sales", place.prefix)]);
        assert_eq!(place.table("gold.sales").await, None);
        let rest = TABLES.iter().copied().filter(|name| *name != "gold.sales").collect::<Vec<_>>();
        in_step(&place, &place.reconciler(&lake).compare().await.unwrap(), &rest);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_table_that_is_not_ours_is_left_alone_and_reported() {
    for place in places("foreign").await {
        let lake = lake().await;
        place.reconciler(&lake).reconcile().await.unwrap();
        let (ours, _) = place.table("gold.sales").await.unwrap();
        place.catalog.delete_table(&ours.database, "sales").await.unwrap();
        let mut theirs = ours.clone();
        theirs.parameters.remove(flashcommerce::glue::OWNER);
        theirs.location = "s3://elsewhere/sales/".into();
        place.catalog.create_table(&theirs).await.unwrap();
        // Nobody asked for this one either.
        place.catalog.create_table(&Table { name: "theirs".into(), ..theirs.clone() }).await.unwrap();

        let report = place.reconciler(&lake).reconcile().await.unwrap();
        let [(name, whose)] = &report.conflicts[..] else { panic!("{report:?}") };
        assert!(*name == ours.full_name() && whose.contains("somebody else"), "{report:?}");
        assert!(report.done.is_empty() && report.left.is_empty() && !report.is_in_step(), "{report:?}");
        assert_eq!(place.table("gold.sales").await.unwrap(), (theirs.clone(), "1".into()));
        lake.execute("DROP MATERIALIZED VIEW gold.sales").await.unwrap();
        assert!(place.reconciler(&lake).reconcile().await.unwrap().done.is_empty());
        assert_eq!(place.table("gold.sales").await.unwrap().0, theirs);
        assert!(place.table("gold.theirs").await.is_some());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn drift_is_seen_and_repaired() {
    for place in places("drift").await {
        let lake = lake().await;
        place.reconciler(&lake).reconcile().await.unwrap();
        let (sales, _) = place.table("gold.sales").await.unwrap();
        let (events, _) = place.table("silver.events").await.unwrap();
        let mut elsewhere = Table { location: "s3://elsewhere/".into(), ..sales.clone() };
        elsewhere.parameters.insert("team".into(), "sales".into());
        place.catalog.update_table(&elsewhere, None).await.unwrap();
        let mut fewer = events.clone();
        fewer.columns.pop();
        place.catalog.update_table(&fewer, None).await.unwrap();
        place.catalog.delete_table(&format!("{}ref", place.prefix), "shops").await.unwrap();
        place.catalog.create_table(&Table { name: "left_over".into(), ..sales.clone() }).await.unwrap();

        let report = place.reconciler(&lake).compare().await.unwrap();
        let mut lacks: Vec<_> = report.left.iter().map(|step| format!("{}: {}", step.name(), step.lacks())).collect();
        lacks.sort();
        let wanted = [
            "gold.left_over: the lake does not have it",
            "gold.sales: not as in the lake: location",
            "ref.shops: it is not registered",
            "silver.events: not as in the lake: columns",
        ];
        assert_eq!(lacks, place.names(&wanted), "{report:?}");
        assert_eq!((report.out_of_step(), report.done.len()), (4, 0));
        assert_eq!(place.table("gold.sales").await.unwrap().0, elsewhere, "to compare changes nothing");

        in_step(&place, &place.reconciler(&lake).reconcile().await.unwrap(), &TABLES);
        let (repaired, _) = place.table("gold.sales").await.unwrap();
        assert_eq!((&repaired.location, repaired.parameters["team"].as_str()), (&sales.location, "sales"));
        assert_eq!(place.table("silver.events").await.unwrap().0, events);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_athena_would_misread_is_not_registered_any_more() {
    for place in places("refused").await {
        let lake = lake().await;
        place.reconciler(&lake).reconcile().await.unwrap();
        lake.apply(&SALES.replace("count(*) AS n", "count(*) AS \"n%\"")).await;
        lake.pass_until_idle().await;
        let report = place.reconciler(&lake).reconcile().await.unwrap();
        let [refused] = &report.refused[..] else { panic!("{report:?}") };
        assert!(refused.name.to_string() == "gold.sales" && refused.because.contains("n%"), "{refused:?}");
        assert_eq!(place.table("gold.sales").await, None, "its columns were those of another table");
        assert!(report.is_in_step(), "{report:?}");
    }
}
