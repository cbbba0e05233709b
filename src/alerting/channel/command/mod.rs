//! A program of this host that reads a notification from its standard input.

mod options;

use std::sync::Arc;

use async_trait::async_trait;
use secrecy::zeroize::Zeroizing;

use crate::alerting::channel::support::{check_off_thread, exit_result};
use crate::alerting::channel::target::{ChannelServices, ChannelTarget, ChannelType};
use crate::alerting::channel::{Channel, ChannelError, TIMEOUT, message};
use crate::config_reader::files::NamedFiles;
use crate::config_reader::reader::ConfigTable;
use crate::config_reader::report::ProblemReport;
use crate::core::command::CommandLine;
use crate::core::notification::{ChannelId, Notification};
use crate::platform::path_walk::TrustedPaths;
use crate::platform::process::{self, Invocation};

pub use self::options::CommandChannelTarget;

/// The type of these channels.
pub static TYPE: ChannelType = ChannelType {
    name: "command",
    options: options::OPTIONS,
    read,
};

fn read(
    table: &ConfigTable<'_>,
    files: &mut NamedFiles,
    report: &mut ProblemReport,
) -> Option<Arc<dyn ChannelTarget>> {
    Some(Arc::new(options::read(table, files, report)?))
}

impl ChannelTarget for CommandChannelTarget {
    fn type_name(&self) -> &'static str {
        TYPE.name
    }

    fn identity(&self) -> String {
        self.argv.to_string()
    }

    fn build(self: Arc<Self>, id: ChannelId, services: &ChannelServices) -> Arc<dyn Channel> {
        Arc::new(CommandChannel {
            id,
            command_line: self.argv.clone(),
            trusted_paths: services.trusted_paths.clone(),
        })
    }
}

/// A channel that runs a program for each notification.
#[derive(Debug)]
pub struct CommandChannel {
    id: ChannelId,
    command_line: CommandLine,
    trusted_paths: TrustedPaths,
}

#[async_trait]
impl Channel for CommandChannel {
    fn id(&self) -> &ChannelId {
        &self.id
    }

    async fn check(&self) -> Vec<ChannelError> {
        let path = self.command_line.path().to_owned();
        let trusted_paths = self.trusted_paths.clone();
        let check = move || process::check_executable(&path, &trusted_paths);
        let problem = check_off_thread(&self.command_line.program, check).await;
        problem.into_iter().collect()
    }

    async fn send(&self, notification: &Notification, host: &str) -> Result<(), ChannelError> {
        let mut input = message::to_json(notification, host)?;
        input.push(b'\n');
        let key = notification.alert.key.as_ref();
        let environment = [
            ("REKEYD_NOTICE", notification.id.to_string()),
            (
                "REKEYD_EVENT",
                notification.event_kind().as_str().to_owned(),
            ),
            (
                "REKEYD_KEY",
                key.map(ToString::to_string).unwrap_or_default(),
            ),
        ];
        let exit = process::run(Invocation {
            command: &self.command_line,
            environment: &environment,
            stdin: Zeroizing::new(input),
            timeout: TIMEOUT,
            trusted_paths: &self.trusted_paths,
        })
        .await;
        exit_result(&self.id, &self.command_line.program, &exit)
    }
}
