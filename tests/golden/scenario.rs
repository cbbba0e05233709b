//! A scenario: a folder, a sandbox, a receiver and the real binary, with the recordings
//! of them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Read;
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use jiff::tz::TimeZone;
use rusqlite::types::Value as Sql;
use rusqlite::{Connection, OpenFlags};
use serde_json::{Map, Value, json};

use crate::configuration::{EVENTS_VIEW, VIEWS};
use crate::daemon::{Daemon, Log};
use crate::http::{self, Response};
use crate::json_schema::{problems, strict_schema};
use crate::normalizer::Normalizer;
use crate::receiver::{BEARER_TOKEN, Receiver, SIGNING_SECRET};
use crate::recording::Recording;
use crate::support::control_socket;
use crate::support::{ChildGuard, TestEnv, text, write};

/// How long a scenario waits for a condition.
const PATIENCE: Duration = Duration::from_secs(60);

/// The interval between checks of a condition.
const PACE: Duration = Duration::from_millis(5);

/// The columns of views whose values are enumerated.
const ENUMERATED_COLUMNS: [(&str, &str); 3] = [
    ("history", "phase"),
    ("history", "trigger"),
    ("deliveries", "state"),
];

/// The members of an event's details whose values are enumerated.
const ENUMERATED_DETAILS: [&str; 4] = ["from", "outcome", "to", "trigger"];

/// The fields of log lines whose values are enumerated.
const ENUMERATED_FIELDS: [&str; 5] = ["alarm", "condition", "event", "trigger", "verb"];

pub(crate) struct Scenario {
    pub(crate) env: TestEnv,
    pub(crate) receiver: Receiver,
    /// The address of the metrics, if the configuration serves them.
    pub(crate) metrics: String,
    /// The ledger, usually that of the configuration.
    pub(crate) ledger: PathBuf,
    pub(crate) recording: Recording,
    pub(crate) normalizer: Normalizer,
    entries: Vec<(String, String, Value)>,
    log: Log,
}

/// Panics if a document with a JSON Schema does not match it.
fn check_schema(file: &str, name: &str, value: &Value) {
    let (schema, document) = match (file, name) {
        ("status" | "history" | "schedule" | "audit" | "show", _) => {
            (file, &value["standard output"])
        }
        ("webhook", _) => ("webhook", &value["body"]),
        ("notifications", "the whole webhook") => ("notification", &value["body"]),
        ("notifications", _) | ("mail", "JSON at the end") => ("notification", value),
        ("delivered-files", "json") => ("file", value),
        _ => return,
    };
    // A command that failed prints no document, and CSV is recorded in another form.
    if document.is_object() || document.is_array() {
        let found = problems(&strict_schema(schema), document);
        assert_eq!(found, [""; 0], "{file}, {name}: {document:#}");
    }
}

impl Scenario {
    /// Starts a scenario whose sandbox has these arguments.
    pub(crate) fn start(sandbox: &[&str]) -> Self {
        Self::of(TestEnv::start(sandbox))
    }

    pub(crate) fn of(env: TestEnv) -> Self {
        write(&env.path("signing-secret"), SIGNING_SECRET);
        write(&env.path("bearer-token"), BEARER_TOKEN);
        Self {
            ledger: env.path("ledger.db"),
            env,
            receiver: Receiver::start(),
            metrics: unused_address(),
            recording: Recording::default(),
            normalizer: Normalizer::default(),
            entries: Vec::new(),
            log: Log::default(),
        }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.env.path(name)
    }

    /// Writes the configuration with its placeholders replaced.
    pub(crate) fn configure(&self, configuration: &str) {
        let dir = self.env.dir.path().display().to_string();
        let own_user = rustix::process::geteuid().as_raw().to_string();
        let text = configuration
            .replace("DIR", &dir)
            .replace("PROVIDER", &self.env.base_url)
            .replace("RECEIVER", &self.receiver.url)
            .replace("OWN-USER", &own_user)
            .replace("METRICS", &self.metrics);
        let text = with_schedules(&text);
        write(&self.path("config.toml"), &text);
    }

