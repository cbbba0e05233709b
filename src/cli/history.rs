//! `rekeyd history`: past rotations, as the SQL view tells them.

use std::path::Path;
use std::time::Duration;

use rusqlite::types::Value as Sql;
use serde_json::{Map, Value, json};

use crate::cli::{Cli, Failure, output, text};
use crate::core::{duration, time};
use crate::ledger::{LedgerError, read};
use crate::platform::clock::{Clock as _, SystemClock};

#[derive(Debug, clap::Args)]
pub(crate) struct HistoryCommand {
    /// Only this key
    key: Option<String>,
    /// Only rotations that were begun within this time
    #[arg(long, value_name = "DURATION", value_parser = duration::parse)]
    since: Option<Duration>,
    /// At most so many
    #[arg(long, value_name = "N")]
    limit: Option<u32>,
    /// As a JSON array of objects with the columns of the view
    #[arg(long, conflicts_with = "csv")]
    json: bool,
    /// As comma-separated values with a header
    #[arg(long)]
    csv: bool,
}

/// The view's columns and its rows.
struct HistoryTable {
    columns: Vec<String>,
    rows: Vec<Vec<Sql>>,
}

impl HistoryCommand {
    pub(crate) fn run(&self, cli: &Cli) -> Result<(), Failure> {
        let settings = cli.load_settings()?;
        let found = self.query(&settings.ledger)?;
        if self.json {
            return output::print_json(&to_json(&found));
        }
        if self.csv {
            return output::print(&to_csv(&found)?);
        }
        if found.rows.is_empty() {
            let is_all = self.key.is_none() && self.since.is_none() && self.limit != Some(0);
            let said: &[u8] = if is_all {
                b"no rotation yet\n"
            } else {
                b"no such rotation\n"
            };
            return output::print(said);
        }
        output::print(to_table(&found).as_bytes())
    }

    /// Prints the table for people: the end of the demo.
    pub(crate) fn print_all(ledger: &Path) -> Result<(), Failure> {
        let all = Self {
            key: None,
            since: None,
            limit: Some(50),
            json: false,
            csv: false,
        };
        output::print(to_table(&all.query(ledger)?).as_bytes())
    }

    fn query(&self, ledger: &Path) -> Result<HistoryTable, LedgerError> {
        let connection = read::open(ledger)?;
        let since = self
            .since
            .map(|since| time::to_text(time::before(SystemClock.now(), since)));
        let mut sql = "SELECT * FROM history WHERE true".to_owned();
        let mut values = Vec::new();
        if let Some(key) = &self.key {
            sql.push_str(" AND key = ?");
            values.push(Sql::Text(key.clone()));
        }
        if let Some(since) = since {
            sql.push_str(" AND started_at >= ?");
            values.push(Sql::Text(since));
        }
        // Otherwise SQLite sorts every row there is before it gives the first.
        if let (None, Some(limit)) = (&self.key, self.limit) {
            sql.push_str(
                " AND started_at >= coalesce((SELECT started_at FROM history
                  ORDER BY started_at DESC LIMIT 1 OFFSET ?), '')",
            );
            values.push(Sql::Integer(i64::from(limit.saturating_sub(1))));
        }
        // Of one key the sequence says what is newer, whatever the clock did.
        sql.push_str(match self.key {
            Some(_) => " ORDER BY sequence DESC",
            None => " ORDER BY started_at DESC, key, sequence DESC",
        });
        sql.push_str(" LIMIT ?");
        values.push(Sql::Integer(self.limit.map_or(-1, i64::from)));
        let mut statement = connection.prepare(&sql)?;
        let columns: Vec<String> = statement.column_names().map(str::to_owned).collect();
        let width = columns.len();
        let rows = statement
            .query_map(rusqlite::params_from_iter(values), |row| {
                (0..width).map(|at| row.get::<_, Sql>(at)).collect()
            })?
            .collect::<Result<_, _>>()?;
        Ok(HistoryTable { columns, rows })
    }
}

fn to_json(found: &HistoryTable) -> Value {
    let rows = found.rows.iter().map(|row| {
        let members = found.columns.iter().zip(row).map(|(column, value)| {
            let value = match value {
                Sql::Null => Value::Null,
                Sql::Integer(number) => json!(number),
                Sql::Real(number) => json!(number),
                Sql::Text(text) => json!(text),
                Sql::Blob(_) => json!("(not text)"),
            };
            (column.clone(), value)
        });
        Value::Object(members.collect::<Map<_, _>>())
    });
    Value::Array(rows.collect())
}

fn cell_text(value: &Sql) -> String {
    match value {
        Sql::Null => String::new(),
        Sql::Integer(number) => number.to_string(),
        Sql::Real(number) => number.to_string(),
        Sql::Text(text) => text.clone(),
        Sql::Blob(_) => "(not text)".to_owned(),
    }
}

fn to_csv(found: &HistoryTable) -> Result<Vec<u8>, Failure> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    let failed = |error: csv::Error| Failure::Other(format!("cannot write the values: {error}"));
    writer.write_record(&found.columns).map_err(failed)?;
    for row in &found.rows {
        writer
            .write_record(row.iter().map(cell_text))
            .map_err(failed)?;
    }
    writer
        .into_inner()
        .map_err(|error| Failure::Other(error.to_string()))
}

/// The columns that a person looks for first; the rest is in JSON and SQL.
const SUMMARY_COLUMNS: [&str; 7] = [
    "key",
    "sequence",
    "trigger",
    "started_at",
    "credential_id",
    "phase",
    "revoke_after",
];

fn to_table(found: &HistoryTable) -> String {
    let at = |name: &str| found.columns.iter().position(|column| column == name);
    let places: Vec<_> = SUMMARY_COLUMNS.iter().filter_map(|name| at(name)).collect();
    let error = at("error");
    let rows: Vec<Vec<String>> = found
        .rows
        .iter()
        .map(|row| {
            let mut cells: Vec<_> = places.iter().map(|place| cell_text(&row[*place])).collect();
            cells.push(
                error
                    .map(|place| cell_text(&row[place]))
                    .unwrap_or_default(),
            );
            cells
        })
        .collect();
    let head: Vec<_> = SUMMARY_COLUMNS.into_iter().chain(["error"]).collect();
    text::format_table(&head, &rows)
}
