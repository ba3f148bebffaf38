//! How a connection joins its gateway: the log says where the gateway's events end, and then the connection begins
//! ([`super::beginning`]).

use super::{
    Connection, ConnectionKey, Effect, Join, Shard, counters, feed_key::FeedKey, gateway_progress::GatewayProgress,
    joins::Begin,
};
use crate::{
    limits,
    model::{
        CloseReason, Instant, Missing, Now, Position, Refused,
        log::{End, FollowKey, Head, LogRequest, Progress},
    },
};

impl Shard {
    /// Adds a connection to its gateway. [`Effect::Admit`] or [`Effect::Refuse`] follows, and after `Admit` the connection
    /// receives every event behind its begin.
    ///
    /// # Errors
    /// If the gateway has its maximum number of connections, or was deleted while the connection moved between cores.
    pub fn handle_join(&mut self, now: Now, join: Join) -> Result<ConnectionKey, Refused> {
        let life = self.life_of(join.gateway).ok_or(Refused::Unauthorized)?;
        let mode = self.mode_of(join.gateway);
        let (feed_key, is_new) = self.feeds.of_or_new(life, mode);
        let bound = self.settings.connections_per_gateway_max;
        if let Some(feed) = self.feeds.get_mut(feed_key) {
            if bound > 0 && feed.open().len() >= bound {
                return Err(Refused::CapacityExceeded);
            }
            feed.idle_until = None;
        }
        if is_new {
            self.log.push(LogRequest::Follow { key: feed_key.into(), life, behind: None });
        }
        let key = self.registry.insert(join, feed_key, now.wall, now.instant);
        let Some(feed) = self.feeds.get_mut(feed_key) else { return Ok(key) };
        if let Some(connection) = self.registry.connection_mut(key) {
            connection.is_proved = feed.is_proved() && !join.written_only;
        }
        feed.join(key);
        feed.members += 1;
        if feed.begun {
            self.begin(now, key);
        }
        let waits = self.registry.connection(key).is_some_and(|it| !it.admitted);
        if waits && join.resume.is_none() {
            self.joins.plain.push_back((now.instant + limits::FOLLOW_PATIENCE, key));
        } else if waits {
            self.joins.resuming.push_back((now.instant + limits::RESUME_PATIENCE, key));
        }
        Ok(key)
    }

    /// The log has said where the events of a gateway end.
    pub(super) fn handle_following(&mut self, now: Now, key: FollowKey, head: Head, progress: Option<Progress>) {
        let key = FeedKey::from(key);
        let Some(feed) = self.feeds.get_mut(key).filter(|feed| !feed.begun) else { return };
        feed.begin(Position { epoch: head.epoch, offset: head.last }, head.bytes);
        let absence = self.absences.take(feed.life);
        if let Some(left_at) = absence.and_then(|absence| absence.left_at).filter(|at| at.epoch == head.epoch) {
            feed.leave_at(left_at.offset);
        }
        if feed.is_proved() && feed.progress.is_none() {
            // The log keeps it from the moment at which the gateway got this delivery.
            let at_end = Progress { position: feed.end(), attempts: 0, attempts_ms: 0 };
            let attempted = absence.and_then(|absence| absence.attempted);
            feed.progress = Some(Box::new(GatewayProgress::new(progress.unwrap_or(at_end), attempted)));
        }
        let (joining, behind) = (feed.joining().to_vec(), feed.connections().to_vec());
        for member in joining {
            self.begin(now, member);
        }
        for member in behind {
            self.continue_catching_up(now, member);
        }
    }

