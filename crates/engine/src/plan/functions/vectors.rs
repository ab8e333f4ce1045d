//! Vectors, as arrays of FLOAT: lengths, distances and similarity.
//!
//! A vector with a NULL in it gives NULL. Sums are DOUBLE, and FLOAT at the end. The aggregates `vector_sum` and
//! `vector_avg` are not here.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Float32Array, Float32Builder, ListBuilder};
use arrow::datatypes::{DataType, Field, Float32Type};
use datafusion::common::Result;

use super::udf::{Arguments, Invocation, Spec, function};
use super::{failure, types};
use crate::plan::ddl;

pub(super) const TABLE: &[Spec] = &[
    function("vector_inner_product", (2, 2), |a| number(a, 2), |c| of_two(c, "vector_inner_product", inner_product)),
    function("vector_l2_distance", (2, 2), |a| number(a, 2), |c| of_two(c, "vector_l2_distance", distance)),
    function("vector_cosine_similarity", (2, 2), |a| number(a, 2), |c| of_two(c, "vector_cosine_similarity", cosine)),
    function("vector_norm", (1, 2), |a| number(a, 1), vector_norm),
    function("vector_normalize", (1, 2), vector, vector_normalize),
];

fn vector(arguments: &Arguments<'_>) -> Result<DataType> {
    number(arguments, 1)?;
    Ok(types::list(DataType::Float32))
}

/// FLOAT, if that many arguments are vectors.
fn number(arguments: &Arguments<'_>, vectors: usize) -> Result<DataType> {
    for i in 0..vectors {
        let found = arguments.of(i);
        let is_vector = matches!(&found, DataType::List(element) if *element.data_type() == DataType::Float32);
        if !is_vector {
            let found = ddl::type_name(&found);
            let message = format!("a vector is ARRAY<FLOAT>, found {found}; cast it, or write its numbers as 1.0F");
            return Err(failure::plan("DATATYPE_MISMATCH.UNEXPECTED_INPUT_TYPE", message));
        }
    }
    match arguments.types().nth(vectors) {
        None | Some(DataType::Float32) => Ok(DataType::Float32),
        Some(other) => {
            let message = format!("the degree of a norm is a FLOAT, found {}; write it as 2.0F", ddl::type_name(other));
            Err(failure::plan("DATATYPE_MISMATCH.UNEXPECTED_INPUT_TYPE", message))
        }
    }
}

/// The numbers of each vector of argument `i`; none of a NULL, and of one with a NULL in it.
fn vectors(call: &Invocation<'_>, i: usize) -> Result<Vec<Option<Vec<f32>>>> {
    let raw = call.raw(i)?;
    let lists = raw.as_list::<i32>();
    let row = |row: usize| {
        let numbers = lists.value(row);
        (lists.is_valid(row) && numbers.null_count() == 0)
            .then(|| numbers.as_primitive::<Float32Type>().values().to_vec())
    };
    Ok((0..call.rows).map(row).collect())
}

fn of_two(call: &Invocation<'_>, name: &str, f: fn(&[f32], &[f32]) -> Option<f32>) -> Result<ArrayRef> {
    let (left, right) = (vectors(call, 0)?, vectors(call, 1)?);
    let row = |(a, b): (&Option<Vec<f32>>, &Option<Vec<f32>>)| -> Result<Option<f32>> {
        let (Some(a), Some(b)) = (a, b) else { return Ok(None) };
        if a.len() != b.len() {
            return Err(failure::data(
                "VECTOR_DIMENSION_MISMATCH",
                format!("{name} takes vectors of one length, found {} and {} numbers", a.len(), b.len()),
            ));
        }
        Ok(f(a, b))
    };
    Ok(Arc::new(left.iter().zip(&right).map(row).collect::<Result<Float32Array>>()?))
}

/// The sum of what each pair of numbers gives.
fn sum(a: &[f32], b: &[f32], f: impl Fn(f64, f64) -> f64) -> f64 {
    // The sum of nothing is 0.0, where Rust's is -0.0.
    a.iter().zip(b).fold(0.0, |sum, (a, b)| sum + f(f64::from(*a), f64::from(*b)))
}

fn inner_product(a: &[f32], b: &[f32]) -> Option<f32> {
    Some(sum(a, b, |a, b| a * b) as f32)
}

fn distance(a: &[f32], b: &[f32]) -> Option<f32> {
    Some(sum(a, b, |a, b| (a - b) * (a - b)).sqrt() as f32)
}

/// Nothing of a vector without length.
fn cosine(a: &[f32], b: &[f32]) -> Option<f32> {
    let product = sum(a, b, |a, b| a * b);
    let lengths = sum(a, a, |a, b| a * b).sqrt() * sum(b, b, |a, b| a * b).sqrt();
    (lengths != 0.0).then_some((product / lengths) as f32)
}

fn norm(vector: &[f32], degree: f32) -> Result<f64> {
    if degree == 2.0 {
        return Ok(sum(vector, vector, |a, b| a * b).sqrt());
    }
    if degree == 1.0 {
        return Ok(sum(vector, vector, |a, _| a.abs()));
    }
    if degree == f32::INFINITY {
        return Ok(vector.iter().fold(0.0, |max, x| f64::from(*x).abs().max(max)));
    }
    Err(failure::data(
        "INVALID_VECTOR_NORM_DEGREE",
        format!("the degree of a norm is {degree}; use 1.0, 2.0 or float('inf')"),
    ))
}

fn norms(call: &Invocation<'_>) -> Result<Vec<Option<(Vec<f32>, f64)>>> {
    let vectors = vectors(call, 0)?;
    let degrees = if call.len() > 1 { Some(call.array(1, &DataType::Float32)?) } else { None };
    let degree = |row: usize| match &degrees {
        Some(degrees) if degrees.is_null(row) => None,
        Some(degrees) => Some(degrees.as_primitive::<Float32Type>().value(row)),
        None => Some(2.0),
    };
    let norm = |(row, vector): (usize, Option<Vec<f32>>)| match (vector, degree(row)) {
        (Some(vector), Some(degree)) => norm(&vector, degree).map(|norm| Some((vector, norm))),
        _ => Ok(None),
    };
    vectors.into_iter().enumerate().map(norm).collect()
}

fn vector_norm(call: &Invocation<'_>) -> Result<ArrayRef> {
    Ok(Arc::new(norms(call)?.into_iter().map(|found| found.map(|(_, norm)| norm as f32)).collect::<Float32Array>()))
}

fn vector_normalize(call: &Invocation<'_>) -> Result<ArrayRef> {
    let field = Field::new_list_field(DataType::Float32, true);
    let mut out = ListBuilder::new(Float32Builder::new()).with_field(field);
    for found in norms(call)? {
        match found {
            Some((vector, norm)) if norm != 0.0 || vector.is_empty() => {
                vector.iter().for_each(|x| out.values().append_value((f64::from(*x) / norm) as f32));
                out.append(true);
            }
            _ => out.append(false),
        }
    }
    Ok(Arc::new(out.finish()))
}
