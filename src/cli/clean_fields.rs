//! The fields of log lines, before any format has them: what a provider, a file or another
//! program said must neither act on a terminal nor look like another line.

use tracing::field::{Field, Value, Visit, display};
use tracing::{Event, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

use crate::cli::terminal_text::visible_line;

/// Passes events on to a layer with clean texts.
pub(crate) struct CleanFields<L>(pub(crate) L);

/// The value of a field.
enum CleanValue {
    Signed(i64),
    Unsigned(u64),
    Float(f64),
    Truth(bool),
    /// A text, which some formats quote.
    Text(String),
    /// What a value is shown as.
    Shown(String),
}

/// The values of an event, by the place of their fields.
struct CleanValues(Vec<Option<CleanValue>>);

impl<L, S> Layer<S> for CleanFields<L>
where
    L: Layer<S>,
    S: Subscriber,
{
    fn on_layer(&mut self, subscriber: &mut S) {
        self.0.on_layer(subscriber);
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let fields = event.metadata().fields();
        let mut clean = CleanValues(fields.iter().map(|_| None).collect());
        event.record(&mut clean);
        let boxed: Vec<_> = clean
            .0
            .iter()
            .map(|value| value.as_ref().map(CleanValue::as_value))
            .collect();
        let values: Vec<_> = boxed.iter().map(|value| value.as_deref()).collect();
        let values = fields.value_set_all(&values);
        self.0
            .on_event(&Event::new(event.metadata(), &values), context);
    }
}

impl CleanValue {
    fn as_value(&self) -> Box<dyn Value + '_> {
        match self {
            Self::Signed(number) => Box::new(*number),
            Self::Unsigned(number) => Box::new(*number),
            Self::Float(number) => Box::new(*number),
            Self::Truth(truth) => Box::new(*truth),
            Self::Text(text) => Box::new(text.as_str()),
            Self::Shown(text) => Box::new(display(text)),
        }
    }
}

impl CleanValues {
    fn set(&mut self, field: &Field, value: CleanValue) {
        if let Some(place) = self.0.get_mut(field.index()) {
            *place = Some(value);
        }
    }
}

impl Visit for CleanValues {
    fn record_i64(&mut self, field: &Field, value: i64) {
        self.set(field, CleanValue::Signed(value));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.set(field, CleanValue::Unsigned(value));
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.set(field, CleanValue::Float(value));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.set(field, CleanValue::Truth(value));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.set(field, CleanValue::Text(visible_line(value)));
    }

    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        self.set(field, CleanValue::Shown(visible_line(&value.to_string())));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        let shown = format!("{value:?}");
        self.set(field, CleanValue::Shown(visible_line(&shown)));
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::{Arc, Mutex};

    use tracing_subscriber::fmt;
    use tracing_subscriber::layer::SubscriberExt as _;

    use super::*;
    use crate::core::redact::is_printable;

    /// What a terminal acts on, or what looks like another line, beside what is shown.
    const TEXTS: [(&str, &str); 9] = [
        ("a\u{1b}b", "a\u{fffd}b"),
        ("a\u{1b}[31mb", "a\u{fffd}[31mb"),
        (
            "a\u{1b}]8;;http://x\u{1b}\\b\u{1b}]8;;\u{7}",
            "a\u{fffd}]8;;http://x\u{fffd}\\b\u{fffd}]8;;\u{fffd}",
        ),
        ("a\u{9b}2Jb\u{85}c", "a\u{fffd}2Jb\u{fffd}c"),
        ("a\u{202e}b\u{2066}", "a\u{fffd}b\u{fffd}"),
        ("a\n2026 ERROR b", "a\u{fffd}2026 ERROR b"),
        ("a\rb\u{8}", "a\u{fffd}b\u{fffd}"),
        ("a\u{200b}\u{feff}b\u{7f}", "a\u{fffd}\u{fffd}b\u{fffd}"),
        ("übel ● ▲", "übel ● ▲"),
    ];

    /// Keeps what a layer writes.
    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl Write for Written {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    /// Returns what one event with `text` in each kind of field is written as.
    fn logged(text: &str, is_json: bool) -> String {
        let written = Written::default();
        let writer = written.clone();
        let layer = fmt::layer().with_writer(move || writer.clone());
        let layer: Box<dyn Layer<_> + Send + Sync> = if is_json {
            Box::new(CleanFields(layer.json().flatten_event(true)))
        } else {
            Box::new(CleanFields(layer.with_ansi(false)))
        };
        let subscriber = tracing_subscriber::registry().with(layer);
        tracing::subscriber::with_default(subscriber, || {
            let error = std::io::Error::other(text);
            let error: &(dyn std::error::Error + 'static) = &error;
            tracing::warn!(text, shown = %text, error, number = -7, truth = true, "said {text}");
        });
        let bytes = written.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn no_field_of_a_log_line_acts_on_a_terminal() {
        for (text, expected) in TEXTS {
            let human = logged(text, false);
            let line = human.strip_suffix('\n').unwrap();
            assert!(line.chars().all(is_printable), "{human:?}");
            for part in [
                &format!("said {expected}"),
                &format!("shown={expected}"),
                &format!("error={expected}"),
                "number=-7",
                "truth=true",
            ] {
                assert!(human.contains(part), "{part}: {human:?}");
            }
            let json = logged(text, true);
            assert!(json.trim_end().chars().all(is_printable), "{json:?}");
            let value: serde_json::Value = serde_json::from_str(&json).unwrap();
            assert_eq!(value["message"], format!("said {expected}"));
            for field in ["text", "shown", "error"] {
                assert_eq!(value[field], expected, "{field}");
            }
            assert_eq!(value["number"], -7);
            assert_eq!(value["truth"], true);
        }
    }
}
