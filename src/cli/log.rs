//! The log: one line an event to standard error, written by a thread of its own so that no core ever waits for it.

use crate::config::{Config, LogFormat};
use std::{
    io::IsTerminal,
    panic::{self, PanicHookInfo},
    thread,
};
use tracing_appender::non_blocking::{NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::EnvFilter;

/// Lines that wait for the writer; over it they are dropped rather than waited for.
const LINES_MAX: usize = 16_384;

/// Starts the log; it is flushed when the guard is dropped.
///
/// # Errors
/// A sentence where the filter cannot be read, or where there is a log already.
pub fn start(config: &Config) -> Result<WorkerGuard, String> {
    let filter = EnvFilter::try_new(&config.log_filter).map_err(|error| format!("log.filter: {error}"))?;
    let (writer, guard) = NonBlockingBuilder::default()
        .lossy(true)
        .buffered_lines_limit(LINES_MAX)
        .thread_name("gatecast-log")
        .finish(std::io::stderr());
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(writer);
    let started = match config.log_format {
        LogFormat::Json => builder.json().flatten_event(true).with_current_span(false).with_span_list(false).try_init(),
        LogFormat::Text => builder.with_ansi(std::io::stderr().is_terminal()).try_init(),
    };
    started.map_err(|error| format!("the log cannot be started: {error}"))?;
    panic::set_hook(Box::new(log_panic));
    Ok(guard)
}

/// A panic is a line of the log like any other. Its message is left out unless it is a literal: one that was put
/// together may hold what a peer sent.
fn log_panic(info: &PanicHookInfo<'_>) {
    let location = info.location().map(ToString::to_string).unwrap_or_default();
    let message = info.payload().downcast_ref::<&'static str>().copied().unwrap_or("(message withheld)");
    tracing::error!(thread = thread::current().name().unwrap_or("?"), location, message, "panic");
}
