//! What no client should send: an error or an answer, and the server lives.

use arrow_flight::sql::{Any, CommandStatementQuery, ProstMessageExt, TicketStatementQuery};
use arrow_flight::{Action, FlightData, FlightDescriptor, Ticket};
use flashcommerce::config::STACK_BYTES;
use prost::Message;
use tonic::Code;

use super::{LakeServer, status};

async fn server() -> LakeServer {
    let server = LakeServer::start(&["CREATE TABLE shop.t (n BIGINT)"]).await;
    server.lake.query("INSERT INTO shop.t VALUES (1), (2), (3)").await;
    server
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bytes_that_are_not_the_protocol_are_refused() {
    let server = server().await;
    let mut client = server.client().await;
    let good = CommandStatementQuery { query: "SELECT 1".into(), transaction_id: None }.as_any().encode_to_vec();
    let foreign = Any { type_url: "type.googleapis.com/some.Other".into(), value: vec![1, 2, 3].into() };
    let garbled = Any { type_url: CommandStatementQuery::type_url().into(), value: vec![0xff; 9].into() };
    let mut bodies = vec![vec![], vec![0xff; 100], foreign.encode_to_vec(), garbled.encode_to_vec()];
    bodies.extend((1..good.len()).map(|end| good[..end].to_vec()));
    bodies.extend((0..good.len()).map(|at| {
        let mut flipped = good.clone();
        flipped[at] ^= 0x55;
        flipped
    }));
    let mut random = fastrand::Rng::with_seed(7);
    bodies.extend((0..200).map(|_| (0..random.usize(..80)).map(|_| random.u8(..)).collect()));
    let allowed = [Code::InvalidArgument, Code::Unimplemented, Code::NotFound];
    for body in bodies {
        let descriptor = FlightDescriptor::new_cmd(body.clone());
        let data = FlightData { flight_descriptor: Some(descriptor.clone()), ..FlightData::default() };
        let inner = client.0.inner_mut();
        let answers = [
            inner.get_flight_info(descriptor.clone()).await.err(),
            inner.get_schema(descriptor.clone()).await.err(),
            inner.poll_flight_info(descriptor).await.err(),
            inner.do_get(Ticket::new(body.clone())).await.err(),
            inner.do_put(futures::stream::iter([data])).await.err(),
            inner.do_action(Action::new("CreatePreparedStatement", body.clone())).await.err(),
            inner.do_action(Action::new("CancelFlightInfo", body.clone())).await.err(),
            inner.do_action(Action::new("SetSessionOptions", body.clone())).await.err(),
        ];
        for status in answers.into_iter().flatten() {
            assert!(allowed.contains(&status.code()), "{body:?}: {status}");
        }
    }
    let stranger = TicketStatementQuery { statement_handle: vec![7; 16].into() }.as_any().encode_to_vec();
    assert_eq!(client.0.inner_mut().do_get(Ticket::new(stranger)).await.unwrap_err().code(), Code::NotFound);
    let none = client.0.inner_mut().do_put(futures::stream::iter(Vec::<FlightData>::new())).await.unwrap_err();
    assert_eq!(none.code(), Code::InvalidArgument);
    client.query("SELECT 1").await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn huge_headers_are_refused() {
    let server = server().await;
    let mut client = server.client().await;
    client.0.set_header("x-much", "x".repeat(1 << 20));
    assert!(client.query("SELECT 1").await.is_err());
    server.client().await.query("SELECT 1").await.unwrap();
}

/// In threads with the stack that the program gives them.
#[test]
fn long_and_deep_texts_end_in_an_error_or_an_answer() {
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime = runtime.enable_all().worker_threads(2).thread_stack_size(STACK_BYTES).build().unwrap();
    runtime.block_on(long_and_deep_texts());
}

async fn long_and_deep_texts() {
    let server = server().await;
    let mut client = server.client().await;
    let repeated = |part: &str, times: usize| part.repeat(times);
    let texts = [
        ("10 MB", format!("SELECT '{}'", repeated("x", 10 << 20)), false),
        ("10,000 parentheses", format!("SELECT {}1{}", repeated("(", 10_000), repeated(")", 10_000)), false),
        ("unclosed parentheses", format!("SELECT {}", repeated("(", 10_000)), false),
        ("50,000 AND", format!("SELECT n FROM shop.t WHERE n = 1{}", repeated(" AND n = 1", 50_000)), false),
        ("490 comparisons", format!("SELECT n FROM shop.t WHERE n = 1{}", repeated(" AND n < 9", 490)), true),
        ("990 operators", format!("SELECT 1{}", repeated(" + 1", 990)), true),
        ("980 times true", format!("SELECT n FROM shop.t WHERE true{}", repeated(" AND true", 980)), true),
        ("10,000 in a list", format!("SELECT n FROM shop.t WHERE n IN (1{})", repeated(",7", 10_000)), true),
        ("10,000 values", format!("VALUES (1){}", repeated(",(2)", 10_000)), true),
        (
            "nested CASE",
            format!("SELECT {}1{}", repeated("CASE WHEN true THEN ", 5_000), repeated(" END", 5_000)),
            false,
        ),
        ("NOT NOT", format!("SELECT {} true", repeated("NOT ", 20_000)), false),
        ("minus minus", format!("SELECT {}1", repeated("- ", 20_000)), false),
        ("unions", format!("SELECT 1{}", repeated(" UNION ALL SELECT 1", 5_000)), false),
        (
            "subqueries",
            format!("SELECT * FROM {}shop.t{}", repeated("(SELECT * FROM ", 1_000), repeated(")", 1_000)),
            false,
        ),
        ("arrays", format!("SELECT {}1{}", repeated("[", 5_000), repeated("]", 5_000)), false),
        ("comments", format!("SELECT {}1", repeated("/*", 5_000)), false),
        (
            "5,000 in a list of parameters",
            format!("SELECT n FROM shop.t WHERE n IN (?{})", repeated(",?", 4_999)),
            false,
        ),
        (
            "2,000 columns",
            format!("SELECT n{} FROM shop.t", (0..2_000).map(|at| format!(", n AS c{at}")).collect::<String>()),
            true,
        ),
        ("20,000 parameters", format!("SELECT {}", vec!["?"; 20_000].join(",")), false),
    ];
    for (name, sql, answered) in texts {
        let start = std::time::Instant::now();
        let query = client.query(&sql).await;
        let prepared = client.0.prepare(sql, None).await.map_err(status);
        let took = start.elapsed();
        match (&query, &prepared) {
            (Ok(_), Ok(_)) => assert!(answered, "{name} was answered"),
            (Err(error), _) => {
                let codes = [Code::InvalidArgument, Code::ResourceExhausted];
                assert!(codes.contains(&error.code()) && !answered, "{name}: {error}");
            }
            (Ok(_), Err(error)) => panic!("{name}: {error}"),
        }
        println!("{name}: {took:?}, {}", query.map_or_else(|error| error.code().to_string(), |_| "answered".into()));
        client.query("SELECT 1").await.unwrap_or_else(|error| panic!("after {name}: {error}"));
    }
}
