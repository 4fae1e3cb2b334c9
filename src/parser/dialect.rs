//! sqlparser's PostgreSQL, parsed in bounded time.
//!
//! ```text
//!  abs(abs(abs(x)))   stock sqlparser reads every argument twice, to see if it is named (`a => 1`): 2^depth steps.
//!  CASE WHEN CASE ... it falls back to a function of that name after each error: 2^depth or 3^depth steps.
//!
//!  INTERVAL DAY INTERVAL DAY ...   it recurses without counting: the stack overflows.
//!
//!  here:  names of arguments are plain words;  words that can only be SQL are never tried as names;
//!         INTERVAL without a literal after it is a name;
//!         and for whatever is left, a budget of steps that no honest statement uses up.
//! ```
//!
//! What both parse, they parse alike; a test compares them. Versions of tables (`AS OF`) are ours. Everything that is not said here is PostgreSQL's.

use std::any::TypeId;
use std::cell::Cell;

use sqlparser::ast::{CastKind, Expr};
use sqlparser::dialect::{Dialect, PostgreSqlDialect, Precedence};
use sqlparser::keywords::Keyword;
use sqlparser::parser::{Parser, ParserError};
use sqlparser::tokenizer::{Token, Word};

/// The dialect that is tuned.
pub(super) static POSTGRES: PostgreSqlDialect = PostgreSqlDialect {};
/// Steps for a statement, whatever its length: a few milliseconds.
const STEPS_BASE: usize = 20_000;
/// Steps more for each token; a plain list needs one.
const STEPS_PER_TOKEN: usize = 20;

/// PostgreSQL for one statement.
#[derive(Debug)]
pub(super) struct Budgeted {
    steps_left: Cell<usize>,
    /// The statement names versions of tables.
    versions: bool,
}

impl Budgeted {
    pub(super) fn new(tokens: usize, versions: bool) -> Self {
        Self { steps_left: Cell::new(STEPS_BASE + STEPS_PER_TOKEN * tokens), versions }
    }
}

/// Methods that answer as PostgreSQL's do.
macro_rules! as_postgres {
    ($($name:ident),+ $(,)?) => { $(fn $name(&self) -> bool { POSTGRES.$name() })+ };
}

impl Dialect for Budgeted {
    /// To sqlparser it *is* PostgreSQL.
    fn dialect(&self) -> TypeId {
        TypeId::of::<PostgreSqlDialect>()
    }

    fn parse_prefix(&self, parser: &mut Parser<'_>) -> Option<Result<Expr, ParserError>> {
        match self.steps_left.get().checked_sub(1) {
            None => return Some(Err(ParserError::RecursionLimitExceeded)),
            Some(left) => self.steps_left.set(left),
        }
        let Token::Word(Word { keyword, quote_style: None, .. }) = parser.peek_token_ref().token else { return None };
        let call = *parser.peek_nth_token_ref(1) == Token::LParen;
        let list = *parser.peek_nth_token_ref(1) == Token::LBracket;
        let parse: fn(&mut Parser<'_>) -> Result<Expr, ParserError> = match keyword {
            Keyword::INTERVAL if !is_literal(&parser.peek_nth_token_ref(1).token) => |parser| {
                parser.prev_token();
                parser.parse_identifier().map(Expr::Identifier)
            },
            Keyword::CASE => |parser| parser.parse_case_expr(),
            Keyword::NOT => |parser| parser.parse_not(),
            Keyword::CAST if call => |parser| parser.parse_cast_expr(CastKind::Cast),
            Keyword::TRY_CAST if call => |parser| parser.parse_cast_expr(CastKind::TryCast),
            Keyword::EXISTS if call => |parser| parser.parse_exists_expr(false),
            Keyword::EXTRACT if call => |parser| parser.parse_extract_expr(),
            Keyword::CEIL if call => |parser| parser.parse_ceil_floor_expr(true),
            Keyword::FLOOR if call => |parser| parser.parse_ceil_floor_expr(false),
            Keyword::TRIM if call => |parser| parser.parse_trim_expr(),
            Keyword::SUBSTR | Keyword::SUBSTRING if call => return Some(parser.parse_substring()),
            Keyword::ARRAY if list => |parser| {
                parser.expect_token(&Token::LBracket)?;
                parser.parse_array_expr(true)
            },
            _ => return None,
        };
        parser.advance_token();
        Some(parse(parser))
    }

    /// `f(name => value)` with a plain name; PostgreSQL's own functions want expressions there, and we have none of them.
    fn supports_named_fn_args_with_expr_name(&self) -> bool {
        false
    }

    /// Where a statement has some (`super::versions`): sqlparser takes `FROM t at` for the beginning of one, too.
    fn supports_table_versioning(&self) -> bool {
        self.versions
    }

    fn identifier_quote_style(&self, identifier: &str) -> Option<char> {
        POSTGRES.identifier_quote_style(identifier)
    }

    fn is_delimited_identifier_start(&self, character: char) -> bool {
        POSTGRES.is_delimited_identifier_start(character)
    }

    fn is_identifier_start(&self, character: char) -> bool {
        POSTGRES.is_identifier_start(character)
    }

    fn is_identifier_part(&self, character: char) -> bool {
        POSTGRES.is_identifier_part(character)
    }

    fn is_reserved_for_identifier(&self, keyword: Keyword) -> bool {
        POSTGRES.is_reserved_for_identifier(keyword)
    }

    fn is_custom_operator_part(&self, character: char) -> bool {
        POSTGRES.is_custom_operator_part(character)
    }

    fn get_next_precedence(&self, parser: &Parser<'_>) -> Option<Result<u8, ParserError>> {
        POSTGRES.get_next_precedence(parser)
    }

    fn prec_value(&self, precedence: Precedence) -> u8 {
        POSTGRES.prec_value(precedence)
    }

    as_postgres! {
        allow_extract_custom, allow_extract_single_quotes, supports_alter_column_type_using,
        supports_array_typedef_with_brackets, supports_bitwise_shift_operators, supports_comma_separated_trim,
        supports_comment_on, supports_comment_optimizer_hint, supports_create_index_with_clause,
        supports_create_table_like_parenthesized, supports_empty_projections, supports_explain_with_utility_options,
        supports_factorial_operator, supports_filter_during_aggregation, supports_geometric_types,
        supports_group_by_expr, supports_insert_table_alias, supports_interval_options, supports_listen_notify,
        supports_load_extension, supports_named_fn_args_with_colon_operator, supports_nested_comments,
        supports_notnull_operator, supports_numeric_literal_underscores, supports_select_wildcard_with_alias,
        supports_set_names, supports_string_escape_constant, supports_unicode_string_literal, supports_xml_expressions,
    }
}

/// What the text of an interval may be.
fn is_literal(token: &Token) -> bool {
    matches!(
        token,
        Token::SingleQuotedString(_)
            | Token::EscapedStringLiteral(_)
            | Token::DollarQuotedString(_)
            | Token::Number(..)
            | Token::Placeholder(_)
    )
}
