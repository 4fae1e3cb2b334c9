//! What a consumer of Kinesis must do, checked in two places and in both ways of reading: each of the emulators has its own
//! gaps, and what holds in both is likely to hold on AWS.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use flashcommerce::epoch::{Position, Positions, SequenceNumber, SourceRange};
use flashcommerce::error::ErrorKind;
use flashcommerce::source::kinesis::KinesisSource;
use flashcommerce::source::{KinesisSpec, SliceLimits, Source, Start};

use super::kinesis::eventually;
use super::packed::{aggregate, gzip};
use super::place::Place;
use super::{LARGE, Row, SHARDS, TINY, drain, records, rows};

mod judged;

use judged::{ROUNDS_MAX, assert_before, assert_once_and_in_order, drain_packed, error_of, id, numbers, sorted};

async fn nothing_is_lost_or_doubled(place: Place) {
    super::nothing_is_lost_or_doubled(&place.stream(SHARDS).await).await;
}

async fn a_range_gives_what_poll_gave(place: Place) {
    super::a_range_gives_what_poll_gave(&place.stream(SHARDS).await).await;
}

async fn nothing_new_is_told_at_once(place: Place) {
    super::nothing_new_is_told_at_once(&place.stream(SHARDS).await).await;
}

async fn reading_resumes_in_another_process(place: Place) {
    super::reading_resumes_in_another_process(&place.stream(SHARDS).await).await;
}

async fn reshards_lose_nothing_and_keep_parents_before_children(place: Place) {
    let stream = place.stream(2).await;
    stream.put(&records(0, 100)).await;
    let before = drain(&stream.consumer(), None, TINY).await;
    stream.put(&records(100, 150)).await;
    // 0 becomes 2 and 3; 3 and 1 become 4. What was put in between is still unread when they close.
    stream.split(0).await;
    stream.put(&records(150, 250)).await;
    stream.merge(3, 1).await;
    stream.put(&records(250, 350)).await;
    let after = drain(&stream.consumer(), Some(&before.to), TINY).await;
    let all = [before.rows(), after.rows()].concat();
    assert_once_and_in_order(&all, 350);
    for (parent, child) in [(0, 2), (0, 3), (3, 4), (1, 4)] {
        assert_before(&all, parent, child);
    }
    let end = |n: usize| after.to.shards[&id(n)].clone();
    assert_eq!([end(0), end(1), end(3)], [Position::End, Position::End, Position::End]);
}

async fn a_child_waits_for_the_end_of_its_parent(place: Place) {
    let stream = place.stream(1).await;
    stream.put(&records(0, 40)).await;
    stream.split(0).await;
    stream.put(&records(40, 80)).await;
    let source = stream.consumer();
    let mut at = source.start().await.unwrap();
    let mut seen = Vec::new();
    while seen.len() < 40 {
        let slice = source.poll(Some(&at), TINY).await.unwrap();
        seen.extend(rows(&slice));
        at = slice.to;
    }
    assert!(seen.iter().all(|row| row.shard == id(0)), "only the parent until it is read");
    let rest = drain(&source, Some(&at), LARGE).await.rows();
    assert!(rest.iter().all(|row| row.shard != id(0)));
    assert_once_and_in_order(&[seen, rest].concat(), 80);
}

async fn a_merged_shard_waits_for_both_parents(place: Place) {
    let stream = place.stream(2).await;
    stream.put(&records(0, 60)).await;
    stream.merge(0, 1).await;
    stream.put(&records(60, 90)).await;
    let all = drain(&stream.consumer(), None, TINY).await.rows();
    assert_once_and_in_order(&all, 90);
    assert_before(&all, 0, 2);
    assert_before(&all, 1, 2);
}

async fn shards_that_were_split_again_before_they_were_read(place: Place) {
    let stream = place.stream(1).await;
    for (generation, shard) in [0, 1, 3].into_iter().enumerate() {
        stream.put(&records(generation * 50, (generation + 1) * 50)).await;
        stream.split(shard).await;
    }
    stream.put(&records(150, 200)).await;
    let all = drain(&stream.consumer(), None, TINY).await.rows();
    assert_once_and_in_order(&all, 200);
    assert_before(&all, 0, 1);
    assert_before(&all, 1, 3);
    assert_before(&all, 3, 5);
}

