//! Limits of roles, and the audit log: everybody uses what they may, and what they did can be read.

use std::time::{Duration, Instant};

use arrow_flight::sql::client::FlightSqlServiceClient;
use prost::Message;
use tonic::Code;
use tonic::transport::Channel;

use super::server::{Asked, Door, code, query};
use super::{ask, sorted};
use crate::flight::status;

/// Changes, each longer than the one before, until a client goes away in the midst of one.
const ATTEMPTS_MAX: u32 = 10;

/// How long what is written later may take.
const WRITTEN_MAX: Duration = Duration::from_secs(30);

async fn limited(door: &Door, limits: &str) -> FlightSqlServiceClient<Channel> {
    door.lake.query(&format!("ALTER ROLE seller LIMITS ({limits})")).await;
    door.seller(1).await
}

fn message(asked: Asked) -> String {
    asked.unwrap_err().message().to_string()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_role_uses_what_it_may() {
    let door = Door::open().await;
    let rows = "SELECT a.value FROM range(0, 1000) a, range(0, 100) b";
    let mut seller = limited(&door, "rows_max = 1000").await;
    assert_eq!(code(query(&mut seller, rows).await), Code::ResourceExhausted);
    assert!(message(query(&mut seller, rows).await).contains("more than the 1000 rows"));
    assert_eq!(query(&mut seller, &format!("{rows} LIMIT 1000")).await.unwrap().len(), 1000);
    let mut seller = limited(&door, "bytes_max = 8000").await;
    assert_eq!(query(&mut seller, &format!("{rows} LIMIT 900")).await.unwrap().len(), 900, "slices count as they are");
    assert_eq!(code(query(&mut seller, &format!("{rows} LIMIT 1100")).await), Code::ResourceExhausted);

    let mut seller = limited(&door, "memory_bytes_max = 100000").await;
    let sum = "SELECT count(*) FROM (SELECT a.value, count(*) FROM range(0, 200000) a GROUP BY a.value)";
    let refused = query(&mut seller, sum).await.unwrap_err();
    assert!(refused.message().contains("100000 bytes of memory"), "{refused}");
    let mut ann = door.user("ann", "analyses all").await;
    assert_eq!(query(&mut ann, sum).await.unwrap(), ["200000"], "others have all of it");

    let mut seller = limited(&door, "time_max = '300 milliseconds'").await;
    let long = "SELECT count(*) FROM range(0, 3000000) a, range(0, 3000000) b WHERE a.value * b.value % 7 = 9";
    let begin = Instant::now();
    assert_eq!(code(query(&mut seller, long).await), Code::DeadlineExceeded);
    assert!(begin.elapsed() < Duration::from_secs(60));

    let mut seller = limited(&door, "handles_max = 1").await;
    seller.execute("SELECT 1".into(), None).await.unwrap();
    let full = seller.execute("SELECT 1".into(), None).await.map_err(status).unwrap_err();
    assert_eq!(full.code(), Code::ResourceExhausted);

    // The smallest of what one's roles and oneself are given holds.
    door.lake.query("ALTER ROLE seller LIMITS ()").await;
    door.lake.query("ALTER ROLE public LIMITS (rows_max = 5)").await;
    door.lake.query("ALTER USER s2 LIMITS (rows_max = 3)").await;
    for (number, allowed) in [(1, 5), (2, 3)] {
        let mut seller = door.seller(number).await;
        assert_eq!(query(&mut seller, &format!("{rows} LIMIT {allowed}")).await.unwrap().len(), allowed);
        assert_eq!(code(query(&mut seller, &format!("{rows} LIMIT {}", allowed + 1)).await), Code::ResourceExhausted);
    }
    let told = door.lake.query("SELECT role_name, limits FROM system.roles WHERE limits <> ''").await;
    assert_eq!(told, ["public|rows_max = 5"]);
    for wrong in ["rows_max = 0", "rows_max = 'x'", "rows = 5", "rows_max = 1, rows_max = 2", "time_max = 5"] {
        assert!(door.lake.execute(&format!("ALTER ROLE seller LIMITS ({wrong})")).await.is_err(), "{wrong}");
    }
}

/// A join without an equality works for seconds before it lets others on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_computes_much_keeps_nobody_out() {
    let door = Door::open().await;
    let heavy = "SELECT sum(a.value * b.value) FROM range(0, 300000) AS a, range(0, 300000) AS b";
    let mut fetching = Vec::new();
    for _ in 0..2 {
        let mut ann = door.user("ann", "analyses all").await;
        let info = ann.execute(heavy.into(), None).await.unwrap();
        fetching
            .push(tokio::spawn(async move { ann.do_get(info.endpoint[0].ticket.clone().unwrap()).await.map(drop) }));
    }
    let answered = tokio::time::timeout(Duration::from_secs(30), async {
        let mut seller = door.seller(1).await;
        query(&mut seller, "SELECT 1").await
    });
    assert_eq!(answered.await.expect("nobody gets in").unwrap(), ["1"]);
    fetching.iter().for_each(tokio::task::JoinHandle::abort);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_done_can_be_read() {
    let door = Door::open().await;
    let mut root = door.user("root", "correct horse").await;
    let mut seller = door.seller(1).await;
    query(&mut seller, "SELECT DISTINCT shop FROM s.clean").await.unwrap();
    assert_eq!(code(query(&mut seller, "SELECT * FROM s.total").await), Code::PermissionDenied);
    assert_eq!(code(query(&mut seller, "SELECT * FROM system.audit_log").await), Code::NotFound);
    assert!(door.client().await.handshake("s2", "guessed").await.is_err());
    // A change is answered when its line is in the lake, and so is all that came before it.
    query(&mut root, "CREATE USER late PASSWORD 'not to be read'").await.unwrap();
    let lines = "SELECT user_name, door, event, statement, outcome, rows FROM system.audit_log \
                 WHERE day >= DATE '2020-01-01' AND at <= now()";
    let found = sorted(door.lake.query(lines).await);
    for line in [
        "root|flight|statement|CREATE USER late PASSWORD '***'|done|0",
        "s1|flight|log_in||done|0",
        "s1|flight|statement|SELECT DISTINCT shop FROM s.clean|done|1",
        "s1|flight|statement|SELECT * FROM s.total|denied|0",
        "s2|flight|log_in||denied|0",
    ] {
        assert!(found.iter().any(|found| found.replace("NULL", "") == line), "{line} is not in\n{}", found.join("\n"));
    }
    assert!(!found.join("\n").contains("not to be read"));

    // A query that was given up, and who may read the log without being an administrator.
    let info = seller.execute("SELECT shop FROM s.clean".into(), None).await.unwrap();
    let cancel = arrow_flight::CancelFlightInfoRequest::new(info).encode_to_vec();
    let mut cancel = tonic::Request::new(arrow_flight::Action::new("CancelFlightInfo", cancel));
    cancel.metadata_mut().insert("authorization", format!("Bearer {}", seller.token().unwrap()).parse().unwrap());
    seller.inner_mut().do_action(cancel).await.unwrap();
    door.lake.query("GRANT SELECT ON system.audit_log TO ann").await;
    let begin = Instant::now();
    let cancelled = "SELECT count(*) FROM system.audit_log WHERE outcome = 'cancelled'";
    while ask(&door.lake, "ann", cancelled).await.unwrap() != ["1"] {
        assert!(begin.elapsed() < WRITTEN_MAX, "the line of a query does not come");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// A change runs to its end also when its client has gone, and so does its line.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_whose_client_goes_away_is_written_down_as_done() {
    let door = Door::open().await;
    door.lake.query("CREATE TABLE s.kept (attempt INT, n BIGINT)").await;
    let outcomes = async |attempt: u32| {
        let lines = "SELECT outcome FROM system.audit_log WHERE statement LIKE 'INSERT INTO s.kept SELECT ";
        door.lake.query(&format!("{lines}{attempt},%'")).await
    };
    for attempt in 1..=ATTEMPTS_MAX {
        let mut root = door.user("root", "correct horse").await;
        // The longer, the surer it is under way when the client goes.
        let rows = u64::from(attempt) * 500_000;
        let sql = format!("INSERT INTO s.kept SELECT {attempt}, value FROM range(0, {rows})");
        let answered = tokio::time::timeout(Duration::from_millis(100), root.execute_update(sql, None)).await;
        drop(root);
        let begin = Instant::now();
        while outcomes(attempt).await.is_empty() {
            assert!(begin.elapsed() < WRITTEN_MAX, "the line of the change does not come");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        let held = door.lake.query(&format!("SELECT count(*) FROM s.kept WHERE attempt = {attempt}")).await;
        assert_eq!((outcomes(attempt).await, held), (vec!["done".to_string()], vec![rows.to_string()]));
        if answered.is_err() {
            return;
        }
    }
    panic!("the client was answered each time");
}
