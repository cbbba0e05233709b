//! The normalized observations of the scenarios, from which golden files are made.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

/// The observations. Those of all scenarios are merged: the shape of a log line or an
/// event does not depend on its scenario.
#[derive(Default)]
pub(crate) struct Recording {
    /// Named entries of golden files, by file.
    entries: BTreeMap<String, BTreeMap<String, Value>>,
    /// The shape of each log line: its level, target and fields.
    pub(crate) log_lines: BTreeSet<String>,
    /// The members of each event's details, once for each row.
    events: BTreeMap<String, Vec<BTreeMap<String, BTreeSet<String>>>>,
    /// The columns of each view.
    pub(crate) columns: BTreeMap<String, Vec<String>>,
    /// The enumerated values in each column of each view.
    pub(crate) words: BTreeMap<String, BTreeSet<String>>,
    /// The metrics.
    metrics: BTreeMap<String, Metric>,
    /// The golden files that cannot be recorded on this host.
    pub(crate) skipped: Vec<String>,
}

/// A metric on the page.
#[derive(Default)]
pub(crate) struct Metric {
    pub(crate) kind: String,
    /// The values of each label.
    pub(crate) labels: BTreeMap<String, BTreeSet<String>>,
}

impl Recording {
    pub(crate) fn entry(&mut self, file: &str, name: &str, value: Value) {
        let entries = self.entries.entry(file.to_owned()).or_default();
        let before = entries.insert(name.to_owned(), value);
        assert!(before.is_none(), "{file}.json has {name:?} twice");
    }

    /// Adds a row of the events' view: the members of its details, with the values of the
    /// enumerated ones.
    pub(crate) fn event(&mut self, event: &str, detail: BTreeMap<String, BTreeSet<String>>) {
        self.events
            .entry(event.to_owned())
            .or_default()
            .push(detail);
    }

    pub(crate) fn metric(&mut self, name: &str) -> &mut Metric {
        self.metrics.entry(name.to_owned()).or_default()
    }

    pub(crate) fn merge(&mut self, other: Self) {
        for (file, entries) in other.entries {
            for (name, value) in entries {
                self.entry(&file, &name, value);
            }
        }
        self.log_lines.extend(other.log_lines);
        for (event, rows) in other.events {
            self.events.entry(event).or_default().extend(rows);
        }
        for (view, columns) in other.columns {
            let recorded = self.columns.entry(view).or_insert_with(|| columns.clone());
            assert_eq!(
                *recorded, columns,
                "a view has the same columns in each ledger"
            );
        }
        for (column, words) in other.words {
            self.words.entry(column).or_default().extend(words);
        }
        for (name, metric) in other.metrics {
            let recorded = self.metric(&name);
            recorded.kind = metric.kind;
            for (label, values) in metric.labels {
                recorded.labels.entry(label).or_default().extend(values);
            }
        }
        self.skipped.extend(other.skipped);
    }

    /// Returns the golden files, by name.
    pub(crate) fn into_files(self) -> BTreeMap<String, Value> {
        let mut files: BTreeMap<String, Value> = self
            .entries
            .into_iter()
            .map(|(file, entries)| (file, Value::Object(entries.into_iter().collect())))
            .collect();
        // Which debug lines about the process itself there are depends on timing: whether
        // the ledger still responds at its end.
        let is_stable = |line: &&String| {
            let fields = line.split_once(": ").map_or("", |(_, fields)| fields);
            let has = |subject: &str| fields.split(", ").any(|field| field == subject);
            !line.starts_with("DEBUG ") || has("key") || has("operation")
        };
        let log_lines: Vec<_> = self.log_lines.iter().filter(is_stable).collect();
        files.insert("log-lines".to_owned(), json!(log_lines));
        let events = self.events.iter();
        let events = events.map(|(event, rows)| (event.clone(), event_shape(rows)));
        files.insert("events".to_owned(), Value::Object(events.collect()));
        let views = json!({"columns": self.columns, "values": self.words});
        files.insert("views".to_owned(), views);
        let metrics = self.metrics.iter().map(|(name, metric)| {
            let shape = json!({"type": metric.kind, "labels": metric.labels});
            (name.clone(), shape)
        });
        files.insert("metrics".to_owned(), Value::Object(metrics.collect()));
        files
    }
}

/// Returns the members that the details of an event always and sometimes have, and the
/// enumerated values.
fn event_shape(rows: &[BTreeMap<String, BTreeSet<String>>]) -> Value {
    let mut always: BTreeSet<&String> = rows[0].keys().collect();
    let mut values: BTreeMap<&String, BTreeSet<&String>> = BTreeMap::new();
    for row in rows {
        always.retain(|member| row.contains_key(*member));
        for (member, words) in row {
            values.entry(member).or_default().extend(words);
        }
    }
    let mut shape = Map::new();
    for (member, words) in values {
        let presence = if always.contains(member) {
            "always"
        } else {
            "sometimes"
        };
        let value = if words.is_empty() {
            json!(presence)
        } else {
            json!({"present": presence, "values": words})
        };
        shape.insert(member.clone(), value);
    }
    Value::Object(shape)
}
