//! `aggregate(array, start, merge[, finish])`: folds each array to a value, all arrays of a batch in step.
//!
//! ```text
//!   [a, b, c]  [d]  []       start of all ─ a, d ─> 1st and 2nd ─ b ─> 1st ─ c ─> 1st
//!                            the 3rd ends before the first step, the 2nd after it
//! ```
//!
//! A list that has come to its end is left out of the steps that follow, so that the work is that of all elements.

use arrow::array::{Array, ArrayRef, UInt32Array, UInt64Array, new_empty_array};
use arrow::compute::{interleave, take};
use datafusion::common::Result;

use super::super::cast::{self, Mode};
use super::Call;
use super::elements::evaluate;

pub(super) fn aggregate(call: &Call) -> Result<ArrayRef> {
    let lists = call.list(0)?;
    let valid: Vec<u32> =
        (0_u32..).zip(0..call.rows).filter(|(_, row)| lists.is_valid(*row)).map(|(at, _)| at).collect();
    let rows = UInt32Array::from(valid);
    let folded = folded(call, rows.values())?;
    let finished = match call.lambdas.get(1) {
        None => folded,
        Some(finish) => evaluate(finish, &[folded], &rows)?,
    };
    let mut places = vec![None; call.rows];
    (0_u64..).zip(rows.values()).for_each(|(at, row)| places[*row as usize] = Some(at));
    let made = take(&finished, &UInt64Array::from(places), None)?;
    cast::array(&made, &call.return_type, Mode::Ansi, call.zone)
}

/// What the lists of some rows are folded to, in the order of the rows.
fn folded(call: &Call, rows: &[u32]) -> Result<ArrayRef> {
    let lists = call.list(0)?;
    let start = take(&call.values[1], &UInt32Array::from(rows.to_vec()), None)?;
    let data_type = start.data_type().clone();
    let offsets = lists.value_offsets();
    let length = |row: u32| (offsets[row as usize + 1] - offsets[row as usize]).unsigned_abs();
    // Values of lists that have ended, and where each row's is.
    let mut ended: Vec<ArrayRef> = Vec::new();
    let mut homes = vec![(0, 0); rows.len()];
    let (mut state, mut under_way) = (start, (0..rows.len()).collect::<Vec<usize>>());
    for step in 0_u32.. {
        let (mut going, mut done) = (Vec::new(), Vec::new());
        for (at, row) in (0_u32..).zip(&under_way) {
            if length(rows[*row]) > step {
                going.push(at);
            } else {
                homes[*row] = (ended.len(), done.len());
                done.push(at);
            }
        }
        if !done.is_empty() {
            ended.push(take(&state, &UInt32Array::from(done), None)?);
        }
        if going.is_empty() {
            break;
        }
        under_way = going.iter().map(|at| under_way[*at as usize]).collect();
        state = take(&state, &UInt32Array::from(going), None)?;
        let of_rows = UInt32Array::from_iter_values(under_way.iter().map(|row| rows[*row]));
        let place = |row: &u32| u64::from(offsets[*row as usize].unsigned_abs() + step);
        let places = UInt64Array::from_iter_values(of_rows.values().iter().map(place));
        let merged = evaluate(&call.lambdas[0], &[state, take(lists.values(), &places, None)?], &of_rows)?;
        state = cast::array(&merged, &data_type, Mode::Ansi, call.zone)?;
    }
    if ended.is_empty() {
        return Ok(new_empty_array(&data_type));
    }
    let ended: Vec<&dyn Array> = ended.iter().map(AsRef::as_ref).collect();
    Ok(interleave(&ended, &homes)?)
}
