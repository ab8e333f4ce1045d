//! `stddev`, `variance`, `skewness`, `kurtosis`: central moments, kept in one pass.
//!
//! The formulas are those Spark updates and merges with, operation by operation, so that the last digit agrees where
//! the rows come in the same order. Source: Meng, "Simpler Online Updates for Arbitrary-Order Central Moments", 2015.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Float64Array};
use arrow::datatypes::{DataType, Float64Type};

use super::{Accumulator, for_each_valid};
use crate::error::Result;

/// What is made of the moments.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Moment {
    VarPop,
    VarSamp,
    StddevPop,
    StddevSamp,
    Skewness,
    Kurtosis,
}

impl Moment {
    /// The highest moment needed.
    fn order(self) -> usize {
        match self {
            Self::Skewness => 3,
            Self::Kurtosis => 4,
            _ => 2,
        }
    }

    fn of(self, g: &Group) -> Option<f64> {
        if g.n == 0.0 {
            return None;
        }
        match self {
            Self::VarPop => Some(g.m2 / g.n),
            Self::StddevPop => Some((g.m2 / g.n).sqrt()),
            Self::VarSamp => (g.n != 1.0).then(|| g.m2 / (g.n - 1.0)),
            Self::StddevSamp => (g.n != 1.0).then(|| (g.m2 / (g.n - 1.0)).sqrt()),
            Self::Skewness => (g.m2 != 0.0).then(|| g.n.sqrt() * g.m3 / (g.m2 * g.m2 * g.m2).sqrt()),
            Self::Kurtosis => (g.m2 != 0.0).then(|| g.n * g.m4 / (g.m2 * g.m2) - 3.0),
        }
    }
}

/// The moments of a group: count, mean, and sums of powers of the distance from the mean.
#[derive(Debug, Clone, Copy, Default)]
struct Group {
    n: f64,
    mean: f64,
    m2: f64,
    m3: f64,
    m4: f64,
}

impl Group {
    fn add(&mut self, value: f64) {
        let n = self.n + 1.0;
        let delta = value - self.mean;
        let delta_n = delta / n;
        self.mean += delta_n;
        self.m2 += delta * (delta - delta_n);
        let (delta2, delta_n2) = (delta * delta, delta_n * delta_n);
        self.m3 = self.m3 - 3.0 * delta_n * self.m2 + delta * (delta2 - delta_n2);
        self.m4 = self.m4 - 4.0 * delta_n * self.m3 - 6.0 * delta_n2 * self.m2
            + delta * (delta * delta2 - delta_n * delta_n2);
        self.n = n;
    }

    /// Adds the moments of other rows.
    fn merge(&mut self, b: &Self) {
        if self.n == 0.0 {
            *self = *b;
            return;
        }
        let a = *self;
        let n = a.n + b.n;
        let delta = b.mean - a.mean;
        let delta_n = if n == 0.0 { 0.0 } else { delta / n };
        self.n = n;
        self.mean = a.mean + delta_n * b.n;
        self.m2 = a.m2 + b.m2 + delta * delta_n * a.n * b.n;
        self.m3 = a.m3
            + b.m3
            + delta_n * delta_n * delta * a.n * b.n * (a.n - b.n)
            + 3.0 * delta_n * (a.n * b.m2 - b.n * a.m2);
        self.m4 = a.m4
            + b.m4
            + delta_n * delta_n * delta_n * delta * a.n * b.n * (a.n * a.n - a.n * b.n + b.n * b.n)
            + 6.0 * delta_n * delta_n * (a.n * a.n * b.m2 + b.n * b.n * a.m2)
            + 4.0 * delta_n * (a.n * b.m3 - b.n * a.m3);
    }
}

/// The accumulator of all of them; the moments a function does not need are not stored.
pub(crate) struct Moments {
    moment: Moment,
    groups: Vec<Group>,
}

impl Moments {
    pub(crate) fn new(moment: Moment) -> Self {
        Self { moment, groups: Vec::new() }
    }
}

impl Accumulator for Moments {
    fn grow(&mut self, slots: usize) {
        self.groups.resize(slots.max(self.groups.len()), Group::default());
    }

    fn update(&mut self, args: &[ArrayRef], slots: &[u32]) -> Result<()> {
        let values = args[0].as_primitive::<Float64Type>();
        for_each_valid(values.nulls(), slots, |row, slot| self.groups[slot].add(values.value(row)));
        Ok(())
    }

    fn merge(&mut self, state: &[ArrayRef], slots: &[u32]) -> Result<()> {
        let of = |column: usize, row: usize| {
            state.get(column).map_or(0.0, |column| column.as_primitive::<Float64Type>().value(row))
        };
        for (row, slot) in slots.iter().enumerate() {
            let other = Group { n: of(0, row), mean: of(1, row), m2: of(2, row), m3: of(3, row), m4: of(4, row) };
            self.groups[*slot as usize].merge(&other);
        }
        Ok(())
    }

    fn state(&mut self, slots: &[u32]) -> Result<Vec<ArrayRef>> {
        let all: [fn(&Group) -> f64; 5] = [|g| g.n, |g| g.mean, |g| g.m2, |g| g.m3, |g| g.m4];
        let column = |of: &fn(&Group) -> f64| -> ArrayRef {
            Arc::new(Float64Array::from_iter_values(slots.iter().map(|slot| of(&self.groups[*slot as usize]))))
        };
        Ok(all[..=self.moment.order()].iter().map(column).collect())
    }

    fn evaluate(&mut self, slots: &[u32]) -> Result<ArrayRef> {
        let results = slots.iter().map(|slot| self.moment.of(&self.groups[*slot as usize]));
        Ok(Arc::new(results.collect::<Float64Array>()))
    }

    fn reset(&mut self, slots: &[u32]) {
        slots.iter().for_each(|slot| self.groups[*slot as usize] = Group::default());
    }

    fn state_types(&self) -> Vec<DataType> {
        vec![DataType::Float64; self.moment.order() + 1]
    }

    fn size_bytes(&self) -> usize {
        size_of_val(self.groups.as_slice())
    }
}
