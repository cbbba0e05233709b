//! A mail, handed to this host's sendmail. What this deliberately does not do:
//! speak to a mail server.

use std::path::PathBuf;

use async_trait::async_trait;
use secrecy::zeroize::Zeroizing;

use crate::core::command::CommandLine;
use crate::core::notice::{Notice, NotifierId, State};
use crate::core::settings::Mail;
use crate::core::time;
use crate::host::program::{self, Run};
use crate::notify::{Notifier, TIMEOUT, judge, message, off_thread};

/// Where every mail system of a host puts it.
pub const SENDMAIL: &str = "/usr/sbin/sendmail";

/// So many characters of a line: mail allows 998 bytes.
const LONGEST_LINE: usize = 76;

/// Somebody who is told by mail.
#[derive(Debug)]
pub struct Sendmail {
    id: NotifierId,
    to: Vec<String>,
    line: CommandLine,
}

impl Sendmail {
    /// Tells `mail` by the sendmail at `program`, usually [`SENDMAIL`].
    #[must_use]
    pub fn new(id: NotifierId, mail: &Mail, program: PathBuf) -> Self {
        // A line with a dot alone does not end the mail.
        let options = std::iter::once("-i".to_owned());
        let line = CommandLine {
            program: program.to_string_lossy().into_owned(),
            arguments: options.chain(mail.to.iter().cloned()).collect(),
        };
        let to = mail.to.clone();
        Self { id, to, line }
    }
}

#[async_trait]
impl Notifier for Sendmail {
    fn id(&self) -> &NotifierId {
        &self.id
    }

    async fn inspect(&self) -> Vec<String> {
        let path = self.line.path().to_owned();
        let look = move || match path.exists() {
            true => program::problem(&path),
            false => Some(format!(
                "{} does not exist; install a mail system that brings it, or tell people \
                 otherwise",
                path.display()
            )),
        };
        let found = off_thread(&self.line.program, look).await;
        found.unwrap_or_else(Some).into_iter().collect()
    }

    async fn tell(&self, notice: &Notice, host: &str) -> Result<(), String> {
        let json = message::body(notice, host)?;
        let mail = mail(notice, host, &self.to, &String::from_utf8_lossy(&json));
        let ended = program::run(Run {
            line: &self.line,
            variables: &[],
            input: Zeroizing::new(mail.into_bytes()),
            timeout: TIMEOUT,
        })
        .await;
        judge(&self.id, &self.line.program, &ended)
    }
}

/// The whole mail.
fn mail(notice: &Notice, host: &str, to: &[String], json: &str) -> String {
    let host = header(host);
    let since = time::to_text(notice.since);
    let when = match notice.state {
        State::Begun => format!("Since {since}, told once, and once more when it is over."),
        State::Over => format!("It began at {since}."),
        State::Once => format!("At {since}."),
    };
    format!(
        "To: {}\nSubject: {}\nMessage-ID: <rekeyd.{}@{}>\nAuto-Submitted: auto-generated\n\
         MIME-Version: 1.0\nContent-Type: text/plain; charset=utf-8\n\
         Content-Transfer-Encoding: 8bit\n\n{}\n\n{when}\n\nrekeyd on {host}\n\n\
         The same for programs:\n{}\n",
        to.join(", "),
        subject(notice, &host),
        notice.id,
        host.replace(
            |letter: char| !(letter.is_ascii_alphanumeric() || letter == '.'),
            "-"
        ),
        wrapped(&notice.text),
        wrapped_anywhere(json),
    )
}

fn subject(notice: &Notice, host: &str) -> String {
    let what = match notice.state {
        State::Over => format!("{} is over", notice.cause.matter.as_str()),
        State::Begun | State::Once => notice.cause.matter.as_str().to_owned(),
    };
    match &notice.cause.key {
        Some(key) => format!("[rekeyd] {host}: {key}: {what}"),
        None => format!("[rekeyd] {host}: {what}"),
    }
}

/// Fit for a header: on one line and of plain letters.
fn header(text: &str) -> String {
    let plain = text.chars().filter(char::is_ascii_graphic);
    plain.take(LONGEST_LINE).collect()
}

/// In lines that people can read.
fn wrapped(text: &str) -> String {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= LONGEST_LINE => {
                line.push(' ');
                line.push_str(word);
            }
            Some(_) | None => lines.push(word.to_owned()),
        }
    }
    lines.join("\n")
}

/// JSON may be broken between two members.
fn wrapped_anywhere(json: &str) -> String {
    json.replace("\",\"", "\",\n\"")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::names::KeyName;
    use crate::core::notice::{Cause, Matter, NoticeId};

    fn notice(text: &str) -> Notice {
        Notice {
            id: NoticeId::new([7; 8]),
            at: "2026-11-24T03:00:21Z".parse().unwrap(),
            state: State::Begun,
            cause: Cause::of_key(&KeyName::new("billing").unwrap(), Matter::Failing),
            since: "2026-11-24T03:00:01Z".parse().unwrap(),
            text: text.to_owned(),
        }
    }

    #[test]
    fn nothing_from_outside_gets_into_the_headers() {
        let notice = notice("billing is failing:\nBcc: a@b\n\n.\nmore");
        let to = ["root".to_owned(), "ops@example.com".to_owned()];
        let mail = mail(&notice, "ops1\nBcc: a@b", &to, "{}");
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
    fn lines_are_short_where_words_are() {
        let long = "word ".repeat(60);
        assert!(
            wrapped(&long)
                .lines()
                .all(|line| line.len() <= LONGEST_LINE)
        );
        assert_eq!(wrapped(&long).split_whitespace().count(), 60);
        let json = r#"{"a":"b","c":"d\",\"e"}"#;
        let broken = wrapped_anywhere(json);
        assert_eq!(broken.lines().count(), 2, "{broken}");
        let read: serde_json::Value = serde_json::from_str(&broken).unwrap();
        assert_eq!(read["c"], "d\",\"e");
    }
}
