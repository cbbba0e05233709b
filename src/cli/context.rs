//! The input that all commands share: the global options, the configuration and
//! the environment.

use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;

use crate::cli::failure::Failure;
use crate::cli::passed_key::passed_admin_key;
use crate::config::settings::{KeySettings, Settings};
use crate::config::{self, Environment, KnownKeys, describe_unknown_key};
use crate::core::ids::KeyName;
use crate::core::secret_text::{self, SecretForm};
use crate::platform::clock::{Clock as _, SystemClock};
use crate::platform::log::filter::{self, LogFilter};
use crate::platform::log::format::LogFormat;
use crate::platform::secret_file::ADMIN_KEY_VARIABLE;
use crate::provider::failover::AdminCredentialSources;

/// The heading of the options that every command has.
const GLOBAL_HEADING: &str = "Global options";

/// The variable with the log level, unless the command line has one.
const LOG_VARIABLE: &str = "REKEYD_LOG";

// A doc comment here would take the place of the program's description.
#[derive(Debug, Args)]
pub(crate) struct GlobalOptions {
    /// Configuration file
    #[arg(
        long,
        global = true,
        value_name = "PATH",
        env = "REKEYD_CONFIG",
        default_value = config::DEFAULT_FILE,
        help_heading = GLOBAL_HEADING
    )]
    pub(super) config: PathBuf,
    /// Log level: error, warn, info (the default), debug or trace, also for single modules, as in
    /// info,engine=debug
    #[arg(
        long,
        global = true,
        value_name = "FILTER",
        env = LOG_VARIABLE,
        value_parser = filter::parse,
        hide_env_values = true,
        help_heading = GLOBAL_HEADING
    )]
    pub(super) log_level: Option<LogFilter>,
    /// Format of the log on standard error [default: auto]
    #[arg(
        long,
        global = true,
        value_name = "FORMAT",
        value_enum,
        help_heading = GLOBAL_HEADING
    )]
    pub(super) log_format: Option<LogFormat>,
}

impl GlobalOptions {
    /// Returns the configuration, or every problem with it.
    pub(super) fn load_settings(&self) -> Result<Arc<Settings>, Failure> {
        load_configuration(&self.config, &read_environment())
    }
}

/// Returns the sources of the admin key.
pub(super) fn credential_sources(settings: &Settings) -> AdminCredentialSources {
    AdminCredentialSources {
        file: settings.provider.credential_file.clone(),
        credentials_directory: read_environment().credentials_directory,
        passed_secret: passed_admin_key(),
        trusted_paths: settings.trusted_paths().clone(),
        stored: config::stored_admin_key(&settings.file),
        env_secret: std::env::var_os(ADMIN_KEY_VARIABLE)
            .filter(|value| !value.is_empty())
            .map(|value| secret_text::parse_variable(value.into_vec(), SecretForm::AdminKey)),
    }
}

/// Returns the configuration in `file`, or every problem with it.
pub(super) fn load_configuration(
    file: &Path,
    environment: &Environment,
) -> Result<Arc<Settings>, Failure> {
    let settings = config::load(file, environment).map(Arc::new);
    settings.map_err(Failure::from_problems)
}

/// Returns the key with this name.
pub(super) fn find_key<'s>(settings: &'s Settings, name: &str) -> Result<&'s KeySettings, Failure> {
    let mut keys = settings.keys.iter();
    keys.find(|key| key.name.as_str() == name).ok_or_else(|| {
        let names = settings.keys.iter().map(|key| &key.name);
        unknown_key(name, names, "configured")
    })
}

/// Returns the failure of a command about a key that does not exist where it was looked for.
pub(super) fn unknown_key<'k>(
    name: &str,
    configured: impl Iterator<Item = &'k KeyName>,
    place: &str,
) -> Failure {
    let configured: Vec<_> = configured.cloned().collect();
    let known = KnownKeys {
        configured: &configured,
        all: &configured,
    };
    Failure::Other(describe_unknown_key(name, place, known))
}

/// Returns the parts of the environment that a configuration depends on.
pub(super) fn read_environment() -> Environment {
    Environment {
        passed_admin_key: passed_admin_key().map(|passed| passed.map(drop)),
        ..Environment::read(SystemClock.now(), |name| std::env::var_os(name))
    }
}

/// Runs a command on one thread, since file work and the ledger have threads of
/// their own.
pub(super) fn block_on(work: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let result = runtime.block_on(work);
    // Tasks that still run are dropped: everything that matters is on disk.
    runtime.shutdown_background();
    result
}
