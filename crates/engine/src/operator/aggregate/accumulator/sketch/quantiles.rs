//! `percentile_approx`: the summary of Greenwald and Khanna, "Space-Efficient Online Computation of Quantile
//! Summaries", 2001, with Spark's buffer and thresholds.
//!
//! ```text
//!   rows ─> head (unsorted, up to 50,000) ─sorted in─> samples: value, g, delta ─compressed─> about accuracy * log n
//! ```
//!
//! The rank of a sample lies between the sum of all `g` up to it and that plus its `delta`.

use arrow::array::{ArrayRef, Float64Array};
use arrow::datatypes::DataType;

use super::{Reader, doubles, from_doubles};
use crate::error::Result;
use crate::operator::aggregate::accumulator::rows::list_of;
use crate::operator::aggregate::accumulator::summary::Summary;

/// Rows that wait to be sorted in.
const HEAD_ROWS: usize = 50_000;
/// Samples from which on a summary is compressed.
const MANY_SAMPLES: usize = 10_000;

/// The kind of summary: what is asked and how exactly.
pub(crate) struct Quantiles {
    pub(crate) fractions: Vec<f64>,
    pub(crate) is_list: bool,
    /// A rank may be wrong by this share of all rows.
    pub(crate) error: f64,
    /// The type of the values.
    pub(crate) data_type: DataType,
}

#[derive(Debug, Clone, Copy)]
struct Sample {
    value: f64,
    g: i64,
    delta: i64,
}

/// The summary of one group.
#[derive(Debug, Default, Clone)]
pub(crate) struct Samples {
    head: Vec<f64>,
    samples: Vec<Sample>,
    /// Rows in `samples`.
    count: i64,
}

impl Quantiles {
    /// Sorts the head into the samples.
    fn flush(&self, state: &mut Samples) {
        if state.head.is_empty() {
            return;
        }
        let mut head = std::mem::take(&mut state.head);
        head.sort_by(f64::total_cmp);
        let mut old = std::mem::take(&mut state.samples).into_iter().peekable();
        let mut samples: Vec<Sample> = Vec::with_capacity(old.len() + head.len());
        let last = head.len() - 1;
        for (at, value) in head.into_iter().enumerate() {
            while let Some(sample) = old.next_if(|sample| sample.value.total_cmp(&value).is_le()) {
                samples.push(sample);
            }
            state.count += 1;
            let is_end = samples.is_empty() || (old.peek().is_none() && at == last);
            let delta = if is_end { 0 } else { (2.0 * self.error * state.count as f64).floor() as i64 };
            samples.push(Sample { value, g: 1, delta });
        }
        samples.extend(old);
        state.samples = samples;
    }

    fn compress(&self, state: &mut Samples) {
        self.flush(state);
        compress(&mut state.samples, 2.0 * self.error * state.count as f64);
    }

    fn combine(&self, a: &mut Samples, mut b: Samples) {
        self.compress(a);
        if b.count == 0 {
            return;
        }
        if a.count == 0 {
            *a = b;
            return;
        }
        let spread = |count: i64| (2.0 * self.error * count as f64).floor() as i64;
        let (more_a, more_b) = (spread(b.count), spread(a.count));
        let mut samples = Vec::with_capacity(a.samples.len() + b.samples.len());
        let (mut left, mut right) = (a.samples.drain(..).peekable(), b.samples.drain(..).peekable());
        let (mut left_began, mut right_began) = (false, false);
        while let (Some(x), Some(y)) = (left.peek().copied(), right.peek().copied()) {
            if x.value.total_cmp(&y.value).is_lt() {
                samples.push(Sample { delta: x.delta + if right_began { more_a } else { 0 }, ..x });
                left.next();
                left_began = true;
            } else {
                samples.push(Sample { delta: y.delta + if left_began { more_b } else { 0 }, ..y });
                right.next();
                right_began = true;
            }
        }
        samples.extend(left);
        samples.extend(right);
        a.count += b.count;
        compress(&mut samples, 2.0 * self.error * a.count as f64);
        a.samples = samples;
    }

    fn quantiles(&self, state: &Samples) -> Option<Vec<f64>> {
        let mut state = state.clone();
        self.compress(&mut state);
        (!state.samples.is_empty() && !self.fractions.is_empty())
            .then(|| self.fractions.iter().map(|fraction| self.quantile(&state, *fraction)).collect())
    }

