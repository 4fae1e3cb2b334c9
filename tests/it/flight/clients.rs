//! Clients that we did not write, and our own.
//!
//! `FLASH_PYTHON` names a Python with the packages of `tests/clients/requirements.txt`, `FLASH_JDBC_DRIVER` the jars (`:` between them) of
//! the JDBC driver (`tests/clients/jdbc/Browse.java` tells how to get it). Without them these tests say that they are
//! skipped.

use std::net::SocketAddr;

use flashcommerce::cli::remote;
use flashcommerce::error::ErrorKind;
use serde_json::{Value, json};
use tokio::process::Command;

use super::{LakeServer, Server, column};

#[allow(clippy::disallowed_methods, reason = "which clients there are is the test environment's business")]
fn tool(variable: &str, test: &str) -> Option<String> {
    let tool = std::env::var(variable).ok();
    if tool.is_none() {
        println!("skipped: {test} needs {variable}");
    }
    tool
}

#[tokio::test]
async fn adbc_connects_browses_and_queries() {
    let Some(python) = tool("FLASH_PYTHON", "adbc_connects_browses_and_queries") else { return };
    let server = Server::start().await;
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/clients/adbc.py");
    let output = Command::new(python)
        .args([script, &format!("grpc://{}", server.addr), "--schema", "gold.kpis"])
        .args(["--update", "INSERT INTO silver.events VALUES (10), (11)"])
        .args(["--query", "SELECT * FROM gold.kpis ORDER BY revenue"])
        .args(["--query", "SELECT count(*) AS n FROM silver.events"])
        .args(["--query", "INSERT INTO silver.events VALUES (12)"])
        .args(["--query", "SELECT n FROM silver.events WHERE n > 11"])
        .args(["--query", "SELECT n FROM silver.events WHERE n > 100"])
        .output()
        .await
        .unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(answer["vendor"], "FlashCommerce");
    assert_eq!(answer["objects"]["flash"]["gold"]["kpis"], "MATERIALIZED VIEW");
    assert_eq!(answer["schemas"]["gold.kpis"]["city"], "string");
    assert_eq!(answer["schemas"]["gold.kpis"]["revenue"], "decimal128(12, 2)");
    assert_eq!(answer["updates"], json!([2]));
    assert_eq!(answer["queries"][0][0]["category"], "electronics");
    assert_eq!(answer["queries"][1][0]["n"], 5);
    assert_eq!(answer["queries"][3], json!([{ "n": 12 }]), "the change ran, once");
    assert_eq!(answer["queries"][4], json!([]));
    assert!(answer["error"].as_str().unwrap().contains("nowhere"), "{answer}");
}

/// Versions of the JDBC driver, each in its jar.
fn jdbc_drivers(test: &str) -> Vec<String> {
    let jars = tool("FLASH_JDBC_DRIVER", test);
    jars.iter().flat_map(|jars| jars.split(':')).map(str::to_string).collect()
}

