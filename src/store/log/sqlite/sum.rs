//! The checksum of a row. SQLite does not detect changed bytes in a row; this does.

/// A checksum of 64 bits that is computed 8 bytes at a time. It detects faulty disks, not attackers.
///
/// Each step maps the state and the 8 bytes one to one, so a row in which one such word was changed never keeps its
/// checksum; one with more changes keeps it by a chance of 1 in 2^64. Its values are stored, so it never changes.
pub(super) struct Sum(u64);

impl Sum {
    /// Begins with the kind of row, so that a row does not pass as one of another table.
    pub fn new(kind: u64) -> Self {
        Self(kind)
    }

    pub fn number(mut self, word: u64) -> Self {
        self.add(word);
        self
    }

    pub fn signed(self, word: i64) -> Self {
        self.number(word.cast_unsigned())
    }

    /// Adds the length as well, or bytes could move from one field to the next without a trace.
    pub fn bytes(mut self, bytes: &[u8]) -> Self {
        self.add(bytes.len() as u64);
        let (words, rest) = bytes.as_chunks::<8>();
        for word in words {
            self.add(u64::from_le_bytes(*word));
        }
        let mut last = [0; 8];
        last[..rest.len()].copy_from_slice(rest);
        self.add(u64::from_le_bytes(last));
        self
    }

    /// As SQLite stores it.
    pub fn end(self) -> i64 {
        mix(self.0).cast_signed()
    }

    fn add(&mut self, word: u64) {
        // The multiplier is odd and the shift folds high bits onto low ones: both can be undone, so nothing is lost.
        let mixed = (self.0 ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.0 = mixed ^ (mixed >> 32);
    }
}

fn mix(bits: u64) -> u64 {
    let bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits ^ (bits >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_are_the_same_in_each_version() {
        let sum = Sum::new(1).number(2).signed(-3).bytes(b"0123456789").end();
        assert_eq!(sum, STORED);
    }

    const STORED: i64 = -8_186_455_820_473_185_013;

    #[test]
    fn each_flipped_bit_changes_the_sum() {
        let bytes: Vec<u8> = (0..100).collect();
        let whole = Sum::new(0).bytes(&bytes).end();
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_ne!(Sum::new(0).bytes(&flipped).end(), whole, "bit {bit}");
        }
    }

    #[test]
    fn sums_depend_on_where_fields_begin_and_end() {
        assert_ne!(Sum::new(0).bytes(b"ab").bytes(b"c").end(), Sum::new(0).bytes(b"a").bytes(b"bc").end());
        assert_ne!(Sum::new(0).bytes(b"a").end(), Sum::new(0).bytes(b"a\0").end());
        assert_ne!(Sum::new(0).end(), Sum::new(1).end());
    }
}
