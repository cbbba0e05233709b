//! Randomness, injected into the engine so that a simulation can repeat it.

use ring::rand::{SecureRandom as _, SystemRandom};

/// A source of random bytes.
pub trait Entropy: Send + Sync {
    /// Fills `bytes`.
    ///
    /// # Errors
    /// If the system returns no random bytes.
    fn fill(&self, bytes: &mut [u8]) -> Result<(), EntropyError>;
}

/// The system returns no random bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the system provides no random bytes")]
pub struct EntropyError;

/// The host's randomness.
#[derive(Debug, Clone)]
pub struct SystemEntropy(SystemRandom);

impl SystemEntropy {
    /// Returns the host's source of randomness.
    #[expect(
        clippy::disallowed_methods,
        reason = "the only caller of the host's randomness"
    )]
    #[must_use]
    pub fn new() -> Self {
        Self(SystemRandom::new())
    }
}

impl Default for SystemEntropy {
    fn default() -> Self {
        Self::new()
    }
}

impl Entropy for SystemEntropy {
    fn fill(&self, bytes: &mut [u8]) -> Result<(), EntropyError> {
        self.0.fill(bytes).map_err(|_| EntropyError)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_fills_differ() {
        let (mut first, mut second) = ([0; 8], [0; 8]);
        SystemEntropy::new().fill(&mut first).unwrap();
        SystemEntropy::new().fill(&mut second).unwrap();
        assert!(first != second && first != [0; 8]);
    }
}
