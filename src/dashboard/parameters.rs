//! Values for the parameters of the tiles: typed, and put into the statement's tree, never into its text.
//!
//! ```text
//!   Request, Period, the cities of its states ─▶ { from: Day, seller: Text, cities: Texts, ... }
//!   "... day >= $from ..." ─parsed─▶ Placeholder ─replaced─▶ a literal of the value's type ─▶ a plan
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;

use chrono::{NaiveDate, NaiveDateTime};
use datafusion::sql::parser::Statement;
use datafusion::sql::sqlparser::ast::{
    self, Array, CastKind, DataType, Expr, Interval, TimezoneInfo, TypedString, Value, visit_expressions_mut,
};
use datafusion::sql::sqlparser::dialect::PostgreSqlDialect;
use datafusion::sql::sqlparser::parser::Parser;

use crate::dashboard::period::Period;
use crate::dashboard::request::Request;
use crate::error::{Error, ErrorKind, Result};

/// A value of a parameter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Parameter {
    /// A condition.
    Flag(bool),
    /// A text, or NULL.
    Text(Option<String>),
    /// A list of texts.
    Texts(BTreeSet<String>),
    /// A day.
    Day(NaiveDate),
    /// A wall clock, to the microsecond.
    Instant(NaiveDateTime),
    /// Days of the calendar.
    Days(BTreeSet<NaiveDate>),
    /// A span of whole days.
    Span(i64),
}

/// Values by name.
pub type Parameters = BTreeMap<&'static str, Parameter>;

/// The values of a request. `cities`: its own, and those of its states.
pub fn of(request: &Request, period: &Period, cities: BTreeSet<String>) -> Parameters {
    let chosen = !request.states.is_empty() || !request.cities.is_empty();
    BTreeMap::from([
        ("now", Parameter::Instant(period.now)),
        ("from", Parameter::Day(period.from)),
        ("to", Parameter::Day(period.to)),
        ("before", Parameter::Day(period.before)),
        ("cut", Parameter::Instant(period.cut)),
        ("shift", Parameter::Span(period.shift().num_days())),
        ("grain", Parameter::Text(Some(request.grain.name().into()))),
        ("seller", Parameter::Text(request.seller.clone())),
        ("any_place", Parameter::Flag(!chosen)),
        ("cities", Parameter::Texts(cities)),
        ("any_category", Parameter::Flag(request.categories.is_empty())),
        ("categories", Parameter::Texts(request.categories.clone())),
        ("any_product", Parameter::Flag(request.products.is_empty())),
        ("products", Parameter::Texts(request.products.clone())),
    ])
}

/// The statement with its values.
///
/// # Errors
/// `Internal` for a text that is no query, or names a parameter that has no value.
pub fn bound(sql: &str, parameters: &Parameters) -> Result<Statement> {
    let wrong = |error: String| Error::new(ErrorKind::Internal, "a query of the dashboard is wrong").with_detail(error);
    let parsed = Parser::parse_sql(&PostgreSqlDialect {}, sql).map_err(|error| wrong(error.to_string()))?;
    let Ok([mut statement]) = <[ast::Statement; 1]>::try_from(parsed) else { return Err(wrong(sql.to_string())) };
    let missing = visit_expressions_mut(&mut statement, |expr| {
        if let Expr::InList { list, .. } = expr {
            spell_out(list);
        }
        let Expr::Value(value) = expr else { return ControlFlow::Continue(()) };
        let Value::Placeholder(name) = &value.value else { return ControlFlow::Continue(()) };
        match parameters.get(name.trim_start_matches('$')) {
            Some(parameter) => *expr = literal(parameter),
            None => return ControlFlow::Break(name.clone()),
        }
        ControlFlow::Continue(())
    });
    match missing {
        ControlFlow::Break(name) => Err(wrong(format!("{name} has no value"))),
        ControlFlow::Continue(()) => Ok(Statement::Statement(Box::new(statement))),
    }
}

/// `x IN (ARRAY['a', 'b'])` is `x IN ('a', 'b')`: what is within has its values before what is around it.
fn spell_out(list: &mut Vec<Expr>) {
    if let [Expr::Array(values)] = list.as_mut_slice() {
        *list = std::mem::take(&mut values.elem);
    }
}

fn literal(parameter: &Parameter) -> Expr {
    match parameter {
        Parameter::Flag(flag) => value(Value::Boolean(*flag)),
        Parameter::Text(None) => value(Value::Null),
        Parameter::Text(Some(text)) => self::text(text.clone()),
        // An empty list has no type; it is asked only where its flag says that anything will do.
        Parameter::Texts(texts) if texts.is_empty() => list(vec![text(String::new())]),
        Parameter::Texts(texts) => list(texts.iter().cloned().map(text).collect()),
        Parameter::Day(value) => day(*value),
        Parameter::Instant(instant) => Expr::Cast {
            kind: CastKind::Cast,
            expr: Box::new(text(instant.format("%Y-%m-%dT%H:%M:%S%.6f").to_string())),
            data_type: DataType::Timestamp(Some(6), TimezoneInfo::None),
            array: false,
            format: None,
        },
        // As with texts: an empty list is asked only where any day will do.
        Parameter::Days(days) if days.is_empty() => list(vec![day(NaiveDate::default())]),
        Parameter::Days(days) => list(days.iter().copied().map(day).collect()),
        Parameter::Span(days) => Expr::Interval(Interval {
            value: Box::new(text(format!("{days} days"))),
            leading_field: None,
            leading_precision: None,
            last_field: None,
            fractional_seconds_precision: None,
        }),
    }
}

fn value(value: Value) -> Expr {
    Expr::Value(value.into())
}

fn text(text: String) -> Expr {
    value(Value::SingleQuotedString(text))
}

fn day(day: NaiveDate) -> Expr {
    let value = Value::SingleQuotedString(day.to_string()).into();
    Expr::TypedString(TypedString { data_type: DataType::Date, value, uses_odbc_syntax: false })
}

fn list(elem: Vec<Expr>) -> Expr {
    Expr::Array(Array { elem, named: true })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dashboard::period::Range;
    use crate::dashboard::queries::TILES;
    use crate::dashboard::relations;

    fn parameters(request: &Request) -> Parameters {
        let period = Period::of(Range::Week, "2026-11-23T10:12:59Z".parse().unwrap());
        of(request, &period, request.cities.clone())
    }

    #[test]
    fn values_become_literals_of_their_types() {
        let request =
            Request { seller: Some("O'Neil; --".into()), cities: ["Pune".into()].into(), ..Request::default() };
        let sql = "SELECT $seller, $cities, $from, $cut, $shift, $any_place, $products, city IN ($cities)";
        let bound = bound(sql, &parameters(&request)).unwrap().to_string();
        let wanted = "SELECT 'O''Neil; --', ARRAY['Pune'], DATE '2026-11-17', \
                      CAST('2026-11-16T15:42:00.000000' AS TIMESTAMP(6)), INTERVAL '7 days', false, ARRAY[''], city IN ('Pune')";
        assert_eq!(bound, wanted);
    }

    #[test]
    fn every_parameter_of_every_tile_has_a_value() {
        let mut all = parameters(&Request::default());
        all.extend(relations::parameters_of_all());
        for (name, sql) in TILES.iter() {
            let bound = bound(sql, &all).unwrap_or_else(|error| panic!("{name}: {error:?}"));
            assert!(!bound.to_string().contains('$'), "{name}");
        }
        assert!(bound("SELECT $unheard", &all).is_err());
        assert!(bound("SELECT 1; SELECT 2", &all).is_err());
    }
}
