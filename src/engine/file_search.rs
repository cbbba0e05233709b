//! Searches the files of all configured sinks for the secrets of credentials that are
//! about to be revoked, and for those in the answers to creates.
//!
//! One pass over the files serves all callers that wait for a pass, and starts after each
//! of them started to wait: many revocations at once cost few passes, and none relies on an
//! earlier read. Only the check of an answer may rely on one for a while, where there are
//! many files.

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use crate::core::expected_secret::ExpectedSecret;
use crate::core::ids::{KeyName, SinkId};
use crate::core::secret::{EndMatch, Secret};
use crate::core::secret_digests::{SecretDigests, is_same_secret};
use crate::engine::managed_key::ManagedKey;
use crate::sink::inspection::{inspect_at_once, inspect_batch};
use crate::sink::{Sink, TargetContent, UnseenCause};

/// How many files one thread reads: so few that a slow disk reads several at once.
const FILES_PER_THREAD: usize = 64;

/// The most files that are read anew for each answer to a create.
const FEW_FILES: usize = 1_000;

/// For how many times the duration of a pass over many files the check of an answer relies
/// on its result: thousands of rotations at once spend a twentieth of their time on passes.
const RELIANCE: u32 = 20;

/// The longest time for which a pass is relied on, however slow it was.
const MAX_RELIANCE: Duration = Duration::from_secs(30);

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
    /// What the files held at the last pass, if they are many.
    remembered: Mutex<Option<RememberedSecrets>>,
}

/// The secrets of all files at one pass.
struct RememberedSecrets {
    digests: SecretDigests,
    until: Instant,
}

/// What a pass searches for.
#[derive(Clone)]
enum Searched {
    /// A credential, by what the provider shows of its secret.
    Credential(SearchedCredential),
    /// This very secret.
    Secret(Secret),
}

/// A credential to search for.
#[derive(Debug, Clone)]
pub(crate) struct SearchedCredential {
    /// What is known of its secret.
    pub(crate) expected: ExpectedSecret,
    /// Whether the search also finds what may be its own secret, and each file that cannot
    /// be read: only a person knows where an adopted credential is.
    pub(crate) finds_possible: bool,
}

/// A file that holds a searched credential, or may hold it.
#[derive(Clone)]
pub(crate) struct FoundFile {
    pub(crate) key: KeyName,
    pub(crate) sink: Arc<dyn Sink>,
    pub(crate) sight: FileSight,
    /// Whether its folder was exchanged for that of another owner.
    pub(crate) has_foreign_folder: bool,
}

/// What a file shows of a searched credential.
#[derive(Clone)]
pub(crate) enum FileSight {
    /// The secrets in it that are, or may be, that of the credential.
    Holds(Vec<Secret>),
    /// Nothing: the file cannot be seen now.
    Unseen(UnseenCause),
}

struct SearchRequest {
    searched: Searched,
    found: OnceLock<Vec<FoundFile>>,
}

impl Searched {
    /// Returns what the content of a file shows of it.
    fn sight(&self, content: &TargetContent) -> Option<FileSight> {
        match self {
            Self::Credential(credential) => credential.sight(content),
            Self::Secret(secret) => {
                let held = content.keys().iter();
                let held = held.filter(|held| is_same_secret(held, secret));
                let held: Vec<_> = held.cloned().collect();
                (!held.is_empty()).then_some(FileSight::Holds(held))
            }
        }
    }
}

impl SearchedCredential {
    fn is_found(&self, secret: &Secret) -> bool {
        match self.expected.compare(secret.expose()) {
            EndMatch::Same => true,
            EndMatch::Unknown => self.finds_possible,
            EndMatch::Different => false,
        }
    }

    /// Returns what a content shows of the credential.
    fn sight(&self, content: &TargetContent) -> Option<FileSight> {
        let unseen = content.unseen_cause().filter(|_| self.finds_possible);
        if let Some(cause) = unseen {
            return Some(FileSight::Unseen(cause));
        }
        let secrets = content.keys().iter().filter(|key| self.is_found(key));
        let secrets: Vec<_> = secrets.cloned().collect();
        (!secrets.is_empty()).then_some(FileSight::Holds(secrets))
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
        *lock(&self.0.sinks) = sinks;
        *lock(&self.0.remembered) = None;
    }

    /// Returns the files that hold a credential, and those that cannot be seen, if it may be
    /// in any file.
    pub(crate) async fn find(&self, searched: SearchedCredential) -> Vec<FoundFile> {
        self.wait_for_pass(Searched::Credential(searched)).await
    }

    /// Returns a sink whose file holds a secret, and its key. Where there are many files,
    /// the search may miss what was written a moment ago; this process knows its own
    /// secrets.
    pub(crate) async fn find_secret(&self, secret: &Secret) -> Option<(KeyName, SinkId)> {
        if self.is_known_absent(secret) {
            return None;
        }
        let found = self.wait_for_pass(Searched::Secret(secret.clone())).await;
        let file = found.into_iter().next()?;
        Some((file.key, file.sink.id().clone()))
    }

    /// Returns whether a recent pass over many files did not see a secret.
    fn is_known_absent(&self, secret: &Secret) -> bool {
        let remembered = lock(&self.0.remembered);
        let recent = remembered.as_ref().filter(|one| Instant::now() < one.until);
        recent.is_some_and(|one| !one.digests.show_in(secret.expose()))
    }

