//! Somewhere to have streams, reached by what AWS offers and by nothing else.
//!
//! ```text
//!  ferrokinesis()   in this process, one server for each test
//!  kinesis_local()  the npm package of that name, a process beside the tests: FLASH_KINESIS_LOCAL says where it listens
//!       │ stream(shards): a name of its own ─▶ put, split, merge, delete
//! ```

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use aws_sdk_kinesis::Client;
use aws_sdk_kinesis::config::{BehaviorVersion, Credentials, Region, StalledStreamProtectionConfig};
use aws_sdk_kinesis::types::{Shard, StreamMode, StreamModeDetails, StreamStatus};
use aws_smithy_http_client::tls::Provider;
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;
use ferrokinesis::store::{Store, StoreOptions};
use flashcommerce::epoch::{Loss, Positions, SourceRange};
use flashcommerce::error::Result;
use flashcommerce::source::kinesis::{KinesisSource, Pace};
use flashcommerce::source::producer::Producer;
use flashcommerce::source::{KinesisSpec, OnDataLoss, Slice, SliceLimits, Source, Start};
use tokio::net::TcpListener;

use super::Stage;
use super::kinesis::eventually;

/// What is put is sent within this time: the emulators look for it five times a second, and once.
const FERROKINESIS_SENDS_WITHIN: Duration = Duration::from_millis(250);
const KINESIS_LOCAL_SENDS_WITHIN: Duration = Duration::from_millis(1_200);

/// See the module.
pub(super) struct Place {
    endpoint: String,
    client: Client,
    _server: Option<Running>,
    /// The enhanced fan-out consumer that streams are read through.
    consumer: Option<String>,
    sends_within: Duration,
}

