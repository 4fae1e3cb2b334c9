//! Parameters of prepared statements, over a lake: what is told of them, what is taken, what is refused.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, Float64Array, Int32Array, Int64Array, NullArray, StringArray, TimestampMillisecondArray, UnionArray,
};
use arrow::datatypes::{DataType, Field, TimeUnit, UnionFields};
use arrow::record_batch::RecordBatch;
use tonic::{Code, Status};

use super::{Client, LakeServer, column, status};

const TABLE: &str = "CREATE TABLE shop.sales (id BIGINT, city VARCHAR, price DECIMAL(12, 2), at TIMESTAMP, day DATE)";

async fn server() -> LakeServer {
    let server = LakeServer::start(&[TABLE]).await;
    let rows = "INSERT INTO shop.sales VALUES (1, 'Pune', 1.50, '2026-01-01T00:00:00.001', '2026-01-01'), \
                (2, 'Delhi', 2.50, '2026-01-02T00:00:00', '2026-01-02'), (3, NULL, NULL, NULL, NULL)";
    server.lake.query(rows).await;
    server
}

fn values(columns: Vec<ArrayRef>) -> RecordBatch {
    let named = columns.into_iter().enumerate().map(|(index, column)| (format!("{}", index + 1), column, true));
    RecordBatch::try_from_iter_with_nullable(named).unwrap()
}

fn texts(values: &[&str]) -> ArrayRef {
    Arc::new(StringArray::from(values.to_vec()))
}

fn numbers(values: &[i64]) -> ArrayRef {
    Arc::new(Int64Array::from(values.to_vec()))
}

async fn told(client: &mut Client, sql: &str) -> Result<Vec<DataType>, Status> {
    let prepared = client.0.prepare(sql.into(), None).await.map_err(status)?;
    let fields = prepared.parameter_schema().unwrap().fields().clone();
    for (index, field) in fields.iter().enumerate() {
        assert_eq!((field.name(), field.is_nullable()), (&format!("${}", index + 1), true), "{sql}");
    }
    Ok(fields.iter().map(|field| field.data_type().clone()).collect())
}

async fn rows(client: &mut Client, sql: &str, bound: RecordBatch) -> Result<Vec<RecordBatch>, Status> {
    let mut prepared = client.0.prepare(sql.into(), None).await.map_err(status)?;
    prepared.set_parameters(bound).unwrap();
    let promised = prepared.dataset_schema().unwrap().clone();
    let info = prepared.execute().await.map_err(status)?;
    assert_eq!(info.clone().try_decode_schema().unwrap(), promised, "{sql}");
    client.fetch(info).await
}

async fn update(client: &mut Client, sql: &str, bound: RecordBatch) -> Result<i64, Status> {
    let mut prepared = client.0.prepare(sql.into(), None).await.map_err(status)?;
    prepared.set_parameters(bound).unwrap();
    prepared.execute_update().await.map_err(status)
}

