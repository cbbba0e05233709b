//! The text of the configuration file.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use rustix::fs::OFlags;

use crate::config_reader::problem::{Problem, ProblemKind};
use crate::core::os_error;
use crate::core::shell::quote;
use crate::platform::path_walk::{self, PathTrust, Weakness, WeaknessKind};
use crate::platform::users;

/// The largest file that is read, in bytes: ten thousand keys fit, and a wrong
/// path cannot fill the memory.
const MAX_FILE_SIZE: u64 = 16 * 1024 * 1024;

/// Reads the file if no user but root and this process's own can write it.
pub(super) fn read_text(path: &Path) -> Result<String, Box<Problem>> {
    let problem = |line, message, hint| {
        Box::new(Problem {
            kind: ProblemKind::Configuration,
            file: path.to_owned(),
            line,
            option: String::new(),
            message,
            hint,
            snippet: None,
        })
    };
    let bytes = read_bytes(path).map_err(|(message, hint)| problem(None, message, hint))?;
    String::from_utf8(bytes).map_err(|error| {
        let valid = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        let line = valid.iter().filter(|byte| **byte == b'\n').count() + 1;
        let message = "the file is not valid UTF-8".to_owned();
        problem(Some(line), message, "save the file as UTF-8".to_owned())
    })
}

/// A problem and its remedy.
type MessageAndHint = (String, String);

fn read_bytes(path: &Path) -> Result<Vec<u8>, MessageAndHint> {
    let path_word = quote(&path.to_string_lossy());
    // Opening a FIFO would wait for a writer.
    let flags = OFlags::NONBLOCK | OFlags::CLOEXEC;
    let walked = path_walk::walk_to_file(path, &PathTrust::default());
    let opened = walked.and_then(|walked| Ok((walked.open(OFlags::RDONLY | flags)?, walked)));
    let (file, walked) = opened
        .map(|(file, walked)| (File::from(file), walked))
        .map_err(|error| {
            let error = io::Error::from(error);
            let hint = "set --config or REKEYD_CONFIG to the path of the configuration";
            let reason = os_error::describe(&error);
            (format!("cannot open the file: {reason}"), hint.to_owned())
        })?;
    let metadata = file.metadata().map_err(|error| {
        let reason = os_error::describe(&error);
        (
            format!("cannot read the attributes of the file: {reason}"),
            String::new(),
        )
    })?;
    if !metadata.is_file() {
        let hint = "set --config or REKEYD_CONFIG to the path of a TOML file".to_owned();
        return Err(("not a regular file".to_owned(), hint));
    }
    let own_uid = rustix::process::geteuid().as_raw();
    if metadata.uid() != 0 && metadata.uid() != own_uid {
        let message = format!(
            "the file belongs to {}, who could change it",
            users::describe_user(metadata.uid())
        );
        return Err((message, format!("run: chown {own_uid} {path_word}")));
    }
    if metadata.mode() & 0o022 != 0 {
        let mode = metadata.mode() & 0o7777;
        let message = format!("the file has mode {mode:04o}, so other users can write to it");
        return Err((message, format!("run: chmod go-w {path_word}")));
    }
    if let Some(weakness) = walked.weaknesses.first() {
        let message = format!("{weakness}, so another user could exchange the file");
        return Err((message, exchange_hint(&walked.path, weakness)));
    }
    let mut bytes = Vec::new();
    file.take(MAX_FILE_SIZE + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| {
            let reason = os_error::describe(&error);
            (format!("cannot read the file: {reason}"), String::new())
        })?;
    if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > MAX_FILE_SIZE {
        let hint = "use a file of at most 16 MiB".to_owned();
        return Err(("the file is too large".to_owned(), hint));
    }
    Ok(bytes)
}

/// Returns what to do about a part of the path of a configuration, in which no part can be
/// allowed: the file itself would have to say so.
fn exchange_hint(file: &Path, weakness: &Weakness) -> String {
    if weakness.kind == WeaknessKind::Shared {
        let file = quote(&file.to_string_lossy());
        return format!(
            "move it to a folder of root's: run `install -d /etc/rekeyd && mv -n {file} \
             /etc/rekeyd/`"
        );
    }
    weakness.remedy("root")
}
