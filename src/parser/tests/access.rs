//! Users, roles, grants, policies, masks and tokens.

use std::collections::{BTreeMap, BTreeSet};

use super::{name, one};
use crate::parser::{AccessStatement, GrantOn, GrantWhat, PUBLIC, Privilege, Secret, Statement, UserChange, parse};

fn access(sql: &str) -> AccessStatement {
    match one(sql).statement {
        Statement::Access(statement) => *statement,
        other => panic!("{sql}: {other:?}"),
    }
}

fn set(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(ToString::to_string).collect()
}

#[test]
fn users_with_everything() {
    let statement =
        access("CREATE USER Asha PASSWORD 'it''s' ROLE seller, \"Big One\" ATTRIBUTES (seller_id = 'S1', a = '')");
    let AccessStatement::CreateUser { name, password, roles, attributes } = statement else { panic!() };
    assert_eq!((name.as_str(), password), ("asha", Some(Secret("it's".into()))));
    assert_eq!(roles, set(&["seller", "Big One"]));
    assert_eq!(attributes, BTreeMap::from([("a".into(), String::new()), ("seller_id".into(), "S1".into())]));
    assert!(!format!("{:?}", access("ALTER USER a PASSWORD 'secret word'")).contains("secret word"));
    for (sql, change) in [
        ("ALTER USER a ENABLE", UserChange::Enabled(true)),
        ("ALTER USER a DISABLE", UserChange::Enabled(false)),
        ("ALTER USER a ATTRIBUTES ()", UserChange::Attributes(BTreeMap::new())),
    ] {
        assert_eq!(access(sql), AccessStatement::AlterUser { name: "a".into(), change }, "{sql}");
    }
}

#[test]
fn rights_and_roles_are_told_apart() {
    let privileges =
        |privileges: &[Privilege], on| GrantWhat::Privileges { privileges: privileges.iter().copied().collect(), on };
    let table = || GrantOn::Table(name("gold.x"));
    let all = [Privilege::Select, Privilege::Insert, Privilege::Update, Privilege::Delete];
    for (sql, what) in [
        ("GRANT SELECT, INSERT ON gold.x TO a", privileges(&[Privilege::Select, Privilege::Insert], table())),
        ("GRANT ALL PRIVILEGES ON TABLE gold.x TO a", privileges(&all, table())),
        ("GRANT SELECT ON SCHEMA gold TO a", privileges(&[Privilege::Select], GrantOn::Schema("gold".into()))),
        ("GRANT seller, analyst TO a", GrantWhat::Roles(set(&["seller", "analyst"]))),
    ] {
        assert_eq!(access(sql), AccessStatement::Grant { what, to: set(&["a"]) }, "{sql}");
    }
    let statement = access("REVOKE seller FROM a, b");
    assert_eq!(statement, AccessStatement::Revoke { what: GrantWhat::Roles(set(&["seller"])), from: set(&["a", "b"]) });
}

#[test]
fn policies_masks_and_tokens() {
    let statement =
        access("CREATE POLICY p ON gold.x AS RESTRICTIVE FOR SELECT TO a, b USING ( day > DATE '2026-01-01' )");
    let AccessStatement::CreatePolicy { name: policy, on, restrictive, to, using } = statement else { panic!() };
    assert_eq!((policy.as_str(), on, restrictive, to), ("p", name("gold.x"), true, set(&["a", "b"])));
    assert_eq!(using, "day > DATE '2026-01-01'", "as it was written");
    let statement = access("CREATE MASK m ON gold.x (user_id) USING (md5(user_id))");
    let AccessStatement::CreateMask { column, to, using, .. } = statement else { panic!() };
    assert_eq!((column.as_str(), to, using.as_str()), ("user_id", set(&[PUBLIC]), "md5(user_id)"));
    let token = |user: Option<&str>, valid_ms| AccessStatement::CreateToken {
        name: "t".into(),
        user: user.map(String::from),
        valid_ms,
    };
    assert_eq!(access("CREATE TOKEN t"), token(None, None));
    assert_eq!(access("CREATE TOKEN t FOR asha VALID FOR '30 days'"), token(Some("asha"), Some(30 * 86_400_000)));
    let dropped = AccessStatement::DropMask { name: "m".into(), on: name("gold.x"), if_exists: true };
    assert_eq!(access("DROP MASK IF EXISTS m ON gold.x"), dropped);
}

#[test]
fn half_a_statement_is_none() {
    for sql in [
        "CREATE USER",
        "CREATE USER a PASSWORD",
        "CREATE USER a PASSWORD \"b\"",
        "CREATE USER a SUPERUSER",
        "ALTER USER a ROLE b",
        "GRANT SELECT ON gold.x",
        "GRANT SELEKT ON gold.x TO a",
        "CREATE POLICY p ON gold.x FOR UPDATE USING (true)",
        "CREATE POLICY p ON gold.x TO a",
        "CREATE POLICY p ON gold.x USING (true) WITH CHECK (true)",
        "CREATE MASK m ON gold.x USING (1)",
        "CREATE TOKEN t VALID FOR '0 days'",
        "CREATE TOKEN t VALID FOR 'ever'",
        "CREATE USER a ATTRIBUTES (b = 'c', b = 'd')",
    ] {
        assert!(parse(sql, None).is_err(), "{sql}");
    }
}