async fn ranges_across_a_reshard_are_read_again(place: Place) {
    let stream = place.stream(2).await;
    stream.put(&records(0, 60)).await;
    stream.split(1).await;
    stream.put(&records(60, 120)).await;
    let drained = drain(&stream.consumer(), None, TINY).await;
    for (range, then) in &drained.slices {
        assert!(rows(&stream.consumer().read(range).await.unwrap()) == *then);
    }
    let whole = SourceRange { from: stream.consumer().start().await.unwrap(), to: drained.to.clone() };
    assert_eq!(sorted(numbers(&rows(&stream.consumer().read(&whole).await.unwrap()))), (0..120).collect::<Vec<_>>());
}

async fn a_reshard_between_two_starts_of_the_consumer(place: Place) {
    let stream = place.stream(2).await;
    stream.put(&records(0, 30)).await;
    let before = drain(&stream.consumer(), None, LARGE).await;
    stream.split(0).await;
    stream.merge(3, 1).await;
    stream.put(&records(30, 90)).await;
    let after = drain(&stream.consumer(), Some(&before.to), LARGE).await;
    assert_once_and_in_order(&[before.rows(), after.rows()].concat(), 90);
    // Ended shards stay among the positions as long as they are listed, and are not read again.
    assert_eq!(after.to.shards[&id(0)], Position::End);
    assert_eq!(drain(&stream.consumer(), Some(&after.to), LARGE).await.rows().len(), 0);
}

async fn records_are_put_and_shards_are_split_while_it_reads(place: Place) {
    let stream = place.stream(2).await;
    let writing = async {
        for part in 0..6 {
            stream.put(&records(part * 30, (part + 1) * 30)).await;
            if part % 2 == 1 {
                stream.split(part / 2).await;
            }
        }
    };
    let reading = async {
        let source = stream.consumer();
        let mut at = source.start().await.unwrap();
        let mut seen: Vec<Row> = Vec::new();
        let begun = Instant::now();
        while seen.len() < 180 {
            assert!(begun.elapsed() < Duration::from_secs(60), "{} records", seen.len());
            let slice = source.poll(Some(&at), TINY).await.unwrap();
            seen.extend(rows(&slice));
            at = slice.to;
        }
        seen
    };
    let ((), seen) = tokio::join!(writing, reading);
    assert_once_and_in_order(&seen, 180);
}

async fn a_first_start_reads_what_is_there(place: Place) {
    let stream = place.stream(2).await;
    stream.put(&records(0, 30)).await;
    let source = stream.starting(Start::TrimHorizon);
    let start = source.start().await.unwrap();
    assert_eq!(start.shards, BTreeMap::from([0, 1].map(|n| (id(n), Position::TrimHorizon))));
    assert!(start.incarnation.is_some());
    assert_eq!(drain(&source, None, LARGE).await.rows().len(), 30);
}

/// Wait for the next second: the arrival times of emulators are whole ones.
async fn next_second() -> i64 {
    let second = || chrono::Utc::now().timestamp();
    let then = second();
    eventually("the next second", async || second() > then + 1).await;
    second() * 1000
}

async fn latest_reads_what_comes_later(place: Place) {
    let stream = place.stream(2).await;
    stream.put(&records(0, 20)).await;
    next_second().await;
    let source = stream.starting(Start::Latest);
    let start = source.start().await.unwrap();
    assert!(start.shards.values().all(|at| matches!(at, Position::AtTimestamp(_))), "{start:?}");
    assert_eq!(drain(&source, Some(&start), LARGE).await.rows().len(), 0);
    stream.put(&records(20, 25)).await;
    assert_eq!(sorted(numbers(&drain(&source, Some(&start), LARGE).await.rows())), (20..25).collect::<Vec<_>>());
}

