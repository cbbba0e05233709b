//! What `check` finds about the programs of a configuration without running them: what the
//! sandbox of the unit forbids, and what is not kept from them.
//!
//! A runtime that the sandbox ends would do so after the credential was created. As root,
//! `check` therefore starts the runtime in that sandbox, with an empty program. It never
//! starts a program of the configuration.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Output, Stdio};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::cli::context::{GlobalOptions, read_environment};
use crate::config::settings::Settings;
use crate::config::{self, DEFAULT_FILE, Problem};
use crate::core::first_few::join_few;
use crate::core::redact::sanitize_lines;
use crate::platform::process::{
    CompilingRuntime, LANG, PATH, Unconfined, find_kernel_obstacle, find_obstacle,
};
use crate::platform::run_blocking;
use crate::platform::service_unit::ServiceUnit;
use crate::platform::service_unit::sandbox::EXECUTABLE_MEMORY;

/// The variable with the trials that root made for the command, which runs as the service.
pub(super) const TRIALS_VARIABLE: &str = "REKEYD_RUNTIME_TRIALS";

/// The folder that exists if systemd manages this host.
const SYSTEMD_FOLDER: &str = "/run/systemd/system";

/// The folder with the examples of drop-ins.
const EXAMPLES: &str = "/usr/share/doc/rekeyd/examples";

/// How long an empty program may run.
const TRIAL_TIME_LIMIT: &str = "RuntimeMaxSec=20s";

/// How long the files of programs and units may take to read.
const READ_TIME_LIMIT: Duration = Duration::from_secs(5);

/// The first exit code of the service manager's own, see systemd.exec(5).
const FIRST_MANAGER_CODE: i32 = 200;

/// The outcome of a start of a runtime in the sandbox of a unit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct RuntimeTrial {
    unit: String,
    runtime: PathBuf,
    /// Why it did not run; none if it did.
    failure: Option<String>,
}

/// Starts each known runtime of the configuration's programs in the sandbox of the units that
/// use it, with an empty program, and returns what happened, as the value of
/// [`TRIALS_VARIABLE`]. Only root can do that, and only under systemd.
pub(super) fn try_runtimes(options: &GlobalOptions) -> Option<OsString> {
    if !rustix::process::geteuid().is_root() || !Path::new(SYSTEMD_FOLDER).is_dir() {
        return None;
    }
    let settings = config::load_lenient(&options.config, &read_environment())?;
    let mut trials: Vec<RuntimeTrial> = Vec::new();
    for unit in config::units_in_use(&settings.file) {
        for (_, program) in settings.protected_files.programs() {
            let Some(runtime) = CompilingRuntime::of_program(program) else {
                continue;
            };
            let is_tried = |trial: &RuntimeTrial| is_trial_of(trial, &unit, &runtime);
            if !trials.iter().any(is_tried) {
                trials.extend(try_runtime(&unit, &runtime));
            }
        }
    }
    serde_json::to_string(&trials).ok().map(OsString::from)
}

fn is_trial_of(trial: &RuntimeTrial, unit: &ServiceUnit, runtime: &CompilingRuntime) -> bool {
    trial.unit == unit.name && trial.runtime == runtime.path
}

/// Starts a runtime in the sandbox of `unit`. Returns none if that cannot be tried.
fn try_runtime(unit: &ServiceUnit, runtime: &CompilingRuntime) -> Option<RuntimeTrial> {
    let output = Command::new("systemd-run")
        .args(trial_arguments(&unit.sandbox_lines(), runtime))
        .stdin(Stdio::null())
        .output()
        .ok()?;
    let failure = trial_failure(&output)?;
    Some(RuntimeTrial {
        unit: unit.name.clone(),
        runtime: runtime.path.clone(),
        failure,
    })
}

fn trial_arguments(sandbox: &[String], runtime: &CompilingRuntime) -> Vec<OsString> {
    let options = ["--pipe", "--wait", "--quiet", "--collect"].map(OsString::from);
    let properties = sandbox.iter().map(String::as_str).chain([TRIAL_TIME_LIMIT]);
    let properties = properties.map(|line| OsString::from(format!("--property={line}")));
    let environment = [format!("PATH={PATH}"), format!("LANG={LANG}")];
    let command = ["--", "/usr/bin/env", "-i"].map(OsString::from);
    let command = command
        .into_iter()
        .chain(environment.map(OsString::from))
        .chain([runtime.path.clone().into_os_string()])
        .chain(runtime.empty_program.iter().map(OsString::from));
    options
        .into_iter()
        .chain(properties)
        .chain(command)
        .collect()
}

