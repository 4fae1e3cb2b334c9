//! Prepared statements and sessions.

use arrow::datatypes::Schema;
use arrow_flight::sql::{
    ActionClosePreparedStatementRequest, ActionCreatePreparedStatementRequest, Any, ProstMessageExt,
};
use arrow_flight::{Action, Empty};
use futures::TryStreamExt;
use prost::Message;
use tonic::Code;

use super::{Server, column, status};

#[tokio::test]
async fn a_query_is_prepared_executed_and_closed() {
    let server = Server::start().await;
    let mut client = server.client().await;
    let mut prepared = client.0.prepare("SELECT city FROM gold.kpis ORDER BY city".into(), None).await.unwrap();
    let announced = prepared.dataset_schema().unwrap().clone();
    assert_eq!(prepared.parameter_schema().unwrap(), &Schema::empty());
    for _ in 0..2 {
        let info = prepared.execute().await.unwrap();
        assert_eq!(info.clone().try_decode_schema().unwrap(), announced);
        let batches = client.fetch(info).await.unwrap();
        assert_eq!(column(&batches, "city"), ["Mumbai", "New Delhi, the capital"]);
    }
    let mut closed = prepared.clone();
    prepared.close().await.unwrap();
    assert_eq!(status(closed.execute().await.unwrap_err()).code(), Code::NotFound);
    closed.close().await.expect("closing twice is fine");
}

#[tokio::test]
async fn a_change_is_not_run_when_it_is_prepared() {
    let server = Server::start().await;
    let mut client = server.client().await;
    let mut prepared = client.0.prepare("INSERT INTO silver.events VALUES (9)".into(), None).await.unwrap();
    assert_eq!(prepared.dataset_schema().unwrap(), &Schema::empty(), "drivers know a change by its missing columns");
    let count = "SELECT count(*) AS n FROM silver.events";
    assert_eq!(column(&client.query(count).await.unwrap(), "n"), ["3"]);
    assert_eq!(prepared.execute_update().await.unwrap(), 1);
    assert_eq!(column(&client.query(count).await.unwrap(), "n"), ["4"]);
    let info = prepared.execute().await.unwrap();
    assert_eq!(column(&client.fetch(info).await.unwrap(), "count"), ["1"]);
}

#[tokio::test]
async fn drivers_are_told_what_is_an_update() {
    let server = Server::start().await;
    let mut client = server.client().await;
    for (query, is_update) in [("SELECT 1", false), ("INSERT INTO silver.events VALUES (1)", true)] {
        let request = ActionCreatePreparedStatementRequest { query: query.into(), transaction_id: None };
        let action = Action::new("CreatePreparedStatement", request.as_any().encode_to_vec());
        let answer = client.0.do_action(action).await.unwrap().message().await.unwrap().unwrap();
        let result = Any::decode(answer.body).unwrap();
        assert!(result.type_url.ends_with("ActionCreatePreparedStatementResult"));
        // Field 4, a bool: key 0x20, then the value; it is the last one.
        assert_eq!(result.value[result.value.len() - 2..], [0x20, u8::from(is_update)]);
    }
}

#[tokio::test]
async fn unknown_handles_are_refused_but_closed() {
    let server = Server::start().await;
    let mut client = server.client().await;
    let request = ActionClosePreparedStatementRequest { prepared_statement_handle: vec![1; 16].into() };
    let action = Action::new("ClosePreparedStatement", request.as_any().encode_to_vec());
    client.0.do_action(action).await.expect("closing what is not there is fine");
    let unknown = client.0.do_action(Action::new("BeginTransaction", "")).await.map_err(status).unwrap_err();
    assert_eq!(unknown.code(), Code::Unimplemented);
}

#[tokio::test]
async fn the_list_of_actions_is_what_works() {
    let server = Server::start().await;
    let mut client = server.client().await;
    let actions = client.0.inner_mut().list_actions(Empty {}).await.unwrap().into_inner();
    let names: Vec<String> = actions.map_ok(|action| action.r#type).try_collect().await.unwrap();
    assert!(names.contains(&"CancelFlightInfo".to_string()) && !names.contains(&"BeginTransaction".to_string()));
}

#[tokio::test]
async fn a_session_keeps_its_schema_by_token_and_by_cookie() {
    let server = Server::start().await;
    // Flight.proto's SetSessionOptionsRequest { "schema": "gold" } as bytes.
    let option = [b"\x0a\x06schema".as_slice(), b"\x12\x06\x0a\x04gold"].concat();
    let set = [&[0x0a, u8::try_from(option.len()).unwrap()], option.as_slice()].concat();

    let mut client = server.client().await;
    assert_eq!(client.query("SELECT city FROM kpis").await.unwrap_err().code(), Code::NotFound);
    client.0.handshake("anybody", "any password").await.unwrap();
    assert_eq!(client.0.token().map(String::len), Some(64));
    let answer = client.0.do_action(Action::new("SetSessionOptions", set.clone())).await.unwrap();
    let answer: Vec<_> = answer.try_collect().await.unwrap();
    assert!(answer[0].body.is_empty(), "no errors");
    assert_eq!(client.query("SELECT city FROM kpis").await.unwrap()[0].num_rows(), 2);
    let told = client.0.do_action(Action::new("GetSessionOptions", "")).await.unwrap().message().await.unwrap();
    assert!(told.unwrap().body.windows(option.len()).any(|part| part == option));
    client.0.do_action(Action::new("CloseSession", "")).await.unwrap();
    assert_eq!(client.query("SELECT city FROM kpis").await.unwrap_err().code(), Code::NotFound);

    let mut client = server.client().await;
    let request = tonic::Request::new(Action::new("SetSessionOptions", set));
    let answer = client.0.inner_mut().do_action(request).await.unwrap();
    let cookie = answer.metadata().get("set-cookie").unwrap().to_str().unwrap().to_string();
    client.0.set_header("cookie", cookie.split(';').next().unwrap());
    assert_eq!(client.query("SELECT city FROM kpis").await.unwrap()[0].num_rows(), 2);
}
