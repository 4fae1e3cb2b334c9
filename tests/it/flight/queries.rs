//! Statements: what they give, what they cost, how they end.

use std::time::Instant;

use arrow::datatypes::DataType;
use arrow_flight::sql::{Any, CommandStatementQuery};
use arrow_flight::{Action, CancelFlightInfoRequest, CancelFlightInfoResult, FlightDescriptor, IpcMessage};
use futures::TryStreamExt;
use prost::Message;
use tonic::Code;

use super::{Server, column, schema, status, text, ticket};

#[tokio::test]
async fn views_and_dictionaries_arrive_as_plain_types_and_as_announced() {
    let server = Server::start().await;
    let mut client = server.client().await;
    let batches = client.query("SELECT * FROM gold.kpis ORDER BY revenue").await.unwrap();
    let types: Vec<_> = batches[0].schema().fields().iter().map(|field| field.data_type().clone()).collect();
    assert_eq!(types[..3], [DataType::Utf8, DataType::Utf8, DataType::Decimal128(12, 2)]);
    assert!(batches[0].schema().fields().iter().all(|field| field.is_nullable()));
    let expected = "\
+------------------------+-------------+---------+-----------------------------+
| city                   | category    | revenue | at                          |
+------------------------+-------------+---------+-----------------------------+
| Mumbai                 | electronics | 7.25    | 1970-01-01T00:00:00.000001Z |
| New Delhi, the capital | jewelry     | 12.50   | 1970-01-01T00:00:00Z        |
+------------------------+-------------+---------+-----------------------------+";
    assert_eq!(text(&batches), expected);
}

#[tokio::test]
async fn an_empty_result_still_has_its_schema() {
    let server = Server::start().await;
    let batches = server.client().await.query("SELECT * FROM gold.kpis WHERE city = 'nowhere'").await.unwrap();
    assert_eq!(batches.iter().map(|batch| batch.num_rows()).sum::<usize>(), 0);
}

#[tokio::test]
async fn queries_that_the_optimizer_makes_non_nullable_are_still_as_announced() {
    let server = Server::start().await;
    let mut client = server.client().await;
    for sql in [
        "SELECT count(*), min(n), max(n) FROM silver.events",
        "SELECT 1 AS one, NULL AS nothing, 'a' || 'b' AS word",
        "SELECT city, array_agg(category) AS list, struct(city, category) AS pair FROM gold.kpis GROUP BY city, category",
        "EXPLAIN SELECT * FROM gold.kpis",
        "SHOW TABLES",
    ] {
        client.query(sql).await.unwrap_or_else(|status| panic!("{sql}: {status}"));
    }
}

#[tokio::test]
async fn changes_run_when_they_are_executed_and_once() {
    let server = Server::start().await;
    let mut client = server.client().await;
    let info = client.0.execute("INSERT INTO silver.events VALUES (4), (5)".into(), None).await.unwrap();
    assert_eq!(info.app_metadata, "done");
    let count = "SELECT count(*) AS n FROM silver.events";
    assert_eq!(column(&client.query(count).await.unwrap(), "n"), ["5"], "it ran before anything was fetched");
    assert_eq!(column(&client.fetch(info).await.unwrap(), "count"), ["2"]);
    assert_eq!(column(&client.query(count).await.unwrap(), "n"), ["5"]);

    assert_eq!(client.0.execute_update("INSERT INTO silver.events VALUES (6)".into(), None).await.unwrap(), 1);
    assert_eq!(client.0.execute_update("CREATE TABLE public.t AS SELECT 1 AS a".into(), None).await.unwrap(), 0);
    assert_eq!(column(&client.query("SELECT a FROM t").await.unwrap(), "a"), ["1"]);

    let message = client.query("REFRESH").await.unwrap();
    assert_eq!(column(&message, "status"), ["REFRESH gold.kpis: nothing"]);
    let refused = client.0.execute_update("SELECT 1".into(), None).await.map_err(status).unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
}

#[tokio::test]
async fn errors_carry_a_code_and_a_text_for_people() {
    let server = Server::start().await;
    let mut client = server.client().await;
    for (sql, code, words) in [
        ("SELEC 1", Code::InvalidArgument, "SELEC"),
        ("SELECT nope FROM gold.kpis", Code::InvalidArgument, "nope"),
        ("SELECT * FROM gold.nope", Code::NotFound, "gold.nope"),
        ("SELECT * FROM nowhere.kpis", Code::NotFound, "nowhere.kpis"),
        ("SELECT 1 / 0", Code::InvalidArgument, "ivide by zero"),
        ("SELECT ?", Code::InvalidArgument, "no value for $1"),
        ("CONFLICT", Code::Aborted, "another writer won (hint: stop one)"),
        ("PANIC", Code::Internal, "ended unexpectedly"),
        ("SHOW PANIC", Code::Internal, "ended unexpectedly"),
    ] {
        let status = client.query(sql).await.expect_err(sql);
        assert_eq!(status.code(), code, "{sql}: {status}");
        assert!(status.message().contains(words), "{sql}: {}", status.message());
        assert!(!status.message().contains("Error {") && !status.message().contains("DataFusionError"), "{status}");
    }
    // An error after the first rows: the stream ends with it, and not quietly.
    let status = client.query("SELECT 10 / (n - 3) FROM silver.events").await.expect_err("division");
    assert_eq!(status.code(), Code::InvalidArgument, "{status}");
    assert_eq!(client.query("SELECT 1").await.unwrap().len(), 1, "the server goes on");
}

