//! One schema for a query, whoever asks: Prepare = FlightInfo = GetSchema = DoGet, for random queries.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array};
use arrow::datatypes::Schema;
use arrow::record_batch::RecordBatch;
use arrow_flight::sql::{CommandPreparedStatementQuery, CommandStatementQuery, ProstMessageExt};
use arrow_flight::{FlightDescriptor, IpcMessage};
use prost::Message;
use tonic::Status;

use super::{Client, LakeServer, Server, status};

const QUERIES: u64 = 400;

/// Random text from a seed.
struct Random(fastrand::Rng);

impl Random {
    fn one<'a>(&mut self, of: &[&'a str]) -> &'a str {
        of[self.0.usize(..of.len())]
    }

    fn number(&mut self, depth: usize, parameters: bool) -> String {
        match self.0.u8(..if depth == 0 { 4 } else { 10 }) {
            0 => "n".into(),
            1 if parameters => "CAST(? AS BIGINT)".into(),
            1 | 2 => self.0.u8(1..9).to_string(),
            3 => self.one(&["NULL", "1.5", "n % 2", "CAST(n AS DECIMAL(9, 3))"]).into(),
            4 if parameters => format!("coalesce(?, {})", self.number(depth - 1, false)),
            4 | 5 => {
                let operator = self.one(&["+", "-", "*"]);
                format!("({} {operator} {})", self.number(depth - 1, parameters), self.number(depth - 1, parameters))
            }
            6 => format!("CASE WHEN n > 1 THEN {} END", self.number(depth - 1, parameters)),
            7 => format!("abs({})", self.number(depth - 1, false)),
            8 => format!("nullif({}, 1)", self.number(depth - 1, false)),
            _ => format!("CAST({} AS {})", self.number(depth - 1, false), self.one(&["DOUBLE", "INT", "VARCHAR"])),
        }
    }

    fn query(&mut self, table: &str, parameters: bool) -> String {
        let condition = match self.0.u8(..4) {
            0 => "WHERE n > 100",
            1 if parameters => "WHERE n >= ?",
            1 => "WHERE n BETWEEN 1 AND 2",
            _ => "",
        };
        if self.0.bool() {
            let aggregate = self.one(&["count(*)", "sum(n)", "min(n)", "avg(n)", "array_agg(n)", "count(DISTINCT n)"]);
            let group = self.one(&["n % 2", "n", "n > 1"]);
            return format!("SELECT {group} AS g, {aggregate} FROM {table} {condition} GROUP BY {group}");
        }
        let items = (0..self.0.usize(1..4)).map(|at| format!("{} AS c{at}", self.number(2, parameters)));
        let items = items.collect::<Vec<_>>().join(", ");
        let more = self.one(&["", "", "row_number() OVER (ORDER BY n) AS w, ", "'a' AS t, ", "n IS NULL AS b, "]);
        let end = self.one(&["", "ORDER BY 1", "LIMIT 2", "LIMIT 0"]);
        format!("SELECT {more}{items} FROM {table} {condition} {end}")
    }
}

async fn told(client: &mut Client, command: impl ProstMessageExt) -> Result<Schema, Status> {
    let descriptor = FlightDescriptor::new_cmd(command.as_any().encode_to_vec());
    let answer = client.0.inner_mut().get_schema(descriptor).await?.into_inner();
    Ok(Schema::try_from(IpcMessage(answer.schema)).unwrap())
}

/// Compare; whether the query has rows, or the error of one that cannot be executed.
async fn compare(client: &mut Client, sql: &str) -> Result<bool, Status> {
    let mut prepared = client.0.prepare(sql.into(), None).await.map_err(status)?;
    let promised = prepared.dataset_schema().unwrap().clone();
    let parameters = prepared.parameter_schema().unwrap().fields().len();
    let query = CommandStatementQuery { query: sql.into(), transaction_id: None };
    assert_eq!(told(client, query).await?, promised, "{sql}");
    if parameters > 0 {
        let columns = (0..parameters).map(|n| (format!("{n}"), Arc::new(Int64Array::from(vec![2])) as ArrayRef));
        prepared.set_parameters(RecordBatch::try_from_iter(columns).unwrap()).unwrap();
    }
    let info = prepared.execute().await.map_err(status)?;
    assert_eq!(info.clone().try_decode_schema().unwrap(), promised, "{sql}");
    let rows = client.fetch(info).await?; // compares each batch
    Ok(rows.iter().any(|batch| batch.num_rows() > 0))
}

async fn compare_many(client: &mut Client, table: &str) {
    let (mut full, mut empty, mut refused) = (0, 0, 0);
    for seed in 0..QUERIES {
        let mut random = Random(fastrand::Rng::with_seed(seed));
        let sql = random.query(table, seed % 2 == 0);
        match compare(client, &sql).await {
            Ok(true) => full += 1,
            Ok(false) => empty += 1,
            Err(error) => {
                assert_eq!(error.code(), tonic::Code::InvalidArgument, "seed {seed}: {sql}: {error}");
                refused += 1;
            }
        }
    }
    println!("{table}: {full} with rows, {empty} without, {refused} refused");
    assert!(full > QUERIES / 3 && empty > QUERIES / 20 && refused < QUERIES / 5, "{full} {empty} {refused}");
}

#[tokio::test]
async fn all_tell_the_same_schema() {
    let server = Server::start().await;
    compare_many(&mut server.client().await, "silver.events").await;
    let lake = LakeServer::start(&["CREATE TABLE shop.t (n BIGINT)"]).await;
    lake.lake.query("INSERT INTO shop.t VALUES (1), (2), (3), (NULL)").await;
    compare_many(&mut lake.client().await, "shop.t").await;
}

#[tokio::test]
async fn a_table_that_became_another_is_told() {
    let server = LakeServer::start(&["CREATE TABLE shop.t (n BIGINT)"]).await;
    let mut client = server.client().await;
    let mut prepared = client.0.prepare("SELECT * FROM shop.t".into(), None).await.unwrap();
    server.lake.query("DROP TABLE shop.t").await;
    server.lake.query("CREATE TABLE shop.t (m BIGINT)").await;
    assert_eq!(status(prepared.execute().await.unwrap_err()).code(), tonic::Code::FailedPrecondition);
    let gone = CommandPreparedStatementQuery { prepared_statement_handle: vec![0; 16].into() };
    assert_eq!(told(&mut client, gone).await.unwrap_err().code(), tonic::Code::NotFound);
}
