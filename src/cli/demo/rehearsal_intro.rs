//! The text before a rehearsal: the replacement of each target, and the next
//! rotation of each key.

use std::path::Path;
use std::time::Duration;

use jiff::Timestamp;

use crate::cli::screen::Screen;
use crate::cli::table::{Cell, Column, Fit, Table};
use crate::config::settings::{KeySettings, Settings};
use crate::core::{duration, time};
use crate::sandbox::demo::environment;
use crate::sandbox::demo::recording;
use crate::sandbox::demo::replacements::ReplacedSink;

/// What stands in the place of each target.
const TARGET_COLUMNS: [Column; 3] = [
    ("TARGET", Fit::Stays),
    ("CONFIGURED", Fit::Folds(1)),
    ("REPLACED BY", Fit::Folds(2)),
];

/// When each key rotates.
const RUN_COLUMNS: [Column; 3] = [
    ("KEY", Fit::Stays),
    ("SCHEDULE", Fit::Folds(1)),
    ("NEXT ROTATION", Fit::Folds(2)),
];

/// Returns the introduction to a rehearsal of `real` in `folder`.
pub(super) fn rehearsal_intro(
    real: &Settings,
    sinks: &[ReplacedSink],
    folder: &Path,
    limit: Option<Duration>,
    now: Timestamp,
) -> String {
    let screen = Screen::of_output(false);
    let first = format!(
        "Rehearsing {}. rekeyd contacts no other host, and writes only to {}:",
        real.file.display(),
        folder.display()
    );
    let mut intro = screen.wrap(&first, 0) + "\n\n";
    intro.push_str(&replacement_table(real, sinks, screen));
    for sink in sinks.iter().filter(|sink| !sink.ignored_options.is_empty()) {
        let line = format!(
            "{}, {}: ignored in a rehearsal: {}",
            sink.key,
            sink.name,
            sink.ignored_options.join(", ")
        );
        intro.push_str(&format!("{}\n", screen.wrap(&line, 2)));
    }
    let end_text = match limit {
        Some(limit) => format!("for {}", duration::to_text(limit)),
        None => "until Ctrl-C".to_owned(),
    };
    intro.push_str(&format!(
        "\nEvery key rotates at once, and then on its schedule, {end_text}:\n\n"
    ));
    let rows: Vec<_> = real.keys.iter().map(|key| next_run_row(key, now)).collect();
    intro.push_str(&Table::format(&RUN_COLUMNS, &rows, screen));
    intro.push('\n');
    intro
}

fn replacement_table(real: &Settings, sinks: &[ReplacedSink], screen: Screen) -> String {
    let credential = match &real.provider.credential_file {
        Some(path) => path.display().to_string(),
        None => "(none)".to_owned(),
    };
    let row = |role: String, real: &str, replacement: &str| {
        [role, real.to_owned(), replacement.to_owned()]
            .map(Cell::from)
            .to_vec()
    };
    let mut rows = vec![
        row(
            "Admin API".to_owned(),
            real.provider.base_url.as_str(),
            "a sandbox in this process",
        ),
        row(
            "admin key".to_owned(),
            &credential,
            environment::ADMIN_KEY_FILE,
        ),
        row(
            "ledger".to_owned(),
            &real.ledger.display().to_string(),
            environment::LEDGER_FILE,
        ),
    ];
    rows.extend(sinks.iter().map(|sink| {
        row(
            format!("{}, {}", sink.key, sink.name),
            &sink.original,
            &sink.replaced_by,
        )
    }));
    rows.extend(real.notify.iter().map(|notify| {
        row(
            "notify".to_owned(),
            notify.subscription.channel.as_str(),
            &format!("recorded in {}", recording::NOTIFICATIONS_FILE),
        )
    }));
    Table::format(&TARGET_COLUMNS, &rows, screen)
}

fn next_run_row(key: &KeySettings, now: Timestamp) -> Vec<Cell> {
    let timetable = &key.policy.timetable;
    let next = match timetable.firings_from(now).next_after(now) {
        Some(at) => format!(
            "{} (in {})",
            time::to_text(at),
            duration::to_human_text(time::until(now, at))
        ),
        None => "never".to_owned(),
    };
    [key.name.to_string(), timetable.to_string(), next]
        .map(Cell::from)
        .to_vec()
}