/// What a Java program of `tests/clients/jdbc` prints.
async fn java(driver: &str, program: &str, addr: SocketAddr, args: &[&str]) -> String {
    let program = format!("{}/tests/clients/jdbc/{program}", env!("CARGO_MANIFEST_DIR"));
    let url = format!("jdbc:arrow-flight-sql://{addr}?useEncryption=false");
    let mut command = Command::new("java");
    // The driver shows times in the zone of its process.
    command.env("TZ", "UTC").args(["--add-opens=java.base/java.nio=ALL-UNNAMED", "-cp", driver, &program, &url]);
    let output = command.args(args).output().await.unwrap();
    let (answer, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{answer}{errors}");
    answer.into_owned()
}

#[tokio::test]
async fn jdbc_connects_browses_and_queries() {
    for driver in jdbc_drivers("jdbc_connects_browses_and_queries") {
        jdbc_browses(&driver).await;
    }
}

async fn jdbc_browses(driver: &str) {
    let server = Server::start().await;
    let statements = [
        "SELECT city, category, revenue FROM gold.kpis ORDER BY revenue",
        "INSERT INTO silver.events VALUES (10), (11)",
        "SELECT count(*) FROM silver.events",
    ];
    let answer = java(driver, "Browse.java", server.addr, &statements).await;
    for line in [
        "product | FlashCommerce | ",
        "escape | \\\n",
        "catalogs | flash\n",
        "count of schemas | 4\n",
        "tables | gold | kpis | MATERIALIZED VIEW\n",
        "views | kpis | VIEW\n",
        "columns | revenue | DECIMAL | 3 | 12 | 2 | YES\n",
        "count of primary keys | 0\n",
        "rows | Mumbai | electronics | 7.25\n",
        "updated | 2\n",
        "rows | 5\n",
        "prepared | 1\n",
    ] {
        assert!(answer.contains(line), "{line} is not in\n{answer}");
    }
    assert!(answer.contains("nowhere"), "{answer}");
}

/// A lake with the schema that the clients name.
async fn lake() -> LakeServer {
    LakeServer::start(&["CREATE TABLE gold.t (n BIGINT)"]).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn adbc_binds_and_ingests() {
    let Some(python) = tool("FLASH_PYTHON", "adbc_binds_and_ingests") else { return };
    let server = lake().await;
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/clients/adbc.py");
    let output = Command::new(python).args([script, &format!("grpc://{}", server.addr), "--write"]).output().await;
    let output = output.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
    let invalid = "INVALID_ARGUMENT";
    let wrong = json!({ "one of two": invalid, "text for a number": invalid, "half for a number": invalid });
    assert_eq!(answer["parameters"], wrong);
    let wrong = json!({
        "append to nothing": "NOT_FOUND",
        "create again": "ALREADY_EXISTS",
        "unknown column": invalid,
        "temporary": "NOT_IMPLEMENTED",
    });
    assert_eq!(answer["ingest"], wrong);
    assert_eq!(answer["cancel"], json!([{ "one": 1 }]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn jdbc_binds() {
    for driver in jdbc_drivers("jdbc_binds") {
        jdbc_binds_by(&driver).await;
    }
}

async fn jdbc_binds_by(driver: &str) {
    let server = lake().await;
    let answer = java(driver, "Bind.java", server.addr, &[]).await;
    for line in [
        "inserted | 1\n",
        "batch | 499\n",
        "nulls | 1\n",
        "stored | 7 | 7 | true | 7.5 | 7.25 | 7.25 | n7 | 2 bytes | 2026-11-23 | 2026-11-23 12:30:15.123 | 2026-11-23 12:30:15.123\n",
        "stored | 1000 | null | null | null | null | null | null | null | null | null | null\n",
        "total | 501 | 126250 | 500\n",
        "found | 7 | n7\nfound | 9 | n9\n",
        "updated | 1\n",
        "deleted | 491\n",
        "left | 10 | seven\n",
        "ivide by zero",
    ] {
        assert!(answer.contains(line), "{line} is not in\n{answer}");
    }
}

#[tokio::test]
async fn our_own_client_tells_rows_from_changes() {
    let server = Server::start().await;
    let url = format!("grpc://{}", server.addr);
    let (schema, batches, affected) = remote::query(&url, "SELECT count(*) AS count FROM gold.kpis").await.unwrap();
    assert_eq!((schema.field(0).name().as_str(), affected), ("count", None));
    assert_eq!(column(&batches, "count"), ["2"]);

    let mut connection =
        remote::Remote::connect(&url, &remote::Login::Anonymous, &remote::Trust::default()).await.unwrap();
    let reply = connection.query("INSERT INTO silver.events VALUES (1), (2)").await.unwrap();
    assert_eq!((reply.rows_affected, reply.message.as_deref()), (Some(2), Some("done")));
    let reply = connection.query("REFRESH").await.unwrap();
    assert_eq!((reply.rows_affected, reply.message.as_deref()), (None, Some("REFRESH gold.kpis: nothing")));

    let error = connection.query("SELECT nope FROM gold.kpis").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Definition);
    assert!(error.message().contains("nope"), "{error}");
}

#[tokio::test]
async fn our_own_client_tells_when_nothing_answers() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    drop(listener);
    let error = remote::query(&format!("grpc://{addr}"), "SELECT 1").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Transient);
    assert!(error.message().contains(&addr.to_string()), "{error}");
    assert!(error.hint().unwrap().contains("flash demo"), "{error}");
}
