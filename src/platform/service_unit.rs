//! The systemd unit that runs a configuration, read from its files: who the
//! service is, what it may write and what it is given.
//!
//! The files count, and not what the manager has loaded: a drop-in that needs
//! `systemctl daemon-reload` is the one that the administrator asks about.

mod environment_file;
mod instances;
pub mod sandbox;
mod state_folders;
mod unit_text;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Component, Path, PathBuf};

use self::unit_text::UnitText;

/// The folders of units, the most important first, see systemd.unit(5).
const UNIT_FOLDERS: [&str; 5] = [
    "etc/systemd/system",
    "run/systemd/system",
    "usr/local/lib/systemd/system",
    "usr/lib/systemd/system",
    "lib/systemd/system",
];

/// The folders of credentials, see systemd.exec(5), and those of encrypted ones.
const CREDENTIAL_FOLDERS: [&str; 3] = ["etc/credstore", "run/credstore", "usr/lib/credstore"];
const ENCRYPTED_CREDENTIAL_FOLDERS: [&str; 3] = [
    "etc/credstore.encrypted",
    "run/credstore.encrypted",
    "usr/lib/credstore.encrypted",
];

/// The options that make a folder of the service's own, and where.
const OWN_FOLDERS: [(&str, &str); 4] = [
    ("StateDirectory", "/var/lib"),
    ("RuntimeDirectory", "/run"),
    ("CacheDirectory", "/var/cache"),
    ("LogsDirectory", "/var/log"),
];

/// The folders that `ProtectHome=` and `PrivateTmp=` concern.
const HOME_FOLDERS: [&str; 3] = ["/home", "/root", "/run/user"];
const TEMPORARY_FOLDERS: [&str; 2] = ["/tmp", "/var/tmp"];

/// A unit of this host.
#[derive(Debug, Clone)]
pub struct ServiceUnit {
    /// Its name: `rekeyd.service`, `rekeyd@acme.service`.
    pub name: String,
    /// The root of the file system, `/` but for tests.
    root: PathBuf,
    settings: UnitText,
}

/// A credential that a unit is given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredCredential {
    /// The name under which the service finds it.
    pub name: String,
    /// The file that the service manager reads.
    pub path: PathBuf,
    /// Whether the service manager decrypts it.
    pub is_encrypted: bool,
    /// The unit that is given it.
    pub unit: String,
}

impl StoredCredential {
    /// Returns the unit's name as commands of systemctl take it.
    #[must_use]
    pub fn unit_for_commands(&self) -> &str {
        command_name(&self.unit)
    }
}

impl ServiceUnit {
    /// Returns its name as commands of systemctl take it.
    #[must_use]
    pub fn name_for_commands(&self) -> &str {
        command_name(&self.name)
    }
}

/// Returns the name of a service as commands of systemctl take it.
fn command_name(unit: &str) -> &str {
    unit.strip_suffix(".service").unwrap_or(unit)
}

/// The reason why a unit may not write a path.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WriteProblem {
    /// The path is among those that the service has of its own.
    #[error(
        "files in {folder} are private to {unit} ({option}), so consumers would not find {path}; \
         hint: use a folder of its own, such as /etc/billing",
        path = path.display()
    )]
    Private {
        /// The path.
        path: PathBuf,
        /// The folder that is private.
        folder: &'static str,
        /// The option of the unit.
        option: &'static str,
        /// The unit.
        unit: String,
    },
    /// The path is read-only for the service.
    #[error(
        "{unit} may not write to {}; hint: {}",
        path.display(),
        read_write_advice(unit, path)
    )]
    ReadOnly {
        /// The path.
        path: PathBuf,
        /// The unit.
        unit: String,
    },
}

impl WriteProblem {
    /// Returns the same problem as one of `file`, which is written there: its consumers look
    /// for the file.
    #[must_use]
    pub fn of_file(self, file: &Path) -> Self {
        match self {
            Self::Private {
                folder,
                option,
                unit,
                ..
            } => Self::Private {
                path: file.to_owned(),
                folder,
                option,
                unit,
            },
            Self::ReadOnly { path, unit } => Self::ReadOnly { path, unit },
        }
    }
}

