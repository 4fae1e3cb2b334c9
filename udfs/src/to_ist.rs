//! `to_ist(timestamp)`: the wall clock in India at an instant.
//!
//! ```text
//! TIMESTAMP with time zone     an instant     ─┐
//! TIMESTAMP without            taken as UTC   ─┴─▶  TIMESTAMP without time zone: Asia/Kolkata's wall clock
//! ```
//!
//! India's clocks have not changed since 15 October 1945, so that a batch of later instants moves by one offset;
//! earlier ones are looked up one by one in chrono-tz's table.

use std::sync::{Arc, LazyLock};

use arrow::array::{ArrayRef, AsArray, PrimitiveArray};
use arrow::compute::min;
use arrow::datatypes::{DataType, TimeUnit, TimestampMicrosecondType};
use chrono::{DateTime, Offset};
use chrono_tz::Asia::Kolkata;
use datafusion_common::utils::take_function_args;
use datafusion_common::{Result, ScalarValue, plan_err};
use datafusion_expr::sort_properties::{ExprProperties, SortProperties};
use datafusion_expr::{
    ColumnarValue, DocSection, Documentation, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility,
};

/// An instant after the last change of India's clocks: 15 October 1945, in microseconds since 1970 UTC.
const SETTLED_US: i64 = -764_121_600_000_000;

static DOCUMENTATION: LazyLock<Documentation> = LazyLock::new(|| {
    Documentation::builder(
        DocSection { include: true, label: "Time Functions", description: None },
        "The wall clock in India (Asia/Kolkata) at an instant, as a TIMESTAMP without time zone in microseconds. A \
         timestamp without time zone is taken as UTC. NULL for NULL, and beyond the years that have a calendar.",
        "to_ist(timestamp)",
    )
    .with_argument("timestamp", "A TIMESTAMP or DATE, or a string that can be cast to a TIMESTAMP")
    .with_sql_example("SELECT to_ist(TIMESTAMP '2026-11-08T18:30:00Z'); -- 2026-11-09T00:00:00")
    .build()
});

/// See the module.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) struct ToIst {
    signature: Signature,
}

impl ToIst {
    pub(crate) fn new() -> Self {
        Self { signature: Signature::user_defined(Volatility::Immutable) }
    }
}

impl ScalarUDFImpl for ToIst {
    fn name(&self) -> &str {
        "to_ist"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, arg_types: &[DataType]) -> Result<Vec<DataType>> {
        use DataType::{Date32, Date64, LargeUtf8, Null, Timestamp, Utf8, Utf8View};
        let [argument] = take_function_args(self.name(), arg_types)?;
        match argument {
            // The unit alone changes: the value stays the same instant, whatever zone it is shown in.
            Timestamp(_, zone) => Ok(vec![Timestamp(TimeUnit::Microsecond, zone.clone())]),
            Utf8 | LargeUtf8 | Utf8View | Date32 | Date64 | Null => {
                Ok(vec![Timestamp(TimeUnit::Microsecond, Some("UTC".into()))])
            }
            other => plan_err!("to_ist takes a TIMESTAMP, not {other}"),
        }
    }

    fn return_type(&self, _arg_types: &[DataType]) -> Result<DataType> {
        Ok(DataType::Timestamp(TimeUnit::Microsecond, None))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let [argument] = take_function_args(self.name(), args.args)?;
        match argument {
            ColumnarValue::Array(array) => Ok(ColumnarValue::Array(to_ist(&array))),
            ColumnarValue::Scalar(scalar) => {
                let array = to_ist(&scalar.to_array()?);
                Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&array, 0)?))
            }
        }
    }

    /// Not all of time keeps its order: clocks went back in 1945. The optimizer learns nothing from this function.
    fn output_ordering(&self, _inputs: &[ExprProperties]) -> Result<SortProperties> {
        Ok(SortProperties::Unordered)
    }

    fn documentation(&self) -> Option<&Documentation> {
        Some(&DOCUMENTATION)
    }
}

fn to_ist(instants: &ArrayRef) -> ArrayRef {
    let instants = instants.as_primitive::<TimestampMicrosecondType>();
    let offset = offset_us(SETTLED_US).unwrap_or_default();
    let largest = i64::MAX - offset;
    let settled = min(instants).is_none_or(|first| first >= SETTLED_US);
    let clocks: PrimitiveArray<TimestampMicrosecondType> = match settled {
        // No NULL where all is well: the values under NULLs may be anything, so that the sum may wrap there.
        true if arrow::compute::max(instants).is_none_or(|last| last <= largest) => {
            instants.unary(|instant| instant.wrapping_add(offset))
        }
        _ => instants.unary_opt(|instant| instant.checked_add(offset_us(instant)?)),
    };
    Arc::new(clocks.with_timezone_opt(None::<&str>))
}

/// What India's clocks are ahead of UTC at an instant, in microseconds.
fn offset_us(instant_us: i64) -> Option<i64> {
    let instant = DateTime::from_timestamp_micros(instant_us)?.with_timezone(&Kolkata);
    Some(i64::from(instant.offset().fix().local_minus_utc()) * 1_000_000)
}

#[cfg(test)]
mod tests {
    use arrow::array::TimestampMicrosecondArray;

    use super::*;

    const HOUR: i64 = 3_600_000_000;

    fn ist(values: Vec<Option<i64>>) -> Vec<Option<i64>> {
        let array: ArrayRef = Arc::new(TimestampMicrosecondArray::from(values).with_timezone("UTC"));
        let clocks = to_ist(&array);
        assert_eq!(clocks.data_type(), &DataType::Timestamp(TimeUnit::Microsecond, None));
        clocks.as_primitive::<TimestampMicrosecondType>().iter().collect()
    }

    #[test]
    fn five_and_a_half_hours_ahead() {
        let now = 1_794_146_602_123_456;
        assert_eq!(ist(vec![Some(now), None, Some(0)]), [Some(now + HOUR * 11 / 2), None, Some(HOUR * 11 / 2)]);
        assert_eq!(ist(vec![]), []);
        assert_eq!(ist(vec![None]), [None]);
    }

    #[test]
    fn before_1945_the_table_decides() {
        // War time was an hour further ahead.
        let war = SETTLED_US - 1000 * 24 * HOUR;
        assert_eq!(ist(vec![Some(war), Some(0)]), [Some(war + HOUR * 13 / 2), Some(HOUR * 11 / 2)]);
    }

    #[test]
    fn the_clocks_have_not_changed_since() {
        let offset = offset_us(SETTLED_US).unwrap();
        assert_eq!(offset, HOUR * 11 / 2);
        let mut instant = SETTLED_US;
        while instant < 300 * 365 * 24 * HOUR {
            assert_eq!(offset_us(instant), Some(offset), "{instant}");
            instant += 6 * HOUR;
        }
        assert_ne!(offset_us(SETTLED_US - 24 * HOUR), Some(offset));
    }

    #[test]
    fn beyond_the_calendar_is_null() {
        assert_eq!(ist(vec![Some(i64::MAX), Some(i64::MIN), Some(0)]), [None, None, Some(HOUR * 11 / 2)]);
        assert_eq!(ist(vec![Some(i64::MAX)]), [None]);
        // As far as chrono goes, and no wrapping before.
        let far = 8_000_000_000_000_000_000;
        assert_eq!(ist(vec![Some(far)]), [Some(far + HOUR * 11 / 2)]);
    }
}
