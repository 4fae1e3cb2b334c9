//! Arrow types at the border of the lake.
//!
//! ```text
//!   rows of a plan        what the lake gives back      Delta (reader 1)    Parquet
//!   Utf8View, Dictionary  Utf8                          string              BYTE_ARRAY (STRING)
//!   Timestamp(any, zone)  Timestamp(us, "UTC")          timestamp           INT64 (us, adjusted to UTC)
//!   Timestamp(any, none)  Timestamp(us, none)           timestamp + mark    the same digits, as if UTC
//!   UInt8, UInt16, UInt32 Int16, Int32, Int64           short, integer, long
//!   UInt64, Null, Time…   refused, with the cast that helps
//! ```
//!
//! The mark is `flash.wall_clock` in the column's Delta metadata: the protocol stays at reader 1, every reader
//! shows the digits that were written (in UTC), and we read a timestamp without zone again.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef, TimeUnit};

use crate::error::{Error, ErrorKind, Result};

/// The key of a column's Delta metadata that says: a timestamp without zone.
const WALL_CLOCK: &str = "flash.wall_clock";

/// Characters that Delta without column mapping does not allow in a column's name.
const NAME_CHARACTERS_REFUSED: &[char] = &[' ', ',', ';', '{', '}', '(', ')', '\n', '\t', '='];

/// The types that a table of the lake gives back for rows of `schema`: what [`crate::storage::Snapshot::schema`]
/// will be. Field metadata is dropped, nullability is kept.
///
/// # Errors
/// `Definition` for a type or a column name that a Delta reader would misread.
pub fn lake_schema(schema: &Schema) -> Result<SchemaRef> {
    let mut seen = HashSet::new();
    let mut fields = Vec::with_capacity(schema.fields().len());
    for field in schema.fields() {
        let name = field.name();
        if name.is_empty() || name.contains(NAME_CHARACTERS_REFUSED) {
            return Err(refuse(format!("column name \"{name}\" cannot be stored in a Delta table"))
                .with_hint("name it with AS; letters, digits and _ are safe"));
        }
        if !seen.insert(name.to_lowercase()) {
            return Err(refuse(format!("column \"{name}\" appears twice"))
                .with_detail("Delta does not tell upper from lower case in column names")
                .with_hint("rename one of them with AS"));
        }
        let data_type = lake_type(field.data_type(), name, true)?;
        fields.push(Field::new(name, data_type, field.is_nullable()));
    }
    Ok(Arc::new(Schema::new(fields)))
}

fn refuse(message: String) -> Error {
    Error::new(ErrorKind::Definition, message)
}

/// The type that the lake gives back for `data_type`. `top`: not within a list or struct.
fn lake_type(data_type: &DataType, column: &str, top: bool) -> Result<DataType> {
    use DataType as T;
    Ok(match data_type {
        T::Boolean | T::Int8 | T::Int16 | T::Int32 | T::Int64 | T::Float32 | T::Float64 => data_type.clone(),
        T::UInt8 => T::Int16,
        T::UInt16 => T::Int32,
        T::UInt32 => T::Int64,
        T::Utf8 | T::LargeUtf8 | T::Utf8View => T::Utf8,
        T::Binary | T::LargeBinary | T::BinaryView | T::FixedSizeBinary(_) => T::Binary,
        T::Date32 | T::Date64 => T::Date32,
        T::Decimal32(p, s) | T::Decimal64(p, s) | T::Decimal128(p, s) if *s >= 0 && *s <= *p as i8 => {
            T::Decimal128(*p, *s)
        }
        T::Timestamp(_, Some(_)) => T::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
        T::Timestamp(_, None) if top => T::Timestamp(TimeUnit::Microsecond, None),
        T::Dictionary(_, value) => lake_type(value, column, top)?,
        T::List(item) | T::LargeList(item) | T::ListView(item) | T::LargeListView(item) | T::FixedSizeList(item, _) => {
            let item = Field::new(Field::LIST_FIELD_DEFAULT_NAME, inner_type(item, column)?, item.is_nullable());
            T::List(Arc::new(item))
        }
        T::Struct(fields) => {
            let fields: Result<Vec<FieldRef>> = fields
                .iter()
                .map(|field| Ok(Arc::new(Field::new(field.name(), inner_type(field, column)?, field.is_nullable()))))
                .collect();
            T::Struct(fields?.into())
        }
        other => {
            return Err(refuse(format!("column \"{column}\" has type {other}, which a Delta table cannot hold"))
                .with_hint(advice(other, column)));
        }
    })
}

fn inner_type(field: &Field, column: &str) -> Result<DataType> {
    lake_type(field.data_type(), &format!("{column}.{}", field.name()), false)
}

/// The cast that makes a refused type storable.
fn advice(data_type: &DataType, column: &str) -> String {
    use DataType as T;
    let target = match data_type {
        T::UInt64 => "DECIMAL(20, 0), or BIGINT where it fits",
        T::Null => "the type it should have, for instance CAST(NULL AS VARCHAR)",
        T::Time32(_) | T::Time64(_) | T::Map(..) | T::Union(..) => "VARCHAR",
        T::Interval(_) | T::Duration(_) => "a number, for instance date_part('epoch', …)",
        T::Decimal32(..) | T::Decimal64(..) | T::Decimal128(..) | T::Decimal256(..) => {
            "DECIMAL(38, s) with a scale s of 0 to 38"
        }
        T::Float16 => "REAL",
        T::Timestamp(..) => "TIMESTAMP WITH TIME ZONE within lists and structs",
        _ => "a type such as VARCHAR or BIGINT",
    };
    format!("cast \"{column}\" to {target}")
}

