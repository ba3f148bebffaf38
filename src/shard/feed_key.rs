//! The name of a feed.

use crate::model::log::FollowKey;

/// Names a feed. Indices are used again, so the serial tells a feed from an earlier one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct FeedKey {
    pub(super) index: u32,
    pub(super) serial: u32,
}

impl From<FeedKey> for FollowKey {
    fn from(key: FeedKey) -> Self {
        Self(u64::from(key.serial) << 32 | u64::from(key.index))
    }
}

impl From<FollowKey> for FeedKey {
    fn from(FollowKey(key): FollowKey) -> Self {
        let index = u32::try_from(key & 0xffff_ffff).expect("32 bits");
        Self { index, serial: u32::try_from(key >> 32).expect("32 bits") }
    }
}