/// Returns how a person lets a unit write to a folder.
#[must_use]
pub fn read_write_advice(unit: &str, folder: &Path) -> String {
    let (unit, folder) = (command_name(unit), folder.display());
    format!(
        "run `systemctl edit {unit}`, add the two lines `[Service]` and \
         `ReadWritePaths={folder}`, then run `systemctl restart {unit}`, because a reload does \
         not apply them"
    )
}

impl ServiceUnit {
    /// Returns the unit of this host that runs the configuration in `file`;
    /// `default_file` is the one of a unit that names none.
    #[must_use]
    pub fn find(file: &Path, default_file: &Path) -> Option<Self> {
        let units = Self::find_below(Path::new("/"), file, default_file);
        units.into_iter().next()
    }

    /// Returns the units of this host that run the configuration in `file` and are in use:
    /// enabled, active or failed. If none is, the one of [`Self::find`].
    #[must_use]
    pub fn find_in_use(file: &Path, default_file: &Path) -> Vec<Self> {
        Self::in_use(Self::find_below(Path::new("/"), file, default_file))
    }

    /// Returns the first of `units`, and those after it that are in use.
    fn in_use(units: Vec<Self>) -> Vec<Self> {
        let units = units.into_iter().enumerate();
        let used = units.filter(|(index, unit)| *index == 0 || unit.is_enabled() || unit.has_run());
        used.map(|(_, unit)| unit).collect()
    }

    /// Returns the units below `root` that run `file`, the one that counts first.
    fn find_below(root: &Path, file: &Path, default_file: &Path) -> Vec<Self> {
        let instance = file.file_stem().map(|stem| stem.to_string_lossy());
        let instances = instance.map(|instance| {
            ["rekeyd", "rekeyd-once"].map(|name| format!("{name}@{instance}.service"))
        });
        let names = [
            "rekeyd.service".to_owned(),
            "rekeyd-once.service".to_owned(),
        ];
        let mut units: Vec<_> = names
            .into_iter()
            .chain(instances.into_iter().flatten())
            .filter_map(|name| Self::load(root, &name))
            .filter(|unit| unit.configuration_file(default_file) == file)
            .collect();
        // A timer may take the daemon's place, and what runs knows its own unit.
        let own = own_unit();
        units.sort_by_key(|unit| {
            let runs_this = Some(&unit.name) == own.as_ref();
            (!runs_this, !unit.is_enabled(), !unit.has_run())
        });
        units
    }

    fn load(root: &Path, name: &str) -> Option<Self> {
        let template = template_of(name);
        let names: Vec<_> = [Some(name.to_owned()), template]
            .into_iter()
            .flatten()
            .collect();
        let main = names.iter().find_map(|name| main_file(root, name))?;
        let main = read_text(&main).ok()?;
        // A unit that is masked is a link to /dev/null, or an empty file.
        if main.is_empty() {
            return None;
        }
        let mut settings = UnitText::default();
        settings.add(&main, name);
        for text in drop_ins(root, &names).values() {
            settings.add(text, name);
        }
        settings.has_values().then(|| Self {
            name: name.to_owned(),
            root: root.to_owned(),
            settings,
        })
    }

    /// Returns the configuration file that it runs.
    fn configuration_file(&self, default_file: &Path) -> PathBuf {
        let variables = self.environment();
        let variable = |name: &str| {
            let mut variables = variables.iter().rev();
            let found = variables.find(|(own, _)| own == name);
            found.map(|(_, value)| value.clone())
        };
        let words = self.settings.escaped_words("ExecStart");
        let mut words = words.iter().map(String::as_str);
        while let Some(word) = words.next() {
            let value = match word.strip_prefix("--config") {
                Some("") => words.next(),
                Some(rest) => rest.strip_prefix('='),
                None => None,
            };
            if let Some(value) = value {
                let name = value.strip_prefix('$');
                let name = name.map(|name| name.trim_start_matches('{').trim_end_matches('}'));
                let value = name.map_or_else(|| Some(value.into()), variable);
                return PathBuf::from(value.unwrap_or_default());
            }
        }
        variable("REKEYD_CONFIG").map_or_else(|| default_file.to_owned(), PathBuf::from)
    }

