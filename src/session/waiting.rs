//! What is kept of a connect request until its key was checked and its slot was taken.

use crate::wire::upgrade::Upgrade;

/// A gateway that waits for the verdict.
pub(super) struct Waiting {
    pub(super) upgrade: Upgrade,
    /// Frames that it sent too early.
    pub(super) early: Vec<u8>,
    /// It sends no more: it is told why it is refused, and with a good key its connection ends.
    pub(super) ended: bool,
}
