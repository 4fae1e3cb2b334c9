//! What consumers give, read to its end and judged.

use flashcommerce::epoch::{Positions, SourceRange};
use flashcommerce::error::{Error, ErrorKind};
use flashcommerce::source::{SliceLimits, Source};

use super::super::{LARGE, Row, rows};

/// Polls after which a drain that doesn't end has failed.
pub(super) const ROUNDS_MAX: usize = 10_000;

pub(super) fn id(shard: usize) -> String {
    format!("shardId-{shard:012}")
}

/// The numbers in the payloads of `records`, in the order of the rows.
pub(super) fn numbers<'a>(rows: impl IntoIterator<Item = &'a Row>) -> Vec<usize> {
    let number = |row: &Row| String::from_utf8_lossy(&row.payload)[5..].split(',').next().unwrap().parse().unwrap();
    rows.into_iter().map(number).collect()
}

pub(super) fn sorted(mut numbers: Vec<usize>) -> Vec<usize> {
    numbers.sort_unstable();
    numbers
}

/// Once each, and those of a key in the order in which they were put.
pub(super) fn assert_once_and_in_order(rows: &[Row], put: usize) {
    assert_eq!(sorted(numbers(rows)), (0..put).collect::<Vec<_>>());
    for key in 0..17 {
        let of_key = rows.iter().filter(|row| row.key == Some(format!("key-{key}")));
        let expected: Vec<usize> = (0..put).filter(|n| n % 17 == key).collect();
        assert_eq!(numbers(of_key), expected, "key-{key}");
    }
}

/// Every row of one shard before every row of another.
pub(super) fn assert_before(rows: &[Row], first: usize, then: usize) {
    let last = rows.iter().rposition(|row| row.shard == id(first)).unwrap();
    let begins = rows.iter().position(|row| row.shard == id(then)).unwrap();
    assert!(last < begins, "{} ends at {last}, {} begins at {begins}", id(first), id(then));
}

/// Ranges and rows until nothing is left; limits are of the stream's records, not of rows.
pub(super) async fn drain_packed(source: &dyn Source, limits: SliceLimits) -> Vec<(SourceRange, Vec<Row>)> {
    let mut at = source.start().await.unwrap();
    let mut drained = Vec::new();
    for _ in 0..ROUNDS_MAX {
        let slice = source.poll(Some(&at), limits).await.unwrap();
        if slice.records == 0 && slice.caught_up {
            return drained;
        }
        let range = SourceRange { from: at, to: slice.to.clone() };
        at = slice.to.clone();
        if slice.records > 0 {
            drained.push((range, rows(&slice)));
        }
    }
    panic!("not caught up after {ROUNDS_MAX} polls");
}

pub(super) async fn error_of(source: &dyn Source, from: Option<&Positions>) -> Error {
    for _ in 0..ROUNDS_MAX {
        match source.poll(from, LARGE).await {
            Err(error) if error.kind() == ErrorKind::Transient => {}
            Err(error) => return error,
            Ok(slice) => assert!(!slice.caught_up, "no error: {:?}", slice.to),
        }
    }
    panic!("neither an error nor an end");
}
