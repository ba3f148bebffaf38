//! The log on standard error. A separate thread writes it, so that no core ever waits for a slow terminal or pipe.

use crate::{
    config::{Config, LogFormat},
    limits,
};
use std::{
    io::IsTerminal,
    panic::{self, PanicHookInfo},
    thread,
};
use tracing_appender::non_blocking::{NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::EnvFilter;

/// Starts the log. Dropping the guard flushes it.
///
/// # Errors
/// The filter is invalid, or this process has a log already.
pub fn start(config: &Config) -> Result<WorkerGuard, String> {
    let filter = EnvFilter::try_new(&config.log_filter)
        .map_err(|error| format!("invalid `log.filter` = {:?}: {error}", config.log_filter))?;
    let (writer, guard) = NonBlockingBuilder::default()
        // Blocking would let whoever reads standard error stop the cores by not reading.
        .lossy(true)
        .buffered_lines_limit(limits::LOG_LINES_QUEUED_MAX)
        .thread_name("gatecast-log")
        .finish(std::io::stderr());
    // Escape codes for colours would end up in a file or a journal, so they are written only to a terminal.
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(writer);
    let started = match config.log_format {
        LogFormat::Json => builder.json().flatten_event(true).with_current_span(false).with_span_list(false).try_init(),
        LogFormat::Text => builder.with_ansi(std::io::stderr().is_terminal()).try_init(),
    };
    started.map_err(|error| format!("cannot start the log: {error}"))?;
    // After the log is installed, so that no panic is lost between the two.
    panic::set_hook(Box::new(log_panic));
    Ok(guard)
}

/// Logs a panic as a line like any other. The message is left out unless it is a literal, because a formatted one may
/// contain data of a peer.
fn log_panic(info: &PanicHookInfo<'_>) {
    let location = info.location().map(ToString::to_string).unwrap_or_default();
    let message = info.payload().downcast_ref::<&'static str>().copied().unwrap_or("(message withheld)");
    tracing::error!(thread = thread::current().name().unwrap_or("?"), location, message, "panic");
}
