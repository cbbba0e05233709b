//! Commands for a running daemon, also while its configuration file has a
//! mistake: they work with the configuration that the daemon has loaded.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::cli::context::{GlobalOptions, read_environment};
use crate::cli::daemon_client::{ANSWER_TIMEOUT, DaemonAddress, DaemonClient, connect};
use crate::cli::failure::Failure;
use crate::cli::output;
use crate::cli::terminal_text::visible_path;
use crate::config::settings::Settings;
use crate::config::{self, DEFAULT_FILE, DEFAULT_SOCKET};
use crate::daemon::runtime;
use crate::ledger::{LedgerReader, WriterLock};
use crate::platform::file_identity::is_same_file;

/// The options of commands that a running daemon answers, or whose ledger it
/// writes.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct DaemonOptions {
    /// Control socket of the running rekeyd, instead of the configured one
    #[arg(long, value_name = "PATH")]
    pub(super) socket: Option<PathBuf>,
    /// Ledger file, instead of the configured one
    #[arg(long, value_name = "PATH")]
    pub(super) ledger: Option<PathBuf>,
}

/// What a command works with.
pub(crate) enum CommandTarget {
    /// The configuration in the file.
    File(Arc<Settings>),
    /// The daemon that runs with an earlier version of the file, which has a
    /// mistake now.
    Daemon(Box<DaemonClient>),
}

/// The mistakes of a configuration of which the daemon still uses an earlier version.
pub(crate) struct UnloadedMistakes {
    mistakes: String,
    warning: String,
}

impl UnloadedMistakes {
    /// Reports them, unless a problem that the command prints has the same text.
    pub(crate) fn report_unless_in(&self, problems: &[String]) {
        let mut problems = problems.iter();
        if !problems.any(|problem| problem.contains(&self.mistakes)) {
            output::report_warning(&self.warning);
        }
    }
}

impl DaemonOptions {
    /// Returns the configuration in the file, or else the daemon that runs with
    /// an earlier version of it. Reports the mistake then.
    pub(super) async fn target(&self, options: &GlobalOptions) -> Result<CommandTarget, Failure> {
        let (target, mistakes) = self.find_target(options).await?;
        if let Some(mistakes) = mistakes {
            mistakes.report_unless_in(&[]);
        }
        Ok(target)
    }

    async fn find_target(
        &self,
        options: &GlobalOptions,
    ) -> Result<(CommandTarget, Option<UnloadedMistakes>), Failure> {
        let mistake = match options.load_settings() {
            Ok(settings) => return Ok((CommandTarget::File(self.apply(settings)), None)),
            Err(mistake) => mistake,
        };
        let Some(daemon) = self.find_daemon_of(&options.config).await? else {
            self.report_other_way(&options.config);
            return Err(mistake);
        };
        let is_unchanged = config::load_lenient(&options.config, &read_environment())
            .is_some_and(|settings| daemon.has_loaded(&settings));
        let warning = if is_unchanged {
            format!(
                "this host has changed since the running rekeyd loaded its configuration; rekeyd \
                 still uses what it loaded (a time zone that no longer exists is shown as UTC \
                 here):\n{mistake}"
            )
        } else {
            format!(
                "the configuration has mistakes; the running rekeyd still uses the version that it \
                 loaded before:\n{mistake}"
            )
        };
        let mistakes = UnloadedMistakes {
            mistakes: mistake.to_string(),
            warning,
        };
        Ok((CommandTarget::Daemon(Box::new(daemon)), Some(mistakes)))
    }

    /// Describes how to reach a daemon whose file cannot be used at all, so that its socket is
    /// not known.
    fn report_other_way(&self, file: &Path) {
        let is_readable = config::load_lenient(file, &read_environment()).is_some();
        if !is_readable && self.socket.is_none() {
            output::report_note(
                "without this file the socket is not known; hint: if rekeyd runs, add --socket PATH \
                 to use what it has loaded",
            );
        }
    }

