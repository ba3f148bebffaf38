//! A life of a gateway id: a gateway that is deleted and created again with the same id is a different one.

use super::GatewayId;

/// One gateway from its creation to its deletion.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Life {
    /// The id, which a later gateway may have as well.
    pub gateway: GatewayId,
    /// A random number from its creation.
    pub incarnation: u64,
}

impl Life {
    /// The epoch of this life's positions in a process with the epoch `process`.
    ///
    /// Both mixing steps map 64 bits to 64 bits one to one. So two lives in one process have different epochs unless
    /// their incarnations are equal, and one life has different epochs in processes of different epochs.
    pub fn epoch_in(self, process: u64) -> u64 {
        // Not the plain sum: process 1 with incarnation 2 would have the epoch of process 2 with incarnation 1.
        mix(process.wrapping_add(mix(self.incarnation)))
    }
}

/// The finalizer of SplitMix64 (Steele, Lea, Flood 2014): each bit of the input changes about half of the output's
/// bits.
fn mix(bits: u64) -> u64 {
    let bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn close_incarnations_and_processes_have_epochs_that_are_far_apart() {
        let gateway = GatewayId::random();
        let of = |process, incarnation| Life { gateway, incarnation }.epoch_in(process);
        let mut epochs = HashSet::new();
        for (process, incarnation) in (0..100).flat_map(|process| (0..100).map(move |n| (process, n))) {
            assert!(epochs.insert(of(process, incarnation)), "{process} {incarnation}");
            let changed = (of(process, incarnation) ^ of(process, incarnation + 1)).count_ones();
            assert!((8..=56).contains(&changed), "{process} {incarnation}: {changed} bits");
        }
    }

    #[test]
    fn an_epoch_depends_on_the_incarnation_and_not_on_the_id() {
        let of = |gateway| Life { gateway, incarnation: 5 }.epoch_in(7);
        assert_eq!(of(GatewayId::random()), of(GatewayId::random()));
    }
}
