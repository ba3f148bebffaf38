//! The program's commands, as an operator runs them.

use super::program::Program;
use std::process::Command;

/// The command with these arguments, against this hub.
pub fn against(program: &Program, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_gatecast"));
    command.args(arguments).args(["--server", &format!("http://{}", program.address)]);
    command.env("GATECAST_ADMIN_TOKEN", program.admin_token());
    command
}

/// Runs a command; its exit code, standard output and standard error.
pub fn run(command: &mut Command) -> (Option<i32>, String, String) {
    let done = command.output().expect("it runs");
    let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
    (done.status.code(), text(done.stdout), text(done.stderr))
}

/// Runs a command that succeeds; its standard output.
pub fn succeed(command: &mut Command) -> String {
    let (code, out, err) = run(command);
    assert_eq!((code, err.as_str()), (Some(0), ""), "{command:?}: {out}");
    out
}
