//! What happened in a world, kept only while a seed is replayed.

use crate::model::Instant;

/// A line of it: when, about which connection, what.
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

    /// Adds a line; the text is made only where the trace is kept.
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

    /// The last lines about a connection and about the hub as a whole; all of them without a bound.
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
