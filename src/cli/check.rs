//! `rekeyd check`: reports every problem at once, and changes nothing.

use std::path::Path;
use std::time::Duration;

use secrecy::zeroize::Zeroizing;

use crate::cli::config_effects::config_effects;
use crate::cli::context::{GlobalOptions, credential_sources, read_environment};
use crate::cli::dispatch;
use crate::cli::failure::{Failure, ProblemFormat};
use crate::cli::listener_check;
use crate::cli::output;
use crate::cli::passed_key::passed_admin_key;
use crate::cli::preflight::{self, CheckLevel, DeliveryRecords, UnitProblem};
use crate::cli::program_check;
use crate::cli::screen::Screen;
use crate::cli::service_view;
use crate::config::settings::Settings;
use crate::config::{self, Problem, ProblemKind};
use crate::core::active_credential::ActiveCredential;
use crate::core::first_few::join_few;
use crate::core::ids::KeyName;
use crate::core::plural::counted;
use crate::core::scope::Scope;
use crate::core::secret::Secret;
use crate::core::secret_text::{self, SecretForm};
use crate::core::{duration, time};
use crate::daemon::error::ServiceError;
use crate::daemon::own_files;
use crate::daemon::ownership;
use crate::engine::conditions::{FOREIGN_LIST, clock_mismatch_message};
use crate::engine::probe::describe_failed_request;
use crate::ledger::{LastRun, LedgerNotes, LedgerReader, PendingMigration, SchedulingCommand};
use crate::platform::clock::{Clock as _, SystemClock};
use crate::platform::secret_file::ADMIN_CREDENTIAL_NAME;
use crate::platform::service_unit::ServiceUnit;
use crate::provider::failover::{CredentialSource as _, FailoverProvider};
use crate::provider::openai::OpenAiProvider;
use crate::provider::{ListedCredential, Provider as _};

/// The folder in which the service manager keeps its copies of credentials, by unit.
const CREDENTIAL_COPIES: &str = "/run/credentials";

/// How long the provider's list may take.
const LIST_PATIENCE: Duration = Duration::from_secs(60);

#[derive(Debug, clap::Args)]
pub(crate) struct CheckCommand {
    /// Also connect to the provider and the sinks, without creating or sending anything
    #[arg(long)]
    online: bool,
    /// Print only problems
    #[arg(long, short)]
    quiet: bool,
    /// Format of the problems
    #[arg(long, value_name = "FORMAT", value_enum, default_value_t)]
    format: ProblemFormat,
    /// As root, check with root's own rights instead of the service's
    #[arg(long)]
    as_invoker: bool,
}

impl CheckCommand {
    pub(crate) async fn run(&self, options: &GlobalOptions) -> Result<(), Failure> {
        let checked = self.check(options).await;
        checked.map_err(|failure| failure.in_format(self.format))
    }

