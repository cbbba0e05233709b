//! The folder of a demo, outside of which it writes nothing.

use std::fs::{DirBuilder, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use crate::core::os_error;
use crate::platform::entropy::{Entropy as _, SystemEntropy};
use crate::platform::path_walk::{self, PathTrust, Weakness, WeaknessKind};
use crate::sandbox::demo::error::DemoError;

/// A folder that no other user can write.
#[derive(Debug)]
pub(crate) struct DemoFolder(PathBuf);

impl DemoFolder {
    /// Opens the folder `given`, or creates a temporary one. None of `names`
    /// may exist in it: it could be the folder of a real rekeyd, whose admin
    /// key and ledger a demo must not overwrite.
    pub(crate) fn open(given: Option<&Path>, names: &[&str]) -> Result<Self, DemoError> {
        let Some(given) = given else {
            return Self::create_temporary();
        };
        let path = std::path::absolute(given)?;
        if path
            .to_str()
            .is_none_or(|path| path.contains(char::is_control))
        {
            return Err(DemoError::Other(format!(
                "{path:?} is not UTF-8 or contains a control character; hint: choose another --dir"
            )));
        }
        check_way(&path)?;
        create_folder(&path)?;
        if let Some(weakness) = walk(&path)?.first() {
            return Err(not_private(weakness));
        }
        for name in names {
            if path.join(name).symlink_metadata().is_ok() {
                return Err(DemoError::Other(format!(
                    "{name} already exists in {}, and a demo overwrites nothing; hint: choose \
                     another --dir",
                    path.display()
                )));
            }
        }
        Ok(Self(path))
    }

    /// Creates a folder beside the system's temporary files. It must not exist:
    /// its owner could read the files in it.
    fn create_temporary() -> Result<Self, DemoError> {
        let mut random = [0; 4];
        let filled = SystemEntropy::new().fill(&mut random);
        filled.map_err(|error| DemoError::Other(error.to_string()))?;
        let name = format!("rekeyd-demo-{:08x}", u32::from_be_bytes(random));
        let path = std::env::temp_dir().join(name);
        let created = DirBuilder::new().mode(0o700).create(&path);
        created.map_err(|error| create_error(&path, &error))?;
        Ok(Self(path))
    }

    /// Returns the path of the folder.
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// Creates a folder below this one, with its parents.
    pub(crate) fn create_subfolder(&self, relative_path: &Path) -> Result<(), DemoError> {
        create_folder(&self.0.join(relative_path))
    }

    /// Writes a file that does not exist yet, readable by this user alone.
    pub(crate) fn write_new(&self, name: &str, text: &str) -> Result<PathBuf, DemoError> {
        let path = self.0.join(name);
        let result = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)
            .and_then(|mut file| file.write_all(text.as_bytes()));
        match result {
            Ok(()) => Ok(path),
            Err(error) => Err(DemoError::Other(format!(
                "cannot write {}: {}",
                path.display(),
                os_error::describe(&error)
            ))),
        }
    }
}

/// Checks that nobody else leads this process to another place, where it would create folders.
fn check_way(path: &Path) -> Result<(), DemoError> {
    let mut existing = path.ancestors().filter(|folder| folder.is_dir());
    let Some(nearest) = existing.next() else {
        return Ok(());
    };
    // In a folder such as /tmp, nobody else can exchange what is created.
    let is_private = nearest == path;
    let weaknesses = walk(nearest)?.into_iter();
    let mut weaknesses = weaknesses.filter(|weak| is_private || weak.kind != WeaknessKind::Shared);
    weaknesses
        .next()
        .map_or(Ok(()), |weak| Err(not_private(&weak)))
}

fn walk(folder: &Path) -> Result<Vec<Weakness>, DemoError> {
    let walked = path_walk::walk_to_folder(folder, &PathTrust::default());
    let walked = walked.map_err(|error| {
        DemoError::Other(format!(
            "cannot read the attributes of {}: {}",
            folder.display(),
            os_error::describe(&error.into())
        ))
    })?;
    Ok(walked.weaknesses)
}

fn not_private(weakness: &Weakness) -> DemoError {
    DemoError::Other(format!(
        "{weakness}; hint: choose a --dir that only you can write to"
    ))
}

fn create_folder(path: &Path) -> Result<(), DemoError> {
    let created = DirBuilder::new().recursive(true).mode(0o700).create(path);
    created.map_err(|error| create_error(path, &error))
}

fn create_error(path: &Path, error: &std::io::Error) -> DemoError {
    DemoError::Other(format!(
        "cannot create the folder {}: {}",
        path.display(),
        os_error::describe(error)
    ))
}