async fn latest_is_an_instant_that_lasts(place: Place) {
    let stream = place.stream(2).await;
    stream.put(&records(0, 20)).await;
    next_second().await;
    let start = serde_json::to_string(&stream.starting(Start::Latest).start().await.unwrap()).unwrap();
    // It stops at once. What comes until it starts again is not "before latest".
    stream.put(&records(20, 25)).await;
    next_second().await;
    stream.put(&records(25, 30)).await;
    let start: Positions = serde_json::from_str(&start).unwrap();
    let again = drain(&stream.starting(Start::Latest), Some(&start), LARGE).await.rows();
    assert_eq!(sorted(numbers(&again)), (20..30).collect::<Vec<_>>());
}

async fn a_shard_found_later_counts_from_its_beginning(place: Place) {
    let stream = place.stream(1).await;
    let source = stream.starting(Start::Latest);
    let start = source.start().await.unwrap();
    stream.split(0).await;
    stream.put(&records(0, 20)).await;
    next_second().await;
    // Found a second after its records came, and by a consumer that began with "latest".
    let later = drain(&stream.starting(Start::Latest), Some(&start), LARGE).await;
    assert_eq!(sorted(numbers(&later.rows())), (0..20).collect::<Vec<_>>());
}

async fn an_instant_reads_from_there(place: Place) {
    let stream = place.stream(2).await;
    stream.put(&records(0, 20)).await;
    let instant = next_second().await;
    stream.put(&records(20, 30)).await;
    let source = stream.starting(Start::AtTimestamp(instant));
    assert_eq!(sorted(numbers(&drain(&source, None, LARGE).await.rows())), (20..30).collect::<Vec<_>>());
}

async fn an_instant_to_come_reads_nothing_yet(place: Place) {
    let stream = place.stream(2).await;
    stream.put(&records(0, 20)).await;
    let tomorrow = chrono::Utc::now().timestamp_millis() + 86_400_000;
    let drained = drain(&stream.starting(Start::AtTimestamp(tomorrow)), None, LARGE).await;
    assert_eq!(drained.rows().len(), 0);
    assert!(drained.to.shards.values().all(|at| *at == Position::AtTimestamp(tomorrow)), "{:?}", drained.to);
}

async fn columns_tell_where_a_record_is_from(place: Place) {
    let stream = place.stream(2).await;
    let before_us = chrono::Utc::now().timestamp_micros();
    stream.put(&records(0, 20)).await;
    let after_us = chrono::Utc::now().timestamp_micros();
    let rows = drain(&stream.consumer(), None, LARGE).await.rows();
    assert_eq!(rows.iter().map(|row| row.shard.clone()).collect::<BTreeSet<_>>(), BTreeSet::from([id(0), id(1)]));
    for row in &rows {
        assert_eq!((&row.stream, row.sub_sequence, &row.error), (&stream.spec.stream, 0, &None));
        assert!(row.sequence.len() >= 50 && row.sequence.bytes().all(|b| b.is_ascii_digit()), "{}", row.sequence);
        assert!((before_us - 1_000_000..=after_us + 1_000_000).contains(&row.arrived_us), "{}", row.arrived_us);
        assert_eq!(row.key, Some(format!("key-{}", numbers([row])[0] % 17)));
    }
    assert_eq!(rows.iter().map(|row| &row.sequence).collect::<BTreeSet<_>>().len(), 20);
}

async fn bytes_are_kept_as_they_came(place: Place) {
    let stream = place.stream(1).await;
    let every_byte: Vec<u8> = (0..=255).collect();
    let put =
        [every_byte.clone(), vec![0], b"\xff\xfe{".to_vec(), "\u{939}\u{93f}".as_bytes().to_vec(), vec![0xf3, 0x89]];
    stream.put_bytes(&put.clone().map(|data| ("k", data))).await;
    let rows = drain(&stream.consumer(), None, LARGE).await.rows();
    assert_eq!(rows.iter().map(|row| row.payload.clone()).collect::<Vec<_>>(), put);
}

async fn keys_of_every_kind(place: Place) {
    let stream = place.stream(2).await;
    let keys = ["a", " ", "\u{1f6d2} \u{92e}\u{941}\u{902}\u{92c}\u{908}", "quote\"\\slash/", &"k".repeat(256)];
    stream.put(&keys.map(|key| (key.to_string(), key.to_string()))).await;
    let rows = drain(&stream.consumer(), None, LARGE).await.rows();
    assert_eq!(rows.len(), keys.len());
    assert!(rows.iter().all(|row| row.key.as_ref().map(String::as_bytes) == Some(&row.payload)));
}