    /// Returns a command that logs JSON.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let logged = ["--log-format", "json", "--log-level", "debug"];
        self.env.command(&[&logged, arguments].concat())
    }

    /// Runs a command to its end.
    pub(crate) fn run(&self, arguments: &[&str]) -> Output {
        self.output_of(self.command(arguments))
    }

    /// Runs a command to its end and stores its log lines. The rest of its standard error
    /// replaces the whole in the result.
    pub(crate) fn output_of(&self, mut command: Command) -> Output {
        let piped = command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = ChildGuard(piped.spawn().unwrap());
        let read = |mut pipe: Box<dyn Read + Send>| {
            std::thread::spawn(move || {
                let mut bytes = Vec::new();
                pipe.read_to_end(&mut bytes).unwrap();
                bytes
            })
        };
        let stdout = read(Box::new(child.0.stdout.take().unwrap()));
        let stderr = read(Box::new(child.0.stderr.take().unwrap()));
        let what = format!("{command:?} ends");
        self.wait(&what, || child.0.try_wait().unwrap().is_some());
        let status = child.0.wait().unwrap();
        let stderr = text(&stderr.join().unwrap());
        let (logged, rest): (Vec<_>, Vec<_>) =
            stderr.lines().partition(|line| line.starts_with('{'));
        let mut log = self.log.lock().unwrap();
        log.extend(logged.into_iter().map(str::to_owned));
        Output {
            status,
            stdout: stdout.join().unwrap(),
            stderr: rest.join("\n").into_bytes(),
        }
    }

    /// Runs a command that must succeed.
    pub(crate) fn ok(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        let rest = text(&output.stderr);
        assert!(
            output.status.success(),
            "{arguments:?}: {rest}\n{}",
            self.log()
        );
        text(&output.stdout)
    }

    /// Runs a command and records its exit code and its output: JSON as it is, anything
    /// else as text.
    pub(crate) fn record_command(&mut self, file: &str, name: &str, arguments: &[&str]) {
        let value = self.outcome(arguments);
        self.record(file, name, value);
    }

    /// Returns the value that [`Scenario::record_command`] records.
    pub(crate) fn outcome(&self, arguments: &[&str]) -> Value {
        let output = self.run(arguments);
        let printed = text(&output.stdout);
        let free = |text: &str| if text.is_empty() { "" } else { "<text>" };
        let printed: Value =
            serde_json::from_str(&printed).unwrap_or_else(|_| free(&printed).into());
        json!({
            "command": arguments.join(" "),
            "exit code": output.status.code(),
            "standard output": printed,
            "standard error": free(&text(&output.stderr)),
        })
    }

    /// Compares the output of a command with its JSON Schema, and records nothing.
    pub(crate) fn check_output(&self, schema: &str, arguments: &[&str]) {
        let output = self.run(arguments);
        let document: Value = serde_json::from_slice(&output.stdout).unwrap();
        let found = problems(&strict_schema(schema), &document);
        assert_eq!(found, [""; 0], "{arguments:?}: {document:#}");
    }

    /// Adds an entry to a golden file. It is normalized at the end, when all ids are
    /// known.
    pub(crate) fn record(&mut self, file: &str, name: &str, value: Value) {
        check_schema(file, name, &value);
        self.entries.push((file.to_owned(), name.to_owned(), value));
    }

    /// Returns a running `rekeyd run`, once it answers on its control socket.
    pub(crate) fn daemon(&self) -> Daemon {
        let daemon = Daemon::start(self.command(&["run"]), &self.log);
        self.wait("the daemon answers", || {
            let answer = self.ask("GET", "/daemon", "");
            answer.is_some_and(|answer| daemon.sent(&answer))
        });
        daemon
    }

    /// Starts a command that runs until it is stopped.
    pub(crate) fn spawn(&self, command: Command) -> Daemon {
        Daemon::start(command, &self.log)
    }

    pub(crate) fn log(&self) -> String {
        self.log.lock().unwrap().join("\n")
    }

    /// Waits for a condition.
    pub(crate) fn wait(&self, what: &str, mut is_so: impl FnMut() -> bool) {
        let started = Instant::now();
        while !is_so() {
            let log = || self.log();
            assert!(
                started.elapsed() < PATIENCE,
                "waited in vain: {what}\n{}",
                log()
            );
            std::thread::sleep(PACE);
        }
    }

    /// Sends a request on the control socket.
    pub(crate) fn ask(&self, method: &str, path: &str, body: &str) -> Option<Response> {
        let mut stream = UnixStream::connect(self.path("control.sock")).ok()?;
        let cookie = control_socket::read_cookie(&self.path("ledger.db"))?;
        let handshake = control_socket::shake_hands(&mut stream)?;
        let proof = handshake.prove(&cookie, method, path, body);
        http::send(stream, method, path, &[("rekeyd-proof", &proof)], body)
    }

    /// Returns the rows of a query; none while the ledger does not exist.
    pub(crate) fn query(&self, sql: &str, parameters: &[&str]) -> Vec<Vec<Sql>> {
        query(&self.ledger, sql, parameters).unwrap_or_default()
    }

    /// Returns the first column of a query's first row, as text.
    pub(crate) fn cell(&self, sql: &str, parameters: &[&str]) -> Option<String> {
        let rows = self.query(sql, parameters);
        rows.first().map(|row| sql_to_text(&row[0]))
    }

    /// Returns the phase of a key's newest rotation.
    pub(crate) fn phase(&self, key: &str) -> Option<String> {
        let sql = "SELECT phase FROM history WHERE key = ?1 ORDER BY sequence DESC LIMIT 1";
        self.cell(sql, &[key])
    }

    pub(crate) fn wait_for_phase(&self, key: &str, phase: &str) {
        let what = format!("{key} is {phase}");
        self.wait(&what, || self.phase(key).as_deref() == Some(phase));
    }

    /// Waits for the state of a sink's delivery of the newest rotation.
    pub(crate) fn wait_for_delivery(&self, key: &str, sink: &str, state: &str) {
        let sql = "SELECT d.state FROM deliveries d JOIN history h ON h.rotation = d.rotation
                   WHERE d.key = ?1 AND d.sink = ?2 ORDER BY h.sequence DESC LIMIT 1";
        let what = format!("the delivery of {key} to {sink} is {state}");
        self.wait(&what, || {
            self.cell(sql, &[key, sink]).as_deref() == Some(state)
        });
    }

    /// Returns how often an event of a key was recorded.
    pub(crate) fn events(&self, key: &str, event: &str) -> usize {
        let sql = format!("SELECT 1 FROM {EVENTS_VIEW} WHERE key = ?1 AND event = ?2");
        self.query(&sql, &[key, event]).len()
    }

    pub(crate) fn wait_for_event(&self, key: &str, event: &str) {
        let what = format!("the event {event} of {key}");
        self.wait(&what, || self.events(key, event) > 0);
    }

    /// Returns the id of the newest credential of a key in a phase.
    pub(crate) fn credential(&self, key: &str, phase: &str) -> String {
        let sql = "SELECT credential_id FROM history WHERE key = ?1 AND phase = ?2
                   ORDER BY sequence DESC LIMIT 1";
        let found = self.cell(sql, &[key, phase]);
        found.unwrap_or_else(|| panic!("no credential of {key} is {phase}"))
    }

    /// Sends a request to the sandbox as another program would.
    pub(crate) fn provider(&self, method: &str, rest: &str, secret: &str, body: &str) -> Value {
        let url: url::Url = self.env.base_url.parse().unwrap();
        let stream = TcpStream::connect(("127.0.0.1", url.port().unwrap())).unwrap();
        let path = format!("{}/organization/admin_api_keys{rest}", url.path());
        let headers = [("authorization", &*format!("Bearer {secret}"))];
        let answer = http::send(stream, method, &path, &headers, body).unwrap();
        assert_eq!(answer.status, 200, "{method} {path}: {}", answer.body);
        answer.value()
    }

    /// Creates a credential without rekeyd, and returns its id.
    pub(crate) fn create_by_hand(&self, name: &str) -> String {
        let body = json!({"name": name}).to_string();
        let made = self.provider("POST", "", &self.env.admin_key, &body);
        made["id"].as_str().unwrap().to_owned()
    }

    pub(crate) fn delete_by_hand(&self, id: &str) {
        self.provider("DELETE", &format!("/{id}"), &self.env.admin_key, "");
    }

    /// Edits the state of the sandbox while it is stopped.
    pub(crate) fn edit_sandbox(&mut self, arguments: &[&str], edit: impl FnOnce(&mut Vec<Value>)) {
        self.env.stop_sandbox();
        let mut keys = self.env.keys();
        edit(&mut keys);
        write(&self.path("sandbox.json"), &json!(keys).to_string());
        self.env.restart_sandbox(arguments);
    }

    /// Records the enumerated values that the views show now.
    pub(crate) fn note_words(&mut self) {
        for (view, column) in ENUMERATED_COLUMNS {
            let sql = format!("SELECT DISTINCT {column:?} FROM {view}");
            let rows = self.query(&sql, &[]);
            let words = self.recording.words.entry(format!("{view}.{column}"));
            words
                .or_default()
                .extend(rows.iter().map(|row| sql_to_text(&row[0])));
        }
    }

    /// Records every metric of a running daemon.
    pub(crate) fn note_metrics(&mut self) {
        let page = http::get(&self.metrics, "/metrics").unwrap();
        assert_eq!(page.status, 200);
        for line in page.body.lines() {
            if let Some(rest) = line.strip_prefix("# TYPE ") {
                let (name, kind) = rest.split_once(' ').unwrap();
                kind.clone_into(&mut self.recording.metric(name).kind);
                continue;
            }
            let Some((sample, _)) = line.rsplit_once(' ').filter(|_| !line.starts_with('#')) else {
                continue;
            };
            let (name, labels) = sample.split_once('{').unwrap_or((sample, ""));
            let metric = name
                .strip_suffix("_bucket")
                .or_else(|| name.strip_suffix("_count"))
                .or_else(|| name.strip_suffix("_sum"))
                .unwrap_or(name);
            let metric = self.recording.metric(metric);
            let labels = labels.trim_end_matches('}').split(',');
            for (label, value) in labels.filter_map(|label| label.split_once('=')) {
                // The keys and sinks depend on the configuration.
                let value = match label {
                    "key" => "<key>",
                    "sink" => "<sink>",
                    "version" => "<version>",
                    _ => value.trim_matches('"'),
                };
                let values = metric.labels.entry(label.to_owned()).or_default();
                values.insert(value.to_owned());
            }
        }
    }

    /// Returns the files that rekeyd created in a folder: type, mode and owner of each
    /// entry whose name begins with one of these texts.
    pub(crate) fn files(&self, folder: &Path, beginnings: &[&str]) -> Value {
        let own = rustix::process::geteuid().as_raw();
        let entry = |path: &Path| {
            let facts = path.symlink_metadata().unwrap();
            let kind = facts.file_type();
            let kind = match (kind.is_dir(), kind.is_file()) {
                (true, _) => "folder",
                (_, true) => "file",
                (false, false) => "socket",
            };
            json!({
                "type": kind,
                "mode": format!("{:04o}", facts.mode() & 0o7777),
                "owner": if facts.uid() == own { "<own user>" } else { "<another user>" },
            })
        };
        let entries = fs::read_dir(folder).unwrap().map(Result::unwrap);
        let entries = entries.filter_map(|found| {
            let name = found.file_name().into_string().unwrap();
            let is_wanted = beginnings
                .iter()
                .any(|beginning| name.starts_with(beginning));
            is_wanted.then(|| (name, entry(&found.path())))
        });
        Value::Object(entries.collect())
    }

    /// Returns all recordings, normalized.
    pub(crate) fn finish(mut self) -> Recording {
        self.note_words();
        self.know_names();
        for (file, name, value) in std::mem::take(&mut self.entries) {
            let value = self.normalizer.value(&value);
            self.recording.entry(&file, &name, value);
        }
        for line in self.log.lock().unwrap().iter() {
            // The line of another program is not a face of this one.
            self.recording.log_lines.extend(log_line_shape(line));
        }
        self.note_views();
        self.recording
    }

    /// Gives every id and secret a name, at the end and before the ledger is removed.
    pub(crate) fn know_names(&mut self) {
        let sql = "SELECT key, sequence, rotation, label, credential_id FROM history
                   ORDER BY key, sequence";
        let mut places: BTreeMap<String, usize> = BTreeMap::new();
        let mut owners = BTreeMap::new();
        for row in self.query(sql, &[]) {
            let [key, sequence, rotation, label, credential] = &row[..] else {
                unreachable!("five columns");
            };
            let key = sql_to_text(key);
            let place = places.entry(key.clone()).or_default();
            *place += 1;
            let of = format!("{place} of {key}");
            self.normalizer
                .sequence(&key, sql_to_text(sequence).parse().unwrap(), *place);
            for (what, id) in [
                ("rotation", rotation),
                ("label", label),
                ("credential", credential),
            ] {
                self.normalizer
                    .replace(&sql_to_text(id), &format!("<{what} {of}>"));
            }
            owners.insert(sql_to_text(credential), of);
        }
        if self.path("sandbox.json").exists() {
            for made in self.env.keys() {
                let text = |member: &str| made[member].as_str().unwrap().to_owned();
                let (id, name) = (text("id"), text("name"));
                let of = owners.get(&id).cloned();
                let of = of.unwrap_or_else(|| {
                    let name = self.normalizer.text(&name);
                    let credential = format!("<credential named {name}>");
                    self.normalizer.replace(&id, &credential);
                    format!("of {name}")
                });
                self.normalizer
                    .replace(&text("value"), &format!("<secret {of}>"));
            }
        }
        let dir = self.env.dir.path().display().to_string();
        self.normalizer.replace(&dir, "<folder>");
        let agent = concat!("rekeyd/", env!("CARGO_PKG_VERSION"));
        self.normalizer.replace(agent, "rekeyd/<version>");
    }

    fn note_views(&mut self) {
        for view in VIEWS {
            let Some(columns) = columns(&self.ledger, view) else {
                return;
            };
            self.recording.columns.insert(view.to_owned(), columns);
        }
        let sql = format!("SELECT event, detail FROM {EVENTS_VIEW}");
        for row in self.query(&sql, &[]) {
            let detail: Map<String, Value> = serde_json::from_str(&sql_to_text(&row[1])).unwrap();
            let members = detail.iter().map(|(name, value)| {
                let is_word = ENUMERATED_DETAILS.contains(&name.as_str());
                let word = value.as_str().filter(|_| is_word).map(str::to_owned);
                (name.clone(), word.into_iter().collect())
            });
            self.recording
                .event(&sql_to_text(&row[0]), members.collect());
        }
    }
}

