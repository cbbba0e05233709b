//! What is asked of a process while it runs: requests, by the control socket or
//! by its own command line, and configurations to be read anew. A daemon also
//! tells its service manager how it goes.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;

use crate::core::names::KeyName;
use crate::core::time;
use crate::daemon::control::desk::{Desk, Job};
use crate::daemon::control::serve::{Control, Told};
use crate::daemon::control::wire::{About, Answer, Configuration, Outcome, Request};
use crate::daemon::manager::Manager;
use crate::daemon::metrics::serve::{Page, Pages, Wanted};
use crate::daemon::reload::{self, Read, ReadAnew};
use crate::daemon::service::Ended;
use crate::daemon::start::Started;
use crate::engine::Engine;

/// What is asked of this process.
#[derive(Default)]
pub(crate) struct Asking {
    pub(crate) desk: Desk,
    read: Option<ReadAnew>,
    /// The configurations that are being read.
    readings: JoinSet<Read>,
    /// Who waits for what becomes of them.
    readers: Vec<oneshot::Sender<Answer>>,
    jobs: Option<mpsc::UnboundedReceiver<Job>>,
    control: Option<Control>,
    wanted: Option<mpsc::UnboundedReceiver<Wanted>>,
    pages: Option<Pages>,
    /// Whom a daemon tells how it goes.
    manager: Option<Manager>,
}

/// Something to do.
pub(crate) enum Next {
    Job(Job),
    Configuration(Box<Read>),
    Page(Wanted),
}

impl Asking {
    /// Of a daemon, which can read its configuration anew.
    pub(crate) fn of_daemon(read: ReadAnew) -> Self {
        Self {
            read: Some(read),
            manager: Some(Manager::of_this_process()),
            ..Self::default()
        }
    }

    /// Serves what the configuration wants served. Where that cannot be, the
    /// daemon does without: keys must rotate all the same.
    pub(crate) async fn listen(&mut self, started: &Started) {
        self.listen_for_requests(started);
        self.listen_for_readers(started).await;
    }

    async fn listen_for_readers(&mut self, started: &Started) {
        let wanted = started.settings.metrics;
        if self.pages.as_ref().map(Pages::address) == wanted {
            return;
        }
        if let Some(pages) = self.pages.take() {
            pages.end().await;
        }
        let Some(address) = wanted else { return };
        let (sender, wanted) = mpsc::unbounded_channel();
        match Pages::listen(address, sender) {
            Ok(pages) => {
                self.wanted = Some(wanted);
                self.pages = Some(pages);
            }
            Err(error) => tracing::warn!("{error}; going on without"),
        }
    }

    fn listen_for_requests(&mut self, started: &Started) {
        let told = told(started);
        let wanted = started.settings.control.socket.as_deref();
        if let Some(control) = &self.control
            && wanted == Some(control.path())
        {
            control.tell(told);
            return;
        }
        self.control = None;
        let Some(path) = wanted else { return };
        let (sender, jobs) = mpsc::unbounded_channel();
        match Control::listen(path, sender, told) {
            Ok(control) => {
                self.jobs = Some(jobs);
                self.control = Some(control);
            }
            Err(error) => tracing::warn!(
                "{error}; going on without: `rekeyd rotate` and its like cannot reach this rekeyd"
            ),
        }
    }

    /// Reads the configuration anew. What is being read already may be older
    /// than the wish.
    pub(crate) fn read_anew(&mut self, reply: Option<oneshot::Sender<Answer>>) {
        let Some(read) = &self.read else {
            tracing::warn!("SIGHUP: only `rekeyd run` reads its configuration anew");
            return;
        };
        if let Some(manager) = &mut self.manager {
            manager.reloading();
        }
        self.readers.extend(reply);
        // One that is done already is not to be taken for it either.
        self.readings = JoinSet::new();
        self.readings.spawn(reload::read(Arc::clone(read)));
    }

    /// Waits for something to do. Safe to drop and call again.
    pub(crate) async fn next(&mut self) -> Next {
        loop {
            tokio::select! {
                biased;
                job = next_of(&mut self.jobs) => match job {
                    Job { request: Request::Reload, reply, .. } => self.read_anew(Some(reply)),
                    job => return Next::Job(job),
                },
                wanted = next_of(&mut self.wanted) => return Next::Page(wanted),
                Some(read) = self.readings.join_next() => {
                    // Else it was aborted, since a newer one is being read.
                    if let Ok(read) = read {
                        return Next::Configuration(Box::new(read));
                    }
                }
                else => std::future::pending().await,
            }
        }
    }

