//! The `rekeyd` program; everything is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    // First: until then a SIGHUP ends the process.
    rekeyd::platform::signals::early::prepare();
    rekeyd::cli::main(std::env::args_os())
}