#[tokio::test]
async fn types_are_told_from_where_parameters_stand() {
    let server = server().await;
    let mut client = server.client().await;
    let at = DataType::Timestamp(TimeUnit::Millisecond, None);
    let decimal = DataType::Decimal128(12, 2);
    use DataType::{Date32, Int32, Int64, Utf8};
    for (sql, expected) in [
        ("SELECT id FROM shop.sales WHERE city = ? AND price > ?", vec![Utf8, decimal.clone()]),
        ("SELECT id FROM shop.sales WHERE at >= $1 AND day BETWEEN $2 AND $3", vec![at.clone(), Date32, Date32]),
        ("SELECT CAST(? AS INT), ?", vec![Int32, Utf8]),
        ("SELECT $2, id FROM shop.sales WHERE id IN ($1, $3)", vec![Int64, Utf8, Int64]),
        ("SELECT id FROM shop.sales ORDER BY id LIMIT ? OFFSET ?", vec![Int64, Int64]),
        ("SELECT id FROM shop.sales WHERE id = (SELECT max(id) FROM shop.sales WHERE day < ?)", vec![Date32]),
        ("SELECT coalesce(?, id) FROM shop.sales", vec![Int64]),
        ("INSERT INTO shop.sales VALUES (?, ?, ?, ?, ?)", vec![Int64, Utf8, decimal.clone(), at.clone(), Date32]),
        ("INSERT INTO shop.sales (price, id) VALUES (?, ?)", vec![decimal.clone(), Int64]),
        ("UPDATE shop.sales SET price = ?, at = ? WHERE id = ?", vec![decimal.clone(), at, Int64]),
        ("DELETE FROM shop.sales WHERE city LIKE ?", vec![Utf8]),
        (
            "MERGE INTO shop.sales AS t USING (SELECT CAST(? AS BIGINT) AS id) AS s ON t.id = s.id \
             WHEN MATCHED AND t.price < ? THEN DELETE",
            vec![Int64, decimal],
        ),
        ("EXPLAIN SELECT id FROM shop.sales WHERE id = ?", vec![Int64]),
    ] {
        assert_eq!(told(&mut client, sql).await.unwrap_or_else(|error| panic!("{sql}: {error}")), expected, "{sql}");
    }
    let many = format!("SELECT {}, CAST($12 AS INT)", (1..=11).map(|n| format!("${n}")).collect::<Vec<_>>().join(", "));
    let types = told(&mut client, &many).await.unwrap();
    assert_eq!((types.len(), &types[1], &types[11]), (12, &Utf8, &Int32), "in the order of their numbers");
    for (sql, words) in [
        ("SELECT $city", "write ? or $1"),
        ("SELECT ? + $1", "both ? and $n"),
        ("SELECT $0", "$0"),
        ("SELECT $99999999999", "not a parameter"),
        ("REFRESH MATERIALIZED VIEW ?", "$1"),
        ("SELECT ? || ?, abs(?) + ? FROM nowhere.at_all", "nowhere.at_all"),
        ("CREATE MATERIALIZED VIEW shop.v AS SELECT ? AS a", "takes no parameters"),
    ] {
        let Err(refused) = told(&mut client, sql).await else { panic!("{sql} was taken") };
        assert!([Code::InvalidArgument, Code::NotFound].contains(&refused.code()), "{sql}: {refused}");
        assert!(refused.message().contains(words), "{sql}: {refused}");
    }
}

#[tokio::test]
async fn a_row_of_values_is_bound_and_cast() {
    let server = server().await;
    let mut client = server.client().await;
    let by_price = "SELECT id FROM shop.sales WHERE price >= ? AND city = ? ORDER BY id";
    let found = rows(&mut client, by_price, values(vec![Arc::new(Float64Array::from(vec![1.5])), texts(&["Pune"])]));
    assert_eq!(column(&found.await.unwrap(), "id"), ["1"]);
    let exact = "SELECT id FROM shop.sales WHERE at = ?";
    let at: ArrayRef = Arc::new(TimestampMillisecondArray::from(vec![1_767_225_600_001]).with_timezone("UTC"));
    assert_eq!(column(&rows(&mut client, exact, values(vec![at])).await.unwrap(), "id"), ["1"]);
    let text = "SELECT ? AS said, id FROM shop.sales WHERE id < ? ORDER BY id";
    let found = rows(&mut client, text, values(vec![numbers(&[7]), Arc::new(Int32Array::from(vec![2]))])).await;
    assert_eq!(column(&found.unwrap(), "said"), ["7"], "nothing told its type, so it is text");
    let nothing =
        rows(&mut client, "SELECT id FROM shop.sales WHERE id = ?", values(vec![Arc::new(NullArray::new(1))]));
    assert!(column(&nothing.await.unwrap(), "id").is_empty());
    let explained = rows(&mut client, "EXPLAIN SELECT id FROM shop.sales WHERE id = ?", values(vec![numbers(&[2])]));
    assert!(column(&explained.await.unwrap(), "plan").concat().contains("Int64(2)"));

    for (bound, words) in [
        (values(vec![numbers(&[1])]), "no value for $2"),
        (values(vec![texts(&["much"]), texts(&["Pune"])]), "parameter $1"),
        (values(vec![Arc::new(Float64Array::from(vec![12.345])), texts(&["Pune"])]), "12.345 does not fit"),
        (values(vec![numbers(&[1, 2]), texts(&["Pune", "Delhi"])]), "one row of values"),
    ] {
        let refused = rows(&mut client, by_price, bound).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument);
        assert!(refused.message().contains(words), "{refused}");
    }
    let mut unbound = client.0.prepare(by_price.into(), None).await.unwrap();
    let refused = status(unbound.execute().await.unwrap_err());
    assert!(refused.code() == Code::InvalidArgument && refused.message().contains("no value for $1, $2"), "{refused}");
    let refused = client.query("SELECT ?").await.unwrap_err();
    assert!(refused.code() == Code::InvalidArgument && refused.message().contains("no value for $1"), "{refused}");
}

