//! The page about metrics, the alert rules and the dashboard name real metrics and labels.

use std::collections::{BTreeMap, BTreeSet};

use crate::support::daemon::Daemon;
use crate::support::{TestEnv, file_key_text, free_address, get};

const PAGE: &str = include_str!("../../docs/metrics.md");
const DASHBOARD: &str = include_str!("../../docs/grafana.json");
const ALERTS: &str = include_str!("../../docs/alerts.yml");

/// Labels that Prometheus adds.
const TARGET_LABELS: [&str; 2] = ["instance", "job"];

/// The suffixes of a histogram's samples.
const HISTOGRAM_SUFFIXES: [&str; 3] = ["_bucket", "_sum", "_count"];

type Metrics = BTreeMap<String, BTreeSet<String>>;

/// Returns the metrics of a real page, with their labels.
fn real_metrics() -> Metrics {
    let address = free_address();
    let world = TestEnv::start(&[]);
    let key = file_key_text("24h").replace(
        "verify-interval",
        "expires-after = \"60d\"\nverify-interval",
    );
    let notify = "[[notify]]\ntype = \"command\"\nargv = [\"/bin/true\"]\n";
    world.configure(&format!("[metrics]\nlisten = \"{address}\"\n{key}{notify}"));
    let mut daemon = Daemon::start(&world);
    daemon.wait_for("is the current credential");
    let (_, _, page) = get(&address, "/metrics");
    daemon.stop();
    let mut metrics = Metrics::new();
    for line in page.lines() {
        if let Some(declared) = line.strip_prefix("# TYPE ") {
            let name = declared.split(' ').next().unwrap();
            metrics.entry(name.to_owned()).or_default();
        } else if !line.starts_with('#') {
            let sample = line.split([' ', '{']).next().unwrap();
            let labels = metrics.get_mut(base_name(sample)).expect(line);
            labels.extend(labels_between_braces(line).into_iter().map(str::to_owned));
        }
    }
    metrics
}

/// Returns the name of the metric that a sample belongs to.
fn base_name(sample: &str) -> &str {
    let mut suffixes = HISTOGRAM_SUFFIXES.iter();
    suffixes
        .find_map(|suffix| sample.strip_suffix(suffix))
        .unwrap_or(sample)
}

/// Returns the names of the labels in the first `{…}` of a text.
fn labels_between_braces(text: &str) -> Vec<&str> {
    let inside = text
        .split_once('{')
        .and_then(|(_, rest)| rest.split_once('}'));
    let Some((inside, _)) = inside else {
        return Vec::new();
    };
    // Values between quotes have no names.
    let names = inside.split('"').step_by(2);
    names
        .map(|part| part.trim_matches([',', '=', '!', '~', ' ']))
        .filter(|name| !name.is_empty())
        .collect()
}

/// Checks the metrics and labels of an expression.
fn check_expression(expression: &str, metrics: &Metrics) {
    let starts: Vec<_> = expression.match_indices("rekeyd_").collect();
    let mut known: BTreeSet<&str> = TARGET_LABELS.into();
    for (start, _) in starts {
        let rest = &expression[start..];
        let end = rest
            .find(|sign: char| !(sign.is_ascii_lowercase() || sign == '_'))
            .unwrap_or(rest.len());
        let (sample, after) = rest.split_at(end);
        let labels = metrics
            .get(base_name(sample))
            .unwrap_or_else(|| panic!("there is no {sample}: {expression}"));
        let used = after.starts_with('{').then(|| labels_between_braces(after));
        for label in used.unwrap_or_default() {
            let is_known = labels.contains(label) || TARGET_LABELS.contains(&label);
            assert!(is_known, "{sample} has no label {label}: {expression}");
        }
        known.extend(labels.iter().map(String::as_str));
    }
    for grouping in expression.split("by (").skip(1) {
        for label in grouping.split(')').next().unwrap().split(", ") {
            assert!(known.contains(label), "no label {label}: {expression}");
        }
    }
}

/// Collects the values of every member with this name.
fn members<'a>(value: &'a serde_json::Value, name: &str, found: &mut Vec<&'a str>) {
    if let Some(object) = value.as_object() {
        for (member, value) in object {
            if let Some(text) = value.as_str().filter(|_| member == name) {
                found.push(text);
            }
            members(value, name, found);
        }
    }
    for item in value.as_array().into_iter().flatten() {
        members(item, name, found);
    }
}

#[test]
fn page_alerts_and_dashboard_name_real_metrics() {
    let metrics = real_metrics();
    let mut documented = Metrics::new();
    for row in PAGE
        .lines()
        .filter(|line| line.starts_with("| `rekeyd_") || line.starts_with("| `process_"))
    {
        let mut cells = row.split(" | ");
        let name = cells.next().unwrap().trim_matches(['|', ' ', '`']);
        let labels = cells.next().unwrap().split('`').skip(1).step_by(2);
        let labels = labels.map(str::to_owned).collect();
        documented.insert(name.to_owned(), labels);
    }
    assert_eq!(documented, metrics);
    let dashboard: serde_json::Value = serde_json::from_str(DASHBOARD).unwrap();
    let mut expressions = Vec::new();
    members(&dashboard, "expr", &mut expressions);
    assert!(expressions.len() > 5, "{expressions:?}");
    members(&dashboard, "query", &mut expressions);
    for expression in &expressions {
        check_expression(expression, &metrics);
    }
    let mut legends = Vec::new();
    members(&dashboard, "legendFormat", &mut legends);
    for legend in legends {
        for label in legend.split("{{").skip(1) {
            let label = label.split("}}").next().unwrap();
            let is_known = metrics.values().any(|labels| labels.contains(label))
                || TARGET_LABELS.contains(&label);
            assert!(is_known, "{legend}");
        }
    }
    let names = ALERTS
        .lines()
        .filter_map(|line| line.trim().strip_prefix("- alert: "));
    let alerts: Vec<_> = names.map(|name| format!("| `{name}` |")).collect();
    assert!(alerts.len() > 3, "{alerts:?}");
    for alert in &alerts {
        assert!(PAGE.contains(alert), "{alert}");
    }
    assert_eq!(PAGE.matches("| `Rekeyd").count(), alerts.len());
    for line in ALERTS.lines().filter(|line| line.contains("rekeyd_")) {
        check_expression(line, &metrics);
    }
}

#[test]
#[should_panic(expected = "there is no rekeyd_overdu")]
fn unknown_metrics_are_found() {
    check_expression("rekeyd_overdu == 1", &Metrics::new());
}

#[test]
#[should_panic(expected = "has no label sink")]
fn unknown_labels_are_found() {
    let labels = BTreeSet::from(["key".to_owned()]);
    let metrics = Metrics::from([("rekeyd_overdue".to_owned(), labels)]);
    check_expression("rekeyd_overdue{key=\"a, c\",sink!=\"b\"}", &metrics);
}
