//! The admin key that root passes to a command that runs as the service.

use std::io::Read as _;
use std::sync::OnceLock;

use secrecy::zeroize::Zeroizing;

use crate::core::secret::Secret;
use crate::core::secret_text::{self, SecretForm, SecretTextError};

/// The variable that announces the admin key on standard input.
pub(super) const KEY_VARIABLE: &str = "REKEYD_ADMIN_KEY_ON_STDIN";

/// The variable that says, in place of the key, why there is none although one is kept for
/// the service.
pub(super) const PROBLEM_VARIABLE: &str = "REKEYD_ADMIN_KEY_PROBLEM";

/// The longest admin key that is passed on.
const MAX_KEY_BYTES: u64 = 64 * 1024;

/// Returns the admin key that root has passed to this process.
pub(super) fn passed_admin_key() -> Option<Result<Secret, SecretTextError>> {
    static PASSED: OnceLock<Option<Result<Secret, SecretTextError>>> = OnceLock::new();
    let passed = PASSED.get_or_init(|| {
        if let Some(reason) = std::env::var_os(PROBLEM_VARIABLE) {
            let reason = reason.to_string_lossy().into_owned();
            return Some(Err(SecretTextError::Unreadable { reason }));
        }
        std::env::var_os(KEY_VARIABLE)?;
        let mut key = Zeroizing::new(Vec::new());
        let stdin = std::io::stdin().lock();
        stdin.take(MAX_KEY_BYTES).read_to_end(&mut key).ok()?;
        Some(secret_text::parse(&key, SecretForm::AdminKey))
    });
    passed.clone()
}