    async fn check(&self, options: &GlobalOptions) -> Result<(), Failure> {
        let try_runtimes = || program_check::try_runtimes(options);
        let variable = program_check::TRIALS_VARIABLE;
        service_view::enter_with(options, self.as_invoker, variable, try_runtimes)?;
        let settings = options.load_settings()?;
        output::report_note(&service_view::note_onlooker(&settings).unwrap_or_default());
        let view = service_view::description();
        let mut problems = config::host_problems(&settings, &read_environment());
        let ledger = preflight::check_ledger(&settings).await;
        let notes = ledger.unwrap_or_else(|problem| {
            problems.push(problem);
            LedgerNotes::default()
        });
        let answer = dispatch::ask_configured(&settings).await;
        if let Some(damage) = answer.ledger_damage(&settings) {
            let location = "ledger.path".to_owned();
            problems.push(Problem::for_host(
                &settings.file,
                location,
                damage.to_owned(),
            ));
        }
        let effects = find_effects(&settings, &mut problems);
        let level = if self.online {
            CheckLevel::Online
        } else {
            CheckLevel::Local
        };
        let unit = config::find_unit(&settings.file);
        let of_units = if self.as_invoker {
            Vec::new()
        } else {
            preflight::check_unit_paths(&settings)
        };
        let records = DeliveryRecords::read(&settings).await;
        let mut of_sinks = preflight::check_sinks(&settings, level, unit.as_ref(), records).await;
        of_sinks.retain(|found| !is_explained(found, &of_units));
        problems.extend(of_sinks);
        problems.extend(listener_check::check_listeners(&settings, &answer).await);
        problems.extend(of_units.into_iter().map(|found| found.problem));
        problems.extend(preflight::check_channels(&settings, level).await);
        let of_programs = program_check::check_programs(&settings).await;
        problems.extend(of_programs.problems);
        let (secrets, _) = credential_sources(&settings).read_all().await;
        if self.online && !secrets.is_empty() {
            problems.extend(check_provider(&settings).await);
        } else if self.online && problems.is_empty() {
            problems.push(provider_not_checked(&settings));
        }
        let note = view_note(view.as_deref(), self.as_invoker);
        if !problems.is_empty() {
            if view.is_some() || self.as_invoker {
                output::report_note(&note);
            }
            return Err(Failure::from_problems(problems));
        }
        if !self.quiet {
            let mut found_notes = vec![note];
            found_notes.extend(stale_copy_note(&settings));
            found_notes.extend(admins_note(&settings));
            found_notes.extend(owner_note(view.as_deref(), unit.as_ref()));
            let folders = preflight::group_writable_folders(&settings).await;
            found_notes.extend(folders.iter().map(|folder| group_note(folder)));
            found_notes.extend(own_files::describe_open_folder(&settings));
            found_notes.extend(own_files::describe_open_secrets(&settings));
            found_notes.extend(preflight::listed_readers(&settings).await);
            let migration = notes.pending_migration;
            found_notes.extend(migration.map(|migration| migration_note(&settings, &migration)));
            let file_system = notes.network_file_system;
            found_notes.extend(file_system.map(|name| network_note(&settings, name)));
            found_notes.extend(of_programs.notes);
            found_notes.push(further_note(&settings, &notes.further_objects));
            found_notes.extend(effects);
            found_notes.extend(catch_up_notes(&settings, notes.last_run));
            let screen = Screen::of_output(false);
            let text = success_text(&options.config, settings.keys.len(), &found_notes, screen);
            output::print(text.as_bytes())?;
        }
        Ok(())
    }
}

/// Returns what the file would change, if there is a ledger that this user may read. Names
/// that do not fit the ledger are problems.
fn find_effects(settings: &Settings, problems: &mut Vec<Problem>) -> Vec<String> {
    // A ledger that cannot be read is reported by its own check.
    let Ok(Some(ledger)) = LedgerReader::open_untouched(&settings.ledger) else {
        return Vec::new();
    };
    match config_effects(settings, Some(&ledger), None) {
        Ok(effects) => effects.iter().map(ToString::to_string).collect(),
        Err(Failure::Service(ServiceError::UnfitNames(unfit))) => {
            problems.extend(unfit.problems.iter().map(|problem| Problem {
                kind: ProblemKind::Configuration,
                ..Problem::for_host(&settings.file, String::new(), problem.to_string())
            }));
            Vec::new()
        }
        Err(_) => Vec::new(),
    }
}

/// Returns whether a problem of a sink follows from its place, which is none for a file.
fn is_explained(found: &Problem, of_units: &[UnitProblem]) -> bool {
    let mut private = of_units.iter().filter(|one| one.is_private);
    private.any(|one| one.problem.option == found.option)
}

/// Returns what a check without problems prints. Empty notes are left out.
fn success_text(file: &Path, keys: usize, notes: &[String], screen: Screen) -> String {
    let mut text = format!(
        "{}: no problems found ({})\n",
        file.display(),
        counted(keys, "key")
    );
    let no_keys = "no keys are configured, so rekeyd rotates nothing; hint: add a [key.NAME]";
    let no_keys = (keys == 0).then_some(no_keys);
    let notes = notes.iter().map(String::as_str).chain(no_keys);
    for note in notes.filter(|note| !note.is_empty()) {
        let line = screen.wrap(&format!("note: {note}"), 2);
        text.push_str(&format!("{line}\n"));
    }
    text
}

/// Names the tables and indexes that other programs have added to the ledger, if any.
fn further_note(settings: &Settings, names: &[String]) -> String {
    if names.is_empty() {
        return String::new();
    }
    format!(
        "the ledger {} has tables or indexes that rekeyd did not create, and that it leaves alone: {}",
        settings.ledger.display(),
        join_few(names)
    )
}

/// Says who can exchange the files of a folder.
fn group_note(folder: &Path) -> String {
    let folder = folder.display();
    format!(
        "the group of {folder} can write to it, and so replace the file of a secret; hint: \
         consumers only need to read: chmod 2750 {folder}, with rekeyd's user as its owner"
    )
}

