//! One call over many gateways: questions grouped by owner, and the answers found again in the order of the questions.

use super::{
    answer::Unanswered,
    call::{Answer, Ask},
};
use crate::{
    model::ShardId,
    shard::{Command, Placement, Reply},
};
use std::vec;

/// Items on their way to the shards that own them. The order of one gateway's items is kept, since all have one owner.
pub(super) struct Spread<T> {
    groups: Vec<Vec<T>>,
}

impl<T> Spread<T> {
    /// Nothing yet, for so many shards.
    pub fn over(placement: &Placement) -> Self {
        Self { groups: (0..placement.shards()).map(|_| Vec::new()).collect() }
    }

    /// Adds one item to those of its owner.
    pub fn push(&mut self, owner: ShardId, item: T) {
        self.groups[owner.index()].push(item);
    }

    /// One question to every shard that has items, and what finds the answers again.
    pub fn into_asks(self, command: fn(Vec<T>) -> Command) -> (Vec<Ask>, Asked) {
        let groups = (0..).map(ShardId).zip(self.groups).filter(|(_, items)| !items.is_empty());
        let (shards, asks) = groups.map(|(shard, items)| (shard, Ask::Shard(shard, command(items)))).unzip();
        (asks, Asked(shards))
    }
}

/// The shards that were asked, in ascending order.
#[derive(Debug)]
pub(super) struct Asked(Vec<ShardId>);

impl Asked {
    /// Brings the answers together; `read` takes the results out of a reply.
    pub fn gather<R>(self, answers: Vec<Answer>, read: fn(Reply) -> Option<Vec<R>>) -> Gathered<R> {
        let results = answers.into_iter().map(|answer| match answer.shard() {
            Ok(reply) => read(reply).map(Vec::into_iter).ok_or(Unanswered::Mismatched),
            Err(unanswered) => Err(unanswered),
        });
        Gathered(self.0.into_iter().zip(results).collect())
    }
}

/// What each shard answered, to be taken item by item.
pub(super) struct Gathered<R>(Vec<(ShardId, Result<vec::IntoIter<R>, Unanswered>)>);

impl<R> Gathered<R> {
    /// The result of the next item that was pushed for this owner.
    pub fn next_of(&mut self, owner: ShardId) -> Result<R, Unanswered> {
        let at = self.0.binary_search_by_key(&owner, |(shard, _)| *shard).map_err(|_| Unanswered::Mismatched)?;
        match &mut self.0[at].1 {
            Ok(results) => results.next().ok_or(Unanswered::Mismatched),
            Err(unanswered) => Err(*unanswered),
        }
    }
}
