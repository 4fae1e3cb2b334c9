//! `WITH (...)` of a materialized view, `OPTIONS (...)` of an external table, and durations.
//!
//! ```text
//!   WITH (target_lag = '5 seconds', unique_key = 'event_id', dedupe_within = '1 day',     a closed list of names
//!         retention = '90 days', retention_by = 'event_time', expired_inputs = 'ignore')
//!   OPTIONS ('start' 'trim_horizon')                                                      the source knows its names
//!   duration := ( digits unit )+          unit := milliseconds | seconds | minutes | hours | days | weeks
//! ```

use std::collections::BTreeMap;

use sqlparser::tokenizer::{Token, Tokenizer, Word};

use super::ast::{RefreshMode, RetentionOptions, ViewOptions};
use super::cursor::{Cursor, normal};
use super::dialect::POSTGRES;
use super::limits::ITEMS_MAX;
use super::suggest::did_you_mean;
use crate::error::{Error, ErrorKind, Result};

/// The longest duration, in milliseconds: 100 years of 365.25 days.
pub const INTERVAL_MS_MAX: u64 = 3_155_760_000_000;

const VIEW_OPTIONS: [&str; 7] =
    ["target_lag", "refresh_mode", "unique_key", "dedupe_within", "retention", "retention_by", "expired_inputs"];
const EXPIRED_INPUTS: [(&str, bool); 2] = [("refuse", false), ("ignore", true)];
const REFRESH_MODES: [(&str, RefreshMode); 3] =
    [("incremental", RefreshMode::Incremental), ("full", RefreshMode::Full), ("auto", RefreshMode::Auto)];

const UNITS: [(&[&str], u64); 6] = [
    (&["milliseconds", "millisecond", "ms"], 1),
    (&["seconds", "second", "secs", "sec", "s"], 1_000),
    (&["minutes", "minute", "mins", "min"], 60_000),
    (&["hours", "hour", "h"], 3_600_000),
    (&["days", "day", "d"], 86_400_000),
    (&["weeks", "week"], 604_800_000),
];

/// `(key = value, ...)` after `WITH`.
pub(super) fn view_options(cursor: &mut Cursor<'_>) -> Result<ViewOptions> {
    let mut options = ViewOptions::default();
    let mut seen: Vec<String> = Vec::new();
    let mut dedupe_offset = None;
    let (mut retention_ms, mut retention_by) = (None, None);
    cursor.expect(&Token::LParen, "\"(\" after WITH")?;
    loop {
        let offset = cursor.offset();
        let key = option_key(cursor)?;
        if !VIEW_OPTIONS.contains(&key.as_str()) {
            return Err(unknown_option(cursor, offset, &key));
        }
        if seen.contains(&key) {
            return Err(cursor.error_at(offset, format!("the option {key} is given twice")));
        }
        if !cursor.take(&Token::Eq) {
            let hint = format!("write {key} = '...'");
            return Err(cursor.expected(&format!("\"=\" after {key}")).with_hint(hint));
        }
        let at = cursor.offset();
        let value = option_value(cursor, &key)?;
        let placed = |error: Error| error.context(&key).with_location(cursor.location(at));
        match key.as_str() {
            "target_lag" if value.eq_ignore_ascii_case("downstream") => {}
            "target_lag" => options.target_lag_ms = Some(lag(&value).map_err(placed)?),
            "refresh_mode" => options.refresh_mode = one_of(&value, &REFRESH_MODES).map_err(placed)?,
            "unique_key" => options.unique_key = column_list(&value).map_err(placed)?,
            "retention" => retention_ms = Some((offset, positive(&value).map_err(placed)?)),
            "retention_by" => retention_by = Some((offset, one_column(&value).map_err(placed)?)),
            "expired_inputs" => options.ignores_expired = one_of(&value, &EXPIRED_INPUTS).map_err(placed)?,
            _ => {
                options.dedupe_within_ms = Some(positive(&value).map_err(placed)?);
                dedupe_offset = Some(offset);
            }
        }
        seen.push(key);
        if !cursor.take(&Token::Comma) {
            break;
        }
    }
    cursor.expect(&Token::RParen, "\",\" or \")\" after an option")?;
    options.retention = retention(cursor, retention_ms, retention_by)?;
    match dedupe_offset {
        Some(offset) if options.unique_key.is_empty() => Err(cursor
            .error_at(offset, "dedupe_within needs unique_key")
            .with_hint("name the columns that make a row unique, as in unique_key = 'event_id'")),
        _ => Ok(options),
    }
}

