//! `margin` and `margin_pct`: profit in money and in percent, in whole numbers of the smallest unit throughout.
//!
//! ```text
//! margin(price, cost, quantity)     DECIMAL(p₁,s₁), DECIMAL(p₂,s₂), DECIMAL(p₃,s₃)
//!     ──▶  (price − cost) · quantity      DECIMAL(max(p₁−s₁, p₂−s₂) + 1 + p₃ + max(s₁, s₂), max(s₁, s₂) + s₃)
//! margin_pct(profit, revenue)       ──▶  profit · 100 / revenue, half away from zero      DECIMAL(9, 2)
//! ```
//!
//! A whole number counts as a decimal of its type's digits, such as DECIMAL(10, 0) for INT.

use std::sync::{Arc, LazyLock};

use arrow::array::{Array, ArrayRef, AsArray, Decimal128Array};
use arrow::datatypes::{DECIMAL128_MAX_PRECISION, DataType, Decimal128Type, i256};
use datafusion_common::utils::take_function_args;
use datafusion_common::{Result, internal_err, plan_err};
use datafusion_expr::{
    ColumnarValue, DocSection, Documentation, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility,
};

/// Type of a percentage: up to 9,999,999.99 %, in 32 bits of Parquet.
const PERCENT: DataType = DataType::Decimal128(9, 2);
/// The largest number of hundredths of a percent that fits it.
const PERCENT_MAX: i128 = 999_999_999;

const MONEY_SECTION: DocSection = DocSection { include: true, label: "Money Functions", description: None };

static MARGIN_DOC: LazyLock<Documentation> = LazyLock::new(|| {
    Documentation::builder(
        MONEY_SECTION,
        "The profit of a sale, exactly: (price - cost) * quantity. NULL where an argument is NULL and where the \
         result has more than 38 digits. Floating-point arguments are refused: cast them to DECIMAL.",
        "margin(price, cost, quantity)",
    )
    .with_argument("price", "What one piece is sold for: DECIMAL or a whole number")
    .with_argument("cost", "What one piece costs the seller: DECIMAL or a whole number")
    .with_argument("quantity", "Pieces: DECIMAL or a whole number")
    .with_sql_example("SELECT margin(CAST(499.00 AS DECIMAL(12, 2)), CAST(329.50 AS DECIMAL(12, 2)), 2); -- 339.00")
    .build()
});

static MARGIN_PCT_DOC: LazyLock<Documentation> = LazyLock::new(|| {
    Documentation::builder(
        MONEY_SECTION,
        "Profit in percent of revenue, as DECIMAL(9, 2), rounded half away from zero. NULL where revenue is 0, where \
         an argument is NULL, and beyond 9,999,999.99 %. Floating-point arguments are refused: cast them to DECIMAL.",
        "margin_pct(profit, revenue)",
    )
    .with_argument("profit", "DECIMAL or a whole number")
    .with_argument("revenue", "DECIMAL or a whole number")
    .with_sql_example("SELECT margin_pct(sum(profit), sum(revenue)) FROM gold.kpis; -- 23.37")
    .build()
});

/// See the module.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) struct Margin {
    signature: Signature,
}

/// See the module.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) struct MarginPct {
    signature: Signature,
}

impl Margin {
    pub(crate) fn new() -> Self {
        Self { signature: Signature::user_defined(Volatility::Immutable) }
    }
}

impl MarginPct {
    pub(crate) fn new() -> Self {
        Self { signature: Signature::user_defined(Volatility::Immutable) }
    }
}

impl ScalarUDFImpl for Margin {
    fn name(&self) -> &str {
        "margin"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, arg_types: &[DataType]) -> Result<Vec<DataType>> {
        let arguments: [&DataType; 3] = take_function_args(self.name(), arg_types)?;
        arguments.iter().map(|argument| as_decimal(self.name(), argument)).collect()
    }

