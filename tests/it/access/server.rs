//! The same rules by the front door: log-in, tokens, and handles that are somebody else's.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use arrow_flight::sql::client::FlightSqlServiceClient;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use flashcommerce::cli::remote::{Login, Remote, Trust};
use flashcommerce::error::ErrorKind;
use flashcommerce::server::{self, Identity, Limits, Security, Service};
use futures::TryStreamExt;
use prost::Message;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::Code;
use tonic::transport::{Channel, Endpoint};

use super::{ask, open_store, shared};
use crate::engine::harness::{Lake, lines};
use crate::flight::{listener, status};

pub(super) struct Door {
    pub(super) lake: Arc<Lake>,
    pub(super) flight: SocketAddr,
    pub(super) http: SocketAddr,
    _stops: DropGuard,
}

impl Door {
    pub(super) async fn open() -> Self {
        Self::protected(Security::default(), Identity::default()).await
    }

    pub(super) async fn protected(security: Security, identity: Identity) -> Self {
        let lake = shared(open_store().await);
        let shutdown = CancellationToken::new();
        let (flight, http) = (listener("--flight", &security).await, listener("--http", &security).await);
        let (flight_addr, http_addr) = (flight.local_addr().unwrap(), http.local_addr().unwrap());
        let backend = Arc::clone(&lake.engine) as Arc<dyn server::Backend>;
        // Longer than a slow machine takes from one guess to the next.
        let limits = Limits { log_in_wait: Duration::from_secs(60), ..Limits::default() };
        let service = Service::start(backend, limits, identity, shutdown.clone()).unwrap();
        tokio::spawn(server::serve_flight(flight, Arc::clone(&service)));
        tokio::spawn(server::serve_http(http, service, None));
        Self { lake, flight: flight_addr, http: http_addr, _stops: shutdown.drop_guard() }
    }

    pub(super) async fn client(&self) -> FlightSqlServiceClient<Channel> {
        let channel = Endpoint::from_shared(format!("http://{}", self.flight)).unwrap();
        FlightSqlServiceClient::new(channel.connect().await.unwrap())
    }

    pub(super) async fn user(&self, name: &str, password: &str) -> FlightSqlServiceClient<Channel> {
        let mut client = self.client().await;
        client.handshake(name, password).await.unwrap();
        client
    }

    pub(super) async fn seller(&self, number: u8) -> FlightSqlServiceClient<Channel> {
        self.user(&format!("s{number}"), &format!("sells as S{number}")).await
    }

    /// The status line of a GET.
    async fn get(&self, path: &str, authorization: Option<&str>) -> String {
        let mut stream = tokio::net::TcpStream::connect(self.http).await.unwrap();
        let header = authorization.map_or(String::new(), |value| format!("authorization: {value}\r\n"));
        let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{header}\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer.lines().next().unwrap().to_string()
    }
}

pub(super) type Asked = Result<Vec<String>, tonic::Status>;

pub(super) async fn query(client: &mut FlightSqlServiceClient<Channel>, sql: &str) -> Asked {
    let info = client.execute(sql.to_string(), None).await.map_err(status)?;
    let rows = client.do_get(info.endpoint[0].ticket.clone().unwrap()).await.map_err(status)?;
    Ok(lines(&rows.try_collect::<Vec<_>>().await.map_err(status)?))
}

