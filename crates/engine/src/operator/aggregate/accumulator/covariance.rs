//! `covar_pop`, `covar_samp`, `corr` and `regr_*`: how two columns vary together, kept in one pass.
//!
//! Only rows count in which both are there. `regr_*(y, x)` takes the dependent column first. The formulas are Spark's,
//! as in [`super::moments`].

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Float64Array};
use arrow::datatypes::{DataType, Float64Type};

use super::{Accumulator, any_null, for_each_valid};
use crate::error::Result;

/// What is made of the sums; the first argument is `a`, the second `b`, but for what is swapped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Joint {
    CovarPop,
    CovarSamp,
    Corr,
    RegrAvgX,
    RegrAvgY,
    RegrSxx,
    RegrSyy,
    RegrSxy,
    RegrSlope,
    RegrIntercept,
    RegrR2,
}

impl Joint {
    /// Whether Spark takes the independent column for the first: products differ in their last digit.
    fn is_swapped(self) -> bool {
        matches!(self, Self::RegrSlope | Self::RegrIntercept)
    }

    fn of(self, g: &Group) -> Option<f64> {
        if g.n == 0.0 {
            return None;
        }
        let slope = || (g.square_a != 0.0).then(|| g.together / g.square_a);
        match self {
            Self::CovarPop => Some(g.together / g.n),
            Self::CovarSamp => (g.n != 1.0).then(|| g.together / (g.n - 1.0)),
            Self::Corr => {
                let spread = (g.m_a * g.m_b).sqrt();
                (g.n != 1.0 && spread != 0.0).then(|| g.together / spread)
            }
            Self::RegrAvgX => Some(g.sum_b / g.n),
            Self::RegrAvgY => Some(g.sum_a / g.n),
            Self::RegrSxx => Some(g.square_b),
            Self::RegrSyy => Some(g.square_a),
            Self::RegrSxy => Some(g.together),
            Self::RegrSlope => slope(),
            Self::RegrIntercept => slope().map(|slope| g.mean_b - slope * g.mean_a),
            Self::RegrR2 if g.m_b == 0.0 => None,
            Self::RegrR2 if g.m_a == 0.0 => Some(1.0),
            Self::RegrR2 => {
                let corr = g.together / (g.m_a * g.m_b).sqrt();
                Some(corr * corr)
            }
        }
    }
}

/// Count, sums, means, squared distances from the means, and the sum of their products. The squares are there twice,
/// as Spark's `corr` and its `variance` compute them: their last digits differ.
#[derive(Debug, Clone, Copy, Default)]
struct Group {
    n: f64,
    sum_a: f64,
    sum_b: f64,
    mean_a: f64,
    mean_b: f64,
    m_a: f64,
    m_b: f64,
    square_a: f64,
    square_b: f64,
    together: f64,
}

impl Group {
    fn add(&mut self, a: f64, b: f64) {
        let n = self.n + 1.0;
        let (da, db) = (a - self.mean_a, b - self.mean_b);
        self.sum_a += a;
        self.sum_b += b;
        self.mean_a += da / n;
        self.mean_b += db / n;
        self.together += da * (b - self.mean_b);
        self.m_a += da * (a - self.mean_a);
        self.m_b += db * (b - self.mean_b);
        self.square_a += da * (da - da / n);
        self.square_b += db * (db - db / n);
        self.n = n;
    }

    /// Adds the sums of other rows.
    fn merge(&mut self, other: &Self) {
        if self.n == 0.0 {
            *self = *other;
            return;
        }
        let n = self.n + other.n;
        let (da, db) = (other.mean_a - self.mean_a, other.mean_b - self.mean_b);
        let (da_n, db_n) = (da / n, db / n);
        self.m_a = self.m_a + other.m_a + da * da_n * self.n * other.n;
        self.m_b = self.m_b + other.m_b + db * db_n * self.n * other.n;
        self.square_a = self.square_a + other.square_a + da * da_n * self.n * other.n;
        self.square_b = self.square_b + other.square_b + db * db_n * self.n * other.n;
        self.together = self.together + other.together + da * db_n * self.n * other.n;
        self.mean_a += da_n * other.n;
        self.mean_b += db_n * other.n;
        self.sum_a += other.sum_a;
        self.sum_b += other.sum_b;
        self.n = n;
    }

    fn fields(&self) -> [f64; 10] {
        [
            self.n,
            self.sum_a,
            self.sum_b,
            self.mean_a,
            self.mean_b,
            self.m_a,
            self.m_b,
            self.square_a,
            self.square_b,
            self.together,
        ]
    }
}

/// The accumulator of all of them.
pub(crate) struct Covariance {
    joint: Joint,
    groups: Vec<Group>,
}

impl Covariance {
    pub(crate) fn new(joint: Joint) -> Self {
        Self { joint, groups: Vec::new() }
    }
}

impl Accumulator for Covariance {
    fn grow(&mut self, slots: usize) {
        self.groups.resize(slots.max(self.groups.len()), Group::default());
    }

    fn update(&mut self, args: &[ArrayRef], slots: &[u32]) -> Result<()> {
        let (a, b) = (args[0].as_primitive::<Float64Type>(), args[1].as_primitive::<Float64Type>());
        let (a, b) = if self.joint.is_swapped() { (b, a) } else { (a, b) };
        for_each_valid(any_null(&args[..2]).as_ref(), slots, |row, slot| {
            self.groups[slot].add(a.value(row), b.value(row));
        });
        Ok(())
    }

    fn merge(&mut self, state: &[ArrayRef], slots: &[u32]) -> Result<()> {
        let of = |column: usize, row: usize| state[column].as_primitive::<Float64Type>().value(row);
        for (row, slot) in slots.iter().enumerate() {
            let other = Group {
                n: of(0, row),
                sum_a: of(1, row),
                sum_b: of(2, row),
                mean_a: of(3, row),
                mean_b: of(4, row),
                m_a: of(5, row),
                m_b: of(6, row),
                square_a: of(7, row),
                square_b: of(8, row),
                together: of(9, row),
            };
            self.groups[*slot as usize].merge(&other);
        }
        Ok(())
    }

    fn state(&mut self, slots: &[u32]) -> Result<Vec<ArrayRef>> {
        let rows: Vec<[f64; 10]> = slots.iter().map(|slot| self.groups[*slot as usize].fields()).collect();
        let column =
            |at: usize| -> ArrayRef { Arc::new(Float64Array::from_iter_values(rows.iter().map(|row| row[at]))) };
        Ok((0..10).map(column).collect())
    }

    fn evaluate(&mut self, slots: &[u32]) -> Result<ArrayRef> {
        let results = slots.iter().map(|slot| self.joint.of(&self.groups[*slot as usize]));
        Ok(Arc::new(results.collect::<Float64Array>()))
    }

    fn reset(&mut self, slots: &[u32]) {
        slots.iter().for_each(|slot| self.groups[*slot as usize] = Group::default());
    }

    fn state_types(&self) -> Vec<DataType> {
        vec![DataType::Float64; 10]
    }

    fn size_bytes(&self) -> usize {
        size_of_val(self.groups.as_slice())
    }
}
