//! Mail through this host's sendmail. It deliberately speaks to no mail server
//! itself.

mod options;

use std::path::PathBuf;
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
use crate::core::notification::{ChannelId, Notification, NotificationState};
use crate::core::time;
use crate::platform::path_walk::TrustedPaths;
use crate::platform::process::{self, Invocation};

/// The path at which every mail system installs it.
pub const SENDMAIL_PATH: &str = "/usr/sbin/sendmail";

/// The longest line, in characters. Mail allows 998 bytes.
const MAX_LINE_CHARS: usize = 76;

pub use self::options::SendmailChannelTarget;

/// The type of these channels.
pub static TYPE: ChannelType = ChannelType {
    name: "sendmail",
    options: options::OPTIONS,
    read,
};

fn read(
    table: &ConfigTable<'_>,
    files: &mut NamedFiles,
    report: &mut ProblemReport,
) -> Option<Arc<dyn ChannelTarget>> {
    files.add_program("program", PathBuf::from(SENDMAIL_PATH));
    Some(Arc::new(options::read(table, report)?))
}

impl ChannelTarget for SendmailChannelTarget {
    fn type_name(&self) -> &'static str {
        TYPE.name
    }

    fn identity(&self) -> String {
        self.to.join(",")
    }

    fn build(self: Arc<Self>, id: ChannelId, services: &ChannelServices) -> Arc<dyn Channel> {
        Arc::new(SendmailChannel::new(
            id,
            &self,
            PathBuf::from(SENDMAIL_PATH),
            services.trusted_paths.clone(),
        ))
    }
}

/// A channel that sends mail through the sendmail of this host.
#[derive(Debug)]
pub struct SendmailChannel {
    id: ChannelId,
    to: Vec<String>,
    command_line: CommandLine,
    trusted_paths: TrustedPaths,
}

impl SendmailChannel {
    /// Returns a channel that sends to the addresses of `target` through the
    /// sendmail at `program`, usually [`SENDMAIL_PATH`].
    #[must_use]
    pub fn new(
        id: ChannelId,
        target: &SendmailChannelTarget,
        program: PathBuf,
        trusted_paths: TrustedPaths,
    ) -> Self {
        // `-i`: a line with a single dot does not end the mail.
        let options = std::iter::once("-i".to_owned());
        let command_line = CommandLine {
            program: program.to_string_lossy().into_owned(),
            arguments: options.chain(target.to.iter().cloned()).collect(),
        };
        let to = target.to.clone();
        Self {
            id,
            to,
            command_line,
            trusted_paths,
        }
    }
}

#[async_trait]
impl Channel for SendmailChannel {
    fn id(&self) -> &ChannelId {
        &self.id
    }

    async fn check(&self) -> Vec<ChannelError> {
        let path = self.command_line.path().to_owned();
        let trusted_paths = self.trusted_paths.clone();
        let check = move || match path.exists() {
            true => process::check_executable(&path, &trusted_paths),
            false => Some(format!(
                "{} does not exist; hint: install a mail transfer agent such as msmtp, or use \
                 another type of notification",
                path.display()
            )),
        };
        let problem = check_off_thread(&self.command_line.program, check).await;
        problem.into_iter().collect()
    }

    async fn send(&self, notification: &Notification, host: &str) -> Result<(), ChannelError> {
        let json = message::to_json(notification, host)?;
        let mail = compose_mail(
            notification,
            host,
            &self.to,
            &String::from_utf8_lossy(&json),
        );
        let exit = process::run(Invocation {
            command: &self.command_line,
            environment: &[],
            stdin: Zeroizing::new(mail.into_bytes()),
            timeout: TIMEOUT,
            trusted_paths: &self.trusted_paths,
        })
        .await;
        exit_result(&self.id, &self.command_line.program, &exit)
    }
}