/// Returns the text with schedules of which none fires during the test.
fn with_schedules(text: &str) -> String {
    let now = now().to_zoned(TimeZone::UTC);
    let day = (now.day() + 14 - 1) % 28 + 1;
    let month = (now.month() + 6 - 1) % 12 + 1;
    let weekday = (now.weekday().to_sunday_zero_offset() + 3) % 7;
    text.replace("WEEKLY", &format!("0 3 * * {weekday}"))
        .replace("MONTHLY", &format!("0 0 {day} * *"))
        .replace("YEARLY", &format!("0 0 15 {month} *"))
}

#[expect(
    clippy::disallowed_methods,
    reason = "the test has no clock of its own"
)]
pub(crate) fn now() -> Timestamp {
    Timestamp::now()
}

/// Returns an address that is free now, and that no other test uses.
fn unused_address() -> String {
    static LAST: AtomicU8 = AtomicU8::new(0);
    let [.., high, low] = std::process::id().to_be_bytes();
    let last = LAST.fetch_add(1, Ordering::Relaxed) + 1;
    let listener = TcpListener::bind(format!("127.{high}.{low}.{last}:0")).unwrap();
    listener.local_addr().unwrap().to_string()
}

fn open(ledger: &Path) -> Option<Connection> {
    Connection::open_with_flags(ledger, OpenFlags::SQLITE_OPEN_READ_ONLY).ok()
}