fn unknown_option(cursor: &Cursor<'_>, offset: usize, key: &str) -> Error {
    let error = cursor
        .error_at(offset, format!("unknown option \"{key}\""))
        .with_detail(format!("the options of a materialized view are {}", VIEW_OPTIONS.join(", ")));
    match did_you_mean(key, VIEW_OPTIONS) {
        Some(known) => error.with_hint(format!("did you mean {known}?")),
        None => error,
    }
}

/// The value of this name; the first one is what holds when nothing is said.
fn one_of<T: Copy, const N: usize>(value: &str, known: &[(&str, T); N]) -> Result<T> {
    let names = known.each_ref().map(|(name, _)| *name);
    match known.iter().find(|(name, _)| value.eq_ignore_ascii_case(name)) {
        Some((_, found)) => Ok(*found),
        None => Err(Error::new(ErrorKind::Syntax, format!("'{value}' is not a mode"))
            .with_detail(format!("the modes are {}", names.join(", ")))
            .with_hint(match did_you_mean(value, names) {
                Some(known) => format!("did you mean '{known}'?"),
                None => format!("'{}' is what a view has when nothing is said", names[0]),
            })),
    }
}

/// Both options or none.
fn retention(
    cursor: &Cursor<'_>,
    ms: Option<(usize, u64)>,
    by: Option<(usize, String)>,
) -> Result<Option<RetentionOptions>> {
    match (ms, by) {
        (None, None) => Ok(None),
        (Some((_, ms)), Some((_, by))) => Ok(Some(RetentionOptions { ms, by })),
        (Some((offset, _)), None) => Err(cursor
            .error_at(offset, "retention needs retention_by")
            .with_hint("name the column that tells when a row is of, as in retention_by = 'event_time'")),
        (None, Some((offset, _))) => Err(cursor
            .error_at(offset, "retention_by needs retention")
            .with_hint("say how long rows stay, as in retention = '90 days'")),
    }
}

fn one_column(value: &str) -> Result<String> {
    match column_list(value)?.as_slice() {
        [column] => Ok(column.clone()),
        _ => Err(Error::new(ErrorKind::Syntax, format!("'{value}' is not one column"))),
    }
}

fn lag(value: &str) -> Result<u64> {
    positive(value).map_err(|error| match did_you_mean(value, ["downstream"]) {
        Some(known) => error.with_hint(format!("did you mean '{known}'?")),
        None => error,
    })
}

fn positive(value: &str) -> Result<u64> {
    match interval_ms(value)? {
        0 => Err(Error::new(ErrorKind::Syntax, "the duration is zero").with_hint("write one such as '5 seconds'")),
        milliseconds => Ok(milliseconds),
    }
}

/// `'a, b'`: names as SQL reads them.
fn column_list(value: &str) -> Result<Vec<String>> {
    let wrong = || {
        Error::new(ErrorKind::Syntax, format!("'{value}' is not a list of columns"))
            .with_hint("write names with commas between them, as in 'event_id' or 'order_id, line'")
    };
    let tokens = Tokenizer::new(&POSTGRES, value).tokenize().map_err(|_| wrong())?;
    let tokens: Vec<Token> = tokens.into_iter().filter(|token| !matches!(token, Token::Whitespace(_))).collect();
    let mut columns = Vec::new();
    for (index, token) in tokens.iter().enumerate() {
        match token {
            Token::Word(word) if index % 2 == 0 && !word.value.is_empty() => {
                let column = normal(word);
                if columns.contains(&column) {
                    return Err(Error::new(ErrorKind::Syntax, format!("the column \"{column}\" is given twice")));
                }
                columns.push(column);
            }
            Token::Comma if index % 2 == 1 => {}
            _ => return Err(wrong()),
        }
    }
    if tokens.len() % 2 == 1 && columns.len() <= ITEMS_MAX { Ok(columns) } else { Err(wrong()) }
}

