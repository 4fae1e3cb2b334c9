//! Somewhere to have streams, reached by what AWS offers and by nothing else.
//!
//! ```text
//!  ferrokinesis()   in this process, one server for each test
//!  kinesis_local()  the npm package of that name, a process beside the tests: FLASH_KINESIS_LOCAL says where it listens
//!       │ stream(shards): a name of its own ─▶ put, split, merge, delete
//! ```

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use aws_sdk_kinesis::Client;
use aws_sdk_kinesis::config::{BehaviorVersion, Credentials, Region, StalledStreamProtectionConfig};
use aws_sdk_kinesis::types::{Shard, StreamStatus};
use aws_smithy_http_client::tls::Provider;
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;
use ferrokinesis::store::{Store, StoreOptions};
use flashcommerce::source::kinesis::{KinesisSource, Pace};
use flashcommerce::source::producer::Producer;
use flashcommerce::source::{KinesisSpec, OnDataLoss, Source, Start};
use tokio::net::TcpListener;

use super::Stage;
use super::kinesis::eventually;

/// See the module.
pub(super) struct Place {
    endpoint: String,
    client: Client,
    server: Option<tokio::task::JoinHandle<()>>,
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(server) = &self.server {
            server.abort();
        }
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
        Self { client: client(&endpoint), endpoint, server: Some(server) }
    }

    /// `None`, and a word about it, where there is none.
    #[allow(clippy::disallowed_methods, reason = "which servers there are is the test environment's business")]
    pub(super) fn kinesis_local(test: &str) -> Option<Self> {
        let Ok(endpoint) = std::env::var("FLASH_KINESIS_LOCAL") else {
            println!("skipped: {test} needs FLASH_KINESIS_LOCAL");
            return None;
        };
        Some(Self { client: client(&endpoint), endpoint, server: None })
    }

    /// A new stream.
    pub(super) async fn stream(&self, shards: usize) -> Stream {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let name = format!("events-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let spec = KinesisSpec {
            stream: name,
            region: Some("us-east-1".into()),
            endpoint_url: Some(self.endpoint.clone()),
            ..KinesisSpec::default()
        };
        let producer = Producer::connect(&spec).await.unwrap();
        let stream = Stream { client: self.client.clone(), spec, producer };
        stream.create(shards).await;
        stream
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
}

impl Stream {
    pub(super) async fn create(&self, shards: usize) {
        let call = self.client.create_stream().stream_name(&self.spec.stream).shard_count(shards as i32);
        call.send().await.unwrap();
        self.active().await;
    }

    pub(super) async fn delete(&self) {
        self.client.delete_stream().stream_name(&self.spec.stream).send().await.unwrap();
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
    pub(super) fn consumer(&self) -> KinesisSource {
        self.starting(Start::TrimHorizon)
    }

    pub(super) fn starting(&self, start: Start) -> KinesisSource {
        KinesisSource::with_pace(KinesisSpec { start, ..self.spec.clone() }, Pace::Off)
    }

    pub(super) fn going_on(&self) -> KinesisSource {
        let spec = KinesisSpec { on_data_loss: OnDataLoss::Continue, ..self.spec.clone() };
        KinesisSource::with_pace(spec, Pace::Off)
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
}
