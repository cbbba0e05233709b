//! The start of a program through rekeyd itself, which first gives up what the program must
//! not have.
//!
//! Between the fork and the exec of a child, only unsafe code can run. So rekeyd starts its
//! own file with an internal command. That process has one thread; it lowers the limit of open
//! files, keeps the descriptors 0 to 2 only, hides paths, and then executes the program.

use std::ffi::{CString, OsStr, OsString};
use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::OnceLock;

use nix::unistd::execve;
use rustix::fs::{Access, AtFlags, CWD, accessat};
use rustix::io::{Errno, FdFlags, fcntl_setfd};
use rustix::pipe::{PipeFlags, pipe_with};
use tokio::process::Command;

use super::confinement::{self, Unconfined};
use crate::core::command::CommandLine;
use crate::core::os_error;
use crate::platform::descriptor_limit;
use crate::platform::signals::early;

/// The internal command, as the first argument.
const COMMAND: &str = "internal-launch";

/// The file of this process, also if another one has taken its name since.
const OWN_FILE: &str = "/proc/self/exe";

/// What stands for a limit that is not to be changed.
const UNCHANGED: &str = "-";

/// The first descriptor that a program does not get.
const FIRST_CLOSED: i32 = 3;

/// The exit code of a launcher that cannot execute the program. The status pipe says why.
const EXIT_NOT_EXECUTED: u8 = 127;

/// The program that knows the internal command. Without one, as in a test of the library,
/// programs are started directly.
static LAUNCHER: OnceLock<PathBuf> = OnceLock::new();

/// The reason why a program was not started.
#[derive(Debug, thiserror::Error)]
pub(super) enum StartError {
    /// The program itself cannot be executed.
    #[error("{}", os_error::describe(_0))]
    Program(io::Error),
    /// rekeyd cannot start its own file.
    #[error("{}", describe_launcher_error(_0))]
    Launcher(io::Error),
}

fn describe_launcher_error(error: &io::Error) -> String {
    let reason = os_error::describe(error);
    match Errno::from_io_error(error) {
        Some(Errno::NOENT) => format!(
            "rekeyd first starts its own file, and {OWN_FILE} does not exist; hint: mount /proc"
        ),
        Some(Errno::ACCESS) => format!(
            "rekeyd first starts its own file, and may not: {reason}; hint: let its user execute \
             the file of rekeyd"
        ),
        _ => reason,
    }
}

/// Starts programs through the file of this process, which MUST call [`run_internal_command`]
/// first.
pub fn launch_through_own_file() {
    launch_through(OWN_FILE.into());
}

/// Starts programs through `launcher`, a file of rekeyd.
pub fn launch_through(launcher: PathBuf) {
    // The first one counts.
    let _ = LAUNCHER.set(launcher);
}

/// Returns the reason why no program can be started, if there is one. Blocks.
pub(super) fn find_problem() -> Option<String> {
    let launcher = LAUNCHER.get()?;
    let access = accessat(CWD, launcher.as_path(), Access::EXEC_OK, AtFlags::EACCESS);
    let error = access.err()?;
    Some(StartError::Launcher(error.into()).to_string())
}

/// Returns the command that starts a program, and where its launcher reports why it did not.
pub(super) fn prepare(program: &CommandLine) -> io::Result<(Command, Option<LaunchStatus>)> {
    let Some(launcher) = LAUNCHER.get() else {
        let mut command = Command::new(&program.program);
        command.args(&program.arguments);
        return Ok((command, None));
    };
    let (receiver, sender) = pipe_with(PipeFlags::CLOEXEC)?;
    let mut command = Command::new(launcher);
    command
        .arg(COMMAND)
        .arg(sender.as_raw_fd().to_string())
        .arg(descriptor_limit::at_start().map_or(UNCHANGED.to_owned(), |limit| limit.to_string()))
        .args(confinement::paths_to_hide())
        .arg("--")
        .args(program.argv());
    Ok((command, Some(LaunchStatus { receiver, sender })))
}

