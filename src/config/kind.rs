//! The kinds of value that a key can have: how each is read, bounded, described and shown.

use super::draft::Draft;
use std::{fmt, net::SocketAddr, path::PathBuf, time::Duration};

/// A value as it was written, before a key has looked at it.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Raw {
    /// From an environment variable or a flag, where everything is text.
    Untyped(String),
    /// Text in a file.
    Text(String),
    /// A whole number in a file.
    Integer(u64),
    /// A list of texts in a file.
    List(Vec<String>),
    /// Something in a file that no key takes.
    Other(String),
}

impl Raw {
    fn text(&self) -> Option<&str> {
        match self {
            Self::Untyped(text) | Self::Text(text) => Some(text),
            _ => None,
        }
    }

    fn integer(&self) -> Option<u64> {
        match self {
            Self::Integer(number) => Some(*number),
            Self::Untyped(text) => digits(text),
            _ => None,
        }
    }

    fn list(&self) -> Option<Vec<String>> {
        match self {
            Self::List(items) => Some(items.clone()),
            Self::Untyped(text) => {
                Some(text.split(',').map(str::trim).filter(|item| !item.is_empty()).map(str::to_owned).collect())
            }
            _ => None,
        }
    }
}

impl fmt::Display for Raw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Untyped(text) | Self::Text(text) => write!(f, "{text:?}"),
            Self::Integer(number) => number.fmt(f),
            Self::List(items) => write!(f, "{items:?}"),
            Self::Other(shown) => f.write_str(shown),
        }
    }
}

/// Where a value goes, and comes from when it is shown.
type Slot<T> = fn(&mut Draft) -> &mut T;

