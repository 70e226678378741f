//! The `wafergate` command.

use std::process::ExitCode;

use tikv_jemallocator::Jemalloc;

/// A third smaller per idle connection than the system's allocator, and it gives memory back by itself.
#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

fn main() -> ExitCode {
    wafergate::cli::main()
}
