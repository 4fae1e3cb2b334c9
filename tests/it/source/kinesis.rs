//! What only Kinesis has: reshards, expiry, trimming, and streams that aren't what they were.

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use ferrokinesis::store::StoreOptions;
use flashcommerce::epoch::{Position, Positions, SequenceNumber, SourceRange};
use flashcommerce::error::ErrorKind;
use flashcommerce::source::embedded::{EmbeddedKinesis, EmbeddedOptions};
use flashcommerce::source::kinesis::{KinesisSource, Pace};
use flashcommerce::source::producer::Producer;
use flashcommerce::source::{KinesisSpec, Source, Start};

use super::faults::{Moods, Server};
use super::{LARGE, Row, SHARDS, Stage, TINY, assert_complete, drain, records, rows};

/// How long a condition may take to come true.
const EVENTUALLY_MAX: Duration = Duration::from_secs(30);

pub(super) async fn eventually(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let begun = Instant::now();
    while !condition().await {
        assert!(begun.elapsed() < EVENTUALLY_MAX, "not within {EVENTUALLY_MAX:?}: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

pub(super) struct EmbeddedStage {
    pub(super) stream: EmbeddedKinesis,
    pub(super) producer: Producer,
}

pub(super) async fn embedded_stream() -> EmbeddedStage {
    let options = EmbeddedOptions { shards: SHARDS as u32, ..EmbeddedOptions::default() };
    let stream = EmbeddedKinesis::start(options).await.unwrap();
    let producer = Producer::embedded(&stream).await.unwrap();
    EmbeddedStage { stream, producer }
}

#[async_trait]
impl Stage for EmbeddedStage {
    async fn put(&self, records: &[(String, String)]) {
        let records: Vec<_> = records.iter().map(|(key, payload)| (key.clone(), payload.clone().into())).collect();
        let counts = self.producer.put_all(futures::stream::iter(records.clone())).await.unwrap();
        assert_eq!(counts.put, records.len() as u64);
    }

    async fn open(&self) -> Arc<dyn Source> {
        self.stream.source()
    }
}

pub(super) async fn stream_behind_an_endpoint() -> Server {
    Server::start(SHARDS, Moods::default(), StoreOptions::default()).await
}

fn consumer(server: &Server) -> KinesisSource {
    KinesisSource::with_pace(server.spec.clone(), Pace::Off)
}

#[async_trait]
impl Stage for Server {
    async fn put(&self, records: &[(String, String)]) {
        Self::put(self, records).await;
    }

    async fn open(&self) -> Arc<dyn Source> {
        Arc::new(consumer(self))
    }
}

/// The order in which shards were read.
fn shards_in_order(rows: &[Row]) -> Vec<&str> {
    let mut shards: Vec<&str> = rows.iter().map(|row| &row.shard["shardId-00000000000".len()..]).collect();
    shards.dedup();
    shards
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reshards_lose_nothing_and_keep_parents_before_children() {
    let server = Server::start(2, Moods::default(), StoreOptions::default()).await;
    let source = consumer(&server);
    server.put(&records(0, 100)).await;
    let before = drain(&source, None, TINY).await;
    server.put(&records(100, 150)).await;
    // 0 becomes 2 and 3; 3 and 1 become 4. What was put in between is still unread when they close.
    server.split(0).await;
    server.put(&records(150, 250)).await;
    server.merge(3, 1).await;
    server.put(&records(250, 350)).await;
    let after = drain(&consumer(&server), Some(&before.to), TINY).await;

    let all = [before.rows(), after.rows()].concat();
    assert_eq!(all.len(), 350);
    let key_order = |key: &str| -> Vec<usize> {
        let of_key = all.iter().filter(|row| row.key.as_deref() == Some(key));
        of_key
            .map(|row| String::from_utf8_lossy(&row.payload)[5..].split(',').next().unwrap().parse().unwrap())
            .collect()
    };
    for key in 0..17 {
        let expected: Vec<usize> = (0..350).filter(|n| n % 17 == key).collect();
        assert_eq!(key_order(&format!("key-{key}")), expected, "once each, in order, across the reshards");
    }
    let last_of = |shard: &str| all.iter().rposition(|row| row.shard.ends_with(shard)).unwrap();
    let first_of = |shard: &str| all.iter().position(|row| row.shard.ends_with(shard)).unwrap();
    assert!(last_of("00") < first_of("02") && last_of("00") < first_of("03"), "{:?}", shards_in_order(&all));
    assert!(last_of("03") < first_of("04") && last_of("01") < first_of("04"), "{:?}", shards_in_order(&all));
    let end = |n: usize| after.to.shards[&format!("shardId-{n:012}")].clone();
    assert_eq!([end(0), end(1), end(3)], [Position::End, Position::End, Position::End]);
    // The ranges say the same again, ends of shards included.
    for (range, rows_then) in &after.slices {
        assert!(rows(&source.read(range).await.unwrap()) == *rows_then);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn expired_iterators_go_on_from_the_last_record() {
    let server =
        Server::start(1, Moods::default(), StoreOptions { iterator_ttl_seconds: 1, ..StoreOptions::default() }).await;
    let source = consumer(&server);
    server.put(&records(0, 20)).await;
    let before = drain(&source, None, LARGE).await;
    let reads = server.reads.load(std::sync::atomic::Ordering::SeqCst);
    server.put(&records(20, 40)).await;
    // The iterator that the source holds is older than its second when a read of it costs a second attempt.
    let begun = Instant::now();
    eventually("the iterator is old", async || begun.elapsed() > Duration::from_millis(2100)).await;
    let after = drain(&source, Some(&before.to), LARGE).await;
    assert!(server.reads.load(std::sync::atomic::Ordering::SeqCst) >= reads + 2, "an expired read and a good one");
    assert_eq!((before.rows().len(), after.rows().len()), (20, 20));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_days_lose_nothing() {
    let moods = Moods { throttle_every: Some(3), expire_every: Some(4), fail_every: Some(7), always_fail: false };
    let server = Server::start(SHARDS, moods, StoreOptions::default()).await;
    server.put(&records(0, 400)).await;
    let limits = flashcommerce::source::SliceLimits { records_max: 50, ..LARGE };
    let drained = drain(&consumer(&server), None, limits).await;
    assert_complete(&drained.rows(), &records(0, 400));
    assert!(server.reads.load(std::sync::atomic::Ordering::SeqCst) > 20);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lasting_faults_are_told_in_the_end() {
    let server = Server::start(1, Moods { always_fail: true, ..Moods::default() }, StoreOptions::default()).await;
    let source = consumer(&server);
    let mut told = None;
    eventually("the fault is told", async || {
        told = source.poll(None, LARGE).await.err();
        told.is_some()
    })
    .await;
    let error = told.unwrap();
    assert_eq!(error.kind(), ErrorKind::Transient);
    assert!(error.message().contains("InternalFailure"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn trimmed_records_are_never_skipped_in_silence() {
    let stage = embedded_stream().await;
    let plain = || KinesisSource::with_pace(stage.stream.spec(), Pace::Off);
    stage.put(&records(0, 200)).await;
    let first = plain().poll(None, TINY).await.unwrap();
    let whole = drain(&plain(), None, LARGE).await;
    // Everything goes, as if it had expired.
    let trimming = stage.open().await;
    let own = drain(trimming.as_ref(), None, LARGE).await;
    trimming.landed(&own.to).await.unwrap();
    assert_eq!(stage.stream.retained_records(), 0);

    let error = plain().poll(Some(&first.to), LARGE).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::DataLoss, "{error}");
    assert!(error.message().contains("shardId-"), "{error}");
    let range = SourceRange { from: first.to.clone(), to: whole.to };
    assert_eq!(plain().read(&range).await.unwrap_err().kind(), ErrorKind::DataLoss);
    // Newer records don't hide the gap.
    stage.put(&records(200, 300)).await;
    assert_eq!(plain().poll(Some(&first.to), LARGE).await.unwrap_err().kind(), ErrorKind::DataLoss);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_vanished_shard_and_a_new_stream_are_losses() {
    let server = stream_behind_an_endpoint().await;
    server.put(&records(0, 50)).await;
    let drained = drain(&consumer(&server), None, LARGE).await;
    let mut vanished = drained.to.clone();
    vanished.shards.insert("shardId-000000000099".into(), Position::After(SequenceNumber("7".into())));
    let error = consumer(&server).poll(Some(&vanished), LARGE).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::DataLoss);
    assert!(error.message().contains("shardId-000000000099"), "{error}");

    let another = Positions { incarnation: Some("1".into()), ..drained.to };
    let error = consumer(&server).poll(Some(&another), LARGE).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::DataLoss);
    assert!(error.message().contains("made anew"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_embedded_stream_expects_to_be_made_anew() {
    let old = embedded_stream().await;
    old.put(&records(0, 50)).await;
    let drained = drain(old.open().await.as_ref(), None, LARGE).await;
    let new = embedded_stream().await;
    new.put(&records(0, 10)).await;
    let source = new.open().await;
    let again = drain(source.as_ref(), Some(&drained.to), LARGE).await;
    assert_eq!(again.rows().len(), 10, "from its beginning");
    assert_ne!(again.to.incarnation, drained.to.incarnation);
    let of_old = source.read(&drained.slices[0].0).await.unwrap();
    assert_eq!((of_old.records, &of_old.to), (0, &drained.slices[0].0.to), "nothing of the old life");
    let across = SourceRange { from: drained.to, to: again.to.clone() };
    assert_eq!(source.read(&across).await.unwrap().records, 10);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn landed_records_are_let_go_and_a_waiting_producer_goes_on() {
    let stage = embedded_stream().await;
    stage.put(&records(0, 500)).await;
    assert_eq!(stage.stream.retained_records(), 500);
    let source = stage.open().await;
    let slice = source.poll(None, super::SliceLimits { records_max: 200, ..LARGE }).await.unwrap();
    assert_eq!(slice.records, 200);
    let room = stage.stream.wait_for_room(301);
    tokio::pin!(room);
    assert!(futures::poll!(room.as_mut()).is_pending());
    source.landed(&slice.to).await.unwrap();
    assert_eq!(stage.stream.retained_records(), 300);
    tokio::time::timeout(EVENTUALLY_MAX, room).await.unwrap();
    let rest = drain(source.as_ref(), Some(&slice.to), LARGE).await;
    assert_eq!(rest.rows().len(), 300);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn latest_and_instants_are_where_a_first_start_begins() {
    let server = stream_behind_an_endpoint().await;
    server.put(&records(0, 20)).await;
    // Arrival times of the server are whole seconds.
    let second = || chrono::Utc::now().timestamp();
    let then = second();
    eventually("the next second", async || second() > then + 1).await;
    let latest = KinesisSource::with_pace(KinesisSpec { start: Start::Latest, ..server.spec.clone() }, Pace::Off);
    let start = latest.start().await.unwrap();
    assert!(start.shards.values().all(|at| matches!(at, Position::AtTimestamp(_))));
    assert_eq!(drain(&latest, Some(&start), LARGE).await.rows().len(), 0);
    server.put(&records(20, 25)).await;
    assert_eq!(drain(&latest, Some(&start), LARGE).await.rows().len(), 5);
    // What another shard gets later counts from its beginning, not from "latest".
    server.split(0).await;
    let instant = Start::AtTimestamp((then - 1) * 1000);
    let since = KinesisSource::with_pace(KinesisSpec { start: instant, ..server.spec.clone() }, Pace::Off);
    assert_eq!(drain(&since, None, LARGE).await.rows().len(), 25);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_reached_is_told_once_and_clearly() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let spec = KinesisSpec {
        stream: "E_com".into(),
        region: Some("ap-south-1".into()),
        endpoint_url: Some(endpoint.clone()),
        ..KinesisSpec::default()
    };
    let error = KinesisSource::new(spec.clone()).poll(None, LARGE).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Source);
    for part in ["E_com", "ap-south-1", &endpoint] {
        assert!(error.message().contains(part), "{error}");
    }
    assert!(error.hint().unwrap().contains("AWS_ENDPOINT_URL"), "{error}");

    let server = stream_behind_an_endpoint().await;
    let missing = KinesisSpec { stream: "nothing".into(), ..server.spec.clone() };
    let error = KinesisSource::new(missing).poll(None, LARGE).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Source);
    assert!(error.message().contains("there is no such stream"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_throttled_producer_puts_everything_once() {
    let options = EmbeddedOptions { shards: 1, enforce_limits: true, ..EmbeddedOptions::default() };
    let stream = EmbeddedKinesis::start(options).await.unwrap();
    let producer = Producer::embedded(&stream).await.unwrap();
    let put: Vec<_> = records(0, 1800).into_iter().map(|(key, payload)| (key, payload.into())).collect();
    let counts = producer.put_all(futures::stream::iter(put)).await.unwrap();
    assert_eq!(counts.put, 1800);
    assert!(counts.retried > 0, "a shard takes 1,000 records a second");
    let rows = drain(stream.source().as_ref(), None, LARGE).await.rows();
    let mut payloads: Vec<_> = rows.iter().map(|row| row.payload.clone()).collect();
    payloads.sort();
    payloads.dedup();
    assert_eq!((rows.len(), payloads.len()), (1800, 1800));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pace_keeps_to_the_shards_limits() {
    let server = Server::start(1, Moods::default(), StoreOptions::default()).await;
    server.put(&records(0, 30)).await;
    let source = KinesisSource::new(server.spec.clone());
    let begun = Instant::now();
    let mut at = source.start().await.unwrap();
    let mut got = 0;
    let reads = || server.reads.load(std::sync::atomic::Ordering::SeqCst);
    while got < 30 {
        let slice = source.poll(Some(&at), TINY).await.unwrap();
        got += slice.records;
        at = slice.to;
    }
    let allowed = begun.elapsed().as_millis() as usize / 200 + 2;
    assert!(reads() <= allowed, "{} reads, at most {allowed} at five a second", reads());
    // Nothing new: asked more often than the pace allows, it answers at once.
    let begun = Instant::now();
    for _ in 0..20 {
        assert_eq!(source.poll(Some(&at), TINY).await.unwrap().records, 0);
    }
    assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
}
