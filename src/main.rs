//! The `gatecast` program.

use mimalloc::MiMalloc;

// A core makes and frees many small pieces of memory for each publish. Without transparent huge pages, because the first use of
// one can stop a core for milliseconds (`docs/PERFORMANCE.md`).
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> std::process::ExitCode {
    gatecast::run_program()
}
