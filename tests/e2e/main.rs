//! The program as its users see it: its commands, its daemon and their output.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stderr,
    missing_docs
)]

#[path = "../support/adapter.rs"]
mod adapter;
#[path = "../support/function_server.rs"]
mod function_server;
#[path = "../support/mod.rs"]
mod support;

mod admin_key;
mod adoption_question;
mod alerts;
mod backup;
mod broken_file;
mod check;
mod colors;
mod control;
mod crash;
mod daemon;
mod delivered_access;
mod demo;
mod descriptor_limit;
mod end_to_end;
mod ended_keys;
mod exchanged_folder;
mod file_modes;
mod file_readers;
mod folded_case;
mod full_disk;
mod hanging_receivers;
mod known_receivers;
mod leak;
mod leak_in_files;
mod ledger_prune;
mod ledger_unwritable;
mod limited_creates;
mod log;
mod log_level;
mod many_readers;
mod metrics;
mod metrics_sockets;
mod migration;
mod missing_ledger;
mod moving_in;
mod not_running;
mod notify;
mod on_change;
mod once;
mod one_writer;
mod onlooker;
mod operator_commands;
mod probes;
mod programs;
mod receivers;
mod refused_list;
mod rehearse;
mod reload_on_change;
mod renamed_options;
mod repair;
mod rights;
mod sandbox_command;
mod schedule_command;
mod secret_from_file;
mod secrets;
mod self_credential;
mod signals;
mod snapshot;
mod status;
mod stop;
mod system_errors;
mod terminal;
mod two_organizations;
