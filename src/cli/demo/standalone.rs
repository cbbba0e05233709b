//! The demo without a configuration: one key that rotates every few seconds.

use std::path::Path;
use std::time::Duration;

use crate::cli::context::load_configuration;
use crate::cli::demo::follow_up;
use crate::cli::demo::narration::Narration;
use crate::cli::failure::Failure;
use crate::cli::output;
use crate::cli::screen::Screen;
use crate::config::Environment;
use crate::platform::clock::{Clock as _, SystemClock};
use crate::sandbox::demo::environment::{self, DemoEnvironment};
use crate::sandbox::demo::folder::DemoFolder;

/// The configuration file that the demo writes.
const CONFIG_FILE: &str = "config.toml";

/// The file that the key is delivered to.
const DELIVERED_FILE: &str = "demo.key";

pub(super) async fn run_standalone(
    dir: Option<&Path>,
    limit: Option<Duration>,
    narration: &Narration,
) -> Result<(), Failure> {
    let names = [
        &environment::ENVIRONMENT_FILES[..],
        &[CONFIG_FILE, DELIVERED_FILE],
    ]
    .concat();
    let folder = DemoFolder::open(dir, &names)?;
    let dir = folder.path();
    let demo = DemoEnvironment::start(&folder, Box::new(|_| Ok(()))).await?;
    let text = demo_configuration(dir, demo.provider_url.as_str(), demo.receiver_url.as_str());
    let file = folder.write_new(CONFIG_FILE, &text)?;
    let screen = Screen::of_output(false);
    output::print(intro(dir, &screen).as_bytes())?;

    let settings = load_configuration(&file, &Environment::empty(SystemClock.now()))?;
    demo.run(&settings, limit, |engine| {
        narration.announce_next_step(engine)
    })
    .await?;

    follow_up::print_history(&settings.ledger)?;
    let received = demo.receiver.applied("demo");
    let sequence = received.map(|received| received.sequence);
    let delivered = std::fs::read_to_string(dir.join(DELIVERED_FILE)).unwrap_or_default();
    let is_working = demo.accepts(delivered.trim());
    output::print(outro(&file, sequence, is_working, &screen).as_bytes())?;
    if is_working {
        Ok(())
    } else {
        Err(Failure::Other("the delivered key does not work".into()))
    }
}

fn intro(dir: &Path, screen: &Screen) -> String {
    let text = format!(
        "rekeyd rotates the admin key \"demo\" every 5 seconds. The provider is a sandbox\n\
         on this host. Each new secret goes to a file and to a webhook receiver. The\n\
         previous key is revoked 2 seconds later.\n\
         All files are in {}",
        dir.display()
    );
    screen.wrap(&text, 0) + "\n\n"
}

fn outro(file: &Path, accepted: Option<u64>, is_working: bool, screen: &Screen) -> String {
    let folder = file.parent().unwrap_or(Path::new("/"));
    let delivered = folder.join(DELIVERED_FILE);
    let state = if is_working { "works" } else { "DOES NOT WORK" };
    let received = match accepted {
        Some(sequence) => format!("The receiver has accepted sequence {sequence}."),
        None => "The receiver has accepted nothing.".to_owned(),
    };
    let config = file.to_string_lossy();
    let works = screen.wrap(&format!("The key in {} {state}.", delivered.display()), 0);
    format!(
        "\n{works}\n{received}\nTry next:\n{}{}",
        follow_up::command_lines(&[
            &["--config", &config, "status", "--offline"],
            &["--config", &config, "history"],
        ]),
        follow_up::event_query(&folder.join(environment::LEDGER_FILE)),
    )
}

fn demo_configuration(dir: &Path, base_url: &str, receiver: &str) -> String {
    let path_literal = |name: &str| toml_string(&dir.join(name).to_string_lossy());
    let (admin_key, ledger, file, secret) = (
        path_literal("admin-key"),
        path_literal("ledger.db"),
        path_literal("demo.key"),
        path_literal("webhook-secret"),
    );
    // The receiver is part of the demo.
    let owner = rustix::process::geteuid().as_raw();
    format!(
        "[provider]\n\
         base-url = \"{base_url}\"\n\
         credential-file = {admin_key}\n\n\
         [ledger]\n\
         path = {ledger}\n\n\
         [key.demo]\n\
         schedule = \"*/5 * * * * *\"\n\
         max-creates-per-day = 100000\n\
         overlap = \"2s\"\n\
         verify-interval = \"0s\"\n\n\
         [[key.demo.sink]]\n\
         type = \"file\"\n\
         path = {file}\n\n\
         [[key.demo.sink]]\n\
         type = \"webhook\"\n\
         url = \"{receiver}\"\n\
         owner = \"{owner}\"\n\
         signing-secret-file = {secret}\n"
    )
}

/// Formats a TOML string, whose syntax JSON shares.
fn toml_string(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}
