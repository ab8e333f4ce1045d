//! `approx_count_distinct`: HyperLogLog++ with Spark's hash, precision and correction, so that the count is Spark's.
//!
//! ```text
//!   64 bits of xxhash64: [ p bits: register ][ leading zeros of the rest + 1: the register's value, if larger ]
//! ```
//!
//! State is the registers: the few that are set while they are few, else all. Source: Heule, Nunkesser, Hall,
//! "HyperLogLog in Practice", 2013; `hyperloglog_bias.txt` is the table of its appendix, a line for each precision
//! from 4 to 18, first what is estimated and then by how much too much.

use std::sync::{Arc, LazyLock};

use arrow::array::{ArrayRef, AsArray, Int64Array};
use arrow::datatypes::Int64Type;

use super::Reader;
use crate::error::{EngineError, Result};
use crate::operator::aggregate::accumulator::summary::Summary;

/// The kind of sketch: how many registers.
pub(crate) struct HyperLogLog {
    precision: u32,
}

/// The registers, none before the first row.
#[derive(Debug, Default)]
pub(crate) struct Registers(Vec<u8>);

/// The precision that gives a standard error of at most `error`.
pub(crate) fn precision(error: f64) -> Result<u32> {
    let precision = (2.0 * (1.106 / error).ln() / 2_f64.ln()).ceil();
    if !(4.0..=24.0).contains(&precision) {
        return Err(EngineError::query(format!(
            "[FAILED_FUNCTION_CALL] approx_count_distinct cannot have a standard error of {error}"
        ))
        .help("give an error from 0.0003 to 0.39"));
    }
    Ok(precision as u32)
}

impl HyperLogLog {
    pub(crate) fn new(precision: u32) -> Self {
        Self { precision }
    }

    fn registers(&self) -> usize {
        1 << self.precision
    }

    fn put(&self, state: &mut Registers, register: usize, value: u8) {
        state.0.resize(self.registers(), 0);
        state.0[register] = state.0[register].max(value);
    }

    /// The estimate, by the method of the paper that fits its size.
    fn count(&self, state: &Registers) -> i64 {
        let m = self.registers() as f64;
        let zeros = self.registers() - state.0.iter().filter(|value| **value > 0).count();
        let sum: f64 =
            (0..self.registers()).map(|at| 1.0 / (1_u64 << state.0.get(at).copied().unwrap_or(0).min(63)) as f64).sum();
        let alpha = match self.precision {
            4 => 0.673,
            5 => 0.697,
            6 => 0.709,
            _ => 0.7213 / (1.0 + 1.079 / m),
        };
        let raw = alpha * m * m / sum;
        let corrected = if self.precision < 19 && raw < 5.0 * m { raw - self.bias(raw) } else { raw };
        let linear = m * (m / zeros as f64).ln();
        let is_below = THRESHOLDS.get(self.precision as usize - 4).is_some_and(|threshold| linear <= *threshold);
        let is_few = zeros > 0 && (is_below || raw <= 2.5 * m);
        (if is_few { linear } else { corrected }).round() as i64
    }

    /// By how much an estimate is too high, from the six nearest of the table.
    fn bias(&self, estimate: f64) -> f64 {
        const NEAREST: usize = 6;
        let at = self.precision as usize - 4;
        let (estimates, biases) = (&BIAS[at], &BIAS[at + PRECISIONS]);
        let nearest = estimates.partition_point(|known| *known < estimate);
        let distance = |at: usize| (estimate - estimates[at]) * (estimate - estimates[at]);
        let mut low = (nearest + 1).saturating_sub(NEAREST);
        let mut high = (low + NEAREST).min(estimates.len());
        while high < estimates.len() && distance(high) < distance(low) {
            low += 1;
            high += 1;
        }
        biases[low..high].iter().sum::<f64>() / (high - low) as f64
    }
}

impl Summary for HyperLogLog {
    type State = Registers;
    type Rows = Int64Array;

    fn prepare(&self, args: &[ArrayRef]) -> Result<Int64Array> {
        Ok(args[0].as_primitive::<Int64Type>().clone())
    }

    fn add(&self, state: &mut Registers, rows: &Int64Array, row: usize) -> Result<()> {
        let hash = rows.value(row).cast_unsigned();
        let rest = hash << self.precision | 1 << (self.precision - 1);
        self.put(state, (hash >> (64 - self.precision)) as usize, rest.leading_zeros() as u8 + 1);
        Ok(())
    }

    fn merge(&self, state: &mut Registers, bytes: &[u8]) -> Result<()> {
        if bytes.len() == self.registers() {
            bytes.iter().enumerate().for_each(|(register, value)| self.put(state, register, *value));
            return Ok(());
        }
        let mut reader = Reader(bytes);
        while !reader.0.is_empty() {
            let entry = reader.int()?;
            self.put(state, (entry >> 8) % self.registers(), entry as u8);
        }
        Ok(())
    }

    /// All registers, a byte each; while fewer than a quarter are set, four bytes for each of those.
    fn bytes(&self, state: &Registers) -> Vec<u8> {
        let set: Vec<(usize, u8)> = state.0.iter().copied().enumerate().filter(|(_, value)| *value > 0).collect();
        if set.len() * 4 >= self.registers() {
            return state.0.clone();
        }
        set.iter().flat_map(|(register, value)| (((*register as u32) << 8) | u32::from(*value)).to_be_bytes()).collect()
    }

    fn size_bytes(state: &Registers) -> usize {
        state.0.capacity()
    }

    fn answers(&self, states: &[Option<&Registers>]) -> Result<ArrayRef> {
        let counts = states.iter().map(|state| state.map_or(0, |state| self.count(state)));
        Ok(Arc::new(Int64Array::from_iter_values(counts)))
    }
}

const PRECISIONS: usize = 15;

/// Up to which count linear counting is better, by precision.
const THRESHOLDS: [f64; PRECISIONS] = [
    10.0, 20.0, 40.0, 80.0, 220.0, 400.0, 900.0, 1800.0, 3100.0, 6500.0, 15500.0, 20000.0, 50000.0, 120_000.0,
    350_000.0,
];

static BIAS: LazyLock<Vec<Vec<f64>>> = LazyLock::new(|| {
    let line = |line: &str| line.split(' ').filter_map(|number| number.parse().ok()).collect();
    include_str!("hyperloglog_bias.txt").lines().map(line).collect()
});

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_whole() {
        assert_eq!(BIAS.len(), 2 * PRECISIONS);
        for at in 0..PRECISIONS {
            assert_eq!(BIAS[at].len(), BIAS[at + PRECISIONS].len());
            assert!(BIAS[at].len() >= 79, "{at}");
        }
    }

    #[test]
    fn few_and_many_registers_are_stored_alike() {
        let kind = HyperLogLog::new(precision(0.05).unwrap());
        for count in [1, 50, 5000] {
            let rows =
                Int64Array::from_iter_values((0..count).map(|i: i64| i.wrapping_mul(0x9E37_79B9_7F4A_7C15_u64 as i64)));
            let (mut all, mut read) = (Registers::default(), Registers::default());
            (0..rows.len()).for_each(|row| kind.add(&mut all, &rows, row).unwrap());
            kind.merge(&mut read, &kind.bytes(&all)).unwrap();
            assert_eq!(all.0, read.0, "{count}");
        }
    }
}
