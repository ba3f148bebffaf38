//! Asks before something is removed that cannot be brought back.

use crate::cli::Failure;
use clap::Args;
use std::io::{self, BufRead, IsTerminal, Write};

/// The flag that answers the question.
#[derive(Args, Clone, Copy, Default)]
pub struct Confirm {
    /// Do not ask
    #[arg(long)]
    yes: bool,
}

impl Confirm {
    /// Returns if the operator has said yes, by the flag or at the terminal.
    ///
    /// # Errors
    /// If the answer is another one, or there is no terminal to ask at.
    pub fn ask(self) -> Result<(), Failure> {
        if self.yes {
            return Ok(());
        }
        if !io::stdin().is_terminal() {
            let sentence =
                "nothing was changed: this cannot be undone, so it needs --yes where there is no terminal to ask at";
            return Err(Failure::Usage(sentence.to_owned()));
        }
        // On standard error, so that the question is seen if the output goes to a file.
        eprint!("This cannot be undone. Go on? [y/N] ");
        let _ = io::stderr().flush();
        let mut answer = String::new();
        let read = io::stdin().lock().read_line(&mut answer);
        match answer.trim() {
            "y" | "Y" | "yes" if read.is_ok() => Ok(()),
            _ => Err(Failure::Failed("nothing was changed".to_owned())),
        }
    }
}