/// Returns why a runtime did not run, if it did not; none if it was not started.
fn trial_failure(output: &Output) -> Option<Option<String>> {
    if output.status.success() {
        return Some(None);
    }
    let lines = sanitize_lines(&output.stderr, false, &[]);
    let last = lines.last().map_or("", String::as_str);
    let is_of_manager = output
        .status
        .code()
        .is_some_and(|code| (FIRST_MANAGER_CODE..=u8::MAX.into()).contains(&code) && code != 255);
    if is_of_manager || last.starts_with("Failed to ") {
        return None;
    }
    let status = describe_status(output.status);
    Some(Some(match last {
        "" => status,
        last => format!("{status}: {last}"),
    }))
}

fn describe_status(status: ExitStatus) -> String {
    match status.code() {
        Some(255) | None => "a signal ended it".to_owned(),
        // systemd-run reports whatever else went wrong, such as a core dump, by this code.
        Some(1) => "it failed".to_owned(),
        Some(code) => format!("it exited with code {code}"),
    }
}

/// Returns the trials that root made for this process.
fn passed_trials() -> Vec<RuntimeTrial> {
    let passed = std::env::var(TRIALS_VARIABLE).unwrap_or_default();
    serde_json::from_str(&passed).unwrap_or_default()
}

/// What a check found about programs.
#[derive(Debug, Default)]
pub(super) struct ProgramFindings {
    pub(super) problems: Vec<Problem>,
    pub(super) notes: Vec<String>,
}

/// Checks the programs of a configuration against the sandboxes of its units.
pub(super) async fn check_programs(settings: &Arc<Settings>) -> ProgramFindings {
    let describe = || "checking the files of programs".to_owned();
    let settings = Arc::clone(settings);
    let found = run_blocking(describe, READ_TIME_LIMIT, move || find_all(&settings)).await;
    // A file system that hangs is reported by the checks of the sinks.
    found.unwrap_or_default()
}

fn find_all(settings: &Settings) -> ProgramFindings {
    let programs = settings.protected_files.programs();
    let units = config::units_in_use(&settings.file);
    let mut findings = ProgramFindings::default();
    if !programs.is_empty() {
        let trials = passed_trials();
        for unit in &units {
            check_runtimes(settings, unit, &trials, &mut findings);
            findings.notes.extend(restrictions_note(unit));
        }
        let unit = units.first();
        findings.notes.extend(confinement_note(unit));
        findings.notes.extend(hidden_notes(settings));
    }
    let shared = units
        .iter()
        .filter_map(|unit| shared_user_note(settings, unit));
    findings.notes.extend(shared);
    findings
}

fn check_runtimes(
    settings: &Settings,
    unit: &ServiceUnit,
    trials: &[RuntimeTrial],
    findings: &mut ProgramFindings,
) {
    let is_forbidden = unit.restrictions().contains(&EXECUTABLE_MEMORY);
    for (location, program) in settings.protected_files.programs() {
        let Some(runtime) = CompilingRuntime::of_program(program) else {
            continue;
        };
        let (program, file) = (program.display(), runtime.path.display());
        let trial = trials
            .iter()
            .find(|trial| is_trial_of(trial, unit, &runtime));
        match trial.map(|trial| &trial.failure) {
            Some(None) => {}
            Some(Some(failure)) => {
                let message = format!(
                    "{file}, which runs {program}, does not run in the sandbox of {}: {failure}; \
                     hint: {}",
                    unit.name,
                    memory_advice(unit)
                );
                let problem = Problem::for_host(&settings.file, location.clone(), message);
                findings.problems.push(problem);
            }
            None if is_forbidden => findings.notes.push(format!(
                "{location}: {file}, which runs {program}, needs {EXECUTABLE_MEMORY}, which {} \
                 forbids, so a signal may end it after the credential was created; hint: as root, \
                 `rekeyd check` tries it; {}",
                unit.name,
                memory_advice(unit)
            )),
            None => {}
        }
    }
}