    /// Whether a target or a timer starts it.
    fn is_enabled(&self) -> bool {
        let timer = self.name.replace(".service", ".timer");
        let folder = self.root.join(UNIT_FOLDERS[0]);
        let wanted = std::fs::read_dir(folder).into_iter().flatten().flatten();
        wanted
            .filter(|entry| entry.file_name().to_string_lossy().ends_with(".wants"))
            .any(|entry| {
                [&self.name, &timer]
                    .iter()
                    .any(|name| entry.path().join(name).symlink_metadata().is_ok())
            })
    }

    /// Whether the service manager still knows of a run of it: it is active, or failed.
    fn has_run(&self) -> bool {
        let run = format!("run/systemd/units/invocation:{}", self.name);
        self.root.join(run).symlink_metadata().is_ok()
    }

    /// Returns its user, by name or number; none if it is root's.
    #[must_use]
    pub fn user(&self) -> Option<&str> {
        self.settings
            .last("User")
            .filter(|user| !matches!(*user, "" | "root" | "0"))
    }

    /// Returns its group, by name or number; without one it is the user's.
    #[must_use]
    pub fn group(&self) -> Option<&str> {
        self.settings
            .last("Group")
            .filter(|group| !group.is_empty())
    }

    /// Returns its further groups, by name or number.
    #[must_use]
    pub fn supplementary_groups(&self) -> Vec<String> {
        self.settings.words("SupplementaryGroups")
    }

    /// Returns the capabilities that it keeps although it is not root's.
    #[must_use]
    pub fn ambient_capabilities(&self) -> Vec<String> {
        self.settings.words("AmbientCapabilities")
    }

    /// Returns the variables of its environment. Of two with one name the later is given, and
    /// those of files count more than those of the unit. Files that cannot be read are left
    /// out, as are those that are named by a pattern.
    #[must_use]
    pub fn environment(&self) -> Vec<(String, OsString)> {
        let words = self.settings.escaped_words("Environment");
        let own = words.iter().filter_map(|word| {
            let (name, value) = word.split_once('=')?;
            Some((name.to_owned(), value.to_owned()))
        });
        let files = self.settings.paths("EnvironmentFile");
        let files = files.iter().filter_map(|file| {
            let file = file.strip_prefix("/").ok()?;
            read_text(&self.root.join(file)).ok()
        });
        let from_files = files.flat_map(|text| environment_file::parse(&text));
        let unset = self.settings.words("UnsetEnvironment");
        let is_unset = |name: &str, value: &str| {
            let mut unset = unset.iter();
            unset.any(|entry| entry == name || entry.split_once('=') == Some((name, value)))
        };
        let mut variables: BTreeMap<_, _> = own.chain(from_files).collect();
        variables.retain(|name, value| !is_unset(name, value));
        variables
            .into_iter()
            .map(|(name, value)| (name, OsString::from(value)))
            .collect()
    }

    /// Returns the folder of its state, if it has one and gets its path.
    #[must_use]
    pub fn state_directory(&self) -> Option<PathBuf> {
        let is_unset = self
            .settings
            .words("UnsetEnvironment")
            .iter()
            .any(|name| name == "STATE_DIRECTORY");
        let folders = self.settings.words("StateDirectory");
        let folder = folders.first().filter(|_| !is_unset)?;
        own_folder("/var/lib", folder)
    }

    /// Returns whether a missing folder is, or is in, one of the service's own, which the
    /// service manager makes at the start. If that one exists, it has been made.
    #[must_use]
    pub fn makes_at_start(&self, folder: &Path) -> bool {
        let mut own = OWN_FOLDERS.iter().flat_map(|(option, parent)| {
            let folders = self.settings.words(option).into_iter();
            folders.filter_map(|folder| own_folder(parent, &folder))
        });
        let real = real_path(folder);
        own.any(|own| {
            let on_host = self.root.join(own.strip_prefix("/").unwrap_or(&own));
            real.starts_with(real_path(&own)) && !on_host.exists()
        })
    }

