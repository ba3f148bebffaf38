//! The `gatecast` program.

use tikv_jemallocator::Jemalloc;

// A publish makes and frees many pieces of memory. This allocator hands out first what was freed last, which is still in the
// processor's cache, and needs no system call for each few publishes (`docs/PERFORMANCE.md`).
#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

fn main() -> std::process::ExitCode {
    gatecast::run_program()
}
