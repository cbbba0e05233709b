//! What was measured, beside what it is compared with.

use std::time::Duration;

/// One line of the table.
pub(crate) struct TableRow {
    label: String,
    rekeyd: String,
    compared_with: String,
    ratio: String,
    goal: String,
}

impl TableRow {
    /// What rekeyd needs for `what`.
    pub(crate) fn new(what: impl Into<String>, rekeyd: impl Into<String>) -> Self {
        Self {
            label: what.into(),
            rekeyd: rekeyd.into(),
            compared_with: String::new(),
            ratio: String::new(),
            goal: String::new(),
        }
    }

    /// What somebody else needs, or what cannot be fallen short of.
    pub(crate) fn beside(mut self, beside: impl Into<String>) -> Self {
        self.compared_with = beside.into();
        self
    }

    /// How often what rekeyd needs goes into what the other needs.
    pub(crate) fn times_less(mut self, ratio: f64) -> Self {
        self.ratio = format!("{ratio:.1} times less");
        self
    }

    /// How often what cannot be fallen short of goes into what rekeyd needs.
    pub(crate) fn times_as_long(mut self, ratio: f64) -> Self {
        self.ratio = format!("{ratio:.2} times as long");
        self
    }

    /// What is to be reached.
    pub(crate) fn reach(mut self, reach: impl Into<String>) -> Self {
        self.goal = reach.into();
        self
    }

    fn cells(&self) -> [&str; 5] {
        [
            &self.label,
            &self.rekeyd,
            &self.compared_with,
            &self.ratio,
            &self.goal,
        ]
    }
}

/// As people and Markdown read it.
pub(crate) fn render(rows: &[TableRow]) -> String {
    let head = ["what", "rekeyd", "beside it", "ratio", "to reach"];
    let cells: Vec<_> = rows.iter().map(TableRow::cells).collect();
    let widths: Vec<usize> = (0..head.len())
        .map(|at| {
            let column = cells.iter().map(|row| row[at].chars().count());
            column.chain([head[at].len()]).max().unwrap_or_default()
        })
        .collect();
    let line = |row: &[&str]| {
        let cells = row.iter().zip(&widths);
        let cells = cells.map(|(cell, width)| format!(" {cell:<width$} |"));
        format!("|{}\n", cells.collect::<String>())
    };
    let rule: Vec<String> = widths.iter().map(|width| "-".repeat(*width)).collect();
    let rule: Vec<&str> = rule.iter().map(String::as_str).collect();
    let body = cells.iter().map(|row| line(row));
    format!("{}{}{}", line(&head), line(&rule), body.collect::<String>())
}

/// A time for people.
pub(crate) fn ms(time: Duration) -> String {
    let ms = time.as_secs_f64() * 1_000.0;
    if ms >= 100.0 {
        format!("{ms:.0} ms")
    } else {
        format!("{ms:.1} ms")
    }
}

/// Memory for people.
pub(crate) fn mb(kib: u64) -> String {
    format!("{:.1} MB", megabytes(kib))
}

#[expect(clippy::cast_precision_loss, reason = "for people")]
fn megabytes(kib: u64) -> f64 {
    kib as f64 * 1_024.0 / 1_000_000.0
}

/// How often one amount goes into another, of whatever.
#[expect(clippy::cast_precision_loss, reason = "for people")]
pub(crate) fn ratio(large: u64, small: u64) -> f64 {
    large as f64 / small as f64
}

/// How often `small` goes into `large`.
pub(crate) fn time_ratio(large: Duration, small: Duration) -> f64 {
    large.as_secs_f64() / small.as_secs_f64()
}
