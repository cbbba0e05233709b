//! `rekeyd restore`: restores a backup of the ledger.

use std::path::PathBuf;

use jiff::Timestamp;

use crate::cli::backup::absolute;
use crate::cli::context::GlobalOptions;
use crate::cli::failure::Failure;
use crate::cli::output;
use crate::cli::passed_file::{self, passed_file};
use crate::cli::service_view;
use crate::core::{shell, time};
use crate::daemon::runtime;
use crate::ledger::{
    ChangedOrders, KeptLedger, OperatorOrder, OperatorRecord, OrderKind, RestoreSource,
};
use crate::platform::users;

#[derive(Debug, clap::Args)]
pub(crate) struct RestoreCommand {
    /// Backup to restore
    path: PathBuf,
}

impl RestoreCommand {
    pub(crate) fn run(&self, options: &GlobalOptions) -> Result<(), Failure> {
        let path = absolute(&self.path)?;
        service_view::enter_with_file(options, || passed_file::open_roots_database(&path))?;
        let settings = options.load_settings()?;
        let source = RestoreSource {
            path,
            file: passed_file(),
        };
        let restored = runtime::restore(&settings, &source)?;
        let (ledger, source) = (settings.ledger.display(), self.path.display());
        let mut text = format!("restored the ledger {ledger} from {source}\n");
        match &restored.previous {
            Some(KeptLedger::Whole(kept)) => {
                text.push_str(&format!("kept the previous ledger as {}\n", kept.display()));
            }
            Some(KeptLedger::LogAlone(kept)) => text.push_str(&format!(
                "the previous ledger was gone or empty; kept its log as {}\n",
                kept.display()
            )),
            None => {}
        }
        text.push_str(
            "at its next start, rekeyd compares it with the provider first, and reports credentials \
             that were created since as lookalikes\n",
        );
        match &restored.changed_orders {
            Some(changed) => text.push_str(&changed_orders_text(changed)),
            None => text.push_str(
                "note: the former ledger cannot be compared, so pauses, holds, adoptions and the \
                 ends of leaked credentials that were ordered after the backup are not known; order \
                 them again before the next start\n",
            ),
        }
        for key in &restored.dropped_requests {
            text.push_str(&format!(
                "note: dropped a rotation of {key} that was requested before the backup, and may \
                 have run since; if it is still needed, run: rekeyd rotate {key}\n"
            ));
        }
        if restored.is_of_other_host {
            text.push_str(
                "note: this backup comes from another machine; if rekeyd has stopped there for \
                 good, start with: rekeyd run --take-over\n",
            );
        }
        output::print(text.as_bytes())
    }
}

/// Describes what operators had ordered and the restored ledger does not have, or has
/// again, with the commands for it, a line for each.
fn changed_orders_text(changed: &ChangedOrders) -> String {
    let missing = changed.missing.iter().map(|missing| {
        let OperatorOrder { key, kind, record } = &missing.order;
        let origin = origin(record.as_ref());
        let adopt = kind.credential().filter(|_| missing.is_without_row);
        let adopt = adopt.map(|credential| format!("rekeyd adopt {key} {credential} && "));
        let adopt = adopt.unwrap_or_default();
        let reason = record.as_ref().and_then(|record| record.reason.as_deref());
        let reason = reason.map(|reason| format!(" --reason {}", shell::quote(reason)));
        let reason = reason.unwrap_or_default();
        let until = |until: &Option<Timestamp>| {
            let until = until.map(|until| format!(" --until {}", time::to_text(until)));
            until.unwrap_or_default()
        };
        match kind {
            OrderKind::Pause { until: end } => format!(
                "warning: {key} is no longer paused{origin}; before the next start, run: \
                 rekeyd pause {key}{}{reason}\n",
                until(end)
            ),
            OrderKind::Retirement => format!(
                "warning: {key} is no longer retired{origin}; before the next start, run: \
                 rekeyd retire {key}{reason}\n"
            ),
            OrderKind::Hold {
                credential,
                until: end,
            } => format!(
                "warning: {credential} of {key} is no longer on hold{origin}; before the next \
                 start, run: {adopt}rekeyd hold {credential}{}{reason}\n",
                until(end)
            ),
            OrderKind::Adoption { credential } => format!(
                "warning: {credential} is no longer adopted by {key}, whose consumers may use \
                 it{origin}; before the next start, run: {adopt}{reason}\n",
                adopt = format_args!("rekeyd adopt {key} {credential}")
            ),
            OrderKind::Leak { credential } => format!(
                "warning: {credential} of {key} may have leaked and no longer has a deadline{origin}; \
                 run: {adopt}rekeyd rotate {key} --revoke-previous-within 30s{reason}\n"
            ),
        }
    });
    let returned = changed.returned.iter().map(|order| {
        let (key, origin) = (&order.key, origin(order.record.as_ref()));
        match &order.kind {
            OrderKind::Pause { .. } => format!(
                "note: {key} is paused again, as when the backup was made{origin}; to end the pause, \
                 run: rekeyd resume {key}\n"
            ),
            OrderKind::Retirement => format!(
                "note: {key} is retired again, as when the backup was made{origin}; to undo that, \
                 run: rekeyd retire {key} --undo\n"
            ),
            OrderKind::Hold { credential, .. }
            | OrderKind::Leak { credential }
            | OrderKind::Adoption { credential } => format!(
                "note: {credential} of {key} is on hold again, as when the backup was made{origin}; \
                 to end the hold, run: rekeyd release {credential}\n"
            ),
        }
    });
    missing.chain(returned).collect()
}

