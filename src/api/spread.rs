//! Spreads the items of one call over the shards that own them, and returns the results in the order of the items.

use super::{
    answer::Unanswered,
    call::{Answers, Ask, Asks},
};
use crate::{
    model::ShardId,
    shard::{Command, Placement, Reply},
};
use std::vec;

/// Items grouped by the shard that owns them. Items of one gateway keep their order, because they have the same owner.
pub(super) struct Spread<T> {
    groups: Vec<Vec<T>>,
}

impl<T> Spread<T> {
    /// An empty group for each shard.
    pub fn over(placement: &Placement) -> Self {
        Self { groups: (0..placement.shards()).map(|_| Vec::new()).collect() }
    }

    /// Adds an item to the group of its owner.
    pub fn push(&mut self, owner: ShardId, item: T) {
        self.groups[owner.index()].push(item);
    }

    /// One ask for each shard that has items, and the key to their answers.
    pub fn into_asks(self, command: impl Fn(Vec<T>) -> Command) -> (Asks, Asked) {
        let groups = (0..).map(ShardId).zip(self.groups).filter(|(_, items)| !items.is_empty());
        let (shards, asks) = groups.map(|(shard, items)| (shard, Ask::Shard(shard, command(items)))).unzip();
        (asks, Asked(shards))
    }
}

/// The shards that were asked, in ascending order.
#[derive(Debug)]
pub(super) struct Asked(Vec<ShardId>);

impl Asked {
    /// Collects the answers; `read` returns the results in a reply.
    pub fn gather<R>(self, answers: Answers, read: fn(Reply) -> Option<Vec<R>>) -> Gathered<R> {
        // The answers have the order of the asks, which is that of the shards here.
        let results = answers.into_iter().map(|answer| match answer.shard() {
            Ok(reply) => read(reply).map(Vec::into_iter).ok_or(Unanswered::Mismatched),
            Err(unanswered) => Err(unanswered),
        });
        Gathered(self.0.into_iter().zip(results).collect())
    }
}

/// The results of each shard, to be taken item by item.
pub(super) struct Gathered<R>(Vec<(ShardId, Result<vec::IntoIter<R>, Unanswered>)>);

impl<R> Gathered<R> {
    /// The result of the next item that was pushed for this owner.
    pub fn next_of(&mut self, owner: ShardId) -> Result<R, Unanswered> {
        // A reply with too few results is an error of its own items, never a result of another item.
        let at = self.0.binary_search_by_key(&owner, |(shard, _)| *shard).map_err(|_| Unanswered::Mismatched)?;
        match &mut self.0[at].1 {
            Ok(results) => results.next().ok_or(Unanswered::Mismatched),
            Err(unanswered) => Err(*unanswered),
        }
    }
}
