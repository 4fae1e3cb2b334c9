//! What the server has to know about an SQL text before the engine sees it.
//!
//! ```text
//!   text ─▶ tokens ─┬▶ first word: a query (SELECT, WITH, SHOW, ...) or a change (all else)
//!                   └▶ parameters: "?" becomes $1, $2, ... in order; $n stays; both, or a name, is refused
//! ```
//!
//! A query is planned where it is prepared, to tell its columns, and is dropped when its client goes away. A change
//! must do neither: it runs once, to its end, when it is executed. SET is refused rather than forgotten, and so is a
//! transaction.

use std::ops::Range;

use bytes::Bytes;
use sqlparser::tokenizer::Token;
use tonic::Status;

use super::parameters;
use crate::parser;

/// What a statement gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shape {
    /// Rows.
    Query,
    /// A count or a message.
    Change,
}

/// A text for the engine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Statement {
    /// With parameters as `$n` only.
    pub(crate) sql: String,
    pub(crate) shape: Shape,
    pub(crate) has_parameters: bool,
    /// A change of what there is, or of who may do what; not of rows.
    pub(crate) is_definition: bool,
    /// Makes a token, or changes a password.
    pub(crate) is_credential: bool,
}

/// Changes of rows only.
const ROW_WORDS: [&str; 5] = ["INSERT", "UPDATE", "DELETE", "MERGE", "REFRESH"];

const QUERY_WORDS: [&str; 9] = ["SELECT", "WITH", "VALUES", "TABLE", "FROM", "EXPLAIN", "DESCRIBE", "DESC", "SHOW"];

/// Look at a text, which is refused when it is longer than `bytes_max`. One that has no tokens goes on to the engine,
/// whose parser knows how to say what is wrong.
pub(crate) fn read(sql: &str, bytes_max: usize) -> Result<Statement, Status> {
    if sql.len() > bytes_max {
        return Err(Status::invalid_argument(format!(
            "the statement has {} bytes; {bytes_max} are allowed",
            sql.len()
        )));
    }
    let Some(tokens) = parser::tokens(sql) else {
        return Ok(Statement {
            sql: sql.to_string(),
            shape: Shape::Query,
            has_parameters: false,
            is_definition: false,
            is_credential: false,
        });
    };
    let words = words(&tokens);
    let verb = words.first().cloned().unwrap_or_default();
    let shape = shape(&verb)?;
    let rewritten = parameters::rewrite(sql, &tokens)?;
    let is_definition = shape == Shape::Change && !ROW_WORDS.contains(&verb.as_str());
    let is_credential = match words.as_slice() {
        [first, second, ..] if first == "CREATE" => second == "TOKEN",
        [first, second, _, fourth] if first == "ALTER" => second == "USER" && fourth == "PASSWORD",
        _ => false,
    };
    let has_parameters = rewritten.has_parameters;
    Ok(Statement { sql: rewritten.sql, shape, has_parameters, is_definition, is_credential })
}

/// Refuse a call inside a transaction.
pub(crate) fn no_transaction(id: Option<&Bytes>) -> Result<(), Status> {
    match id {
        Some(id) if !id.is_empty() => Err(Status::invalid_argument(NO_TRANSACTIONS)),
        _ => Ok(()),
    }
}

/// What those are told who ask for one.
pub(crate) const NO_TRANSACTIONS: &str =
    "there are no transactions here: every statement is committed by itself (hint: switch autocommit on)";

/// The first words, in capitals; fewer where something else stands between them.
fn words(tokens: &[(Token, Range<usize>)]) -> Vec<String> {
    let passed = |token: &Token| matches!(token, Token::Whitespace(_) | Token::LParen | Token::SemiColon);
    let words = tokens.iter().filter(|(token, _)| !passed(token)).map_while(|(token, _)| match token {
        Token::Word(word) => Some(word.value.to_uppercase()),
        _ => None,
    });
    words.take(4).collect()
}

fn shape(verb: &str) -> Result<Shape, Status> {
    match verb {
        "" => Ok(Shape::Query),
        "SET" | "RESET" => Err(Status::unimplemented(
            "settings do not last here yet: every statement has a session of its own (hint: the default schema is an \
             option of the connection)",
        )),
        "PREPARE" | "EXECUTE" | "DEALLOCATE" => Err(Status::unimplemented(
            "statements are prepared by the driver here, not by SQL (hint: use its prepared statements)",
        )),
        "BEGIN" | "START" | "COMMIT" | "ROLLBACK" | "SAVEPOINT" | "RELEASE" => {
            Err(Status::unimplemented(NO_TRANSACTIONS))
        }
        word if QUERY_WORDS.contains(&word) => Ok(Shape::Query),
        _ => Ok(Shape::Change),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_word_decides() {
        let shape = |sql| read(sql, 1000).unwrap().shape;
        for sql in
            ["select 1", " -- hi\n (SELECT 1)", "/* x */ with a as (select 1) select * from a", "show tables", ""]
        {
            assert_eq!(shape(sql), Shape::Query, "{sql}");
        }
        for sql in
            ["insert into t values (1)", "REFRESH MATERIALIZED VIEW gold.x", "create table t (a int)", "drop table t"]
        {
            assert_eq!(shape(sql), Shape::Change, "{sql}");
        }
        assert_eq!(shape("select 'unfinished"), Shape::Query);
        for sql in ["set a = 1", "; ;SET a = 1", "BEGIN", "rollback to savepoint a", "prepare p as select 1"] {
            assert_eq!(read(sql, 1000).unwrap_err().code(), tonic::Code::Unimplemented, "{sql}");
        }
        assert!(read("select 1", 7).unwrap_err().message().contains("8 bytes"));
    }

    #[test]
    fn statements_that_open_the_door_for_longer_are_known() {
        for sql in ["create token t", "CREATE TOKEN t FOR a", "/* x */ ; alter user \"a\" password 'x'"] {
            assert!(read(sql, 1000).unwrap().is_credential, "{sql}");
        }
        for sql in ["DROP TOKEN t", "ALTER USER a DISABLE", "ALTER USER password ENABLE", "SELECT 1"] {
            assert!(!read(sql, 1000).unwrap().is_credential, "{sql}");
        }
    }

    #[test]
    fn a_transaction_is_refused() {
        assert!(no_transaction(None).is_ok() && no_transaction(Some(&Bytes::new())).is_ok());
        assert_eq!(no_transaction(Some(&Bytes::from("1"))).unwrap_err().code(), tonic::Code::InvalidArgument);
    }
}
