//! Checks of problems that the host may repair while the daemon runs, such as
//! files with secrets that are missing or open to others. Each sink checks its
//! own files.

use std::path::Path;

use super::environment::Environment;
use super::settings::{KeySettings, Settings};
use crate::config_reader::problem::Problem;
use crate::config_reader::quote::redact_if_secret;
use crate::platform::secret_file::{self, ADMIN_CREDENTIAL_NAME, permission_check_for};

/// Lists the problems that the host may repair: `check` reports them, and `run`
/// starts anyway.
#[must_use]
pub fn host_problems(settings: &Settings, environment: &Environment) -> Vec<Problem> {
    let mut check = HostCheck {
        settings,
        environment,
        problems: Vec::new(),
    };
    check.check_credential();
    if let Some(file) = &settings.provider.ca_file {
        check.check_ca_file(file, "provider.ca-file".to_owned());
    }
    for key in &settings.keys {
        check.check_sinks(key);
    }
    check.problems
}

struct HostCheck<'s> {
    settings: &'s Settings,
    environment: &'s Environment,
    problems: Vec<Problem>,
}

impl HostCheck<'_> {
    fn check_credential(&mut self) {
        let location = || "provider.credential-file".to_owned();
        let directory = self.environment.credentials_directory.as_ref();
        let passed_file = directory.map(|folder| folder.join(ADMIN_CREDENTIAL_NAME));
        let passed_file = passed_file.filter(|file| file.exists());
        if let Some(file) = &self.settings.provider.credential_file {
            // At first the service manager passes the key; the first rotation
            // creates the file.
            let is_created_later = !file.exists() && self.has_self_credential_sink();
            if !(is_created_later && (passed_file.is_some() || self.is_in_credential_store())) {
                self.check_secret_file(file, location());
            }
            return;
        }
        match passed_file {
            Some(file) => self.check_secret_file(&file, location()),
            None if self.environment.has_admin_key || self.is_in_credential_store() => {}
            None => self.add_problem(
                location(),
                "there is no admin key for rekeyd to work with".to_owned(),
                "name its file here, or give it by systemd's LoadCredential=openai-admin-key",
            ),
        }
    }

    fn has_self_credential_sink(&self) -> bool {
        let mut sinks = self.settings.keys.iter().flat_map(|key| &key.sinks);
        sinks.any(|sink| sink.target.is_self_credential())
    }

    /// Whether the service will receive the admin key that this process,
    /// started from a shell, did not: under its own name, or the template's.
    fn is_in_credential_store(&self) -> bool {
        let instance = self.settings.file.file_stem().unwrap_or_default();
        let instance = format!("{ADMIN_CREDENTIAL_NAME}.{}", instance.to_string_lossy());
        let mut stores = self.environment.credential_stores.iter();
        stores.any(|store| {
            store.join(ADMIN_CREDENTIAL_NAME).exists() || store.join(&instance).exists()
        })
    }

    /// Checks the roots alone, since sinks check their files with secrets.
    fn check_sinks(&mut self, key: &KeySettings) {
        for sink in &key.sinks {
            if let Some(file) = sink.target.ca_file() {
                let location = format!("key.{}.sink.{}.ca-file", key.name, sink.id.name);
                self.check_ca_file(file, location);
            }
        }
    }

    fn check_secret_file(&mut self, file: &Path, location: String) {
        let folder = self.environment.credentials_directory.as_deref();
        if let Err(error) = secret_file::check(file, permission_check_for(file, folder)) {
            self.add_problem(location, error.to_string(), "");
        }
    }

    fn check_ca_file(&mut self, file: &Path, location: String) {
        let message = match std::fs::metadata(file) {
            Err(error) => format!("cannot look at {}: {error}", file.display()),
            Ok(metadata) if !metadata.is_file() => {
                format!("{} is not a regular file", file.display())
            }
            Ok(_) => return,
        };
        self.add_problem(
            location,
            message,
            "name a file with certificates in PEM form",
        );
    }

    fn add_problem(&mut self, location: String, message: String, hint: &str) {
        let problem = Problem::for_host(&self.settings.file, location, redact_if_secret(message));
        self.problems.push(Problem {
            hint: hint.to_owned(),
            ..problem
        });
    }
}
