//! The dashboard's API over the product's own views: figures, rights, versions.
//!
//! ```text
//!   simulator ─▶ raw.events ─▶ sql/ of the product ─▶ /v1/dashboard as root, as sellers, by link ─▶ must agree
//! ```

use std::net::SocketAddr;
use std::sync::Arc;

use flashcommerce::project::embedded::embedded;
use flashcommerce::server::{self, Identity, Limits, Security, Service};
use flashcommerce::simulator::{Profile, Simulator, SimulatorOptions};
use object_store::memory::InMemory;
use reqwest::header::{CONTENT_SECURITY_POLICY, COOKIE, ETAG, IF_NONE_MATCH, LOCATION, SET_COOKIE};
use reqwest::redirect::Policy;
use reqwest::{Client, Response};
use serde_json::{Value, json};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::engine::harness::Lake;
use crate::flight::listener;

const ROOT: (&str, &str) = ("root", "correct horse");
const ASHA: (&str, &str) = ("asha", "sells rings here");
const RAVI: (&str, &str) = ("ravi", "sells phones too");

const EVENTS: u64 = 4_000;

/// Every range, grain and dimension.
const QUESTIONS: [&str; 6] = [
    "range=all",
    "range=28d&grain=hour&category=Electronics&category=Jewelry",
    "range=7d&state=Maharashtra&city=New+Delhi",
    "range=today&grain=minute",
    "range=yesterday&product=Laptop",
    "range=all&state=Karnataka&category=Jewelry&product=Diamond+Ring",
];

struct Shop {
    lake: Arc<Lake>,
    http: SocketAddr,
    client: Client,
    _stops: DropGuard,
}

impl Shop {
    /// The product's views over simulated events and some of today, in an open lake.
    async fn open() -> Self {
        let lake = Lake::open(Arc::new(InMemory::new()), Arc::default()).await.unwrap();
        lake.engine.apply(&embedded().unwrap()).await.unwrap();
        let simulator = Simulator::new(SimulatorOptions::new(EVENTS, 3, Profile::Default));
        lake.source.push(simulator.map(|event| event.json).collect());
        lake.source.push((0..20).flat_map(|number| order(number, ["S001", "S004"][number % 2])).collect());
        lake.pass_until_idle().await;
        Self::over(Arc::new(lake)).await
    }

    /// A server of its own, which has nothing in memory, over the same lake.
    async fn over(lake: Arc<Lake>) -> Self {
        let shutdown = CancellationToken::new();
        let http = listener("--http", &Security::default()).await;
        let addr = http.local_addr().unwrap();
        let backend = Arc::clone(&lake.engine) as Arc<dyn server::Backend>;
        let service = Service::start(backend, Limits::default(), Identity::default(), shutdown.clone()).unwrap();
        tokio::spawn(server::serve_http(http, service, None));
        let client = Client::builder().redirect(Policy::none()).build().unwrap();
        Self { lake, http: addr, client, _stops: shutdown.drop_guard() }
    }

    /// With an administrator and two sellers.
    async fn with_people() -> Self {
        let shop = Self::open().await;
        for sql in [
            "CREATE USER root PASSWORD 'correct horse' ROLE admin",
            "CREATE ROLE seller",
            "GRANT SELECT ON SCHEMA gold TO seller",
            "CREATE POLICY own_rows ON silver.events TO seller USING (seller_id = current_seller())",
            "CREATE USER asha PASSWORD 'sells rings here' ROLE seller ATTRIBUTES (seller_id = 'S001')",
            "CREATE USER ravi PASSWORD 'sells phones too' ROLE seller ATTRIBUTES (seller_id = 'S004')",
        ] {
            shop.lake.query(sql).await;
        }
        shop
    }

    async fn get(&self, path: &str, who: Option<(&str, &str)>) -> Response {
        let request = self.client.get(format!("http://{}{path}", self.http));
        let request =
            who.into_iter().fold(request, |request, (user, password)| request.basic_auth(user, Some(password)));
        request.send().await.unwrap()
    }

    async fn answer(&self, question: &str, who: Option<(&str, &str)>) -> Value {
        let response = self.get(&format!("/v1/dashboard?{question}"), who).await;
        let status = response.status();
        let body = response.text().await.unwrap();
        assert_eq!(status, 200, "{question}: {body}");
        serde_json::from_str(&body).unwrap()
    }

