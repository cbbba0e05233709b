//! Who may do what to whom: the attacks of the threat model (`docs/threat-model.md`), each
//! with real users of this host. Only root can become them; for anybody else the tests are
//! listed as ignored.
#![allow(
    missing_docs,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stderr
)]

mod ledger_files;
mod paths;
mod users;

#[path = "../support/mod.rs"]
mod support;

use libtest_mimic::{Arguments, Trial};

/// The attacks, each with what holds.
const ATTACKS: &[(&str, fn())] = &[
    (
        "looker_keeps_no_writer_out",
        ledger_files::looker_keeps_no_writer_out,
    ),
    (
        "ledger_owner_leads_root_to_no_other_file",
        ledger_files::owner_leads_root_to_no_other_file,
    ),
    (
        "owner_of_a_folder_gets_no_secret",
        paths::owner_of_a_folder_gets_no_secret,
    ),
    (
        "program_of_another_user_is_not_run",
        paths::program_of_another_user_is_not_run,
    ),
    (
        "certificates_of_another_user_prove_nothing",
        paths::certificates_of_another_user_prove_nothing,
    ),
];

fn main() {
    let arguments = Arguments::from_args();
    let is_root = rustix::process::geteuid().is_root();
    let attacks = ATTACKS.iter().map(|(name, attack)| {
        let run = || {
            attack();
            Ok(())
        };
        Trial::test(*name, run).with_ignored_flag(!is_root)
    });
    if !is_root && !arguments.list {
        eprintln!("without root, the attacks with other users are left out");
    }
    libtest_mimic::run(&arguments, attacks.collect()).exit();
}
