//! A timer's tick with nothing to do: `rekeyd once`, with one key and with many
//! keys on a long ledger, beside `certbot renew`.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::provider::Provider;
use crate::table::{Row, mb, ms, times};
use crate::{keys, million, process, support};

const ROUNDS: usize = 21;

pub(crate) fn rows() -> Vec<Row> {
    let (wall, peak) = one_key();
    let certbot = certbot();
    let mut tick = Row::new("`once` with nothing due, 1 key", ms(wall)).reach("15 ms");
    let mut memory = Row::new("its peak memory", mb(peak)).reach("10 MB");
    match certbot {
        Ok((others, most)) => {
            tick = tick
                .beside(format!("certbot renew: {}", ms(others)))
                .ratio(times(others, wall));
            memory = memory
                .beside(format!("certbot renew: {}", mb(most)))
                .ratio(times(Duration::from_secs(most), Duration::from_secs(peak)));
        }
        Err(missing) => {
            tick = tick.beside(missing.clone());
            memory = memory.beside(missing);
        }
    }
    let long = million::over_many_keys();
    long.compare_now();
    let wall = process::runs(ROUNDS, || keys::rekeyd(long.folder(), &["once"]));
    let peak = process::highest_peak(|| keys::rekeyd(long.folder(), &["once"]));
    let many = Row::new(
        "the same with 10,000 keys and 1,000,000 rotations",
        format!("{}, {}", ms(wall), mb(peak)),
    );
    vec![tick, memory, many.reach("150 ms")]
}

/// A key that has been rotated.
fn one_key() -> (Duration, u64) {
    let provider = Provider::start();
    let dir = process::folder();
    let dir = dir.path();
    let admin_key = provider.sandbox.admin_key();
    support::write(&dir.join("admin-key"), admin_key.expose());
    let text = keys::text(1, dir, &provider.base_url, &keys::far_off());
    support::write(&dir.join("config.toml"), &text);
    let once = || keys::rekeyd(dir, &["once"]);
    process::run(&mut once());
    (process::runs(ROUNDS, once), process::highest_peak(once))
}

fn certbot() -> Result<(Duration, u64), String> {
    if let Some(missing) = process::missing(&["certbot"]) {
        return Err(missing);
    }
    let dir = process::folder();
    let renew = || certbot_in(dir.path());
    Ok((process::runs(5, renew), process::highest_peak(renew)))
}

fn certbot_in(dir: &Path) -> Command {
    let mut command = Command::new("certbot");
    command.args(["renew", "--quiet", "--no-random-sleep-on-renew"]);
    for (option, name) in [
        ("--config-dir", "config"),
        ("--work-dir", "work"),
        ("--logs-dir", "logs"),
    ] {
        command.arg(option).arg(dir.join(name));
    }
    command
}