    async fn number(&self, sql: &str) -> f64 {
        self.lake.query(sql).await[0].parse().unwrap()
    }
}

/// A visit of this minute that buys.
fn order(number: usize, seller: &str) -> Vec<String> {
    let at = chrono::Utc::now().to_rfc3339_opts(chrono::SecondsFormat::Millis, true);
    let event = |kind: &str| {
        json!({
            "event_id": format!("{kind}-{number}"), "event_type": kind, "event_time": at, "user_id": "u", "seller_id": seller,
            "session_id": format!("visit-{number}"), "product_id": "p", "product_name": "Laptop", "category": "Electronics",
            "price": 77_999, "cost": 63_999, "quantity": 1, "city": "Pune", "state": "Maharashtra",
        })
        .to_string()
    };
    ["view", "add_to_cart", "purchase"].map(event).to_vec()
}

async fn parsed(response: Response) -> Value {
    serde_json::from_str(&response.text().await.unwrap()).unwrap()
}

/// The tiles of both, of the same minute.
async fn both(shops: [&Shop; 2], question: &str, who: (&str, &str)) -> [Value; 2] {
    loop {
        let [mut first, mut second] =
            [shops[0].answer(question, Some(who)).await, shops[1].answer(question, Some(who)).await];
        if first["now"] == second["now"] {
            return [first["tiles"].take(), second["tiles"].take()];
        }
    }
}

fn sum(rows: &Value, key: &str) -> f64 {
    let rows = rows.as_array().unwrap();
    rows.iter().map(|row| row[key].as_f64().unwrap_or(0.0)).sum()
}