fn memory_advice(unit: &ServiceUnit) -> String {
    format!(
        "run `install -D -m 0644 {EXAMPLES}/{file} /etc/systemd/system/{name}.d/{file} && \
         systemctl daemon-reload`, then restart the service",
        file = EXECUTABLE_MEMORY.drop_in,
        name = unit.name
    )
}

/// Says what a unit forbids its programs.
fn restrictions_note(unit: &ServiceUnit) -> Option<String> {
    let restrictions = unit.restrictions();
    let drop_ins = restrictions.iter().map(|restriction| restriction.drop_in);
    let drop_ins = join_few(drop_ins);
    let forbidden = join_few(&restrictions);
    (!restrictions.is_empty()).then(|| {
        format!(
            "{} forbids its programs: {forbidden}; hint: if one needs it, install the drop-in \
             from {EXAMPLES}: {drop_ins}",
            unit.name
        )
    })
}

/// Says that programs can read rekeyd's own files.
fn confinement_note(unit: Option<&ServiceUnit>) -> Option<String> {
    let obstacle = match unit {
        None => find_obstacle(),
        Some(unit) if unit.has_no_new_privileges() => find_kernel_obstacle(),
        Some(_) => Some(Unconfined::PrivilegesAllowed),
    };
    obstacle.map(|reason| {
        format!("programs are not confined, and can read rekeyd's own files: {reason}")
    })
}

/// Names the programs that are in a folder that is hidden from them, and those that run after
/// the change of a file that is.
fn hidden_notes(settings: &Settings) -> Vec<String> {
    let hidden = config::private_paths(settings, None);
    let programs = settings.protected_files.programs().iter();
    let notes = programs.filter_map(|(location, program)| {
        let folder = hidden.iter().find(|hidden| program.starts_with(hidden))?;
        Some(format!(
            "{location}: {} is in {}, where a confined program can read nothing but its own \
             file; hint: move it to another folder",
            program.display(),
            folder.display()
        ))
    });
    notes.chain(hidden_file_notes(settings, &hidden)).collect()
}

/// Names the files that are hidden from the programs that run after their change.
fn hidden_file_notes<'a>(
    settings: &'a Settings,
    hidden: &'a [PathBuf],
) -> impl Iterator<Item = String> + 'a {
    let sinks = settings.keys.iter();
    let sinks = sinks.flat_map(|key| key.sinks.iter().map(move |sink| (key, sink)));
    sinks.filter_map(|(key, sink)| {
        let target = Arc::clone(&sink.target).replaced_file()?;
        let program = target.on_change.as_ref()?.argv.path().display();
        let folder = hidden
            .iter()
            .find(|hidden| target.path.starts_with(hidden))?;
        Some(format!(
            "key.{}.sink.{}: {program} runs after the change of {}, which is in {}, where a \
             confined program can read nothing; hint: if it has to read the file, use a path for \
             it in another folder, such as /etc/{}",
            key.name,
            sink.id.name,
            target.path.display(),
            folder.display(),
            key.name
        ))
    })
}

/// Names the other units with the user of `unit`, with the commands that give `unit` a user of
/// its own.
fn shared_user_note(settings: &Settings, unit: &ServiceUnit) -> Option<String> {
    let user = unit.user()?;
    let others = unit.units_of_same_user(Path::new(DEFAULT_FILE));
    if others.is_empty() {
        return None;
    }
    let names = join_few(others.iter().map(|other| &other.name));
    let name = &unit.name;
    let advice = match unit.instance() {
        Some(instance) => {
            let commands = own_user_commands(settings, unit.name_for_commands(), instance);
            format!(
                "to give {name} a user of its own, run:\n  {}",
                commands.join("\n  ")
            )
        }
        None => "check the configuration of an instance: `rekeyd --config /etc/rekeyd/NAME.toml \
                 check` prints the commands that give it a user of its own"
            .to_owned(),
    };
    Some(format!(
        "{name} shares the user {user} with {names}, so a program of one can change the files of \
         the other's sinks; hint: {advice}"
    ))
}

