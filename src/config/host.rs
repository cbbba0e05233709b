//! What is wrong outside the file, and what the host may repair while the
//! daemon runs: files with secrets that are missing or open to others.

use std::path::Path;

use super::Environment;
use super::problem::{Kind, Problem};
use super::values::normal;
use crate::core::settings::{KeySettings, Settings, SinkTarget};
use crate::host::secret_file::{self, Checks};

/// The name of our own admin key in `$CREDENTIALS_DIRECTORY`.
const CREDENTIAL: &str = "openai-admin-key";

/// How closely a file with a secret is looked at: not at all for what systemd
/// put into the credentials directory.
#[must_use]
pub fn checks_for(path: &Path, environment: &Environment) -> Checks {
    match &environment.credentials_directory {
        Some(folder) if normal(path).starts_with(normal(folder)) => Checks::None,
        Some(_) | None => Checks::Full,
    }
}

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
        if let Some(file) = &self.settings.provider.credential_file {
            self.secret(file, at());
            return;
        }
        let given = self.environment.credentials_directory.as_ref();
        let given = given.map(|folder| folder.join(CREDENTIAL));
        match given {
            Some(file) if file.exists() => self.secret(&file, at()),
            Some(_) | None if self.environment.has_admin_key => {}
            Some(_) | None => self.add(
                at(),
                "there is no admin key for rekeyd to work with".to_owned(),
                "name its file here, or give it by systemd's LoadCredential=openai-admin-key",
            ),
        }
    }

    fn sinks(&mut self, key: &KeySettings) {
        for sink in &key.sinks {
            match &sink.target {
                SinkTarget::File(_) => {}
                SinkTarget::Webhook(webhook) => {
                    let at = |option| format!("key.{}.sink.{}.{option}", key.name, sink.id.name);
                    self.secret(&webhook.signing_secret_file, at("signing-secret-file"));
                    if let Some(file) = &webhook.bearer_token_file {
                        self.secret(file, at("bearer-token-file"));
                    }
                    if let Some(file) = &webhook.ca_file {
                        self.roots(file, at("ca-file"));
                    }
                }
            }
        }
    }

    fn secret(&mut self, file: &Path, at: String) {
        if let Err(message) = secret_file::inspect(file, checks_for(file, self.environment)) {
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
        self.problems.push(Problem {
            kind: Kind::Host,
            file: self.settings.file.clone(),
            line: None,
            at,
            message,
            hint: hint.to_owned(),
        });
    }
}
