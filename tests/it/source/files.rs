//! What only files have: lines that aren't complete, compression and its damage, and files that change.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use flashcommerce::epoch::{Position, Positions, SourceRange};
use flashcommerce::error::ErrorKind;
use flashcommerce::source::files::{FilesSource, RECORD_BYTES_MAX};
use flashcommerce::source::{FilesSpec, SliceLimits, Source, SourceSpec};
use proptest::prelude::*;
use tempfile::TempDir;

use super::{LARGE, Row, SHARDS, Stage, TINY, drain, rows};

/// A file for each shard, by the key's number.
pub(super) struct FilesStage {
    folder: TempDir,
}

pub(super) async fn lines_in_a_folder() -> FilesStage {
    FilesStage { folder: TempDir::new().unwrap() }
}

#[async_trait]
impl Stage for FilesStage {
    async fn put(&self, records: &[(String, String)]) {
        for (key, payload) in records {
            let shard = key["key-".len()..].parse::<usize>().unwrap() % SHARDS;
            append(&self.folder.path().join(format!("part-{shard}.jsonl")), format!("{payload}\n").as_bytes());
        }
    }

    async fn open(&self) -> Arc<dyn Source> {
        let location = self.folder.path().to_str().unwrap();
        flashcommerce::source::open(&SourceSpec::from_override(&format!("jsonl:{location}")).unwrap()).await.unwrap()
    }
}

fn append(path: &Path, bytes: &[u8]) {
    let mut file = fs::OpenOptions::new().create(true).append(true).open(path).unwrap();
    file.write_all(bytes).unwrap();
}

async fn open(path: &Path) -> FilesSource {
    FilesSource::open(&FilesSpec { location: path.to_str().unwrap().to_string() }).await.unwrap()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// Make the file look as if it had been left alone for a minute.
fn settle(path: &Path) {
    let then = std::time::SystemTime::UNIX_EPOCH
        + std::time::Duration::from_millis(chrono::Utc::now().timestamp_millis() as u64 - 60_000);
    fs::File::options().append(true).open(path).unwrap().set_modified(then).unwrap();
}

fn payloads(rows: &[Row]) -> Vec<String> {
    rows.iter().map(|row| String::from_utf8_lossy(&row.payload).into_owned()).collect()
}

async fn read_all(path: &Path, limits: SliceLimits) -> (Vec<Row>, Positions) {
    let drained = drain(&open(path).await, None, limits).await;
    (drained.rows(), drained.to)
}

#[tokio::test]
async fn lines_are_complete_and_their_columns_right() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("a.jsonl");
    fs::write(&path, b"{\"a\":1}\n\n\xff\xfe\r\n{\"a\":2}\n{\"half\"").unwrap();
    let source = open(&path).await;
    let drained = drain(&source, None, LARGE).await;
    let got = drained.rows();
    assert_eq!(
        got.iter().map(|row| row.payload.as_slice()).collect::<Vec<_>>(),
        [&b"{\"a\":1}"[..], b"\xff\xfe\r", b"{\"a\":2}"]
    );
    let modified_ms = fs::metadata(&path).unwrap().modified().unwrap().duration_since(std::time::UNIX_EPOCH).unwrap();
    let modified_ms = modified_ms.as_millis() as i64;
    assert_eq!(
        got[1],
        Row {
            stream: path.to_str().unwrap().into(),
            shard: "a.jsonl".into(),
            sequence: "00000000000000000009".into(),
            sub_sequence: 0,
            key: None,
            arrived_us: modified_ms * 1000,
            payload: b"\xff\xfe\r".to_vec(),
            error: None,
        }
    );
    assert_eq!(drained.to.shards["a.jsonl"], Position::Offset { bytes: 21, modified_ms });
    append(&path, b":3}\n");
    let rest = drain(&source, Some(&drained.to), LARGE).await;
    assert_eq!(payloads(&rest.rows()), ["{\"half\":3}"]);
}

