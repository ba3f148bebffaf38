//! Test build only: what a core still holds after all connections have ended, and what each link keeps in memory.

use super::{core::Engine, io::Io};

/// Memory of one link.
pub(crate) struct Held {
    /// Bytes of the session that wait for the socket: responses, control frames, sealed records.
    pub(crate) session_bytes: usize,
    /// Bytes of incomplete requests.
    pub(crate) unfinished_bytes: usize,
}

impl<I: Io> Engine<I> {
    /// The counts above zero of everything that must be gone once all connections have ended, by name.
    pub(crate) fn leftovers(&self) -> Vec<(&'static str, usize)> {
        let counts = [
            ("links", self.links.len()),
            ("connections", self.shard.connections().count()),
            ("undecided publishes", self.shard.undecided()),
            ("members", self.links.iter().filter(|(_, link)| link.member.is_some()).count()),
            ("slots", self.hub.connections()),
            ("pending requests", usize::from(self.pending.is_waiting())),
            ("dirty", usize::from(self.shard.is_dirty())),
            ("effects", usize::from(self.shard.has_effect())),
        ];
        counts.into_iter().filter(|(_, count)| *count > 0).collect()
    }

    /// Memory of the events that connections have yet to take.
    pub(crate) fn held_event_bytes(&self) -> usize {
        self.shard.held_bytes()
    }

    /// Calls `each` with every link's socket and memory.
    pub(crate) fn inspect(&self, mut each: impl FnMut(&I::Socket, Held)) {
        for (_, link) in self.links.iter() {
            let (session_bytes, unfinished_bytes) = link.session.held_bytes();
            each(&link.socket, Held { session_bytes, unfinished_bytes });
        }
    }
}