    fn return_type(&self, arg_types: &[DataType]) -> Result<DataType> {
        let [(p1, s1), (p2, s2), (p3, s3)] = decimals(arg_types)?;
        let scale = s1.max(s2);
        let whole = (i16::from(p1) - i16::from(s1)).max(i16::from(p2) - i16::from(s2));
        let precision = whole + 1 + i16::from(p3) + i16::from(scale);
        let precision = u8::try_from(precision).unwrap_or(u8::MAX).min(DECIMAL128_MAX_PRECISION);
        let scale = scale.saturating_add(s3);
        if scale > DECIMAL128_MAX_PRECISION as i8 {
            return plan_err!(
                "margin: the result would have {scale} digits after the point, more than a DECIMAL holds"
            );
        }
        Ok(DataType::Decimal128(precision, scale))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let [(_, s1), (_, s2), _] = decimals(&types(&args))?;
        let DataType::Decimal128(precision, scale) = *args.return_type() else {
            return internal_err!("margin was planned as {}", args.return_type());
        };
        let (price_unit, cost_unit) = (power(s2.max(s1) - s1), power(s1.max(s2) - s2));
        let limit = power(precision as i8);
        let compute = |[price, cost, quantity]: [i128; 3]| {
            let profit = price.checked_mul(price_unit)?.checked_sub(cost.checked_mul(cost_unit)?)?;
            profit.checked_mul(quantity).filter(|profit| profit.unsigned_abs() < limit.unsigned_abs())
        };
        map(&args, DataType::Decimal128(precision, scale), compute)
    }

    fn documentation(&self) -> Option<&Documentation> {
        Some(&MARGIN_DOC)
    }
}

impl ScalarUDFImpl for MarginPct {
    fn name(&self) -> &str {
        "margin_pct"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, arg_types: &[DataType]) -> Result<Vec<DataType>> {
        let arguments: [&DataType; 2] = take_function_args(self.name(), arg_types)?;
        arguments.iter().map(|argument| as_decimal(self.name(), argument)).collect()
    }

    fn return_type(&self, _arg_types: &[DataType]) -> Result<DataType> {
        Ok(PERCENT)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let [(_, s1), (_, s2)] = decimals(&types(&args))?;
        // profit/10^s1 · 100 · 100 / (revenue/10^s2), in hundredths of a percent
        let (up, down) = (4 + s2.max(s1) - s1, s1.max(s2) - s2);
        map(&args, PERCENT, |[profit, revenue]: [i128; 2]| percent(profit, up, revenue, down))
    }

    fn documentation(&self) -> Option<&Documentation> {
        Some(&MARGIN_PCT_DOC)
    }
}

/// profit · 10^`up` / (revenue · 10^`down`), rounded half away from zero.
fn percent(profit: i128, up: i8, revenue: i128, down: i8) -> Option<i128> {
    if revenue == 0 {
        return None;
    }
    let (above, below) = match (profit.checked_mul(power(up)), revenue.checked_mul(power(down))) {
        (Some(above), Some(below)) => (above, below),
        _ => return percent_wide(profit, up, revenue, down),
    };
    let (quotient, rest) = (above / below, above % below);
    // Twice the rest may not fit; half of the divisor does.
    let half = below.unsigned_abs() - below.unsigned_abs() / 2;
    let up = i128::from(rest.unsigned_abs() >= half);
    let sign = if (above < 0) == (below < 0) { 1 } else { -1 };
    Some(quotient + sign * up).filter(|percent| percent.abs() <= PERCENT_MAX)
}

