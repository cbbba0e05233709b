//! From the tables of the file to what the program needs.

use std::borrow::Cow;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};

use super::Environment;
use super::keys::Keys;
use super::options::Section;
use super::place::Place;
use super::quote;
use super::reader::Table;
use super::report::Report;
use super::{control, keys, notify, provider, sinks, values};
use crate::core::settings::Settings;

/// Checks the whole file, `keys` and what else is in it. Whatever is wrong is
/// in `report`; there are settings only if enough of it was right to make some.
/// `expect` is told where the ledger is and how many keys there are, before
/// these are read.
pub(super) fn check(
    top: &Table<'_>,
    keys: Keys<'_>,
    path: &Path,
    environment: &Environment,
    mut expect: impl FnMut(&Path, usize),
    report: &mut Report,
) -> Option<Settings> {
    top.refuse_unknown(&[Section::Top], report);
    let provider = provider::provider(top, report);
    let (ledger, ledger_place) = provider::ledger(top, environment, report);
    expect(&ledger, keys.len());
    let control = control::control(top, report);
    let metrics = control::metrics(top, report);

    let mut claims = Claims::of(keys.len());
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
        let owner = Owner::from("the credential file");
        let owner = owner.writing_first("beside the credential file");
        claims.take(file, owner, place, report);
    }
    if let Some(file) = &provider.ca_file {
        claims.reserve(file, "provider.ca-file");
    }
    let notify = notify::notify(top, &keys, &mut claims, report);
    let credential_file = provider.credential_file.as_ref();
    let credential_file = credential_file.map(|(file, _)| file.as_path());
    let keys = keys::keys(top, keys, environment, credential_file, &mut claims, report)?;
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
pub(super) struct Claims {
    owners: HashMap<OsString, Owner>,
    /// Whether what is written first is among them. Nearly no file is called
    /// like that, and then it cannot be another's.
    with_first: bool,
}

/// Whose a file is, put into words only if another wants it.
pub(super) struct Owner {
    words: Cow<'static, str>,
    /// What the words are about, if they do not say it.
    place: Option<Place>,
    /// What would be said of the file beside it that is written first, if one is.
    first: Option<&'static str>,
}

impl Owner {
    /// One of what is said at `place`: "written by" it, the "argv of" it.
    pub(super) fn of(words: impl Into<Cow<'static, str>>, place: &Place) -> Self {
        Self {
            words: words.into(),
            place: Some(place.clone()),
            first: None,
        }
    }

    /// Who replaces the file, by another that is written first: in `words`,
    /// whose that one is.
    pub(super) fn writing_first(self, words: &'static str) -> Self {
        Self {
            first: Some(words),
            ..self
        }
    }

    /// Whose the file is that is written first.
    fn of_first(&self) -> Option<Self> {
        Some(Self {
            words: self.first?.into(),
            place: self.place.clone(),
            first: None,
        })
    }
}

impl<T: Into<Cow<'static, str>>> From<T> for Owner {
    fn from(words: T) -> Self {
        Self {
            words: words.into(),
            place: None,
            first: None,
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
    /// None yet, with room for those of so many keys.
    fn of(keys: usize) -> Self {
        Self {
            owners: HashMap::with_capacity(keys),
            with_first: false,
        }
    }

    /// Claims a file that only one may have, and what is written first.
    pub(super) fn take(
        &mut self,
        path: &Path,
        owner: impl Into<Owner>,
        place: &Place,
        report: &mut Report,
    ) {
        self.expect(path);
        let owner = owner.into();
        let first = self.first_of(path, &owner);
        // Where the file is another's, so is what is beside it.
        if self.take_one(path, owner, place, report)
            && let Some((path, owner)) = first
        {
            self.take_one(&path, owner, place, report);
        }
    }

    /// Says whether nobody had it.
    fn take_one(&mut self, path: &Path, owner: Owner, place: &Place, report: &mut Report) -> bool {
        match self.owners.entry(key_of(path)) {
            Entry::Vacant(free) => {
                free.insert(owner);
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
        self.expect(path);
        let owner = || owner.into();
        self.owners.entry(key_of(path)).or_insert_with(owner);
    }

    /// From the first file on that is called like one that is written first,
    /// those are claimed, too.
    fn expect(&mut self, path: &Path) {
        if self.with_first || !sinks::is_written_first(path) {
            return;
        }
        self.with_first = true;
        let owners = self.owners.iter();
        let first = owners.filter_map(|(path, owner)| self.first_of(Path::new(path), owner));
        let first: Vec<_> = first.collect();
        for (path, owner) in first {
            self.owners.entry(key_of(&path)).or_insert(owner);
        }
    }

    fn first_of(&self, path: &Path, owner: &Owner) -> Option<(PathBuf, Owner)> {
        let owner = self.with_first.then(|| owner.of_first()).flatten()?;
        Some((sinks::written_first(path), owner))
    }
}

/// What files are known by. As it is written: to compare paths is to take them
/// apart each time.
fn key_of(path: &Path) -> OsString {
    values::normal(path).into_os_string()
}
