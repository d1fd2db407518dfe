//! Numbers that look random and are the same on every machine.

/// xorshift64* (S. Vigna, "An experimental exploration of Marsaglia's xorshift generators, scrambled", 2016).
#[derive(Clone)]
pub(super) struct Random(u64);

impl Random {
    pub(super) const INPUTS: Random = Random(0x9E37_79B9_7F4A_7C15);
    pub(super) const WEIGHTS: Random = Random(0xD1B5_4A32_D192_ED03);
    pub(super) const DIRECTIONS: Random = Random(0x8CB9_2BA7_2F3D_8DD7);
    pub(super) const FLOATS: Random = Random(0xA24B_AED4_963E_E407);

    /// Others, for each turn.
    pub(super) fn turned(self, turn: usize) -> Random {
        Random(self.0 ^ (turn as u64).wrapping_mul(0x9FB2_1C65_1E98_DF25))
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    /// Uniform between the two.
    pub(super) fn between(&mut self, low: f32, high: f32) -> f32 {
        let unit = (self.next() >> 40) as f32 / (1_u64 << 24) as f32;
        low + (high - low) * unit
    }

    /// Uniform from `low` up to, and without, `high`.
    pub(super) fn integer(&mut self, low: i64, high: i64) -> i64 {
        let span = high.saturating_sub(low).max(1) as u64;
        low.saturating_add((self.next() % span) as i64)
    }

    /// One or minus one.
    pub(super) fn sign(&mut self) -> f32 {
        if self.integer(0, 2) == 0 { 1.0 } else { -1.0 }
    }
}
