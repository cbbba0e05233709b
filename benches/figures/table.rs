//! The measured values, beside those that they are compared with.

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
    /// Returns the row of rekeyd's value for `label`.
    pub(crate) fn new(label: impl Into<String>, rekeyd: impl Into<String>) -> Self {
        Self {
            label: label.into(),
            rekeyd: rekeyd.into(),
            compared_with: String::new(),
            ratio: String::new(),
            goal: String::new(),
        }
    }

    /// Adds the value of another program, or the lower bound.
    pub(crate) fn beside(mut self, other: impl Into<String>) -> Self {
        self.compared_with = other.into();
        self
    }

    /// Adds the ratio of the other program's value to rekeyd's.
    pub(crate) fn times_less(mut self, ratio: f64) -> Self {
        self.ratio = format!("{ratio:.1} times less");
        self
    }

    /// Adds the ratio of rekeyd's value to the lower bound.
    pub(crate) fn times_as_long(mut self, ratio: f64) -> Self {
        self.ratio = format!("{ratio:.2} times as long");
        self
    }

    /// Adds the ratio of rekeyd's amount to the other one.
    pub(crate) fn times_as_much(mut self, ratio: f64) -> Self {
        self.ratio = format!("{ratio:.2} times as much");
        self
    }

    /// Adds the goal.
    pub(crate) fn reach(mut self, goal: impl Into<String>) -> Self {
        self.goal = goal.into();
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

/// Formats the rows as a table of Markdown that people can read as well.
pub(crate) fn render(rows: &[TableRow]) -> String {
    let head = ["what", "rekeyd", "beside it", "ratio", "to reach"];
    let cells: Vec<_> = rows.iter().map(TableRow::cells).collect();
    let widths: Vec<usize> = (0..head.len())
        .map(|index| {
            let column = cells.iter().map(|row| row[index].chars().count());
            column.chain([head[index].len()]).max().unwrap_or_default()
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

/// Formats a time.
pub(crate) fn ms(time: Duration) -> String {
    let ms = time.as_secs_f64() * 1_000.0;
    if ms >= 100.0 {
        format!("{ms:.0} ms")
    } else {
        format!("{ms:.1} ms")
    }
}

/// Formats an amount of memory.
pub(crate) fn mb(kib: u64) -> String {
    format!("{:.1} MB", megabytes(kib))
}

#[expect(clippy::cast_precision_loss, reason = "only displayed")]
fn megabytes(kib: u64) -> f64 {
    kib as f64 * 1_024.0 / 1_000_000.0
}

/// Returns the ratio of two amounts.
#[expect(clippy::cast_precision_loss, reason = "only displayed")]
pub(crate) fn ratio(large: u64, small: u64) -> f64 {
    large as f64 / small as f64
}

/// Returns the ratio of two times.
pub(crate) fn time_ratio(large: Duration, small: Duration) -> f64 {
    large.as_secs_f64() / small.as_secs_f64()
}
