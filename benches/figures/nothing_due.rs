//! A timer's run with nothing to do: `rekeyd once`, with one key and with many
//! keys on a long ledger, beside `certbot renew`.

use std::process::Command;

use tempfile::TempDir;

use crate::provider::TlsSandbox;
use crate::table::{TableRow, mb, ms, ratio, time_ratio};
use crate::{keys, million, process, support};

const ROUNDS: usize = 21;

/// Fewer for certbot, whose run takes a hundred times as long.
const CERTBOT_ROUNDS: usize = 7;

pub(crate) fn rows() -> Vec<TableRow> {
    let [tick, memory] = one_key();
    let long_ledger = million::over_many_keys();
    long_ledger.record_reconciliation();
    let wall = process::median_time(ROUNDS, || keys::rekeyd(long_ledger.folder(), &["once"]));
    let peak = process::highest_peak(|| keys::rekeyd(long_ledger.folder(), &["once"]));
    let many = TableRow::new(
        "the same with 10,000 keys and 1,000,000 rotations",
        format!("{}, {}", ms(wall), mb(peak)),
    );
    vec![tick, memory, many.reach("150 ms")]
}

/// Measures a key that has been rotated, beside a certbot without certificates.
fn one_key() -> [TableRow; 2] {
    let provider = TlsSandbox::start();
    let dir = process::folder();
    let dir = dir.path();
    let admin_key = provider.sandbox.admin_key();
    support::write(&dir.join("admin-key"), admin_key.expose());
    let text = keys::text(1, dir, &provider.base_url, &keys::yearly_schedule());
    support::write(&dir.join("config.toml"), &text);
    let once = || keys::rekeyd(dir, &["once"]);
    process::time_command(&mut once());

    let certbot_dir = process::folder();
    let renew = || certbot_in(&certbot_dir);
    let missing = process::missing(&["certbot"]);
    let (mut walls, mut certbot_walls) = (Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        walls.push(process::time_command(&mut once()));
        if missing.is_none() && round < CERTBOT_ROUNDS {
            certbot_walls.push(process::time_command(&mut renew()));
        }
    }
    let (wall, peak) = (process::median(walls), process::highest_peak(once));
    let tick = TableRow::new("`once` with nothing due, 1 key", ms(wall)).reach("15 ms");
    let memory = TableRow::new("its peak memory", mb(peak)).reach("10 MB");
    if let Some(missing) = missing {
        return [tick.beside(missing.clone()), memory.beside(missing)];
    }
    let (certbot_wall, certbot_peak) =
        (process::median(certbot_walls), process::highest_peak(renew));
    [
        tick.beside(format!("certbot renew: {}", ms(certbot_wall)))
            .times_less(time_ratio(certbot_wall, wall)),
        memory
            .beside(format!("certbot renew: {}", mb(certbot_peak)))
            .times_less(ratio(certbot_peak, peak)),
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
