//! The second argument of `from_json`: `'event_id VARCHAR, price DECIMAL(12, 2)'` to struct fields.

use arrow::datatypes::{DECIMAL128_MAX_PRECISION, DataType, Field, Fields, TimeUnit};
use datafusion_common::{Result, plan_err};

/// Columns of one `from_json`.
pub(super) const COLUMNS_MAX: usize = 1000;

const TYPES: &str = "VARCHAR, TEXT, STRING, BIGINT, INT, INTEGER, SMALLINT, DOUBLE, BOOLEAN, DATE, TIMESTAMP and \
                     DECIMAL(precision, scale)";

/// The fields of a list of columns, all nullable. Names are keys of the JSON object: they are taken as written, and
/// may stand in double quotes.
pub(super) fn parse(text: &str) -> Result<Fields> {
    let mut fields: Vec<Field> = Vec::new();
    let mut rest = text.trim_ascii();
    loop {
        let (name, after) = name(rest)?;
        let (data_type, after) = data_type(&name, after.trim_ascii_start())?;
        if fields.iter().any(|field| *field.name() == name) {
            return plan_err!("from_json: the column \"{name}\" is given twice");
        }
        if fields.len() == COLUMNS_MAX {
            return plan_err!("from_json: more than {COLUMNS_MAX} columns");
        }
        fields.push(Field::new(name, data_type, true));
        rest = after.trim_ascii_start();
        match rest.strip_prefix(',') {
            Some(next) => rest = next.trim_ascii_start(),
            None if rest.is_empty() => return Ok(fields.into()),
            None => return plan_err!("from_json: expected a comma before \"{}\"", excerpt(rest)),
        }
    }
}

fn name(text: &str) -> Result<(String, &str)> {
    if let Some(quoted) = text.strip_prefix('"') {
        let mut name = String::new();
        let mut rest = quoted;
        while let Some((part, after)) = rest.split_once('"') {
            name += part;
            match after.strip_prefix('"') {
                Some(more) => {
                    name.push('"');
                    rest = more;
                }
                None => return Ok((name, after)),
            }
        }
        return plan_err!("from_json: the name that begins at {} has no closing quote", excerpt(text));
    }
    match word(text) {
        ("", rest) => plan_err!(
            "from_json: expected a column name{}; the columns are written 'name TYPE, name TYPE, ...'",
            if rest.is_empty() { " at the end".to_string() } else { format!(" before \"{}\"", excerpt(rest)) }
        ),
        (name, rest) => Ok((name.to_string(), rest)),
    }
}

fn data_type<'a>(column: &str, text: &'a str) -> Result<(DataType, &'a str)> {
    let (name, rest) = word(text);
    let data_type = match name.to_ascii_uppercase().as_str() {
        "VARCHAR" | "TEXT" | "STRING" => DataType::Utf8,
        "BIGINT" => DataType::Int64,
        "INT" | "INTEGER" => DataType::Int32,
        "SMALLINT" => DataType::Int16,
        "DOUBLE" => DataType::Float64,
        "BOOLEAN" => DataType::Boolean,
        "DATE" => DataType::Date32,
        "TIMESTAMP" => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
        "DECIMAL" => return decimal(column, rest.trim_ascii_start()),
        "" => return plan_err!("from_json: the column \"{column}\" has no type; there are {TYPES}"),
        _ => return plan_err!("from_json: the column \"{column}\" has the type {name}; there are {TYPES}"),
    };
    Ok((data_type, rest))
}

fn decimal<'a>(column: &str, text: &'a str) -> Result<(DataType, &'a str)> {
    let inner = text.strip_prefix('(').and_then(|text| text.split_once(')'));
    let parsed = inner.and_then(|(arguments, rest)| {
        let (precision, scale) = arguments.split_once(',').unwrap_or((arguments, "0"));
        let precision: u8 = precision.trim_ascii().parse().ok()?;
        let scale: i8 = scale.trim_ascii().parse().ok()?;
        let valid = (1..=DECIMAL128_MAX_PRECISION).contains(&precision) && (0..=precision as i8).contains(&scale);
        valid.then_some((DataType::Decimal128(precision, scale), rest))
    });
    match parsed {
        Some(parsed) => Ok(parsed),
        None => plan_err!(
            "from_json: the column \"{column}\" needs DECIMAL(precision, scale) with a precision of 1 to \
             {DECIMAL128_MAX_PRECISION} and a scale of 0 to the precision"
        ),
    }
}

fn word(text: &str) -> (&str, &str) {
    let end = text.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(text.len());
    text.split_at(end)
}

fn excerpt(text: &str) -> String {
    text.chars().take(20).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_in_all_types() {
        let fields = parse(
            " id BIGINT, \"odd \"\"name\"\"\" text,a int,b INTEGER , c SMALLINT, d DOUBLE, e boolean, f DATE,\n g \
             timestamp, h DECIMAL( 12 , 2 ), i DECIMAL(5), ज string",
        )
        .unwrap();
        let listed: Vec<String> = fields.iter().map(|f| format!("{} {}", f.name(), f.data_type())).collect();
        assert_eq!(
            listed,
            [
                "id Int64",
                "odd \"name\" Utf8",
                "a Int32",
                "b Int32",
                "c Int16",
                "d Float64",
                "e Boolean",
                "f Date32",
                "g Timestamp(µs, \"UTC\")",
                "h Decimal128(12, 2)",
                "i Decimal128(5, 0)",
                "ज Utf8",
            ]
        );
    }

    #[test]
    fn mistakes_are_named() {
        for (text, part) in [
            ("", "expected a column name at the end"),
            ("a", "the column \"a\" has no type"),
            ("a FLOAT8", "has the type FLOAT8; there are VARCHAR"),
            ("a INT b INT", "expected a comma before \"b INT\""),
            ("a INT,", "expected a column name at the end"),
            ("a INT, a TEXT", "\"a\" is given twice"),
            ("a DECIMAL", "needs DECIMAL(precision, scale)"),
            ("a DECIMAL(39, 2)", "a precision of 1 to 38"),
            ("a DECIMAL(4, 5)", "needs DECIMAL"),
            ("\"a INT", "no closing quote"),
            ("; INT", "expected a column name before \"; INT\""),
        ] {
            let message = parse(text).unwrap_err().to_string();
            assert!(message.contains(part), "{text}: {message}");
        }
    }
}
