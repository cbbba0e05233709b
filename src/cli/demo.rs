//! `rekeyd demo`: a sandbox, a receiver and the real daemon in one process, a
//! key rotating every few seconds.

use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::cli::history::History;
use crate::cli::{Failure, load, log, output};
use crate::config::Environment;
use crate::core::duration;
use crate::core::secret::Secret;
use crate::daemon::credential::Sources;
use crate::daemon::{service, start};
use crate::engine::Course;
use crate::engine::chance::{Chance as _, HostChance};
use crate::engine::clock::{Clock as _, HostClock};
use crate::receiver::Receiver;
use crate::sandbox::{DEFAULT_ADMIN_KEY, Options, Sandbox};

#[derive(Debug, clap::Args)]
pub(crate) struct Demo {
    /// Where its files go; a new folder beside the system's temporary files if not given
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// How long it goes on; until it is interrupted if not given
    #[arg(long = "for", value_name = "DURATION", value_parser = duration::parse)]
    limit: Option<Duration>,
}

impl Demo {
    pub(crate) fn go(&self) -> Result<(), Failure> {
        log::start_story();
        super::block_on(self.show())
    }

    async fn show(&self) -> Result<(), Failure> {
        let dir = self.folder()?;
        let signing = signing_secret()?;
        let sandbox = Sandbox::start(Options::default())
            .await
            .map_err(Failure::Other)?;
        let receiver = Receiver::start(&signing).await.map_err(Failure::Other)?;
        write(&dir.join("admin-key"), DEFAULT_ADMIN_KEY)?;
        write(&dir.join("webhook-secret"), signing.expose())?;
        let file = dir.join("config.toml");
        write(
            &file,
            &configuration(&dir, &sandbox.base_url(), &receiver.url()),
        )?;
        output::print(introduction(&dir).as_bytes())?;

        let settings = load(&file, &Environment::empty(HostClock.now()))?;
        let sources = Sources {
            file: settings.provider.credential_file.clone(),
            ..Sources::default()
        };
        let started = start::start(&settings, sources, "rekeyd demo", Course::Daemon).await?;
        service::run_for(started, self.limit).await?;

        output::print(b"\nThe history, as `rekeyd history` shows it:\n\n")?;
        History::print_all(&settings.ledger)?;
        let accepted = receiver.applied("demo").map(|received| received.sequence);
        let delivered = std::fs::read_to_string(dir.join("demo.key")).unwrap_or_default();
        let works = sandbox.accepts(delivered.trim());
        output::print(farewell(&file, accepted, works).as_bytes())?;
        if works {
            Ok(())
        } else {
            Err(Failure::Other("the delivered key does not work".into()))
        }
    }

    fn folder(&self) -> Result<PathBuf, Failure> {
        let dir = match &self.dir {
            Some(dir) => std::path::absolute(dir)?,
            None => std::env::temp_dir().join(format!("rekeyd-demo-{}", std::process::id())),
        };
        let made = std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&dir);
        made.map_err(|error| Failure::Other(format!("cannot make {}: {error}", dir.display())))?;
        Ok(dir)
    }
}

fn introduction(dir: &Path) -> String {
    format!(
        "A sandbox plays OpenAI, a receiver takes webhooks, and rekeyd rotates the key \"demo\"\n\
         every 5 seconds, with an overlap of 2. Its files are in {}\n\n",
        dir.display()
    )
}

fn farewell(file: &Path, accepted: Option<u64>, works: bool) -> String {
    let folder = file.parent().unwrap_or(Path::new("/")).display();
    let state = if works { "works" } else { "DOES NOT WORK" };
    let sequence = accepted.map_or("none".to_owned(), |sequence| sequence.to_string());
    format!(
        "\nThe key in {folder}/demo.key {state}; the receiver verified up to sequence {sequence}.\n\
         Look again: rekeyd --config {} history, or\n\
         sqlite3 {folder}/ledger.db 'select * from journal'\n",
        file.display()
    )
}

fn configuration(dir: &Path, base_url: &str, receiver: &str) -> String {
    let dir = dir.display();
    format!(
        "[provider]\n\
         base-url = \"{base_url}\"\n\
         credential-file = \"{dir}/admin-key\"\n\n\
         [ledger]\n\
         path = \"{dir}/ledger.db\"\n\n\
         [key.demo]\n\
         schedule = \"*/5 * * * * *\"\n\
         overlap = \"2s\"\n\
         settle = \"0s\"\n\n\
         [[key.demo.sink]]\n\
         type = \"file\"\n\
         path = \"{dir}/demo.key\"\n\n\
         [[key.demo.sink]]\n\
         type = \"webhook\"\n\
         url = \"{receiver}\"\n\
         signing-secret-file = \"{dir}/webhook-secret\"\n"
    )
}

fn signing_secret() -> Result<Secret, Failure> {
    let mut bytes = [0; 32];
    let filled = HostChance::new().fill(&mut bytes);
    filled.map_err(|error| Failure::Other(error.to_string()))?;
    Ok(Secret::new(format!("whsec_{}", STANDARD.encode(bytes))))
}

fn write(path: &Path, text: &str) -> Result<(), Failure> {
    use std::io::Write as _;
    let mut options = std::fs::OpenOptions::new();
    let written = options
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)
        .and_then(|mut file| file.write_all(text.as_bytes()));
    written.map_err(|error| Failure::Other(format!("cannot write {}: {error}", path.display())))
}
