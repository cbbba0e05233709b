//! The clients of the provider. They trust the roots and show the certificate of the time at
//! which they were built, and are built again when the files with these change.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::net::client::{ClientOptions, ClientPair, build_clients};
use crate::net::trust_note::TrustNote;
use crate::platform::{BlockingPool, path_walk};
use crate::provider::settings::ProviderSettings;

/// The time for which clients are used without a look at their files.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// The time limit of a look at the files, and of reading them: their file system may hang.
const READ_TIMEOUT: Duration = Duration::from_secs(10);

/// The clients for requests to one provider.
#[derive(Debug)]
pub(super) struct ProviderClients {
    settings: Arc<ProviderSettings>,
    /// The clients, once one was needed.
    kept: Mutex<Option<KeptClients>>,
    /// Held while the first ones are built: the requests of many keys share them.
    building: tokio::sync::Mutex<()>,
    /// The thread that looks at the files.
    files: BlockingPool,
}

/// Clients, and the files that they were built from.
#[derive(Debug, Clone)]
struct KeptClients {
    clients: Arc<ClientPair>,
    /// What the files looked like then.
    note: TrustNote,
    /// What they looked like when they could not be used.
    refused: Option<TrustNote>,
    looked_at: Instant,
}

/// The outcome of a look at files that have changed.
enum Renewal {
    /// Clients from the new files.
    Built(KeptClients),
    /// The new files cannot be used.
    Refused { look: TrustNote, problem: String },
}

impl ProviderClients {
    /// Returns clients for a provider with these settings, without reading a file.
    pub(super) fn new(settings: &ProviderSettings) -> Self {
        Self {
            settings: Arc::new(settings.clone()),
            kept: Mutex::new(None),
            building: tokio::sync::Mutex::new(()),
            files: BlockingPool::new(1),
        }
    }

    /// Returns the settings that the clients are for.
    pub(super) fn settings(&self) -> &ProviderSettings {
        &self.settings
    }

    /// Returns the clients. Files that have changed are read again; if they cannot be used, the
    /// clients stay as they are until [`Self::forget`].
    ///
    /// # Errors
    /// The problem, for people, if there are no clients yet and none can be built.
    pub(super) async fn get(&self) -> Result<Arc<ClientPair>, String> {
        if let Some(clients) = self.get_kept().await {
            return Ok(clients);
        }
        let _turn = self.building.lock().await;
        if let Some(clients) = self.get_kept().await {
            return Ok(clients);
        }
        let settings = Arc::clone(&self.settings);
        let building = self
            .files
            .run(describe, READ_TIMEOUT, move || build(&settings));
        let built = building.await.map_err(|error| error.to_string())??;
        let clients = Arc::clone(&built.clients);
        *self.lock() = Some(built);
        Ok(clients)
    }

    /// Forgets clients after a certificate was rejected, so that the next request reads the
    /// files again, whatever they look like.
    pub(super) fn forget(&self, clients: &Arc<ClientPair>) {
        let mut kept = self.lock();
        if kept.as_ref().is_some_and(|kept| kept.has(clients)) {
            *kept = None;
        }
    }

    /// Returns the clients that are there, renewed if their files have changed.
    async fn get_kept(&self) -> Option<Arc<ClientPair>> {
        let former = {
            let mut kept = self.lock();
            let kept = kept.as_mut()?;
            if kept.looked_at.elapsed() < LOOK_INTERVAL {
                return Some(Arc::clone(&kept.clients));
            }
            // Others need not wait for the same look.
            kept.looked_at = Instant::now();
            kept.clone()
        };
        let (settings, known) = (Arc::clone(&self.settings), former.clone());
        let look = self
            .files
            .run(describe, READ_TIMEOUT, move || renew(&settings, &known));
        let renewed = match look.await {
            Ok(None) => return Some(former.clients),
            Ok(Some(Renewal::Built(renewed))) => {
                tracing::info!("certificates have changed; using the new ones for the provider");
                renewed
            }
            Ok(Some(Renewal::Refused { look, problem })) => {
                tracing::warn!(
                    "certificates have changed, and the new ones cannot be used for the provider; \
                     still using the former ones: {problem}"
                );
                let refused = Some(look);
                KeptClients {
                    refused,
                    ..former.clone()
                }
            }
            Err(error) => {
                tracing::debug!("still using the former certificates for the provider: {error}");
                return Some(former.clients);
            }
        };
        let clients = Arc::clone(&renewed.clients);
        let mut kept = self.lock();
        // Unless the former ones were forgotten meanwhile.
        if kept.as_ref().is_some_and(|kept| kept.has(&former.clients)) {
            *kept = Some(renewed);
        }
        Some(clients)
    }

    fn lock(&self) -> MutexGuard<'_, Option<KeptClients>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl KeptClients {
    fn has(&self, clients: &Arc<ClientPair>) -> bool {
        Arc::ptr_eq(&self.clients, clients)
    }
}

fn describe() -> String {
    "reading the certificates for the provider".to_owned()
}

/// Builds clients again if the files have changed since `known` were built. Blocks.
fn renew(settings: &ProviderSettings, known: &KeptClients) -> Option<Renewal> {
    let look = look_at_files(settings);
    if look == known.note || known.refused.as_ref() == Some(&look) {
        return None;
    }
    Some(match build(settings) {
        Ok(built) => Renewal::Built(built),
        Err(problem) => Renewal::Refused { look, problem },
    })
}

/// Builds clients from the files as they are now. Fails with the problem, for people. Blocks.
fn build(settings: &ProviderSettings) -> Result<KeptClients, String> {
    // Before the files are read: a later change is noticed.
    let note = look_at_files(settings);
    let ca_file = settings.ca_file.as_deref();
    if let Some(problem) =
        ca_file.and_then(|file| path_walk::describe_exchange(file, &settings.trusted_paths))
    {
        return Err(problem);
    }
    let identity = settings
        .read_identity()
        .map_err(|error| error.to_string())?;
    let options = ClientOptions {
        url: &settings.base_url,
        timeout: settings.request_timeout,
        ca_file,
        identity: identity.as_ref(),
    };
    let clients = build_clients(&options).map_err(|error| error.to_string())?;
    Ok(KeptClients {
        clients: Arc::new(clients),
        note,
        refused: None,
        looked_at: Instant::now(),
    })
}

/// Looks at the files. Blocks.
fn look_at_files(settings: &ProviderSettings) -> TrustNote {
    let identity = settings.identity.iter();
    let identity = identity.flat_map(|files| [&files.certificate, &files.key]);
    let files = settings.ca_file.iter().chain(identity);
    TrustNote::take(files.map(PathBuf::as_path))
}
