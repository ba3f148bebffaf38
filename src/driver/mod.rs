//! The only code with glommio, flume, sockets and the clock: it carries out the I/O of each core's [`Engine`].
//!
//! ```text
//!   sockets, listeners ──▶ ┌───────────┐ ──▶ Engine::handle_ready ─▶ ┌────────┐
//!   doorbell ────────────▶ │ epoll set │                             │ Engine │ ──▶ CoreIo: send, mesh, store, notices
//!   timerfd ─────────────▶ └───────────┘     core_loop: harvest, pass, wait ▶└────────┘
//!                               │ watched by glommio only while the core is idle
//! ```
//!
//! One future per core owns the engine and its I/O. There is no task per connection. Cores share only the lanes of
//! [`mesh`] and the atomics of the engine's hub state.
//!
//! [`Engine`]: crate::engine::Engine

pub(crate) mod clock;
mod core_io;
pub(crate) mod core_loop;
mod epoll_set;
pub(crate) mod line_limit;
pub(crate) mod listener;
mod log_limit;
pub(crate) mod mesh;
mod notices;
mod peer_text;
mod raw;
mod socket;
pub(crate) mod watchdog;

#[cfg(test)]
mod tests;