fn query(ledger: &Path, sql: &str, parameters: &[&str]) -> Option<Vec<Vec<Sql>>> {
    let connection = open(ledger)?;
    let mut statement = connection.prepare(sql).ok()?;
    let width = statement.column_count();
    let rows = statement.query_map(rusqlite::params_from_iter(parameters), |row| {
        (0..width).map(|at| row.get(at)).collect()
    });
    rows.ok()?.collect::<Result<_, _>>().ok()
}

fn columns(ledger: &Path, view: &str) -> Option<Vec<String>> {
    let connection = open(ledger)?;
    let statement = connection.prepare(&format!("SELECT * FROM {view}")).ok()?;
    let names = statement.column_names();
    Some(names.map(str::to_owned).collect())
}

/// Returns a value of the ledger as text; NULL is empty.
pub(crate) fn sql_to_text(value: &Sql) -> String {
    match value {
        Sql::Null => String::new(),
        Sql::Integer(number) => number.to_string(),
        Sql::Real(number) => number.to_string(),
        Sql::Text(text) => text.clone(),
        Sql::Blob(_) => unreachable!("the views hold none"),
    }
}

/// Returns the level, target and fields of one of rekeyd's own log lines.
fn log_line_shape(line: &str) -> Option<String> {
    let members: Map<String, Value> = serde_json::from_str(line).ok()?;
    let (level, target) = (members["level"].as_str()?, members["target"].as_str()?);
    // The source location of a line may change.
    target.strip_prefix("rekeyd::")?;
    let fields = members.iter().map(|(name, value)| {
        if ENUMERATED_FIELDS.contains(&name.as_str()) {
            format!("{name}={}", value.as_str().unwrap())
        } else {
            name.clone()
        }
    });
    let fields: BTreeSet<String> = fields.collect();
    let fields: Vec<String> = fields.into_iter().collect();
    Some(format!("{level} rekeyd::<module>: {}", fields.join(", ")))
}