#[tokio::test]
async fn a_result_is_fetched_once() {
    let server = Server::start().await;
    let mut client = server.client().await;
    let info = client.0.execute("SELECT 1".into(), None).await.unwrap();
    client.fetch(info.clone()).await.unwrap();
    assert_eq!(client.fetch(info).await.unwrap_err().code(), Code::NotFound);
}

#[tokio::test]
async fn the_schema_is_known_without_executing() {
    let server = Server::start().await;
    let mut client = server.client().await;
    let command = CommandStatementQuery { query: "SELECT * FROM gold.kpis".into(), transaction_id: None };
    let descriptor = FlightDescriptor::new_cmd(Any::pack(&command).unwrap().encode_to_vec());
    let answer = client.0.inner_mut().get_schema(descriptor.clone()).await.unwrap().into_inner();
    let told = arrow::datatypes::Schema::try_from(IpcMessage(answer.schema)).unwrap();
    let info = client.0.inner_mut().get_flight_info(descriptor.clone()).await.unwrap().into_inner();
    assert_eq!(schema(info).as_ref(), &told);
    let poll = client.0.inner_mut().poll_flight_info(descriptor).await.unwrap().into_inner();
    assert_eq!((poll.flight_descriptor, poll.progress), (None, Some(1.0)));
    client.fetch(poll.info.unwrap()).await.unwrap();
}

#[tokio::test]
async fn dropping_the_stream_ends_the_query() {
    let server = Server::start().await;
    let mut client = server.client().await;
    let info = client.0.execute("SELECT n FROM gold.endless".into(), None).await.unwrap();
    let mut stream = client.0.do_get(ticket(&info)).await.unwrap();
    assert_eq!(stream.try_next().await.unwrap().unwrap().num_rows(), 1);
    drop(stream);
    assert_eq!(server.memory.dropped.lock().await.recv().await, Some(()));
}

#[tokio::test]
async fn a_query_is_cancelled_while_it_runs_and_before() {
    let server = Server::start().await;
    let mut client = server.client().await;
    let cancel = |info: &arrow_flight::FlightInfo| {
        Action::new("CancelFlightInfo", CancelFlightInfoRequest { info: Some(info.clone()) }.encode_to_vec())
    };

    let info = client.0.execute("SELECT n FROM gold.endless".into(), None).await.unwrap();
    let mut stream = client.0.do_get(ticket(&info)).await.unwrap();
    stream.try_next().await.unwrap().unwrap();
    let answer = client.0.do_action(cancel(&info)).await.unwrap().message().await.unwrap().unwrap();
    assert_eq!(CancelFlightInfoResult::decode(answer.body).unwrap().status, 1);
    assert_eq!(status(stream.try_next().await.unwrap_err()).code(), Code::Cancelled);
    assert_eq!(server.memory.dropped.lock().await.recv().await, Some(()));

    let waiting = client.0.execute("SELECT n FROM gold.endless".into(), None).await.unwrap();
    let old = arrow_flight::sql::ActionCancelQueryRequest { info: waiting.encode_to_vec().into() };
    let old = Action::new("CancelQuery", Any::pack(&old).unwrap().encode_to_vec());
    client.0.do_action(old).await.unwrap().message().await.unwrap().unwrap();
    assert_eq!(client.fetch(waiting.clone()).await.unwrap_err().code(), Code::NotFound);
    let again = client.0.do_action(cancel(&waiting)).await.map_err(status).unwrap_err();
    assert_eq!(again.code(), Code::NotFound);
}

#[tokio::test]
async fn shutdown_cancels_what_runs() {
    let server = Server::start().await;
    let mut client = server.client().await;
    let info = client.0.execute("SELECT n FROM gold.endless".into(), None).await.unwrap();
    let mut stream = client.0.do_get(ticket(&info)).await.unwrap();
    stream.try_next().await.unwrap().unwrap();
    server.shutdown.cancel();
    assert_eq!(status(stream.try_next().await.unwrap_err()).code(), Code::Cancelled);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn small_queries_are_quick() {
    let server = Server::start().await;
    let mut client = server.client().await;
    let mut took_us = vec![];
    for at in 0..1000 {
        let start = Instant::now();
        let sql = format!("SELECT city, revenue FROM gold.kpis WHERE revenue > {}", at % 10);
        client.query(&sql).await.unwrap();
        took_us.push(start.elapsed().as_micros());
    }
    took_us.sort_unstable();
    println!("1000 queries: p50 {} us, p95 {} us, p99 {} us", took_us[499], took_us[949], took_us[989]);
}
