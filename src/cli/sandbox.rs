//! `rekeyd sandbox`: the local Admin API.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::cli::failure::Failure;
use crate::cli::output;
use crate::core::duration;
use crate::core::secret_text::SecretForm;
use crate::platform::path_walk::{self, PathTrust, TrustedPaths, WeaknessKind};
use crate::platform::secret_file::{self, PermissionCheck};
use crate::platform::signals;
use crate::sandbox::{
    DEFAULT_ADMIN_KEY, DEFAULT_PROJECT, Fault, ProjectOption, ProjectPolicy, PropagationDelays,
    Sandbox, SandboxOptions, Support,
};

#[derive(Debug, clap::Args)]
pub(crate) struct SandboxCommand {
    /// Address to listen on
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8787")]
    listen: SocketAddr,
    /// Admin key that the sandbox accepts from the start [default: a well-known one]
    #[arg(long, value_name = "SECRET", conflicts_with = "admin_key_file")]
    admin_key: Option<String>,
    /// File with the admin key that the sandbox accepts from the start
    #[arg(long, value_name = "FILE")]
    admin_key_file: Option<PathBuf>,
    /// Keep projects, accounts, keys and their secrets in this file across restarts
    #[arg(long, value_name = "FILE")]
    state: Option<PathBuf>,
    /// Inject a fault, such as create:drop-after:0.5; can be repeated
    #[arg(long = "fault", value_name = "OP[@PROJECT]:KIND:PROBABILITY")]
    faults: Vec<Fault>,
    /// Have this project from the start, with the service account svc_acct_NAME for
    /// proj_NAME; can be repeated
    #[arg(long = "project", value_name = "ID[,archived]", default_value = DEFAULT_PROJECT)]
    projects: Vec<ProjectOption>,
    /// Apply a rule to the new keys of a project: max-lifetime=DURATION, requires-lifetime or
    /// disabled; can be repeated
    #[arg(long = "policy", value_name = "PROJECT:RULE")]
    policies: Vec<ProjectPolicy>,
    /// Whether a key that a service account owns can be deleted
    #[arg(long, value_name = "SUPPORT", default_value_t)]
    deletion_of_account_keys: Support,
    /// Whether a project's key can be updated
    #[arg(long, value_name = "SUPPORT", default_value_t)]
    update_of_keys: Support,
    /// Delay until a new key works and a deleted key stops working
    #[arg(long, value_name = "DURATION", default_value = "0s", value_parser = duration::parse)]
    propagation: Duration,
}

impl SandboxCommand {
    pub(crate) async fn run(&self) -> Result<(), Failure> {
        let admin_key = self.read_admin_key()?;
        self.check_state_path()?;
        let sandbox = Sandbox::start(SandboxOptions {
            listen: self.listen,
            admin_key,
            state_file: self.state.clone(),
            faults: self.faults.clone(),
            projects: self.projects.clone(),
            policies: self.policies.clone(),
            account_key_deletion: self.deletion_of_account_keys,
            key_update: self.update_of_keys,
            delays: PropagationDelays {
                new_key: self.propagation,
                deleted_key: self.propagation,
            },
            ..SandboxOptions::default()
        })
        .await
        .map_err(|error| Failure::Other(error.to_string()))?;
        // Before the address is printed, since its reader may send a signal at
        // once.
        let mut signal_actions = signals::listen()?;
        output::print(startup_message(&sandbox).as_bytes())?;
        signal_actions.recv().await;
        Ok(())
    }

    /// Checks that no part of the path to the state belongs to another user, who could lead
    /// this process to write elsewhere.
    fn check_state_path(&self) -> Result<(), Failure> {
        let Some(state) = &self.state else {
            return Ok(());
        };
        let path = std::path::absolute(state)?;
        let walked = path_walk::walk_to_file(&path, &PathTrust::default());
        // A folder that is missing is reported when the state is written.
        let weaknesses = walked.map(|walked| walked.weaknesses).unwrap_or_default();
        let is_foreign = |kind| matches!(kind, WeaknessKind::Owner(_) | WeaknessKind::Link(_));
        let mut foreign = weaknesses
            .iter()
            .filter(|weakness| is_foreign(weakness.kind));
        foreign.next().map_or(Ok(()), |weakness| {
            Err(Failure::Other(format!(
                "cannot write {}: {weakness}; hint: use a folder of your own",
                state.display()
            )))
        })
    }

    /// Reads the admin key from the command line or from the file that it
    /// names.
    fn read_admin_key(&self) -> Result<Option<String>, Failure> {
        match (&self.admin_key, &self.admin_key_file) {
            (Some(secret), _) => Ok(Some(secret.clone())),
            (None, Some(path)) => secret_file::read(
                path,
                &PermissionCheck::Enforce(TrustedPaths::default()),
                SecretForm::AdminKey,
            )
            .map(|secret| Some(secret.expose().to_owned()))
            .map_err(|error| Failure::Other(error.to_string())),
            (None, None) => Ok(None),
        }
    }
}

/// Describes the value for `base-url`, and the admin key.
fn startup_message(sandbox: &Sandbox) -> String {
    let admin_key = sandbox.admin_key();
    let key_note = if !sandbox.accepts(admin_key.expose()) {
        "its admin key was deleted; hint: use another key of the state file, or start without that file\n"
            .to_owned()
    } else if admin_key.expose() == DEFAULT_ADMIN_KEY {
        format!("admin key, valid only here: {DEFAULT_ADMIN_KEY}\n")
    } else {
        String::new()
    };
    format!("base-url = \"{}\"\n{key_note}", sandbox.base_url())
}
