//! A valid upgrade request, while the engine counts the attempt, checks the key and takes a slot.

use crate::wire::upgrade::Upgrade;
use zeroize::Zeroizing;

/// An upgrade that awaits its verdict.
pub(super) struct PendingUpgrade {
    pub(super) upgrade: Upgrade,
    /// Bytes that the peer sent after its request. They are frames if it is admitted; a client should wait for the 101. They may
    /// as well be another request with a key.
    pub(super) early_bytes: Zeroizing<Vec<u8>>,
    /// The peer has ended its stream. It is still sent a refusal, but it is not admitted.
    pub(super) ended: bool,
}
