//! The `gatecast` program.

fn main() -> std::process::ExitCode {
    gatecast::run_program()
}
