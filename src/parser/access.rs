//! Who may do what, and see what.
//!
//! ```text
//!  CREATE USER u [PASSWORD '..'] [ROLE r, ..] [ATTRIBUTES (seller_id = 'S1', ..)]      CREATE ROLE r [ROLE s, ..]
//!  ALTER USER u PASSWORD '..' | ATTRIBUTES (..) | ENABLE | DISABLE                     DROP USER | ROLE [IF EXISTS] n
//!  ALTER USER | ROLE n LIMITS (statements_max = 4, time_max = '30 seconds', ..)
//!  GRANT SELECT, .. ON s.n | SCHEMA s TO n, ..        GRANT r, .. TO n, ..             REVOKE .. FROM ..
//!  CREATE POLICY p ON s.n [AS PERMISSIVE | RESTRICTIVE] [FOR SELECT] [TO r, ..] USING (condition)
//!  CREATE MASK m ON s.n (column) [TO r, ..] USING (value)                              DROP POLICY | MASK n ON s.n
//!  CREATE TOKEN t [FOR u] [VALID FOR '30 days']                                        DROP TOKEN t [FOR u]
//!  ALTER MATERIALIZED VIEW s.n DECLASSIFY | CLASSIFY
//! ```
//!
//! The grammar of policies and grants is PostgreSQL's.

use std::collections::{BTreeMap, BTreeSet};

use sqlparser::tokenizer::Token;

use super::ast::{AccessStatement, GrantOn, GrantWhat, Privilege, RoleLimits, Secret, Statement, UserChange};
use super::cursor::Cursor;
use super::limits::ITEMS_MAX;
use super::options::interval_ms;
use super::suggest::did_you_mean;
use super::versions;
use crate::error::{Error, ErrorKind, Result};

/// The role that everybody has.
pub const PUBLIC: &str = "public";

const PRIVILEGES: [(&str, Privilege); 4] = [
    ("SELECT", Privilege::Select),
    ("INSERT", Privilege::Insert),
    ("UPDATE", Privilege::Update),
    ("DELETE", Privilege::Delete),
];

/// A statement of this module, or None with the cursor where it was.
pub(super) fn statement(cursor: &mut Cursor<'_>) -> Result<Option<Statement>> {
    let parse: fn(&mut Cursor<'_>) -> Result<AccessStatement> = if cursor.take_words(&["CREATE", "USER"]) {
        create_user
    } else if cursor.take_words(&["ALTER", "USER"]) {
        alter_user
    } else if cursor.take_words(&["CREATE", "ROLE"]) {
        |cursor| Ok(AccessStatement::CreateRole { name: name(cursor, "a role")?, roles: member_of(cursor)? })
    } else if cursor.take_words(&["ALTER", "ROLE"]) {
        |cursor| {
            let name = name(cursor, "a role")?;
            cursor.expect_words(&["LIMITS"], "the role's name")?;
            Ok(AccessStatement::AlterRole { name, limits: limits(cursor)? })
        }
    } else if cursor.take_words(&["DROP", "USER"]) {
        |cursor| Ok(AccessStatement::DropUser { if_exists: if_exists(cursor), name: name(cursor, "a user")? })
    } else if cursor.take_words(&["DROP", "ROLE"]) {
        |cursor| Ok(AccessStatement::DropRole { if_exists: if_exists(cursor), name: name(cursor, "a role")? })
    } else if cursor.take_words(&["GRANT"]) {
        |cursor| Ok(AccessStatement::Grant { what: granted(cursor, "GRANT")?, to: names_after(cursor, "TO")? })
    } else if cursor.take_words(&["REVOKE"]) {
        |cursor| Ok(AccessStatement::Revoke { what: granted(cursor, "REVOKE")?, from: names_after(cursor, "FROM")? })
    } else if cursor.take_words(&["CREATE", "POLICY"]) {
        create_policy
    } else if cursor.take_words(&["CREATE", "MASK"]) {
        create_mask
    } else if cursor.take_words(&["DROP", "POLICY"]) {
        |cursor| {
            let (if_exists, name) = (if_exists(cursor), name(cursor, "a policy")?);
            Ok(AccessStatement::DropPolicy { if_exists, name, on: on(cursor, "DROP POLICY")? })
        }
    } else if cursor.take_words(&["DROP", "MASK"]) {
        |cursor| {
            let (if_exists, name) = (if_exists(cursor), name(cursor, "a mask")?);
            Ok(AccessStatement::DropMask { if_exists, name, on: on(cursor, "DROP MASK")? })
        }
    } else if cursor.take_words(&["CREATE", "TOKEN"]) {
        create_token
    } else if cursor.take_words(&["DROP", "TOKEN"]) {
        |cursor| Ok(AccessStatement::DropToken { name: name(cursor, "a token")?, user: token_user(cursor)? })
    } else {
        return Ok(None);
    };
    parse(cursor).map(|statement| Some(Statement::Access(Box::new(statement))))
}

