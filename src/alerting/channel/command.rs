//! A program of this host, which reads the notice from its standard input.

use async_trait::async_trait;
use secrecy::zeroize::Zeroizing;

use crate::alerting::channel::{Channel, TIMEOUT, exit_result, message, run_off_thread};
use crate::core::command::CommandLine;
use crate::core::notification::{ChannelId, Notification};
use crate::platform::process::{self, Invocation};

/// A program that is told.
#[derive(Debug)]
pub struct CommandChannel {
    id: ChannelId,
    command_line: CommandLine,
}

impl CommandChannel {
    /// Tells `line`; nothing is looked at yet.
    #[must_use]
    pub const fn new(id: ChannelId, line: CommandLine) -> Self {
        Self {
            id,
            command_line: line,
        }
    }
}

#[async_trait]
impl Channel for CommandChannel {
    fn id(&self) -> &ChannelId {
        &self.id
    }

    async fn check(&self) -> Vec<String> {
        let path = self.command_line.path().to_owned();
        let found = run_off_thread(&self.command_line.program, move || {
            process::check_executable(&path)
        })
        .await;
        found.unwrap_or_else(Some).into_iter().collect()
    }

    async fn send(&self, notice: &Notification, host: &str) -> Result<(), String> {
        let mut input = message::to_json(notice, host)?;
        input.push(b'\n');
        let key = notice.alert.key.as_ref();
        let variables = [
            ("REKEYD_NOTICE", notice.id.to_string()),
            ("REKEYD_EVENT", notice.event_kind().as_str().to_owned()),
            (
                "REKEYD_KEY",
                key.map(ToString::to_string).unwrap_or_default(),
            ),
        ];
        let ended = process::run(Invocation {
            command: &self.command_line,
            environment: &variables,
            stdin: Zeroizing::new(input),
            timeout: TIMEOUT,
        })
        .await;
        exit_result(&self.id, &self.command_line.program, &ended)
    }
}