/// `('key' 'value', ...)` after `OPTIONS`; keys in lowercase.
pub(super) fn external_options(cursor: &mut Cursor<'_>) -> Result<BTreeMap<String, String>> {
    let mut options = BTreeMap::new();
    cursor.expect(&Token::LParen, "\"(\" after OPTIONS")?;
    loop {
        let offset = cursor.offset();
        let key = option_key(cursor)?;
        if *cursor.peek(0) == Token::Eq {
            return Err(cursor
                .error("OPTIONS has no \"=\" between a name and its value")
                .with_hint(format!("write '{key}' '...'")));
        }
        let value = option_value(cursor, &key)?;
        if options.len() >= ITEMS_MAX {
            return Err(cursor.error_at(offset, "too many options"));
        }
        if options.insert(key.clone(), value).is_some() {
            return Err(cursor.error_at(offset, format!("the option {key} is given twice")));
        }
        if !cursor.take(&Token::Comma) {
            break;
        }
    }
    cursor.expect(&Token::RParen, "\",\" or \")\" after an option")?;
    Ok(options)
}

/// A word, a dotted word (`format.has_header`), or a string; in lowercase.
fn option_key(cursor: &mut Cursor<'_>) -> Result<String> {
    if cursor.word(0).is_none() {
        return Ok(cursor.string("the name of an option")?.to_lowercase());
    }
    let mut key = cursor.identifier("the name of an option")?;
    while cursor.take(&Token::Period) {
        key = format!("{key}.{}", cursor.identifier("a name after the dot")?);
    }
    Ok(key)
}

/// A string, a word or a number, as text.
fn option_value(cursor: &mut Cursor<'_>, key: &str) -> Result<String> {
    let value = match cursor.peek(0) {
        Token::Word(Word { value, quote_style: None, .. }) if value.bytes().all(is_plain) => value.clone(),
        Token::Number(value, _) => value.clone(),
        _ => return cursor.string(&format!("a value in single quotes for {key}")),
    };
    cursor.skip(1);
    Ok(value)
}

fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

/// A duration such as `5 seconds`, `1 minute`, `1 day 12 hours` or `500 milliseconds`, in milliseconds.
///
/// # Errors
/// `Syntax`, without a place: the caller knows it.
pub fn interval_ms(text: &str) -> Result<u64> {
    let wrong =
        |hint: &str| Error::new(ErrorKind::Syntax, format!("'{text}' is not a duration")).with_hint(hint.to_string());
    let mut rest = text.trim();
    let mut total = 0_u64;
    if rest.is_empty() {
        return Err(wrong("write a number and a unit, such as '5 seconds' or '1 day'"));
    }
    while !rest.is_empty() {
        let (digits, tail) = split(rest, |character| character.is_ascii_digit());
        let (name, tail) = split(tail.trim_start(), char::is_alphabetic);
        if digits.is_empty() {
            return Err(wrong("write a number and a unit, such as '5 seconds' or '1 day'"));
        }
        if name.is_empty() {
            let fraction = tail.starts_with('.');
            return Err(wrong(match fraction {
                true => "write whole numbers, such as '500 milliseconds'",
                false => "write a unit after the number, such as '5 seconds' or '1 day'",
            }));
        }
        let unit = unit_ms(name).ok_or_else(|| wrong(&unit_hint(name)))?;
        let part = digits.parse::<u64>().ok().and_then(|number| number.checked_mul(unit));
        total = part
            .and_then(|part| total.checked_add(part))
            .filter(|total| *total <= INTERVAL_MS_MAX)
            .ok_or_else(|| wrong("the longest duration is 100 years"))?;
        rest = tail.trim_start();
    }
    Ok(total)
}

fn split(text: &str, belongs: impl Fn(char) -> bool) -> (&str, &str) {
    text.split_at(text.find(|character| !belongs(character)).unwrap_or(text.len()))
}

fn unit_ms(name: &str) -> Option<u64> {
    UNITS.iter().find(|(names, _)| names.iter().any(|unit| name.eq_ignore_ascii_case(unit))).map(|(_, unit)| *unit)
}

fn unit_hint(name: &str) -> String {
    let lower = name.to_ascii_lowercase();
    if lower.starts_with("month") || lower.starts_with("year") {
        return "months and years differ in length; write days".to_string();
    }
    match did_you_mean(name, UNITS.iter().map(|(names, _)| names[0])) {
        Some(known) => format!("did you mean {known}?"),
        None => "the units are milliseconds, seconds, minutes, hours, days and weeks".to_string(),
    }
}