#[tokio::test]
async fn folders_are_read_whole_and_new_files_are_found() {
    let folder = TempDir::new().unwrap();
    let in_folder = |name: &str| folder.path().join(name);
    fs::create_dir_all(in_folder("2026/11")).unwrap();
    fs::create_dir_all(in_folder("_hidden")).unwrap();
    fs::write(in_folder("2026/11/b.jsonl"), "b\n").unwrap();
    fs::write(in_folder("2026/11/with space.jsonl"), "s\n").unwrap();
    fs::write(in_folder("a"), "a\n").unwrap();
    for hidden in ["_hidden/x.jsonl", ".x.jsonl", "x.jsonl.tmp"] {
        fs::write(in_folder(hidden), "hidden\n").unwrap();
    }
    let source = open(folder.path()).await;
    let first = drain(&source, None, LARGE).await;
    assert_eq!(payloads(&first.rows()), ["b", "s", "a"]);
    assert_eq!(first.to.shards.keys().collect::<Vec<_>>(), ["2026/11/b.jsonl", "2026/11/with space.jsonl", "a"]);
    fs::write(in_folder("2026/11/a.jsonl"), "new\n").unwrap();
    fs::remove_file(in_folder("a")).unwrap();
    let second = drain(&source, Some(&first.to), LARGE).await;
    assert_eq!(payloads(&second.rows()), ["new"]);
    assert!(second.to.shards.contains_key("a"), "a file that comes back isn't read twice");

    let error = open(&in_folder("nothing")).await.poll(None, LARGE).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Source);
    assert!(error.message().contains("nothing") && error.hint().is_some(), "{error}");
}

#[tokio::test]
async fn compressed_files_give_the_same_lines_and_end() {
    let folder = TempDir::new().unwrap();
    let lines: Vec<String> = (0..30_000).map(|n| format!("{{\"n\":{n},\"pad\":\"{}\"}}", "y".repeat(n % 90))).collect();
    let text = lines.join("\n");
    let (first, second) = text.as_bytes().split_at(text.len() / 2);
    fs::write(folder.path().join("a.jsonl.gz"), [gzip(first), gzip(second)].concat()).unwrap();
    fs::write(folder.path().join("b.jsonl.zst"), zstd::encode_all(text.as_bytes(), 1).unwrap()).unwrap();
    fs::write(folder.path().join("c-without-ending"), gzip(text.as_bytes())).unwrap();
    for limits in [LARGE, SliceLimits { records_max: 997, ..LARGE }] {
        let drained = drain(&open(folder.path()).await, None, limits).await;
        let got = drained.rows();
        let expected: Vec<String> = (0..3).flat_map(|_| lines.clone()).collect();
        assert!(payloads(&got) == expected, "the last line ends with the file");
        assert!(drained.to.shards.values().all(|at| *at == Position::End));
        assert_eq!(got[1].sequence, format!("{:020}", lines[0].len() + 1));
        // Restarted in the middle of a file, and read again.
        let (range, rows_then) = &drained.slices[drained.slices.len() / 2];
        assert!(rows(&open(folder.path()).await.read(range).await.unwrap()) == *rows_then);
        let resumed = drain(&open(folder.path()).await, Some(&range.to), limits).await;
        let after: usize = drained.slices[drained.slices.len() / 2 + 1..].iter().map(|(_, rows)| rows.len()).sum();
        assert_eq!(resumed.rows().len(), after);
    }
}

