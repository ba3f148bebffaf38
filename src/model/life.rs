//! Which gateway of an id: a gateway that is deleted and made again with the same id is another one.

use super::GatewayId;

/// One gateway from its creation to its deletion.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Life {
    /// The id, which a later gateway may bear again.
    pub gateway: GatewayId,
    /// A random number that was drawn when it was created.
    pub incarnation: u64,
}

impl Life {
    /// The epoch of this life's positions in a log with the epoch `log`.
    ///
    /// The incarnation goes through the finalizer of SplitMix64, the sum with the log's epoch once more. Each of the two
    /// steps maps 64 bits to 64 bits one to one, so two lives of one log never share an epoch unless their incarnations
    /// are equal, and one life never has the same epoch in two logs of different epochs.
    pub fn epoch_in(self, log: u64) -> u64 {
        mix(log.wrapping_add(mix(self.incarnation)))
    }
}

/// The finalizer of SplitMix64 (Steele, Lea, Flood 2014): each bit of the input moves about half of the output's.
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
    fn lives_and_logs_that_are_close_have_epochs_that_are_far_apart() {
        let gateway = GatewayId::random();
        let of = |log, incarnation| Life { gateway, incarnation }.epoch_in(log);
        let mut epochs = HashSet::new();
        for (log, incarnation) in (0..100).flat_map(|log| (0..100).map(move |incarnation| (log, incarnation))) {
            assert!(epochs.insert(of(log, incarnation)), "{log} {incarnation}");
            let moved = (of(log, incarnation) ^ of(log, incarnation + 1)).count_ones();
            assert!((8..=56).contains(&moved), "{log} {incarnation}: {moved} bits");
        }
    }

    #[test]
    fn an_epoch_depends_on_the_incarnation_and_not_on_the_id() {
        let of = |gateway| Life { gateway, incarnation: 5 }.epoch_in(7);
        assert_eq!(of(GatewayId::random()), of(GatewayId::random()));
    }
}
