//! A Kinesis stream inside this process, on a loopback port: the demo and the tests go the same way as AWS.
//!
//! ```text
//!  producer ──HTTP──▶ one put at a time ─▶ ┌─ stream in memory ─┐ ◀──HTTP── Kinesis consumer ──▶ slices
//!                                          └── landed() trims ──┘ ◀───────── positions that are published
//! ```
//!
//! The emulator gives out sequence numbers before it stores the records, so with two puts at once a reader could see
//! the later one first and pass over the earlier one: puts are let in one by one.
//!
//! Every start is a new life of the stream ([`crate::epoch::Positions::incarnation`]): positions of an older life start
//! at the beginning, and ranges of an older life are empty.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use aws_sdk_kinesis::config::Credentials;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::middleware::{self, Next};
use axum::response::Response;
use axum::serve::ListenerExt;
use ferrokinesis::actions::{Operation, dispatch};
use ferrokinesis::store::{Store, StoreOptions};
use ferrokinesis::types::StreamStatus;
use tokio::net::TcpListener;
use tokio::sync::{Mutex, Notify};
use tokio::task::JoinHandle;

use super::kinesis::{Behaviour, KinesisSource, Pace};
use super::{KinesisSpec, Slice, SliceLimits, Source};
use crate::epoch::{Loss, Position, Positions, SequenceNumber, SourceRange};
use crate::error::{Error, ErrorKind, Result};

/// Bytes of one request: 5 MiB of records, in base64, with keys.
const REQUEST_BYTES_MAX: usize = 16 << 20;
/// Records that are looked up at once when trimming.
const TRIM_RECORDS: usize = 4096;
/// Time for the stream to become active.
const CREATE_MAX: Duration = Duration::from_secs(10);
const REGION: &str = "us-east-1";

/// What an embedded stream is started with.
#[derive(Debug, Clone)]
pub struct EmbeddedOptions {
    /// Its name.
    pub stream: String,
    /// Its shards.
    pub shards: u32,
    /// Seconds after which an iterator is refused.
    pub iterator_ttl_s: u64,
    /// Throttle writers as AWS does: 1,000 records and 1 MiB a second and shard.
    pub enforce_limits: bool,
}

impl Default for EmbeddedOptions {
    fn default() -> Self {
        Self { stream: "E_com".to_string(), shards: 4, iterator_ttl_s: 300, enforce_limits: false }
    }
}

/// A running stream; it ends with this value.
pub struct EmbeddedKinesis {
    options: EmbeddedOptions,
    endpoint_url: String,
    incarnation: String,
    store: Store,
    trimmed: Arc<Notify>,
    server: JoinHandle<()>,
}

impl fmt::Debug for EmbeddedKinesis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EmbeddedKinesis({} at {})", self.options.stream, self.endpoint_url)
    }
}

impl Drop for EmbeddedKinesis {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl EmbeddedKinesis {
    /// Serve a new, empty stream on a free loopback port.
    ///
    /// # Errors
    /// `Source` when there is no port or the stream is refused.
    pub async fn start(options: EmbeddedOptions) -> Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await;
        Self::serve(listener.map_err(|error| failed(error.to_string()))?, options).await
    }

    /// Serve a new, empty stream there.
    ///
    /// # Errors
    /// `Source` when the stream is refused.
    pub async fn serve(listener: TcpListener, options: EmbeddedOptions) -> Result<Self> {
        let store = Store::new(StoreOptions {
            create_stream_ms: 0,
            delete_stream_ms: 0,
            update_stream_ms: 0,
            shard_limit: options.shards.saturating_mul(64).max(1024),
            iterator_ttl_seconds: options.iterator_ttl_s,
            enforce_limits: options.enforce_limits,
            aws_region: REGION.to_string(),
            ..StoreOptions::default()
        });
        let address = listener.local_addr().map_err(|error| failed(error.to_string()))?;
        let puts = Arc::new(Mutex::new(()));
        let app = ferrokinesis::create_router(store.clone())
            .layer(DefaultBodyLimit::max(REQUEST_BYTES_MAX))
            .layer(middleware::from_fn_with_state(puts, one_put_at_a_time));
        let listener = listener.tap_io(|connection| {
            if let Err(error) = connection.set_nodelay(true) {
                tracing::debug!(%error, "a connection without nodelay");
            }
        });
        let server = tokio::spawn(async move {
            if let Err(error) = axum::serve(listener, app).await {
                tracing::warn!(%error, "the embedded stream ended");
            }
        });
        let started = Self {
            endpoint_url: format!("http://{address}"),
            incarnation: uuid::Uuid::new_v4().to_string(),
            options,
            store,
            trimmed: Arc::new(Notify::new()),
            server,
        };
        started.create_stream().await.map_err(failed)?;
        Ok(started)
    }

    async fn create_stream(&self) -> Result<(), String> {
        let request = serde_json::json!({ "StreamName": self.options.stream, "ShardCount": self.options.shards });
        let created = dispatch(&self.store, Operation::CreateStream, request).await;
        created.map_err(|error| format!("{:?}", error.body.message))?;
        let active = async {
            loop {
                match self.store.get_stream(&self.options.stream).await {
                    Ok(stream) if stream.stream_status == StreamStatus::Active => return,
                    _ => tokio::time::sleep(Duration::from_millis(1)).await,
                }
            }
        };
        tokio::time::timeout(CREATE_MAX, active).await.map_err(|_| format!("not active within {CREATE_MAX:?}"))
    }

