//! The commands that change something: by the control socket of a running
//! daemon, and without one by their own work under the ledger's lock.

use std::path::Path;

use crate::cli::{Cli, Failure, output};
use crate::core::settings::Settings;
use crate::daemon::control::wire::{About, Answer, Refusal, Request};
use crate::daemon::{service, start};
use crate::engine::Course;
use crate::net::client::local_client;

/// Has `request` done, and prints what became of it.
pub(crate) async fn have_done(cli: &Cli, request: Request) -> Result<(), Failure> {
    let settings = cli.settings()?;
    match daemon_of(&settings).await? {
        Some(daemon) => {
            daemon.tell_if_it_has_another(&settings);
            print(&daemon.ask(&request).await?)
        }
        None => {
            let command = format!("rekeyd {}", request.verb());
            let sources = Cli::sources(&settings);
            let started = start::start(&settings, sources, &command, Course::ByHand, None).await?;
            print(&service::perform(started, alone(request), by()).await?)
        }
    }
}

/// Without a daemon there is nobody who would go on.
fn alone(request: Request) -> Request {
    match request {
        Request::Rotate {
            keys,
            all,
            revoke_previous_now,
            reason,
            no_wait: _,
        } => Request::Rotate {
            keys,
            all,
            revoke_previous_now,
            reason,
            no_wait: false,
        },
        other @ (Request::Revoke { .. }
        | Request::Hold { .. }
        | Request::Release { .. }
        | Request::Adopt { .. }
        | Request::Pause { .. }
        | Request::Resume { .. }
        | Request::Reload) => other,
    }
}

/// Who asks, as the journal keeps it.
fn by() -> String {
    format!("uid {}", rustix::process::getuid().as_raw())
}

fn print(answer: &Answer) -> Result<(), Failure> {
    let mut failed = false;
    for outcome in &answer.outcomes {
        if outcome.done {
            output::print(format!("{}\n", outcome.message).as_bytes())?;
        } else {
            failed = true;
            output::complain(&outcome.message);
        }
    }
    if failed { Err(Failure::Told) } else { Ok(()) }
}

/// A running daemon that writes the ledger of a configuration.
pub(crate) struct Daemon {
    client: reqwest::Client,
    about: About,
}

/// The daemon that writes the ledger of `settings`, if one is there to be
/// asked.
pub(crate) async fn daemon_of(settings: &Settings) -> Result<Option<Daemon>, Failure> {
    let daemon = answering(settings).await?;
    // Else it is the socket of another organization's daemon.
    Ok(daemon.filter(|daemon| daemon.writes(&settings.ledger)))
}

/// The daemon that writes the ledger of `settings`, or has taken that file when
/// it named another: which it then refuses to change.
pub(crate) async fn daemon_to_reload(settings: &Settings) -> Result<Option<Daemon>, Failure> {
    let daemon = answering(settings).await?;
    let is_meant = |daemon: &Daemon| {
        let file = &daemon.about.configuration.file;
        daemon.writes(&settings.ledger) || Path::new(file) == settings.file
    };
    Ok(daemon.filter(is_meant))
}

/// The daemon at the control socket of `settings`, whoever's it is.
async fn answering(settings: &Settings) -> Result<Option<Daemon>, Failure> {
    let Some(socket) = &settings.control.socket else {
        return Ok(None);
    };
    if let Err(error) = std::os::unix::net::UnixStream::connect(socket) {
        use std::io::ErrorKind as E;
        let kind = error.kind();
        return if matches!(kind, E::NotFound | E::ConnectionRefused) {
            // Nobody, or somebody who is gone.
            Ok(None)
        } else if kind == E::PermissionDenied {
            Err(Failure::Other(format!(
                "cannot ask the rekeyd that listens at {}: {error}; ask as root, as its user, or \
                 as a member of the socket's group",
                socket.display()
            )))
        } else {
            Err(cannot_ask(socket, &error))
        };
    }
    let client = local_client(socket).map_err(Failure::Other)?;
    let about = async {
        let answer = client.get("http://rekeyd/daemon").send().await?;
        answer.bytes().await
    };
    let about = about.await.map_err(|error| cannot_ask(socket, &error))?;
    let about: About =
        serde_json::from_slice(&about).map_err(|error| cannot_ask(socket, &error))?;
    Ok(Some(Daemon { client, about }))
}

fn cannot_ask(socket: &Path, error: &dyn std::fmt::Display) -> Failure {
    Failure::Other(format!(
        "cannot ask the rekeyd that listens at {}: {error}",
        socket.display()
    ))
}

impl Daemon {
    fn writes(&self, ledger: &Path) -> bool {
        Path::new(&self.about.ledger) == ledger
    }

    /// A person who has edited the file may think that it counts already.
    fn tell_if_it_has_another(&self, settings: &Settings) {
        let theirs = &self.about.configuration;
        if theirs.sha256 != settings.digest {
            output::warn(&format!(
                "the running rekeyd took {} before it was what it is now; `rekeyd reload` has it \
                 take {}",
                theirs.file,
                settings.file.display()
            ));
        }
    }

    /// Asks for something, and waits until it is answered.
    pub(crate) async fn ask(&self, request: &Request) -> Result<Answer, Failure> {
        let lost = |error: &dyn std::fmt::Display| {
            Failure::Other(format!(
                "the running rekeyd did not answer ({error}); `rekeyd status` shows what became \
                 of it"
            ))
        };
        let url = format!("http://rekeyd/{}", request.verb());
        let sent = self.client.post(url).body(request.body()).send().await;
        let reply = sent.map_err(|error| lost(&error.without_url()))?;
        let status = reply.status();
        let body = reply
            .bytes()
            .await
            .map_err(|error| lost(&error.without_url()))?;
        if status.is_success() {
            return serde_json::from_slice(&body).map_err(|error| lost(&error));
        }
        match serde_json::from_slice::<Refusal>(&body) {
            Ok(refusal) => Err(Failure::Other(refusal.error)),
            Err(_) => Err(lost(&format!("HTTP status {status}"))),
        }
    }
}
