//! Spark's generator of random numbers, so that `rand(seed)` and `randn(seed)` give what they give there.
//!
//! A step is Marsaglia's xorshift with 21, 35 and 4; the seed is hashed first, since seeds are small numbers. How numbers
//! are made of the bits is Java's `Random`.

use crate::plan::functions::hash_bytes;

/// What the seed's hash begins with.
const HASH_SEED: i32 = 0x3c07_4a61;

#[derive(Debug, Clone)]
pub(super) struct XorShift {
    state: u64,
    /// Normal numbers are made in pairs: the second of the last one.
    normal: Option<f64>,
}

impl XorShift {
    pub(super) fn new(seed: i64) -> Self {
        let bytes = seed.to_be_bytes();
        let low = hash_bytes(&bytes, HASH_SEED);
        let high = hash_bytes(&bytes, low);
        let state = u64::from(high.cast_unsigned()) << 32 | u64::from(low.cast_unsigned());
        Self { state, normal: None }
    }

    /// The next bits, at most 32.
    pub(super) fn bits(&mut self, count: u32) -> u64 {
        self.state ^= self.state << 21;
        self.state ^= self.state >> 35;
        self.state ^= self.state << 4;
        self.state & ((1 << count) - 1)
    }

    /// From 0 to below 1.
    pub(super) fn uniform(&mut self) -> f64 {
        let high = self.bits(26);
        ((high << 27) + self.bits(27)) as f64 * f64::EPSILON / 2.0
    }

    /// Of mean 0 and deviation 1, by the polar method.
    pub(super) fn normal(&mut self) -> f64 {
        if let Some(normal) = self.normal.take() {
            return normal;
        }
        loop {
            let (x, y) = (2.0 * self.uniform() - 1.0, 2.0 * self.uniform() - 1.0);
            let square = x * x + y * y;
            if square < 1.0 && square != 0.0 {
                let scale = (-2.0 * square.ln() / square).sqrt();
                self.normal = Some(y * scale);
                return x * scale;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_sparks() {
        let mut generator = XorShift::new(0);
        assert_eq!([generator.uniform(), generator.uniform()], [0.760_495_375_828_591_5, 0.523_419_425_688_557_1]);
        let mut generator = XorShift::new(0);
        assert!((generator.normal() - 1.603_499_160_927_843_3).abs() < 1e-12);
    }
}
