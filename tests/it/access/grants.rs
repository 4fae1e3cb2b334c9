//! Who may come in and what they may do.

use std::sync::Arc;

use super::{ask, denied, open_store, principal, refused, shared, store};
use flashcommerce::catalog::Principal;
use flashcommerce::error::ErrorKind;

use crate::engine::harness::Lake;

#[tokio::test]
async fn a_lake_is_open_until_there_is_an_administrator() {
    let lake = store(None).await;
    assert!(lake.engine.access().await.unwrap().is_open());
    let error = lake.execute("CREATE USER asha PASSWORD 'not an administrator'").await.unwrap_err();
    assert!(error.hint().unwrap().contains("ROLE admin"), "{error}");
    lake.query("CREATE USER root PASSWORD 'correct horse' ROLE admin").await;
    assert!(!lake.engine.access().await.unwrap().is_open());
    for sql in ["DROP USER root", "ALTER USER root DISABLE", "REVOKE admin FROM root"] {
        assert!(lake.execute(sql).await.unwrap_err().message().contains("nobody could administer"), "{sql}");
    }
    lake.query("CREATE USER second ROLE admin").await;
    lake.query("DROP USER root").await;
}

#[tokio::test]
async fn passwords_and_tokens_let_in_those_whose_they_are() {
    let lake = open_store().await;
    let engine = &lake.engine;
    assert_eq!(engine.log_in("ann", "analyses all").await.unwrap().subject, "ann");
    for (user, password) in [("ann", "analyses al"), ("ann", ""), ("ghost", "analyses all"), ("", "")] {
        let error = engine.log_in(user, password).await.unwrap_err();
        assert_eq!((error.kind(), error.message()), (ErrorKind::Unauthenticated, "the name or the password is wrong"));
    }
    let told = ask(&lake, "ann", "CREATE TOKEN tableau VALID FOR '30 days'").await.unwrap().remove(0);
    let token = told.lines().find(|line| line.starts_with("flash_")).unwrap().to_string();
    assert_eq!(engine.token_principal(&token).await.unwrap().subject, "ann");
    assert!(engine.token_principal("flash_00").await.is_err());
    lake.query("ALTER USER ann DISABLE").await;
    assert!(engine.token_principal(&token).await.is_err() && engine.log_in("ann", "analyses all").await.is_err());
    lake.query("ALTER USER ann ENABLE").await;
    assert!(engine.token_principal(&token).await.is_ok());
    ask(&lake, "ann", "DROP TOKEN tableau").await.unwrap();
    assert!(engine.token_principal(&token).await.is_err());
    ask(&lake, "ann", "ALTER USER ann PASSWORD 'another one now'").await.unwrap();
    assert!(
        engine.log_in("ann", "analyses all").await.is_err() && engine.log_in("ann", "another one now").await.is_ok()
    );
    // Nothing that could be used is kept or shown.
    let lake = lake.restart().await;
    assert!(lake.engine.log_in("ann", "another one now").await.is_ok(), "users outlive a restart");
    let everything = lake.query("SELECT * FROM system.users").await.join("\n");
    assert!(
        everything.contains("ann") && !everything.contains("argon2") && !everything.contains(&token),
        "{everything}"
    );
}

#[tokio::test]
async fn an_expired_token_is_refused() {
    let lake = open_store().await;
    let told = ask(&lake, "ann", "CREATE TOKEN short VALID FOR '1 ms'").await.unwrap().remove(0);
    let token = told.lines().nth(1).unwrap();
    let access = lake.engine.access().await.unwrap();
    let now_us = chrono::Utc::now().timestamp_micros();
    assert_eq!(access.token_owner(token, now_us - 60_000_000), Some("ann"));
    assert_eq!(access.token_owner(token, now_us + 1_000_000), None);
}