    /// Returns the credential that the service finds as `name`, where the
    /// service manager looks for it; none if there is none, or if this process may not see it.
    #[must_use]
    pub fn stored_credential(&self, name: &str) -> Option<StoredCredential> {
        let found = self.credential_place(name);
        found.filter(|credential| credential.path.exists())
    }

    /// Returns where the service manager looks for the credential that the service finds as
    /// `name`, whether or not it is there.
    #[must_use]
    pub fn credential_place(&self, name: &str) -> Option<StoredCredential> {
        let line = self.settings.credential(name)?;
        let files = if line.source.starts_with('/') {
            vec![self.root.join(line.source.trim_start_matches('/'))]
        } else {
            let folders = if line.is_encrypted {
                ENCRYPTED_CREDENTIAL_FOLDERS
            } else {
                CREDENTIAL_FOLDERS
            };
            // It names a file of the folder, and no other.
            let is_name = !line.source.contains('/') && !matches!(line.source.as_str(), "." | "..");
            let folders = folders.iter().filter(|_| is_name);
            folders
                .map(|folder| self.root.join(folder).join(&line.source))
                .collect()
        };
        let existing = files.iter().find(|path| path.exists());
        Some(StoredCredential {
            name: name.to_owned(),
            path: existing.or(files.first())?.clone(),
            is_encrypted: line.is_encrypted,
            unit: self.name.clone(),
        })
    }

    /// Returns why the service may not write `path`, a folder or a file,
    /// besides its permissions.
    #[must_use]
    pub fn write_problem(&self, path: &Path) -> Option<WriteProblem> {
        let real = real_path(path);
        if let Some((folder, option)) = self.private_folder(&real) {
            return Some(WriteProblem::Private {
                path: path.to_owned(),
                folder,
                option,
                unit: self.name.clone(),
            });
        }
        (!self.may_write(&real)).then(|| WriteProblem::ReadOnly {
            path: path.to_owned(),
            unit: self.name.clone(),
        })
    }

    fn private_folder(&self, path: &Path) -> Option<(&'static str, &'static str)> {
        let find = |folders: &[&'static str]| {
            let mut folders = folders.iter().copied();
            folders.find(|folder| path.starts_with(folder))
        };
        let has_bind_mount = self
            .settings
            .bind_targets("BindPaths")
            .iter()
            .any(|bound| path.starts_with(bound));
        if has_bind_mount {
            return None;
        }
        if self.is_on("PrivateTmp")
            && let Some(folder) = find(&TEMPORARY_FOLDERS)
        {
            return Some((folder, "PrivateTmp="));
        }
        let home = self.settings.last("ProtectHome").unwrap_or_default();
        if (unit_text::is_true(home) || home == "tmpfs")
            && let Some(folder) = find(&HOME_FOLDERS)
        {
            return Some((folder, "ProtectHome="));
        }
        None
    }

    fn may_write(&self, path: &Path) -> bool {
        let depth = |paths: &[PathBuf]| {
            // systemd follows symbolic links, as in /var/run.
            let covering = paths.iter().map(|covering| real_path(covering));
            let covering = covering.filter(|covering| path.starts_with(covering));
            covering.map(|covering| covering.components().count()).max()
        };
        let mut writable = self.settings.paths("ReadWritePaths");
        writable.extend(self.settings.bind_targets("BindPaths"));
        for (option, parent) in OWN_FOLDERS {
            let folders = self.settings.words(option).into_iter();
            writable.extend(folders.filter_map(|folder| own_folder(parent, &folder)));
        }
        let mut protected = self.settings.paths("ReadOnlyPaths");
        protected.extend(self.settings.paths("InaccessiblePaths"));
        let system: &[&str] = match self.settings.last("ProtectSystem").unwrap_or_default() {
            "strict" => &["/"],
            "full" => &["/usr", "/boot", "/efi", "/etc"],
            value if unit_text::is_true(value) => &["/usr", "/boot", "/efi"],
            _ => &[],
        };
        protected.extend(system.iter().map(PathBuf::from));
        if self.settings.last("ProtectHome") == Some("read-only") {
            protected.extend(HOME_FOLDERS.iter().map(PathBuf::from));
        }
        // The more exact of two paths counts; `strict` spares these.
        writable.extend(["/dev", "/proc", "/sys"].map(PathBuf::from));
        match (depth(&protected), depth(&writable)) {
            (Some(protected), Some(writable)) => writable >= protected,
            (Some(_), None) => false,
            (None, _) => true,
        }
    }

