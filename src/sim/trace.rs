//! The trace of a world: one line for each thing that happened. Kept only when it may be printed.

use crate::model::Instant;

/// One line; `conn` is `None` for the hub as a whole.
pub(super) struct Entry {
    at: Instant,
    conn: Option<usize>,
    text: String,
    /// Left out of the excerpt about one connection.
    minor: bool,
}

/// The trace of one world.
#[derive(Default)]
pub(super) struct Trace {
    kept: bool,
    entries: Vec<Entry>,
}

impl Trace {
    pub(super) fn new(kept: bool) -> Self {
        Self { kept, entries: Vec::new() }
    }

    /// Whether it is kept.
    pub(super) fn is_on(&self) -> bool {
        self.kept
    }

    /// Adds a line; `text` is called only if the trace is kept.
    pub(super) fn add(&mut self, at: Instant, conn: Option<usize>, text: impl FnOnce() -> String) {
        if self.kept {
            self.entries.push(Entry { at, conn, text: text(), minor: false });
        }
    }

    /// Adds a line that stays out of the excerpt about one connection.
    pub(super) fn add_minor(&mut self, at: Instant, text: impl FnOnce() -> String) {
        if self.kept {
            self.entries.push(Entry { at, conn: None, text: text(), minor: true });
        }
    }

    /// The last lines about one connection and about the hub as a whole; without a connection, about all.
    pub(super) fn excerpt(&self, conn: Option<usize>, last: usize) -> String {
        let about = |entry: &&Entry| conn.is_none() || entry.conn == conn || (entry.conn.is_none() && !entry.minor);
        let mut entries: Vec<_> = self.entries.iter().filter(about).rev().take(last).collect();
        entries.reverse();
        let show = |entry: &Entry| {
            let at = (entry.at.0 as f64 - super::net::START as f64) / 1_000_000.0;
            let who = entry.conn.map_or_else(|| "hub".to_owned(), |conn| format!("#{conn}"));
            format!("{at:>10.6} s {who:>4}  {}\n", entry.text)
        };
        entries.into_iter().map(show).collect()
    }
}
