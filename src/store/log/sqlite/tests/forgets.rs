//! Forgetting the logs of deleted gateways.

use super::{
    super::{LogSync, mark, settings::CommitFault},
    fixture::*,
};
use crate::model::{
    Position,
    log::{ForgetKey, LogReply, LogRequest},
};
use std::time::Duration;

#[test]
fn a_gateway_that_is_forgotten_while_the_file_is_opened_again_takes_no_other_with_it() {
    let mut fixture = Fixture::new(LogSync::Power);
    let lives: Vec<_> = (0..4).map(|_| fixture.life()).collect();
    let mut log = fixture.open();
    for life in &lives {
        log.fill(*life, 3, 10);
    }
    log.forget(lives[0]).unwrap();
    fixture.fail_commit(CommitFault::Lost);
    log.append(vec![draft(lives[3], "t", 10)])[0].as_ref().unwrap_err();
    fixture.advance(Duration::from_millis(500));
    log.forget(lives[1]).unwrap();
    for life in &lives[2..] {
        let head = log.head(*life);
        assert_eq!(head.last, 3, "{life:?}");
        let (records, _) = log.read(*life, Position { epoch: head.epoch, offset: 0 });
        assert_eq!(records.len(), 3);
    }
    log.close();
}

#[test]
fn many_gateways_are_forgotten_in_few_commits() {
    const MANY: usize = 300;
    let mut fixture = Fixture::new(LogSync::Power);
    let lives: Vec<_> = (0..MANY).map(|_| fixture.life()).collect();
    let mut log = fixture.open();
    log.append(lives.iter().map(|life| draft(*life, "t", 10)).collect());
    let commits = || mark::read(&fixture.path("log.mark")).unwrap().unwrap().commits;
    let before = commits();
    for (key, life) in lives.iter().enumerate() {
        log.submit(LogRequest::Forget { key: ForgetKey(key as u64), life: *life });
    }
    log.wait_until(|log| log.replies.iter().filter(|it| matches!(it, LogReply::Forgotten(..))).count() == MANY);
    // Their events are removed later, in commits that let appends in between.
    assert!(commits() - before < MANY as u64 / 3, "{}", commits() - before);
    log.close();
}
