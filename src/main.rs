//! The `gatecast` program.

fn main() -> std::process::ExitCode {
    gatecast::cli::run()
}
