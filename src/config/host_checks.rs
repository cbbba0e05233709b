//! What the host may repair while the daemon runs: files with secrets that are
//! missing or open to others. What only a sink can see is asked of the sink.

use std::path::Path;

use super::environment::Environment;
use super::settings::{KeySettings, Settings};
use crate::config_reader::problem::Problem;
use crate::config_reader::quote::redact_if_secret;
use crate::platform::secret_file::{self, ADMIN_CREDENTIAL_NAME, permission_check_for};

/// Everything that the host may repair: `check` shows it, and `run` starts
/// anyway.
#[must_use]
pub fn host_problems(settings: &Settings, environment: &Environment) -> Vec<Problem> {
    let mut found = HostCheck {
        settings,
        environment,
        problems: Vec::new(),
    };
    found.check_credential();
    if let Some(file) = &settings.provider.ca_file {
        found.check_ca_file(file, "provider.ca-file".to_owned());
    }
    for key in &settings.keys {
        found.check_sinks(key);
    }
    found.problems
}

struct HostCheck<'s> {
    settings: &'s Settings,
    environment: &'s Environment,
    problems: Vec<Problem>,
}

impl HostCheck<'_> {
    fn check_credential(&mut self) {
        let at = || "provider.credential-file".to_owned();
        let given = self.environment.credentials_directory.as_ref();
        let given = given.map(|folder| folder.join(ADMIN_CREDENTIAL_NAME));
        let given = given.filter(|file| file.exists());
        if let Some(file) = &self.settings.provider.credential_file {
            // The first one is the service manager's; the file is made when it
            // is rotated.
            let is_made = !file.exists() && self.has_self_credential_sink();
            if !(is_made && (given.is_some() || self.is_in_credential_store())) {
                self.check_secret_file(file, at());
            }
            return;
        }
        match given {
            Some(file) => self.check_secret_file(&file, at()),
            None if self.environment.has_admin_key || self.is_in_credential_store() => {}
            None => self.add_problem(
                at(),
                "there is no admin key for rekeyd to work with".to_owned(),
                "name its file here, or give it by systemd's LoadCredential=openai-admin-key",
            ),
        }
    }

    fn has_self_credential_sink(&self) -> bool {
        let mut sinks = self.settings.keys.iter().flat_map(|key| &key.sinks);
        sinks.any(|sink| sink.target.is_self_credential())
    }

    /// Whether the service will be given the admin key that this process, from
    /// a shell, was not: by its own name, or by the template's.
    fn is_in_credential_store(&self) -> bool {
        let instance = self.settings.file.file_stem().unwrap_or_default();
        let instance = format!("{ADMIN_CREDENTIAL_NAME}.{}", instance.to_string_lossy());
        let mut stores = self.environment.credential_stores.iter();
        stores.any(|store| {
            store.join(ADMIN_CREDENTIAL_NAME).exists() || store.join(&instance).exists()
        })
    }

    /// The roots alone: files with secrets are the sinks' own.
    fn check_sinks(&mut self, key: &KeySettings) {
        for sink in &key.sinks {
            if let Some(file) = sink.target.ca_file() {
                let at = format!("key.{}.sink.{}.ca-file", key.name, sink.id.name);
                self.check_ca_file(file, at);
            }
        }
    }

    fn check_secret_file(&mut self, file: &Path, at: String) {
        let folder = self.environment.credentials_directory.as_deref();
        if let Err(message) = secret_file::check(file, permission_check_for(file, folder)) {
            self.add_problem(at, message, "");
        }
    }

    fn check_ca_file(&mut self, file: &Path, at: String) {
        let message = match std::fs::metadata(file) {
            Err(error) => format!("cannot look at {}: {error}", file.display()),
            Ok(facts) if !facts.is_file() => format!("{} is not a regular file", file.display()),
            Ok(_) => return,
        };
        self.add_problem(at, message, "name a file with certificates in PEM form");
    }

    fn add_problem(&mut self, at: String, message: String, hint: &str) {
        let problem = Problem::for_host(&self.settings.file, at, redact_if_secret(message));
        self.problems.push(Problem {
            hint: hint.to_owned(),
            ..problem
        });
    }
}