pub(super) fn code(asked: Asked) -> Code {
    asked.map(|rows| panic!("{rows:?}")).unwrap_err().code()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everybody_says_who_they_are_and_sees_what_is_theirs() {
    let door = Door::open().await;
    let shops = "SELECT DISTINCT shop FROM s.clean";
    assert_eq!(code(query(&mut door.client().await, "SELECT 1").await), Code::Unauthenticated);
    assert_eq!(query(&mut door.seller(1).await, shops).await.unwrap(), ["S1"]);
    assert_eq!(query(&mut door.seller(2).await, shops).await.unwrap(), ["S2"]);
    assert_eq!(code(query(&mut door.seller(1).await, "SELECT * FROM s.total").await), Code::PermissionDenied);
    assert_eq!(code(query(&mut door.seller(1).await, "SELECT * FROM system.users").await), Code::NotFound);

    let told = query(&mut door.seller(1).await, "CREATE TOKEN excel").await.unwrap().join("\n");
    let token = told.lines().find_map(|line| line.find("flash_").map(|at| line[at..].to_string())).unwrap();
    let token: String = token.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect();
    let mut with_token = door.client().await;
    with_token.set_token(token.clone());
    assert_eq!(query(&mut with_token, shops).await.unwrap(), ["S1"]);
    let mut remote =
        Remote::connect(&format!("grpc://{}", door.flight), &Login::Token(token), &Trust::default()).await.unwrap();
    assert_eq!(lines(&remote.query(shops).await.unwrap().batches), ["S1"]);

    let mut seller = door.seller(3).await;
    door.lake.query("ALTER USER s3 DISABLE").await;
    assert_eq!(code(query(&mut seller, shops).await), Code::Unauthenticated, "a session of somebody who is out");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_guesses_has_to_wait() {
    let door = Door::open().await;
    let url = format!("grpc://{}", door.flight);
    let guess = async |user: &str, password: &str| {
        let login = Login::Password { user: user.into(), password: password.into() };
        Remote::connect(&url, &login, &Trust::default()).await
    };
    for user in ["ann", "ghost"] {
        for _ in 0..5 {
            let wrong = guess(user, "wrong").await.unwrap_err();
            assert_eq!(wrong.kind(), ErrorKind::Unauthenticated);
            assert!(wrong.message().contains("the name or the password is wrong"), "{wrong}");
        }
    }
    let right = guess("ann", "analyses all").await.unwrap_err();
    assert!(right.message().contains("try again in"), "{right}");
    guess("s1", "sells as S1").await.expect("others are not held up");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn handles_of_others_are_of_no_use() {
    let door = Door::open().await;
    let (mut first, mut second) = (door.seller(1).await, door.seller(2).await);
    let info = first.execute("SELECT DISTINCT shop FROM s.clean".into(), None).await.unwrap();
    let ticket = info.endpoint[0].ticket.clone().unwrap();
    let replayed = second.do_get(ticket.clone()).await.map(drop).map_err(status).unwrap_err();
    assert_eq!(replayed.code(), Code::NotFound);
    let cancel = arrow_flight::CancelFlightInfoRequest::new(info).encode_to_vec();
    let mut cancel = tonic::Request::new(arrow_flight::Action::new("CancelFlightInfo", cancel));
    let token = format!("Bearer {}", second.token().unwrap());
    cancel.metadata_mut().insert("authorization", token.parse().unwrap());
    assert_eq!(second.inner_mut().do_action(cancel).await.map(drop).unwrap_err().code(), Code::NotFound);
    let rows = first.do_get(ticket.clone()).await.unwrap().try_collect::<Vec<_>>().await.unwrap();
    assert_eq!(lines(&rows), ["S1"]);
    assert!(first.do_get(ticket).await.is_err(), "a ticket is good for once");

    // What was prepared is judged when it is executed.
    let mut prepared = first.prepare("SELECT DISTINCT shop FROM s.clean".into(), None).await.unwrap();
    door.lake.query("ALTER USER s1 ATTRIBUTES (seller_id = 'S3')").await;
    let info = prepared.execute().await.unwrap();
    let rows = first.do_get(info.endpoint[0].ticket.clone().unwrap()).await.unwrap();
    assert_eq!(lines(&rows.try_collect::<Vec<_>>().await.unwrap()), ["S3"]);
    door.lake.query("REVOKE SELECT ON SCHEMA s FROM seller").await;
    assert!(prepared.execute().await.is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_page_and_the_metrics_are_for_those_who_may_read_them() {
    let door = Door::open().await;
    let basic = |user: &str, password: &str| format!("Basic {}", STANDARD.encode(format!("{user}:{password}")));
    let root = basic("root", "correct horse");
    for path in ["/status", "/metrics"] {
        assert!(door.get(path, None).await.contains("401"));
        assert!(door.get(path, Some(&basic("root", "wrong horse"))).await.contains("401"));
        assert!(door.get(path, Some(&basic("s1", "sells as S1"))).await.contains("403"));
        assert!(door.get(path, Some(&root)).await.contains("200"));
    }
    assert!(door.get("/healthz", None).await.contains("200"));
    door.lake.query("GRANT SELECT ON system.materialized_views TO nobody").await;
    let told = ask(&door.lake, "nobody", "CREATE TOKEN prometheus").await.unwrap().remove(0);
    let token = told.lines().nth(1).unwrap();
    assert!(door.get("/metrics", Some(&format!("Bearer {token}"))).await.contains("200"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_ends_with_what_it_rests_on() {
    let door = Door::open().await;
    let mut seller = door.seller(1).await;
    query(&mut seller, "SELECT 1").await.unwrap();
    let info = seller.execute("SELECT DISTINCT shop FROM s.clean".into(), None).await.unwrap();
    door.lake.query("ALTER USER s1 ATTRIBUTES (seller_id = 'S2')").await;
    let late = seller.do_get(info.endpoint[0].ticket.clone().unwrap()).await.map(drop).map_err(status).unwrap_err();
    assert_eq!(late.code(), Code::PermissionDenied, "planned under other rights");
    door.lake.query("ALTER USER s1 PASSWORD 'another password'").await;
    assert_eq!(code(query(&mut seller, "SELECT 1").await), Code::Unauthenticated);

    let told = ask(&door.lake, "ann", "CREATE TOKEN t").await.unwrap().remove(0);
    let url = format!("grpc://{}", door.flight);
    let mut ann = door.client().await;
    ann.set_token(told.lines().nth(1).unwrap().to_string());
    query(&mut ann, "SELECT 1").await.unwrap();
    door.lake.query("DROP TOKEN t FOR ann").await;
    assert_eq!(code(query(&mut ann, "SELECT 1").await), Code::Unauthenticated);
    for name in ["local", "system"] {
        assert!(door.lake.execute(&format!("CREATE USER {name}")).await.is_err(), "{name} is nobody's name");
    }
    let login = Login::Password { user: "s2".into(), password: "sells as S2".into() };
    let mut remote = Remote::connect(&url, &login, &Trust::default()).await.unwrap();
    for sql in ["; SET datafusion.runtime.metadata_cache_limit = '1K'", "SET datafusion.execution.batch_size = 1"] {
        assert!(remote.query(sql).await.is_err(), "{sql}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_that_are_on_their_way_end_with_the_right_to_them() {
    let door = Door::open().await;
    let mut seller = door.seller(1).await;
    let many = "SELECT c.shop FROM s.clean c, range(0, 100000000) r";
    let info = seller.execute(many.into(), None).await.unwrap();
    let mut rows = seller.do_get(info.endpoint[0].ticket.clone().unwrap()).await.unwrap();
    rows.try_next().await.unwrap().expect("rows");
    door.lake.query("REVOKE SELECT ON SCHEMA s FROM seller").await;
    let ended = async {
        while rows.try_next().await?.is_some() {}
        Ok::<_, arrow_flight::error::FlightError>(())
    };
    let ended = tokio::time::timeout(Duration::from_secs(30), ended).await.expect("they go on");
    assert_eq!(status(ended.unwrap_err()).code(), Code::Cancelled);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_makes_no_tokens() {
    let door = Door::open().await;
    let told = ask(&door.lake, "s1", "CREATE TOKEN first").await.unwrap().remove(0);
    let mut with_token = door.client().await;
    with_token.set_token(told.lines().nth(1).unwrap().to_string());
    for sql in ["CREATE TOKEN second", "ALTER USER s1 PASSWORD 'another password'"] {
        assert_eq!(code(query(&mut with_token, sql).await), Code::PermissionDenied, "{sql}");
    }
    with_token.execute("DROP TOKEN first".into(), None).await.expect("what closes the door is theirs");
    assert_eq!(code(query(&mut with_token, "SELECT 1").await), Code::Unauthenticated);
    query(&mut door.seller(1).await, "CREATE TOKEN second").await.expect("by password");
}

/// However many at once: after the free ones, nobody's password is tried.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_guesses_at_once_are_many_guesses() {
    let door = Door::open().await;
    let url = format!("grpc://{}", door.flight);
    let guess = |number: usize| {
        let login = Login::Password { user: "root".into(), password: format!("guess number {number}") };
        let url = url.clone();
        async move { Remote::connect(&url, &login, &Trust::default()).await.unwrap_err().message().to_string() }
    };
    let told = futures::future::join_all((0..30).map(guess)).await;
    let tried = told.iter().filter(|text| text.contains("is wrong")).count();
    assert!(tried <= 6, "{tried} were tried");
}
