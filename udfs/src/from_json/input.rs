//! The first argument of `from_json`: texts in any of Arrow's layouts.

use arrow::array::{Array, ArrayRef, AsArray, BinaryArray, BinaryViewArray, LargeBinaryArray, LargeStringArray};
use arrow::array::{StringArray, StringViewArray};
use datafusion_common::{Result, internal_err};

/// Texts, some of which may be no text.
pub(super) enum Input<'a> {
    Utf8(&'a StringArray),
    LargeUtf8(&'a LargeStringArray),
    Utf8View(&'a StringViewArray),
    /// The bytes of all rows, where they are text as a whole: checked once instead of row by row.
    Binary(&'a BinaryArray, Option<&'a str>),
    LargeBinary(&'a LargeBinaryArray),
    BinaryView(&'a BinaryViewArray),
}

impl<'a> Input<'a> {
    pub(super) fn new(array: &'a ArrayRef) -> Result<Self> {
        use arrow::datatypes::DataType as D;
        Ok(match array.data_type() {
            D::Utf8 => Self::Utf8(array.as_string()),
            D::LargeUtf8 => Self::LargeUtf8(array.as_string()),
            D::Utf8View => Self::Utf8View(array.as_string_view()),
            D::Binary => {
                let array = array.as_binary::<i32>();
                Self::Binary(array, std::str::from_utf8(array.value_data()).ok())
            }
            D::LargeBinary => Self::LargeBinary(array.as_binary()),
            D::BinaryView => Self::BinaryView(array.as_binary_view()),
            other => return internal_err!("from_json was given {other}"),
        })
    }

    pub(super) fn len(&self) -> usize {
        match self {
            Self::Utf8(array) => array.len(),
            Self::LargeUtf8(array) => array.len(),
            Self::Utf8View(array) => array.len(),
            Self::Binary(array, _) => array.len(),
            Self::LargeBinary(array) => array.len(),
            Self::BinaryView(array) => array.len(),
        }
    }

    /// The text of a row; `None` for NULL and for bytes that are not UTF-8.
    #[inline]
    pub(super) fn text(&self, row: usize) -> Option<&'a str> {
        match self {
            Self::Utf8(array) => array.is_valid(row).then(|| array.value(row)),
            Self::LargeUtf8(array) => array.is_valid(row).then(|| array.value(row)),
            Self::Utf8View(array) => array.is_valid(row).then(|| array.value(row)),
            Self::Binary(array, whole) => {
                let valid = array.is_valid(row);
                let offsets = array.value_offsets();
                let range = offsets[row] as usize..offsets[row + 1] as usize;
                match whole.and_then(|whole| whole.get(range)) {
                    Some(text) => valid.then_some(text),
                    None => valid.then(|| array.value(row)).and_then(utf8),
                }
            }
            Self::LargeBinary(array) => array.is_valid(row).then(|| array.value(row)).and_then(utf8),
            Self::BinaryView(array) => array.is_valid(row).then(|| array.value(row)).and_then(utf8),
        }
    }
}

fn utf8(bytes: &[u8]) -> Option<&str> {
    std::str::from_utf8(bytes).ok()
}
