//! `?wait=…&until=processed`: a publish is answered once its events are processed (contract section 2).

use super::query::{Query, refuse};
use crate::{limits, shard::Command, wire::http::Response};
use std::time::Duration;

/// How long a publish waits for the processing of its events; zero if it does not.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub(super) struct Wait(Duration);

impl Wait {
    /// The wait that a query asks for.
    ///
    /// # Errors
    /// 400 if it is not a time of up to [`limits::WAIT_MAX`], or if it waits for anything but the processing.
    pub fn of(query: Query<'_>) -> Result<Self, Response> {
        let until = query.value("until")?;
        if until.as_deref().is_some_and(|until| until != "processed") {
            return Err(refuse("until", "must be `processed`"));
        }
        let Some(text) = query.value("wait")? else {
            return match until {
                None => Ok(Self::default()),
                Some(_) => Err(refuse("until", "needs `wait`, such as `wait=30s`")),
            };
        };
        let what = format!("must be a time from 1ms to {}s, such as `30s` or `500ms`", limits::WAIT_MAX.as_secs());
        wait_time(&text).map(Self).ok_or_else(|| refuse("wait", &what))
    }

    /// Whether it waits.
    pub fn is_asked(self) -> bool {
        !self.0.is_zero()
    }

    /// The command that publishes and then waits.
    pub fn command(self, publish: Command) -> Command {
        if self.is_asked() { Command::AndWait(Box::new(publish), self.0) } else { publish }
    }
}

/// Parses the value of `wait`, such as `30s` or `500ms`: 1 ms up to [`limits::WAIT_MAX`].
pub fn wait_time(text: &str) -> Option<Duration> {
    parse(text).filter(|time| (Duration::from_millis(1)..=limits::WAIT_MAX).contains(time))
}

fn parse(text: &str) -> Option<Duration> {
    let unit = text.find(|c: char| !c.is_ascii_digit())?;
    let number = text[..unit].parse::<u32>().ok()?;
    match &text[unit..] {
        "s" => Some(Duration::from_secs(number.into())),
        "ms" => Some(Duration::from_millis(number.into())),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_is_a_time_up_to_the_bound() {
        let check = |query: &str, expected: Option<u64>| {
            let wait = Wait::of(Query(Some(query))).map(|wait| wait.0.as_millis() as u64);
            assert_eq!(wait.ok(), expected, "{query}");
        };
        check("", Some(0));
        check("wait=30s&until=processed", Some(30_000));
        check("wait=500ms", Some(500));
        check("wait=60s", Some(60_000));
        for bad in [
            "wait=61s",
            "wait=0s",
            "wait=",
            "wait=30",
            "wait=1m",
            "wait=-1s",
            "wait=1s&until=settled",
            "until=processed",
        ] {
            check(bad, None);
        }
    }
}