/// A server, as long as this is held.
struct Running(tokio::task::JoinHandle<()>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Place {
    pub(super) async fn ferrokinesis() -> Self {
        let store = Store::new(StoreOptions {
            create_stream_ms: 0,
            update_stream_ms: 0,
            delete_stream_ms: 0,
            shard_limit: 1000,
            ..StoreOptions::default()
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let app = ferrokinesis::create_router(store);
        let server = tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        Self {
            client: client(&endpoint),
            endpoint,
            _server: Some(Running(server)),
            consumer: None,
            sends_within: FERROKINESIS_SENDS_WITHIN,
        }
    }

    #[allow(clippy::disallowed_methods, reason = "which servers there are is the test environment's business")]
    pub(super) fn kinesis_local() -> Self {
        let endpoint = std::env::var("FLASH_KINESIS_LOCAL").unwrap_or_default();
        Self {
            client: client(&endpoint),
            endpoint,
            _server: None,
            consumer: None,
            sends_within: KINESIS_LOCAL_SENDS_WITHIN,
        }
    }

    /// The same, with consumers that are sent what others ask for.
    pub(super) fn fan_out(self) -> Self {
        Self { consumer: Some("flash".into()), ..self }
    }

    /// `None`, and a word about it, where there is none.
    pub(super) fn there_for(self, test: &str) -> Option<Self> {
        if self.endpoint.is_empty() {
            println!("skipped: {test} needs FLASH_KINESIS_LOCAL");
            return None;
        }
        Some(self)
    }

    /// A new stream.
    pub(super) async fn stream(&self, shards: usize) -> Stream {
        let stream = self.named().await;
        stream.create(shards).await;
        stream
    }

    /// A new stream whose shards are the service's business.
    pub(super) async fn stream_on_demand(&self) -> Stream {
        let stream = self.named().await;
        let mode = StreamModeDetails::builder().stream_mode(StreamMode::OnDemand).build().unwrap();
        let call = stream.client.create_stream().stream_name(&stream.spec.stream).stream_mode_details(mode);
        call.send().await.unwrap();
        stream.active().await;
        stream
    }

    async fn named(&self) -> Stream {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let name = format!("events-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let spec = KinesisSpec {
            stream: name,
            region: Some("us-east-1".into()),
            endpoint_url: Some(self.endpoint.clone()),
            consumer: self.consumer.clone(),
            ..KinesisSpec::default()
        };
        let producer = Producer::connect(&spec).await.unwrap();
        let sent_within = if self.consumer.is_some() { self.sends_within } else { Duration::ZERO };
        Stream { client: self.client.clone(), spec, producer, sent_within }
    }
}

fn client(endpoint: &str) -> Client {
    let http = aws_smithy_http_client::Builder::new().tls_provider(Provider::Rustls(CryptoMode::Ring)).build_https();
    let config = aws_sdk_kinesis::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .http_client(http)
        .region(Region::new("us-east-1"))
        .endpoint_url(endpoint)
        .credentials_provider(Credentials::new("tests", "tests", None, None, "tests"))
        .stalled_stream_protection(StalledStreamProtectionConfig::disabled());
    Client::from_conf(config.build())
}

/// One stream.
pub(super) struct Stream {
    client: Client,
    pub(super) spec: KinesisSpec,
    producer: Producer,
    sent_within: Duration,
}

impl Stream {
    pub(super) async fn create(&self, shards: usize) {
        let call = self.client.create_stream().stream_name(&self.spec.stream).shard_count(shards as i32);
        call.send().await.unwrap();
        self.active().await;
    }

    pub(super) async fn delete(&self) {
        self.client
            .delete_stream()
            .stream_name(&self.spec.stream)
            .enforce_consumer_deletion(true)
            .send()
            .await
            .unwrap();
        eventually("the stream is gone", async || self.status().await.is_none()).await;
    }

    async fn status(&self) -> Option<StreamStatus> {
        let answer = self.client.describe_stream_summary().stream_name(&self.spec.stream).send().await.ok()?;
        answer.stream_description_summary.map(|summary| summary.stream_status)
    }

    async fn active(&self) {
        eventually("the stream is active", async || self.status().await == Some(StreamStatus::Active)).await;
    }

    pub(super) async fn arn(&self) -> String {
        let answer = self.client.describe_stream_summary().stream_name(&self.spec.stream).send().await.unwrap();
        answer.stream_description_summary.unwrap().stream_arn
    }

    /// By their numbers.
    async fn shards(&self) -> Vec<Shard> {
        let mut shards = self.client.list_shards().stream_name(&self.spec.stream).send().await.unwrap().shards.unwrap();
        shards.sort_by(|a, b| a.shard_id.cmp(&b.shard_id));
        shards
    }

    pub(super) async fn split(&self, shard: usize) {
        let shard = self.shards().await.swap_remove(shard);
        let range = shard.hash_key_range.unwrap();
        let bound = |text: &str| text.parse::<u128>().unwrap();
        let middle = bound(&range.starting_hash_key) / 2 + bound(&range.ending_hash_key) / 2;
        let call = self.client.split_shard().stream_name(&self.spec.stream).shard_to_split(shard.shard_id);
        call.new_starting_hash_key(middle.to_string()).send().await.unwrap();
        self.active().await;
    }

    pub(super) async fn merge(&self, a: usize, b: usize) {
        let id = |n: usize| format!("shardId-{n:012}");
        let call = self.client.merge_shards().stream_name(&self.spec.stream);
        call.shard_to_merge(id(a)).adjacent_shard_to_merge(id(b)).send().await.unwrap();
        self.active().await;
    }

    pub(super) async fn put(&self, records: &[(String, String)]) {
        let records = records.iter().map(|(key, payload)| (key.clone(), payload.clone().into()));
        self.producer.put_all(futures::stream::iter(records.collect::<Vec<_>>())).await.unwrap();
    }

    /// Put bytes as they are, in order.
    pub(super) async fn put_bytes(&self, records: &[(&str, Vec<u8>)]) {
        for (key, data) in records {
            let record = (key.to_string(), data.clone().into());
            self.producer.put_all(futures::stream::iter([record])).await.unwrap();
        }
    }

    /// A consumer, as another process would have it.
    pub(super) fn consumer(&self) -> Consumer {
        self.starting(Start::TrimHorizon)
    }

    pub(super) fn starting(&self, start: Start) -> Consumer {
        self.consumer_of(KinesisSpec { start, ..self.spec.clone() })
    }

    pub(super) fn going_on(&self) -> Consumer {
        self.consumer_of(KinesisSpec { on_data_loss: OnDataLoss::Continue, ..self.spec.clone() })
    }

    pub(super) fn consumer_of(&self, spec: KinesisSpec) -> Consumer {
        Consumer { source: KinesisSource::with_pace(spec, Pace::Off), sent_within: self.sent_within }
    }
}

#[async_trait]
impl Stage for Stream {
    async fn put(&self, records: &[(String, String)]) {
        Self::put(self, records).await;
    }

    async fn open(&self) -> Arc<dyn Source> {
        Arc::new(self.consumer())
    }

    fn sent_within(&self) -> Duration {
        self.sent_within
    }
}

/// A consumer. What is sent to it takes a while to come, unlike what is asked for.
#[derive(Debug)]
pub(super) struct Consumer {
    source: KinesisSource,
    sent_within: Duration,
}

#[async_trait]
impl Source for Consumer {
    fn describe(&self) -> String {
        self.source.describe()
    }

    async fn start(&self) -> Result<Positions> {
        self.source.start().await
    }

    async fn poll(&self, from: Option<&Positions>, limits: SliceLimits) -> Result<Slice> {
        let begun = Instant::now();
        let mut slice = self.source.poll(from, limits).await?;
        while slice.records == 0 && slice.caught_up && begun.elapsed() < self.sent_within {
            slice = self.source.poll(Some(&slice.to), limits).await?;
        }
        Ok(slice)
    }

    async fn read(&self, range: &SourceRange) -> Result<Slice> {
        self.source.read(range).await
    }

    async fn reread(&self, range: &SourceRange, limits: SliceLimits) -> Result<Slice> {
        self.source.reread(range, limits).await
    }

    async fn since(&self, instant_ms: i64) -> Result<Positions> {
        self.source.since(instant_ms).await
    }

    fn losses(&self) -> Vec<Loss> {
        self.source.losses()
    }

    async fn landed(&self, to: &Positions) -> Result<()> {
        self.source.landed(to).await
    }
}
