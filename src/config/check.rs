//! From the tables of the file to what the program needs.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::Path;

use super::Environment;
use super::options::Section;
use super::quote;
use super::reader::Table;
use super::report::{Place, Report};
use super::{control, keys, notify, provider, sinks, values};
use crate::core::settings::Settings;

/// Checks the whole file. Whatever is wrong is in `report`; there are settings
/// only if enough of it was right to make some.
pub(super) fn check(
    top: &Table<'_>,
    path: &Path,
    environment: &Environment,
    report: &mut Report,
) -> Option<Settings> {
    top.refuse_unknown(&[Section::Top], report);
    let provider = provider::provider(top, report);
    let (ledger, ledger_place) = provider::ledger(top, environment, report);
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
        claims.take(Path::new(&name), &what, &ledger_place, report);
    }
    if let Some((file, place)) = &provider.credential_file {
        claims.take(file, "the credential file", place, report);
        claims.reserve(&sinks::written_first(file), "beside the credential file");
    }
    if let Some(file) = &provider.ca_file {
        claims.reserve(file, "provider.ca-file");
    }
    let notify = notify::notify(top, &mut claims, report);
    let credential_file = provider.credential_file.as_ref();
    let credential_file = credential_file.map(|(file, _)| file.as_path());
    let keys = keys::keys(top, environment, credential_file, &mut claims, report);
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
pub(super) struct Claims(BTreeMap<OsString, String>);

impl Claims {
    /// Claims a file that only one may have. Says whether nobody had it.
    pub(super) fn take(
        &mut self,
        path: &Path,
        what: &str,
        place: &Place,
        report: &mut Report,
    ) -> bool {
        // As they are written: to compare paths is to take them apart each time.
        let normal = values::normal(path).into_os_string();
        if let Some(owner) = self.0.get(&normal) {
            let message = format!("{} is {owner} already", quote::path(path));
            report.wrong(place, message, "name another file");
            return false;
        }
        self.0.insert(normal, what.to_owned());
        true
    }

    /// Claims a file that several may read: nobody may write it.
    pub(super) fn reserve(&mut self, path: &Path, what: &str) {
        let normal = values::normal(path).into_os_string();
        self.0.entry(normal).or_insert_with(|| what.to_owned());
    }
}
