//! Everything at once: a fleet that connects in one moment, and a crowd of publishers while connections come and go.

mod crowd;
mod fleet;
