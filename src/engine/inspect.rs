//! What a core holds, for tests: what is left when all have gone, and what each link keeps in memory.

use super::{core::Engine, io::Io};

/// What one link keeps.
pub(crate) struct Held {
    /// Bytes of the session that wait for the socket: answers, control frames, sealed bytes.
    pub(crate) session_bytes: usize,
    /// Bytes of requests that are not whole.
    pub(crate) unfinished_bytes: usize,
    /// Bytes of events that wait, or are on their way.
    pub(crate) outbox_bytes: usize,
}

impl<I: Io> Engine<I> {
    /// What is there although nobody needs it any more, by name; nothing of it may be left once everybody has gone.
    pub(crate) fn leftovers(&self) -> Vec<(&'static str, usize)> {
        let counts = [
            ("links", self.links.len()),
            ("connections", self.shard.connections().count()),
            ("undecided publishes", self.shard.undecided()),
            ("members", self.links.iter().filter(|(_, link)| link.member.is_some()).count()),
            ("slots", self.hub.connections()),
            ("questions", usize::from(self.pending.is_waiting())),
            ("dirty", usize::from(self.shard.is_dirty())),
            ("effects", usize::from(self.shard.has_effect())),
        ];
        counts.into_iter().filter(|(_, count)| *count > 0).collect()
    }

    /// Shows what each link keeps.
    pub(crate) fn inspect(&self, mut each: impl FnMut(&I::Socket, Held)) {
        for (_, link) in self.links.iter() {
            let connection = link.member.and_then(|member| self.shard.connection(member));
            let outbox_bytes = connection.map_or(0, |connection| connection.outbox.queued_bytes());
            let (session_bytes, unfinished_bytes) = link.session.held_bytes();
            each(&link.socket, Held { session_bytes, unfinished_bytes, outbox_bytes });
        }
    }
}
