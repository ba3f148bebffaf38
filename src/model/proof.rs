//! What a pong that names a position proves (contract section 1, delivery `processed`).

/// The verdict on one pong.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Proof {
    /// The event at the position was processed, and that was not known before.
    Processed,
    /// It was known before.
    Known,
    /// No ping that the kernel has taken names this position.
    Invented,
}
