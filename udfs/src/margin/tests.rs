//! Against hand-computed figures, limits and a property.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Decimal128Array};
use arrow::datatypes::{DataType, Decimal128Type, Field};
use datafusion_common::ScalarValue;
use datafusion_common::config::ConfigOptions;
use datafusion_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDF};

use super::*;

fn decimal(values: Vec<Option<i128>>, precision: u8, scale: i8) -> ArrayRef {
    Arc::new(Decimal128Array::from(values).with_precision_and_scale(precision, scale).unwrap())
}

fn call(function: ScalarUDF, arguments: Vec<ColumnarValue>) -> (DataType, ColumnarValue) {
    let types: Vec<DataType> = arguments.iter().map(ColumnarValue::data_type).collect();
    assert_eq!(function.coerce_types(&types).unwrap(), types, "coerced already");
    let result = function.return_type(&types).unwrap();
    let number_rows = arguments
        .iter()
        .map(|argument| match argument {
            ColumnarValue::Array(array) => array.len(),
            ColumnarValue::Scalar(_) => 1,
        })
        .max()
        .unwrap();
    let args = ScalarFunctionArgs {
        arg_fields: types.iter().map(|t| Arc::new(Field::new("a", t.clone(), true))).collect(),
        args: arguments,
        number_rows,
        return_field: Arc::new(Field::new("r", result.clone(), true)),
        config_options: Arc::new(ConfigOptions::default()),
    };
    (result, function.invoke_with_args(args).unwrap())
}

fn values(answer: &ColumnarValue) -> Vec<Option<i128>> {
    answer.to_array(1).unwrap().as_primitive::<Decimal128Type>().iter().collect()
}

fn array(values: Vec<Option<i128>>, precision: u8, scale: i8) -> ColumnarValue {
    ColumnarValue::Array(decimal(values, precision, scale))
}

#[test]
fn margin_is_exact() {
    let price = array(vec![Some(49_900), Some(10), None, Some(100), Some(0)], 12, 2);
    let cost = array(vec![Some(32_950), Some(30), Some(1), None, Some(999_999_999_999)], 12, 2);
    let quantity = array(vec![Some(2), Some(3), Some(1), Some(1), Some(2_147_483_647)], 10, 0);
    let (result, answer) = call(Margin::new().into(), vec![price, cost, quantity]);
    assert_eq!(result, DataType::Decimal128(23, 2));
    assert_eq!(values(&answer), [Some(33_900), Some(-60), None, None, Some(-999_999_999_999 * 2_147_483_647)]);
}

#[test]
fn margin_aligns_scales_and_takes_scalars() {
    let price = array(vec![Some(15), Some(25)], 5, 1);
    let cost = ColumnarValue::Scalar(ScalarValue::Decimal128(Some(1_000), 9, 3));
    let quantity = ColumnarValue::Scalar(ScalarValue::Decimal128(Some(2), 19, 0));
    let (result, answer) = call(Margin::new().into(), vec![price, cost.clone(), quantity.clone()]);
    assert_eq!(result, DataType::Decimal128(29, 3));
    assert_eq!(values(&answer), [Some(1_000), Some(3_000)]);
    let price = ColumnarValue::Scalar(ScalarValue::Decimal128(Some(15), 5, 1));
    let (_, answer) = call(Margin::new().into(), vec![price, cost, quantity]);
    assert!(matches!(answer, ColumnarValue::Scalar(ScalarValue::Decimal128(Some(1_000), 29, 3))), "{answer:?}");
}

#[test]
fn a_margin_that_does_not_fit_is_null() {
    let widest = 10i128.pow(38) - 1;
    let price = array(vec![Some(widest), Some(widest), Some(-widest), Some(1)], 38, 0);
    let cost = array(vec![Some(0), Some(0), Some(widest), Some(-1)], 38, 0);
    let quantity = array(vec![Some(1), Some(2), Some(1), Some(5)], 19, 0);
    let (result, answer) = call(Margin::new().into(), vec![price, cost, quantity]);
    assert_eq!(result, DataType::Decimal128(38, 0));
    assert_eq!(values(&answer), [Some(widest), None, None, Some(10)]);
}

#[test]
fn percent_rounds_half_away_from_zero() {
    let profit = array(vec![Some(8_352_400), Some(1), Some(-1), Some(1), Some(0), None, Some(5)], 18, 2);
    let revenue = array(vec![Some(35_740_000), Some(3), Some(20_000), Some(0), Some(7), Some(7), None], 18, 2);
    let (result, answer) = call(MarginPct::new().into(), vec![profit, revenue]);
    assert_eq!(result, DataType::Decimal128(9, 2));
    // 23.3699..., 33.333..., -0.005, nothing of nothing
    assert_eq!(values(&answer), [Some(2_337), Some(3_333), Some(-1), None, Some(0), None, None]);
}

#[test]
fn percent_agrees_with_wide_arithmetic_up_to_the_limits() {
    let mut random = 7u64;
    let mut next = |bits: u32| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let high = i128::from(random as i64) << 63 ^ i128::from(random.rotate_left(17));
        (high >> (127 - bits)).clamp(-(10i128.pow(38) - 1), 10i128.pow(38) - 1)
    };
    for round in 0..200_000u32 {
        let (profit, revenue) = (next(1 + round % 127), next(1 + round / 3 % 127));
        let (up, down) = (4 + (round % 5) as i8, (round % 4) as i8);
        if revenue == 0 {
            assert_eq!(percent(profit, up, revenue, down), None);
            continue;
        }
        let expected = percent_wide(profit, up, revenue, down);
        assert_eq!(percent(profit, up, revenue, down), expected, "{profit} {up} {revenue} {down}");
    }
    assert_eq!(percent(10i128.pow(38) - 1, 4, 10i128.pow(38) - 1, 0), Some(10_000));
    assert_eq!(percent(1, 4, 3, 0), Some(3_333));
    assert_eq!(percent(999_999_999, 4, 10_000, 0), Some(999_999_999));
    assert_eq!(percent(1_000_000_000, 4, 10_000, 0), None);
}

#[test]
fn floating_point_is_refused_and_whole_numbers_are_taken() {
    let margin: ScalarUDF = Margin::new().into();
    let message = margin.coerce_types(&[DataType::Float64, DataType::Int32, DataType::Int32]).unwrap_err().to_string();
    assert!(message.contains("CAST(... AS DECIMAL(12, 2))"), "{message}");
    assert!(margin.coerce_types(&[DataType::Int32]).is_err());
    assert_eq!(
        margin.coerce_types(&[DataType::Int64, DataType::Null, DataType::Int16]).unwrap(),
        [DataType::Decimal128(19, 0), DataType::Decimal128(20, 0), DataType::Decimal128(5, 0)]
    );
}
