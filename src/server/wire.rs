//! The types that clients get: computed once per result, used for everything that is told about it.
//!
//! ```text
//!   Utf8View, LargeUtf8     ─▶ Utf8          Decimal32, Decimal64 ─▶ Decimal128
//!   BinaryView, LargeBinary ─▶ Binary        Float16              ─▶ Float32
//!   Dictionary, RunEnd      ─▶ the values    ListView             ─▶ List           inside lists and structs too
//!
//!   Prepare.dataset_schema = FlightInfo.schema = GetSchema = table_schema = DoGet     (drivers compare them)
//! ```
//!
//! Every field is nullable on the wire: what the optimizer knows about NULLs differs between the logical plan and
//! the batches, and drivers reject a stream that differs from its announcement.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, FieldRef, Fields, Schema, SchemaRef};
use arrow::error::ArrowError;
use arrow::record_batch::{RecordBatch, RecordBatchOptions};
use tonic::Status;

/// How one result goes to the client.
#[derive(Debug, Clone)]
pub(crate) struct Wire {
    /// What the client is told and gets.
    pub(crate) schema: SchemaRef,
}

impl Wire {
    /// For rows of this schema.
    pub(crate) fn new(schema: &Schema) -> Self {
        let fields: Vec<Field> = schema.fields().iter().map(|field| top_field(field)).collect();
        Self { schema: Arc::new(Schema::new(fields)) }
    }

    /// The columns that a client was promised, if any. Types may differ in what follows from a value (the scale of a
    /// rounded number); other columns are another table.
    pub(crate) fn kept(self, promised: Option<&Self>) -> Result<Self, Status> {
        let Some(promised) = promised else { return Ok(self) };
        let names = |wire: &Self| wire.schema.fields().iter().map(|field| field.name().clone()).collect::<Vec<_>>();
        match names(&self) == names(promised) {
            true => Ok(promised.clone()),
            false => Err(Status::failed_precondition(
                "the statement gives other columns than when it was prepared (hint: prepare it again)",
            )),
        }
    }

    /// The batch in the types of the wire; a column that has them already is not copied.
    pub(crate) fn batch(&self, batch: &RecordBatch) -> Result<RecordBatch, ArrowError> {
        let columns = batch.columns().iter().zip(self.schema.fields()).map(|(column, field)| {
            if column.data_type() == field.data_type() {
                Ok(Arc::clone(column))
            } else {
                cast(column, field.data_type())
            }
        });
        let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
        RecordBatch::try_new_with_options(Arc::clone(&self.schema), columns.collect::<Result<_, _>>()?, &options)
    }
}

/// A column of a result, with the metadata that drivers read. REMARKS is not among them: it would become the label.
fn top_field(field: &Field) -> Field {
    let data_type = wire_type(field.data_type());
    let mut metadata = HashMap::from([("ARROW:FLIGHT:SQL:TYPE_NAME".to_string(), type_name(&data_type).to_string())]);
    if let DataType::Decimal128(precision, scale) | DataType::Decimal256(precision, scale) = data_type {
        metadata.insert("ARROW:FLIGHT:SQL:PRECISION".to_string(), precision.to_string());
        metadata.insert("ARROW:FLIGHT:SQL:SCALE".to_string(), scale.to_string());
    }
    Field::new(field.name(), data_type, true).with_metadata(metadata)
}

fn inner_field(field: &FieldRef) -> FieldRef {
    Arc::new(Field::new(field.name(), wire_type(field.data_type()), true))
}

fn wire_type(data_type: &DataType) -> DataType {
    match data_type {
        DataType::Utf8View | DataType::LargeUtf8 => DataType::Utf8,
        DataType::BinaryView | DataType::LargeBinary => DataType::Binary,
        DataType::Dictionary(_, values) => wire_type(values),
        DataType::RunEndEncoded(_, values) => wire_type(values.data_type()),
        DataType::Decimal32(precision, scale) | DataType::Decimal64(precision, scale) => {
            DataType::Decimal128(*precision, *scale)
        }
        DataType::Float16 => DataType::Float32,
        DataType::List(item) | DataType::ListView(item) => DataType::List(inner_field(item)),
        DataType::LargeList(item) | DataType::LargeListView(item) => DataType::LargeList(inner_field(item)),
        DataType::FixedSizeList(item, size) => DataType::FixedSizeList(inner_field(item), *size),
        DataType::Struct(fields) => DataType::Struct(fields.iter().map(inner_field).collect()),
        DataType::Map(entries, sorted) => DataType::Map(map_entries(entries), *sorted),
        other => other.clone(),
    }
}

/// The entries and keys of a map are never NULL, by Arrow's definition.
fn map_entries(entries: &FieldRef) -> FieldRef {
    let DataType::Struct(fields) = entries.data_type() else { return Arc::clone(entries) };
    let fields: Fields = fields
        .iter()
        .enumerate()
        .map(|(at, field)| Arc::new(Field::new(field.name(), wire_type(field.data_type()), at > 0)))
        .collect();
    Arc::new(Field::new(entries.name(), DataType::Struct(fields), false))
}

