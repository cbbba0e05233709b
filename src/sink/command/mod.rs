//! A program of this host that reads the secret from its standard input.
//!
//! It reads the secret and a newline, as in a file with `format = "raw"`; its
//! environment identifies the delivery. Its exit code says whether it accepted
//! the secret. The sink deliberately runs no shell, and never runs the program
//! without a secret to test it.

mod options;
mod rehearsal;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use secrecy::zeroize::Zeroizing;

use crate::config_reader::reader::ConfigTable;
use crate::config_reader::report::ProblemReport;
use crate::core::command::{CommandLine, delivery_environment};
use crate::core::ids::SinkId;
use crate::platform::path_walk::TrustedPaths;
use crate::platform::process::{ExitKind, Invocation, ProcessExit, check_executable, run};
use crate::platform::run_blocking;
use crate::sink::program_log::{self, ProgramContext};
use crate::sink::target::{
    ReadContext, Rehearsal, RehearsalPaths, SinkServices, SinkSettings, SinkTarget, SinkType,
    Substitute,
};
use crate::sink::{DeliveryError, Destination, Payload, Sink, SinkError, SinkProblem};

pub use self::options::CommandTarget;

/// The type of these sinks.
pub static TYPE: SinkType = SinkType {
    name: "command",
    options: options::OPTIONS,
    replaces_file: false,
    record_folder: Some(rehearsal::FOLDER),
    read,
};

fn read(
    table: &ConfigTable<'_>,
    context: &mut ReadContext<'_, '_>,
    report: &mut ProblemReport,
) -> Option<Arc<dyn SinkTarget>> {
    Some(Arc::new(options::read(table, &mut context.files, report)?))
}

impl SinkTarget for CommandTarget {
    fn sink_type(&self) -> &'static SinkType {
        &TYPE
    }

    fn identity(&self) -> String {
        self.argv.to_string()
    }

    fn rehearsal(&self, _: &RehearsalPaths<'_>) -> Rehearsal {
        let Self { argv } = self;
        Rehearsal {
            original: argv.to_string(),
            ignored_options: Vec::new(),
            substitute: Substitute::Record(rehearsal::recorder(argv.clone())),
        }
    }

    fn build(
        self: Arc<Self>,
        settings: &Arc<SinkSettings>,
        services: &SinkServices,
    ) -> Arc<dyn Sink> {
        let trusted_paths = services.protected_files.trusted_paths();
        Arc::new(CommandSink::new(settings, &self, trusted_paths))
    }
}

/// The program accepted the secret.
const EXIT_ACCEPTED: i32 = 0;

/// The program did not accept the secret and asks for a retry: `EX_TEMPFAIL`.
const EXIT_TRY_LATER: i32 = 75;

/// A sink that runs a program for each new secret.
#[derive(Debug)]
pub struct CommandSink {
    id: SinkId,
    timeout: Duration,
    command: CommandLine,
    trusted_paths: TrustedPaths,
}

impl CommandSink {
    /// Returns a sink for `target`, without checking it.
    #[must_use]
    pub fn new(
        settings: &SinkSettings,
        target: &CommandTarget,
        trusted_paths: &TrustedPaths,
    ) -> Self {
        Self {
            id: settings.id.clone(),
            timeout: settings.timeout,
            command: target.argv.clone(),
            trusted_paths: trusted_paths.clone(),
        }
    }

    /// Classifies the program's exit: whether it accepted the secret.
    fn classify_exit(&self, exit: &ProcessExit) -> Result<(), DeliveryError> {
        let program = &self.command.program;
        let description = exit.describe(program, self.timeout);
        match &exit.kind {
            ExitKind::Code(EXIT_ACCEPTED) => Ok(()),
            ExitKind::NotStarted(_) => Err(DeliveryError::not_accepted(description)),
            ExitKind::Code(EXIT_TRY_LATER) => Err(DeliveryError::not_accepted(format!(
                "{program} exited with code {EXIT_TRY_LATER} (try again later){}",
                exit.error_suffix()
            ))),
            ExitKind::Code(_) | ExitKind::Signal(_) | ExitKind::TimedOut | ExitKind::Failed(_) => {
                Err(DeliveryError::uncertain(format!(
                    "{description}; it may have stored the secret"
                )))
            }
        }
    }
}

#[async_trait]
impl Sink for CommandSink {
    fn destination(&self) -> Destination {
        Destination::Program
    }

    fn id(&self) -> &SinkId {
        &self.id
    }

    async fn check(&self) -> Vec<SinkProblem> {
        let path = self.command.path().to_owned();
        let describe = || format!("checking {}", self.command.program);
        let trusted_paths = self.trusted_paths.clone();
        let check = move || check_executable(&path, &trusted_paths);
        let problem = match run_blocking(describe, self.timeout, check).await {
            Ok(problem) => problem.map(SinkProblem::host),
            Err(error) => Some(error.into()),
        };
        problem.into_iter().collect()
    }

    async fn preflight(&self) -> Result<(), SinkError> {
        SinkError::if_any(self.check().await)
    }

    async fn deliver(&self, payload: &Payload) -> Result<(), DeliveryError> {
        let environment = delivery_environment(
            payload.key.as_str(),
            payload.rotation.as_str(),
            payload.sequence,
            &self.id.name,
            payload.credential.id.as_str(),
        );
        let exit = run(Invocation {
            command: &self.command,
            environment: &environment,
            stdin: stdin_content(payload),
            timeout: self.timeout,
            trusted_paths: &self.trusted_paths,
        })
        .await;
        let context = ProgramContext {
            role: "command",
            key: &payload.key,
            rotation: &payload.rotation,
            sink: &self.id,
        };
        program_log::log_output(&context, &exit);
        self.classify_exit(&exit)
    }
}

/// Returns the secret and a newline, in a buffer that is wiped on drop.
fn stdin_content(payload: &Payload) -> Zeroizing<Vec<u8>> {
    let secret = payload.secret.expose();
    let mut input = Zeroizing::new(Vec::with_capacity(secret.len() + 1));
    input.extend_from_slice(secret.as_bytes());
    input.push(b'\n');
    input
}