    async fn wait_for_pass(&self, searched: Searched) -> Vec<FoundFile> {
        let own = Arc::new(SearchRequest {
            searched,
            found: OnceLock::new(),
        });
        lock(&self.0.waiting).push(Arc::clone(&own));
        let _turn = self.0.turn.lock().await;
        if let Some(found) = own.found.get() {
            return found.clone();
        }
        let mut waiting = std::mem::take(&mut *lock(&self.0.waiting));
        // The caller that took the list before may have been dropped.
        if !waiting.iter().any(|one| Arc::ptr_eq(one, &own)) {
            waiting.push(Arc::clone(&own));
        }
        let mut found = self.search(&waiting).await;
        for one in waiting.iter().rev() {
            let _ = one.found.set(found.pop().unwrap_or_default());
        }
        own.found.get().cloned().unwrap_or_default()
    }

    /// Reads all files once. Returns those that hold what each of the requests searches
    /// for.
    async fn search(&self, waiting: &[Arc<SearchRequest>]) -> Vec<Vec<FoundFile>> {
        let sinks = Arc::clone(&lock(&self.0.sinks));
        let searches_secret =
            |one: &Arc<SearchRequest>| matches!(one.searched, Searched::Secret(_));
        let remembers = sinks.len() > FEW_FILES && waiting.iter().any(searches_secret);
        let pass = Arc::new(Pass {
            searched: waiting.iter().map(|one| one.searched.clone()).collect(),
            seen: remembers.then(Mutex::default),
        });
        let begun = Instant::now();
        let found = search(&sinks, &pass).await;
        let lasts = begun.elapsed().saturating_mul(RELIANCE).min(MAX_RELIANCE);
        if let Some(seen) = &pass.seen
            // A reload counts from now on.
            && Arc::ptr_eq(&sinks, &lock(&self.0.sinks))
        {
            *lock(&self.0.remembered) = Some(RememberedSecrets {
                digests: std::mem::take(&mut lock(seen)),
                until: Instant::now() + lasts,
            });
        }
        found
    }
}

/// One pass over the files.
struct Pass {
    searched: Vec<Searched>,
    /// The digests of all secrets that it reads, if they are to be remembered.
    seen: Option<Mutex<SecretDigests>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Returns the files that hold each of what a pass searches for.
async fn search(sinks: &Arc<[ConfiguredSink]>, pass: &Arc<Pass>) -> Vec<Vec<FoundFile>> {
    let mut batches = JoinSet::new();
    for start in (0..sinks.len()).step_by(FILES_PER_THREAD) {
        let (sinks, pass) = (Arc::clone(sinks), Arc::clone(pass));
        batches.spawn(async move {
            let end = sinks.len().min(start + FILES_PER_THREAD);
            let numbers: Vec<_> = (start..end).collect();
            if let Some(found) = search_batch(&sinks, numbers.clone(), &pass).await {
                return found;
            }
            // Only a separate read of each finds those that do not hang.
            let mut found = Vec::new();
            for number in numbers {
                let alone = search_batch(&sinks, vec![number], &pass).await;
                found.extend(alone.unwrap_or_else(|| unanswered(&sinks[number], &pass.searched)));
            }
            found
        });
    }
    let mut files = vec![Vec::new(); pass.searched.len()];
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

/// Reads the files with these numbers. Returns those that hold a searched credential, with
/// its number; none if a read hangs.
async fn search_batch(
    sinks: &Arc<[ConfiguredSink]>,
    numbers: Vec<usize>,
    pass: &Arc<Pass>,
) -> Option<Vec<(usize, FoundFile)>> {
    let mut may_block = false;
    let looks = numbers.into_iter().filter_map(|number| {
        let (_, sink) = &sinks[number];
        let look = sink.blocking_inspection()?;
        may_block |= sink.inspection_may_block();
        Some((number, look))
    });
    let (numbers, looks): (Vec<_>, Vec<_>) = looks.unzip();
    if looks.is_empty() {
        return Some(Vec::new());
    }
    let (own_sinks, pass) = (Arc::clone(sinks), Arc::clone(pass));
    let compare = move |look: usize, content: TargetContent| {
        if let Some(seen) = &pass.seen {
            let mut seen = lock(seen);
            content.keys().iter().for_each(|key| seen.insert(key));
        }
        let (key, sink) = &own_sinks[numbers[look]];
        let sights = pass.searched.iter().map(|one| one.sight(&content));
        let sights = sights.enumerate();
        let sights = sights.filter_map(|(number, sight)| Some((number, sight?)));
        let files = sights.map(|(credential, sight)| {
            let file = FoundFile {
                key: key.clone(),
                sink: Arc::clone(sink),
                sight,
                has_foreign_folder: sink.has_foreign_folder(),
            };
            (credential, file)
        });
        let files: Vec<_> = files.collect();
        (!files.is_empty()).then_some(files)
    };
    let found = if may_block {
        inspect_batch(looks, compare).await?
    } else {
        inspect_at_once(looks, compare)
    };
    Some(found.into_iter().flatten().collect())
}

/// Returns what a file that does not answer shows of the searched credentials.
fn unanswered((key, sink): &ConfiguredSink, searched: &[Searched]) -> Vec<(usize, FoundFile)> {
    let content = TargetContent::Unseen(UnseenCause::Hanging);
    let sights = searched.iter().map(|one| one.sight(&content)).enumerate();
    let files = sights.filter_map(|(credential, sight)| {
        let file = FoundFile {
            key: key.clone(),
            sink: Arc::clone(sink),
            sight: sight?,
            has_foreign_folder: false,
        };
        Some((credential, file))
    });
    files.collect()
}