/// Composes the mail with its headers.
fn compose_mail(notification: &Notification, host: &str, to: &[String], json: &str) -> String {
    let host = sanitize_header(host);
    let since = time::to_text(notification.since);
    let time_note = match notification.state {
        NotificationState::Raised => {
            format!("Since {since}. Another mail follows when this is resolved.")
        }
        NotificationState::Resolved => format!("The problem began at {since}."),
        NotificationState::OneTime => format!("Time: {since}."),
    };
    format!(
        "To: {}\nSubject: {}\nMessage-ID: <rekeyd.{}@{}>\nAuto-Submitted: auto-generated\n\
         MIME-Version: 1.0\nContent-Type: text/plain; charset=utf-8\n\
         Content-Transfer-Encoding: 8bit\n\n{}\n\n{time_note}\n\nrekeyd on {host}\n\n\
         The same as JSON:\n{}\n",
        to.join(", "),
        subject(notification, &host),
        notification.id,
        host.replace(
            |letter: char| !(letter.is_ascii_alphanumeric() || letter == '.'),
            "-"
        ),
        wrap_words(&notification.text),
        wrap_json(json),
    )
}

fn subject(notification: &Notification, host: &str) -> String {
    let title = match notification.state {
        NotificationState::Resolved => format!("{} resolved", notification.alert.kind.as_str()),
        NotificationState::Raised | NotificationState::OneTime => {
            notification.alert.kind.as_str().to_owned()
        }
    };
    match &notification.alert.key {
        Some(key) => format!("[rekeyd] {host}: {key}: {title}"),
        None => format!("[rekeyd] {host}: {title}"),
    }
}

/// Reduces a text to one line of ASCII letters for a header.
fn sanitize_header(text: &str) -> String {
    let letters = text.chars().filter(char::is_ascii_graphic);
    letters.take(MAX_LINE_CHARS).collect()
}

/// Wraps a text at words.
fn wrap_words(text: &str) -> String {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= MAX_LINE_CHARS => {
                line.push(' ');
                line.push_str(word);
            }
            Some(_) | None => lines.push(word.to_owned()),
        }
    }
    lines.join("\n")
}

/// Breaks JSON between two members, where a line break is allowed.
fn wrap_json(json: &str) -> String {
    json.replace("\",\"", "\",\n\"")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::ids::KeyName;
    use crate::core::notification::{Alert, AlertKind, NotificationId};

    fn notification(text: &str) -> Notification {
        Notification {
            id: NotificationId::new([7; 8]),
            created_at: "2026-11-24T03:00:21Z".parse().unwrap(),
            state: NotificationState::Raised,
            alert: Alert::for_key(&KeyName::new("billing").unwrap(), AlertKind::Failing),
            since: "2026-11-24T03:00:01Z".parse().unwrap(),
            text: text.to_owned(),
        }
    }

    #[test]
    fn notification_text_cannot_inject_headers() {
        let notification = notification("billing is failing:\nBcc: a@b\n\n.\nmore");
        let to = ["root".to_owned(), "ops@example.com".to_owned()];
        let mail = compose_mail(&notification, "ops1\nBcc: a@b", &to, "{}");
        let (head, body) = mail.split_once("\n\n").unwrap();
        assert_eq!(head.lines().count(), 7, "{head}");
        assert!(head.starts_with(
            "To: root, ops@example.com\nSubject: [rekeyd] ops1Bcc:a@b: billing: failing\n"
        ));
        assert!(
            body.starts_with("billing is failing: Bcc: a@b . more\n"),
            "{body}"
        );
    }

    #[test]
    fn long_lines_are_wrapped() {
        let text = "word ".repeat(60);
        assert!(
            wrap_words(&text)
                .lines()
                .all(|line| line.len() <= MAX_LINE_CHARS)
        );
        assert_eq!(wrap_words(&text).split_whitespace().count(), 60);
        let json = r#"{"a":"b","c":"d\",\"e"}"#;
        let wrapped = wrap_json(json);
        assert_eq!(wrapped.lines().count(), 2, "{wrapped}");
        let parsed: serde_json::Value = serde_json::from_str(&wrapped).unwrap();
        assert_eq!(parsed["c"], "d\",\"e");
    }
}