async fn a_record_of_almost_a_mebibyte(place: Place) {
    let stream = place.stream(1).await;
    let large = "x".repeat((1 << 20) - 10);
    stream.put(&[("k".into(), "before".into()), ("k".into(), large.clone()), ("k".into(), "after".into())]).await;
    let limits = SliceLimits { payload_bytes_max: 1000, ..LARGE };
    let rows = drain(&stream.consumer(), None, limits).await.rows();
    assert_eq!(rows.iter().map(|row| row.payload.len()).collect::<Vec<_>>(), [6, large.len(), 5]);
}

async fn compressed_payloads_are_landed_as_text(place: Place) {
    let stream = place.stream(1).await;
    let zstd = zstd::encode_all(&b"by zstd"[..], 1).unwrap();
    let mut damaged = gzip(b"a text that is long enough to be cut");
    damaged.truncate(damaged.len() - 9);
    stream.put_bytes(&[("k", gzip(b"by gzip")), ("k", zstd), ("k", damaged.clone()), ("k", b"plain".to_vec())]).await;
    let rows = drain(&stream.consumer(), None, LARGE).await.rows();
    let payloads: Vec<&[u8]> = rows.iter().map(|row| row.payload.as_slice()).collect();
    assert_eq!(payloads, [b"by gzip", b"by zstd", damaged.as_slice(), b"plain"]);
    let errors: Vec<bool> = rows.iter().map(|row| row.error.is_some()).collect();
    assert_eq!(errors, [false, false, true, false], "damage stops nothing and is landed with its reason");
}

async fn packed_records_come_out_whole(place: Place) {
    let stream = place.stream(1).await;
    let packed = |from: usize, to: usize| aggregate(&records(from, to), None);
    let inside = aggregate(&[("k".to_string(), gzip(b"compressed inside"))], None);
    stream.put_bytes(&[("x", packed(0, 100)), ("y", b"plain".to_vec()), ("x", packed(100, 103)), ("x", inside)]).await;
    let two = SliceLimits { records_max: 2, ..LARGE };
    let drained = drain_packed(&stream.consumer(), two).await;
    let sizes: Vec<usize> = drained.iter().map(|(_, rows)| rows.len()).collect();
    assert_eq!(sizes, [101, 4], "limits count records of the stream, and none is split");
    let all: Vec<Row> = drained.iter().flat_map(|(_, rows)| rows.clone()).collect();
    let of = |rows: &[Row]| -> Vec<(Option<String>, Vec<u8>)> {
        rows.iter().map(|row| (row.key.clone(), row.payload.clone())).collect()
    };
    let as_put = |from: usize, to: usize| -> Vec<(Option<String>, Vec<u8>)> {
        records(from, to).into_iter().map(|(key, text)| (Some(key), text.into_bytes())).collect()
    };
    assert_eq!(of(&all[..100]), as_put(0, 100));
    assert_eq!(of(&all[100..101]), [(Some("y".to_string()), b"plain".to_vec())]);
    assert_eq!(of(&all[101..104]), as_put(100, 103));
    assert_eq!(all[104].payload, b"compressed inside");
    let subs: Vec<i64> = all.iter().map(|row| row.sub_sequence).collect();
    assert_eq!(subs, (0..100).chain([0]).chain(0..3).chain([0]).collect::<Vec<i64>>());
    assert_eq!(all.iter().map(|row| &row.sequence).collect::<BTreeSet<_>>().len(), 4);
    for (range, then) in &drained {
        assert!(rows(&stream.consumer().read(range).await.unwrap()) == *then, "the same rows again");
    }
}