/// The SQL name of a type on the wire; the same names as in the answer to GetXdbcTypeInfo.
pub(crate) fn type_name(data_type: &DataType) -> &'static str {
    match data_type {
        DataType::Boolean => "BOOLEAN",
        DataType::Int8 => "TINYINT",
        DataType::Int16 => "SMALLINT",
        DataType::Int32 => "INTEGER",
        DataType::Int64 => "BIGINT",
        DataType::UInt8 => "TINYINT UNSIGNED",
        DataType::UInt16 => "SMALLINT UNSIGNED",
        DataType::UInt32 => "INTEGER UNSIGNED",
        DataType::UInt64 => "BIGINT UNSIGNED",
        DataType::Float16 | DataType::Float32 => "REAL",
        DataType::Float64 => "DOUBLE",
        DataType::Decimal32(..) | DataType::Decimal64(..) | DataType::Decimal128(..) | DataType::Decimal256(..) => {
            "DECIMAL"
        }
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => "VARCHAR",
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => "VARBINARY",
        DataType::Date32 | DataType::Date64 => "DATE",
        DataType::Time32(_) | DataType::Time64(_) => "TIME",
        DataType::Timestamp(_, None) => "TIMESTAMP",
        DataType::Timestamp(_, Some(_)) => "TIMESTAMP WITH TIME ZONE",
        DataType::Interval(_) | DataType::Duration(_) => "INTERVAL",
        DataType::List(_)
        | DataType::LargeList(_)
        | DataType::ListView(_)
        | DataType::LargeListView(_)
        | DataType::FixedSizeList(..) => "ARRAY",
        DataType::Struct(_) => "STRUCT",
        DataType::Map(..) => "MAP",
        DataType::Union(..) => "UNION",
        DataType::Null => "NULL",
        DataType::Dictionary(_, values) => type_name(values),
        DataType::RunEndEncoded(_, values) => type_name(values.data_type()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{
        Array, ArrayRef, AsArray, BinaryViewArray, Decimal64Array, DictionaryArray, Float32Array, Int32Array,
        ListArray, RunArray, StringViewArray, StructArray,
    };
    use arrow::datatypes::{Int32Type, UInt16Type};

    fn field(name: &str, array: &ArrayRef) -> Field {
        Field::new(name, array.data_type().clone(), false)
    }

    #[test]
    fn every_type_that_drivers_stumble_over_is_made_plain() {
        let strings: ArrayRef = Arc::new(StringViewArray::from(vec!["a longer text than twelve bytes", "b"]));
        let list: ArrayRef = Arc::new(ListArray::new(
            Arc::new(Field::new("item", DataType::Utf8View, false)),
            arrow::buffer::OffsetBuffer::from_lengths([1, 1]),
            Arc::clone(&strings),
            None,
        ));
        let nested: ArrayRef = Arc::new(StructArray::from(vec![
            (Arc::new(field("s", &strings)), Arc::clone(&strings)),
            (Arc::new(field("l", &list)), Arc::clone(&list)),
        ]));
        let dictionary: DictionaryArray<UInt16Type> = vec!["x", "y"].into_iter().collect();
        let runs = RunArray::<Int32Type>::try_new(&Int32Array::from(vec![2]), &*strings.slice(0, 1)).unwrap();
        let arrays: Vec<(&str, ArrayRef, DataType)> = vec![
            ("strings", Arc::clone(&strings), DataType::Utf8),
            ("bytes", Arc::new(BinaryViewArray::from(vec![b"1".as_slice(), b"2"])), DataType::Binary),
            ("dictionary", Arc::new(dictionary), DataType::Utf8),
            ("runs", Arc::new(runs), DataType::Utf8),
            ("half", cast(&Float32Array::from(vec![0.5, 1.5]), &DataType::Float16).unwrap(), DataType::Float32),
            (
                "money",
                Arc::new(Decimal64Array::from(vec![12, 34]).with_precision_and_scale(9, 2).unwrap()),
                DataType::Decimal128(9, 2),
            ),
            ("nested", nested, wire_type(&DataType::Struct(vec![field("s", &strings), field("l", &list)].into()))),
        ];
        let schema = Schema::new(arrays.iter().map(|(name, array, _)| field(name, array)).collect::<Vec<_>>());
        let batch = RecordBatch::try_new(
            Arc::new(schema.clone()),
            arrays.iter().map(|(_, array, _)| Arc::clone(array)).collect(),
        )
        .unwrap();

        let wire = Wire::new(&schema);
        let sent = wire.batch(&batch).unwrap();

        assert_eq!(sent.schema(), wire.schema);
        for ((name, _, expected), field) in arrays.iter().zip(sent.schema().fields()) {
            assert_eq!(field.data_type(), expected, "{name}");
            assert!(field.is_nullable(), "{name}");
        }
        assert_eq!(sent.column(0).as_string::<i32>().value(0), "a longer text than twelve bytes");
        assert_eq!(sent.column(3).as_string::<i32>().value(1), "a longer text than twelve bytes");
        let list = sent.column(6).as_struct().column(1).as_list::<i32>().value(1);
        assert_eq!(list.as_string::<i32>().value(0), "b");
    }

    #[test]
    fn rows_without_columns_keep_their_number() {
        let options = RecordBatchOptions::new().with_row_count(Some(3));
        let batch = RecordBatch::try_new_with_options(Arc::new(Schema::empty()), vec![], &options).unwrap();
        assert_eq!(Wire::new(&Schema::empty()).batch(&batch).unwrap().num_rows(), 3);
    }
}