/// The same with 256 bits, for numbers near the limits of a DECIMAL.
fn percent_wide(profit: i128, up: i8, revenue: i128, down: i8) -> Option<i128> {
    let ten = i256::from_i128(10);
    let above = i256::from_i128(profit).checked_mul(ten.checked_pow(up as u32)?)?;
    let below = i256::from_i128(revenue).checked_mul(ten.checked_pow(down as u32)?)?;
    let (quotient, rest) = (above.checked_div(below)?, above.checked_rem(below)?);
    let doubled = rest.wrapping_abs().checked_add(rest.wrapping_abs())?;
    let sign = if above.is_negative() == below.is_negative() { 1 } else { -1 };
    let up = i128::from(doubled >= below.wrapping_abs());
    Some(quotient.to_i128()? + sign * up).filter(|percent| percent.abs() <= PERCENT_MAX)
}

/// 10^`exponent`; the largest number where that is more than it.
fn power(exponent: i8) -> i128 {
    10i128.checked_pow(exponent.unsigned_abs().into()).unwrap_or(i128::MAX)
}

/// The decimal that holds every number of this type.
fn as_decimal(function: &str, data_type: &DataType) -> Result<DataType> {
    use DataType::{Decimal32, Decimal64, Decimal128, Int8, Int16, Int32, Int64, Null, UInt8, UInt16, UInt32, UInt64};
    Ok(match *data_type {
        Int8 | UInt8 => Decimal128(3, 0),
        Int16 | UInt16 => Decimal128(5, 0),
        Int32 | UInt32 => Decimal128(10, 0),
        Int64 => Decimal128(19, 0),
        UInt64 | Null => Decimal128(20, 0),
        Decimal32(precision, scale) | Decimal64(precision, scale) | Decimal128(precision, scale) if scale >= 0 => {
            Decimal128(precision, scale)
        }
        _ => {
            return plan_err!(
                "{function} computes with DECIMAL and whole numbers, not {data_type}; CAST(... AS DECIMAL(12, 2))"
            );
        }
    })
}

/// Precision and scale of every argument.
fn decimals<const N: usize>(types: &[DataType]) -> Result<[(u8, i8); N]> {
    let listed: Vec<(u8, i8)> = types
        .iter()
        .filter_map(|data_type| match data_type {
            DataType::Decimal128(precision, scale) => Some((*precision, *scale)),
            _ => None,
        })
        .collect();
    match listed.try_into() {
        Ok(decimals) => Ok(decimals),
        Err(_) => internal_err!("the arguments were not coerced to decimals: {types:?}"),
    }
}

fn types(args: &ScalarFunctionArgs) -> Vec<DataType> {
    args.args.iter().map(ColumnarValue::data_type).collect()
}

/// Apply `compute` row by row; NULL in, NULL out.
fn map<const N: usize>(
    args: &ScalarFunctionArgs,
    result: DataType,
    compute: impl Fn([i128; N]) -> Option<i128>,
) -> Result<ColumnarValue> {
    let scalar = args.args.iter().all(|argument| matches!(argument, ColumnarValue::Scalar(_)));
    let rows = if scalar { 1 } else { args.number_rows };
    let arrays = args.args.iter().map(|argument| argument.to_array(rows)).collect::<Result<Vec<_>>>()?;
    let columns: Vec<&Decimal128Array> = arrays.iter().map(|array| array.as_primitive::<Decimal128Type>()).collect();
    let valid =
        columns.iter().fold(None, |valid, column| arrow::buffer::NullBuffer::union(valid.as_ref(), column.nulls()));
    let values: [&[i128]; N] = std::array::from_fn(|at| &columns[at].values()[..]);
    let row = |row: usize| {
        let known = valid.as_ref().is_none_or(|valid| valid.is_valid(row));
        known.then(|| compute(std::array::from_fn(|at| values[at][row]))).flatten()
    };
    let computed: Decimal128Array = (0..rows).map(row).collect();
    let computed: ArrayRef = Arc::new(computed.with_data_type(result));
    match scalar {
        true => Ok(ColumnarValue::Scalar(datafusion_common::ScalarValue::try_from_array(&computed, 0)?)),
        false => Ok(ColumnarValue::Array(computed)),
    }
}

#[cfg(test)]
mod tests;
