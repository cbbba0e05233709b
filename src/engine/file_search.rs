//! Searches the files of all configured sinks for the secrets of credentials that are
//! about to be revoked.
//!
//! One pass over the files serves every credential that waits for one, and begins after
//! each of them began to wait: many revocations at once cost few passes, and none relies
//! on what was read earlier.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use tokio::task::JoinSet;

use crate::core::ids::KeyName;
use crate::core::secret::{EndMatch, Secret, compare_end};
use crate::engine::managed_key::ManagedKey;
use crate::sink::Sink;
use crate::sink::inspection::inspect_batch;

/// How many files one thread looks at: so few that a slow disk reads several at once.
const FILES_PER_THREAD: usize = 64;

/// A sink of a key of the configuration.
pub(super) type ConfiguredSink = (KeyName, Arc<dyn Sink>);

/// The search through the files of all sinks. Cheap to clone; clones share the passes.
#[derive(Clone, Default)]
pub(crate) struct FileSearch(Arc<SharedSearch>);

#[derive(Default)]
struct SharedSearch {
    sinks: Mutex<Arc<[ConfiguredSink]>>,
    waiting: Mutex<Vec<Arc<SearchRequest>>>,
    /// Held during a pass: there is one at a time.
    turn: tokio::sync::Mutex<()>,
}

/// A credential to search for.
#[derive(Debug, Clone)]
pub(crate) struct SearchedCredential {
    /// Its redacted value at the provider.
    pub(crate) redacted_value: Option<String>,
    /// Whether a secret that may be its own is found, too: nobody but a person knows
    /// where an adopted credential is.
    pub(crate) finds_possible: bool,
}

/// A file that holds a searched credential.
#[derive(Clone)]
pub(crate) struct FoundFile {
    pub(crate) key: KeyName,
    pub(crate) sink: Arc<dyn Sink>,
    /// The secrets in it that are, or may be, that of the credential.
    pub(crate) secrets: Vec<Secret>,
}

struct SearchRequest {
    searched: SearchedCredential,
    found: OnceLock<Vec<FoundFile>>,
}

impl SearchedCredential {
    fn is_found(&self, secret: &Secret) -> bool {
        match compare_end(secret.expose(), self.redacted_value.as_deref()) {
            EndMatch::Same => true,
            EndMatch::Unknown => self.finds_possible,
            EndMatch::Different => false,
        }
    }
}

impl FileSearch {
    /// Searches the sinks of these keys from now on.
    pub(crate) fn set_sinks<'a>(&self, keys: impl Iterator<Item = &'a ManagedKey>) {
        let sinks = keys.flat_map(|key| {
            let sinks = key.sinks.iter();
            sinks.map(|(sink, _)| (key.name.clone(), Arc::clone(sink)))
        });
        let sinks = sinks.collect();
        *self.0.sinks.lock().unwrap_or_else(PoisonError::into_inner) = sinks;
    }

    /// Returns the files that hold a credential. A file that cannot be read, or does not
    /// answer, is not among them.
    pub(crate) async fn find(&self, searched: SearchedCredential) -> Vec<FoundFile> {
        let own = Arc::new(SearchRequest {
            searched,
            found: OnceLock::new(),
        });
        self.waiting().push(Arc::clone(&own));
        let _turn = self.0.turn.lock().await;
        if let Some(found) = own.found.get() {
            return found.clone();
        }
        let mut waiting = std::mem::take(&mut *self.waiting());
        // Whoever took it before may have been dropped.
        if !waiting.iter().any(|one| Arc::ptr_eq(one, &own)) {
            waiting.push(Arc::clone(&own));
        }
        let sinks = Arc::clone(&self.0.sinks.lock().unwrap_or_else(PoisonError::into_inner));
        let mut found = search(&sinks, &waiting).await;
        for one in waiting.iter().rev() {
            let _ = one.found.set(found.pop().unwrap_or_default());
        }
        own.found.get().cloned().unwrap_or_default()
    }

    fn waiting(&self) -> std::sync::MutexGuard<'_, Vec<Arc<SearchRequest>>> {
        let waiting = self.0.waiting.lock();
        waiting.unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns the files that hold each of the searched credentials.
async fn search(
    sinks: &Arc<[ConfiguredSink]>,
    waiting: &[Arc<SearchRequest>],
) -> Vec<Vec<FoundFile>> {
    let searched: Arc<[SearchedCredential]> =
        waiting.iter().map(|one| one.searched.clone()).collect();
    let mut batches = JoinSet::new();
    for start in (0..sinks.len()).step_by(FILES_PER_THREAD) {
        let (sinks, searched) = (Arc::clone(sinks), Arc::clone(&searched));
        batches.spawn(async move {
            let end = sinks.len().min(start + FILES_PER_THREAD);
            let numbers: Vec<_> = (start..end).collect();
            if let Some(found) = search_batch(&sinks, numbers.clone(), &searched).await {
                return found;
            }
            // Only a look at each alone finds those that do not hang.
            let mut found = Vec::new();
            for number in numbers {
                let alone = search_batch(&sinks, vec![number], &searched).await;
                found.extend(alone.unwrap_or_default());
            }
            found
        });
    }
    let mut files = vec![Vec::new(); searched.len()];
    while let Some(batch) = batches.join_next().await {
        // A look that panicked says nothing about its file.
        for (number, file) in batch.into_iter().flatten() {
            let of_credential: &mut Vec<FoundFile> = &mut files[number];
            of_credential.push(file);
        }
    }
    for found in &mut files {
        found.sort_by(|one, other| one.key.cmp(&other.key));
    }
    files
}

/// Looks at the files with these numbers. Returns those that hold a searched credential,
/// with its number; none if a look hangs.
async fn search_batch(
    sinks: &[ConfiguredSink],
    numbers: Vec<usize>,
    searched: &Arc<[SearchedCredential]>,
) -> Option<Vec<(usize, FoundFile)>> {
    let looks = numbers.into_iter().filter_map(|number| {
        let (_, sink) = &sinks[number];
        Some((number, sink.blocking_inspection()?))
    });
    let (numbers, looks): (Vec<_>, Vec<_>) = looks.unzip();
    if looks.is_empty() {
        return Some(Vec::new());
    }
    let searched = Arc::clone(searched);
    let found = inspect_batch(looks, move |look, content| {
        let matches = searched.iter().enumerate().filter_map(|(credential, one)| {
            let secrets = content.keys().iter().filter(|key| one.is_found(key));
            let secrets: Vec<_> = secrets.cloned().collect();
            (!secrets.is_empty()).then_some((credential, secrets))
        });
        let matches: Vec<_> = matches.collect();
        (!matches.is_empty()).then_some((look, matches))
    });
    let files = found.await?.into_iter().flat_map(|(look, matches)| {
        let (key, sink) = &sinks[numbers[look]];
        matches.into_iter().map(|(credential, secrets)| {
            let file = FoundFile {
                key: key.clone(),
                sink: Arc::clone(sink),
                secrets,
            };
            (credential, file)
        })
    });
    Some(files.collect())
}