/// Says that the running service has another admin key than the one that it would be passed.
fn stale_copy_note(settings: &Settings) -> Option<String> {
    let file = settings.provider.credential_file.as_ref();
    let stored = config::stored_admin_key(&settings.file)?;
    let passed = passed_admin_key()?.ok()?;
    let copy = Path::new(CREDENTIAL_COPIES).join(&stored.unit);
    let is_used = file.is_none_or(|file| !file.exists());
    (is_used && differs(&copy.join(ADMIN_CREDENTIAL_NAME), &passed)).then(|| {
        format!(
            "the running {} still has the admin key that was in {} at its start; hint: run \
             `systemctl restart {}`",
            stored.unit,
            stored.path.display(),
            stored.unit_for_commands()
        )
    })
}

/// Returns whether a running service has another admin key. If this process may not read its
/// copy, there is nothing to compare.
fn differs(copy: &Path, passed: &Secret) -> bool {
    let copied = std::fs::read(copy).map(Zeroizing::new);
    copied.is_ok_and(|copied| {
        let copied = secret_text::parse(&copied, SecretForm::AdminKey);
        copied.map_or(true, |copied| !copied.same_as(passed))
    })
}

/// Says what the groups of a configuration of the first release may no longer do, which does
/// not say who may do it.
fn admins_note(settings: &Settings) -> Option<String> {
    let control = &settings.control;
    if control.admins.is_empty() || control.super_admins.is_some() {
        return None;
    }
    let named = control.admins.iter().map(|group| format!("{group:?}"));
    let named: Vec<_> = named.collect();
    Some(format!(
        "members of the groups in [control] admins may no longer adopt credentials, revoke a current \
         or adopted one, release an adopted one, or use `revoke --force`, `rotate \
         --revoke-previous-now` and `rotate --revoke-previous-within`; hint: root may, and so may they with this line in [control]: super-admins = [{}]; without \
         groups in it, the line ends this note",
        named.join(", ")
    ))
}

/// Says as whom rekeyd runs, if no unit starts it and root checked as the owner of the ledger.
fn owner_note(view: Option<&str>, unit: Option<&ServiceUnit>) -> Option<String> {
    (view.is_some() && unit.is_none()).then(|| {
        let owner = rustix::process::geteuid().as_raw();
        format!(
            "`rekeyd run` and `rekeyd once` work as the owner of the ledger, and refuse root; hint: \
             run: {} rekeyd once",
            ownership::run_as(owner)
        )
    })
}

/// Says that the ledger is protected by its lock file alone.
fn network_note(settings: &Settings, file_system: &str) -> String {
    let path = settings.ledger.display();
    format!(
        "the ledger {path} is on {file_system}, where rekeyd cannot lock the file itself, \
         and only {path}.lock keeps a second rekeyd away; hint: do not remove that file, or move \
         the ledger to a local disk"
    )
}

/// Says whose view a check has, unless it is that of an ordinary user who has
/// started it.
fn view_note(service: Option<&str>, as_invoker: bool) -> String {
    match service {
        Some(service) => {
            format!("checked as {service}; hint: --as-invoker checks with root's own rights")
        }
        None if !rustix::process::geteuid().is_root() => String::new(),
        None if as_invoker => "checked with root's own rights, not the service's".to_owned(),
        None => "checked with root's own rights: no unit runs this configuration, and the \
                 ledger does not belong to another user"
            .to_owned(),
    }
}

/// The interval at which the shipped timer starts `rekeyd once`.
const TIMER_INTERVAL: Duration = Duration::from_secs(15 * 60);

/// Names the keys whose scheduled runs are dropped, because no `rekeyd once` follows them
/// within their `catch-up-window`.
fn catch_up_notes(settings: &Settings, last_run: Option<LastRun>) -> Vec<String> {
    let Some(run) = last_run.filter(|run| run.command == SchedulingCommand::Once) else {
        return Vec::new();
    };
    let since = time::until(run.started_at, SystemClock.now());
    let interval = since.max(TIMER_INTERVAL);
    let keys = settings.keys.iter();
    let notes = keys.filter_map(|key| {
        let window = key.policy.catch_up_window?;
        (window < interval).then(|| catch_up_note(&key.name, window))
    });
    notes.collect()
}

fn catch_up_note(key: &KeyName, window: Duration) -> String {
    format!(
        "{key}: its catch-up-window of {} drops each scheduled run that no `rekeyd once` follows \
         within that time; hint: the shipped timer starts one every {}, so set catch-up-window \
         to twice that or more",
        duration::to_text(window),
        duration::to_text(TIMER_INTERVAL)
    )
}