fn create_user(cursor: &mut Cursor<'_>) -> Result<AccessStatement> {
    let name = name(cursor, "a user")?;
    let password = if cursor.take_words(&["PASSWORD"]) { Some(password(cursor)?) } else { None };
    let roles = member_of(cursor)?;
    let attributes = if cursor.take_words(&["ATTRIBUTES"]) { attributes(cursor)? } else { BTreeMap::new() };
    if *cursor.peek(0) != Token::EOF {
        return Err(cursor
            .expected("the end of the statement")
            .with_hint("CREATE USER name [PASSWORD '...'] [ROLE a, b] [ATTRIBUTES (seller_id = 'S1')]"));
    }
    Ok(AccessStatement::CreateUser { name, password, roles, attributes })
}

fn alter_user(cursor: &mut Cursor<'_>) -> Result<AccessStatement> {
    let name = name(cursor, "a user")?;
    let change = if cursor.take_words(&["PASSWORD"]) {
        UserChange::Password(password(cursor)?)
    } else if cursor.take_words(&["ATTRIBUTES"]) {
        UserChange::Attributes(attributes(cursor)?)
    } else if cursor.take_words(&["ENABLE"]) {
        UserChange::Enabled(true)
    } else if cursor.take_words(&["DISABLE"]) {
        UserChange::Enabled(false)
    } else if cursor.take_words(&["LIMITS"]) {
        UserChange::Limits(limits(cursor)?)
    } else {
        return Err(cursor
            .expected("PASSWORD, ATTRIBUTES, LIMITS, ENABLE or DISABLE")
            .with_hint("roles come and go with GRANT role TO user and REVOKE role FROM user"));
    };
    Ok(AccessStatement::AlterUser { name, change })
}

fn create_policy(cursor: &mut Cursor<'_>) -> Result<AccessStatement> {
    let name = name(cursor, "a policy")?;
    let on = on(cursor, "the name of the policy")?;
    let restrictive = if cursor.take_words(&["AS"]) {
        let restrictive = cursor.take_words(&["RESTRICTIVE"]);
        if !restrictive && !cursor.take_words(&["PERMISSIVE"]) {
            return Err(cursor.expected("PERMISSIVE or RESTRICTIVE after AS"));
        }
        restrictive
    } else {
        false
    };
    if cursor.take_words(&["FOR"]) && !cursor.take_words(&["SELECT"]) {
        return Err(cursor
            .expected("SELECT after FOR")
            .with_hint("policies say who sees which rows; who may change a table is said by GRANT"));
    }
    let to = roles_or_public(cursor)?;
    let using = using(cursor)?;
    if cursor.is_word(0, "WITH") {
        return Err(cursor.error("a policy has no WITH CHECK").with_hint("who may change a table is said by GRANT"));
    }
    Ok(AccessStatement::CreatePolicy { name, on, restrictive, to, using })
}

fn create_mask(cursor: &mut Cursor<'_>) -> Result<AccessStatement> {
    let name = name(cursor, "a mask")?;
    let on = on(cursor, "the name of the mask")?;
    cursor.expect(&Token::LParen, "\"(\" and a column after the table")?;
    let column = cursor.identifier("a column")?;
    cursor.expect(&Token::RParen, "\")\" after the column")?;
    Ok(AccessStatement::CreateMask { name, on, column, to: roles_or_public(cursor)?, using: using(cursor)? })
}

