//! The drift check of a file: whether it still holds the delivered secret.
//!
//! The ledger holds nothing that a secret could be computed from, so the check
//! compares the suffix that the provider's redacted value shows.

use rustix::fs::{self, Mode, OFlags};
use rustix::io::Errno;
use secrecy::zeroize::Zeroizing;
use serde::Deserialize;

use super::settings::FileFormat;
use super::target::{TargetLocation, is_regular};
use crate::core::secret::matches_suffix;
use crate::sink::{Drift, DriftKind};

/// The limit of a read, larger than any content that rekeyd writes.
const MAX_READ_BYTES: usize = 64 * 1024;

#[derive(Deserialize)]
struct StoredJson<'a> {
    #[serde(borrow)]
    value: std::borrow::Cow<'a, str>,
}

/// Compares the file with the secret whose redacted value is `redacted`.
/// Returns `None` if they match, or if the file cannot be read.
pub(super) fn check_drift(location: &TargetLocation, redacted: Option<&str>) -> Option<Drift> {
    let format = &location.0.format;
    let path = location.path().display();
    let drift = |kind, message| Some(Drift { kind, message });
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let file = match fs::open(location.path(), flags, Mode::empty()) {
        Ok(file) => file,
        Err(Errno::NOENT) => return drift(DriftKind::Missing, format!("{path} is gone")),
        Err(Errno::LOOP) => {
            return drift(
                DriftKind::Replaced,
                format!("{path} is a symbolic link now"),
            );
        }
        // The file exists, but this process cannot read it.
        Err(_) => return None,
    };
    let stat = fs::fstat(&file).ok();
    let Some(stat) = stat.filter(is_regular) else {
        return drift(
            DriftKind::Replaced,
            format!("{path} is no regular file any more"),
        );
    };
    // No larger than needed, since the whole buffer is wiped.
    let size = usize::try_from(stat.st_size).ok()?.min(MAX_READ_BYTES);
    let mut content = Zeroizing::new(vec![0; size]);
    let mut length = 0;
    while length < size {
        match rustix::io::read(&file, &mut content[length..]).ok()? {
            0 => break,
            count => length += count,
        }
    }
    let content = &content[..length];
    let is_same = stored_value(format, content).and_then(|value| matches_suffix(&value, redacted?));
    match is_same {
        Some(false) => drift(
            DriftKind::OtherContent,
            format!("{path} holds another key than the one delivered"),
        ),
        None if stored_value(format, content).is_none() => drift(
            DriftKind::OtherContent,
            format!("{path} does not hold what rekeyd wrote"),
        ),
        Some(true) | None => None,
    }
}

fn stored_value(format: &FileFormat, content: &[u8]) -> Option<Zeroizing<String>> {
    let text = std::str::from_utf8(content).ok()?.trim_end();
    let value = match format {
        FileFormat::Raw => text.to_owned(),
        FileFormat::Env { variable } => text
            .strip_prefix(variable.as_str())?
            .strip_prefix('=')?
            .to_owned(),
        FileFormat::Json => serde_json::from_str::<StoredJson<'_>>(text)
            .ok()?
            .value
            .into_owned(),
    };
    (!value.is_empty()).then(|| Zeroizing::new(value))
}