/// Announces the migration that the next `run` or `once` makes.
fn migration_note(settings: &Settings, migration: &PendingMigration) -> String {
    format!(
        "rekeyd {} wrote the ledger {}; the next `rekeyd run` or `rekeyd once` migrates it \
         and keeps the old file as {}",
        migration.release,
        settings.ledger.display(),
        migration.kept_path.display()
    )
}

/// Returns the problem that only the service receives the admin key.
fn provider_not_checked(settings: &Settings) -> Problem {
    let location = "provider".to_owned();
    let message = "not checked: only the service has the admin key; hint: as root, run: rekeyd \
                   check --online";
    Problem::for_host(&settings.file, location, message.to_owned())
}

async fn check_provider(settings: &Settings) -> Option<Problem> {
    let active_credential = ActiveCredential::new();
    let provider = OpenAiProvider::new(&settings.provider, active_credential.clone());
    let provider = FailoverProvider::new(provider, active_credential, credential_sources(settings));
    // The daemon has more patience, but every rotation waits for this list.
    let listing = provider.list(&Scope::AdminKeys);
    let problem = match tokio::time::timeout(LIST_PATIENCE, listing).await {
        Ok(Ok(listed)) => {
            let (date, now) = (listed.server_time, SystemClock.now());
            let agrees = date.is_some_and(|date| time::clocks_agree(date, now));
            if !agrees {
                clock_mismatch_message(date, now)
            } else if is_foreign(settings, &listed.value) {
                FOREIGN_LIST.to_owned()
            } else {
                return None;
            }
        }
        Ok(Err(error)) => describe_failed_request(&error, &provider.admin_key_advice()),
        Err(_) => format!(
            "listing the credentials took longer than {}",
            duration::to_text(LIST_PATIENCE)
        ),
    };
    let location = "provider".to_owned();
    Some(Problem::for_host(&settings.file, location, problem))
}

/// Returns whether the list may be another organization's than that of the ledger.
fn is_foreign(settings: &Settings, listed: &[ListedCredential]) -> bool {
    let ids: Vec<_> = listed.iter().map(|one| one.metadata.id.clone()).collect();
    let reader = LedgerReader::open_untouched(&settings.ledger)
        .ok()
        .flatten();
    let found = reader.and_then(|reader| {
        let snapshot = reader.snapshot().ok()?;
        snapshot.is_foreign_list(&Scope::AdminKeys, &ids).ok()
    });
    found.unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::golden::{TERMINAL, assert_golden, now, settings};
    use crate::config::{Environment, render_problems};

    const MISTAKES: &str = r#"
[provider]
credential-file = "/srv/admin-key"

[key.billing]
schedule = "0 3 * * Monday"
overlap = 24
retries = 3
[[key.billing.sink]]
type = "file"
path = "billing.key"
mode = 640
"#;

    #[test]
    fn another_admin_key_of_the_running_service_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let copy = folder.path().join("openai-admin-key");
        let passed = Secret::new("sk-admin-new".to_owned());
        assert!(!differs(&copy, &passed), "no service runs");
        for (text, expected) in [
            ("sk-admin-new\n", false),
            ("sk-admin-old\n", true),
            ("", true),
        ] {
            std::fs::write(&copy, text).unwrap();
            assert_eq!(differs(&copy, &passed), expected, "{text}");
        }
    }

    #[test]
    fn output_matches_the_golden_file() {
        let (file, settings) = (Path::new("/etc/rekeyd/config.toml"), settings());
        let migration = PendingMigration {
            release: "0.1.0",
            kept_path: "/var/lib/rekeyd/ledger.db.0.1.0".into(),
        };
        let notes = [
            view_note(Some("rekeyd, the user of rekeyd.service"), false),
            group_note(Path::new("/etc/billing")),
            migration_note(&settings, &migration),
            network_note(&settings, "NFS"),
            catch_up_note(&settings.keys[0].name, Duration::from_secs(5 * 60)),
        ];
        let success = |keys, notes: &[String]| success_text(file, keys, notes, Screen::FILE);
        let environment = Environment::empty(now());
        let problems = config::parse(file, MISTAKES, &environment).unwrap_err();
        let short: Vec<_> = problems
            .iter()
            .map(|one| format!("error: {one}\n"))
            .collect();
        let sections = [
            ("no problems", success(3, &[])),
            ("no keys", success(0, &[])),
            ("notes", success(1, &notes)),
            ("notes, terminal", success_text(file, 1, &notes, TERMINAL)),
            ("mistakes, no terminal", short.concat()),
            ("mistakes, terminal", render_problems(&problems, false)),
        ];
        let sections = sections.map(|(title, text)| format!("## {title}\n\n{text}\n"));
        assert_golden("check", &sections.concat());
    }
}
