//! Checks each answer of a log against what was asked before.

use super::{Following, Least, Reading, Shard};
use crate::model::{
    Life, Position,
    log::{End, Head, LogReply, NotAppended, ReadFrom, Record},
};

impl Shard {
    /// Checks an answer against what was asked.
    pub(super) fn check(&mut self, reply: LogReply) {
        match reply {
            LogReply::Appended { key, from, results, last } => self.check_appended(key.0, from, results, last),
            LogReply::Following { key, head, progress } => {
                let follow = self.follows.remove(&key.0).expect("a follow is answered once");
                assert!(follow.next.is_none(), "a follow is answered once");
                self.check_head(follow.gateway, follow.life, head, self.least(follow.gateway));
                self.check_progress(&follow, head, progress);
                let behind = follow.behind.map_or(head.last, |behind| behind.offset);
                assert!(behind <= head.last && behind + 1 >= head.first, "{behind} is no place to begin: {head:?}");
                self.follows.insert(key.0, Following { next: Some(behind + 1), ..follow });
            }
            LogReply::NotFollowing { key, why } => {
                let follow = self.follows.remove(&key.0).expect("a follow is answered once");
                let (behind, known) = (follow.behind.expect("the end is a place"), self.least(follow.gateway));
                self.check_no_place(follow.gateway, follow.life, behind, &why, known);
            }
            LogReply::Live { key, records } => {
                assert!(!records.is_empty(), "a Live has an event");
                let Some(mut follow) = self.follows.remove(&key.0) else { panic!("Live for a follow that has ended") };
                let next = follow.next.expect("Live comes after Following");
                self.check_records(follow.gateway, next, &records);
                follow.next = Some(next + records.len() as u64);
                self.follows.insert(key.0, follow);
            }
            LogReply::Interrupted(key) => {
                // It follows again, from where it stands.
                let follow = self.follows.remove(&key.0).expect("only what follows is interrupted");
                let epoch = self.gateways[follow.gateway].life;
                assert_eq!(epoch, follow.life, "the gateway is the same");
            }
            LogReply::Chunk { key, records, end } => {
                let read = self.reads.remove(&key.0).expect("a read is answered once");
                self.check_chunk(&read, &records, &end);
            }
            LogReply::Forgotten(key, result) => {
                self.forgets.remove(&key.0).expect("a forget is answered once");
                assert_eq!(result, Ok(()));
            }
            LogReply::Health(_) => {}
        }
    }

    fn check_appended(&mut self, key: u64, from: usize, results: Vec<Result<Position, NotAppended>>, last: bool) {
        let drafts = self.appends.get_mut(&key).expect("an append is answered once");
        assert!(from + results.len() <= drafts.len() && (!last || from + results.len() == drafts.len()));
        let answered: Vec<_> = drafts[from..from + results.len()].to_vec();
        if last {
            self.appends.remove(&key);
        }
        for ((gateway, life, payload), result) in answered.into_iter().zip(results) {
            let position = result.expect("a healthy log takes every event");
            let known = &mut self.gateways[gateway];
            assert_eq!(known.life, life, "appends are answered before their gateway is deleted");
            known.payloads.push(payload.clone());
            assert_eq!(*known.epoch.get_or_insert(position.epoch), position.epoch, "a life has one epoch");
            assert_eq!(position.offset, known.payloads.len() as u64, "drafts of one gateway keep their order");
            assert!(self.names.insert(position, payload).is_none(), "{position} names two events");
        }
    }

    fn check_records(&self, gateway: usize, first: u64, records: &[Record]) {
        let known = &self.gateways[gateway];
        for (offset, record) in (first..).zip(records) {
            assert_eq!(record.position.offset, offset, "in order, none left out");
            // `Live` may come before the `Appended` of the same event; what it names is checked by the payload then.
            if let Some(payload) = known.payloads.get(offset as usize - 1) {
                assert_eq!(record.event.payload, payload.as_slice(), "{} is another event", record.position);
                assert_eq!(record.bytes, known.bytes_until(offset), "cumulative bytes");
            }
        }
    }

    fn check_chunk(&mut self, read: &Reading, records: &[Record], end: &End) {
        let bytes: usize = records.iter().map(|record| record.event.payload.len()).sum();
        let fits = records.len() <= read.room.records && bytes <= read.room.bytes;
        assert!(
            records.len() <= 1 || fits,
            "a chunk of {} records and {bytes} bytes for {:?}",
            records.len(),
            read.room
        );
        let after = match (end, read.from) {
            (End::More { head } | End::Reached { head }, from) => {
                self.check_head(read.gateway, read.life, *head, read.known);
                from.after(*head)
            }
            (_, ReadFrom::After(after)) => after,
            (end, from) => panic!("a log has always a place for {from:?}, but answered {end:?}"),
        };
        self.check_records(read.gateway, after.offset + 1, records);
        let reached = after.offset + records.len() as u64;
        match end {
            End::More { head } => {
                assert!(!records.is_empty(), "a chunk with more behind it has one");
                assert!(reached < head.last, "it ends at {reached} and says that more follow: {head:?}");
            }
            End::Reached { .. } => {
                let upto = read.upto.map_or(read.known.last, |upto| upto.offset.min(read.known.last));
                assert!(reached >= upto, "it ends at {reached} and says that it has reached {upto}");
            }
            End::Gone { .. } | End::OtherEpoch { .. } | End::Failed(_) => {
                assert!(records.is_empty());
                self.check_no_place(read.gateway, read.life, after, end, read.known);
            }
        }
    }

    fn check_no_place(&mut self, gateway: usize, life: Life, after: Position, end: &End, least: Least) {
        match end {
            End::Gone { head } => {
                self.check_head(gateway, life, *head, least);
                assert_eq!(after.epoch, head.epoch);
                assert!(after.offset + 1 < head.first, "what is behind {after} is there: {head:?}");
            }
            End::OtherEpoch { head } => {
                self.check_head(gateway, life, *head, least);
                assert!(after.epoch != head.epoch || after.offset > head.last, "{after} is a position of {head:?}");
            }
            other => panic!("{other:?} is no reason"),
        }
    }

    fn check_head(&mut self, gateway: usize, life: Life, head: Head, least: Least) {
        let known = &mut self.gateways[gateway];
        assert_eq!(known.life, life, "an answer about a deleted gateway comes before its Forgotten");
        assert_eq!(*known.epoch.get_or_insert(head.epoch), head.epoch, "a life has one epoch");
        assert!(head.first >= least.first, "`first` fell from {} to {}", least.first, head.first);
        assert!(head.base < head.first && head.first <= head.last + 1, "{head:?}");
        known.first = known.first.max(head.first);
        let told = known.payloads.len() as u64;
        // The log may be ahead of the answers that have been taken, never behind them.
        let asked: usize = self.appends.values().flatten().filter(|(of, ..)| *of == gateway).count();
        let possible = least.last..=told + asked as u64;
        assert!(possible.contains(&head.last), "{told} appended, {asked} asked for: {head:?}");
    }
}
