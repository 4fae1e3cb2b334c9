//! Old versions are behind the rules of today.

use std::sync::Arc;

use arrow::array::{Int32Array, RecordBatch};
use flashcommerce::error::ErrorKind;
use futures::TryStreamExt;

use super::server::Door;
use super::{ask, open_store, refused};
use crate::engine::harness::{Lake, lines};

/// The version of a table that is published now.
async fn version(lake: &Lake, table: &str) -> String {
    lake.query(&format!("SELECT max(version) FROM system.versions WHERE object_name = '{table}'")).await.join("")
}

const MORE: &str = "INSERT INTO s.sales VALUES ('S1', 'new', 'goa', 'b1', 1000, DATE '2026-11-21'), \
                    ('S2', 'new', 'goa', 'b1', 1000, DATE '2026-11-21')";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn policies_and_masks_of_today_are_before_what_was() {
    let lake = open_store().await;
    let rows = "SELECT shop, product, buyers, revenue, first_buyer FROM s.by_product";
    let before = ask(&lake, "s1", &format!("{rows} ORDER BY 1, 2")).await.unwrap();
    let everything = ask(&lake, "root", &format!("{rows} ORDER BY 1, 2")).await.unwrap();
    let then = version(&lake, "s.by_product").await;
    lake.query(MORE).await;
    assert_ne!(ask(&lake, "s1", &format!("{rows} ORDER BY 1, 2")).await.unwrap(), before);
    let old = format!("{rows} VERSION AS OF {then} ORDER BY 1, 2");
    assert_eq!(ask(&lake, "s1", &old).await.unwrap(), before);
    assert_eq!(ask(&lake, "root", &old).await.unwrap(), everything);
    assert!(before.iter().all(|row| row.starts_with("S1|")) && before.len() < everything.len());
    // What is counted, joined, explained and asked by other conditions is not more.
    let others = format!("SELECT count(*) FROM s.by_product VERSION AS OF {then} WHERE shop <> 'S1'");
    assert_eq!(ask(&lake, "s1", &others).await.unwrap(), ["0"]);
    let explained = ask(&lake, "s1", &format!("EXPLAIN {old}")).await.unwrap().join("\n");
    assert!(explained.contains("Guarded: s.by_product") && !explained.contains("parquet"), "{explained}");
    let error = refused(&lake, "nobody", &old).await;
    assert_eq!((error.kind(), error.message()), (ErrorKind::NotFound, "there is no table or view s.by_product"));
    let error = refused(&lake, "nobody", "SELECT * FROM s.by_product TIMESTAMP AS OF now()").await;
    assert_eq!(error.message(), "there is no table or view s.by_product", "as one that is not there");
    let error = refused(&lake, "s1", "SELECT * FROM s.total VERSION AS OF 1").await;
    assert_eq!(error.kind(), ErrorKind::Denied, "what does not tell its rows apart did not then, either: {error}");

    // A mask that came later hides what was, too.
    lake.query("CREATE MASK hidden ON s.clean (buyer) TO seller USING ('someone')").await;
    let clean = version(&lake, "s.clean").await.parse::<u64>().unwrap() - 1;
    let buyers = format!("SELECT DISTINCT buyer FROM s.clean VERSION AS OF {clean}");
    assert_eq!(ask(&lake, "s1", &buyers).await.unwrap(), ["someone"]);
    assert!(ask(&lake, "root", &buyers).await.unwrap().len() > 1);
    assert_eq!(
        ask(&lake, "s1", &format!("SELECT DISTINCT first_buyer FROM s.by_product VERSION AS OF {then}")).await.unwrap(),
        ["NULL"]
    );
    // And what is taken away is.
    lake.query("REVOKE SELECT ON SCHEMA s FROM seller").await;
    assert_eq!(refused(&lake, "s1", &old).await.kind(), ErrorKind::NotFound);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_defined_otherwise_is_for_administrators() {
    let lake = open_store().await;
    let then = lake.query("SELECT max(published_at) FROM system.versions").await.join("");
    let before = "SELECT city, buyer FROM s.clean ORDER BY 1, 2";
    let before = lake.query(before).await;
    lake.apply(
        "CREATE MATERIALIZED VIEW s.clean AS SELECT seller_id AS shop, product, upper(city) AS city, 'b' AS buyer, \
                amount, day FROM s.sales WHERE amount > 1",
    )
    .await;
    let old = format!("SELECT city, buyer FROM s.clean TIMESTAMP AS OF '{then}' ORDER BY 1, 2");
    // It is being built: readers have the rows of before, and sellers none.
    assert_eq!(refused(&lake, "s1", &old).await.kind(), ErrorKind::Denied);
    lake.pass_until_idle().await;
    assert_eq!(ask(&lake, "s1", "SELECT DISTINCT buyer FROM s.clean").await.unwrap(), ["b"]);
    for user in ["s1", "ann"] {
        let error = refused(&lake, user, &old).await;
        assert_eq!(error.kind(), ErrorKind::Denied);
        assert_eq!(error.message(), format!("{user} may not read s.clean as it was then"));
        assert_eq!(error.hint(), Some("an administrator can read it"));
    }
    assert_eq!(ask(&lake, "root", &old).await.unwrap(), before);
    let now = "SELECT DISTINCT buyer FROM s.clean TIMESTAMP AS OF now()";
    assert_eq!(ask(&lake, "s1", now).await.unwrap(), ["b"], "today's place is theirs");
    let (today, first) =
        ("SELECT count(*) FROM s.clean", "SELECT min(version) FROM system.versions WHERE object_name = 's.clean'");
    let first = lake.query(first).await.join("");
    let today = ask(&lake, "root", today).await.unwrap();
    assert_eq!(
        ask(&lake, "root", &format!("SELECT count(*) FROM s.clean VERSION AS OF {first}")).await.unwrap(),
        today
    );

    // What was dropped is known to administrators as long as its files are there, and to nobody else.
    lake.query("DROP MATERIALIZED VIEW s.top").await;
    let dropped = format!("SELECT count(*) FROM s.top TIMESTAMP AS OF '{then}'");
    assert_eq!(ask(&lake, "root", &dropped).await.unwrap(), ["3"]);
    for user in ["s1", "ann"] {
        assert_eq!(refused(&lake, user, &dropped).await.message(), "there is no table or view s.top");
    }
    assert_eq!(refused(&lake, "root", "SELECT * FROM s.top VERSION AS OF 1").await.kind(), ErrorKind::NotFound);
    // A table of its name is another one.
    lake.query("CREATE TABLE s.top (shop VARCHAR)").await;
    assert_eq!(refused(&lake, "ann", &dropped).await.kind(), ErrorKind::Denied);
    assert_eq!(ask(&lake, "root", &dropped).await.unwrap(), ["3"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_prepared_statement_at_the_door_shows_a_seller_their_old_rows() {
    let door = Door::open().await;
    let rows = "SELECT product FROM s.clean";
    let before = ask(&door.lake, "s1", &format!("{rows} ORDER BY product")).await.unwrap();
    let then = version(&door.lake, "s.clean").await;
    door.lake.query(MORE).await;
    let mut client = door.user("s1", "sells as S1").await;
    let sql = format!("{rows} VERSION AS OF {then} WHERE amount < ? ORDER BY product");
    let mut prepared = client.prepare(sql, None).await.unwrap();
    assert_eq!(prepared.parameter_schema().unwrap().fields().len(), 1);
    let values = Arc::new(Int32Array::from(vec![1_000_000]));
    prepared.set_parameters(RecordBatch::try_from_iter([("1", values as _)]).unwrap()).unwrap();
    let info = prepared.execute().await.unwrap();
    let ticket = info.endpoint[0].ticket.clone().unwrap();
    let batches = client.do_get(ticket).await.unwrap().try_collect::<Vec<_>>().await.unwrap();
    assert_eq!(lines(&batches), before);
}