#[tokio::test]
async fn damage_gives_what_is_before_it_and_one_row_with_the_reason() {
    let folder = TempDir::new().unwrap();
    let text: String = (0..20_000).map(|n| format!("{{\"n\":{n},\"h\":{}}}\n", n * 7919 % 104_729)).collect();
    let whole = gzip(text.as_bytes());
    let mut garbled = whole.clone();
    let middle = garbled.len() / 2;
    garbled[middle..middle + 64].fill(0xff);
    let zstd_whole = zstd::encode_all(text.as_bytes(), 1).unwrap();
    for (name, bytes) in [
        ("cut.gz", &whole[..whole.len() / 2]),
        ("garbled.gz", &garbled),
        ("tail.gz", &[&whole[..], b"garbage"].concat()),
        ("cut.zst", &zstd_whole[..zstd_whole.len() / 2]),
        ("not.gz", b"{\"plain\":1}\n"),
        ("empty.gz", b""),
    ] {
        let path = folder.path().join(name);
        fs::write(&path, bytes).unwrap();
        settle(&path);
        for limits in [LARGE, SliceLimits { records_max: 1000, ..LARGE }] {
            let drained = drain(&open(&path).await, None, limits).await;
            let got = drained.rows();
            let (last, before) = got.split_last().unwrap();
            let error = last.error.as_deref().unwrap();
            assert!(error.contains(name) && error.contains("offset"), "{error}");
            assert!(before.iter().all(|row| row.error.is_none()));
            if !name.starts_with("garbled") {
                let lines = payloads(before).iter().map(|line| format!("{line}\n")).collect::<String>();
                assert!(text.starts_with(&lines), "{name}: what comes before the damage");
                let expected = if name == "tail.gz" { 20_000 } else { 0 };
                assert!(before.len() >= expected, "{name}: {} lines", before.len());
            }
            assert!(name == "not.gz" || name == "empty.gz" || before.len() > 5_000, "{name}: {} lines", before.len());
            assert_eq!(drained.to.shards[name], Position::End);
            for (range, rows_then) in &drained.slices {
                assert!(rows(&open(&path).await.read(range).await.unwrap()) == *rows_then, "{name}: the same again");
            }
        }
    }
}

#[tokio::test]
async fn a_compressed_file_that_is_being_written_is_waited_for() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("a.gz");
    let text: String = (0..20_000).map(|n| format!("{{\"n\":{n}}}\n")).collect();
    let whole = gzip(text.as_bytes());
    fs::write(&path, &whole[..whole.len() / 2]).unwrap();
    let source = open(&path).await;
    let first = source.poll(None, LARGE).await.unwrap();
    assert!(first.records > 0 && !first.caught_up);
    assert!(rows(&first).iter().all(|row| row.error.is_none()));
    append(&path, &whole[whole.len() / 2..]);
    let mut rest = Vec::new();
    let mut at = first.to.clone();
    super::kinesis::eventually("the file is read to its end", async || {
        let slice = source.poll(Some(&at), LARGE).await.unwrap();
        rest.extend(rows(&slice));
        at = slice.to;
        at.shards["a.gz"] == Position::End
    })
    .await;
    let lines = payloads(&[rows(&first), rest].concat());
    assert!(lines.iter().map(|line| format!("{line}\n")).collect::<String>() == text);
}

#[tokio::test]
async fn files_that_shrank_are_a_loss() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("a.jsonl");
    fs::write(&path, "one\ntwo\nthree\n").unwrap();
    let source = open(&path).await;
    let drained = drain(&source, None, LARGE).await;
    fs::write(&path, "one\n").unwrap();
    for source in [&source, &open(&path).await] {
        let error = source.poll(Some(&drained.to), LARGE).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::DataLoss);
        assert!(error.message().contains("a.jsonl") && error.hint().is_some(), "{error}");
        assert_eq!(source.read(&drained.slices[0].0).await.unwrap_err().kind(), ErrorKind::DataLoss);
    }
    fs::remove_file(&path).unwrap();
    fs::write(folder.path().join("b.jsonl"), "b\n").unwrap();
    let gone = SourceRange { from: Positions::default(), to: drained.to };
    assert_eq!(open(folder.path()).await.read(&gone).await.unwrap_err().kind(), ErrorKind::DataLoss);
}

