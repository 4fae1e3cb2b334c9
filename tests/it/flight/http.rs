//! The HTTP side, asked with plain sockets.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use flashcommerce::epoch::{Position, Positions, PublishedRecord, RefreshFacts};
use flashcommerce::name::TableName;
use flashcommerce::server::{self, Identity, Limits, Security, Service};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

use super::listener;
use super::memory::Memory;

async fn get(addr: SocketAddr, path: &str) -> String {
    let mut socket = TcpStream::connect(addr).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: {addr}\r\nConnection: close\r\n\r\n");
    socket.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test]
async fn health_page_and_metrics() {
    let listener = listener("--http", &Security::default()).await;
    let addr = listener.local_addr().unwrap();
    let (memory, shutdown) = (Arc::new(Memory::new()), CancellationToken::new());
    let flight = Some("127.0.0.1:50051".parse().unwrap());
    let backend = Arc::clone(&memory) as _;
    let service = Service::start(backend, Limits::default(), Identity::default(), shutdown.clone()).unwrap();
    let served = tokio::spawn(server::serve_http(listener, service, flight));

    assert!(get(addr, "/healthz").await.starts_with("HTTP/1.1 200"));
    assert!(get(addr, "/readyz").await.starts_with("HTTP/1.1 503"));
    let facts = RefreshFacts { mode: "append".into(), took_ms: 500, rows_out: 4, ..RefreshFacts::default() };
    let shards = ["a", "b"].map(|shard| (shard.to_string(), Position::TrimHorizon));
    let positions = Positions { incarnation: None, shards: BTreeMap::from(shards) };
    memory.published.send_replace(Arc::new(PublishedRecord {
        epoch: 7,
        refreshes: BTreeMap::from([(TableName::new("gold", "kpis"), facts)]),
        sources: BTreeMap::from([(TableName::new("raw", "events"), positions)]),
        behind_ms: BTreeMap::from([(TableName::new("raw", "events"), BTreeMap::from([("b".to_string(), 2500)]))]),
        ..PublishedRecord::default()
    }));
    assert!(get(addr, "/readyz").await.starts_with("HTTP/1.1 200"));
    let page = get(addr, "/status").await;
    assert!(page.contains("grpc://127.0.0.1:50051") && page.contains("gold.kpis") && page.contains("1.5 s"), "{page}");
    let metrics = get(addr, "/metrics").await;
    for line in [
        "flash_published_epoch 7\n",
        "flash_view_rows{view=\"gold.kpis\"} 2\n",
        "flash_view_lag_seconds{view=\"gold.kpis\"} 1.5\n",
        "flash_source_shards{source=\"raw.events\"} 2\n",
        "flash_source_behind_seconds{source=\"raw.events\",shard=\"a\"} 0\n",
        "flash_source_behind_seconds{source=\"raw.events\",shard=\"b\"} 2.5\n",
        "flash_source_data_losses_total{source=\"raw.events\"} 1\n",
        "flash_refresh_seconds_total{view=\"gold.kpis\",mode=\"append\"} 0.5\n",
    ] {
        assert!(metrics.contains(line), "{line} is not in\n{metrics}");
    }
    assert!(get(addr, "/nothing").await.starts_with("HTTP/1.1 404"));
    shutdown.cancel();
    served.await.unwrap().unwrap();
}
