//! Checks of problems that the host may repair while the daemon runs, such as
//! files with secrets that are missing or open to others. Each sink checks its
//! own files.

use std::path::Path;

use super::environment::Environment;
use super::settings::{MetricsAddress, Settings};
use super::unit::stored_admin_key;
use crate::config_reader::problem::Problem;
use crate::config_reader::quote::redact_if_secret;
use crate::core::loopback::is_loopback_address;
use crate::core::secret_text::SecretForm;
use crate::platform::admin_key_place::AdminKeyPlace;
use crate::platform::secret_file::{
    self, ADMIN_CREDENTIAL_NAME, ADMIN_KEY_VARIABLE, PermissionCheck, permission_check_for,
};
use crate::platform::users;
use crate::provider::failover::missing_key_advice;

/// What to do about metrics that other hosts can reach and nobody may read.
pub(crate) const OPEN_METRICS_HINT: &str =
    "set password-file in [metrics], or unprotected = true if everybody may read them";

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
    for (option, message) in settings.provider.connection_problems() {
        check.add_problem(format!("provider.{option}"), message);
    }
    check.check_metrics();
    let control = &settings.control;
    let super_admins = control.super_admins.iter().flatten();
    let groups = control.admins.iter().map(|group| ("admins", group));
    for (option, group) in groups.chain(super_admins.map(|group| ("super-admins", group))) {
        if let Some(error) = users::check_group(group) {
            check.add_problem(format!("control.{option}"), error.to_string());
        }
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
            // Without the file the daemon works with the key that the service
            // manager passes; a sink of type "self" creates the file later.
            let is_missing = matches!(file.try_exists(), Ok(false));
            let is_passed = passed_file.is_some() || self.environment.passed_admin_key.is_some();
            let is_stored = self.has_self_credential_sink() && self.is_in_credential_store();
            if !(is_missing && (is_passed || is_stored)) {
                self.check_secret_file(file, location());
                return;
            }
        }
        match passed_file {
            Some(file) => self.check_service_file(&file, location()),
            None if self.is_in_credential_store() => {}
            None if self.environment.passed_admin_key.is_some() => {
                self.check_passed_key(location())
            }
            None => self.check_variable(location()),
        }
    }

    /// Checks the admin key that the service manager would pass.
    fn check_passed_key(&mut self, location: String) {
        if let Some(Err(error)) = &self.environment.passed_admin_key {
            let shown = format!("the unit's {ADMIN_CREDENTIAL_NAME}");
            let message = self.service_place().explain_text(&shown, error);
            self.add_problem(location, message);
        }
    }

    /// Checks the last of the places where the admin key may be.
    fn check_variable(&mut self, location: String) {
        match &self.environment.admin_key_variable {
            Some(Ok(())) => {}
            Some(Err(error)) => {
                let message = format!("${ADMIN_KEY_VARIABLE} {error}");
                self.add_problem(location, message);
            }
            None => {
                let advice = missing_key_advice(stored_admin_key(&self.settings.file).as_ref());
                self.add_problem(location, format!("found no admin key; hint: {advice}"));
            }
        }
    }

    /// Checks who may read the metrics.
    fn check_metrics(&mut self) {
        let access = &self.settings.metrics_access;
        if let Some(file) = &access.password_file {
            let folder = self.environment.credentials_directory.as_deref();
            let check = permission_check_for(file, folder, self.settings.trusted_paths());
            if let Err(error) = secret_file::check(file, &check, SecretForm::Token) {
                self.add_problem("metrics.password-file".to_owned(), error.to_string());
            }
        }
        let Some(MetricsAddress::Tcp(address)) = &self.settings.metrics else {
            return;
        };
        if access.refuses_other_hosts() && !is_loopback_address(address.ip()) {
            let message = format!(
                "/metrics at {address} answers 403, because other hosts could read the names of \
                 keys and sinks; hint: {OPEN_METRICS_HINT}"
            );
            self.add_problem("metrics.listen".to_owned(), message);
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

    fn check_secret_file(&mut self, file: &Path, location: String) {
        let folder = self.environment.credentials_directory.as_deref();
        if let Err(error) = secret_file::check(
            file,
            &permission_check_for(file, folder, self.settings.trusted_paths()),
            SecretForm::AdminKey,
        ) {
            self.add_problem(location, error.to_string());
        }
    }

    /// Checks the copy of the admin key that the service manager has passed.
    fn check_service_file(&mut self, file: &Path, location: String) {
        let checked = secret_file::check(file, &PermissionCheck::Skip, SecretForm::AdminKey);
        if let Err(error) = checked {
            let message = self.service_place().explain_file(&error);
            self.add_problem(location, message);
        }
    }

    fn service_place(&self) -> AdminKeyPlace {
        AdminKeyPlace::Service {
            copy: None,
            stored: stored_admin_key(&self.settings.file),
        }
    }

    fn add_problem(&mut self, location: String, message: String) {
        let problem = Problem::for_host(&self.settings.file, location, redact_if_secret(message));
        self.problems.push(problem);
    }
}
