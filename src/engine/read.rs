//! One visit of a link that has something to read: bytes into its session.

use super::{
    core::Engine,
    io::{Io, Received},
    link::LinkKey,
    schedule::Visit,
};
use crate::{limits, model::Now};
use zeroize::Zeroize;

impl<I: Io> Engine<I> {
    /// Reads once, and carries out what the session asks for. A link that has more to say goes to the tail of the queue.
    pub(super) fn read(&mut self, io: &mut I, now: Now, key: LinkKey) -> Visit {
        let Some(link) = self.links.get_mut(key) else { return Visit::Small };
        link.reading = false;
        // What earlier bytes have asked for comes first.
        if !link.session.has_effect() {
            if link.readable && link.session.wants_read() {
                self.receive(io, now, key);
            } else if link.broken {
                link.session.handle_broken();
            }
        }
        self.carry_out(io, now, key);
        self.wake_writer(key);
        self.settle(io, now, key);
        Visit::Large
    }

    fn receive(&mut self, io: &mut I, now: Now, key: LinkKey) {
        let Some(link) = self.links.get_mut(key) else { return };
        let room = if link.session.is_streaming() { limits::INBOUND_READ_BYTES } else { limits::READ_BATCH_BYTES };
        let received = io.receive(&mut link.socket, &mut self.received[..room]);
        match received {
            Received::Bytes(bytes) => {
                // A short read has emptied the socket, unless the end stands behind it.
                link.readable = bytes == room || link.ended;
                let mut buffer = std::mem::take(&mut self.received);
                self.with_session(io, now, key, |session, scratch| {
                    #[cfg(test)]
                    super::faults::strike(session.peer());
                    session.handle_received(now, &mut buffer[..bytes], scratch);
                    if session.had_secret() {
                        // Without TLS a key may have been in it.
                        buffer[..bytes].zeroize();
                    }
                });
                self.received = buffer;
            }
            Received::Blocked => link.readable = false,
            Received::End => {
                link.readable = false;
                link.session.handle_end(now);
            }
            Received::Broken => {
                link.readable = false;
                link.session.handle_broken();
            }
        }
    }
}