/// Returns the commands that give an instance a user of its own.
fn own_user_commands(settings: &Settings, service: &str, instance: &str) -> Vec<String> {
    let user = format!("rekeyd-{instance}");
    // What starts it: itself, or its timer.
    let started = match service.starts_with("rekeyd-once@") {
        true => format!("{service}.timer"),
        false => service.to_owned(),
    };
    let file = settings.file.display();
    let folder = settings.ledger.parent().unwrap_or(Path::new("/"));
    let (folder, new_folder) = (folder.display(), format!("/var/lib/{user}"));
    vec![
        format!("systemctl stop {started}"),
        format!("useradd --system --user-group --no-create-home --shell /usr/sbin/nologin {user}"),
        format!(
            "install -D -m 0644 {EXAMPLES}/own-user.conf \
             /etc/systemd/system/{service}.service.d/own-user.conf"
        ),
        format!("mv {folder} {new_folder}"),
        format!("chown -R --no-dereference {user}:{user} {new_folder}"),
        format!("sed -i s,{folder}/,{new_folder}/,g {file}"),
        format!("chgrp {user} {file}"),
        "systemctl daemon-reload".to_owned(),
        format!("rekeyd --config {file} check"),
        format!("systemctl start {started}"),
    ]
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt as _;

    use jiff::Timestamp;

    use super::*;
    use crate::config::Environment;

    fn output(status: i32, stderr: &str) -> Output {
        Output {
            status: ExitStatus::from_raw(status),
            stdout: Vec::new(),
            stderr: stderr.as_bytes().to_vec(),
        }
    }

    #[test]
    fn failure_of_a_runtime_is_none_of_the_service_manager() {
        let exited = |code: i32| code << 8;
        for (status, stderr, expected) in [
            (0, "", Some(None)),
            (5, "", Some(Some("a signal ended it"))),
            (exited(255), "", Some(Some("a signal ended it"))),
            (
                exited(133),
                "# Fatal error\nTrace/breakpoint trap\n",
                Some(Some("it exited with code 133: Trace/breakpoint trap")),
            ),
            (exited(1), "", Some(Some("it failed"))),
            // The folder of a drop-in is missing.
            (exited(226), "", None),
            (exited(217), "", None),
            (
                exited(1),
                "Failed to connect to bus: No such file or directory\n",
                None,
            ),
        ] {
            let found = trial_failure(&output(status, stderr));
            let expected = expected.map(|failure| failure.map(str::to_owned));
            assert_eq!(found, expected, "{status} {stderr}");
        }
    }

    #[test]
    fn runtime_is_tried_with_an_empty_program_and_every_restriction() {
        let runtime = CompilingRuntime {
            path: "/usr/bin/node".into(),
            empty_program: &["-e", "0"],
        };
        let sandbox = ["User=rekeyd", "CapabilityBoundingSet="].map(str::to_owned);
        let arguments = trial_arguments(&sandbox, &runtime);
        let arguments: Vec<_> = arguments.iter().map(|one| one.to_str().unwrap()).collect();
        assert_eq!(
            arguments,
            [
                "--pipe",
                "--wait",
                "--quiet",
                "--collect",
                "--property=User=rekeyd",
                "--property=CapabilityBoundingSet=",
                "--property=RuntimeMaxSec=20s",
                "--",
                "/usr/bin/env",
                "-i",
                &format!("PATH={PATH}"),
                &format!("LANG={LANG}"),
                "/usr/bin/node",
                "-e",
                "0",
            ]
        );
    }

    #[test]
    fn commands_for_a_user_of_its_own_are_those_of_the_book() {
        let page = include_str!("../../docs/operations/organizations.md");
        let text = "[ledger]\npath = \"/var/lib/rekeyd/acme/ledger.db\"\n";
        let environment = Environment::empty(Timestamp::UNIX_EPOCH);
        let file = Path::new("/etc/rekeyd/acme.toml");
        let settings = config::parse(file, text, &environment).unwrap();
        let commands = own_user_commands(&settings, "rekeyd@acme", "acme").join("\n");
        assert!(
            page.contains(&format!("```sh\n{commands}\n```")),
            "{commands}"
        );
        let of_timer = own_user_commands(&settings, "rekeyd-once@acme", "acme").join("\n");
        for line in [
            "systemctl stop rekeyd-once@acme.timer",
            "/etc/systemd/system/rekeyd-once@acme.service.d/own-user.conf",
            "systemctl start rekeyd-once@acme.timer",
        ] {
            assert!(of_timer.contains(line), "{of_timer}");
        }
    }
}
