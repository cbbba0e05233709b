//! `rekeyd notify --test`: sends a marked test to the notification channels.
//!
//! The command sends it itself, as the service does: with its user and its rights. The ledger
//! does not record it, so that it begins and ends no problem.

use std::sync::Arc;

use crate::alerting::channel::target::{ClockFn, NotifySettings};
use crate::alerting::channel::{Channel, ChannelError};
use crate::cli::context::GlobalOptions;
use crate::cli::failure::Failure;
use crate::cli::output;
use crate::cli::service_view;
use crate::config;
use crate::config::settings::Settings;
use crate::core::notification::{
    Alert, AlertKind, Notification, NotificationId, NotificationState,
};
use crate::core::time;
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
        for channel_settings in selected {
            let channel = channel_settings.build(Arc::clone(&now));
            let (name, id) = (&channel_settings.name, channel.id());
            match send(&*channel, &notification, &host).await {
                Ok(()) => output::print_message(&format!("{name}: {id} accepted the test"))?,
                Err(error) => {
                    has_failed = true;
                    output::report_error(&format!("{name}: {error}"));
                }
            }
        }
        if has_failed {
            return Err(Failure::Reported);
        }
        Ok(())
    }
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
