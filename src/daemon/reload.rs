//! Another configuration for a running daemon.
//!
//! One that cannot be read changes nothing; what is wrong with it stands in
//! the log, and in the ledger for `status`, until one is taken.

use std::sync::Arc;

use crate::core::settings::Settings;
use crate::daemon::credential::Sources;
use crate::daemon::leftovers;
use crate::daemon::start::Started;
use crate::host::zones;

/// Reads the configuration anew, with where the admin credential may come
/// from; otherwise, what is wrong with it.
pub type ReadAnew = Arc<dyn Fn() -> Read + Send + Sync>;

/// What was read, or what is wrong with it.
pub type Read = Result<(Arc<Settings>, Sources), String>;

/// Reads the configuration on a thread of its own: a large one takes a while,
/// and its disk may hang.
pub(crate) async fn read(read: ReadAnew) -> Read {
    let reading = tokio::task::spawn_blocking(move || {
        zones::forget();
        read()
    });
    reading
        .await
        .unwrap_or_else(|error| Err(format!("reading the configuration failed: {error}")))
}

impl Started {
    /// Goes on with what was read, if it can be taken.
    ///
    /// # Errors
    /// It is wrong, or changes what only a restart can change; in words.
    pub(crate) async fn take(&mut self, read: Read) -> Result<(), String> {
        let taken = match read {
            Ok((settings, sources)) => match needs_restart(&self.settings, &settings) {
                None => {
                    self.go_on_with(settings, sources).await;
                    Ok(())
                }
                Some(problem) => Err(problem),
            },
            Err(problem) => Err(problem),
        };
        match &taken {
            Ok(()) => {
                self.engine.note_configuration(None);
                tracing::info!(
                    keys = self.settings.keys.len(),
                    "took the configuration of {}",
                    self.settings.file.display()
                );
            }
            Err(problem) => {
                let problem = format!(
                    "the configuration was not taken, and the one of before goes on: {problem}"
                );
                tracing::error!("{problem}");
                self.engine.note_configuration(Some(problem));
            }
        }
        taken
    }

    async fn go_on_with(&mut self, settings: Arc<Settings>, sources: Sources) {
        leftovers::remove(&settings, Some(&self.settings)).await;
        let (parts, provider) = self.common.parts(&settings, sources);
        self.engine
            .reconfigure(parts, self.common.managed(&settings));
        self.carriers.deliver_to(&settings.notify);
        self.settings = settings;
        // A person may have put another admin credential in its place.
        drop(tokio::spawn(
            async move { provider.read_places_again().await },
        ));
    }
}

/// What was changed that holds for as long as the process lives.
fn needs_restart(before: &Settings, now: &Settings) -> Option<String> {
    let changed = [
        ("[ledger] path", before.ledger != now.ledger),
        (
            "[provider] base-url",
            before.provider.base_url != now.provider.base_url,
        ),
        (
            "[provider] organization",
            before.provider.organization != now.provider.organization,
        ),
    ];
    let changed: Vec<_> = changed
        .into_iter()
        .filter_map(|(option, changed)| changed.then_some(option))
        .collect();
    if changed.is_empty() {
        return None;
    }
    Some(format!(
        "{}: {} cannot change while rekeyd runs; restart it for that",
        now.file.display(),
        changed.join(" and ")
    ))
}