async fn an_aggregate_in_the_wrong_shard_is_landed_as_it_came(place: Place) {
    // Two shards share the hash keys. MD5 of "a" begins with 0c: the record itself goes to the first one.
    let stream = place.stream(2).await;
    let of = |hash_key: &str| aggregate(&[("k".to_string(), b"inside".to_vec())], Some(hash_key));
    let elsewhere = of(&u128::MAX.to_string());
    stream.put_bytes(&[("a", elsewhere.clone()), ("a", of("1"))]).await;
    let rows: Vec<Row> = drain_packed(&stream.consumer(), LARGE).await.into_iter().flat_map(|(_, rows)| rows).collect();
    let seen: Vec<(bool, &[u8])> = rows.iter().map(|row| (row.error.is_some(), row.payload.as_slice())).collect();
    assert_eq!(seen, [(true, elsewhere.as_slice()), (false, b"inside")]);
    assert!(rows[0].error.as_ref().unwrap().contains("another shard"), "{:?}", rows[0].error);
}

async fn slices_keep_to_their_records(place: Place) {
    let stream = place.stream(SHARDS).await;
    stream.put(&records(0, 120)).await;
    for records_max in [1, 10, 119, 120] {
        let drained = drain(&stream.consumer(), None, SliceLimits { records_max, ..LARGE }).await;
        assert!(drained.slices.iter().all(|(_, rows)| rows.len() <= records_max));
        assert_eq!(sorted(numbers(&drained.rows())), (0..120).collect::<Vec<_>>());
    }
}

async fn slices_keep_to_their_bytes(place: Place) {
    let stream = place.stream(1).await;
    let records: Vec<_> = (0..60).map(|n| (format!("key-{}", n % 17), format!("{n:04000}"))).collect();
    stream.put(&records).await;
    let drained = drain(&stream.consumer(), None, SliceLimits { payload_bytes_max: 40_000, ..LARGE }).await;
    assert_eq!(drained.rows().len(), 60);
    // The first page goes by a guess, the others by what came before.
    let sizes: Vec<usize> = drained.slices.iter().map(|(_, rows)| rows.len()).collect();
    assert!(sizes[0] <= 40 && sizes[1..].iter().all(|size| *size <= 11), "{sizes:?}");
}

async fn an_empty_stream_is_caught_up(place: Place) {
    let stream = place.stream(3).await;
    let source = stream.consumer();
    let drained = drain(&source, None, LARGE).await;
    assert_eq!((drained.rows().len(), drained.to.shards.len()), (0, 3));
    stream.put(&records(0, 5)).await;
    assert_eq!(drain(&source, Some(&drained.to), LARGE).await.rows().len(), 5);
}

async fn many_shards_with_few_records(place: Place) {
    let stream = place.stream(40).await;
    stream.put(&records(0, 60)).await;
    let drained = drain(&stream.consumer(), None, LARGE).await;
    assert_once_and_in_order(&drained.rows(), 60);
    assert_eq!(drained.to.shards.len(), 40);
    assert_eq!(drain(&stream.consumer(), Some(&drained.to), LARGE).await.rows().len(), 0);
}

async fn what_is_still_there_of_a_range_is_reread_in_slices(place: Place) {
    let stream = place.stream(2).await;
    stream.put(&records(0, 60)).await;
    let drained = drain(&stream.consumer(), None, LARGE).await;
    // More has come that is not of the range, and a shard has been split since.
    stream.split(0).await;
    stream.put(&records(60, 90)).await;
    let source = stream.consumer();
    let mut range = SourceRange { from: source.since(1_000).await.unwrap(), to: drained.to.clone() };
    let mut seen = Vec::new();
    while range.from.shards != range.to.shards {
        let slice = source.reread(&range, TINY).await.unwrap();
        assert!(slice.records <= TINY.records_max);
        seen.extend(rows(&slice));
        range.from = slice.to;
    }
    assert_eq!(sorted(numbers(&seen)), (0..60).collect::<Vec<_>>());
    // From an instant after all of them on, nothing is there, and nothing is lost.
    let later = SourceRange { from: source.since(i64::MAX / 2_000).await.unwrap(), to: drained.to.clone() };
    let slice = source.reread(&later, TINY).await.unwrap();
    assert_eq!((slice.records, &slice.to.shards), (0, &drained.to.shards));
    assert_eq!(source.losses(), []);
}

