//! Changed bits of the file: whatever is told is what was kept, and no position gets a second event.

use super::{super::LogSync, fixture::*};
use crate::model::{Life, Position, log::End};
use std::fs;

const EVENTS: u64 = 60;

/// Bytes at the begin of a page that say what is in it.
const HEADER: usize = 12;

/// What a log with a flipped bit did.
#[derive(Debug, Default)]
struct Tally {
    refused: usize,
    whole: usize,
    in_part: usize,
    wrong: Vec<String>,
}

/// Opens a log whose gateways had [`EVENTS`] events each, and compares what it tells with what was appended.
fn check(fixture: &Fixture, told: &[(Life, Vec<crate::model::CorrelationId>)], epoch_of: &[u64], tally: &mut Tally) {
    let Ok(mut log) = fixture.try_open() else {
        tally.refused += 1;
        return;
    };
    let mut whole = true;
    for ((life, correlations), epoch) in told.iter().zip(epoch_of) {
        let after = |offset| Position { epoch: *epoch, offset };
        for start in [0, EVENTS / 2, EVENTS - 1] {
            let (records, end) = log.read(*life, after(start));
            let differs = records.iter().enumerate().any(|(index, record)| {
                correlations.get(start as usize + index) != Some(&record.event.correlation)
                    || record.position != after(start + 1 + index as u64)
            });
            if differs {
                tally.wrong.push(format!("other events behind {start}"));
            }
            match end {
                End::Reached { .. } if records.len() as u64 != EVENTS - start => {
                    tally.wrong.push(format!("{} events behind {start}, and no more", records.len()));
                }
                End::Reached { .. } => {}
                _ => whole = false,
            }
        }
        for result in log.append(vec![draft(*life, "t", 100)]) {
            match result {
                Ok(position) if position.epoch == *epoch && position.offset <= EVENTS => {
                    tally.wrong.push(format!("{position} has a second event"));
                }
                Ok(_) => {}
                Err(_) => whole = false,
            }
        }
    }
    log.close();
    *(if whole { &mut tally.whole } else { &mut tally.in_part }) += 1;
}

#[test]
fn a_flipped_bit_gives_no_position_a_second_event() {
    let mut fixture = Fixture::new(LogSync::Process);
    let lives = [fixture.life(), fixture.life()];
    let mut log = fixture.open();
    let mut told = lives.map(|life| (life, Vec::new()));
    for _ in 0..EVENTS / 4 {
        for (life, correlations) in &mut told {
            let drafts: Vec<_> = (0..4).map(|_| draft(*life, "t", 100)).collect();
            correlations.extend(drafts.iter().map(|draft| draft.event.correlation));
            assert!(log.append(drafts).iter().all(Result::is_ok));
        }
    }
    let epochs = lives.map(|life| log.head(life).epoch);
    log.close();
    let bytes = fs::read(fixture.path("log.db")).unwrap();
    let mut tally = Tally::default();
    // Every bit of the file would take minutes; these are spread over all pages, more of them where a page says what it is.
    let mut at = 0;
    while at < bytes.len() {
        for bit in 0..if at % 4_096 < HEADER { 4 } else { 1 } {
            let bit = (bit * 2 + at) % 8;
            let flipped = fixture.copy();
            let mut changed = bytes.clone();
            changed[at] ^= 1 << bit;
            fs::write(flipped.path("log.db"), &changed).unwrap();
            let before = tally.wrong.len();
            check(&flipped, &told, &epochs, &mut tally);
            if tally.wrong.len() > before {
                let place = format!("bit {bit} of byte {at} (page {}, {}): ", at / 4_096 + 1, at % 4_096);
                tally.wrong[before..].iter_mut().for_each(|wrong| wrong.insert_str(0, &place));
            }
        }
        at += if at % 4_096 < HEADER { 1 } else { (4_096 - at % 4_096).min(97) };
    }
    println!("{} refused, {} whole, {} in part", tally.refused, tally.whole, tally.in_part);
    assert!(tally.wrong.is_empty(), "{} wrong: {:#?}", tally.wrong.len(), &tally.wrong[..tally.wrong.len().min(30)]);
}
