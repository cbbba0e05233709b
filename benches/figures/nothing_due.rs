//! A timer's tick with nothing to do: `rekeyd once`, with one key and with many
//! keys on a long ledger, beside `certbot renew`.

use std::process::Command;

use tempfile::TempDir;

use crate::provider::Provider;
use crate::table::{Row, mb, ms, often, times};
use crate::{keys, million, process, support};

const ROUNDS: usize = 21;

/// Of certbot fewer: each takes a hundred times as long.
const ROUNDS_OF_CERTBOT: usize = 7;

pub(crate) fn rows() -> Vec<Row> {
    let [tick, memory] = one_key();
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

/// A key that has been rotated, beside certificates that are not there.
fn one_key() -> [Row; 2] {
    let provider = Provider::start();
    let dir = process::folder();
    let dir = dir.path();
    let admin_key = provider.sandbox.admin_key();
    support::write(&dir.join("admin-key"), admin_key.expose());
    let text = keys::text(1, dir, &provider.base_url, &keys::far_off());
    support::write(&dir.join("config.toml"), &text);
    let once = || keys::rekeyd(dir, &["once"]);
    process::run(&mut once());

    let others = process::folder();
    let renew = || certbot_in(&others);
    let missing = process::missing(&["certbot"]);
    let (mut walls, mut others) = (Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        walls.push(process::run(&mut once()));
        if missing.is_none() && round < ROUNDS_OF_CERTBOT {
            others.push(process::run(&mut renew()));
        }
    }
    let (wall, peak) = (process::median(walls), process::highest_peak(once));
    let tick = Row::new("`once` with nothing due, 1 key", ms(wall)).reach("15 ms");
    let memory = Row::new("its peak memory", mb(peak)).reach("10 MB");
    if let Some(missing) = missing {
        return [tick.beside(missing.clone()), memory.beside(missing)];
    }
    let (other, most) = (process::median(others), process::highest_peak(renew));
    [
        tick.beside(format!("certbot renew: {}", ms(other)))
            .less(times(other, wall)),
        memory
            .beside(format!("certbot renew: {}", mb(most)))
            .less(often(most, peak)),
    ]
}

fn certbot_in(dir: &TempDir) -> Command {
    let mut command = Command::new("certbot");
    command.args(["renew", "--quiet", "--no-random-sleep-on-renew"]);
    for (option, name) in [
        ("--config-dir", "config"),
        ("--work-dir", "work"),
        ("--logs-dir", "logs"),
    ] {
        command.arg(option).arg(dir.path().join(name));
    }
    command
}
