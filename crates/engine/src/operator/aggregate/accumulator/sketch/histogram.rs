//! `histogram_numeric`: bins that move to where the values are.
//!
//! A new value is a bin of its own; when there are too many, the two nearest become one. Source: Ben-Haim, Tom-Tov,
//! "A Streaming Parallel Decision Tree Algorithm", 2010. Of pairs that are equally near one is drawn, from the random
//! numbers that Spark draws.

use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array, StructArray};
use arrow::datatypes::{DataType, Field, Fields};

use super::{JavaRandom, Reader, doubles, from_doubles};
use crate::error::Result;
use crate::operator::aggregate::accumulator::rows::list_of;
use crate::operator::aggregate::accumulator::summary::Summary;

/// The kind of summary: how many bins, of which type.
pub(crate) struct Histogram {
    pub(crate) bins: usize,
    pub(crate) data_type: DataType,
}

/// The bins of one group, by place.
#[derive(Default)]
pub(crate) struct Bins {
    bins: Vec<(f64, f64)>,
    random: Option<JavaRandom>,
}

impl Bins {
    fn put(&mut self, x: f64, y: f64, most: usize) {
        let at = self.bins.partition_point(|(place, _)| *place < x);
        match self.bins.get_mut(at).filter(|(place, _)| *place == x) {
            Some(bin) => bin.1 += y,
            None => {
                self.bins.insert(at, (x, y));
                self.trim(most);
            }
        }
    }

    fn trim(&mut self, most: usize) {
        const SEED: i64 = 31183;
        while self.bins.len() > most {
            let random = self.random.get_or_insert_with(|| JavaRandom::new(SEED));
            let gap = |at: usize| self.bins[at + 1].0 - self.bins[at].0;
            let (mut nearest, mut ties) = (0, 1.0);
            for at in 1..self.bins.len() - 1 {
                if gap(at) < gap(nearest) {
                    (nearest, ties) = (at, 1.0);
                } else if gap(at) == gap(nearest) {
                    ties += 1.0;
                    if random.double() <= 1.0 / ties {
                        nearest = at;
                    }
                }
            }
            let (x, y) = self.bins.remove(nearest + 1);
            let bin = &mut self.bins[nearest];
            let sum = bin.1 + y;
            *bin = (bin.0 * (bin.1 / sum) + x / sum * y, sum);
        }
    }
}

impl Summary for Histogram {
    type State = Bins;
    type Rows = Float64Array;

    fn prepare(&self, args: &[ArrayRef]) -> Result<Float64Array> {
        doubles(&args[0])
    }

    fn add(&self, state: &mut Bins, rows: &Float64Array, row: usize) -> Result<()> {
        state.put(rows.value(row), 1.0, self.bins);
        Ok(())
    }

    fn merge(&self, state: &mut Bins, bytes: &[u8]) -> Result<()> {
        let mut reader = Reader(bytes);
        let random = reader.long()?;
        if state.random.is_none() && random >= 0 {
            state.random = Some(JavaRandom(random.cast_unsigned()));
        }
        while !reader.0.is_empty() {
            state.put(reader.double()?, reader.double()?, self.bins);
        }
        Ok(())
    }

    /// Where the random numbers are (-1: none were drawn), then place and height of each bin.
    fn bytes(&self, state: &Bins) -> Vec<u8> {
        let random = state.random.as_ref().map_or(-1, |random| random.0.cast_signed());
        let bins = state.bins.iter().flat_map(|(x, y)| [x.to_be_bytes(), y.to_be_bytes()].concat());
        random.to_be_bytes().into_iter().chain(bins).collect()
    }

    fn size_bytes(state: &Bins) -> usize {
        state.bins.capacity() * size_of::<(f64, f64)>()
    }

    fn answers(&self, states: &[Option<&Bins>]) -> Result<ArrayRef> {
        let bins = || states.iter().flatten().flat_map(|state| &state.bins);
        let places = from_doubles(bins().map(|(x, _)| Some(*x)).collect(), &self.data_type)?;
        let heights: ArrayRef = Arc::new(bins().map(|(_, y)| Some(*y)).collect::<Float64Array>());
        let fields = [Field::new("x", self.data_type.clone(), true), Field::new("y", DataType::Float64, true)];
        let items = StructArray::try_new(Fields::from(fields.to_vec()), vec![places, heights], None)?;
        let lengths = states.iter().map(|state| state.map_or(0, |state| state.bins.len())).collect();
        let validity: Vec<bool> = states.iter().map(Option::is_some).collect();
        list_of(lengths, Arc::new(items), Some(validity.into()))
    }
}
