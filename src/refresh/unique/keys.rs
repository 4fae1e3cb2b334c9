//! The 128-bit hash of a row's unique key. It is stored, so it must never change.
//!
//! ```text
//! one text or binary column     xxh3_128(bytes)                       the usual case: an event's id
//! anything else                 xxh3_128(column column ...)           in declared order
//!                               column = 'b' length:u64 bytes         text, binary
//!                                      | 'i' i64                      integers    | 'u' u64   unsigned 64 bit
//!                                      | 'd' scale:i8 i128            decimals    | 'o' u8    booleans
//!                                      | 't' µs:i64                   instants    | 'D' i64   days
//! ```
//!
//! All numbers are little-endian. The encoding depends on the value and not on how Arrow holds it: `Utf8`,
//! `LargeUtf8`, `Utf8View` and a dictionary of them are the same key. A key with a NULL in it is NULL: like in
//! SQL's UNIQUE, it equals nothing. Two different keys of a billion share a hash with probability 1e-21.

use arrow::array::{Array, ArrayRef, AsArray, BinaryArray, BooleanArray, Decimal128Array, Int64Array};
use arrow::buffer::NullBuffer;
use arrow::compute::cast;
use arrow::datatypes::{DataType, Decimal128Type, Int64Type, TimeUnit, UInt64Type};
use twox_hash::XxHash3_128;

use crate::error::{Error, ErrorKind, Result};

/// The hashed keys of some rows.
#[derive(Debug, Clone)]
pub struct Keys {
    hashes: Vec<u128>,
    nulls: Option<NullBuffer>,
}

impl Keys {
    /// Several batches' keys as one, in order.
    pub fn concat(parts: Vec<Self>) -> Self {
        let rows = parts.iter().map(|part| part.hashes.len()).sum();
        let any_null = parts.iter().any(|part| part.nulls.is_some());
        let mut hashes = Vec::with_capacity(rows);
        let mut valid = arrow::array::NullBufferBuilder::new(rows);
        for part in parts {
            match &part.nulls {
                Some(nulls) => valid.append_buffer(nulls),
                None => valid.append_n_non_nulls(part.hashes.len()),
            }
            hashes.extend(part.hashes);
        }
        Self { hashes, nulls: if any_null { valid.finish() } else { None } }
    }

    /// Rows.
    pub fn len(&self) -> usize {
        self.hashes.len()
    }

    /// No rows.
    pub fn is_empty(&self) -> bool {
        self.hashes.is_empty()
    }

    /// The hash of each row; that of a row without a key means nothing.
    pub(super) fn hashes(&self) -> &[u128] {
        &self.hashes
    }

    /// The hash of each row that has a key, with its row number.
    pub(super) fn present(&self) -> impl Iterator<Item = (usize, u128)> + '_ {
        let hashes = self.hashes.iter().copied().enumerate();
        hashes.filter(|(row, _)| self.nulls.as_ref().is_none_or(|nulls| nulls.is_valid(*row)))
    }

    #[cfg(test)]
    pub(super) fn from_hashes(hashes: Vec<u128>, nulls: Option<NullBuffer>) -> Self {
        Self { hashes, nulls }
    }
}

/// Hash the unique key of every row; `columns` are the key's columns in declared order, all of one length.
///
/// # Errors
/// `Definition` for a column whose type cannot be a key (floating point, nanoseconds, nested).
pub fn hash_keys(columns: &[ArrayRef]) -> Result<Keys> {
    let Some(rows) = columns.first().map(|column| column.len()) else {
        return Err(Error::new(ErrorKind::Internal, "a unique key without columns"));
    };
    if columns.iter().any(|column| column.len() != rows) {
        return Err(Error::new(ErrorKind::Internal, "columns of a unique key differ in length"));
    }
    let parts = columns.iter().map(Part::new).collect::<Result<Vec<_>>>()?;
    let nulls = parts.iter().fold(None, |all, part| NullBuffer::union(all.as_ref(), part.nulls()));
    let hashes = match parts.as_slice() {
        [Part::Bytes(values)] => (0..rows).map(|row| XxHash3_128::oneshot(values.value(row))).collect(),
        parts => hash_encoded(parts, rows),
    };
    Ok(Keys { hashes, nulls })
}