    /// The log has said that the place behind which a feed was to go on is not there any more.
    pub(super) fn handle_not_following(&mut self, now: Now, key: FollowKey, why: &End) {
        let (feed_key, follow) = (FeedKey::from(key), key);
        // A feed that has ended in the meantime is not followed again: nobody would end that.
        if self.feeds.is_detached(feed_key) {
            return;
        }
        let Some(feed) = self.feeds.get_mut(feed_key) else { return };
        let (life, end, connections) = (feed.life, feed.end(), feed.connections().to_vec());
        let unanswered = feed.take_all_awaiting();
        match why {
            // New events go on from the head, and the connections get those in between from the log, or are closed if it
            // has trimmed them.
            End::Gone { .. } => {
                for member in &connections {
                    if self.registry.connection(*member).is_some_and(|it| it.cursor.is_live()) {
                        self.fall_behind(now, *member);
                    }
                }
                // What is held has a gap behind it.
                self.drop_records(feed_key);
                if let Some(feed) = self.feeds.get_mut(feed_key) {
                    feed.begun = false;
                }
                self.log.push(LogRequest::Follow { key: follow, life, behind: None });
            }
            End::OtherEpoch { head } => {
                let base = Position { epoch: head.epoch, offset: head.base };
                for member in &connections {
                    let Some(connection) = self.registry.connection_mut(*member) else { continue };
                    let cursor = &mut connection.cursor;
                    // Whoever stands at the end has missed nothing. No pong would name what it has not processed.
                    let is_idle = cursor.processing.as_ref().is_none_or(|processing| processing.is_idle());
                    if cursor.is_live() && cursor.taken == end.offset && !cursor.is_inside_record() && is_idle {
                        cursor.rebase(base, head.bytes);
                    } else {
                        self.close(now, *member, CloseReason::LogReplaced);
                    }
                }
                self.drop_records(feed_key);
                if let Some(feed) = self.feeds.get_mut(feed_key) {
                    feed.begin(base, head.bytes);
                    if let Some(progress) = &mut feed.progress {
                        progress.rebase(head.base);
                    }
                }
                self.lose_waits(life.gateway, Missing::REPLACED);
                self.refuse_positions(now, feed_key);
                self.log.push(LogRequest::Follow { key: follow, life, behind: Some(base) });
            }
            End::Failed(_) | End::More { .. } | End::Reached { .. } => {
                let behind = self.feeds.get(feed_key).filter(|feed| feed.begun).map(|_| end);
                self.hold_back(feed_key);
                self.retries.request_later(now.instant, LogRequest::Follow { key: follow, life, behind });
            }
        }
        for (_, of) in unanswered {
            self.deliver_behind(now, of, life.gateway, connections.len());
        }
    }

    /// The log tells a feed no more, because the shard took its records too slowly: follow again from where it stands.
    pub(super) fn handle_interrupted(&mut self, now: Now, key: FollowKey) {
        let Some(feed) = self.feeds.get_mut(FeedKey::from(key)) else { return };
        let end = feed.end();
        let request = LogRequest::Follow { key, life: feed.life, behind: Some(end) };
        if feed.interrupted_at.replace(end.offset) == Some(end.offset) {
            // It was told nothing in between: the log cannot read what comes next, and would be asked without a pause.
            return self.retries.request_later(now.instant, request);
        }
        self.log.push(request);
    }

    /// The log cannot say whether the connection can resume.
    pub(super) fn refuse_resume(&mut self, key: ConnectionKey) {
        self.counters.resumes.add(counters::LOG_UNAVAILABLE);
        self.effects.push_back(Effect::Refuse(key));
    }

    /// The gateway of a connection was told where it begins.
    pub fn handle_welcomed(&mut self, key: ConnectionKey) {
        if let Some(connection) = self.registry.connection_mut(key) {
            connection.welcomed = true;
        }
    }

    /// When the next connection is to be answered without the log. Nearly all were answered long before.
    pub(super) fn poll_join_timeout(&mut self) -> Option<Instant> {
        self.joins.skip(|key| self.registry.connection(key).is_some_and(|it| !it.admitted));
        self.joins.poll_timeout()
    }

    /// Answers a connection for which the log was too slow. Without a resume it is admitted, because everything that is
    /// appended behind its follow reaches it, wherever that is. A resume cannot be answered without the log.
    pub(super) fn handle_join_timeout(&mut self, key: ConnectionKey) {
        let Some(Connection { admitted: false, resume, .. }) = self.registry.connection(key) else { return };
        if resume.is_none() {
            return self.admit(key, Begin { position: None, resumed: None });
        }
        self.refuse_resume(key);
    }
}