async fn positions_survive_being_written_down(place: Place) {
    let stream = place.stream(2).await;
    stream.put(&records(0, 40)).await;
    let first = stream.consumer().poll(None, TINY).await.unwrap();
    stream.split(0).await;
    let text = serde_json::to_string(&first.to).unwrap();
    let read: Positions = serde_json::from_str(&text).unwrap();
    assert_eq!(read, first.to);
    let rest = drain(&stream.consumer(), Some(&read), LARGE).await;
    assert_eq!(sorted(numbers(rows(&first).iter().chain(&rest.rows()))), (0..40).collect::<Vec<_>>());
}

async fn a_missing_stream_is_told(place: Place) {
    let stream = place.stream(1).await;
    let missing = KinesisSpec { stream: "nothing".into(), ..stream.spec.clone() };
    let error = KinesisSource::new(missing).poll(None, LARGE).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Source);
    assert!(error.message().contains("there is no such stream"), "{error}");
}

async fn another_stream_of_the_same_name_is_a_loss(place: Place) {
    let stream = place.stream(1).await;
    stream.put(&records(0, 20)).await;
    let drained = drain(&stream.consumer(), None, LARGE).await;
    stream.delete().await;
    next_second().await;
    stream.create(1).await;
    stream.put(&records(20, 40)).await;
    let error = error_of(&stream.consumer(), Some(&drained.to)).await;
    assert_eq!(error.kind(), ErrorKind::DataLoss);
    assert!(error.message().contains("made anew"), "{error}");
    // Nor does it go on where gaps are allowed: positions of another stream mean nothing.
    assert_eq!(error_of(&stream.going_on(), Some(&drained.to)).await.kind(), ErrorKind::DataLoss);
}

async fn a_vanished_shard_is_a_loss(place: Place) {
    let stream = place.stream(1).await;
    stream.put(&records(0, 20)).await;
    let mut drained = drain(&stream.consumer(), None, LARGE).await.to;
    drained.shards.insert(id(99), Position::After(SequenceNumber("7".into())));
    let source = stream.consumer();
    let error = error_of(&source, Some(&drained)).await;
    assert_eq!(error.kind(), ErrorKind::DataLoss);
    assert!(error.message().contains(&id(99)), "{error}");
    assert_eq!(source.losses().into_iter().map(|loss| loss.shard).collect::<Vec<_>>(), [id(99)]);
    let going_on = stream.going_on();
    stream.put(&records(20, 25)).await;
    let slice = drain_from(&going_on, &drained).await;
    assert_eq!(sorted(numbers(&slice)), (20..25).collect::<Vec<_>>());
    assert_eq!(going_on.losses().len(), 1);
}

/// Rows after positions that may name what is gone.
async fn drain_from(source: &dyn Source, from: &Positions) -> Vec<Row> {
    let mut at = from.clone();
    let mut seen = Vec::new();
    for _ in 0..ROUNDS_MAX {
        let slice = source.poll(Some(&at), LARGE).await.unwrap();
        if slice.records == 0 && slice.caught_up {
            return seen;
        }
        seen.extend(rows(&slice));
        at = slice.to;
    }
    panic!("not caught up after {ROUNDS_MAX} polls");
}

async fn a_position_that_the_stream_never_gave_is_an_error(place: Place) {
    let stream = place.stream(1).await;
    stream.put(&records(0, 20)).await;
    let mut at = drain(&stream.consumer(), None, LARGE).await.to;
    for wrong in ["1", "not a number"] {
        at.shards.insert(id(0), Position::After(SequenceNumber(wrong.into())));
        let error = error_of(&stream.consumer(), Some(&at)).await;
        assert!(matches!(error.kind(), ErrorKind::Source | ErrorKind::DataLoss), "{error}");
    }
}

async fn a_stream_can_be_named_by_its_arn(place: Place) {
    let stream = place.stream(2).await;
    let arn = stream.arn().await;
    let by_arn = || {
        let spec = KinesisSpec { stream: arn.clone(), ..stream.spec.clone() };
        stream.consumer_of(spec)
    };
    stream.put(&records(0, 30)).await;
    let first = by_arn().poll(None, TINY).await.unwrap();
    let rest = drain(&by_arn(), Some(&first.to), LARGE).await;
    let all = [rows(&first), rest.rows()].concat();
    assert_eq!(sorted(numbers(&all)), (0..30).collect::<Vec<_>>());
    assert!(all.iter().all(|row| row.stream == stream.spec.stream), "the name, not the ARN");
}