    fn quantile(&self, state: &Samples, fraction: f64) -> f64 {
        let samples = &state.samples;
        let last = samples[samples.len() - 1].value;
        if fraction <= self.error || samples.len() == 1 {
            return samples[0].value;
        }
        if fraction >= 1.0 - self.error {
            return last;
        }
        let allowed = samples.iter().map(|sample| sample.delta + sample.g).max().unwrap_or(0) / 2;
        let rank = (fraction * state.count as f64).ceil() as i64;
        let mut least_rank = 0;
        for sample in &samples[..samples.len() - 1] {
            least_rank += sample.g;
            if least_rank + sample.delta - allowed <= rank && rank <= least_rank + allowed {
                return sample.value;
            }
        }
        last
    }
}

/// Merges neighbours, from the largest down, while their ranks stay known well enough.
fn compress(samples: &mut Vec<Sample>, threshold: f64) {
    let Some(mut head) = samples.pop() else { return };
    let mut kept = Vec::new();
    for (at, sample) in samples.iter().enumerate().rev() {
        if at > 0 && ((sample.g + head.g + head.delta) as f64) < threshold {
            head.g += sample.g;
        } else if at > 0 {
            kept.push(std::mem::replace(&mut head, *sample));
        }
    }
    kept.push(head);
    // The smallest value stays, so that the first quantile is exact.
    if let Some(first) = samples.first().filter(|first| first.value.total_cmp(&head.value).is_le()) {
        kept.push(*first);
    }
    kept.reverse();
    *samples = kept;
}

impl Summary for Quantiles {
    type State = Samples;
    type Rows = Float64Array;

    fn prepare(&self, args: &[ArrayRef]) -> Result<Float64Array> {
        doubles(&args[0])
    }

    fn add(&self, state: &mut Samples, rows: &Float64Array, row: usize) -> Result<()> {
        state.head.push(rows.value(row));
        if state.head.len() >= HEAD_ROWS {
            self.flush(state);
            if state.samples.len() >= MANY_SAMPLES {
                self.compress(state);
            }
        }
        Ok(())
    }

    fn merge(&self, state: &mut Samples, bytes: &[u8]) -> Result<()> {
        let mut reader = Reader(bytes);
        let mut other = Samples { count: reader.long()?, ..Samples::default() };
        while !reader.0.is_empty() {
            other.samples.push(Sample { value: reader.double()?, g: reader.long()?, delta: reader.long()? });
        }
        self.combine(state, other);
        Ok(())
    }

    /// The count, then 24 bytes a sample.
    fn bytes(&self, state: &Samples) -> Vec<u8> {
        let mut state = state.clone();
        self.compress(&mut state);
        let mut bytes = state.count.to_be_bytes().to_vec();
        for Sample { value, g, delta } in state.samples {
            bytes.extend_from_slice(&value.to_be_bytes());
            bytes.extend_from_slice(&g.to_be_bytes());
            bytes.extend_from_slice(&delta.to_be_bytes());
        }
        bytes
    }

    fn size_bytes(state: &Samples) -> usize {
        state.head.capacity() * size_of::<f64>() + state.samples.capacity() * size_of::<Sample>()
    }

    fn answers(&self, states: &[Option<&Samples>]) -> Result<ArrayRef> {
        let answers: Vec<Option<Vec<f64>>> = states.iter().map(|state| self.quantiles((*state)?)).collect();
        if !self.is_list {
            let one = answers.iter().map(|all| Some(*all.as_ref()?.first()?)).collect();
            return from_doubles(one, &self.data_type);
        }
        let validity: Vec<bool> = answers.iter().map(Option::is_some).collect();
        let lengths = answers.iter().map(|all| all.as_ref().map_or(0, Vec::len)).collect();
        let values =
            from_doubles(Float64Array::from_iter_values(answers.into_iter().flatten().flatten()), &self.data_type)?;
        list_of(lengths, values, Some(validity.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_stay_within_the_error_when_summaries_are_merged() {
        let kind = Quantiles { fractions: vec![0.5], is_list: false, error: 0.01, data_type: DataType::Float64 };
        let mut whole = Samples::default();
        for part in 0..4 {
            let rows: Float64Array = (0..60_000).map(|i| Some(f64::from((i * 7919 + part * 13) % 60_000))).collect();
            let mut state = Samples::default();
            (0..60_000).for_each(|row| kind.add(&mut state, &rows, row).unwrap());
            kind.merge(&mut whole, &kind.bytes(&state)).unwrap();
        }
        assert!(whole.samples.len() < 5_000, "{}", whole.samples.len());
        for fraction in [0.001, 0.1, 0.5, 0.9, 0.999] {
            let found = kind.quantile(&whole, fraction);
            assert!((found - fraction * 60_000.0).abs() <= 1_200.0, "{fraction}: {found}");
        }
    }
}
