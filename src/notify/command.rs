//! A program of this host, which reads the notice from its standard input.

use async_trait::async_trait;
use secrecy::zeroize::Zeroizing;

use crate::core::command::CommandLine;
use crate::core::notice::{Notice, NotifierId};
use crate::host::program::{self, Run};
use crate::notify::{Notifier, TIMEOUT, judge, message, off_thread};

/// A program that is told.
#[derive(Debug)]
pub struct Command {
    id: NotifierId,
    line: CommandLine,
}

impl Command {
    /// Tells `line`; nothing is looked at yet.
    #[must_use]
    pub const fn new(id: NotifierId, line: CommandLine) -> Self {
        Self { id, line }
    }
}

#[async_trait]
impl Notifier for Command {
    fn id(&self) -> &NotifierId {
        &self.id
    }

    async fn inspect(&self) -> Vec<String> {
        let path = self.line.path().to_owned();
        let found = off_thread(&self.line.program, move || program::problem(&path)).await;
        found.unwrap_or_else(Some).into_iter().collect()
    }

    async fn tell(&self, notice: &Notice, host: &str) -> Result<(), String> {
        let mut input = message::body(notice, host)?;
        input.push(b'\n');
        let key = notice.cause.key.as_ref();
        let variables = [
            ("REKEYD_NOTICE", notice.id.to_string()),
            ("REKEYD_EVENT", notice.occasion().as_str().to_owned()),
            (
                "REKEYD_KEY",
                key.map(ToString::to_string).unwrap_or_default(),
            ),
        ];
        let ended = program::run(Run {
            line: &self.line,
            variables: &variables,
            input: Zeroizing::new(input),
            timeout: TIMEOUT,
        })
        .await;
        judge(&self.id, &self.line.program, &ended)
    }
}
