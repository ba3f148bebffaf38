//! Checks the memory that the hub holds for its connections.

use super::oracle::Oracle;
use crate::limits;

impl Oracle {
    /// The hub's memory for a connection is bounded, even while its peer reads nothing.
    pub(super) fn check_memory(&mut self, conn: usize, held: &crate::engine::Held) {
        let answers = self.scenario.answer_bytes_max;
        if held.session_bytes > super::world::SESSION_BYTES_MAX + answers {
            let text = format!("the session holds {} bytes", held.session_bytes);
            self.fail("the memory of a connection is bounded", Some(conn), text);
        }
        self.watched[conn].unfinished_bytes = held.unfinished_bytes;
        if self.scenario.strict {
            self.check_unfinished(conn);
        }
    }

    /// The memory for events of one core is bounded.
    pub(super) fn check_held(&mut self, held_bytes: usize) {
        // One record of each connection may be on its way to a socket.
        let most = self.scenario.recent_bytes_max + 2 * self.scenario.event_bytes_max;
        if held_bytes > most {
            self.fail("the memory for events is bounded", None, format!("{held_bytes} bytes"));
        }
    }

    /// Checks the unfinished request bodies of one key, summed over all connections: in no strict world
    /// do two keys have any.
    fn check_unfinished(&mut self, conn: usize) {
        let sum: usize =
            self.watched.iter().filter(|watched| watched.closed.is_none()).map(|it| it.unfinished_bytes).sum();
        if sum > 2 * limits::MANIFEST_BYTES_MAX {
            self.fail("unfinished bodies of one gateway are bounded", Some(conn), format!("{sum} bytes"));
        }
    }
}