fn hash_encoded(parts: &[Part], rows: usize) -> Vec<u128> {
    let mut encoded = Vec::with_capacity(64);
    let mut hashes = Vec::with_capacity(rows);
    for row in 0..rows {
        encoded.clear();
        for part in parts {
            part.encode(row, &mut encoded);
        }
        hashes.push(XxHash3_128::oneshot(&encoded));
    }
    hashes
}

/// One column of a key, as one of few physical types.
enum Part {
    Bytes(BinaryArray),
    Word { tag: u8, values: Int64Array },
    Unsigned(arrow::array::UInt64Array),
    Decimal { scale: i8, values: Decimal128Array },
    Boolean(BooleanArray),
}

impl Part {
    fn new(column: &ArrayRef) -> Result<Self> {
        use DataType as T;
        let word = |tag, to: &ArrayRef| -> Result<Self> {
            Ok(Self::Word { tag, values: cast(to, &T::Int64)?.as_primitive::<Int64Type>().clone() })
        };
        match column.data_type() {
            T::Utf8 | T::Binary | T::LargeBinary | T::BinaryView | T::FixedSizeBinary(_) => {
                Ok(Self::Bytes(cast(column, &T::Binary)?.as_binary::<i32>().clone()))
            }
            T::LargeUtf8 | T::Utf8View => Self::new(&cast(column, &T::Utf8)?),
            T::Int8 | T::Int16 | T::Int32 | T::Int64 | T::UInt8 | T::UInt16 | T::UInt32 => word(b'i', column),
            T::UInt64 => Ok(Self::Unsigned(column.as_primitive::<UInt64Type>().clone())),
            T::Boolean => Ok(Self::Boolean(column.as_boolean().clone())),
            T::Date32 => word(b'D', &cast(column, &T::Int32)?),
            T::Timestamp(unit, zone) if *unit != TimeUnit::Nanosecond => {
                word(b't', &cast(column, &T::Timestamp(TimeUnit::Microsecond, zone.clone()))?)
            }
            T::Decimal32(_, scale) | T::Decimal64(_, scale) | T::Decimal128(_, scale) => {
                let wide = cast(column, &T::Decimal128(38, *scale))?;
                Ok(Self::Decimal { scale: *scale, values: wide.as_primitive::<Decimal128Type>().clone() })
            }
            T::Dictionary(_, value) => Self::new(&cast(column, value)?),
            other => Err(Error::new(ErrorKind::Definition, format!("a column of type {other} cannot be a unique key"))
                .with_hint("cast it to text, an integer, a decimal, a date or a timestamp in microseconds")),
        }
    }

    fn nulls(&self) -> Option<&NullBuffer> {
        match self {
            Self::Bytes(values) => values.nulls(),
            Self::Word { values, .. } => values.nulls(),
            Self::Unsigned(values) => values.nulls(),
            Self::Decimal { values, .. } => values.nulls(),
            Self::Boolean(values) => values.nulls(),
        }
    }