fn create_token(cursor: &mut Cursor<'_>) -> Result<AccessStatement> {
    let name = name(cursor, "a token")?;
    let user = token_user(cursor)?;
    let valid_ms = if cursor.take_words(&["VALID"]) {
        cursor.expect_words(&["FOR"], "VALID")?;
        let offset = cursor.offset();
        let text = cursor.string("a duration, such as '30 days'")?;
        let valid_ms = interval_ms(&text).map_err(|error| error.with_location(cursor.location(offset)))?;
        if valid_ms == 0 {
            return Err(cursor.error_at(offset, "a token that is valid for no time"));
        }
        Some(valid_ms)
    } else {
        None
    };
    Ok(AccessStatement::CreateToken { name, user, valid_ms })
}

fn token_user(cursor: &mut Cursor<'_>) -> Result<Option<String>> {
    if cursor.take_words(&["FOR"]) { name(cursor, "a user after FOR").map(Some) } else { Ok(None) }
}

/// Privileges on something, or roles.
fn granted(cursor: &mut Cursor<'_>, verb: &str) -> Result<GrantWhat> {
    let first = PRIVILEGES.iter().any(|(word, _)| cursor.is_word(0, word)) || cursor.is_word(0, "ALL");
    if !first {
        if !cursor.is_word(1, "ON") {
            return names(cursor, "a privilege or a role").map(GrantWhat::Roles);
        }
        let words = PRIVILEGES.map(|(word, _)| word);
        let near = cursor.word(0).and_then(|word| did_you_mean(&word.value, words));
        let error = cursor.expected(&format!("a privilege after {verb}"));
        return Err(match near {
            Some(near) => error.with_hint(format!("did you mean {near}?")),
            None => error.with_hint(format!("the privileges are {} and ALL", words.join(", "))),
        });
    }
    let mut privileges = BTreeSet::new();
    loop {
        if cursor.take_words(&["ALL"]) {
            cursor.take_words(&["PRIVILEGES"]);
            privileges.extend(PRIVILEGES.map(|(_, privilege)| privilege));
        } else {
            let Some((word, privilege)) = PRIVILEGES.iter().find(|(word, _)| cursor.is_word(0, word)) else {
                return Err(cursor.expected("a privilege"));
            };
            cursor.take_words(&[word]);
            privileges.insert(*privilege);
        }
        if !cursor.take(&Token::Comma) {
            break;
        }
    }
    cursor.expect_words(&["ON"], "the privileges")?;
    let on = if cursor.take_words(&["SCHEMA"]) {
        GrantOn::Schema(cursor.identifier("a schema")?)
    } else {
        cursor.take_words(&["TABLE"]);
        GrantOn::Table(cursor.name()?)
    };
    Ok(GrantWhat::Privileges { privileges, on })
}

fn on(cursor: &mut Cursor<'_>, before: &str) -> Result<crate::name::TableName> {
    cursor.expect_words(&["ON"], before)?;
    cursor.name()
}

fn using(cursor: &mut Cursor<'_>) -> Result<String> {
    cursor.expect_words(&["USING"], "the roles")?;
    cursor.expect(&Token::LParen, "\"(\" after USING")?;
    let start = cursor.offset();
    let expression = cursor.parse(|parser| parser.parser.parse_expr())?;
    versions::refuse(cursor, &expression, start)?;
    let text = cursor.text_since(start);
    cursor.expect(&Token::RParen, "\")\" after the expression")?;
    Ok(text)
}

fn roles_or_public(cursor: &mut Cursor<'_>) -> Result<BTreeSet<String>> {
    if cursor.is_word(0, "TO") { names_after(cursor, "TO") } else { Ok(BTreeSet::from([PUBLIC.to_string()])) }
}

fn member_of(cursor: &mut Cursor<'_>) -> Result<BTreeSet<String>> {
    if cursor.take_words(&["ROLE"]) { names(cursor, "a role") } else { Ok(BTreeSet::new()) }
}

