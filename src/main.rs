//! The `rekeyd` program; everything is in the library.

use std::alloc::System;
use std::process::ExitCode;

use rekeyd::platform::process;
use zeroizing_alloc::ZeroAlloc;

/// Overwrites memory when it is freed: the libraries that send and receive secrets copy them.
#[global_allocator]
static ALLOCATOR: ZeroAlloc<System> = ZeroAlloc(System);

fn main() -> ExitCode {
    // Before anything else: a program that is launched gets nothing of rekeyd's.
    if let Some(exit_code) = process::run_internal_command(std::env::args_os()) {
        return exit_code;
    }
    process::launch_through_own_file();
    // Early: until then a SIGHUP ends the process.
    rekeyd::platform::signals::early::prepare();
    rekeyd::cli::main(std::env::args_os())
}