#[tokio::test]
async fn values_may_be_unions() {
    let server = server().await;
    let mut client = server.client().await;
    let fields = [(0, Field::new("int", DataType::Int64, true)), (1, Field::new("text", DataType::Utf8, true))];
    let fields: UnionFields = fields.into_iter().map(|(id, field)| (id, Arc::new(field))).collect();
    let children: Vec<ArrayRef> = vec![numbers(&[2]), texts(&["Delhi"])];
    let union = |id: i8| -> ArrayRef {
        let (ids, offsets) = (vec![id].into(), Some(vec![0].into()));
        Arc::new(UnionArray::try_new(fields.clone(), ids, offsets, children.clone()).unwrap())
    };
    let sql = "SELECT id FROM shop.sales WHERE id = ? AND city = ?";
    assert_eq!(column(&rows(&mut client, sql, values(vec![union(0), union(1)])).await.unwrap(), "id"), ["2"]);
}

#[tokio::test]
async fn a_change_is_executed_for_each_row() {
    let server = server().await;
    let mut client = server.client().await;
    let epoch = || server.lake.engine.published().borrow().epoch;
    let before = epoch();
    let many: Vec<i64> = (100..1100).collect();
    let cities: Vec<String> = many.iter().map(|n| format!("c{n}")).collect();
    let bound = values(vec![numbers(&many), texts(&cities.iter().map(String::as_str).collect::<Vec<_>>())]);
    let insert = "INSERT INTO shop.sales (id, city) VALUES (? + 1, upper(?))";
    assert_eq!(update(&mut client, insert, bound).await.unwrap(), 1000);
    let counted = server.lake.query("SELECT count(*), min(city), sum(id) FROM shop.sales WHERE id > 100").await;
    let sum: i64 = many.iter().map(|n| n + 1).sum();
    assert_eq!(counted, [format!("1000|C100|{sum}")]);
    assert_eq!(epoch(), before + 1, "one commit of all rows");

    let changed = "UPDATE shop.sales SET city = ? WHERE id = ?";
    assert_eq!(update(&mut client, changed, values(vec![texts(&["x", "y"]), numbers(&[1, 2])])).await.unwrap(), 2);
    assert_eq!(server.lake.query("SELECT city FROM shop.sales WHERE id IN (1, 2) ORDER BY id").await, ["x", "y"]);
    let selected = "INSERT INTO shop.sales (id) SELECT id + 10000 FROM shop.sales WHERE id = ?";
    assert_eq!(update(&mut client, selected, values(vec![numbers(&[1, 2])])).await.unwrap(), 2);
    assert_eq!(
        update(&mut client, "DELETE FROM shop.sales WHERE id = ?", values(vec![numbers(&[1, 2, 77])])).await.unwrap(),
        2
    );
    assert_eq!(update(&mut client, insert, values(vec![numbers(&[]), texts(&[])])).await.unwrap(), 0);
    let refused =
        update(&mut client, insert, values(vec![texts(&["1", "two"]), texts(&["a", "b"])])).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument, "{refused}");
    let halfway = "UPDATE shop.sales SET id = id / ? WHERE id = 3";
    let failed = update(&mut client, halfway, values(vec![numbers(&[1, 0])])).await.unwrap_err();
    assert!(failed.message().contains("after 1 of 2 rows of values"), "{failed}");
}

#[tokio::test]
async fn transactions_are_refused() {
    let server = server().await;
    let mut client = server.client().await;
    assert_eq!(status(client.0.begin_transaction().await.unwrap_err()).code(), Code::Unimplemented);
    let inside = client.0.execute("SELECT 1".into(), Some("t".into())).await.unwrap_err();
    assert_eq!(status(inside).code(), Code::InvalidArgument);
    let inside = client.0.execute_update("DELETE FROM shop.sales".into(), Some("t".into())).await.unwrap_err();
    assert_eq!(status(inside).code(), Code::InvalidArgument);
    assert_eq!(server.lake.query("SELECT count(*) FROM shop.sales").await, ["3"]);
}