    fn is_on(&self, option: &str) -> bool {
        let value = self.settings.last(option).unwrap_or_default();
        unit_text::is_true(value) || value == "disconnected"
    }
}

/// Returns the unit of rekeyd's that this process runs in, if it runs in one.
#[must_use]
pub fn own_unit() -> Option<String> {
    unit_of_cgroup(&std::fs::read_to_string("/proc/self/cgroup").ok()?)
}

/// Returns the unit that a list of control groups names, see cgroups(7).
fn unit_of_cgroup(text: &str) -> Option<String> {
    let mut paths = text.lines().filter_map(|line| line.splitn(3, ':').nth(2));
    let last = paths.find_map(|path| {
        path.rsplit('/')
            .next()
            .filter(|name| is_name_of_rekeyd(name))
    })?;
    Some(last.to_owned())
}

fn is_name_of_rekeyd(unit: &str) -> bool {
    unit.starts_with("rekeyd") && unit.ends_with(".service")
}

/// Returns a folder of the service's own below `parent`. `StateDirectory=a:b` makes a link
/// b to a; systemd refuses one that is no part of `parent`.
fn own_folder(parent: &str, folder: &str) -> Option<PathBuf> {
    let folder = Path::new(folder.split(':').next()?);
    let is_below = folder
        .components()
        .all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
    is_below.then(|| Path::new(parent).join(folder))
}

/// Returns a path with the symbolic links of its part that exists followed.
fn real_path(path: &Path) -> PathBuf {
    let resolved = path.ancestors().find_map(|existing| {
        let real = std::fs::canonicalize(existing).ok()?;
        Some(real.join(path.strip_prefix(existing).ok()?))
    });
    resolved.unwrap_or_else(|| path.to_owned())
}

/// Returns the most important file with this name.
fn main_file(root: &Path, name: &str) -> Option<PathBuf> {
    let mut files = UNIT_FOLDERS
        .iter()
        .map(|folder| root.join(folder).join(name));
    files.find(|file| file.exists())
}

/// Reads a file of a unit, of which a remark may be in any encoding.
fn read_text(file: &Path) -> std::io::Result<String> {
    Ok(String::from_utf8_lossy(&std::fs::read(file)?).into_owned())
}

/// Returns the template of an instance: `rekeyd@.service`.
fn template_of(name: &str) -> Option<String> {
    let (prefix, _) = name.split_once('@')?;
    Some(format!("{prefix}@.service"))
}

/// Returns the texts of the drop-ins of units with these names, by their file
/// names: one in a more important folder takes the place of another.
fn drop_ins(root: &Path, names: &[String]) -> BTreeMap<OsString, String> {
    let mut found = BTreeMap::new();
    let types = ["service.d".to_owned()];
    let folder_names = names.iter().map(|name| format!("{name}.d")).chain(types);
    for folder_name in folder_names {
        for folder in UNIT_FOLDERS {
            let folder = root.join(folder).join(&folder_name);
            for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
                let path = entry.path();
                if path
                    .extension()
                    .is_some_and(|extension| extension == "conf")
                {
                    let text = read_text(&path).unwrap_or_default();
                    found.entry(entry.file_name()).or_insert(text);
                }
            }
        }
    }
    found
}

#[cfg(test)]
mod tests;
