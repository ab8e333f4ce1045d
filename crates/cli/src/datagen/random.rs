//! Random numbers that are the same for the same seed on every machine and in every version.
//!
//! xoshiro256++ seeded by splitmix64 (Blackman and Vigna, <https://prng.di.unimi.it>). Not for secrets.

/// A seeded generator.
#[derive(Debug, Clone)]
pub(crate) struct Random {
    state: [u64; 4],
}

impl Random {
    /// The generator of `seed`.
    pub(crate) fn new(seed: u64) -> Self {
        let mut x = seed;
        let state = std::array::from_fn(|_| {
            x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut z = x;
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            z ^ (z >> 31)
        });
        Self { state }
    }

    /// 64 random bits.
    pub(crate) fn bits(&mut self) -> u64 {
        let s = &mut self.state;
        let result = s[0].wrapping_add(s[3]).rotate_left(23).wrapping_add(s[0]);
        let t = s[1] << 17;
        s[2] ^= s[0];
        s[3] ^= s[1];
        s[1] ^= s[2];
        s[0] ^= s[3];
        s[2] ^= t;
        s[3] = s[3].rotate_left(45);
        result
    }

    /// A number from 0 up to, not with, `bound`.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        // The high half of a 128-bit product: no division, and a bias below one in 2^32 for the bounds used here.
        ((u128::from(self.bits()) * u128::from(bound)) >> 64) as u64
    }

    /// An index into a list of `length`.
    pub(crate) fn index(&mut self, length: usize) -> usize {
        self.below(length as u64) as usize
    }

    /// A number from 0 up to, not with, 1.
    pub(crate) fn unit(&mut self) -> f64 {
        (self.bits() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// True with the given probability.
    pub(crate) fn chance(&mut self, probability: f64) -> bool {
        self.unit() < probability
    }

    /// Normally distributed with mean 0 and deviation 1 (Box and Muller).
    pub(crate) fn normal(&mut self) -> f64 {
        let radius = (-2.0 * (1.0 - self.unit()).ln()).sqrt();
        radius * (std::f64::consts::TAU * self.unit()).cos()
    }

    /// Log-normally distributed with the given median; `sigma` is the deviation of its logarithm.
    pub(crate) fn lognormal(&mut self, median: f64, sigma: f64) -> f64 {
        median * (sigma * self.normal()).exp()
    }
}

/// Indices that are not equally likely, each drawn in constant time (Walker's alias method, after Vose).
#[derive(Debug, Clone)]
pub(crate) struct Weighted {
    keep: Vec<f64>,
    alias: Vec<u32>,
}

impl Weighted {
    /// Rank `k` with weight `1 / (k + offset)^exponent` (Zipf and Mandelbrot): a few heavy ones, a long tail.
    pub(crate) fn zipf(count: usize, exponent: f64, offset: f64) -> Self {
        let weights: Vec<f64> = (1..=count.max(1)).map(|rank| (rank as f64 + offset).powf(-exponent)).collect();
        Self::new(&weights)
    }

    /// Index `i` with weight `weights[i]`.
    pub(crate) fn new(weights: &[f64]) -> Self {
        let total: f64 = weights.iter().sum();
        let mut keep: Vec<f64> = weights.iter().map(|weight| weight * weights.len() as f64 / total).collect();
        let mut alias: Vec<u32> = (0..weights.len() as u32).collect();
        let (mut small, mut large): (Vec<usize>, Vec<usize>) = (0..weights.len()).partition(|index| keep[*index] < 1.0);
        while let (Some(less), Some(more)) = (small.pop(), large.last().copied()) {
            alias[less] = more as u32;
            keep[more] -= 1.0 - keep[less];
            if keep[more] < 1.0 {
                large.pop();
                small.push(more);
            }
        }
        Self { keep, alias }
    }

    /// The next index.
    pub(crate) fn draw(&self, random: &mut Random) -> usize {
        let index = random.index(self.keep.len());
        if random.unit() < self.keep[index] { index } else { self.alias[index] as usize }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_the_same_numbers_for_ever() {
        let mut random = Random::new(42);
        let first: Vec<u64> = (0..3).map(|_| random.bits()).collect();
        assert_eq!(first, [15_021_278_609_987_233_951, 5_881_210_131_331_364_753, 18_149_643_915_985_481_100]);
    }

    #[test]
    fn weights_are_met() {
        let weighted = Weighted::new(&[1.0, 0.0, 3.0]);
        let mut random = Random::new(1);
        let mut counts = [0_u32; 3];
        for _ in 0..40_000 {
            counts[weighted.draw(&mut random)] += 1;
        }
        assert_eq!(counts[1], 0);
        assert!((9_500..10_500).contains(&counts[0]), "{counts:?}");
    }

    #[test]
    fn zipf_is_heavy_at_the_head() {
        let zipf = Weighted::zipf(1000, 1.0, 0.0);
        let mut random = Random::new(7);
        let head = (0..10_000).filter(|_| zipf.draw(&mut random) < 10).count();
        assert!((3_500..4_400).contains(&head), "{head}");
    }

    #[test]
    fn lognormal_has_its_median() {
        let mut random = Random::new(3);
        let below = (0..10_000).filter(|_| random.lognormal(25.0, 1.0) < 25.0).count();
        assert!((4_800..5_200).contains(&below), "{below}");
    }
}
