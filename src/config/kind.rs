//! The kinds of value that a key can take: how each is parsed, checked, described in errors and printed.

use super::draft::Draft;
use std::{fmt, net::SocketAddr, path::PathBuf, time::Duration};

/// A value as it was written, before its key has parsed it.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Raw {
    /// From an environment variable or a flag: text that stands for a value of any type.
    Untyped(String),
    /// A string in a file.
    Text(String),
    /// An integer in a file.
    Integer(u64),
    /// A list of strings in a file.
    List(Vec<String>),
    /// A value in a file of a type that no key takes, as it is shown in the error.
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
            // A quoted number in a file is a type error, as TOML users expect; only untyped text is converted.
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

/// Points to the field of a draft that holds a key's value, to write it and to print it.
type Slot<T> = fn(&mut Draft) -> &mut T;

/// The type of a key's value, with its bounds and its field in the draft.
#[derive(Clone, Copy)]
pub(super) enum Kind {
    /// `ADDRESS:PORT`.
    Address(Slot<SocketAddr>),
    /// `ADDRESS:PORT`, or an empty string for none.
    OptionalAddress(Slot<Option<SocketAddr>>),
    /// A path.
    Path(Slot<PathBuf>),
    /// A path without a default.
    OptionalPath(Slot<Option<PathBuf>>),
    /// An integer from the first number to the second.
    Count(u64, u64, Slot<u64>),
    /// A number of bytes from the first number to the second.
    Bytes(u64, u64, Slot<u64>),
    /// A duration from the first to the second.
    Duration(Duration, Duration, Slot<Duration>),
    /// One of these words; the field holds its index.
    Choice(&'static [&'static str], Slot<usize>),
    /// A string that the function accepts, and a description of such strings.
    Text(fn(&str) -> bool, &'static str, Slot<String>),
    /// A list of strings that the function accepts one by one, and a description of such strings.
    List(fn(&str) -> bool, &'static str, Slot<Vec<String>>),
}

impl Kind {
    /// Parses the value and writes it to the draft; `None` if the key does not take it.
    pub(super) fn set(self, raw: &Raw, draft: &mut Draft) -> Option<()> {
        match self {
            Self::Address(slot) => *slot(draft) = raw.text()?.parse().ok()?,
            Self::OptionalAddress(slot) => {
                // A later source can only override a value, not remove it, so the empty string has to mean "none".
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

    /// The values that the key takes, in words that complete "expected ...".
    pub(super) fn expected(self) -> String {
        match self {
            Self::Address(_) => "an IP address and port such as \"0.0.0.0:9243\" or \"[::]:9243\"".to_owned(),
            Self::OptionalAddress(_) => {
                "an IP address and port such as \"127.0.0.1:9244\", or \"\" for none".to_owned()
            }
            Self::Path(_) | Self::OptionalPath(_) => "a path that is not empty".to_owned(),
            Self::Count(min, max, _) => format!("an integer from {min} to {max}"),
            Self::Bytes(min, max, _) => {
                format!("a size from {} to {} such as 65536 or \"64KiB\"", show_bytes(min), show_bytes(max))
            }
            Self::Duration(min, max, _) => format!(
                "a duration from {} to {} such as \"250ms\", \"20s\" or \"5m\"",
                show_duration(min),
                show_duration(max)
            ),
            Self::Choice(words, _) => words.iter().map(|word| format!("\"{word}\"")).collect::<Vec<_>>().join(" or "),
            Self::Text(_, words, _) => words.to_owned(),
            Self::List(_, words, _) => {
                format!("a list of {words}; separated by commas in a flag or a variable, as [\"…\", \"…\"] in a file")
            }
        }
    }

    /// The draft's value in TOML; `None` if the key is not set.
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

/// Parses ASCII digits only: `str::parse` would also take a leading `+`.
fn digits(text: &str) -> Option<u64> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

// Largest unit first: `show_unit` takes the first that divides the value.
const TIMES: [(&str, u64); 4] = [("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];
const SIZES: [(&str, u64); 3] = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];

/// Multiplies the number of `20s` with the value of its unit; `None` if the unit is unknown or the product overflows.
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

/// Prints a value in the largest unit that divides it; `None` for zero, for which the caller picks a unit.
fn show_unit(value: u64, units: &[(&str, u64)]) -> Option<String> {
    let (name, factor) = units.iter().find(|(_, factor)| value != 0 && value.is_multiple_of(*factor))?;
    Some(format!("{}{name}", value / factor))
}

/// Prints a duration in the form that the configuration takes.
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
    fn a_duration_is_digits_and_a_unit() {
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
    fn size_units_are_powers_of_1024() {
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
    fn a_printed_value_parses_to_the_same_value() {
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
