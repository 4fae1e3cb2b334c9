//! Values of a client in the types that are wanted here, or an error that names the value.
//!
//! ```text
//!   cast, where a value that cannot be cast is an error and not a NULL
//!     └─ numbers, dates and times: and back again, which must give the same    1.5 is no BIGINT, 12.345 no DECIMAL(12, 2)
//!   a union (some drivers send each value as one): value by value
//! ```

use arrow::array::{Array, ArrayRef, BooleanArray};
use arrow::compute::kernels::cmp::distinct;
use arrow::compute::{CastOptions, cast_with_options, concat};
use arrow::datatypes::DataType;
use arrow::error::ArrowError;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use datafusion::scalar::ScalarValue;

use crate::error::{Error, ErrorKind, Result};

const STRICT: CastOptions<'static> = CastOptions { safe: false, format_options: FormatOptions::new() };

/// The values as `wanted`.
///
/// # Errors
/// `Query` for a value that does not fit, or types of which the one never becomes the other.
pub fn fit(values: &ArrayRef, wanted: &DataType) -> Result<ArrayRef> {
    if values.data_type() == wanted {
        return Ok(ArrayRef::clone(values));
    }
    if let DataType::Union(..) = values.data_type() {
        return fit_union(values, wanted);
    }
    let refused = |error: ArrowError| does_not_fit(wanted, "a value").with_detail(Error::from(error).message());
    let cast = cast_with_options(values, wanted, &STRICT).map_err(refused)?;
    if !is_exact(values.data_type()) || !is_exact(wanted) {
        return Ok(cast);
    }
    let back = cast_with_options(&cast, values.data_type(), &STRICT).map_err(refused)?;
    match first_set(&distinct(&back, values)?) {
        Some(row) => Err(does_not_fit(wanted, &shown(values, row)).with_hint(
            "the type is that of the column or of what the value is compared with; CAST the parameter to another one",
        )),
        None => Ok(cast),
    }
}

fn fit_union(values: &ArrayRef, wanted: &DataType) -> Result<ArrayRef> {
    let one = |row| match ScalarValue::try_from_array(values, row)? {
        ScalarValue::Union(Some((_, value)), ..) => fit(&value.to_array()?, wanted),
        _ => Ok(ScalarValue::try_from(wanted)?.to_array()?),
    };
    let parts = (0..values.len()).map(one).collect::<Result<Vec<_>>>()?;
    if parts.is_empty() {
        return Ok(arrow::array::new_empty_array(wanted));
    }
    Ok(concat(&parts.iter().map(AsRef::as_ref).collect::<Vec<_>>())?)
}

/// Types whose casts among each other may lose something that is not meant to be lost. Floats are approximate anyway.
fn is_exact(data_type: &DataType) -> bool {
    data_type.is_numeric() || matches!(data_type, DataType::Date32 | DataType::Date64 | DataType::Timestamp(..))
}

fn first_set(mask: &BooleanArray) -> Option<usize> {
    (0..mask.len()).find(|row| mask.is_valid(*row) && mask.value(*row))
}

fn shown(values: &ArrayRef, row: usize) -> String {
    let options = FormatOptions::default();
    let text = ArrayFormatter::try_new(values, &options).map(|values| values.value(row).to_string());
    text.unwrap_or_else(|_| "a value".into())
}

fn does_not_fit(wanted: &DataType, value: &str) -> Error {
    Error::new(ErrorKind::Query, format!("{value} does not fit the type {wanted}"))
}