/// Describes who gave an order, when and why.
fn origin(record: Option<&OperatorRecord>) -> String {
    let Some(record) = record else {
        return String::new();
    };
    let at = time::to_text(record.at);
    let by = record.by.as_deref().map(users::describe_author);
    let by = by.map(|by| format!(" by {by}")).unwrap_or_default();
    let reason = record.reason.as_ref();
    let reason = reason.map(|reason| format!(": {reason}"));
    format!(" (ordered{by} at {at}{})", reason.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::ids::{CredentialId, KeyName};
    use crate::ledger::MissingOrder;

    #[test]
    fn changed_orders_name_the_commands() {
        let at: Timestamp = "2026-11-24T03:00:00Z".parse().unwrap();
        let credential = || CredentialId::new("key_1".to_owned());
        let order = |kind, by: Option<&str>, reason: Option<&str>| OperatorOrder {
            key: KeyName::new("billing").unwrap(),
            kind,
            record: Some(OperatorRecord {
                at,
                by: by.map(str::to_owned),
                reason: reason.map(str::to_owned),
            }),
        };
        let missing = |order, is_without_row| ChangedOrders {
            missing: vec![MissingOrder {
                order,
                is_without_row,
            }],
            returned: Vec::new(),
        };
        let returned = |order| ChangedOrders {
            missing: Vec::new(),
            returned: vec![order],
        };
        let pause = |until| OrderKind::Pause { until };
        let hold = |until| OrderKind::Hold {
            credential: credential(),
            until,
        };
        let leak = || OrderKind::Leak {
            credential: credential(),
        };
        let adoption = || OrderKind::Adoption {
            credential: credential(),
        };
        for (changed, expected) in [
            (
                missing(order(pause(None), Some("uid 0"), Some("an audit")), false),
                "warning: billing is no longer paused (ordered by root (uid 0) at \
                 2026-11-24T03:00:00Z: an audit); before the next start, run: rekeyd pause billing \
                 --reason 'an audit'\n",
            ),
            (
                missing(order(hold(Some(at)), None, None), true),
                "warning: key_1 of billing is no longer on hold (ordered at 2026-11-24T03:00:00Z); \
                 before the next start, run: rekeyd adopt billing key_1 && rekeyd hold key_1 \
                 --until 2026-11-24T03:00:00Z\n",
            ),
            (
                missing(order(leak(), None, None), false),
                "warning: key_1 of billing may have leaked and no longer has a deadline (ordered at \
                 2026-11-24T03:00:00Z); run: rekeyd rotate billing --revoke-previous-within 30s\n",
            ),
            (
                missing(order(adoption(), Some("uid 0"), Some("its own")), true),
                "warning: key_1 is no longer adopted by billing, whose consumers may use it \
                 (ordered by root (uid 0) at 2026-11-24T03:00:00Z: its own); before the next start, \
                 run: rekeyd adopt billing key_1 --reason 'its own'\n",
            ),
            (
                returned(order(pause(Some(at)), None, None)),
                "note: billing is paused again, as when the backup was made (ordered at \
                 2026-11-24T03:00:00Z); to end the pause, run: rekeyd resume billing\n",
            ),
            (
                returned(order(hold(None), None, None)),
                "note: key_1 of billing is on hold again, as when the backup was made (ordered at \
                 2026-11-24T03:00:00Z); to end the hold, run: rekeyd release key_1\n",
            ),
            (ChangedOrders::default(), ""),
        ] {
            assert_eq!(changed_orders_text(&changed), expected);
        }
    }
}
