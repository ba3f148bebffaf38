//! What happened in a world, kept only while a seed is replayed.

use crate::model::Instant;

/// A line of it: when, about which connection, what.
pub(super) struct Entry {
    at: Instant,
    line: Option<usize>,
    text: String,
    /// Of interest only to who reads all of it.
    minor: bool,
}

/// The story of one world.
#[derive(Default)]
pub(super) struct Story {
    told: bool,
    entries: Vec<Entry>,
}

impl Story {
    pub(super) fn new(told: bool) -> Self {
        Self { told, entries: Vec::new() }
    }

    /// Adds a line; the text is made only where somebody listens.
    pub(super) fn tell(&mut self, at: Instant, line: Option<usize>, text: impl FnOnce() -> String) {
        if self.told {
            self.entries.push(Entry { at, line, text: text(), minor: false });
        }
    }

    /// Adds a line that stays out of the story of one connection.
    pub(super) fn tell_minor(&mut self, at: Instant, text: impl FnOnce() -> String) {
        if self.told {
            self.entries.push(Entry { at, line: None, text: text(), minor: true });
        }
    }

    /// The last lines about a connection and about the hub as a whole; all of them without a bound.
    pub(super) fn excerpt(&self, line: Option<usize>, last: usize) -> String {
        let about = |entry: &&Entry| line.is_none() || entry.line == line || (entry.line.is_none() && !entry.minor);
        let mut entries: Vec<_> = self.entries.iter().filter(about).rev().take(last).collect();
        entries.reverse();
        let show = |entry: &Entry| {
            let at = (entry.at.0 - super::hub::START) as f64 / 1_000_000.0;
            let who = entry.line.map_or_else(|| "hub".to_owned(), |line| format!("#{line}"));
            format!("{at:>10.6} s {who:>4}  {}\n", entry.text)
        };
        entries.into_iter().map(show).collect()
    }
}