/// Check that these columns can partition a table of `schema`.
///
/// # Errors
/// `Definition`.
pub(crate) fn check_partitioning(schema: &Schema, partitioned_by: &[String]) -> Result<()> {
    for (position, name) in partitioned_by.iter().enumerate() {
        let Ok(field) = schema.field_with_name(name) else {
            let columns: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
            return Err(refuse(format!("PARTITIONED BY names an unknown column \"{name}\""))
                .with_detail(format!("the columns are {}", columns.join(", "))));
        };
        if partitioned_by[..position].contains(name) {
            return Err(refuse(format!("PARTITIONED BY names \"{name}\" twice")));
        }
        let nested = field.data_type().is_nested() || field.data_type().is_floating();
        if nested || *field.data_type() == DataType::Binary {
            return Err(refuse(format!("\"{name}\" of type {} cannot partition a table", field.data_type()))
                .with_hint("partition by a string, a date or a whole number"));
        }
    }
    if !schema.fields().is_empty() && partitioned_by.len() == schema.fields().len() {
        return Err(refuse("a table needs a column that does not partition it".into()));
    }
    Ok(())
}

/// A timestamp without zone: stored with the same digits as a Delta `timestamp`.
pub(crate) fn is_wall_clock(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Timestamp(_, None))
}

/// The Arrow schema of Delta's own columns for a lake schema: wall clocks become marked instants.
pub(crate) fn delta_schema(lake: &Schema) -> Schema {
    Schema::new(lake.fields().iter().map(|field| delta_field(field)).collect::<Vec<_>>())
}

fn delta_field(field: &Field) -> Field {
    if !is_wall_clock(field.data_type()) {
        return field.clone();
    }
    let instant = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
    Field::new(field.name(), instant, field.is_nullable())
        .with_metadata(HashMap::from([(WALL_CLOCK.to_string(), "true".to_string())]))
}

/// The lake schema that a Delta schema (as Arrow) stands for; the inverse of [`delta_schema`].
///
/// # Errors
/// `Definition` for a column of a type that we don't read.
pub(crate) fn from_delta_schema(delta: &Schema) -> Result<SchemaRef> {
    let fields: Vec<Field> = delta
        .fields()
        .iter()
        .map(|field| match field.metadata().get(WALL_CLOCK).map(String::as_str) {
            Some("true") => {
                Field::new(field.name(), DataType::Timestamp(TimeUnit::Microsecond, None), field.is_nullable())
            }
            _ => field.as_ref().clone(),
        })
        .collect();
    lake_schema(&Schema::new(fields))
}

/// The schema of a table's Parquet files: no partition columns, wall clocks as instants, no metadata.
pub(crate) fn file_schema(lake: &Schema, partitioned_by: &[String]) -> SchemaRef {
    let fields = lake.fields().iter().filter(|field| !partitioned_by.contains(field.name()));
    Arc::new(Schema::new(fields.map(|field| delta_field(field).with_metadata(HashMap::new())).collect::<Vec<_>>()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(data_type: DataType) -> Result<DataType> {
        let schema = lake_schema(&Schema::new(vec![Field::new("c", data_type, true)]))?;
        Ok(schema.field(0).data_type().clone())
    }

    #[test]
    fn types_are_widened_or_refused() {
        let micros = |zone: Option<&str>| DataType::Timestamp(TimeUnit::Microsecond, zone.map(Into::into));
        for (given, stored) in [
            (DataType::UInt8, DataType::Int16),
            (DataType::UInt16, DataType::Int32),
            (DataType::UInt32, DataType::Int64),
            (DataType::Utf8View, DataType::Utf8),
            (DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::LargeUtf8)), DataType::Utf8),
            (DataType::BinaryView, DataType::Binary),
            (DataType::Timestamp(TimeUnit::Nanosecond, None), micros(None)),
            (DataType::Timestamp(TimeUnit::Second, Some("Asia/Kolkata".into())), micros(Some("UTC"))),
            (DataType::Decimal128(12, 2), DataType::Decimal128(12, 2)),
        ] {
            assert_eq!(one(given).unwrap(), stored);
        }
        for given in [
            DataType::UInt64,
            DataType::Null,
            DataType::Float16,
            DataType::Time64(TimeUnit::Microsecond),
            DataType::Duration(TimeUnit::Second),
            DataType::Decimal256(40, 2),
            DataType::Decimal128(10, -2),
            DataType::List(Arc::new(Field::new("item", DataType::Timestamp(TimeUnit::Microsecond, None), true))),
        ] {
            let error = one(given).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Definition);
            assert!(error.hint().unwrap().starts_with("cast \"c"), "{error}");
        }
    }

    #[test]
    fn names_that_delta_refuses_are_refused() {
        for name in ["count(*)", "a b", "", "a=b"] {
            let error = lake_schema(&Schema::new(vec![Field::new(name, DataType::Int64, true)])).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Definition);
        }
        let twice = Schema::new(vec![Field::new("a", DataType::Int64, true), Field::new("A", DataType::Int64, true)]);
        assert!(lake_schema(&twice).unwrap_err().message().contains("twice"));
    }

    #[test]
    fn a_wall_clock_survives_the_delta_schema() {
        let lake = lake_schema(&Schema::new(vec![
            Field::new("at", DataType::Timestamp(TimeUnit::Microsecond, None), false),
            Field::new("n", DataType::Int64, true),
        ]))
        .unwrap();
        let delta = delta_schema(&lake);
        assert_eq!(delta.field(0).data_type(), &DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())));
        assert_eq!(from_delta_schema(&delta).unwrap(), lake);
    }
}
