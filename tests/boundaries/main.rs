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

mod bystanders;
mod control;
mod impostors;
mod ledger_files;
mod listeners;
mod memory;
mod paths;
mod programs;
mod socket_places;
mod users;

#[path = "../support/mod.rs"]
mod support;

/// Returns functions with their names.
macro_rules! attacks {
    ($($module:ident :: $attack:ident),* $(,)?) => {
        &[$((stringify!($attack), $module::$attack)),*]
    };
}

use libtest_mimic::{Arguments, Trial};

/// The attacks, each by the name of its function.
const ATTACKS: &[(&str, fn())] = attacks![
    ledger_files::looker_keeps_no_writer_out,
    control::looker_keeps_nobody_from_the_socket,
    socket_places::program_keeps_nobody_from_the_socket,
    socket_places::lookers_keep_no_operator_from_the_socket,
    socket_places::looker_reads_the_snapshot_of_a_busy_daemon,
    ledger_files::owner_leads_root_to_no_other_file,
    paths::owner_of_a_folder_gets_no_secret,
    paths::program_of_another_user_is_not_run,
    paths::program_behind_env_and_loader_of_another_user_are_not_run,
    paths::certificates_of_another_user_prove_nothing,
    control::operator_deletes_no_admin_key_of_others,
    control::forged_end_in_a_file_adopts_no_admin_key,
    control::key_that_ends_like_another_one_adopts_no_admin_key,
    control::rights_follow_the_groups_of_the_name_service,
    control::name_service_that_hangs_delays_nobody_else,
    listeners::impostor_of_a_receiver_gets_no_secret,
    programs::program_reads_no_state_and_commands_nothing,
    control::command_sends_nothing_to_another_user,
    control::owner_of_the_ledger_gets_no_file_of_roots,
    bystanders::other_user_reads_and_changes_nothing,
    bystanders::consumer_of_a_file_gets_no_other_secret,
    control::impostor_of_the_daemon_gets_no_command,
    impostors::impostor_after_a_stop_is_not_believed,
    impostors::daemon_without_a_cookie_is_not_shown_as_healthy,
    impostors::relay_passes_no_command_on,
    control::slow_readers_hold_one_copy_of_the_ledger,
    control::long_bodies_hold_little_memory,
    control::looker_of_a_large_ledger_reads_its_snapshot,
    listeners::taken_metrics_address_is_shown_and_tried_again,
    memory::freed_memory_holds_no_secret,
    memory::memory_holds_a_secret_once_and_in_requests,
    programs::notification_program_of_another_user_is_not_run,
    paths::command_of_check_ends_the_refusal_of_a_configuration,
    paths::occupied_temporary_name_stops_no_delivery,
    paths::planted_file_gets_no_secret,
    paths::owner_of_a_recorded_file_alone_gets_the_next_secret,
    programs::program_opens_no_own_file_and_signals_nobody,
    programs::program_shares_no_own_file,
    programs::check_names_who_reads_a_secret_by_its_access_control_list,
    paths::hints_fit_the_user_of_the_ledger,
    ledger_files::user_of_a_folder_of_roots_learns_that_others_can_write_it,
    ledger_files::linked_folder_leads_root_to_no_other_ledger,
    ledger_files::linked_target_leads_root_to_no_other_folder,
    ledger_files::archive_in_a_folder_of_the_service_is_its_own,
    ledger_files::linked_ledger_leaves_no_file_beside_a_database_of_roots,
];

fn main() {
    let arguments = Arguments::from_args();
    let is_root = rustix::process::geteuid().is_root();
    let attacks = ATTACKS.iter().map(|(name, attack)| {
        let run = || {
            // It waits for processes, sockets and threads.
            let _limit = support::limit::TestLimit::of(name);
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
