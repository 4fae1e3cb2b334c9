//! Every limit is felt, and as what it is.

use std::time::Duration;

use flashcommerce::error::ErrorKind;
use flashcommerce::server::{Limits, Listener, Security};
use futures::TryStreamExt;
use tonic::Code;

use super::{Server, listener, status, ticket};

#[tokio::test]
async fn results_and_prepared_statements_are_limited_and_expire() {
    let server = Server::with(Limits { results_max: 1, prepared_max: 1, ..Limits::default() }).await;
    let mut client = server.client().await;
    let first = client.0.execute("SELECT 1".into(), None).await.unwrap();
    let full = client.0.execute("SELECT 2".into(), None).await.map_err(status).unwrap_err();
    assert_eq!(full.code(), Code::ResourceExhausted);
    client.fetch(first).await.unwrap();
    client.query("SELECT 3").await.expect("a fetched result makes room");
    client.0.prepare("SELECT 1".into(), None).await.unwrap();
    let full = client.0.prepare("SELECT 1".into(), None).await.map_err(status).unwrap_err();
    assert_eq!(full.code(), Code::ResourceExhausted);

    let server = Server::with(Limits { result_age_max: Duration::ZERO, ..Limits::default() }).await;
    assert_eq!(server.client().await.query("SELECT 1").await.unwrap_err().code(), Code::NotFound);
}

#[tokio::test]
async fn a_full_server_says_so_and_a_slow_query_is_stopped() {
    let limits = Limits { statements_max: 1, queue_wait_max: Duration::from_millis(20), ..Limits::default() };
    let server = Server::with(limits).await;
    let mut client = server.client().await;
    let info = client.0.execute("SELECT n FROM gold.endless".into(), None).await.unwrap();
    let stream = client.0.do_get(ticket(&info)).await.unwrap();
    assert_eq!(client.query("SELECT 1").await.unwrap_err().code(), Code::Unavailable);
    drop(stream);
    server.memory.dropped.lock().await.recv().await.unwrap();

    let server = Server::with(Limits { statement_time_max: Duration::from_millis(200), ..Limits::default() }).await;
    let stopped = server.client().await.query("SELECT n FROM gold.endless").await.unwrap_err();
    assert_eq!(stopped.code(), Code::DeadlineExceeded);
}

#[tokio::test]
async fn a_client_that_reads_nothing_does_not_keep_its_query() {
    let server = Server::with(Limits { statement_time_max: Duration::from_millis(200), ..Limits::default() }).await;
    let mut client = server.client().await;
    let info = client.0.execute("SELECT n FROM gold.endless".into(), None).await.unwrap();
    let _never_read = client.0.do_get(ticket(&info)).await.unwrap();
    server.memory.dropped.lock().await.recv().await.unwrap();

    let server = Server::with(Limits { stream_idle_max: Duration::from_millis(200), ..Limits::default() }).await;
    let mut client = server.client().await;
    let info = client.0.execute("SELECT value FROM range(0, 1000000000)".into(), None).await.unwrap();
    let mut begun = client.0.do_get(ticket(&info)).await.unwrap();
    begun.try_next().await.unwrap();
    // What is on its way fills the buffers between, and waits there.
    tokio::time::sleep(Duration::from_secs(2)).await;
    let ended = loop {
        match begun.try_next().await {
            Ok(rows) => assert!(rows.is_some(), "the rows end as if they were all"),
            Err(error) => break status(error),
        }
    };
    assert_eq!(ended.code(), Code::DeadlineExceeded);
}

#[tokio::test]
async fn long_statements_are_refused() {
    let server = Server::with(Limits { sql_bytes_max: 10, ..Limits::default() }).await;
    let refused = server.client().await.query("SELECT 'too long'").await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
}

#[tokio::test]
async fn addresses_other_than_loopback_and_ports_in_use_are_refused() {
    for addr in ["0.0.0.0:0", "192.168.1.1:50051", "[::]:0"] {
        let error = Listener::bind(addr.parse().unwrap(), "--flight", &Security::default()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config, "{addr}");
        assert!(error.hint().unwrap().contains("127.0.0.1"), "{error}");
    }
    let first = listener("--http", &Security::default()).await;
    let error = Listener::bind(first.local_addr().unwrap(), "--http", &Security::default()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AlreadyExists);
    assert!(error.message().starts_with("--http: port"), "{error}");
}
