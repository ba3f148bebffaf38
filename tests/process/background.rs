//! A command of the program in the background, whose lines a test reads one by one.

use std::{
    io::{BufRead, BufReader, Read},
    process::{Child, ChildStdout, Command, Stdio},
};

/// The command, which is killed at the end of the test.
pub struct Background(Child, BufReader<ChildStdout>);

impl Background {
    pub fn start(command: &mut Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).spawn().expect("the program starts");
        let out = child.stdout.take().expect("piped");
        Self(child, BufReader::new(out))
    }

    pub fn line(&mut self) -> String {
        let mut line = String::new();
        self.1.read_line(&mut line).expect("a line");
        line
    }

    /// Waits for its end; returns the exit code and what it has said on stderr, which the command has piped.
    pub fn end(mut self) -> (Option<i32>, String) {
        let code = self.0.wait().expect("it was started").code();
        let mut said = String::new();
        self.0.stderr.take().expect("piped").read_to_string(&mut said).expect("text");
        (code, said)
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
