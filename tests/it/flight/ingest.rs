//! Bulk ingestion into a lake: every mode, columns by name, all rows or none.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, StringArray, StringViewArray, UInt32Array};
use arrow::record_batch::RecordBatch;
use arrow_flight::sql::{CommandStatementIngest, TableDefinitionOptions};
use futures::stream;
use tonic::{Code, Status};

use super::{LakeServer, status};

const CREATE: (i32, i32) = (1, 1);
const APPEND: (i32, i32) = (2, 2);
const CREATE_APPEND: (i32, i32) = (1, 2);
const REPLACE: (i32, i32) = (1, 3);

async fn ingest(
    server: &LakeServer,
    (if_not_exist, if_exists): (i32, i32),
    table: &str,
    batches: Vec<RecordBatch>,
) -> Result<i64, Status> {
    let command = CommandStatementIngest {
        table_definition_options: Some(TableDefinitionOptions { if_not_exist, if_exists }),
        table: table.into(),
        schema: Some("shop".into()),
        catalog: None,
        temporary: false,
        transaction_id: None,
        options: Default::default(),
    };
    let rows = stream::iter(batches.into_iter().map(Ok));
    server.client().await.0.execute_ingest(command, rows).await.map_err(status)
}

fn batch(columns: Vec<(&str, ArrayRef)>) -> RecordBatch {
    RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, column)| (name, column, true))).unwrap()
}

fn people(ids: &[i64]) -> RecordBatch {
    let names: Vec<String> = ids.iter().map(|id| format!("n{id}")).collect();
    batch(vec![
        ("Name", Arc::new(StringViewArray::from(names.iter().map(String::as_str).collect::<Vec<_>>()))),
        ("id", Arc::new(Int64Array::from(ids.to_vec()))),
    ])
}

#[tokio::test]
async fn every_mode_does_what_it_says() {
    let server = LakeServer::start(&[]).await;
    let count = || server.lake.query("SELECT count(*), sum(id), max(\"Name\") FROM shop.people");
    assert_eq!(ingest(&server, APPEND, "people", vec![people(&[1])]).await.unwrap_err().code(), Code::NotFound);
    assert_eq!(ingest(&server, CREATE, "people", vec![people(&[1, 2]), people(&[3])]).await.unwrap(), 3);
    assert_eq!(ingest(&server, CREATE, "people", vec![people(&[9])]).await.unwrap_err().code(), Code::AlreadyExists);
    assert_eq!(ingest(&server, APPEND, "people", vec![people(&[4])]).await.unwrap(), 1);
    assert_eq!(count().await, ["4|10|n4"]);
    assert_eq!(ingest(&server, CREATE_APPEND, "people", vec![people(&[5])]).await.unwrap(), 1);
    assert_eq!(ingest(&server, CREATE_APPEND, "others", vec![people(&[5])]).await.unwrap(), 1);
    assert_eq!(ingest(&server, REPLACE, "people", vec![people(&[7, 8])]).await.unwrap(), 2);
    assert_eq!(count().await, ["2|15|n8"]);
    assert_eq!(ingest(&server, REPLACE, "people", vec![people(&[])]).await.unwrap(), 0);
    assert_eq!(count().await, ["0|NULL|NULL"]);
}

#[tokio::test]
async fn columns_go_by_name_and_views_follow() {
    let server = LakeServer::start(&["CREATE TABLE shop.people (id BIGINT, \"Name\" VARCHAR, age INT)"]).await;
    server
        .lake
        .apply("CREATE MATERIALIZED VIEW shop.ages AS SELECT age, count(*) AS n FROM shop.people GROUP BY age")
        .await;
    assert_eq!(ingest(&server, APPEND, "people", vec![people(&[1])]).await.unwrap(), 1);
    let cast =
        batch(vec![("age", Arc::new(UInt32Array::from(vec![30]))), ("id", Arc::new(StringArray::from(vec!["2"])))]);
    assert_eq!(ingest(&server, APPEND, "people", vec![cast]).await.unwrap(), 1);
    assert_eq!(server.lake.query("SELECT * FROM shop.people ORDER BY id").await, ["1|n1|NULL", "2|NULL|30"]);
    assert_eq!(server.lake.query("SELECT * FROM shop.ages ORDER BY age").await, ["30|1", "NULL|1"]);
    assert_eq!(ingest(&server, REPLACE, "people", vec![people(&[5, 6])]).await.unwrap(), 2);
    assert_eq!(server.lake.query("SELECT * FROM shop.ages").await, ["NULL|2"]);

    let unknown = batch(vec![("colour", Arc::new(StringArray::from(vec!["red"])))]);
    let refused = ingest(&server, APPEND, "people", vec![unknown]).await.unwrap_err();
    assert!(refused.code() == Code::InvalidArgument && refused.message().contains("no column \"colour\""), "{refused}");
    let view = ingest(&server, APPEND, "ages", vec![people(&[1])]).await.unwrap_err();
    assert!(view.code() == Code::InvalidArgument && view.message().contains("takes no rows"), "{view}");
}

#[tokio::test]
async fn rows_that_do_not_fit_leave_nothing_behind() {
    let server = LakeServer::start(&["CREATE TABLE shop.people (id BIGINT)"]).await;
    let id = |text: &str| batch(vec![("id", Arc::new(StringArray::from(vec![text])))]);
    let refused = ingest(&server, APPEND, "people", vec![id("1"), id("two")]).await.unwrap_err();
    assert!(refused.code() == Code::InvalidArgument && refused.message().contains("id: "), "{refused}");
    assert_eq!(server.lake.query("SELECT count(*) FROM shop.people").await, ["0"]);
}
