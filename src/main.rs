//! The `rekeyd` program; everything is in the library.

use std::alloc::System;
use std::process::ExitCode;

use zeroizing_alloc::ZeroAlloc;

/// Overwrites memory when it is freed: the libraries that send and receive secrets copy them.
#[global_allocator]
static ALLOCATOR: ZeroAlloc<System> = ZeroAlloc(System);

fn main() -> ExitCode {
    // First: until then a SIGHUP ends the process.
    rekeyd::platform::signals::early::prepare();
    rekeyd::cli::main(std::env::args_os())
}
