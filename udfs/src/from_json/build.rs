//! Columns under construction: values of one type, from the places that the scanner found.
//!
//! ```text
//! records   {"id":"7","price":499.00}   {"id":8,"price":"x"}    {"price":
//! places    id    Text 7                Number 8                Null        one column after the other, so that
//!           price Number 499.00         Text x                  Null        each loop knows its type
//! columns   id    7                     8                       NULL
//!           price 499.00                NULL (does not fit)     NULL
//! ```

use std::sync::Arc;

use arrow::array::builder::{BooleanBuilder, PrimitiveBuilder, StringBuilder};
use arrow::array::{ArrayRef, ArrowPrimitiveType};
use arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, Float64Type, Int16Type, Int32Type, Int64Type, TimeUnit,
    TimestampMicrosecondType,
};
use datafusion_common::{Result, internal_err};

use super::instant;
use super::number::{Beyond, decimal, double, integer};
use super::scan::{Kind, Token, unescape};

/// Bytes of text that a row is expected to have in one column.
const TEXT_BYTES: usize = 16;

/// One column of the result.
pub(super) enum Column {
    Text(StringBuilder),
    Boolean(BooleanBuilder),
    Int16(PrimitiveBuilder<Int16Type>),
    Int32(PrimitiveBuilder<Int32Type>),
    Int64(PrimitiveBuilder<Int64Type>),
    Float64(PrimitiveBuilder<Float64Type>),
    Date(PrimitiveBuilder<Date32Type>),
    Timestamp(PrimitiveBuilder<TimestampMicrosecondType>),
    Decimal(PrimitiveBuilder<Decimal128Type>, u8, i8),
}

impl Column {
    /// A column of one of the types that `columns` parses, with room for this many rows.
    pub(super) fn new(data_type: &DataType, rows: usize) -> Result<Self> {
        Ok(match data_type {
            DataType::Utf8 => Self::Text(StringBuilder::with_capacity(rows, rows * TEXT_BYTES)),
            DataType::Boolean => Self::Boolean(BooleanBuilder::with_capacity(rows)),
            DataType::Int16 => Self::Int16(PrimitiveBuilder::with_capacity(rows)),
            DataType::Int32 => Self::Int32(PrimitiveBuilder::with_capacity(rows)),
            DataType::Int64 => Self::Int64(PrimitiveBuilder::with_capacity(rows)),
            DataType::Float64 => Self::Float64(PrimitiveBuilder::with_capacity(rows)),
            DataType::Date32 => Self::Date(PrimitiveBuilder::with_capacity(rows)),
            DataType::Timestamp(TimeUnit::Microsecond, Some(_)) => {
                Self::Timestamp(PrimitiveBuilder::with_capacity(rows).with_data_type(data_type.clone()))
            }
            DataType::Decimal128(precision, scale) => {
                let builder = PrimitiveBuilder::with_capacity(rows).with_data_type(data_type.clone());
                Self::Decimal(builder, *precision, *scale)
            }
            other => return internal_err!("from_json has no columns of type {other}"),
        })
    }

    /// Add a row for each token, NULL where the value is none of the column's type.
    pub(super) fn extend(&mut self, texts: &[&str], tokens: &[Token], scratch: &mut String) {
        let rows = texts.iter().zip(tokens);
        match self {
            Self::Text(builder) => rows.for_each(|(text, token)| push_text(builder, text, *token, scratch)),
            Self::Boolean(builder) => {
                rows.for_each(|(text, token)| builder.append_option(boolean(text, *token)));
            }
            Self::Int16(builder) => push(builder, rows, |text| i16::try_from(integer(text.as_bytes())?).ok(), scratch),
            Self::Int32(builder) => push(builder, rows, |text| i32::try_from(integer(text.as_bytes())?).ok(), scratch),
            Self::Int64(builder) => push(builder, rows, |text| integer(text.as_bytes()), scratch),
            Self::Float64(builder) => push(builder, rows, double, scratch),
            Self::Date(builder) => push_strings(builder, rows, instant::date, scratch),
            Self::Timestamp(builder) => push_strings(builder, rows, instant::instant, scratch),
            Self::Decimal(builder, precision, scale) => {
                let (precision, scale) = (*precision, *scale);
                let parse = |text: &str| decimal(text.as_bytes(), precision, scale, Beyond::Round);
                push(builder, rows, parse, scratch);
            }
        }
    }

    /// The finished column.
    pub(super) fn finish(self) -> ArrayRef {
        match self {
            Self::Text(mut builder) => Arc::new(builder.finish()),
            Self::Boolean(mut builder) => Arc::new(builder.finish()),
            Self::Int16(mut builder) => Arc::new(builder.finish()),
            Self::Int32(mut builder) => Arc::new(builder.finish()),
            Self::Int64(mut builder) => Arc::new(builder.finish()),
            Self::Float64(mut builder) => Arc::new(builder.finish()),
            Self::Date(mut builder) => Arc::new(builder.finish()),
            Self::Timestamp(mut builder) => Arc::new(builder.finish()),
            Self::Decimal(mut builder, ..) => Arc::new(builder.finish()),
        }
    }
}

/// The token's part of the record's text.
#[inline]
fn part(text: &str, token: Token) -> &str {
    text.get(token.start as usize..token.end as usize).unwrap_or_default()
}

/// A string's text, or the JSON text of any other value but null.
#[inline]
fn push_text(builder: &mut StringBuilder, text: &str, token: Token, scratch: &mut String) {
    match token.kind {
        Kind::Null => builder.append_null(),
        Kind::Escaped => {
            scratch.clear();
            unescape(part(text, token), scratch);
            builder.append_value(&scratch);
        }
        _ => builder.append_value(part(text, token)),
    }
}

fn boolean(text: &str, token: Token) -> Option<bool> {
    match token.kind {
        Kind::True => Some(true),
        Kind::False => Some(false),
        Kind::Text => match part(text, token) {
            "true" => Some(true),
            "false" => Some(false),
            _ => None,
        },
        _ => None,
    }
}

/// Numbers, which may be written as strings.
#[inline]
fn push<'a, T: ArrowPrimitiveType>(
    builder: &mut PrimitiveBuilder<T>,
    rows: impl Iterator<Item = (&'a &'a str, &'a Token)>,
    parse: impl Fn(&str) -> Option<T::Native>,
    scratch: &mut String,
) {
    rows.for_each(|(text, token)| {
        builder.append_option(match token.kind {
            Kind::Number | Kind::Text => parse(part(text, *token)),
            Kind::Escaped => {
                scratch.clear();
                unescape(part(text, *token), scratch);
                parse(scratch)
            }
            _ => None,
        });
    });
}

/// Values that are written as strings only.
#[inline]
fn push_strings<'a, T: ArrowPrimitiveType>(
    builder: &mut PrimitiveBuilder<T>,
    rows: impl Iterator<Item = (&'a &'a str, &'a Token)>,
    parse: impl Fn(&str) -> Option<T::Native>,
    scratch: &mut String,
) {
    let strings = |text: &str| parse(text);
    rows.for_each(|(text, token)| {
        builder.append_option(match token.kind {
            Kind::Text => strings(part(text, *token)),
            Kind::Escaped => {
                scratch.clear();
                unescape(part(text, *token), scratch);
                strings(scratch)
            }
            _ => None,
        });
    });
}
