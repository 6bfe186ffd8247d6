//! Numbers that look random and are the same each time.

/// How far apart the steps of [`Random`] are.
const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

/// Numbers that look random, the same for the same seed.
#[derive(Debug, Clone)]
pub struct Random(pub u64);

impl Random {
    /// One of `from` to `to`, both included.
    pub fn between(&mut self, from: u64, to: u64) -> u64 {
        from + self.any() % (to - from + 1)
    }

    /// True that often.
    pub fn percent(&mut self, chance: u64) -> bool {
        self.between(0, 99) < chance
    }

    /// Any number.
    fn any(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(STEP);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

/// The number of one throw, whichever others there were before.
pub fn dice(seed: u64, throw: u64) -> u64 {
    Random(seed ^ throw.wrapping_mul(STEP)).any()
}