#[tokio::test]
async fn a_line_beyond_the_limit_is_landed_with_its_reason() {
    let folder = TempDir::new().unwrap();
    let long = "z".repeat(RECORD_BYTES_MAX + 5_000_000);
    let text = format!("first\n{long}\nlast\n");
    fs::write(folder.path().join("a.jsonl"), &text).unwrap();
    fs::write(folder.path().join("b.zst"), zstd::encode_all(text.as_bytes(), 1).unwrap()).unwrap();
    for limits in [LARGE, SliceLimits { records_max: 1, ..LARGE }] {
        let (got, to) = read_all(folder.path(), limits).await;
        assert_eq!(got.len(), 6);
        for of_file in got.chunks(3) {
            assert_eq!((of_file[0].payload.as_slice(), of_file[2].payload.as_slice()), (&b"first"[..], &b"last"[..]));
            assert_eq!(of_file[1].payload.len(), RECORD_BYTES_MAX);
            let error = of_file[1].error.as_deref().unwrap();
            assert!(error.contains(&format!("{} bytes at offset 6", long.len() + 1)), "{error}");
        }
        assert!(matches!(to.shards["a.jsonl"], Position::Offset { bytes, .. } if bytes == text.len() as u64));
    }
    // Still being written: not landed before it is complete.
    fs::write(folder.path().join("a.jsonl"), format!("first\n{long}")).unwrap();
    let (got, _) = read_all(&folder.path().join("a.jsonl"), LARGE).await;
    assert_eq!(got.len(), 1);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    /// Whatever the lengths of the lines, the moments of the appends and the limits of the polls: what was polled,
    /// put together, is the file.
    #[test]
    fn polls_put_together_are_the_file(
        appends in prop::collection::vec(prop::collection::vec(prop_oneof![
            8 => "[a-z]{0,40}\n",
            2 => "[a-z]{1,9}",
            1 => Just("\n".to_string()),
            1 => "[a-z]{2000,4000}\n",
        ], 0..40), 1..6),
        limits in prop::collection::vec((1usize..50, 1usize..5000), 1..8),
        restart in any::<bool>(),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let folder = TempDir::new().unwrap();
            let path = folder.path().join("a.jsonl");
            let (mut written, mut got, mut at) = (String::new(), Vec::new(), None::<Positions>);
            let mut limits = limits.iter().cycle();
            let mut source = open(folder.path()).await;
            for part in appends.iter().map(|parts| parts.concat()) {
                append(&path, part.as_bytes());
                written += &part;
                loop {
                    let (records_max, payload_bytes_max) = *limits.next().unwrap();
                    let slice = source.poll(at.as_ref(), SliceLimits { records_max, payload_bytes_max }).await.unwrap();
                    prop_assert!(slice.records <= records_max);
                    prop_assert!(slice.payload_bytes <= payload_bytes_max || slice.records == 1);
                    got.extend(rows(&slice));
                    at = Some(slice.to);
                    if restart {
                        source = open(folder.path()).await;
                    }
                    if slice.caught_up {
                        break;
                    }
                    prop_assert!(slice.records > 0, "a poll that isn't caught up moves");
                }
            }
            let complete = written.rfind('\n').map_or("", |end| &written[..end]);
            let expected: Vec<&str> = complete.split('\n').filter(|line| !line.is_empty()).collect();
            prop_assert_eq!(payloads(&got), expected);
            for row in &got {
                let start: usize = row.sequence.parse().unwrap();
                prop_assert_eq!(&written.as_bytes()[start..start + row.payload.len()], row.payload.as_slice());
            }
            Ok(())
        })?;
    }
}

#[tokio::test]
async fn limits_hold_across_files() {
    let folder = TempDir::new().unwrap();
    for n in 0..20 {
        fs::write(folder.path().join(format!("{n:02}.jsonl")), "one\ntwo\n").unwrap();
    }
    let (got, to) = read_all(folder.path(), TINY).await;
    assert_eq!((got.len(), to.shards.len()), (40, 20));
    assert!(payloads(&got).chunks(2).all(|pair| pair == ["one", "two"]));
}