/// The pipe by which a launcher reports. It is closed when the program is executed.
pub(super) struct LaunchStatus {
    receiver: OwnedFd,
    sender: OwnedFd,
}

impl LaunchStatus {
    /// Lets the next process inherit the pipe. A launcher that another thread starts meanwhile
    /// inherits it, too, and closes it first of all.
    pub(super) fn share(&self) -> io::Result<()> {
        Ok(fcntl_setfd(&self.sender, FdFlags::empty())?)
    }

    /// Waits until the program is executed. Blocks.
    ///
    /// # Errors
    /// If it cannot be executed.
    pub(super) fn wait(self) -> Result<(), StartError> {
        drop(self.sender);
        let mut reports = Vec::new();
        File::from(self.receiver)
            .read_to_end(&mut reports)
            .map_err(StartError::Launcher)?;
        for report in reports.chunks(REPORT_BYTES) {
            match LaunchReport::from_bytes(report) {
                Some(LaunchReport::Unconfined(error)) => {
                    confinement::log_once(&Unconfined::Refused(error));
                }
                Some(LaunchReport::NotExecuted(error)) => {
                    return Err(StartError::Program(error));
                }
                None => {}
            }
        }
        Ok(())
    }
}

/// The length of a report: its kind and the number of an error.
const REPORT_BYTES: usize = 5;

/// A report of a launcher.
enum LaunchReport {
    /// The program is executed without confinement.
    Unconfined(io::Error),
    /// The program cannot be executed.
    NotExecuted(io::Error),
}

impl LaunchReport {
    fn to_bytes(&self) -> [u8; REPORT_BYTES] {
        let (kind, error) = match self {
            Self::Unconfined(error) => (b'u', error),
            Self::NotExecuted(error) => (b'x', error),
        };
        let [a, b, c, d] = error.raw_os_error().unwrap_or(0).to_le_bytes();
        [kind, a, b, c, d]
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (kind, number) = bytes.split_first()?;
        let error = io::Error::from_raw_os_error(i32::from_le_bytes(number.try_into().ok()?));
        match kind {
            b'u' => Some(Self::Unconfined(error)),
            b'x' => Some(Self::NotExecuted(error)),
            _ => None,
        }
    }
}

/// The arguments of the internal command.
#[derive(Debug, PartialEq, Eq)]
struct LaunchRequest {
    /// The descriptor of the status pipe.
    status: u32,
    /// The limit of open files that the program gets.
    file_limit: Option<u64>,
    /// What the program may not read or write.
    hidden: Vec<PathBuf>,
    /// The program and its arguments.
    argv: Vec<OsString>,
}

/// Executes a program if `arguments`, with the name of this process, are those of the internal
/// command, and returns the exit code if it cannot. Returns none for any other command. MUST
/// be called while there is a single thread.
pub fn run_internal_command(arguments: impl IntoIterator<Item = OsString>) -> Option<ExitCode> {
    let request = LaunchRequest::parse(arguments)?;
    // A pipe that is opened again has a descriptor of its own, without unsafe code.
    let status = format!("/proc/self/fd/{}", request.status);
    let Ok(mut status) = File::options().write(true).open(status) else {
        return Some(ExitCode::from(EXIT_NOT_EXECUTED));
    };
    close_fds::set_fds_cloexec(FIRST_CLOSED, &[]);
    let mut report = |report: LaunchReport| {
        // Nobody waits for a program whose time is over.
        let _ = status.write_all(&report.to_bytes());
    };
    let program = Path::new(request.argv.first()?);
    if let Err(error) = confinement::hide(&request.hidden, program) {
        report(LaunchReport::Unconfined(error));
    }
    if let Some(limit) = request.file_limit {
        descriptor_limit::restore(limit);
    }
    report(LaunchReport::NotExecuted(execute(&request.argv)));
    Some(ExitCode::from(EXIT_NOT_EXECUTED))
}

