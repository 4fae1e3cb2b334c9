//! `from_json(text, 'column TYPE, ...')`: a JSON object to a struct.
//!
//! ```text
//! '{"id": "7", "price": 499.00, "x": []}'  with  'id BIGINT, price DECIMAL(12, 2), city VARCHAR'
//!     ──▶  { id: 7, price: 499.00, city: NULL }
//!
//! columns   the schema's text, parsed once when the query is planned
//! input     the texts of a batch, whatever their Arrow type
//! decode    scan records, build columns
//! ```

mod build;
mod columns;
mod decode;
mod input;
mod instant;
mod number;
mod scan;

use std::sync::{Arc, LazyLock};

use arrow::array::ArrayRef;
use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion_common::{Result, ScalarValue, internal_err, plan_err};
use datafusion_expr::{
    ColumnarValue, DocSection, Documentation, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility,
};

use input::Input;

static DOCUMENTATION: LazyLock<Documentation> = LazyLock::new(|| {
    Documentation::builder(
        DocSection { include: true, label: "JSON Functions", description: None },
        "Decodes a JSON object into a struct. Keys that the schema does not name are ignored; keys that are missing \
         give NULL. A value that does not fit its type gives NULL for this field alone. A text that is not a JSON \
         object (broken, cut off, with something after it, not UTF-8, nested deeper than 127 levels) gives NULL for \
         the whole struct, never an error. Numbers may be written as strings. A DECIMAL is exact, and digits beyond \
         its scale are rounded half away from zero. A TIMESTAMP is an RFC 3339 string with an offset, and becomes an \
         instant in UTC. A VARCHAR takes any value but a string as its JSON text. Of a repeated key the last value \
         counts.",
        "from_json(text, 'column TYPE, ...')",
    )
    .with_argument("text", "The JSON text: a string or bytes")
    .with_argument(
        "schema",
        "A literal: names with types, separated by commas. The types are VARCHAR (TEXT, STRING), BIGINT, INT \
         (INTEGER), SMALLINT, DOUBLE, BOOLEAN, DATE, TIMESTAMP and DECIMAL(precision, scale)",
    )
    .with_sql_example("SELECT from_json('{\"id\": \"7\"}', 'id BIGINT')['id'];")
    .build()
});

/// See the module.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) struct FromJson {
    signature: Signature,
}

impl FromJson {
    pub(crate) fn new() -> Self {
        Self { signature: Signature::user_defined(Volatility::Immutable) }
    }
}

impl ScalarUDFImpl for FromJson {
    fn name(&self) -> &str {
        "from_json"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, arg_types: &[DataType]) -> Result<Vec<DataType>> {
        use DataType::{Binary, BinaryView, LargeBinary, LargeUtf8, Null, Utf8, Utf8View};
        let [text, schema] = arg_types else {
            return plan_err!("from_json takes a text and its columns, as in from_json(_payload, 'id BIGINT')");
        };
        let text = match text {
            Utf8 | LargeUtf8 | Utf8View | Binary | LargeBinary | BinaryView => text.clone(),
            Null => Utf8,
            other => return plan_err!("from_json reads strings and bytes, not {other}"),
        };
        match schema {
            Utf8 | LargeUtf8 | Utf8View => Ok(vec![text, Utf8]),
            other => plan_err!("the columns of from_json are a string literal, not {other}"),
        }
    }

    fn return_type(&self, _arg_types: &[DataType]) -> Result<DataType> {
        internal_err!("the type of from_json follows from its second argument")
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        let literal = args.scalar_arguments.get(1).copied().flatten().and_then(ScalarValue::try_as_str).flatten();
        let Some(text) = literal else {
            return plan_err!("the columns of from_json are a string literal, as in from_json(_payload, 'id BIGINT')");
        };
        Ok(Arc::new(Field::new(self.name(), DataType::Struct(columns::parse(text)?), true)))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let DataType::Struct(fields) = args.return_type() else {
            return internal_err!("from_json was planned as {}", args.return_type());
        };
        let decode = |texts: &ArrayRef| decode::decode(&Input::new(texts)?, fields);
        match &args.args[0] {
            ColumnarValue::Array(texts) => Ok(ColumnarValue::Array(Arc::new(decode(texts)?))),
            ColumnarValue::Scalar(text) => {
                let decoded = decode(&text.to_array()?)?;
                Ok(ColumnarValue::Scalar(ScalarValue::Struct(Arc::new(decoded))))
            }
        }
    }

    fn documentation(&self) -> Option<&Documentation> {
        Some(&DOCUMENTATION)
    }
}

#[cfg(test)]
mod tests;