async fn nothing_is_behind_when_all_is_read(place: Place) {
    let stream = place.stream(2).await;
    stream.put(&records(0, 30)).await;
    let source = stream.consumer();
    let drained = drain(&source, None, TINY).await;
    let slice = source.poll(Some(&drained.to), LARGE).await.unwrap();
    assert_eq!(slice.behind_ms, Some(BTreeMap::new()));
}

/// Where ferrokinesis makes no stream without a number of shards.
async fn a_stream_on_demand_is_read(place: Place) {
    let stream = place.stream_on_demand().await;
    stream.put(&records(0, 100)).await;
    let drained = drain(&stream.consumer(), None, TINY).await;
    assert_once_and_in_order(&drained.rows(), 100);
    assert!(drained.to.shards.len() > 1);
}

macro_rules! conformance {
    ($($check:ident),* $(,)?) => {
        conformance!(in ferrokinesis, Place::ferrokinesis().await, [$($check)*]);
        conformance!(in ferrokinesis_fan_out, Place::ferrokinesis().await.fan_out(), [$($check)*]);
        conformance!(in kinesis_local, Place::kinesis_local(), [$($check)*]);
    };
    (in $module:ident, $place:expr, [$($check:ident)*]) => {
        mod $module {
            use super::Place;

            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $check() {
                match $place.there_for(stringify!($check)) {
                    Some(place) => super::$check(place).await,
                    None => {}
                }
            })*
        }
    };
}

conformance!(
    nothing_is_lost_or_doubled,
    a_range_gives_what_poll_gave,
    nothing_new_is_told_at_once,
    reading_resumes_in_another_process,
    reshards_lose_nothing_and_keep_parents_before_children,
    a_child_waits_for_the_end_of_its_parent,
    a_merged_shard_waits_for_both_parents,
    shards_that_were_split_again_before_they_were_read,
    ranges_across_a_reshard_are_read_again,
    a_reshard_between_two_starts_of_the_consumer,
    records_are_put_and_shards_are_split_while_it_reads,
    a_first_start_reads_what_is_there,
    latest_reads_what_comes_later,
    latest_is_an_instant_that_lasts,
    a_shard_found_later_counts_from_its_beginning,
    an_instant_reads_from_there,
    an_instant_to_come_reads_nothing_yet,
    columns_tell_where_a_record_is_from,
    bytes_are_kept_as_they_came,
    keys_of_every_kind,
    a_record_of_almost_a_mebibyte,
    compressed_payloads_are_landed_as_text,
    packed_records_come_out_whole,
    an_aggregate_in_the_wrong_shard_is_landed_as_it_came,
    slices_keep_to_their_records,
    slices_keep_to_their_bytes,
    an_empty_stream_is_caught_up,
    many_shards_with_few_records,
    what_is_still_there_of_a_range_is_reread_in_slices,
    positions_survive_being_written_down,
    a_missing_stream_is_told,
    another_stream_of_the_same_name_is_a_loss,
    a_vanished_shard_is_a_loss,
    a_position_that_the_stream_never_gave_is_an_error,
    a_stream_can_be_named_by_its_arn,
    nothing_is_behind_when_all_is_read,
);

mod kinesis_local_alone {
    use super::Place;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_stream_on_demand_is_read() {
        if let Some(place) = Place::kinesis_local().there_for("a_stream_on_demand_is_read") {
            super::a_stream_on_demand_is_read(place).await;
        }
    }
}

// It sends once a second, and some of the checks would take a minute.
conformance!(in kinesis_local_fan_out, Place::kinesis_local().fan_out(), [
    nothing_is_lost_or_doubled
    a_range_gives_what_poll_gave
    reshards_lose_nothing_and_keep_parents_before_children
    a_merged_shard_waits_for_both_parents
    ranges_across_a_reshard_are_read_again
    records_are_put_and_shards_are_split_while_it_reads
    latest_reads_what_comes_later
    an_instant_reads_from_there
    packed_records_come_out_whole
    slices_keep_to_their_records
    positions_survive_being_written_down
    another_stream_of_the_same_name_is_a_loss
]);