    /// Where it listens: `http://127.0.0.1:PORT`.
    pub fn endpoint_url(&self) -> &str {
        &self.endpoint_url
    }

    /// The stream's name.
    pub fn stream(&self) -> &str {
        &self.options.stream
    }

    /// How to reach it: for a producer, or for a plain Kinesis source over it.
    pub fn spec(&self) -> KinesisSpec {
        KinesisSpec {
            stream: self.options.stream.clone(),
            region: Some(REGION.to_string()),
            endpoint_url: Some(self.endpoint_url.clone()),
            ..KinesisSpec::default()
        }
    }

    /// A source over it, which trims what has landed.
    pub fn source(&self) -> Arc<dyn Source> {
        let behaviour =
            Behaviour { pace: Pace::Off, embedded: Some(self.incarnation.clone()), credentials: Some(credentials()) };
        Arc::new(EmbeddedSource {
            inner: KinesisSource::with(self.spec(), behaviour),
            incarnation: self.incarnation.clone(),
            stream: self.options.stream.clone(),
            store: self.store.clone(),
            trimmed: Arc::clone(&self.trimmed),
        })
    }

    /// Records that are held: put, and not yet landed.
    pub fn retained_records(&self) -> u64 {
        self.store.metrics().retained_records()
    }

    /// Bytes of memory that the held records take up, nearly.
    pub fn retained_bytes(&self) -> u64 {
        self.store.metrics().retained_bytes()
    }

    /// Wait until fewer than `records_max` records are held: back-pressure for a producer.
    pub async fn wait_for_room(&self, records_max: u64) {
        loop {
            let trimmed = self.trimmed.notified();
            tokio::pin!(trimmed);
            trimmed.as_mut().enable();
            if self.retained_records() < records_max {
                return;
            }
            trimmed.await;
        }
    }
}

fn failed(why: String) -> Error {
    Error::new(ErrorKind::Source, format!("cannot start the embedded stream: {why}"))
}

/// Any credentials will do on the loopback port.
pub(super) fn credentials() -> Credentials {
    Credentials::new("embedded", "embedded", None, None, "embedded")
}

async fn one_put_at_a_time(State(puts): State<Arc<Mutex<()>>>, request: Request, next: Next) -> Response {
    let target = request.headers().get("x-amz-target").and_then(|target| target.to_str().ok());
    let is_put = target.is_some_and(|target| target.contains(".PutRecord"));
    let _turn = if is_put { Some(puts.lock_owned().await) } else { None };
    next.run(request).await
}

/// The Kinesis consumer over the embedded stream, with trimming.
struct EmbeddedSource {
    inner: KinesisSource,
    incarnation: String,
    stream: String,
    store: Store,
    trimmed: Arc<Notify>,
}

impl fmt::Debug for EmbeddedSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EmbeddedSource({:?})", self.inner)
    }
}

impl EmbeddedSource {
    /// Drop the shard's records up to `last`, which has landed.
    async fn trim(&self, shard: &str, last: &SequenceNumber) {
        let Some(Ok(index)) = shard.rsplit('-').next().map(str::parse::<u32>) else { return };
        // Keys are "{shard in hex}/{sequence number}"; "~" sorts after every digit.
        let (start, end) = (format!("{index:08x}/"), format!("{index:08x}/{}~", last.0));
        loop {
            let held = self.store.get_records_range_limited(&self.stream, &start, &end, TRIM_RECORDS).await;
            let keys: Vec<String> = held.into_iter().map(|(key, _)| key).collect();
            if keys.is_empty() {
                return;
            }
            self.store.delete_record_keys(&self.stream, &keys).await;
        }
    }
}

#[async_trait]
impl Source for EmbeddedSource {
    fn describe(&self) -> String {
        format!("embedded stream {}", self.stream)
    }

    async fn start(&self) -> Result<Positions> {
        self.inner.start().await
    }

    async fn poll(&self, from: Option<&Positions>, limits: SliceLimits) -> Result<Slice> {
        self.inner.poll(from, limits).await
    }

    async fn read(&self, range: &SourceRange) -> Result<Slice> {
        self.inner.read(range).await
    }

    async fn reread(&self, range: &SourceRange, limits: SliceLimits) -> Result<Slice> {
        self.inner.reread(range, limits).await
    }

    fn losses(&self) -> Vec<Loss> {
        self.inner.losses()
    }

    async fn landed(&self, to: &Positions) -> Result<()> {
        if to.incarnation.as_ref() != Some(&self.incarnation) {
            return Ok(());
        }
        for (shard, position) in &to.shards {
            match position {
                Position::After(last) => self.trim(shard, last).await,
                Position::End => self.trim(shard, &SequenceNumber(String::new())).await,
                _ => {}
            }
        }
        self.trimmed.notify_waiters();
        Ok(())
    }
}
