//! State that carries over to other slots of another accumulator, and sums that overflow.

use std::sync::Arc;

use arrow::array::{ArrayRef, BinaryArray, BooleanArray, Decimal128Array, Float64Array, Int64Array, StringArray};
use arrow::datatypes::DataType;

use super::*;
use crate::plan::functions::Mode;

fn ints(values: &[Option<i64>]) -> ArrayRef {
    Arc::new(values.iter().copied().collect::<Int64Array>())
}

/// Updates groups 0 and 1, carries the state over to a fresh accumulator, and compares results.
fn check_made(make: impl Fn() -> Box<dyn Accumulator>, args: &[ArrayRef], expected: &str) {
    let mut first = make();
    first.grow(3);
    let slots: Vec<u32> = (0..args[0].len()).map(|row| u32::try_from(row % 2).unwrap()).collect();
    first.update(args, &slots).unwrap();
    let state = first.state(&[0, 1, 2]).unwrap();
    assert_eq!(state.iter().map(|column| column.data_type().clone()).collect::<Vec<_>>(), first.state_types());
    let mut second = make();
    second.grow(3);
    second.merge(&state, &[2, 1, 0]).unwrap();
    let before = second.size_bytes();
    let shown = |accumulator: &mut dyn Accumulator, slots: &[u32]| {
        let results = accumulator.evaluate(slots).unwrap();
        let text = |row| arrow::util::display::array_value_to_string(&results, row).unwrap();
        (0..results.len()).map(text).collect::<Vec<_>>().join("; ")
    };
    assert_eq!(shown(second.as_mut(), &[2, 1, 0]), expected);
    let empty = shown(second.as_mut(), &[0]);
    second.reset(&[2, 1]);
    assert_eq!(shown(second.as_mut(), &[2]), empty, "a slot that was emptied is like one that never had a row");
    assert!(second.size_bytes() <= before);
    second.update(args, &slots).unwrap();
    assert_eq!(shown(second.as_mut(), &[0, 1, 2]), expected, "a slot is used again");
}

fn check(function: &str, arg: &ArrayRef, result: &DataType, expected: &str) {
    let types = [arg.data_type().clone()];
    check_made(|| by_hand(function, &types, result).unwrap(), &[Arc::clone(arg)], expected);
}

#[test]
fn state_of_numbers_and_extremes_carries_over() {
    let numbers = ints(&[Some(1), Some(2), None, Some(4), Some(5)]);
    check("count", &numbers, &DataType::Int64, "2; 2; 0");
    check("sum", &numbers, &DataType::Int64, "6; 6; ");
    check("min", &numbers, &DataType::Int64, "1; 2; ");
    check("max", &numbers, &DataType::Int64, "5; 4; ");
    check("bit_xor", &numbers, &DataType::Int64, "4; 6; ");
    let doubles: ArrayRef = Arc::new(Float64Array::from(vec![1.0, 2.0, f64::NAN, 4.0]));
    check("max", &doubles, &DataType::Float64, "NaN; 4.0; ");
    check("min", &doubles, &DataType::Float64, "1.0; 2.0; ");
    let texts: ArrayRef = Arc::new(StringArray::from(vec![Some("b"), None, Some("a"), Some("c")]));
    check("min", &texts, &DataType::Utf8, "a; c; ");
    check("max", &texts, &DataType::Utf8, "b; c; ");
    let bytes: ArrayRef = Arc::new(BinaryArray::from_opt_vec(vec![Some(b"b"), None, Some(b"a"), Some(b"c")]));
    check("max", &bytes, &DataType::Binary, "62; 63; ");
    let flags: ArrayRef = Arc::new(BooleanArray::from(vec![Some(true), None, Some(false), Some(true)]));
    check("min", &flags, &DataType::Boolean, "false; true; ");
    let decimals: ArrayRef = Arc::new(Decimal128Array::from(vec![150, 250]).with_precision_and_scale(10, 2).unwrap());
    check("max", &decimals, &DataType::Decimal128(10, 2), "1.50; 2.50; ");
    check("sum", &decimals, &DataType::Decimal128(20, 2), "1.50; 2.50; ");
}

