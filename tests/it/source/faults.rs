//! A Kinesis server with moods: the emulator behind a layer that answers as AWS does on a bad day.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use ferrokinesis::actions::{Operation, dispatch};
use ferrokinesis::store::{Store, StoreOptions};
use flashcommerce::source::KinesisSpec;
use flashcommerce::source::producer::Producer;
use tokio::net::TcpListener;

/// Bytes of a request or an answer.
const BODY_BYTES_MAX: usize = 32 << 20;

/// What goes wrong with reads.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Moods {
    /// Every so many-th read is throttled.
    pub(super) throttle_every: Option<usize>,
    /// Every so many-th read finds its iterator expired.
    pub(super) expire_every: Option<usize>,
    /// Every so many-th read fails inside the service.
    pub(super) fail_every: Option<usize>,
    /// Every read fails inside the service.
    pub(super) always_fail: bool,
    /// So many reads out of every hundred give no records, though there are some, and the same place again.
    pub(super) empty_percent: usize,
    /// Every so many-th answer breaks off.
    pub(super) reset_every: Option<usize>,
    /// Every so many-th answer takes this long.
    pub(super) slow_every: Option<(usize, Duration)>,
}

/// A stream with its server. Reads of it can be disturbed, its store can be reached into.
pub(super) struct Server {
    pub(super) store: Store,
    pub(super) spec: KinesisSpec,
    pub(super) producer: Producer,
    pub(super) reads: Arc<AtomicUsize>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Server {
    pub(super) async fn start(shards: usize, moods: Moods, options: StoreOptions) -> Self {
        let options = StoreOptions {
            create_stream_ms: 0,
            update_stream_ms: 0,
            delete_stream_ms: 0,
            shard_limit: 1000,
            ..options
        };
        let store = Store::new(options);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let reads = Arc::new(AtomicUsize::new(0));
        let app = ferrokinesis::create_router(store.clone())
            .layer(middleware::from_fn_with_state((moods, Arc::clone(&reads)), disturb));
        let task = tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        let spec = KinesisSpec {
            stream: "events".into(),
            region: Some("us-east-1".into()),
            endpoint_url: Some(endpoint),
            ..KinesisSpec::default()
        };
        let producer = Producer::connect(&spec).await.unwrap();
        let server = Self { store, spec, producer, reads, task };
        server.call(Operation::CreateStream, serde_json::json!({ "ShardCount": shards })).await;
        server
    }

    /// Change the stream behind the reader's back, and wait until that is done.
    pub(super) async fn call(&self, operation: Operation, mut request: serde_json::Value) {
        request["StreamName"] = "events".into();
        dispatch(&self.store, operation, request).await.unwrap();
        super::kinesis::eventually("the stream is active", async || {
            let stream = self.store.get_stream("events").await.unwrap();
            stream.stream_status == ferrokinesis::types::StreamStatus::Active
        })
        .await;
    }

    pub(super) async fn split(&self, shard: usize) {
        let stream = self.store.get_stream("events").await.unwrap();
        let shard = &stream.shards[shard];
        let bound = |text: &str| text.parse::<u128>().unwrap();
        let range = &shard.hash_key_range;
        let middle = bound(&range.starting_hash_key) / 2 + bound(&range.ending_hash_key) / 2;
        let request = serde_json::json!({ "ShardToSplit": shard.shard_id, "NewStartingHashKey": middle.to_string() });
        self.call(Operation::SplitShard, request).await;
    }

    pub(super) async fn merge(&self, a: usize, b: usize) {
        let id = |n: usize| format!("shardId-{n:012}");
        let request = serde_json::json!({ "ShardToMerge": id(a), "AdjacentShardToMerge": id(b) });
        self.call(Operation::MergeShards, request).await;
    }

    pub(super) async fn put(&self, records: &[(String, String)]) {
        let records = records.iter().map(|(key, payload)| (key.clone(), payload.clone().into()));
        self.producer.put_all(futures::stream::iter(records.collect::<Vec<_>>())).await.unwrap();
    }
}

async fn disturb(State((moods, reads)): State<(Moods, Arc<AtomicUsize>)>, request: Request, next: Next) -> Response {
    let target = request.headers().get("x-amz-target").and_then(|target| target.to_str().ok());
    if target != Some("Kinesis_20131202.GetRecords") {
        return next.run(request).await;
    }
    let n = reads.fetch_add(1, Ordering::SeqCst) + 1;
    if let Some((every, wait)) = moods.slow_every
        && n % every == 0
    {
        tokio::time::sleep(wait).await;
    }
    let due = |every: Option<usize>| every.is_some_and(|every| n % every == 0);
    let error = |status: u16, code: &str| {
        let body = format!(r#"{{"__type":"{code}","message":"a bad day"}}"#);
        let response = Response::builder().status(status).header("content-type", "application/x-amz-json-1.1");
        response.body(Body::from(body)).unwrap().into_response()
    };
    if moods.always_fail || due(moods.fail_every) {
        error(500, "InternalFailure")
    } else if due(moods.throttle_every) {
        error(400, "ProvisionedThroughputExceededException")
    } else if due(moods.expire_every) {
        error(400, "ExpiredIteratorException")
    } else if n % 100 < moods.empty_percent {
        empty_page(request).await
    } else if due(moods.reset_every) {
        let half = |bytes| futures::stream::iter([Ok(bytes), Err(std::io::Error::other("reset"))]);
        let whole = next.run(request).await;
        let bytes = axum::body::to_bytes(whole.into_body(), BODY_BYTES_MAX).await.unwrap();
        Response::new(Body::from_stream(half(bytes.slice(..bytes.len() / 2))))
    } else {
        next.run(request).await
    }
}

/// What AWS answers for a part of a shard that holds nothing: there is more behind it.
async fn empty_page(request: Request) -> Response {
    let bytes = axum::body::to_bytes(request.into_body(), BODY_BYTES_MAX).await.unwrap();
    let asked: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
    let page = serde_json::json!({
        "Records": [], "NextShardIterator": asked["ShardIterator"], "MillisBehindLatest": 60_000
    });
    let response = Response::builder().header("content-type", "application/x-amz-json-1.1");
    response.body(Body::from(page.to_string())).unwrap()
}
