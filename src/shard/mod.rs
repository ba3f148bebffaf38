//! What exactly one core owns: the gateways that hash to it. No bytes, no clock, no socket.

pub mod command;
pub mod directory;
pub mod placement;

pub use command::{Command, Reply};
pub use directory::Directory;
pub use placement::Placement;
