//! From the tables of the file to what the program needs.

use std::borrow::Cow;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::ffi::OsString;
use std::fmt;
use std::path::Path;

use super::Environment;
use super::options::Section;
use super::place::Place;
use super::quote;
use super::reader::{self, Table};
use super::report::Report;
use super::{control, keys, notify, provider, sinks, values};
use crate::core::settings::Settings;

/// Checks the whole file, of which `keys` was taken out. Whatever is wrong is
/// in `report`; there are settings only if enough of it was right to make some.
/// `expect` is told where the ledger is and how many keys there are, before
/// these are read.
pub(super) fn check(
    top: &Table<'_>,
    keys: Option<reader::Entry<'_>>,
    path: &Path,
    environment: &Environment,
    expect: impl FnOnce(&Path, usize),
    report: &mut Report,
) -> Option<Settings> {
    top.refuse_unknown(&[Section::Top], report);
    let provider = provider::provider(top, report);
    let (ledger, ledger_place) = provider::ledger(top, environment, report);
    expect(&ledger, keys.as_ref().map_or(0, reader::Entry::len));
    let control = control::control(top, report);
    let metrics = control::metrics(top, report);

    let mut claims = Claims::default();
    claims.reserve(path, "this configuration file");
    if let Some(socket) = &control.socket {
        claims.reserve(socket, "the control socket");
    }
    for ending in ["", "-wal", "-shm", "-journal", ".lock"] {
        let mut name = OsString::from(&ledger);
        name.push(ending);
        let what = if ending.is_empty() {
            "the ledger".to_owned()
        } else {
            format!("the ledger's {ending} file")
        };
        claims.take(Path::new(&name), what, &ledger_place, report);
    }
    if let Some((file, place)) = &provider.credential_file {
        claims.take(file, "the credential file", place, report);
        claims.reserve(&sinks::written_first(file), "beside the credential file");
    }
    if let Some(file) = &provider.ca_file {
        claims.reserve(file, "provider.ca-file");
    }
    let notify = notify::notify(top, keys.as_ref(), &mut claims, report);
    let credential_file = provider.credential_file.as_ref();
    let credential_file = credential_file.map(|(file, _)| file.as_path());
    let keys = keys::keys(top, keys, environment, credential_file, &mut claims, report);
    Some(Settings {
        file: path.to_owned(),
        provider: provider.settings?,
        digest: String::new(),
        ledger,
        control,
        metrics,
        notify,
        keys,
    })
}

/// Which file belongs to whom. Two that write one file would destroy each
/// other's work, and the ledger or a secret would be lost for good.
#[derive(Default)]
pub(super) struct Claims(HashMap<OsString, Owner>);

/// Whose a file is, put into words only if another wants it.
pub(super) struct Owner {
    words: Cow<'static, str>,
    /// What the words are about, if they do not say it.
    place: Option<Place>,
}

impl Owner {
    /// One of what is said at `place`: "written by" it, the "argv of" it.
    pub(super) fn of(words: impl Into<Cow<'static, str>>, place: &Place) -> Self {
        Self {
            words: words.into(),
            place: Some(place.clone()),
        }
    }
}

impl<T: Into<Cow<'static, str>>> From<T> for Owner {
    fn from(words: T) -> Self {
        Self {
            words: words.into(),
            place: None,
        }
    }
}

impl fmt::Display for Owner {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.place {
            Some(place) => write!(formatter, "{} {place}", self.words),
            None => formatter.write_str(&self.words),
        }
    }
}

impl Claims {
    /// Claims a file that only one may have. Says whether nobody had it.
    pub(super) fn take(
        &mut self,
        path: &Path,
        owner: impl Into<Owner>,
        place: &Place,
        report: &mut Report,
    ) -> bool {
        match self.0.entry(key_of(path)) {
            Entry::Vacant(free) => {
                free.insert(owner.into());
                true
            }
            Entry::Occupied(taken) => {
                let message = format!("{} is {} already", quote::path(path), taken.get());
                report.wrong(place, message, "name another file");
                false
            }
        }
    }

    /// Claims a file that several may read: nobody may write it.
    pub(super) fn reserve(&mut self, path: &Path, owner: impl Into<Owner>) {
        self.0.entry(key_of(path)).or_insert_with(|| owner.into());
    }
}

/// What files are known by. As it is written: to compare paths is to take them
/// apart each time.
fn key_of(path: &Path) -> OsString {
    values::normal(path).into_os_string()
}
