//! A repeatable pseudo-random generator.

use std::sync::Mutex;

use rekeyd::platform::entropy::{Entropy, EntropyError};

/// SplitMix64 (Steele, Lea and Flood, 2014), seeded.
#[derive(Debug, Clone)]
pub(crate) struct SeededRng(pub(crate) u64);

impl SeededRng {
    /// Returns the next number of the sequence.
    pub(crate) fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Returns a number below `end`.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next_u64() % u64::try_from(end.max(1)).unwrap()).unwrap()
    }
}

/// The engine's entropy source.
pub(crate) struct SimEntropy(pub(crate) Mutex<SeededRng>);

impl Entropy for SimEntropy {
    fn fill(&self, bytes: &mut [u8]) -> Result<(), EntropyError> {
        let mut rng = self.0.lock().unwrap();
        for byte in bytes {
            *byte = rng.next_u64().to_be_bytes()[0];
        }
        Ok(())
    }
}
