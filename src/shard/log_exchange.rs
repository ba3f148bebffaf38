//! The shard's side of the exchange with the log: requests out, replies in.

use super::{NotKept, Shard, feed_key::FeedKey};
use crate::model::{
    Kept, Now,
    log::{AppendKey, LogReply, LogRequest, Why},
};

impl Shard {
    /// Takes the next request for the log. Its replies go to [`Shard::handle_log`], or it goes to [`Shard::handle_busy`].
    pub fn poll_log(&mut self) -> Option<LogRequest> {
        self.log.pop()
    }

    /// Whether [`Shard::poll_log`] would return something.
    pub fn has_log_request(&self) -> bool {
        !self.log.is_empty()
    }

    /// Handles a reply of the log.
    pub fn handle_log(&mut self, now: Now, reply: LogReply) {
        match reply {
            LogReply::Appended { key, from, results, last } => self.handle_appended(now, key, from, results, last),
            LogReply::Live { key, records } => self.handle_live(now, key.into(), records),
            LogReply::Following { key, head, progress } => self.handle_following(now, key, head, progress),
            LogReply::NotFollowing { key, why } => self.handle_not_following(now, key, &why),
            LogReply::Interrupted(key) => self.handle_interrupted(now, key),
            LogReply::Chunk { key, records, end } if self.history.is_asked(key) => {
                self.handle_events(key, records, end);
            }
            LogReply::Chunk { key, records, end } => self.handle_chunk(now, key, records, end),
            // Whether the log has forgotten a deleted gateway matters to nobody here: it has another incarnation if it is
            // made again.
            LogReply::Forgotten(..) | LogReply::Health(_) => {}
        }
    }

    /// The log is too busy for this request. Events and the API's reads are refused; the rest is tried again.
    pub fn handle_busy(&mut self, now: Now, request: LogRequest) {
        match &request {
            LogRequest::Append { key, drafts, .. } => self.refuse_append(*key, drafts.len()),
            LogRequest::Read { key, .. } if self.history.is_asked(*key) => self.handle_events_busy(*key),
            LogRequest::Follow { key, .. } => {
                self.hold_back((*key).into());
                self.retries.request_later(now.instant, request);
            }
            _ => self.retries.request_later(now.instant, request),
        }
    }

    /// Refuses the events of a gateway until the log is asked again where its feed begins. Its connections may have their ack
    /// already, so they are given all that is appended from then on.
    pub(super) fn hold_back(&mut self, key: FeedKey) {
        let Some(feed) = self.feeds.get_mut(key).filter(|feed| !feed.begun) else { return };
        feed.held_back = true;
        // Those behind it in the queue: the log may have room for the next request.
        for request in self.log.take_appends() {
            if let LogRequest::Append { key, drafts, .. } = request {
                self.refuse_append(key, drafts.len());
            }
        }
    }

    fn refuse_append(&mut self, key: AppendKey, events: usize) {
        for index in 0..events {
            if let Some(of) = self.log.publisher(key, index) {
                self.reject(of, NotKept { kept: Kept::No, why: Why::Stuck });
            }
        }
        self.log.end_append(key);
    }
}