fn close(a: f64, b: f64, what: &str) {
    assert!((a - b).abs() < 0.005, "{what}: {a} is not {b}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn figures_are_the_sum_of_their_parts_and_equal_sql() {
    let shop = Shop::open().await;
    let sales = "FROM silver.events WHERE event_type = 'purchase'";
    for (question, condition) in [
        ("range=all", "TRUE"),
        ("range=all&category=Jewelry&category=Electronics", "category IN ('Jewelry', 'Electronics')"),
        ("range=all&city=Pune&category=Electronics", "city = 'Pune' AND category = 'Electronics'"),
        ("range=all&product=O%27Neil", "FALSE"),
        ("range=today", "CAST(event_time_ist AS DATE) = CAST(to_ist(now()) AS DATE)"),
    ] {
        let tiles = shop.answer(question, None).await["tiles"].take();
        let kpis = &tiles["kpis"][0];
        let of = |key: &str| kpis[key].as_f64().unwrap();
        for key in ["revenue", "profit"] {
            let sql = format!("SELECT coalesce(CAST(sum({key}) AS DOUBLE), 0) {sales} AND {condition}");
            close(of(key), shop.number(&sql).await, &format!("{question}: {key}"));
        }
        close(of("orders"), shop.number(&format!("SELECT count(*) {sales} AND {condition}")).await, question);
        assert!(of("orders") > 0.0 || condition == "FALSE", "{question} is empty");
        close(sum(&tiles["trend"], "revenue"), of("revenue"), question);
        let chosen = |tile: &str, key: &str, values: &[&str]| {
            let rows = tiles[tile].as_array().unwrap().iter();
            let kept = rows.filter(|row| values.is_empty() || row[key].as_str().is_some_and(|v| values.contains(&v)));
            kept.map(|row| row["profit"].as_f64().unwrap()).sum::<f64>()
        };
        let (cities, categories): (&[&str], &[&str]) = match question {
            "range=all&category=Jewelry&category=Electronics" => (&[], &["Jewelry", "Electronics"]),
            "range=all&city=Pune&category=Electronics" => (&["Pune"], &["Electronics"]),
            _ => (&[], &[]),
        };
        close(chosen("cities", "city", cities), of("profit"), &format!("{question}: cities"));
        close(chosen("categories", "category", categories), of("profit"), &format!("{question}: categories"));
        if !question.contains("product=") {
            close(chosen("products", "product", &[]), of("profit"), &format!("{question}: products"));
        }
    }
    let tiles = shop.answer("range=all", None).await["tiles"].take();
    let funnel = &tiles["funnel"][0];
    for (step, condition) in [("visited", "TRUE"), ("added", "carts + purchases > 0"), ("bought", "purchases > 0")] {
        let wanted = shop.number(&format!("SELECT count(*) FROM gold.sessions WHERE {condition}")).await;
        close(funnel[step].as_f64().unwrap(), wanted, step);
    }
    let carts = shop.number("SELECT CAST(sum(cart_value) AS DOUBLE) FROM gold.abandoned_carts").await;
    close(tiles["carts"][0]["cart_value"].as_f64().unwrap(), carts, "carts");
    close(tiles["visitors"][0]["visitors"].as_f64().unwrap(), 20.0, "visitors of the last five minutes");
}

/// Up to the same minute of the day before, in the middle of an hour.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn equal_times_are_compared() {
    let shop = Shop::open().await;
    let tiles = shop.answer("range=7d&category=Electronics", None).await;
    let now = tiles["now"].as_str().unwrap();
    let sql = format!(
        "SELECT coalesce(CAST(sum(revenue) AS DOUBLE), 0) FROM silver.events WHERE event_type = 'purchase' \
         AND category = 'Electronics' AND event_time_ist < TIMESTAMP '{now}' - INTERVAL '7 days' \
         AND CAST(event_time_ist AS DATE) >= DATE '{}'",
        tiles["period"]["before"].as_str().unwrap()
    );
    close(tiles["tiles"]["kpis"][0]["revenue_before"].as_f64().unwrap(), shop.number(&sql).await, "the time before");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sellers_tiles_are_the_owners_tiles_of_that_seller() {
    let shop = Shop::with_people().await;
    for question in QUESTIONS {
        for (who, seller, other) in [(ASHA, "S001", "S004"), (RAVI, "S004", "S001")] {
            let mut own = shop.answer(question, Some(who)).await["tiles"].take();
            let mut owner = shop.answer(&format!("{question}&seller={seller}"), Some(ROOT)).await["tiles"].take();
            assert_eq!(own["sellers"], json!([{ "seller_id": seller }]));
            own["sellers"].take();
            owner["sellers"].take();
            assert_eq!(own, owner, "{question} of {seller}");
            let others = shop.answer(&format!("{question}&seller={other}"), Some(who)).await["tiles"].take();
            for (name, rows) in others.as_object().unwrap() {
                let rows = rows.as_array().unwrap();
                let nothing =
                    |row: &Value| row.as_object().unwrap().values().all(|v| v.is_null() || v.as_f64() == Some(0.0));
                assert!(
                    name == "sellers" || rows.iter().all(nothing),
                    "{question}: {who:?} sees of {other}: {name} {rows:?}"
                );
            }
        }
    }
    assert_eq!(shop.get("/v1/dashboard", None).await.status(), 401);
    assert_eq!(shop.get("/live", None).await.status(), 401);
    assert_eq!(shop.get("/v1/operations", Some(ASHA)).await.status(), 403);
    let operations: Value = parsed(shop.get("/v1/operations", Some(ROOT)).await).await;
    let views = operations["tables"]["views"].as_array().unwrap();
    assert!(views.iter().any(|view| view["view_name"] == "gold.shop_cube") && operations["lag_ms"]["gold.kpis"] == 0);
    shop.lake.query("CREATE USER nobody PASSWORD 'nothing at all'").await;
    assert_ne!(shop.get("/v1/dashboard", Some(("nobody", "nothing at all"))).await.status(), 200);
}

/// After epochs that change today, epochs that change days long gone, and changes of what somebody may see.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_that_are_kept_are_those_that_would_be_read() {
    let shop = Shop::with_people().await;
    let long_gone = |number| {
        order(number, "S001")
            .iter()
            .map(|event| {
                let mut event: Value = serde_json::from_str(event).unwrap();
                event["event_time"] = json!("2026-11-05T12:00:00Z");
                event.to_string()
            })
            .collect::<Vec<_>>()
    };
    for round in 0..4 {
        let fresh = Shop::over(Arc::clone(&shop.lake)).await;
        for question in QUESTIONS {
            for (who, sellers) in
                [(ROOT, ["", "&seller=S001"].as_slice()), (ASHA, &[""]), (RAVI, &["", "&seller=S001"])]
            {
                for seller in sellers {
                    let [kept, read] = both([&shop, &fresh], &format!("{question}{seller}"), who).await;
                    assert_eq!(kept, read, "{question}{seller} of {who:?} in round {round}");
                }
            }
        }
        match round {
            0 => shop.lake.source.push((300..320).flat_map(|number| order(number, "S001")).collect()),
            1 => shop.lake.source.push(long_gone(400)),
            _ => {
                shop.lake.query("ALTER USER asha ATTRIBUTES (seller_id = 'S004')").await;
                let of_ravi = shop.answer("range=all", Some(RAVI)).await["tiles"].take();
                assert_eq!(shop.answer("range=all", Some(ASHA)).await["tiles"], of_ravi, "she sees another shop now");
            }
        }
        shop.lake.pass_until_idle().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_is_sent_again_only_when_it_can_have_changed() {
    let shop = Shop::with_people().await;
    let url = format!("http://{}/v1/dashboard?range=all", shop.http);
    let asked = async |who: (&str, &str), tag: &str| {
        shop.client.get(&url).basic_auth(who.0, Some(who.1)).header(IF_NONE_MATCH, tag).send().await.unwrap()
    };
    let tag = |response: &Response| response.headers()[ETAG].to_str().unwrap().to_string();
    // A minute may end between two questions, but not twice.
    let mut first = tag(&asked(ROOT, "").await);
    let mut again = asked(ROOT, &first).await;
    if again.status() == 200 {
        first = tag(&again);
        again = asked(ROOT, &first).await;
    }
    assert_eq!((again.status().as_u16(), again.text().await.unwrap().as_str()), (304, ""));
    assert_eq!(asked(ASHA, &first).await.status(), 200, "of somebody else");
    shop.lake.source.push(order(100, "S001"));
    shop.lake.pass_until_idle().await;
    let new = asked(ROOT, &first).await;
    assert_eq!(new.status(), 200, "there is a new order");
    assert!(tag(&new) != first);
    let before = tag(&asked(ASHA, "").await);
    shop.lake.query("ALTER USER asha ATTRIBUTES (seller_id = 'S004')").await;
    let moved = asked(ASHA, &before).await;
    assert_eq!(moved.status(), 200, "she sees another shop now");
    let moved: Value = parsed(moved).await;
    assert_eq!(moved["tiles"]["sellers"], json!([{ "seller_id": "S004" }]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pages_hear_of_versions_and_of_nothing_else() {
    let shop = Shop::with_people().await;
    shop.lake.query("CREATE USER nobody PASSWORD 'nothing at all'").await;
    let mut asha = shop.get("/live", Some(ASHA)).await;
    let mut nobody = shop.get("/live", Some(("nobody", "nothing at all"))).await;
    for stream in [&mut asha, &mut nobody] {
        let (name, data) = event(stream).await;
        assert_eq!((name.as_str(), data["lag_ms"].as_i64()), ("lag", Some(0)));
    }
    shop.lake.source.push(order(200, "S004"));
    shop.lake.pass_until_idle().await;
    let (name, data) = event(&mut asha).await;
    assert_eq!(name, "published");
    let views: Vec<&str> =
        data["views"].as_array().unwrap().iter().map(|view| view["view"].as_str().unwrap()).collect();
    assert!(views.contains(&"gold.orders") && views.iter().all(|view| view.starts_with("gold.")), "{views:?}");
    for view in data["views"].as_array().unwrap() {
        let keys: Vec<&str> = view.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(keys, ["as_of", "version", "view"]);
    }
    shop.lake.query("ALTER USER asha DISABLE").await;
    shop.lake.source.push(order(201, "S001"));
    shop.lake.pass_until_idle().await;
    assert!(asha.chunk().await.unwrap().is_none(), "who is out hears nothing more");
}

/// The next event of a stream.
async fn event(stream: &mut Response) -> (String, Value) {
    let mut text = String::new();
    while !text.ends_with("\n\n") {
        text += std::str::from_utf8(&stream.chunk().await.unwrap().expect("the stream goes on")).unwrap();
    }
    let field =
        |name: &str| text.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default().trim().to_string();
    (field("event:"), serde_json::from_str(&field("data:")).unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn links_show_one_seller_while_their_maker_may() {
    let shop = Shop::with_people().await;
    let make = async |who: (&str, &str), query: &str| {
        let url = format!("http://{}/v1/embed-links?{query}", shop.http);
        shop.client.post(url).basic_auth(who.0, Some(who.1)).send().await.unwrap()
    };
    shop.lake.query("CREATE USER boss PASSWORD 'sees it all here' ROLE admin").await;
    let boss = ("boss", "sees it all here");
    for query in ["", "seller=", "seller=S001&days=0", "seller=S001&days=400", "seller=S001&days=x"] {
        assert_eq!(make(boss, query).await.status(), 400, "{query}");
    }
    let made: Value = parsed(make(boss, "seller=S001").await).await;
    let token = made["url"].as_str().unwrap().strip_prefix("/embed?token=").unwrap().to_string();
    let by_link = shop.answer(&format!("range=all&seller=S004&token={token}"), None).await;
    let owner = shop.answer("range=all&seller=S001", Some(ROOT)).await;
    assert_eq!(by_link["tiles"]["kpis"], owner["tiles"]["kpis"]);
    assert_eq!(
        (&by_link["locked"], &by_link["operator"], &by_link["user"]),
        (&json!(true), &json!(false), &Value::Null)
    );
    let page = shop.get(&format!("/embed?token={token}"), None).await;
    assert!(page.headers()[CONTENT_SECURITY_POLICY].to_str().unwrap().ends_with("frame-ancestors 'self'"));
    assert_eq!(shop.get(&format!("/v1/operations?token={token}"), None).await.status(), 401, "for the shop only");

    // A seller's link shows what the seller sees.
    let made: Value = parsed(make(ASHA, "seller=S004").await).await;
    let narrow = made["url"].as_str().unwrap().replace("/embed?", "range=all&");
    assert_eq!(shop.answer(&narrow, None).await["tiles"]["kpis"][0]["orders"], 0);

    for wrong in ["", "v1", &token[..token.len() - 1], &token.replacen("v1.", "v1.9", 1)] {
        assert_eq!(shop.get(&format!("/v1/dashboard?token={wrong}"), None).await.status(), 401, "{wrong}");
    }
    shop.lake.query("ALTER USER boss DISABLE").await;
    assert_eq!(shop.get(&format!("/v1/dashboard?token={token}"), None).await.status(), 401);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_door_gives_a_cookie_that_only_this_site_gets() {
    let shop = Shop::with_people().await;
    let front = shop.get("/?range=7d&city=New+Delhi", None).await;
    assert_eq!(front.status(), 303);
    assert_eq!(front.headers()[LOCATION], "/login?next=%2F%3Frange%3D7d%26city%3DNew%2BDelhi");
    let log_in = async |password: &str, origin: &str| {
        let url = format!("http://{}/login", shop.http);
        let form = [("user", "asha"), ("password", password), ("next", "//evil.example")];
        let body = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(form).finish();
        shop.client.post(url).header("origin", origin).body(body).send().await.unwrap()
    };
    let own = format!("http://{}", shop.http);
    assert_eq!(log_in("sells rings here", "http://evil.example").await.status(), 403);
    let wrong = log_in("wrong password", &own).await;
    assert_eq!(wrong.status(), 401);
    assert!(wrong.text().await.unwrap().contains("the name or the password is wrong"));
    let right = log_in("sells rings here", &own).await;
    assert_eq!((right.status().as_u16(), &right.headers()[LOCATION]), (303, &"/".parse().unwrap()));
    let cookie = right.headers()[SET_COOKIE].to_str().unwrap().to_string();
    assert!(cookie.contains("HttpOnly") && cookie.contains("SameSite=Strict"), "{cookie}");
    let cookie = cookie.split(';').next().unwrap().to_string();
    let with = async |path: &str| {
        let request = shop.client.get(format!("http://{}{path}", shop.http)).header(COOKIE, &cookie);
        request.send().await.unwrap()
    };
    let page = with("/").await;
    assert!(page.headers()[CONTENT_SECURITY_POLICY].to_str().unwrap().contains("script-src 'self'"));
    assert!(page.text().await.unwrap().contains("id=\"kpis\""));
    let answer: Value = parsed(with("/v1/dashboard?range=all").await).await;
    assert_eq!((&answer["user"], &answer["operator"]), (&json!("asha"), &json!(false)));
    let out = shop.client.post(format!("http://{}/logout", shop.http)).header(COOKIE, &cookie).send().await.unwrap();
    assert_eq!(out.status(), 303);
    assert_eq!(with("/v1/dashboard").await.status(), 401);
}
