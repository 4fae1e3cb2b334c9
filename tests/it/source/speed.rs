//! Measurements, by hand: `cargo test --release --test it -- --ignored --nocapture source::speed`.

use std::io::Write;
use std::time::Instant;

use flashcommerce::source::embedded::{EmbeddedKinesis, EmbeddedOptions};
use flashcommerce::source::files::FilesSource;
use flashcommerce::source::producer::Producer;
use flashcommerce::source::{FilesSpec, SliceLimits, Source};
use tempfile::TempDir;

const LIMITS: SliceLimits = SliceLimits { records_max: 250_000, payload_bytes_max: 64 << 20 };

fn line(n: usize) -> String {
    format!("{{\"event_id\":\"{n:032}\",\"n\":{n},\"text\":\"{}\"}}", "x".repeat(300 + n % 40))
}

/// Seconds of processor time of this process so far: what a busy machine doesn't change.
fn cpu_s() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    fields[11..13].iter().map(|ticks| ticks.parse::<f64>().unwrap() / 100.0).sum()
}

struct Watch(Instant, f64);

impl Watch {
    fn start() -> Self {
        Self(Instant::now(), cpu_s())
    }

    fn report(&self, what: &str, records: usize, bytes: usize) {
        for (clock, seconds) in [("wall", self.0.elapsed().as_secs_f64()), ("cpu", cpu_s() - self.1)] {
            let (rate, megabytes) = (records as f64 / seconds, bytes as f64 / 1e6 / seconds);
            println!("{what:30} {clock:4} {seconds:6.2} s {rate:9.0} records/s {megabytes:6.0} MB/s");
        }
    }
}

async fn drain(source: &dyn Source, land: bool) -> (usize, usize) {
    let (mut records, mut bytes, mut at) = (0, 0, None);
    loop {
        let slice = source.poll(at.as_ref(), LIMITS).await.unwrap();
        records += slice.records;
        bytes += slice.payload_bytes;
        if land {
            source.landed(&slice.to).await.unwrap();
        }
        at = Some(slice.to);
        if slice.caught_up && slice.records == 0 {
            return (records, bytes);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "measures"]
async fn files() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("events.jsonl");
    let mut file = std::io::BufWriter::new(std::fs::File::create(&path).unwrap());
    for n in 0..2_000_000 {
        writeln!(file, "{}", line(n)).unwrap();
    }
    file.flush().unwrap();
    for _ in 0..3 {
        let source = FilesSource::new(&FilesSpec { location: path.to_str().unwrap().into() }).unwrap();
        let watch = Watch::start();
        let (records, bytes) = drain(&source, false).await;
        watch.report("plain", records, bytes);
    }
    let text = std::fs::read(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&text).unwrap();
    for (name, packed) in [("a.gz", gzip.finish().unwrap()), ("a.zst", zstd::encode_all(&text[..], 1).unwrap())] {
        let path = folder.path().join(name);
        std::fs::write(&path, packed).unwrap();
        let source = FilesSource::new(&FilesSpec { location: path.to_str().unwrap().into() }).unwrap();
        let watch = Watch::start();
        let (records, bytes) = drain(&source, false).await;
        watch.report(name, records, bytes);
        std::fs::remove_file(&path).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "measures"]
async fn embedded() {
    let stream = EmbeddedKinesis::start(EmbeddedOptions::default()).await.unwrap();
    let producer = Producer::embedded(&stream).await.unwrap();
    let put: Vec<_> = (0..400_000).map(|n| (format!("key-{}", n % 997), line(n).into())).collect();
    let watch = Watch::start();
    let counts = producer.put_all(futures::stream::iter(put.clone())).await.unwrap();
    watch.report("put", counts.put as usize, 380 * counts.put as usize);
    let watch = Watch::start();
    let (records, bytes) = drain(stream.source().as_ref(), false).await;
    watch.report("get", records, bytes);
    let watch = Watch::start();
    let (records, bytes) = drain(stream.source().as_ref(), true).await;
    watch.report("get and trim", records, bytes);
    assert_eq!(stream.retained_records(), 0);
    let watch = Watch::start();
    let source = stream.source();
    let both = tokio::join!(producer.put_all(futures::stream::iter(put)), async {
        let (mut records, mut at) = (0, None);
        while records < 400_000 {
            let slice = source.poll(at.as_ref(), LIMITS).await.unwrap();
            records += slice.records;
            source.landed(&slice.to).await.unwrap();
            at = Some(slice.to);
        }
        records
    });
    watch.report("put, get and trim at once", both.1, 380 * both.1);
}
