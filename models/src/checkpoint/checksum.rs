//! The checksum of tensors, by which a run recognises its base model.

/// A checksum of 64 bits over words. It finds accidents and mix-ups, not forgeries.
///
/// Each step (turn by 27 bits, exclusive or, multiply by an odd number) can be undone, so two inputs of one length that
/// differ in a single word never have the same checksum.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Checksum(u64);

impl Default for Checksum {
    fn default() -> Self {
        Checksum(0xcbf2_9ce4_8422_2325)
    }
}

impl Checksum {
    /// Adds a number.
    pub fn add(&mut self, word: u64) {
        self.0 = (self.0.rotate_left(27) ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }

    /// Adds bytes and their number, so that `ab`, `c` differs from `a`, `bc`.
    pub fn add_bytes(&mut self, bytes: &[u8]) {
        self.add(bytes.len() as u64);
        let (words, rest) = bytes.as_chunks::<8>();
        for word in words {
            self.add(u64::from_le_bytes(*word));
        }
        let mut last = [0; 8];
        last[..rest.len()].copy_from_slice(rest);
        self.add(u64::from_le_bytes(last));
    }
}

/// Sixteen hexadecimal digits.
impl std::fmt::Display for Checksum {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checksum(parts: &[&[u8]]) -> Checksum {
        let mut checksum = Checksum::default();
        parts.iter().for_each(|part| checksum.add_bytes(part));
        checksum
    }

    #[test]
    fn every_flipped_bit_shows_and_so_do_signs_flipped_in_pairs() {
        let bytes: Vec<u8> = (0..37).collect();
        for bit in 0..8 * bytes.len() {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_ne!(checksum(&[&flipped]), checksum(&[&bytes]), "bit {bit}");
        }
        let mut negated = bytes.clone();
        for byte in [7, 15, 23, 31] {
            negated[byte] ^= 0x80;
        }
        assert_ne!(checksum(&[&negated]), checksum(&[&bytes]));
    }

    #[test]
    fn where_one_part_ends_and_the_next_begins_counts() {
        assert_ne!(checksum(&[b"ab", b"c"]), checksum(&[b"a", b"bc"]));
        assert_ne!(checksum(&[b"a"]), checksum(&[b"a\0"]));
        assert_eq!(checksum(&[b"abc"]).to_string().len(), 16);
    }
}