    /// Returns the configuration in the file, or else the one that the daemon
    /// has loaded. Refuses a ledger that may be that of another organization.
    pub(super) async fn settings(&self, options: &GlobalOptions) -> Result<Arc<Settings>, Failure> {
        let (settings, mistakes) = self.settings_and_mistakes(options).await?;
        if let Some(mistakes) = mistakes {
            mistakes.report_unless_in(&[]);
        }
        Ok(settings)
    }

    /// Returns the configuration as [`Self::settings`] does, with the mistakes that the caller
    /// reports.
    pub(super) async fn settings_and_mistakes(
        &self,
        options: &GlobalOptions,
    ) -> Result<(Arc<Settings>, Option<UnloadedMistakes>), Failure> {
        let (target, mistakes) = self.find_target(options).await?;
        let settings = match target {
            CommandTarget::File(settings) => match self.find_named_daemon(&settings).await? {
                Some(daemon) => {
                    daemon.warn_if_config_is_stale(&settings);
                    self.loaded_settings(&daemon).await?
                }
                None => {
                    Self::check_ledger_is_meant(&settings)?;
                    settings
                }
            },
            CommandTarget::Daemon(daemon) => self.loaded_settings(&daemon).await?,
        };
        Ok((settings, mistakes))
    }

    /// Returns the daemon at the socket that the command names, if it has loaded another
    /// file than that of `settings`, or writes another ledger: the command is about it.
    async fn find_named_daemon(
        &self,
        settings: &Settings,
    ) -> Result<Option<DaemonClient>, Failure> {
        let Some(socket) = &self.socket else {
            return Ok(self.find_daemon_with_other_ledger(settings).await);
        };
        let address = DaemonAddress {
            socket,
            ledger: Some(&settings.ledger),
            trusts_folder: true,
        };
        let connecting = tokio::time::timeout(ANSWER_TIMEOUT, connect(address)).await;
        let Ok(Some(daemon)) = connecting.unwrap_or(Ok(None)) else {
            // A user who may not ask the daemon, or gets no answer, sees the ledger of the
            // file, and the reason.
            return Ok(None);
        };
        let writes_ledger = daemon.writes_ledger(&settings.ledger);
        if self.ledger.is_some() && !writes_ledger {
            return Err(Failure::Other(format!(
                "the rekeyd at {} writes the ledger {}, not {}; hint: use --socket or --ledger, \
                 not both",
                socket.display(),
                visible_path(daemon.ledger()),
                settings.ledger.display()
            )));
        }
        let is_configured =
            writes_ledger && is_same_file(daemon.configuration_file(), &settings.file);
        Ok((!is_configured && daemon.doubt().is_none()).then_some(daemon))
    }

    /// Returns the daemon that runs with the file of `settings`, if that named another ledger
    /// when it was loaded.
    async fn find_daemon_with_other_ledger(&self, settings: &Settings) -> Option<DaemonClient> {
        if self.ledger.is_some() || WriterLock::holder(&settings.ledger).is_some() {
            return None;
        }
        let connecting = connect(DaemonAddress {
            socket: settings.control.socket.as_deref()?,
            ledger: Some(&settings.ledger),
            trusts_folder: false,
        });
        let connecting = tokio::time::timeout(ANSWER_TIMEOUT, connecting).await;
        let daemon = connecting.ok()?.ok()??;
        let is_meant = daemon.doubt().is_none() && daemon.uses_earlier_ledger(settings);
        is_meant.then_some(daemon)
    }

    /// Returns the configuration that a daemon has loaded, and its ledger.
    pub(super) async fn loaded_settings(
        &self,
        daemon: &DaemonClient,
    ) -> Result<Arc<Settings>, Failure> {
        let (file, text) = daemon.configuration().await?;
        // This host may have changed since: what the daemon runs with is not judged again.
        let loaded = config::parse_loaded(Path::new(&file), &text, &read_environment());
        let (Some(mut settings), _) = loaded else {
            return Err(Failure::from_problems(loaded.1));
        };
        if let Some(socket) = &self.socket {
            settings.control.socket = Some(socket.clone());
        }
        settings.ledger = daemon.ledger().to_owned();
        Ok(Arc::new(settings))
    }

