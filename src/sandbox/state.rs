//! What the sandbox remembers: its keys, and when a change is seen.

use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;
use ring::rand::{SecureRandom as _, SystemRandom};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::core::time;

/// One admin key, with its secret: this is a rehearsal and keeps what the real
/// provider would not.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Key {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) value: String,
    pub(crate) created_at: i64,
    pub(crate) expires_at: Option<i64>,
    pub(crate) last_used_at: Option<i64>,
    pub(crate) deleted_at: Option<i64>,
}

/// The keys, oldest first, deleted ones included.
pub(crate) struct State {
    pub(crate) keys: Vec<Key>,
    file: Option<PathBuf>,
    chance: SystemRandom,
    /// How long until a new key works and a deleted one does not.
    pub(crate) propagation: Duration,
}

impl State {
    /// What stands in `file`, or nothing.
    pub(crate) fn load(file: Option<PathBuf>, propagation: Duration) -> Result<Self, String> {
        let keys = match &file {
            Some(path) if path.exists() => {
                let cannot = |why: String| format!("cannot read {}: {why}", path.display());
                let text = std::fs::read(path).map_err(|error| cannot(error.to_string()))?;
                serde_json::from_slice(&text).map_err(|error| cannot(error.to_string()))?
            }
            Some(_) | None => Vec::new(),
        };
        Ok(Self {
            keys,
            file,
            chance: chance(),
            propagation,
        })
    }

    /// Makes sure that there is a key with this secret: the one to begin with.
    pub(crate) fn ensure(&mut self, name: &str, value: &str) -> Result<(), String> {
        if self.keys.iter().any(|key| key.value == value) {
            return Ok(());
        }
        let id = format!("key_{}", self.letters(24)?);
        let made = now().as_second() - 86_400;
        self.keys.push(Key {
            id,
            name: name.to_owned(),
            value: value.to_owned(),
            created_at: made,
            expires_at: None,
            last_used_at: None,
            deleted_at: None,
        });
        self.save()
    }

    pub(crate) fn create(&mut self, name: &str, lasts: Option<i64>) -> Result<Key, String> {
        let created_at = now().as_second();
        let key = Key {
            id: format!("key_{}", self.letters(24)?),
            name: name.to_owned(),
            value: format!(
                "sk-admin-{}T3BlbkFJ{}",
                self.letters(58)?,
                self.letters(58)?
            ),
            created_at,
            expires_at: lasts.map(|seconds| created_at + seconds),
            last_used_at: None,
            deleted_at: None,
        };
        self.keys.push(key.clone());
        self.save()?;
        Ok(key)
    }

    /// Deletes a key; false if there is none.
    pub(crate) fn delete(&mut self, id: &str) -> Result<bool, String> {
        let found = self
            .keys
            .iter_mut()
            .find(|key| key.id == id && key.deleted_at.is_none());
        let Some(key) = found else { return Ok(false) };
        key.deleted_at = Some(now().as_second());
        self.save()?;
        Ok(true)
    }

    /// Whether `value` opens the door now, and notes that it was tried.
    pub(crate) fn accepts(&mut self, value: &str) -> bool {
        let at = now().as_second();
        let lag = i64::try_from(self.propagation.as_secs()).unwrap_or(0);
        let works = |key: &Key| {
            key.value == value
                && at >= key.created_at + lag
                && key.deleted_at.is_none_or(|deleted| at < deleted + lag)
                && key.expires_at.is_none_or(|end| at < end)
        };
        match self.keys.iter_mut().find(|key| works(key)) {
            Some(key) => {
                key.last_used_at = Some(at);
                true
            }
            None => false,
        }
    }

    /// The keys that are not deleted.
    pub(crate) fn live(&self) -> impl DoubleEndedIterator<Item = &Key> {
        let at = now().as_second();
        self.keys.iter().filter(move |key| {
            key.deleted_at.is_none() && key.expires_at.is_none_or(|end| at < end)
        })
    }

    /// A number from 0 to 1.
    pub(crate) fn dice(&self) -> f64 {
        let mut bytes = [0; 4];
        match self.chance.fill(&mut bytes) {
            Ok(()) => f64::from(u32::from_be_bytes(bytes)) / f64::from(u32::MAX),
            Err(_) => 1.0,
        }
    }

    pub(crate) fn letters(&self, count: usize) -> Result<String, String> {
        const LETTERS: &[u8; 64] =
            b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
        let mut bytes = vec![0; count];
        self.chance
            .fill(&mut bytes)
            .map_err(|_| "the system gives no random bytes".to_owned())?;
        Ok(bytes
            .iter()
            .map(|byte| char::from(LETTERS[usize::from(byte % 64)]))
            .collect())
    }

    /// Keeps the state over a restart: a new file takes the old one's place.
    fn save(&self) -> Result<(), String> {
        let Some(path) = &self.file else {
            return Ok(());
        };
        write(path, &self.keys).map_err(|error| format!("cannot write {}: {error}", path.display()))
    }
}

fn write(path: &Path, keys: &[Key]) -> std::io::Result<()> {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    let new = PathBuf::from(name);
    let mut options = std::fs::OpenOptions::new();
    let mut file = options
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&new)?;
    file.write_all(&serde_json::to_vec_pretty(keys)?)?;
    std::fs::rename(new, path)
}

impl Key {
    /// The key as the API shows it.
    pub(crate) fn shown(&self) -> Value {
        let tail = &self.value[self.value.len().saturating_sub(3)..];
        json!({
            "object": "organization.admin_api_key",
            "id": self.id,
            "name": self.name,
            "redacted_value": format!("sk-admin...{tail}"),
            "created_at": self.created_at,
            "expires_at": self.expires_at,
            "last_used_at": self.last_used_at,
            "owner": {
                "type": "user", "object": "organization.user", "id": "user_sandbox",
                "name": "Sandbox Owner", "created_at": 1_711_471_533, "role": "owner",
            },
        })
    }
}

/// The sandbox plays another host, and so has a clock and chance of its own.
#[expect(clippy::disallowed_methods, reason = "the sandbox plays another host")]
pub(crate) fn now() -> Timestamp {
    time::whole_seconds(Timestamp::now())
}

#[expect(clippy::disallowed_methods, reason = "the sandbox plays another host")]
fn chance() -> SystemRandom {
    SystemRandom::new()
}