#[tokio::test]
async fn rights_come_with_roles_and_go_with_them() {
    let lake = open_store().await;
    for sql in [
        "CREATE ROLE reader",
        "CREATE ROLE writer ROLE reader",
        "GRANT SELECT ON s.cities TO reader",
        "GRANT INSERT, UPDATE ON s.cities TO writer",
        "GRANT writer TO nobody",
    ] {
        lake.query(sql).await;
    }
    assert_eq!(ask(&lake, "nobody", "SELECT count(*) FROM s.cities").await.unwrap(), ["3"]);
    ask(&lake, "nobody", "INSERT INTO s.cities VALUES ('Goa', 'GA')").await.unwrap();
    ask(&lake, "nobody", "UPDATE s.cities SET state = 'G' WHERE city = 'Goa'").await.unwrap();
    denied(&lake, "nobody", "DELETE FROM s.cities WHERE city = 'Goa'").await;
    denied(&lake, "nobody", "MERGE INTO s.cities t USING s.cities s ON t.city = s.city WHEN MATCHED THEN DELETE").await;
    lake.query("REVOKE INSERT ON s.cities FROM writer").await;
    denied(&lake, "nobody", "INSERT INTO s.cities VALUES ('Agra', 'UP')").await;
    assert!(lake.execute("GRANT writer TO reader").await.unwrap_err().message().contains("would have itself"));
    lake.query("DROP ROLE writer").await;
    assert!(refused(&lake, "nobody", "SELECT count(*) FROM s.cities").await.message().contains("not found"));
    assert!(lake.execute("DROP ROLE seller").await.unwrap_err().message().contains("policies or masks"));
    lake.query("GRANT SELECT ON s.cities TO public").await;
    assert_eq!(ask(&lake, "nobody", "SELECT count(*) FROM s.cities").await.unwrap(), ["4"]);
}

#[tokio::test]
async fn rows_of_a_table_with_policies_are_changed_by_administrators_only() {
    let lake = open_store().await;
    lake.query("GRANT ALL ON SCHEMA s TO seller").await;
    for sql in
        ["INSERT INTO s.sales SELECT * FROM s.sales", "DELETE FROM s.sales WHERE amount = 77", "TRUNCATE TABLE s.sales"]
    {
        let error = denied(&lake, "s1", sql).await;
        assert!(error.detail().unwrap().contains("policies"), "{error}");
    }
    ask(&lake, "s1", "INSERT INTO s.cities SELECT product, city FROM s.sales WHERE product IS NOT NULL").await.unwrap();
    let copied = lake.query("SELECT count(*) FROM s.cities").await.remove(0).parse::<usize>().unwrap() - 3;
    let own = ask(&lake, "s1", "SELECT count(product) FROM s.sales").await.unwrap().remove(0);
    assert_eq!(copied.to_string(), own, "what is copied is what is seen");
}

/// Two processes with one lake: a change of one is seen by the other, and neither loses one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changes_of_two_processes_are_all_kept() {
    let first = shared(open_store().await);
    let second = shared(Lake::open(Arc::clone(&first.store), Arc::default()).await.unwrap());
    let create = async |lake: &Lake, prefix: &str| {
        for number in 0..10 {
            lake.query(&format!("CREATE USER {prefix}{number}")).await;
        }
    };
    tokio::join!(create(&first, "a"), create(&second, "b"));
    let third = Lake::open(Arc::clone(&first.store), Arc::default()).await.unwrap();
    let access = third.engine.access().await.unwrap();
    for prefix in ["a", "b"] {
        assert!((0..10).all(|number| access.users.contains_key(&format!("{prefix}{number}"))), "{prefix}");
    }
    first.query("GRANT SELECT ON s.cities TO b1").await;
    // Within the time that a record may be old.
    let seen = async || {
        let principal: Principal = principal(&second, "b1").await;
        super::run(&second, &principal, "SELECT count(*) FROM s.cities").await.is_ok()
    };
    crate::source::eventually("the other process knows the right", seen).await;
}
