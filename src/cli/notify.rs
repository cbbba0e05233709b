//! `rekeyd notify --test`: sends a marked test to the notification channels.
//!
//! The command sends it itself, as the service does: with its user and its rights. It begins
//! and ends no problem; only a channel that failed no longer counts as failing once it has
//! accepted a test.

use std::sync::Arc;

use crate::alerting::channel::target::{ClockFn, NotifySettings};
use crate::alerting::channel::{Channel, ChannelError};
use crate::cli::context::GlobalOptions;
use crate::cli::daemon_options::DaemonOptions;
use crate::cli::dispatch;
use crate::cli::failure::Failure;
use crate::cli::output;
use crate::cli::service_view;
use crate::config;
use crate::config::settings::Settings;
use crate::core::notification::{
    Alert, AlertKind, ChannelId, Notification, NotificationId, NotificationState,
};
use crate::core::time;
use crate::daemon::control::protocol::ControlRequest;
use crate::daemon::runtime;
use crate::ledger::LedgerReader;
use crate::platform::clock::{Clock as _, SystemClock};
use crate::platform::entropy::{Entropy as _, SystemEntropy};
use crate::platform::machine;

/// The text of a test.
const TEST_TEXT: &str =
    "this is a test, which `rekeyd notify --test` sent; nothing is wrong, and nothing has changed";

#[derive(Debug, clap::Args)]
pub(crate) struct NotifyCommand {
    /// Send a test notification, which neither begins nor ends a problem
    #[arg(long, required = true)]
    test: bool,
    /// Only to the channel of this name
    #[arg(value_name = "NAME")]
    name: Option<String>,
}

impl NotifyCommand {
    pub(crate) async fn run(&self, options: &GlobalOptions) -> Result<(), Failure> {
        service_view::enter(options, false)?;
        let settings = options.load_settings()?;
        output::report_note(&service_view::note_onlooker(&settings).unwrap_or_default());
        let selected = select(&settings, self.name.as_deref())?;
        let (notification, host) = (test_notification()?, machine::hostname());
        let now: ClockFn = Arc::new(|| SystemClock.now());
        let mut has_failed = false;
        let mut accepted = Vec::new();
        for channel_settings in selected {
            let channel = channel_settings.build(Arc::clone(&now));
            let (name, id) = (&channel_settings.name, channel.id());
            match send(&*channel, &notification, &host).await {
                Ok(()) => {
                    output::print_message(&format!("{name}: {id} accepted the test"))?;
                    accepted.push(id.clone());
                }
                Err(error) => {
                    has_failed = true;
                    output::report_error(&format!("{name}: {error}"));
                }
            }
        }
        if let Err(failure) = record_accepted(&settings, accepted).await {
            output::report_note(&format!(
                "a channel that failed counts as failing until rekeyd has sent it something: \
                 {failure}"
            ));
        }
        if has_failed {
            return Err(Failure::Reported);
        }
        Ok(())
    }
}

/// Has the ledger know which channels work, so that they no longer count as failing, and that
/// what is pending for them is sent at once.
async fn record_accepted(settings: &Settings, accepted: Vec<ChannelId>) -> Result<(), Failure> {
    if accepted.is_empty() {
        return Ok(());
    }
    if let Some(daemon) = dispatch::find_daemon(&DaemonOptions::default(), settings).await? {
        let channels = accepted.iter().map(|id| id.as_str().to_owned()).collect();
        let request = ControlRequest::ChannelTested { channels };
        let recorded = daemon.send(&request).await?;
        let mut outcomes = recorded.outcomes.into_iter();
        return match outcomes.find(|outcome| !outcome.done) {
            Some(failed) => Err(Failure::Other(failed.message)),
            None => Ok(()),
        };
    }
    // The first start of the service makes the ledger.
    let Ok(Some(reader)) = LedgerReader::open_existing(&settings.ledger) else {
        return Ok(());
    };
    let states = reader.snapshot()?.channel_states()?;
    drop(reader);
    let is_failing = |id: &ChannelId| states.get(id).is_some_and(|state| state.failure.is_some());
    if !accepted.iter().any(is_failing) {
        return Ok(());
    }
    let ledger = runtime::open_ledger_alone(settings, "rekeyd notify")?;
    let recorded = ledger
        .record_accepted_test(accepted, SystemClock.now())
        .await;
    ledger.close().await;
    Ok(recorded?)
}

/// Sends the test, unless this host does not satisfy the channel.
async fn send(
    channel: &dyn Channel,
    notification: &Notification,
    host: &str,
) -> Result<(), ChannelError> {
    match channel.check().await.into_iter().next() {
        Some(problem) => Err(problem),
        None => channel.send(notification, host).await,
    }
}

/// Returns the channels to test.
fn select<'a>(
    settings: &'a Settings,
    name: Option<&str>,
) -> Result<Vec<&'a NotifySettings>, Failure> {
    let file = settings.file.display();
    if settings.notify.is_empty() {
        return Err(Failure::Other(format!(
            "{file} has no [[notify]], so rekeyd notifies nobody; hint: add one"
        )));
    }
    let Some(name) = name else {
        return Ok(settings.notify.iter().collect());
    };
    let mut channels = settings.notify.iter();
    if let Some(found) = channels.find(|channel| channel.name == name) {
        return Ok(vec![found]);
    }
    let known: Vec<_> = settings
        .notify
        .iter()
        .map(|channel| channel.name.as_str())
        .collect();
    let hint = match config::closest_match(name, &known) {
        Some(suggestion) => format!("did you mean {suggestion}?"),
        None => format!("use one of: {}", known.join(", ")),
    };
    Err(Failure::Other(format!(
        "{file} has no [[notify]] with the name {name:?}; hint: {hint}"
    )))
}

fn test_notification() -> Result<Notification, Failure> {
    let mut id = [0; 8];
    SystemEntropy::new()
        .fill(&mut id)
        .map_err(|error| Failure::Other(format!("cannot make an id for the test: {error}")))?;
    let now = time::whole_seconds(SystemClock.now());
    Ok(Notification {
        id: NotificationId::new(id),
        created_at: now,
        state: NotificationState::OneTime,
        alert: Alert::global(AlertKind::Test),
        since: now,
        text: TEST_TEXT.to_owned(),
    })
}
