//! What the host may repair while the daemon runs: files with secrets that are
//! missing or open to others. What only a sink can see is asked of the sink.

use std::path::Path;

use super::Environment;
use super::problem::Problem;
use super::quote::unless_secret;
use crate::core::settings::{KeySettings, Settings, SinkTarget};
use crate::host::secret_file::{self, ADMIN_CREDENTIAL, checks_for};

/// Everything that the host may repair: `check` shows it, and `run` starts
/// anyway.
#[must_use]
pub fn host_problems(settings: &Settings, environment: &Environment) -> Vec<Problem> {
    let mut found = Found {
        settings,
        environment,
        problems: Vec::new(),
    };
    found.credential();
    if let Some(file) = &settings.provider.ca_file {
        found.roots(file, "provider.ca-file".to_owned());
    }
    for key in &settings.keys {
        found.sinks(key);
    }
    found.problems
}

struct Found<'s> {
    settings: &'s Settings,
    environment: &'s Environment,
    problems: Vec<Problem>,
}

impl Found<'_> {
    fn credential(&mut self) {
        let at = || "provider.credential-file".to_owned();
        let given = self.environment.credentials_directory.as_ref();
        let given = given.map(|folder| folder.join(ADMIN_CREDENTIAL));
        let given = given.filter(|file| file.exists());
        if let Some(file) = &self.settings.provider.credential_file {
            // The first one is the service manager's; the file is made when it
            // is rotated.
            let is_made = !file.exists() && self.has_own_sink();
            if !(is_made && (given.is_some() || self.is_stored_for_the_service())) {
                self.secret(file, at());
            }
            return;
        }
        match given {
            Some(file) => self.secret(&file, at()),
            None if self.environment.has_admin_key || self.is_stored_for_the_service() => {}
            None => self.add(
                at(),
                "there is no admin key for rekeyd to work with".to_owned(),
                "name its file here, or give it by systemd's LoadCredential=openai-admin-key",
            ),
        }
    }

    fn has_own_sink(&self) -> bool {
        let mut sinks = self.settings.keys.iter().flat_map(|key| &key.sinks);
        sinks.any(|sink| matches!(sink.target, SinkTarget::Own(_)))
    }

    /// Whether the service will be given the admin key that this process, from
    /// a shell, was not: by its own name, or by the template's.
    fn is_stored_for_the_service(&self) -> bool {
        let instance = self.settings.file.file_stem().unwrap_or_default();
        let instance = format!("{ADMIN_CREDENTIAL}.{}", instance.to_string_lossy());
        let mut stores = self.environment.credential_stores.iter();
        stores.any(|store| store.join(ADMIN_CREDENTIAL).exists() || store.join(&instance).exists())
    }

    /// The roots alone: files with secrets are the sinks' own.
    fn sinks(&mut self, key: &KeySettings) {
        for sink in &key.sinks {
            match &sink.target {
                SinkTarget::File(_) | SinkTarget::Command(_) | SinkTarget::Own(_) => {}
                SinkTarget::Webhook(webhook) => {
                    if let Some(file) = &webhook.ca_file {
                        let at = format!("key.{}.sink.{}.ca-file", key.name, sink.id.name);
                        self.roots(file, at);
                    }
                }
            }
        }
    }

    fn secret(&mut self, file: &Path, at: String) {
        let folder = self.environment.credentials_directory.as_deref();
        if let Err(message) = secret_file::inspect(file, checks_for(file, folder)) {
            self.add(at, message, "");
        }
    }

    fn roots(&mut self, file: &Path, at: String) {
        let message = match std::fs::metadata(file) {
            Err(error) => format!("cannot look at {}: {error}", file.display()),
            Ok(facts) if !facts.is_file() => format!("{} is not a regular file", file.display()),
            Ok(_) => return,
        };
        self.add(at, message, "name a file with certificates in PEM form");
    }

    fn add(&mut self, at: String, message: String, hint: &str) {
        let problem = Problem::of_host(self.settings, at, unless_secret(message));
        self.problems.push(Problem {
            hint: hint.to_owned(),
            ..problem
        });
    }
}