/// Executes a program in the place of this process. Returns only why it cannot.
///
/// The standard library's `exec` would let a shell run a text without an interpreter.
fn execute(argv: &[OsString]) -> io::Error {
    early::handle_broken_pipe();
    let variables = std::env::vars_os().map(|(mut variable, value)| {
        variable.push("=");
        variable.push(value);
        variable
    });
    let variables: Vec<_> = variables.map(to_c_string).collect();
    let arguments: Vec<_> = argv.iter().cloned().map(to_c_string).collect();
    let Err(error) = execve(&arguments[0], &arguments, &variables);
    error.into()
}

/// Returns a text of the arguments or of the environment, none of which has a zero.
fn to_c_string(text: OsString) -> CString {
    CString::new(text.into_vec()).unwrap_or_default()
}

impl LaunchRequest {
    fn parse(arguments: impl IntoIterator<Item = OsString>) -> Option<Self> {
        let mut arguments = arguments.into_iter().skip(1);
        if arguments.next()? != COMMAND {
            return None;
        }
        let status = arguments.next()?.to_str()?.parse().ok()?;
        let file_limit = arguments.next()?;
        let file_limit = match file_limit.to_str()? {
            UNCHANGED => None,
            number => Some(number.parse().ok()?),
        };
        let mut hidden = Vec::new();
        loop {
            let argument = arguments.next()?;
            if argument == OsStr::new("--") {
                break;
            }
            hidden.push(PathBuf::from(argument));
        }
        let argv: Vec<_> = arguments.collect();
        (!argv.is_empty()).then_some(Self {
            status,
            file_limit,
            hidden,
            argv,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Option<LaunchRequest> {
        LaunchRequest::parse(line.split(' ').map(OsString::from))
    }

    #[test]
    fn internal_command_is_read() {
        let read = parse("rekeyd internal-launch 7 1024 /var/lib/a /b -- /bin/put -- -x").unwrap();
        let expected = LaunchRequest {
            status: 7,
            file_limit: Some(1024),
            hidden: vec!["/var/lib/a".into(), "/b".into()],
            argv: ["/bin/put", "--", "-x"].map(OsString::from).into(),
        };
        assert_eq!(read, expected);
        let read = parse("rekeyd internal-launch 7 - -- /bin/put").unwrap();
        assert_eq!((read.file_limit, read.hidden.len()), (None, 0));
    }

    #[test]
    fn other_commands_are_no_internal_one() {
        for line in [
            "rekeyd",
            "rekeyd run",
            "internal-launch 7 - -- /bin/put",
            "rekeyd internal-launch",
            "rekeyd internal-launch 7 -",
            "rekeyd internal-launch 7 - --",
            "rekeyd internal-launch 7 - /a /bin/put",
            "rekeyd internal-launch x - -- /bin/put",
            "rekeyd internal-launch 7 x -- /bin/put",
        ] {
            assert_eq!(parse(line), None, "{line}");
        }
    }

    #[test]
    fn report_is_read_as_it_was_written() {
        let denied = || io::Error::from_raw_os_error(13);
        let bytes = LaunchReport::NotExecuted(denied()).to_bytes();
        let read = LaunchReport::from_bytes(&bytes);
        assert!(
            matches!(read, Some(LaunchReport::NotExecuted(error)) if error.raw_os_error() == Some(13))
        );
        let bytes = LaunchReport::Unconfined(denied()).to_bytes();
        let read = LaunchReport::from_bytes(&bytes);
        assert!(matches!(read, Some(LaunchReport::Unconfined(_))));
        assert!(LaunchReport::from_bytes(&bytes[..4]).is_none());
        assert!(LaunchReport::from_bytes(b"zabcd").is_none());
    }

    #[test]
    fn error_of_the_launcher_is_no_error_of_the_program() {
        let describe = |errno: Errno| StartError::Launcher(errno.into()).to_string();
        assert!(describe(Errno::NOENT).ends_with("hint: mount /proc"));
        assert!(describe(Errno::ACCESS).contains("its own file"));
    }
}
