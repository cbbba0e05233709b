//! The replacement of the admin key that a running daemon uses: by a command, or by another
//! content of `[provider] credential-file`.

use std::time::{Duration, Instant};

use tokio::sync::oneshot;
use tokio::task::JoinSet;

use crate::core::secret::Secret;
use crate::daemon::control::protocol::{ControlResponse, RequestOutcome};
use crate::daemon::control::tracker::FinishedRequest;
use crate::daemon::runtime::ProviderStack;
use crate::provider::candidate::CandidateError;
use crate::provider::failover::TakenCredential;

/// What the outcome of the command is about.
const ABOUT: &str = "admin key";

/// The interval at which the daemon checks whether the configured file has changed: a rotation
/// and a reconciliation begin with the key of the moment, within a second.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// An admin key that a person gives by `rekeyd use-credential`.
pub(crate) struct GivenCredential {
    pub(crate) secret: Secret,
    /// The file from which the command read it.
    pub(crate) file: String,
    pub(crate) reply: oneshot::Sender<ControlResponse>,
}

/// A key that was tried.
pub(crate) struct TriedCredential {
    /// Whether rekeyd works with another key now.
    pub(crate) is_taken: bool,
    /// The answer to a person who gave the key.
    pub(crate) answer: Option<FinishedRequest>,
}

/// The keys that are being tried.
#[derive(Default)]
pub(crate) struct AdminKeyChanges {
    given: JoinSet<TriedCredential>,
    file_checks: JoinSet<TriedCredential>,
    checked_at: Option<Instant>,
}

impl AdminKeyChanges {
    /// Tries a key that a person gives.
    pub(crate) fn try_given(&mut self, given: GivenCredential, provider: ProviderStack) {
        self.given.spawn(async move {
            let GivenCredential {
                secret,
                file,
                reply,
            } = given;
            let taken = provider.give(secret).await;
            TriedCredential {
                is_taken: taken.is_ok(),
                answer: Some((reply, response(&file, taken))),
            }
        });
    }

    /// Checks the configured file, if that is due and no check is in progress.
    pub(crate) fn check_file(&mut self, provider: &ProviderStack) {
        let is_due = self
            .checked_at
            .is_none_or(|at| at.elapsed() >= CHECK_INTERVAL);
        if is_due && self.file_checks.is_empty() {
            self.checked_at = Some(Instant::now());
            let provider = ProviderStack::clone(provider);
            self.file_checks.spawn(async move {
                TriedCredential {
                    is_taken: provider.check_file().await,
                    answer: None,
                }
            });
        }
    }

    /// Waits until a key was tried. Cancel safe.
    pub(crate) async fn next(&mut self) -> TriedCredential {
        loop {
            let tried = tokio::select! {
                Some(tried) = self.given.join_next() => tried,
                Some(tried) = self.file_checks.join_next() => tried,
                else => std::future::pending().await,
            };
            // Nothing aborts a task before the process ends.
            if let Ok(tried) = tried {
                return tried;
            }
        }
    }
}

/// Returns the response to a command that gave a key.
fn response(file: &str, taken: Result<TakenCredential, CandidateError>) -> ControlResponse {
    let (done, message) = match taken {
        Ok(TakenCredential { to_store_in: None }) => {
            (true, format!("rekeyd uses the admin key in {file} now"))
        }
        Ok(TakenCredential {
            to_store_in: Some(place),
        }) => (
            true,
            format!(
                "rekeyd uses the admin key in {file} until it stops; hint: {}, so that the next \
                 start finds it",
                place.storing()
            ),
        ),
        Err(error) => (
            false,
            format!("rekeyd does not use the admin key in {file}: {error}"),
        ),
    };
    ControlResponse {
        outcomes: vec![RequestOutcome {
            about: ABOUT.to_owned(),
            done,
            message,
            shared_with: Vec::new(),
            consequences: Vec::new(),
            name: None,
        }],
    }
}