#[test]
fn state_of_values_carries_over() {
    let numbers = ints(&[Some(7), Some(2), None, Some(2), Some(5), Some(9)]);
    let order = ints(&[Some(1), Some(3), Some(1), Some(3), None, Some(0)]);
    let int = DataType::Int64;
    let one = [Arc::clone(&numbers)];
    let both = [Arc::clone(&numbers), order];
    check_made(|| Box::new(Chosen::new(Which::First, false, &int).unwrap()), &one, "7; 2; ");
    check_made(|| Box::new(Chosen::new(Which::Last, true, &int).unwrap()), &one, "5; 9; ");
    check_made(|| Box::new(ByOrder::new(true, &int, &int).unwrap()), &both, "; 2; ");
    check_made(|| Box::new(ByOrder::new(false, &int, &int).unwrap()), &both, "; 9; ");
    check_made(|| Box::new(BestByOrder::new(true, 2, &int, &int).unwrap()), &both, "[, 7]; [2, 2]; ");
    check_made(|| Box::new(Collect::new(false, false, &int).unwrap()), &one, "[7, 5]; [2, 2, 9]; []");
    check_made(|| Box::new(Collect::new(true, true, &int).unwrap()), &one, "[7, , 5]; [2, 9]; []");
    check_made(|| Box::new(MostOften::new(&int, false).unwrap()), &one, "5; 2; ");
    let sum = || by_hand("sum", std::slice::from_ref(&int), &int).unwrap();
    check_made(|| Box::new(Distinct::new(sum(), std::slice::from_ref(&int), false).unwrap()), &one, "12; 11; ");
    check_made(|| try_sum(&int).unwrap(), &one, "12; 13; ");
}

#[test]
fn state_of_moments_and_sketches_carries_over() {
    let x: ArrayRef = Arc::new(Float64Array::from(vec![1.0, 2.0, 3.0, 6.0]));
    let y: ArrayRef = Arc::new(Float64Array::from(vec![2.0, 1.0, 6.0, 3.0]));
    let both = [Arc::clone(&x), y];
    check_made(|| Box::new(Moments::new(Moment::VarPop)), &both[..1], "1.0; 4.0; ");
    check_made(|| Box::new(Moments::new(Moment::Kurtosis)), &both[..1], "-2.0; -2.0; ");
    check_made(|| Box::new(Covariance::new(Joint::CovarPop)), &both, "2.0; 2.0; ");
    check_made(
        || Box::new(Average::new(&DataType::Float64, DataType::Float64, Mode::Ansi).unwrap()),
        &both[..1],
        "2.0; 4.0; ",
    );
    let asked = || Quantiles { fractions: vec![0.5], is_list: false, error: 0.01, data_type: DataType::Float64 };
    check_made(|| Box::new(Summaries::new(asked())), &both[..1], "1.0; 2.0; ");
    check_made(
        || Box::new(Summaries::new(Histogram { bins: 2, data_type: DataType::Float64 })),
        &both[..1],
        "[{x: 1.0, y: 1.0}, {x: 3.0, y: 1.0}]; [{x: 2.0, y: 1.0}, {x: 6.0, y: 1.0}]; ",
    );
    let positions = [ints(&[Some(0), Some(1 << 60), Some(0), Some(1 << 61)])];
    let hashes = || Box::new(Summaries::new(HyperLogLog::new(precision(0.05).unwrap())));
    check_made(|| hashes(), &positions, "1; 2; 0");
    check_made(
        || Box::new(Summaries::new(TopK::new(&DataType::Int64, 1, 100).unwrap())),
        &positions,
        "[{item: 0, count: 2}]; [{item: 1152921504606846976, count: 1}]; []",
    );
}

#[test]
fn tracked_counts_are_too_high_by_no_more_than_was_taken() {
    let mut top = Summaries::new(TopK::new(&DataType::Int64, 1, 10).unwrap());
    top.grow(1);
    let mut values: Vec<i64> = (0..1000).collect();
    values.extend(vec![7; 600]);
    let values: ArrayRef = Arc::new(Int64Array::from(values));
    top.update(&[Arc::clone(&values)], &vec![0; values.len()]).unwrap();
    let found = arrow::util::display::array_value_to_string(&top.evaluate(&[0]).unwrap(), 0).unwrap();
    let count: i64 = found.trim_start_matches("[{item: 7, count: ").trim_end_matches("}]").parse().unwrap();
    assert!((600..=800).contains(&count), "{found}");
}

#[test]
fn a_sum_that_overflows_is_an_error() {
    let mut sum = by_hand("sum", &[DataType::Int64], &DataType::Int64).unwrap();
    sum.grow(1);
    let error = sum.update(&[ints(&[Some(i64::MAX), Some(1)])], &[0, 0]).unwrap_err();
    assert_eq!(error.to_string(), "[ARITHMETIC_OVERFLOW] sum overflows BIGINT; use try_sum to get NULL");

    let (arg, result) = (DataType::Decimal128(38, 0), DataType::Decimal128(38, 0));
    let most: ArrayRef =
        Arc::new(Decimal128Array::from(vec![10_i128.pow(38) - 1, 1]).with_precision_and_scale(38, 0).unwrap());
    let mut sum = by_hand("sum", &[arg], &result).unwrap();
    sum.grow(1);
    let error = sum.update(&[Arc::clone(&most)], &[0, 0]).unwrap_err();
    assert_eq!(error.to_string(), "[ARITHMETIC_OVERFLOW] sum overflows DECIMAL; use try_sum to get NULL");

    let mut sum = try_sum(&result).unwrap();
    sum.grow(1);
    sum.update(&[most], &[0, 0]).unwrap();
    assert!(sum.evaluate(&[0]).unwrap().is_null(0));
}
