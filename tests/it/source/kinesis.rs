//! What only Kinesis has: reshards, expiry, trimming, and streams that aren't what they were.

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use ferrokinesis::actions::Operation;
use ferrokinesis::store::StoreOptions;
use flashcommerce::epoch::{Position, Positions, SequenceNumber, SourceRange};
use flashcommerce::error::ErrorKind;
use flashcommerce::source::embedded::{EmbeddedKinesis, EmbeddedOptions};
use flashcommerce::source::kinesis::{KinesisSource, Pace};
use flashcommerce::source::producer::Producer;
use flashcommerce::source::{KinesisSpec, OnDataLoss, Source};

use super::faults::{Moods, Server};
use super::{LARGE, Row, SHARDS, Stage, TINY, assert_complete, drain, records, rows};

/// A few records of each shard.
const LARGE_BUT_FEW: super::SliceLimits = super::SliceLimits { records_max: 40, ..LARGE };

/// How long a condition may take to come true.
const EVENTUALLY_MAX: Duration = Duration::from_secs(30);

pub(crate) async fn eventually(what: &str, mut condition: impl AsyncFnMut() -> bool) {
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

fn consumer(server: &Server) -> KinesisSource {
    KinesisSource::with_pace(server.spec.clone(), Pace::Off)
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
    let bad = Moods { throttle_every: Some(3), expire_every: Some(4), fail_every: Some(7), ..Moods::default() };
    // A shard's middle holds nothing for longer than one poll has patience, answers break off, answers are late.
    let strange = Moods {
        empty_percent: 60,
        reset_every: Some(9),
        slow_every: Some((10, Duration::from_millis(200))),
        ..Moods::default()
    };
    for moods in [bad, strange] {
        let server = Server::start(SHARDS, moods, StoreOptions::default()).await;
        server.put(&records(0, 400)).await;
        let limits = flashcommerce::source::SliceLimits { records_max: 50, ..LARGE };
        let drained = drain(&consumer(&server), None, limits).await;
        assert_complete(&drained.rows(), &records(0, 400));
        assert!(server.reads.load(std::sync::atomic::Ordering::SeqCst) > 20);
    }
}

/// Rows after `at`, until there are so many.
async fn read_until(source: &KinesisSource, at: &mut Positions, seen: &mut Vec<Row>, many: usize) {
    let begun = Instant::now();
    while seen.len() < many {
        assert!(begun.elapsed() < EVENTUALLY_MAX, "{} records of {many}", seen.len());
        let slice = source.poll(Some(at), LARGE_BUT_FEW).await.unwrap();
        seen.extend(rows(&slice));
        *at = slice.to;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn subscriptions_that_end_and_a_consumer_that_goes_lose_nothing() {
    // Subscriptions of 300 ms instead of five minutes.
    let options = StoreOptions { subscribe_to_shard_session_ms: 300, ..StoreOptions::default() };
    let server = Server::start(SHARDS, Moods::default(), options).await;
    let spec = KinesisSpec { consumer: Some("flash".into()), ..server.spec.clone() };
    let source = KinesisSource::with_pace(spec, Pace::Off);
    let asked = || server.reads.load(std::sync::atomic::Ordering::SeqCst);
    let (mut at, mut seen) = (source.start().await.unwrap(), Vec::new());
    for part in 0..6 {
        server.put(&records(part * 50, (part + 1) * 50)).await;
        read_until(&source, &mut at, &mut seen, (part + 1) * 50).await;
    }
    assert_eq!(asked(), 0, "everything was sent");
    let arn = server.store.get_stream("events").await.unwrap().stream_arn;
    let gone = serde_json::json!({ "StreamARN": arn, "ConsumerName": "flash" });
    server.call(Operation::DeregisterStreamConsumer, gone).await;
    eventually("the consumer is gone", async || server.store.find_consumer(&arn, "flash").await.is_none()).await;
    server.put(&records(300, 350)).await;
    read_until(&source, &mut at, &mut seen, 350).await;
    eventually("it is asked for what was not sent, and the consumer is there again", async || {
        at = source.poll(Some(&at), LARGE).await.unwrap().to;
        asked() > 0 && server.store.find_consumer(&arn, "flash").await.is_some()
    })
    .await;
    server.put(&records(350, 400)).await;
    read_until(&source, &mut at, &mut seen, 400).await;
    assert_complete(&seen, &records(0, 400));
    assert_eq!(source.losses(), []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn iterators_of_a_second_and_reshards_under_load_lose_nothing() {
    let options = StoreOptions { iterator_ttl_seconds: 1, ..StoreOptions::default() };
    let moods =
        Moods { throttle_every: Some(5), slow_every: Some((7, Duration::from_millis(1500))), ..Moods::default() };
    let server = Server::start(2, moods, options).await;
    let writing = async {
        for part in 0..8 {
            server.put(&records(part * 50, (part + 1) * 50)).await;
            match part {
                1 => server.split(0).await,
                4 => server.merge(3, 1).await,
                _ => {}
            }
        }
    };
    let reading = async {
        let source = consumer(&server);
        let mut at = source.start().await.unwrap();
        let mut seen: Vec<Row> = Vec::new();
        let begun = Instant::now();
        while seen.len() < 400 {
            assert!(begun.elapsed() < Duration::from_secs(90), "{} records", seen.len());
            match source.poll(Some(&at), LARGE_BUT_FEW).await {
                Ok(slice) => {
                    seen.extend(rows(&slice));
                    at = slice.to;
                }
                Err(error) => assert_eq!(error.kind(), ErrorKind::Transient, "{error}"),
            }
        }
        seen
    };
    let ((), seen) = tokio::join!(writing, reading);
    let mut payloads: Vec<_> = seen.iter().map(|row| row.payload.clone()).collect();
    payloads.sort();
    let mut put: Vec<_> = records(0, 400).into_iter().map(|(_, payload)| payload.into_bytes()).collect();
    put.sort();
    assert!(payloads == put, "once each");
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
async fn behind_a_gap_reading_goes_on_where_that_is_asked_for() {
    let stage = embedded_stream().await;
    let spec = KinesisSpec { on_data_loss: OnDataLoss::Continue, ..stage.stream.spec() };
    let open = || KinesisSource::with_pace(spec.clone(), Pace::Off);
    stage.put(&records(0, 200)).await;
    let first = open().poll(None, LARGE_BUT_FEW).await.unwrap();
    let whole = drain(&open(), None, LARGE).await;
    let trimming = stage.open().await;
    let own = drain(trimming.as_ref(), None, LARGE).await;
    trimming.landed(&own.to).await.unwrap();

    // Nothing is held: what was to come is gone. Then something comes.
    let source = open();
    let after = drain(&source, Some(&first.to), LARGE).await;
    assert_eq!(after.rows().len(), 0);
    let read: Vec<&String> =
        first.to.shards.iter().filter(|(_, at)| matches!(at, Position::After(_))).map(|(id, _)| id).collect();
    let lost: Vec<String> = source.losses().into_iter().map(|loss| loss.shard).collect();
    assert!(!read.is_empty() && lost.iter().collect::<Vec<_>>() == read, "{lost:?} {read:?}");
    assert_eq!(source.losses(), [], "told once");
    stage.put(&records(200, 300)).await;
    assert_eq!(drain(&source, Some(&after.to), LARGE).await.rows().len(), 100);
    assert_eq!(source.losses(), []);

    // The gap is seen between the position and a later record, too, and the range says the same again.
    let source = open();
    let later = drain(&source, Some(&first.to), LARGE).await;
    assert_eq!(later.rows().len(), 100);
    let losses = source.losses();
    assert_eq!(losses.len(), read.len());
    for loss in &losses {
        assert_eq!(loss.after, first.to.shards[&loss.shard]);
        let oldest =
            later.rows().into_iter().find(|row| row.shard == loss.shard).map(|row| SequenceNumber(row.sequence));
        assert_eq!(loss.next, oldest);
    }
    let range = SourceRange { from: first.to.clone(), to: later.to.clone() };
    assert!(rows(&source.read(&range).await.unwrap()) == later.rows());
    assert_eq!(source.losses(), losses);
    // An unfinished pass whose records are gone.
    let gone = SourceRange { from: first.to.clone(), to: whole.to };
    assert_eq!(source.read(&gone).await.unwrap().records, 0);
    assert!(!source.losses().is_empty());
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