    /// Has the process go on with a configuration that was read, if it can be
    /// taken.
    pub(crate) async fn take(&mut self, read: Read, started: &mut Started) {
        let taken = started.take(read).await;
        if taken.is_ok() {
            self.listen(started).await;
        }
        self.ready();
        let file = started.settings.file.display();
        let outcome = Outcome {
            about: "configuration".to_owned(),
            done: taken.is_ok(),
            message: taken.map_or_else(|problem| problem, |()| format!("took {file}")),
        };
        for reader in std::mem::take(&mut self.readers) {
            // Whoever asked may have gone.
            let _ = reader.send(Answer {
                outcomes: vec![outcome.clone()],
            });
        }
    }

    /// Shows a page to whoever wants it.
    pub(crate) fn show(&self, wanted: Wanted, started: &Started) {
        let engine = &started.engine;
        let shown = match wanted.page {
            Page::Health => Ok("ok\n".to_owned()),
            Page::Readiness => match (engine.problems().first(), engine.compared_at()) {
                (Some((_, problem)), _) => Err(problem.clone()),
                (None, None) => Err("the provider was not asked yet".to_owned()),
                (None, Some(_)) => Ok("ok\n".to_owned()),
            },
            Page::Metrics => match &started.common.metrics {
                Some(metrics) => Ok(metrics.page(engine)),
                None => Err("nothing is counted".to_owned()),
            },
        };
        // Whoever wanted it may have gone.
        let _ = wanted.reply.send(shown);
    }

    /// The loop turns from now on.
    pub(crate) fn ready(&mut self) {
        if let Some(manager) = &mut self.manager {
            manager.ready();
        }
    }

    /// The process ends, within `span` at most. False if nobody started it to
    /// stay.
    pub(crate) fn stopping(&mut self, span: Duration) -> bool {
        if let Some(manager) = &mut self.manager {
            manager.stopping(span);
        }
        self.manager.is_some()
    }

    /// The process still ends, and takes `span` more at most.
    pub(crate) fn still_stopping(&mut self, span: Duration) {
        if let Some(manager) = &mut self.manager {
            manager.still_stopping(span);
        }
    }

    /// Answers what is done, and tells how it goes: once for each turn of the
    /// loop.
    pub(crate) fn answer(&mut self, engine: &mut Engine) {
        self.desk.answer(engine);
        let problem = engine.problems().into_iter().next();
        let problem = problem.map(|(_, problem)| problem);
        if let Some(manager) = &mut self.manager {
            manager.feed();
            manager.show(status(engine, problem.as_deref()));
        }
        if let Some(control) = &self.control {
            control.set_problem(problem);
        }
    }

    /// Answers everybody who still waits, and serves nobody any more.
    pub(crate) async fn finish(&mut self, engine: &mut Engine, ended: Ended) {
        let why = match ended {
            Ended::Stopped => "a signal ended rekeyd before it was done",
            Ended::Done | Ended::TimeOver => "not done before rekeyd ended",
        };
        self.desk.close(engine, why);
        self.readers.clear();
        self.jobs = None;
        self.wanted = None;
        if let Some(control) = self.control.take() {
            control.finish().await;
        }
    }
}

/// In one line, how it goes.
fn status(engine: &Engine, problem: Option<&str>) -> String {
    if let Some(problem) = problem {
        return format!("problem: {problem}");
    }
    let next = engine.next_rotation();
    let next = next.map(|(key, at)| format!("next rotation: {key} at {}", time::to_text(at)));
    let told = [
        some_of(engine.troubled(), "is failing", "are failing"),
        some_of(engine.rotating(), "is being rotated", "are being rotated"),
        next,
    ];
    let told: Vec<_> = told.into_iter().flatten().collect();
    if told.is_empty() {
        "no rotation is planned".to_owned()
    } else {
        told.join("; ")
    }
}

/// The first of some keys, how many more there are, and what they do.
fn some_of(keys: &BTreeSet<KeyName>, one: &str, several: &str) -> Option<String> {
    let first = keys.first()?;
    Some(match keys.len() - 1 {
        0 => format!("{first} {one}"),
        more => format!("{first} and {more} more {several}"),
    })
}

/// The next of what comes in; never, where nothing can.
async fn next_of<T>(incoming: &mut Option<mpsc::UnboundedReceiver<T>>) -> T {
    match incoming {
        Some(receiver) => match receiver.recv().await {
            Some(next) => next,
            None => std::future::pending().await,
        },
        None => std::future::pending().await,
    }
}

fn told(started: &Started) -> Told {
    let settings = &started.settings;
    Told {
        admins: settings.control.admins.clone(),
        about: About {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            process: std::process::id(),
            ledger: settings.ledger.display().to_string(),
            configuration: Configuration {
                file: settings.file.display().to_string(),
                sha256: settings.digest.clone(),
            },
            problem: None,
        },
    }
}
