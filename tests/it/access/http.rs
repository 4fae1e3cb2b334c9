//! `POST /v1/sql`: the same answers by the same rules, in every format.

use arrow::ipc::reader::StreamReader;
use reqwest::{Client, RequestBuilder, Response};
use serde_json::{Value, json};

use super::policies::QUERIES;
use super::server::Door;
use super::{APART, ask, sorted};
use crate::engine::harness::lines;

const ARROW: &str = "application/vnd.apache.arrow.stream";

fn post(door: &Door, user: &str, password: &str) -> RequestBuilder {
    Client::new().post(format!("http://{}/v1/sql", door.http)).basic_auth(user, Some(password))
}

fn seller(door: &Door, number: u8) -> RequestBuilder {
    post(door, &format!("s{number}"), &format!("sells as S{number}"))
}

async fn parsed(answer: Response) -> Value {
    serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap()
}

async fn failure(answer: Response) -> (u16, String, String) {
    let status = answer.status().as_u16();
    let body = parsed(answer).await;
    let text = |name: &str| body["error"][name].as_str().unwrap_or_default().to_string();
    (status, text("code"), text("message"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_seller_gets_the_same_rows_as_by_any_other_door() {
    let door = Door::open().await;
    let token = ask(&door.lake, "s1", "CREATE TOKEN t").await.unwrap().remove(0);
    let token = token.lines().nth(1).unwrap().to_string();
    let client = Client::new();
    let mut rows = 0;
    for sql in APART.iter().flat_map(|view| QUERIES.map(|sql| sql.replace("$v", view))) {
        let asked = client.post(format!("http://{}/v1/sql", door.http)).bearer_auth(&token).header("accept", ARROW);
        let answer = asked.body(sql.clone()).send().await.unwrap();
        match ask(&door.lake, "s1", &sql).await {
            Ok(wanted) => {
                assert_eq!(answer.status(), 200, "{sql}");
                let bytes = answer.bytes().await.unwrap();
                let batches = StreamReader::try_new(&*bytes, None).unwrap().collect::<Result<Vec<_>, _>>().unwrap();
                rows += wanted.len();
                assert_eq!(sorted(lines(&batches)), sorted(wanted), "{sql}");
            }
            Err(_) => assert!(!answer.status().is_success() || answer.bytes().await.is_err(), "{sql}"),
        }
    }
    assert!(rows > 100, "{rows}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_come_in_the_format_that_is_asked_for() {
    let door = Door::open().await;
    let sql = "SELECT DISTINCT shop, length(shop) AS n FROM s.clean";
    let json = parsed(seller(&door, 1).body(sql).send().await.unwrap()).await;
    assert_eq!(json["rows"], json!([{ "shop": "S1", "n": 2 }]));
    assert_eq!((&json["row_count"], &json["columns"][0]["name"]), (&json!(1), &json!("shop")));
    for (accept, expected) in [("text/csv", "shop,n\nS1,2\n"), ("application/x-ndjson", "{\"shop\":\"S1\",\"n\":2}\n")]
    {
        let answer = seller(&door, 1).header("accept", accept).body(sql).send().await.unwrap();
        assert!(answer.headers()["content-type"].to_str().unwrap().starts_with(accept));
        assert_eq!(answer.text().await.unwrap(), expected);
    }
    let none = "SELECT shop FROM s.clean WHERE false";
    assert_eq!(
        seller(&door, 1).header("accept", "text/csv").body(none).send().await.unwrap().text().await.unwrap(),
        "shop\n"
    );
    assert_eq!(seller(&door, 1).header("accept", "image/png").body(sql).send().await.unwrap().status(), 406);

    let asked =
        json!({ "sql": "SELECT shop, ? AS x FROM s.shops WHERE shop = ? OR ? IS NULL", "parameters": [7, "S1", 1.5] });
    let asked = seller(&door, 1).header("content-type", "application/json").body(asked.to_string());
    let json = parsed(asked.send().await.unwrap()).await;
    assert_eq!(json["rows"], json!([{ "shop": "S1", "x": "7" }]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_goes_wrong_has_its_status() {
    let door = Door::open().await;
    let ask = async |sql: &str| failure(seller(&door, 1).body(sql.to_string()).send().await.unwrap()).await;
    assert_eq!(ask("SELEC 1").await.0, 400);
    assert_eq!(ask("SELECT * FROM s.nothing").await.0, 404);
    let (status, code, message) = ask("SELECT * FROM s.total").await;
    assert_eq!((status, code.as_str()), (403, "permission_denied"));
    assert!(message.contains("DECLASSIFY"), "{message}");
    assert_eq!(ask("DROP TABLE s.sales").await.0, 403);
    assert_eq!(ask("SELECT $1").await.0, 400);
    assert_eq!(ask("SELECT 1 / (length(shop) - 2) FROM s.clean").await.0, 400, "found before the answer begins");
    let nobody = Client::new().post(format!("http://{}/v1/sql", door.http)).body("SELECT 1").send().await.unwrap();
    assert!(nobody.headers().contains_key("www-authenticate"));
    assert_eq!(failure(nobody).await.0, 401);
    let long = format!("SELECT '{}'", "x".repeat(3 << 20));
    assert_eq!(seller(&door, 1).body(long).send().await.unwrap().status(), 413);
    let of_a_page = seller(&door, 1).header("origin", "https://evil.example").body("SELECT 1").send().await.unwrap();
    assert_eq!(failure(of_a_page).await.0, 403);

    let root = post(&door, "root", "correct horse");
    let sql = "INSERT INTO s.cities VALUES ('Goa', 'GA'), ('Agra', 'UP')";
    let json = parsed(root.body(sql).send().await.unwrap()).await;
    assert_eq!(json["rows"], json!([{ "count": 2 }]));
    assert!(json["message"].as_str().is_some_and(|text| text.contains('2')), "{json}");
}