    fn encode(&self, row: usize, to: &mut Vec<u8>) {
        match self {
            Self::Bytes(values) => {
                let value = values.value(row);
                to.push(b'b');
                to.extend_from_slice(&(value.len() as u64).to_le_bytes());
                to.extend_from_slice(value);
            }
            Self::Word { tag, values } => {
                to.push(*tag);
                to.extend_from_slice(&values.value(row).to_le_bytes());
            }
            Self::Unsigned(values) => {
                to.push(b'u');
                to.extend_from_slice(&values.value(row).to_le_bytes());
            }
            Self::Decimal { scale, values } => {
                to.extend_from_slice(&[b'd', scale.to_le_bytes()[0]]);
                to.extend_from_slice(&values.value(row).to_le_bytes());
            }
            Self::Boolean(values) => to.extend_from_slice(&[b'o', u8::from(values.value(row))]),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{
        Date32Array, DictionaryArray, Float64Array, Int32Array, LargeStringArray, StringArray, StringViewArray,
        TimestampMicrosecondArray, UInt64Array,
    };
    use arrow::datatypes::Int8Type;

    use super::*;

    fn hashes(columns: &[ArrayRef]) -> Vec<u128> {
        hash_keys(columns).unwrap().hashes
    }

    #[test]
    fn hashes_are_the_ones_on_disk() {
        let text: ArrayRef = Arc::new(StringArray::from(vec!["ev-1", ""]));
        let day: ArrayRef = Arc::new(Date32Array::from(vec![20_000, 1]));
        let at: ArrayRef = Arc::new(TimestampMicrosecondArray::from(vec![1, -1]).with_timezone("UTC"));
        let money: ArrayRef = Arc::new(Decimal128Array::from(vec![1999, -1]).with_precision_and_scale(12, 2).unwrap());
        let yes: ArrayRef = Arc::new(BooleanArray::from(vec![true, false]));
        let big: ArrayRef = Arc::new(UInt64Array::from(vec![u64::MAX, 0]));
        assert_eq!(
            hashes(&[Arc::clone(&text)]),
            [0x92c7_aedf_86ef_aaa3_a0de_451d_daff_d16c_u128, 0x99aa_06d3_0147_98d8_6001_c324_468d_497f,]
        );
        let mut expected = b"b\x04\0\0\0\0\0\0\0ev-1D\x20\x4e\0\0\0\0\0\0t\x01\0\0\0\0\0\0\0d\x02\xcf\x07".to_vec();
        expected.extend_from_slice(&[0; 14]);
        expected.extend_from_slice(b"o\x01u\xff\xff\xff\xff\xff\xff\xff\xff");
        assert_eq!(hashes(&[text, day, at, money, yes, big])[0], XxHash3_128::oneshot(&expected));
    }

    #[test]
    fn the_same_value_in_another_array_type_is_the_same_key() {
        let values = vec!["a", "bb", "", "a"];
        let number: ArrayRef = Arc::new(Int32Array::from(vec![1, 2, 3, 4]));
        let wide = cast(&number, &DataType::Int64).unwrap();
        let arrays: [ArrayRef; 4] = [
            Arc::new(StringArray::from(values.clone())),
            Arc::new(LargeStringArray::from(values.clone())),
            Arc::new(StringViewArray::from(values.clone())),
            Arc::new(values.into_iter().collect::<DictionaryArray<Int8Type>>()),
        ];
        for array in &arrays {
            assert_eq!(hashes(&[Arc::clone(array)]), hashes(&[Arc::clone(&arrays[0])]));
            assert_eq!(
                hashes(&[Arc::clone(array), Arc::clone(&wide)]),
                hashes(&[Arc::clone(&arrays[0]), Arc::clone(&number)])
            );
        }
    }

    #[test]
    fn borders_between_columns_count() {
        let pair =
            |a: &str, b: &str| hashes(&[Arc::new(StringArray::from(vec![a])), Arc::new(StringArray::from(vec![b]))])[0];
        assert_ne!(pair("ab", "c"), pair("a", "bc"));
        assert_ne!(pair("", "abc"), pair("abc", ""));
    }

    #[test]
    fn a_null_in_any_column_makes_the_key_null() {
        let a: ArrayRef = Arc::new(StringArray::from(vec![Some("x"), None, Some("y")]));
        let b: ArrayRef = Arc::new(Int32Array::from(vec![Some(1), Some(1), None]));
        let rows: Vec<_> = hash_keys(&[a, b]).unwrap().present().map(|(row, _)| row).collect();
        assert_eq!(rows, [0]);
    }

    #[test]
    fn floating_point_is_refused() {
        let error = hash_keys(&[Arc::new(Float64Array::from(vec![1.0]))]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Definition);
    }
}
