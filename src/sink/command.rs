//! A program of this host, which takes the secret on its standard input.
//!
//! It gets the secret and a newline, as a file with `format = "raw"` does, and
//! knows in its environment what it was given. Its exit code says what became
//! of the secret. What this deliberately does not do: ask a shell, or run the
//! program without a secret, to see whether it would work.

use std::time::Duration;

use async_trait::async_trait;
use secrecy::zeroize::Zeroizing;

use crate::core::command::{CommandLine, delivery_variables};
use crate::core::duration;
use crate::core::names::SinkId;
use crate::core::settings::{CommandTarget, SinkSettings};
use crate::host::aside;
use crate::host::program::{Ended, How, Run, problem, run};
use crate::sink::program::{self, Whose};
use crate::sink::{DeliveryError, Parcel, Sink, Taken};

/// The program has taken it.
const ACCEPTED: i32 = 0;

/// The program has not taken it and wants to be asked again: `EX_TEMPFAIL`.
const NOT_TAKEN: i32 = 75;

/// A program that takes each new secret.
#[derive(Debug)]
pub struct CommandSink {
    id: SinkId,
    timeout: Duration,
    line: CommandLine,
}

impl CommandSink {
    /// A sink for `target`; nothing is looked at yet.
    #[must_use]
    pub fn new(settings: &SinkSettings, target: &CommandTarget) -> Self {
        Self {
            id: settings.id.clone(),
            timeout: settings.timeout,
            line: target.argv.clone(),
        }
    }

    /// What the exit says of the secret.
    fn judge(&self, ended: &Ended) -> Result<(), DeliveryError> {
        let program = &self.line.program;
        let maybe = "it may have taken the secret; it is tried again";
        let (taken, message) = match &ended.how {
            How::Code(ACCEPTED) => return Ok(()),
            How::NotStarted(why) => (Taken::No, why.clone()),
            How::Code(NOT_TAKEN) => (
                Taken::No,
                format!(
                    "{program} wants to be asked later (exit code {NOT_TAKEN}){}",
                    ended.quoted()
                ),
            ),
            How::Code(code) => (
                Taken::Maybe,
                format!(
                    "{program} ended with exit code {code}{}; {maybe}",
                    ended.quoted()
                ),
            ),
            How::Signal(signal) => (
                Taken::Maybe,
                format!(
                    "{program} was ended by signal {signal}{}; {maybe}",
                    ended.quoted()
                ),
            ),
            How::TimedOut => (
                Taken::Maybe,
                format!(
                    "{program} did not end within {} and was killed{}; {maybe}",
                    duration::to_text(self.timeout),
                    ended.quoted()
                ),
            ),
            How::Failed(why) => (
                Taken::Maybe,
                format!("{program} was started, and then the system failed: {why}; {maybe}"),
            ),
        };
        Err(DeliveryError { taken, message })
    }
}

#[async_trait]
impl Sink for CommandSink {
    fn id(&self) -> &SinkId {
        &self.id
    }

    async fn inspect(&self) -> Vec<String> {
        let path = self.line.path().to_owned();
        let found = aside(&self.line.program, self.timeout, move || problem(&path));
        match found.await {
            Ok(problem) => problem.into_iter().collect(),
            Err(problem) => vec![problem],
        }
    }

    async fn preflight(&self) -> Result<(), String> {
        let problems = self.inspect().await;
        if problems.is_empty() {
            Ok(())
        } else {
            Err(problems.join("; "))
        }
    }

    async fn deliver(&self, parcel: &Parcel) -> Result<(), DeliveryError> {
        let variables = delivery_variables(
            parcel.key.as_str(),
            parcel.rotation.as_str(),
            parcel.sequence,
            &self.id.name,
            parcel.credential.id.as_str(),
        );
        let ended = run(Run {
            line: &self.line,
            variables: &variables,
            input: input(parcel),
            timeout: self.timeout,
        })
        .await;
        let whose = Whose {
            what: "command",
            key: &parcel.key,
            rotation: &parcel.rotation,
            sink: &self.id,
        };
        program::log(&whose, &ended);
        self.judge(&ended)
    }
}

/// The secret and a newline, wiped when it is dropped.
fn input(parcel: &Parcel) -> Zeroizing<Vec<u8>> {
    let secret = parcel.secret.expose();
    let mut input = Zeroizing::new(Vec::with_capacity(secret.len() + 1));
    input.extend_from_slice(secret.as_bytes());
    input.push(b'\n');
    input
}