/// What a key takes.
#[derive(Clone, Copy)]
pub(super) enum Kind {
    /// `ADDRESS:PORT`.
    Address(Slot<SocketAddr>),
    /// The same, or empty text for none.
    OptionalAddress(Slot<Option<SocketAddr>>),
    /// A path.
    Path(Slot<PathBuf>),
    /// A path that has no default.
    OptionalPath(Slot<Option<PathBuf>>),
    /// A whole number within bounds.
    Count(u64, u64, Slot<u64>),
    /// Bytes within bounds.
    Bytes(u64, u64, Slot<u64>),
    /// Time within bounds.
    Duration(Duration, Duration, Slot<Duration>),
    /// One of these words.
    Choice(&'static [&'static str], Slot<usize>),
    /// Text that the check accepts, and what that is in words.
    Text(fn(&str) -> bool, &'static str, Slot<String>),
    /// A list of texts, each of which the check accepts, and what that is in words.
    List(fn(&str) -> bool, &'static str, Slot<Vec<String>>),
}

impl Kind {
    /// Puts the value in its place, or says with `None` that it is not allowed.
    pub(super) fn set(self, raw: &Raw, draft: &mut Draft) -> Option<()> {
        match self {
            Self::Address(slot) => *slot(draft) = raw.text()?.parse().ok()?,
            Self::OptionalAddress(slot) => {
                let text = raw.text()?;
                *slot(draft) = if text.is_empty() { None } else { Some(text.parse().ok()?) };
            }
            Self::Path(slot) => *slot(draft) = path(raw)?,
            Self::OptionalPath(slot) => *slot(draft) = Some(path(raw)?),
            Self::Count(min, max, slot) => {
                *slot(draft) = raw.integer().filter(|count| (min..=max).contains(count))?;
            }
            Self::Bytes(min, max, slot) => {
                let bytes = raw.integer().or_else(|| raw.text().and_then(parse_bytes));
                *slot(draft) = bytes.filter(|bytes| (min..=max).contains(bytes))?;
            }
            Self::Duration(min, max, slot) => {
                *slot(draft) = parse_duration(raw.text()?).filter(|time| (min..=max).contains(time))?;
            }
            Self::Choice(words, slot) => {
                let text = raw.text()?;
                *slot(draft) = words.iter().position(|word| *word == text)?;
            }
            Self::Text(check, _, slot) => *slot(draft) = raw.text().filter(|text| check(text))?.to_owned(),
            Self::List(check, _, slot) => {
                *slot(draft) = raw.list().filter(|items| items.iter().all(|item| check(item)))?;
            }
        }
        Some(())
    }

    /// What is allowed, to stand after "allowed is".
    pub(super) fn expected(self) -> String {
        match self {
            Self::Address(_) => "an IP address with a port, as \"0.0.0.0:9243\" or \"[::]:9243\"".to_owned(),
            Self::OptionalAddress(_) => "an IP address with a port, as \"127.0.0.1:9244\", or \"\" for none".to_owned(),
            Self::Path(_) | Self::OptionalPath(_) => "a path".to_owned(),
            Self::Count(min, max, _) => format!("a whole number from {min} to {max}"),
            Self::Bytes(min, max, _) => {
                format!("a size from {} to {}, as 65536 or \"64KiB\"", show_bytes(min), show_bytes(max))
            }
            Self::Duration(min, max, _) => format!(
                "a duration from {} to {}, as \"250ms\", \"20s\" or \"5m\"",
                show_duration(min),
                show_duration(max)
            ),
            Self::Choice(words, _) => words.iter().map(|word| format!("\"{word}\"")).collect::<Vec<_>>().join(" or "),
            Self::Text(_, words, _) => words.to_owned(),
            Self::List(_, words, _) => format!("a list of {words}"),
        }
    }

    /// The value in a draft as it would stand in a file; `None` where it has none.
    pub(super) fn show(self, draft: &mut Draft) -> Option<String> {
        Some(match self {
            Self::Address(slot) => quoted(slot(draft)),
            Self::OptionalAddress(slot) => slot(draft).map_or_else(|| quoted(""), quoted),
            Self::Path(slot) => quoted(slot(draft).display()),
            Self::OptionalPath(slot) => quoted(slot(draft).as_ref()?.display()),
            Self::Count(_, _, slot) => slot(draft).to_string(),
            Self::Bytes(_, _, slot) => quoted(show_bytes(*slot(draft))),
            Self::Duration(_, _, slot) => quoted(show_duration(*slot(draft))),
            Self::Choice(words, slot) => quoted(words[*slot(draft)]),
            Self::Text(_, _, slot) => quoted(slot(draft)),
            Self::List(_, _, slot) => format!("{:?}", slot(draft)),
        })
    }
}

fn quoted(value: impl fmt::Display) -> String {
    format!("{:?}", value.to_string())
}

fn path(raw: &Raw) -> Option<PathBuf> {
    raw.text().filter(|text| !text.is_empty()).map(PathBuf::from)
}

/// A number of digits alone: no sign, no blank.
fn digits(text: &str) -> Option<u64> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

const TIMES: [(&str, u64); 4] = [("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];
const SIZES: [(&str, u64); 3] = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];

/// Splits `20s` into the number and the unit's worth.
fn parse_unit(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let end = text.find(|c: char| !c.is_ascii_digit())?;
    let (_, factor) = units.iter().find(|(name, _)| *name == &text[end..])?;
    digits(&text[..end])?.checked_mul(*factor)
}

fn parse_duration(text: &str) -> Option<Duration> {
    parse_unit(text, &TIMES).map(Duration::from_millis)
}

fn parse_bytes(text: &str) -> Option<u64> {
    digits(text).or_else(|| parse_unit(text, &SIZES))
}

/// The largest unit that divides it; zero has the unit that reads best.
fn show_unit(value: u64, units: &[(&str, u64)]) -> Option<String> {
    let (name, factor) = units.iter().find(|(_, factor)| value != 0 && value.is_multiple_of(*factor))?;
    Some(format!("{}{name}", value / factor))
}

/// A duration as the configuration writes it.
pub(super) fn show_duration(time: Duration) -> String {
    let millis = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    show_unit(millis, &TIMES).unwrap_or_else(|| "0s".to_owned())
}

fn show_bytes(bytes: u64) -> String {
    show_unit(bytes, &SIZES).unwrap_or_else(|| bytes.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_need_a_unit_and_nothing_else() {
        let check = |text: &str, expected: Option<u64>| {
            assert_eq!(parse_duration(text), expected.map(Duration::from_millis), "{text:?}");
        };
        check("250ms", Some(250));
        check("20s", Some(20_000));
        check("5m", Some(300_000));
        check("1h", Some(3_600_000));
        check("0s", Some(0));
        for refused in [
            "",
            "s",
            "20",
            "-1s",
            "+1s",
            "1.5s",
            " 1s",
            "1 s",
            "1S",
            "1d",
            "99999999999999999999s",
            "9999999999999999999h",
            "١s",
        ] {
            check(refused, None);
        }
    }

    #[test]
    fn sizes_are_binary() {
        let check = |text: &str, expected: Option<u64>| assert_eq!(parse_bytes(text), expected, "{text:?}");
        check("65536", Some(65_536));
        check("64KiB", Some(65_536));
        check("1MiB", Some(1_048_576));
        check("2GiB", Some(2 << 30));
        for refused in ["", "KiB", "64KB", "64 KiB", "-1KiB", "99999999999GiB"] {
            check(refused, None);
        }
    }

    #[test]
    fn what_is_shown_is_read_again_as_the_same() {
        for millis in [1, 250, 1_000, 1_500, 60_000, 90_000, 3_600_000] {
            let time = Duration::from_millis(millis);
            assert_eq!(parse_duration(&show_duration(time)), Some(time));
        }
        assert_eq!(parse_duration(&show_duration(Duration::ZERO)), Some(Duration::ZERO));
        for bytes in [1_024, 1_536, 1 << 20, 3 << 30] {
            assert_eq!(parse_bytes(&show_bytes(bytes)), Some(bytes));
        }
    }
}
