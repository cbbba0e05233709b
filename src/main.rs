//! The `rekeyd` program; everything is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    rekeyd::cli::main(std::env::args_os())
}
