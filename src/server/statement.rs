//! What the server has to know about an SQL text before the engine sees it.
//!
//! ```text
//!   text ─▶ tokens ─▶ first word: a query (SELECT, WITH, SHOW, ...) or a change (all else)
//!                └──▶ a placeholder ("?", "$1") anywhere: refused, parameters come later
//! ```
//!
//! A query is planned where it is prepared, to tell its columns, and is dropped when its client goes away. A change
//! must do neither: it runs once, to its end, when it is executed. SET is refused rather than forgotten.

use sqlparser::dialect::GenericDialect;
use sqlparser::tokenizer::{Token, Tokenizer};
use tonic::Status;

/// What a statement gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shape {
    /// Rows.
    Query,
    /// A count or a message.
    Change,
}

const QUERY_WORDS: [&str; 9] = ["SELECT", "WITH", "VALUES", "TABLE", "FROM", "EXPLAIN", "DESCRIBE", "DESC", "SHOW"];

/// The shape of a text, which is refused when it is longer than `bytes_max` or has parameters. A text that has no
/// tokens at all goes on to the engine, whose parser knows how to say what is wrong.
pub(crate) fn shape(sql: &str, bytes_max: usize) -> Result<Shape, Status> {
    if sql.len() > bytes_max {
        return Err(Status::invalid_argument(format!(
            "the statement has {} bytes; {bytes_max} are allowed",
            sql.len()
        )));
    }
    let Ok(tokens) = Tokenizer::new(&GenericDialect {}, sql).tokenize() else { return Ok(Shape::Query) };
    if let Some(Token::Placeholder(name)) = tokens.iter().find(|token| matches!(token, Token::Placeholder(_))) {
        return Err(Status::invalid_argument(format!(
            "the statement has the parameter \"{name}\"; parameters are not supported yet (hint: write the value itself)"
        )));
    }
    let first = tokens.iter().find(|token| !matches!(token, Token::Whitespace(_) | Token::LParen));
    let Some(Token::Word(word)) = first else { return Ok(Shape::Query) };
    match word.value.to_uppercase().as_str() {
        "SET" | "RESET" => Err(Status::unimplemented(
            "settings do not last here yet: every statement has a session of its own (hint: the default schema is an \
             option of the connection)",
        )),
        word if QUERY_WORDS.contains(&word) => Ok(Shape::Query),
        _ => Ok(Shape::Change),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_word_decides() {
        let shape = |sql| shape(sql, 1000).unwrap();
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
        assert_eq!(super::shape("set a = 1", 1000).unwrap_err().code(), tonic::Code::Unimplemented);
    }

    #[test]
    fn parameters_are_refused_but_not_inside_texts_and_comments() {
        for sql in ["select ?", "select * from t where a = $1 and b = $2"] {
            let status = shape(sql, 1000).unwrap_err();
            assert_eq!(status.code(), tonic::Code::InvalidArgument);
            assert!(status.message().contains("parameters are not supported yet"), "{}", status.message());
        }
        assert!(shape("select '?' as \"what?\" -- $1?\n, '$1'", 1000).is_ok());
        assert!(shape("select 1", 7).unwrap_err().message().contains("8 bytes"));
    }
}
