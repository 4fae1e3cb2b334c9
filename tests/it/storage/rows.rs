//! Rows go in and come back.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, BinaryArray, BooleanArray, Date32Array, Decimal128Array, DictionaryArray, Float32Array,
    Float64Array, Int8Array, Int16Array, Int32Array, Int64Array, ListArray, RecordBatch, StringArray, StringViewArray,
    StructArray, TimestampMicrosecondArray, TimestampNanosecondArray, UInt32Array,
};
use arrow::datatypes::{DataType, Field, Int32Type, Schema, TimeUnit};
use datafusion::physical_plan::collect;
use datafusion::physical_plan::display::DisplayableExecutionPlan;
use flashcommerce::error::ErrorKind;
use flashcommerce::storage::schema::lake_schema;
use flashcommerce::storage::{DeltaStorage, Storage, StorageOptions};
use object_store::ObjectStoreExt;

use super::lake::{Store, append, open, open_with, query, rows, schema, session, stage, value, write};

pub(super) async fn creation_is_idempotent(store: Store) {
    let lake = open(&store);
    let made = lake.create("a/t", &schema(), &["k".into()], Some("rows \"and\" words")).await.unwrap();
    assert_eq!((made.version, made.epoch, made.rows()), (0, 0, 0));
    assert_eq!(made.schema, schema());
    append(&lake, "a/t", Some(1), &[rows(Some("x"), 0..3)]).await;
    for lake in [lake, open(&store)] {
        let found = lake.create("a/t", &schema(), &["k".into()], None).await.unwrap();
        assert_eq!((found.version, found.partitioned_by.as_slice()), (1, &["k".to_string()][..]));
        let other = Arc::new(Schema::new(vec![Field::new("k", DataType::Utf8, true)]));
        for (schema, keys) in [(other, vec![]), (schema(), vec![])] {
            let error = lake.create("a/t", &schema, &keys, None).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Definition, "{error}");
        }
        let error = lake.snapshot("a/none", None).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
    }
    let log = store.get(&"a/t/_delta_log/00000000000000000000.json".into()).await.unwrap().bytes().await.unwrap();
    let log = String::from_utf8(log.to_vec()).unwrap();
    assert!(log.contains(r#""minReaderVersion":1"#) && log.contains(r#""minWriterVersion":2"#), "{log}");
    assert!(log.contains(r#""description":"rows \"and\" words""#), "{log}");
}

/// Three rows of every type that the lake takes: ordinary, extreme, NULL.
fn every_type() -> RecordBatch {
    let at = [Some(1_700_000_000_123_456), Some(-1), None];
    let items = Field::new("item", DataType::Int64, true);
    let list = ListArray::from_iter_primitive::<arrow::datatypes::Int64Type, _, _>([
        Some(vec![Some(1), None]),
        Some(vec![]),
        None,
    ]);
    assert_eq!(list.data_type(), &DataType::List(Arc::new(items)));
    let inner: ArrayRef = Arc::new(StringArray::from(vec![Some("in"), None, None]));
    let structs = StructArray::from(vec![(Arc::new(Field::new("s", DataType::Utf8, true)), inner)]);
    let decimals = Decimal128Array::from(vec![Some(-12_345), Some(99_999_999_999_999_999), None]);
    let words: DictionaryArray<Int32Type> = vec![Some("aa"), Some(""), None].into_iter().collect();
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("id", Arc::new(Int64Array::from(vec![1, 2, 3]))),
        ("bool", Arc::new(BooleanArray::from(vec![Some(true), Some(false), None]))),
        ("i8", Arc::new(Int8Array::from(vec![Some(i8::MIN), Some(i8::MAX), None]))),
        ("i16", Arc::new(Int16Array::from(vec![Some(i16::MIN), Some(i16::MAX), None]))),
        ("i32", Arc::new(Int32Array::from(vec![Some(i32::MIN), Some(i32::MAX), None]))),
        ("i64", Arc::new(Int64Array::from(vec![Some(i64::MIN), Some(i64::MAX), None]))),
        ("u32", Arc::new(UInt32Array::from(vec![Some(0), Some(u32::MAX), None]))),
        ("f32", Arc::new(Float32Array::from(vec![Some(-1.5), Some(f32::MAX), None]))),
        ("f64", Arc::new(Float64Array::from(vec![Some(f64::NEG_INFINITY), Some(0.1), None]))),
        ("utf8", Arc::new(StringArray::from(vec![Some("naïve ₹"), Some("z".repeat(100).as_str()), None]))),
        ("view", Arc::new(StringViewArray::from(vec![Some("short"), Some("longer than twelve bytes"), None]))),
        ("word", Arc::new(words)),
        ("bytes", Arc::new(BinaryArray::from(vec![Some(&b"\x00\xff"[..]), Some(b""), None]))),
        ("day", Arc::new(Date32Array::from(vec![Some(20_000), Some(-1), None]))),
        ("dec", Arc::new(decimals.with_precision_and_scale(18, 2).unwrap())),
        ("instant", Arc::new(TimestampMicrosecondArray::from(at.to_vec()).with_timezone("Asia/Kolkata"))),
        ("wall", Arc::new(TimestampMicrosecondArray::from(at.to_vec()))),
        ("nanos", Arc::new(TimestampNanosecondArray::from(vec![Some(1_700_000_000_123_456_789), Some(0), None]))),
        ("list", Arc::new(list)),
        ("struct", Arc::new(structs)),
    ];
    RecordBatch::try_from_iter(columns).unwrap()
}

pub(super) async fn every_type_comes_back(store: Store) {
    let given = every_type();
    let lake = open(&store);
    let made = lake.create("t", &given.schema(), &[], None).await.unwrap();
    assert_eq!(made.schema, lake_schema(&given.schema()).unwrap());
    assert_eq!(
        made.schema.field_with_name("wall").unwrap().data_type(),
        &DataType::Timestamp(TimeUnit::Microsecond, None)
    );
    append(&lake, "t", Some(1), std::slice::from_ref(&given)).await;
    for lake in [lake, open(&store)] {
        let snapshot = lake.snapshot("t", None).await.unwrap();
        assert_eq!(snapshot.schema, made.schema);
        let read = session(&lake, &snapshot).sql("SELECT * FROM t ORDER BY id").await.unwrap().collect().await.unwrap();
        let read = arrow::compute::concat_batches(&read[0].schema(), &read).unwrap();
        assert_eq!(read.num_rows(), 3);
        for (column, field) in made.schema.fields().iter().enumerate() {
            let expected = arrow::compute::cast(given.column(column), field.data_type()).unwrap();
            assert_eq!(read.column(column).as_ref(), expected.as_ref(), "column {}", field.name());
        }
        // Filters on each side of every bound find the row that is there.
        for filter in [
            "wall = TIMESTAMP '2023-11-14 22:13:20.123456'",
            "instant = TIMESTAMP '2023-11-14T22:13:20.123456Z'",
            "i64 = -9223372036854775808",
            "f64 < -1e300",
            "utf8 = 'naïve ₹'",
            "dec = -123.45",
            "day = DATE '2024-10-04'",
            "bool",
            "word = 'aa'",
        ] {
            let found = query(&lake, &snapshot, &format!("SELECT id FROM t WHERE {filter}")).await;
            assert_eq!(found, ["1"], "{filter}");
        }
    }
}

pub(super) async fn partitions_come_back(store: Store) {
    let lake = open(&store);
    let keys = [Some("S01"), Some("a b/ü%=_"), None];
    let schema = Arc::new(Schema::new(vec![
        Field::new("k", DataType::Utf8, true),
        Field::new("n", DataType::Int64, true),
        Field::new("d", DataType::Date32, true),
        Field::new("at", DataType::Timestamp(TimeUnit::Microsecond, None), true),
    ]));
    lake.create("t", &schema, &["d".into(), "k".into()], None).await.unwrap();
    let numbers: Vec<i64> = (0..60).collect();
    let names: Vec<Option<&str>> = numbers.iter().map(|n| keys[(n % 3) as usize]).collect();
    let days: Vec<Option<i32>> = numbers.iter().map(|n| (n % 2 == 0).then_some(19_000)).collect();
    let columns: Vec<ArrayRef> = vec![
        Arc::new(StringArray::from(names)),
        Arc::new(Int64Array::from(numbers.clone())),
        Arc::new(Date32Array::from(days)),
        Arc::new(TimestampMicrosecondArray::from(numbers)),
    ];
    append(&lake, "t", Some(1), &[RecordBatch::try_new(schema, columns).unwrap()]).await;
    for lake in [lake, open(&store)] {
        let snapshot = lake.snapshot("t", None).await.unwrap();
        assert_eq!(snapshot.files.len(), 6);
        assert!(snapshot.files.iter().all(|file| file.path.is_ascii() && file.rows == 10));
        let answer = query(&lake, &snapshot, "SELECT k, d, count(*), sum(n) FROM t GROUP BY k, d ORDER BY k, d").await;
        assert_eq!(
            answer,
            [
                "S01,2022-01-08,10,270",
                "S01,,10,300",
                "a b/ü%=_,2022-01-08,10,310",
                "a b/ü%=_,,10,280",
                ",2022-01-08,10,290",
                ",,10,320",
            ]
        );
        for (filter, count) in [
            ("k IS NULL", 20),
            ("k = 'a b/ü%=_' AND d IS NULL", 10),
            ("k <> 'S01'", 20),
            ("d >= DATE '2022-01-08' AND n < 3", 2),
            ("upper(k) = 'S01' OR k IS NULL", 40),
            ("k IN ('S01', 'nobody')", 20),
        ] {
            let found = query(&lake, &snapshot, &format!("SELECT count(*) FROM t WHERE {filter}")).await;
            assert_eq!(found, [count.to_string()], "{filter}");
        }
        let answer = query(&lake, &snapshot, "SELECT count(k), count(d), max(d), max(at) FROM t").await;
        assert_eq!(answer, ["40,30,2022-01-08,1970-01-01T00:00:00.000059"]);
        let columns = query(&lake, &snapshot, "SELECT at, d, k, n FROM t WHERE n = 4").await;
        assert_eq!(columns, ["1970-01-01T00:00:00.000004,2022-01-08,a b/ü%=_,4"]);
    }
}

/// Files and rows that a query reads.
async fn read_by(lake: &DeltaStorage, sql: &str) -> (usize, usize) {
    let snapshot = lake.snapshot("t", None).await.unwrap();
    let session = session(lake, &snapshot);
    let plan = session.sql(sql).await.unwrap().create_physical_plan().await.unwrap();
    let shown = DisplayableExecutionPlan::new(plan.as_ref()).indent(true).to_string();
    let files = shown.matches(".parquet").count();
    let batches = collect(plan, session.task_ctx()).await.unwrap();
    (files, batches.iter().map(RecordBatch::num_rows).sum())
}

pub(super) async fn a_query_reads_only_files_that_may_match(store: Store) {
    let lake = open(&store);
    lake.create("t", &schema(), &["k".into()], None).await.unwrap();
    for epoch in 1..=4 {
        let from = epoch as i64 * 100;
        let batches = [rows(Some("a"), from..from + 10), rows(Some("b"), from..from + 10), rows(None, from..from + 10)];
        append(&lake, "t", Some(epoch), &batches).await;
    }
    for lake in [lake, open(&store)] {
        assert_eq!(read_by(&lake, "SELECT * FROM t").await, (12, 120));
        assert_eq!(read_by(&lake, "SELECT * FROM t WHERE n = 205").await, (3, 3));
        assert_eq!(read_by(&lake, "SELECT * FROM t WHERE n = 250").await, (0, 0));
        assert_eq!(read_by(&lake, "SELECT * FROM t WHERE k = 'b' AND n >= 300").await, (2, 20));
        assert_eq!(read_by(&lake, "SELECT * FROM t WHERE k = 'b' OR n >= 405").await, (6, 50));
        assert_eq!(read_by(&lake, "SELECT * FROM t WHERE n IS NULL").await, (0, 0));
    }
}

pub(super) async fn counts_and_bounds_come_from_statistics(store: Store) {
    let lake = open(&store);
    lake.create("t", &schema(), &[], None).await.unwrap();
    append(&lake, "t", Some(1), &[rows(Some("a"), 0..1000)]).await;
    append(&lake, "t", Some(2), &[rows(None, 1000..1500)]).await;
    for lake in [lake, open(&store)] {
        let sql = "SELECT count(*), min(n), max(n), count(k) FROM t";
        let (files, _) = read_by(&lake, sql).await;
        assert_eq!(files, 0);
        assert_eq!(value(&lake, "t", sql).await, "1500,0,1499,1000");
        let sql = "SELECT min(k), max(k) FROM t";
        assert_eq!(value(&lake, "t", sql).await, "a,a");
    }
}

pub(super) async fn a_nan_is_found(store: Store) {
    let lake = open(&store);
    let schema = Arc::new(Schema::new(vec![Field::new("f", DataType::Float64, true)]));
    lake.create("t", &schema, &[], None).await.unwrap();
    let column: ArrayRef = Arc::new(Float64Array::from(vec![Some(1.0), Some(f64::NAN), None]));
    append(&lake, "t", Some(1), &[RecordBatch::try_new(schema, vec![column]).unwrap()]).await;
    for lake in [lake, open(&store)] {
        assert_eq!(value(&lake, "t", "SELECT count(*) FROM t WHERE f > 5").await, "1");
        assert_eq!(value(&lake, "t", "SELECT count(*) FROM t WHERE f IS NULL").await, "1");
    }
}

pub(super) async fn a_column_that_was_added_later_is_null(store: Store) {
    let lake = open(&store);
    lake.create("t", &schema(), &[], None).await.unwrap();
    append(&lake, "t", Some(1), &[rows(Some("a"), 0..3)]).await;
    // Another writer adds a column, as `ALTER TABLE … ADD COLUMN` does.
    let entry = |version: u64| object_store::path::Path::from(format!("t/_delta_log/{version:020}.json"));
    let log = store.get(&entry(0)).await.unwrap().bytes().await.unwrap();
    let log = String::from_utf8(log.to_vec()).unwrap();
    let line = log.lines().find(|line| line.contains("metaData")).unwrap();
    let added = line.replace(
        r#"\"fields\":["#,
        r#"\"fields\":[{\"name\":\"x\",\"type\":\"double\",\"nullable\":true,\"metadata\":{}},"#,
    );
    assert_ne!(added, line);
    store.put(&entry(2), added.into()).await.unwrap();
    for lake in [lake, open(&store)] {
        let snapshot = lake.snapshot("t", None).await.unwrap();
        assert_eq!((snapshot.version, snapshot.schema.fields().len()), (2, 3));
        assert_eq!(query(&lake, &snapshot, "SELECT x, n FROM t WHERE x IS NULL AND n > 1").await, [",2"]);
        assert_eq!(query(&lake, &snapshot, "SELECT count(x), count(*) FROM t").await, ["0,3"]);
    }
}

pub(super) async fn long_files_are_cut(store: Store) {
    let lake = open_with(&store, StorageOptions { file_rows_max: 100, ..StorageOptions::default() });
    lake.create("t", &schema(), &["k".into()], None).await.unwrap();
    let files = stage(&lake, "t", 1, &[rows(Some("a"), 0..250), rows(Some("b"), 0..100)]).await;
    let mut found: Vec<u64> = files.iter().map(|file| file.rows).collect();
    found.sort_unstable();
    assert_eq!(found, [50, 100, 100, 100]);
    assert_eq!(lake.snapshot("t", None).await.unwrap().rows(), 0);
    lake.commit("t", flashcommerce::storage::Commit { epoch: Some(1), add: files, ..write() }).await.unwrap();
    assert_eq!(value(&lake, "t", "SELECT sum(n) FROM t WHERE k = 'a'").await, (250 * 249 / 2).to_string());
    // Staging nothing makes no file.
    assert!(stage(&lake, "t", 2, &[rows(None, 0..0)]).await.is_empty());
}
