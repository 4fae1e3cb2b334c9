//! A table's columns in Hive's words, which Glue keeps and Athena shows.
//!
//! ```text
//!  the lake's schema ─▶ Boolean, Int8 … Int64, Float32, Float64   boolean, tinyint, smallint, int, bigint, float, double
//!                       Utf8, Binary, Date32, Decimal128(p, s)    string, binary, date, decimal(p,s)
//!                       Timestamp(us, UTC or none)                timestamp; a wall clock says so in its comment
//!                       List, Struct                              array<…>, struct<name:…,…>
//! ```
//!
//! What has no such words, or whose names Athena would fold into one, is refused: the table is then not registered, and
//! `flash status` says why.

use std::collections::BTreeSet;

use arrow::datatypes::{DataType, Schema, TimeUnit};

use super::{Column, name};

/// What a reader must know of a time without a zone.
const WALL_CLOCK: &str = "a wall clock, without a time zone: read it in UTC";

/// What a reader wants to know of a partition column.
const PARTITION: &str = "partitions the table: conditions on it save reading";

/// The columns of a table, in their order.
///
/// # Errors
/// Why it cannot be registered.
pub(super) fn columns(schema: &Schema, partitioned_by: &[String]) -> Result<Vec<Column>, String> {
    let mut seen = BTreeSet::new();
    let mut columns = Vec::with_capacity(schema.fields().len());
    for field in schema.fields() {
        let data_type = hive_type(field.data_type()).map_err(|why| format!("column {}: {why}", field.name()))?;
        let name = name(field.name()).map_err(|why| format!("column {why}"))?;
        if !seen.insert(name.clone()) {
            return Err(format!("two columns are {name} to Athena"));
        }
        let partitions = partitioned_by.contains(field.name());
        let said = [(is_wall_clock(field.data_type()), WALL_CLOCK), (partitions, PARTITION)];
        let said: Vec<&str> = said.into_iter().filter_map(|(holds, text)| holds.then_some(text)).collect();
        columns.push(Column { name, data_type, comment: (!said.is_empty()).then(|| said.join("; ")) });
    }
    Ok(columns)
}

fn is_wall_clock(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Timestamp(_, None))
}

fn hive_type(data_type: &DataType) -> Result<String, String> {
    use DataType as T;
    Ok(match data_type {
        T::Boolean => "boolean".into(),
        T::Int8 => "tinyint".into(),
        T::Int16 => "smallint".into(),
        T::Int32 => "int".into(),
        T::Int64 => "bigint".into(),
        T::Float32 => "float".into(),
        T::Float64 => "double".into(),
        T::Utf8 => "string".into(),
        T::Binary => "binary".into(),
        T::Date32 => "date".into(),
        T::Decimal128(precision, scale) => format!("decimal({precision},{scale})"),
        T::Timestamp(TimeUnit::Microsecond, _) => "timestamp".into(),
        T::List(item) => format!("array<{}>", hive_type(item.data_type())?),
        T::Struct(fields) => {
            let mut seen = BTreeSet::new();
            let mut parts = Vec::with_capacity(fields.len());
            for field in fields {
                let name = name(field.name())?;
                if !seen.insert(name.clone()) {
                    return Err(format!("two of its fields are {name} to Athena"));
                }
                parts.push(format!("{name}:{}", hive_type(field.data_type())?));
            }
            match parts.is_empty() {
                true => return Err("Athena has no struct without fields".into()),
                false => format!("struct<{}>", parts.join(",")),
            }
        }
        other => return Err(format!("Athena has no type for {other}")),
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::datatypes::{Field, Fields};

    use super::*;

    fn of(data_type: DataType) -> Result<String, String> {
        Ok(columns(&Schema::new(vec![Field::new("c", data_type, true)]), &[])?.remove(0).data_type)
    }

    fn structure(names: &[&str]) -> DataType {
        DataType::Struct(names.iter().map(|name| Field::new(*name, DataType::Int32, true)).collect::<Fields>())
    }

    #[test]
    fn every_type_of_the_lake_has_words() {
        let micros = |zone: Option<&str>| DataType::Timestamp(TimeUnit::Microsecond, zone.map(Into::into));
        let list = |item| DataType::List(Arc::new(Field::new("item", item, true)));
        for (data_type, words) in [
            (DataType::Boolean, "boolean"),
            (DataType::Int8, "tinyint"),
            (DataType::Int16, "smallint"),
            (DataType::Int32, "int"),
            (DataType::Int64, "bigint"),
            (DataType::Float32, "float"),
            (DataType::Float64, "double"),
            (DataType::Utf8, "string"),
            (DataType::Binary, "binary"),
            (DataType::Date32, "date"),
            (DataType::Decimal128(38, 9), "decimal(38,9)"),
            (micros(Some("UTC")), "timestamp"),
            (micros(None), "timestamp"),
            (list(list(DataType::Utf8)), "array<array<string>>"),
            (list(structure(&["A", "b_2"])), "array<struct<a:int,b_2:int>>"),
        ] {
            assert_eq!(of(data_type), Ok(words.into()));
        }
    }

    #[test]
    fn what_would_be_misread_is_refused() {
        for data_type in [
            DataType::UInt64,
            DataType::Null,
            DataType::Timestamp(TimeUnit::Nanosecond, None),
            structure(&[]),
            structure(&["a:b"]),
            structure(&["a", "A"]),
        ] {
            let why = of(data_type.clone()).unwrap_err();
            assert!(why.starts_with("column c: ") && why.contains("Athena"), "{data_type}: {why}");
        }
        let named = |names: &[&str]| {
            columns(
                &Schema::new(names.iter().map(|name| Field::new(*name, DataType::Int64, true)).collect::<Vec<_>>()),
                &[],
            )
        };
        assert_eq!(named(&["a", "A"]), Err("two columns are a to Athena".into()));
        assert!(named(&["total%"]).unwrap_err().contains("\"total%\" is no name for Athena"));
    }

    #[test]
    fn comments_say_what_types_do_not() {
        let wall_clock = DataType::Timestamp(TimeUnit::Microsecond, None);
        let fields = vec![
            Field::new("Day", wall_clock.clone(), true),
            Field::new("at", wall_clock, true),
            Field::new("n", DataType::Int64, true),
        ];
        let found = columns(&Schema::new(fields), &["Day".into()]).unwrap();
        assert_eq!(found[0].comment, Some(format!("{WALL_CLOCK}; {PARTITION}")));
        assert_eq!((found[0].name.as_str(), found[1].comment.as_deref()), ("day", Some(WALL_CLOCK)));
        assert_eq!(found[2].comment, None);
    }
}
