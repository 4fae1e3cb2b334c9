//! Arrow Flight SQL and HTTP over a backend in memory, with real connections on loopback.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "helpers of tests fail the test; a skipped test and a measurement are printed"
)]

mod clients;
mod hostile;
mod http;
mod ingest;
mod limits;
mod memory;
mod metadata;
mod parameters;
mod prepared;
mod queries;
mod schemas;

use std::net::SocketAddr;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use arrow_flight::error::FlightError;
use arrow_flight::sql::client::FlightSqlServiceClient;
use arrow_flight::{FlightInfo, Ticket};
use flashcommerce::server::{self, Backend, Identity, Limits, Listener, Security, Service};
use futures::TryStreamExt;
use memory::Memory;
use tokio_util::sync::CancellationToken;
use tonic::Status;
use tonic::transport::{Channel, Endpoint};

use crate::engine::harness::Lake;

/// A server on a free port; it stops when this is dropped.
struct Server {
    addr: SocketAddr,
    memory: Arc<Memory>,
    shutdown: CancellationToken,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

impl Server {
    async fn start() -> Self {
        Self::with(Limits::default()).await
    }

    async fn with(limits: Limits) -> Self {
        let memory = Arc::new(Memory::new());
        let (addr, shutdown) = serve(Arc::clone(&memory) as _, limits).await;
        Self { addr, memory, shutdown }
    }

    async fn client(&self) -> Client {
        Client::of(self.addr).await
    }
}

async fn serve(backend: Arc<dyn Backend>, limits: Limits) -> (SocketAddr, CancellationToken) {
    let shutdown = CancellationToken::new();
    let service = Service::start(backend, limits, Identity::default(), shutdown.clone()).unwrap();
    let listener = listener("--flight", &Security::default()).await;
    let addr = listener.local_addr().unwrap();
    tokio::spawn(server::serve_flight(listener, service));
    (addr, shutdown)
}

/// A free port of this machine.
pub(crate) async fn listener(flag: &str, security: &Security) -> Listener {
    Listener::bind("127.0.0.1:0".parse().unwrap(), flag, security).await.unwrap()
}

/// A server over a lake in memory.
struct LakeServer {
    addr: SocketAddr,
    lake: Lake,
    shutdown: CancellationToken,
}

impl Drop for LakeServer {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

impl LakeServer {
    async fn start(objects: &[&str]) -> Self {
        let lake = Lake::new(objects).await;
        let (addr, shutdown) = serve(Arc::clone(&lake.engine) as _, Limits::default()).await;
        Self { addr, lake, shutdown }
    }

    async fn client(&self) -> Client {
        Client::of(self.addr).await
    }
}

struct Client(FlightSqlServiceClient<Channel>);

impl Client {
    async fn of(addr: SocketAddr) -> Self {
        let channel = Endpoint::from_shared(format!("http://{addr}")).unwrap().tcp_nodelay(true);
        Self(FlightSqlServiceClient::new(channel.connect().await.unwrap()))
    }

    /// Execute a query, and fetch it. The announced schema must be that of the stream.
    async fn query(&mut self, sql: &str) -> Result<Vec<RecordBatch>, Status> {
        let info = self.0.execute(sql.to_string(), None).await.map_err(status)?;
        self.fetch(info).await
    }

    async fn fetch(&mut self, info: FlightInfo) -> Result<Vec<RecordBatch>, Status> {
        let ticket = ticket(&info);
        let announced = schema(info);
        let mut stream = self.0.do_get(ticket).await.map_err(status)?;
        let mut batches = vec![];
        while let Some(batch) = stream.try_next().await.map_err(status)? {
            assert_eq!(batch.schema(), announced, "a batch differs from the announcement");
            batches.push(batch);
        }
        assert_eq!(stream.schema(), Some(&announced), "the stream differs from the announcement");
        Ok(batches)
    }
}

fn schema(info: FlightInfo) -> SchemaRef {
    Arc::new(info.try_decode_schema().unwrap())
}

fn ticket(info: &FlightInfo) -> Ticket {
    assert_eq!(info.endpoint.len(), 1, "drivers want exactly one endpoint");
    assert!(info.endpoint[0].location.is_empty(), "a location would send drivers elsewhere");
    info.endpoint[0].ticket.clone().unwrap()
}

pub(crate) fn status(error: FlightError) -> Status {
    match error {
        FlightError::Tonic(status) => *status,
        other => panic!("not an answer of the server: {other}"),
    }
}

/// The rows as text, for comparing.
fn text(batches: &[RecordBatch]) -> String {
    arrow::util::pretty::pretty_format_batches(batches).unwrap().to_string()
}

/// One column of texts.
fn column(batches: &[RecordBatch], name: &str) -> Vec<String> {
    let cell = |batch: &RecordBatch, row| {
        arrow::util::display::array_value_to_string(batch.column_by_name(name).unwrap(), row).unwrap()
    };
    batches.iter().flat_map(|batch| (0..batch.num_rows()).map(move |row| cell(batch, row))).collect()
}