fn names_after(cursor: &mut Cursor<'_>, word: &str) -> Result<BTreeSet<String>> {
    cursor.expect_words(&[word], "what is granted")?;
    names(cursor, "a user or a role")
}

fn names(cursor: &mut Cursor<'_>, what: &str) -> Result<BTreeSet<String>> {
    let mut names = BTreeSet::new();
    loop {
        names.insert(name(cursor, what)?);
        if names.len() > ITEMS_MAX {
            return Err(cursor.error(format!("too many names; the limit is {ITEMS_MAX}")));
        }
        if !cursor.take(&Token::Comma) {
            return Ok(names);
        }
    }
}

/// A user's, role's, policy's or token's name. `PUBLIC` is a word like another here.
fn name(cursor: &mut Cursor<'_>, what: &str) -> Result<String> {
    cursor.identifier(what)
}

fn if_exists(cursor: &mut Cursor<'_>) -> bool {
    cursor.take_words(&["IF", "EXISTS"])
}

fn password(cursor: &mut Cursor<'_>) -> Result<Secret> {
    cursor.string("a password in single quotes").map(Secret)
}

/// `(name = 'value', ...)`.
fn attributes(cursor: &mut Cursor<'_>) -> Result<BTreeMap<String, String>> {
    let mut attributes = BTreeMap::new();
    cursor.expect(&Token::LParen, "\"(\" after ATTRIBUTES")?;
    while !cursor.take(&Token::RParen) {
        if !attributes.is_empty() {
            cursor.expect(&Token::Comma, "\",\" or \")\" after an attribute")?;
        }
        let offset = cursor.offset();
        let key = cursor.identifier("the name of an attribute")?;
        cursor.expect(&Token::Eq, "\"=\" after the attribute's name")?;
        let value = cursor.string("the attribute's value in single quotes")?;
        if attributes.insert(key.clone(), value).is_some() {
            return Err(cursor.error_at(offset, format!("the attribute {key} is given twice")));
        }
        if attributes.len() > ITEMS_MAX {
            return Err(Error::new(ErrorKind::Syntax, format!("too many attributes; the limit is {ITEMS_MAX}")));
        }
    }
    Ok(attributes)
}

/// `(name = number, ...)`; the time as `'30 seconds'`.
fn limits(cursor: &mut Cursor<'_>) -> Result<RoleLimits> {
    let mut limits = RoleLimits::default();
    cursor.expect(&Token::LParen, "\"(\" after LIMITS")?;
    let mut first = true;
    while !cursor.take(&Token::RParen) {
        if !first {
            cursor.expect(&Token::Comma, "\",\" or \")\" after a limit")?;
        }
        first = false;
        let offset = cursor.offset();
        let name = cursor.identifier("the name of a limit")?;
        let Some(limit) = limits.named(&name) else {
            let hint = match did_you_mean(&name, RoleLimits::NAMES) {
                Some(near) => format!("did you mean {near}?"),
                None => format!("the limits are {}", RoleLimits::NAMES.join(", ")),
            };
            return Err(cursor.error_at(offset, format!("there is no limit {name}")).with_hint(hint));
        };
        if limit.is_some() {
            return Err(cursor.error_at(offset, format!("the limit {name} is given twice")));
        }
        cursor.expect(&Token::Eq, "\"=\" after the limit's name")?;
        let offset = cursor.offset();
        let value = match cursor.peek(0) {
            Token::Number(digits, _) if name != "time_max" => digits.parse().ok(),
            Token::SingleQuotedString(text) if name == "time_max" => {
                Some(interval_ms(text).map_err(|error| error.with_location(cursor.location(offset)))?)
            }
            _ => None,
        };
        let Some(value) = value.filter(|value| *value > 0) else {
            let wanted = if name == "time_max" { "a duration, such as '30 seconds'" } else { "a whole number above 0" };
            return Err(cursor.expected(wanted));
        };
        *limit = Some(value);
        cursor.skip(1);
    }
    Ok(limits)
}
