//! Numbers from a seed, so that what a test does at random can be done again (SplitMix64).

/// A generator.
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    /// The same seed gives the same numbers.
    pub fn seed(seed: u64) -> Random {
        Random(seed)
    }

    /// A number below `bound`, which is not 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound
    }

    /// A number from `least` to `most`.
    pub fn between(&mut self, least: u64, most: u64) -> u64 {
        least + self.below(most - least + 1)
    }

    /// A place in a list of `count` things, if it has any.
    pub fn place(&mut self, count: usize) -> Option<usize> {
        (count > 0).then(|| self.below(count as u64) as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_stay_within_their_bounds_and_come_again_from_the_same_seed() {
        let draw = || {
            let mut random = Random::seed(7);
            (0..1_000)
                .map(|_| random.between(3, 9))
                .collect::<Vec<u64>>()
        };
        let drawn = draw();
        assert!((3..=9).all(|number| drawn.contains(&number)));
        assert!(drawn.iter().all(|number| (3..=9).contains(number)));
        assert_eq!(drawn, draw());
    }
}
