//! A file on this host, replaced atomically.
//!
//! The new content is prepared in `.NAME.rekeyd` beside the target, brought to
//! disk, and renamed over it: readers see the old or the new content, whole.
//! The target is never followed when it is a symbolic link, and the old file
//! is never written to. What this deliberately does not do: make folders, or
//! keep a copy of the old content.
//!
//! Where the configuration names no owner or group, those of the present file
//! are carried over as far as this process may; in a setgid folder the folder
//! gives the group.

mod after;
mod attempt;
mod content;
mod disk;
pub(crate) mod leftover;
mod place;
mod present;
mod private;
mod replace;

use std::sync::Arc;

use async_trait::async_trait;

use self::attempt::Attempt;
use self::place::Place;
use crate::core::duration;
use crate::core::names::SinkId;
use crate::core::record::CredentialFacts;
use crate::core::settings::{FileTarget, SinkSettings};
use crate::host::{look, program};
use crate::sink::{DeliveryError, Look, Parcel, Receipt, Sink, Taken};

/// A file that takes each new secret.
#[derive(Debug)]
pub struct FileSink {
    settings: Arc<SinkSettings>,
    /// That of the settings.
    target: Arc<FileTarget>,
}

impl FileSink {
    /// A sink for `target`, which is that of `settings`; nothing is looked at
    /// yet.
    #[must_use]
    pub fn new(settings: &Arc<SinkSettings>, target: &Arc<FileTarget>) -> Self {
        Self {
            settings: Arc::clone(settings),
            target: Arc::clone(target),
        }
    }

    fn place(&self) -> Place {
        Place(Arc::clone(&self.target))
    }

    /// Removes the temporary file that a process that was killed may have left
    /// behind, with a secret in it. Says whether there was one. Touches
    /// nothing else: what bears that name and is no regular file of ours stays
    /// and is an error.
    ///
    /// # Errors
    /// What is in the way, in words.
    pub async fn remove_leftover(&self) -> Result<bool, String> {
        let place = self.place();
        let Some((attempt, _caller)) = Attempt::begin(place.path()) else {
            return Err(self.still_out());
        };
        self.aside(move || {
            let _attempt = attempt;
            replace::remove_leftover(&place)
        })
        .await?
    }

    /// Does file work on a thread of its own, for no longer than the timeout.
    async fn aside<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, String> {
        let work = tokio::task::spawn_blocking(work);
        match tokio::time::timeout(self.settings.timeout, work).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(_)) => Err(format!(
                "the work on {} ended unexpectedly; this is a mistake in rekeyd, please report it",
                self.target.path.display()
            )),
            Err(_) => Err(format!(
                "{} did not come back within {}; see whether its file system hangs",
                self.target.path.display(),
                duration::to_text(self.settings.timeout)
            )),
        }
    }

    /// What is wrong with the file's place, and with what is run then.
    fn problems(&self) -> impl FnOnce() -> Vec<String> + Send + 'static {
        let place = self.place();
        move || {
            let mut problems = place.problems();
            let after = place.0.after.as_ref();
            let after = after.and_then(|after| program::problem(after.argv.path()));
            problems.extend(after.map(|problem| format!("after: {problem}")));
            problems
        }
    }

    fn still_out(&self) -> String {
        format!(
            "earlier work on {} has not come back yet; see whether its file system hangs",
            self.target.path.display()
        )
    }
}

#[async_trait]
impl Sink for FileSink {
    fn id(&self) -> &SinkId {
        &self.settings.id
    }

    async fn inspect(&self) -> Vec<String> {
        let looked = self.problems();
        self.aside(looked)
            .await
            .unwrap_or_else(|problem| vec![problem])
    }

    async fn preflight(&self) -> Result<(), String> {
        let place = self.place();
        let looked = self.problems();
        // Each look at a file system that hangs would take one more thread.
        let Some((attempt, _caller)) = Attempt::begin(place.path()) else {
            return Err(self.still_out());
        };
        self.aside(move || {
            let _attempt = attempt;
            let problems = looked();
            if problems.is_empty() {
                place.room()
            } else {
                Err(problems.join("; "))
            }
        })
        .await?
    }

    fn lost(&self, credential: &CredentialFacts) -> Look {
        let place = self.place();
        let redacted = credential.redacted_value.clone();
        let looked = move || present::lost(&place, redacted.as_deref());
        let looked = look::aside(self.settings.timeout, looked);
        // A file system that hangs tells nothing about the file.
        Box::pin(async move { looked.await.flatten() })
    }

    fn has_after(&self) -> bool {
        self.target.after.is_some()
    }

    async fn after(&self, taken: &Receipt) -> Result<(), String> {
        match &self.target.after {
            Some(after) => after::run_after(after, &self.settings.id, taken).await,
            // A reload has taken it out of the configuration meanwhile.
            None => Ok(()),
        }
    }

    async fn deliver(&self, parcel: &Parcel) -> Result<(), DeliveryError> {
        let not_taken = |message| DeliveryError {
            taken: Taken::No,
            message,
        };
        let content = content::content(&self.target.format, parcel).map_err(|error| {
            not_taken(format!(
                "cannot put together the content of {}: {error}",
                self.target.path.display()
            ))
        })?;
        let place = self.place();
        let Some((attempt, _caller)) = Attempt::begin(place.path()) else {
            return Err(not_taken(self.still_out()));
        };
        self.aside(move || replace::replace(&place, &content, &attempt))
            .await
            .unwrap_or_else(|message| {
                Err(DeliveryError {
                    taken: Taken::Maybe,
                    message,
                })
            })
    }
}