    /// Refuses a ledger that the file does not name and that another configuration writes.
    fn check_ledger_is_meant(settings: &Settings) -> Result<(), Failure> {
        let configuration = runtime::configuration_identity(settings);
        // A user who cannot read the ledger asks the daemon, which names its ledger and its
        // configuration.
        let reader = LedgerReader::open_existing(&settings.ledger);
        match reader {
            Ok(Some(reader)) if !configuration.names_ledger => {
                Ok(reader.snapshot()?.check_configuration(&configuration)?)
            }
            Ok(_) | Err(_) => Ok(()),
        }
    }

    fn apply(&self, settings: Arc<Settings>) -> Arc<Settings> {
        if self.socket.is_none() && self.ledger.is_none() {
            return settings;
        }
        let mut changed = Settings::clone(&settings);
        if let Some(socket) = &self.socket {
            changed.control.socket = Some(socket.clone());
        }
        if let Some(ledger) = &self.ledger {
            changed.ledger = absolute(ledger);
            changed.is_ledger_named = true;
            // It is that of the configured ledger.
            changed.snapshot = None;
        }
        Arc::new(changed)
    }

    /// Returns the running daemon of a configuration file that cannot be read.
    /// Another organization's daemon may listen on the same socket, so that it
    /// has to say that it runs with this very file, unless the command names
    /// the socket or the ledger.
    async fn find_daemon_of(&self, file: &Path) -> Result<Option<DaemonClient>, Failure> {
        let file = absolute(file);
        let is_named = |daemon: &DaemonClient| match &self.ledger {
            Some(ledger) => daemon.writes_ledger(&absolute(ledger)),
            None => self.socket.is_some(),
        };
        let settings = config::load_lenient(&file, &read_environment());
        let ledger = settings.as_ref().map(|settings| settings.ledger.as_path());
        for socket in self.sockets_of(&file, settings.as_ref()) {
            let address = DaemonAddress {
                socket: &socket,
                ledger: self.ledger.as_deref().or(ledger),
                // Root makes the folders of services there.
                trusts_folder: self.socket.is_some() || is_below_run(&socket),
            };
            let daemon = match connect(address).await {
                Ok(Some(daemon)) => daemon,
                Err(error) if self.socket.is_some() => return Err(error),
                // It need not be the socket of this file.
                Ok(None) | Err(_) => continue,
            };
            if is_named(&daemon) || is_same_file(daemon.configuration_file(), &file) {
                return Ok(Some(daemon));
            }
        }
        Ok(None)
    }

    /// Lists where the daemon of a configuration file may listen.
    fn sockets_of(&self, file: &Path, settings: Option<&Settings>) -> Vec<PathBuf> {
        if let Some(socket) = &self.socket {
            return vec![socket.clone()];
        }
        // What can be read of the file, the default, that of a template's unit, and that
        // which the ledger's lock file names.
        let readable = settings.and_then(|settings| settings.control.socket.clone());
        let instance = file.file_stem().unwrap_or_default().to_string_lossy();
        let instance = PathBuf::from(format!("/run/rekeyd-{instance}/control.sock"));
        // The daemon may listen where an earlier version of the file said.
        let ledger = settings.map(|settings| settings.ledger.as_path());
        let recorded = self.ledger.as_deref().or(ledger);
        let recorded = recorded.and_then(WriterLock::recorded_socket);
        let mut sockets: Vec<_> = readable
            .into_iter()
            .chain([PathBuf::from(DEFAULT_SOCKET), instance])
            .chain(recorded)
            .collect();
        sockets.dedup();
        sockets
    }
}

/// Reports the mistakes of the configuration to a user who reads a ledger without it. There
/// need be no configuration at the default place.
pub(super) fn report_mistakes(options: &GlobalOptions) {
    let file = &options.config;
    if file == Path::new(DEFAULT_FILE) && !file.exists() {
        return;
    }
    if let Err(mistake) = options.load_settings() {
        output::report_warning(&format!(
            "the configuration has mistakes; this ledger is read without it:\n{mistake}"
        ));
    }
}

/// Returns whether a socket is where the units of rekeyd have theirs.
fn is_below_run(socket: &Path) -> bool {
    socket
        .to_str()
        .is_some_and(|socket| socket.starts_with("/run/rekeyd"))
}

fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}
