//! Generates the example file from the table of keys, so that it always lists every key with its real default.

use super::{draft::Draft, table::KEYS};
use std::fmt::Write as _;

const HEAD: &str = "\
# Gatecast: every key at its default.
#
# To set a key, remove the # in front of its name and change the value. Lines that begin with \"# \" are comments.
# Write durations as \"250ms\", \"20s\", \"5m\" or \"1h\", and sizes as 65536, \"64KiB\" or \"1MiB\".
#
# The environment variable above a key overrides this file; a flag overrides both: `--set heartbeat.interval=10s`.
";

/// The text of `docs/gatecast.example.toml`.
pub(super) fn example() -> String {
    let mut text = HEAD.to_owned();
    let mut defaults = Draft::new();
    let mut section = "";
    for key in KEYS {
        let (key_section, name) = key.name.split_once('.').unwrap_or(("", key.name));
        // The table keeps the keys of a section together. TOML would refuse a section that is opened twice.
        if key_section != section {
            section = key_section;
            let _ = write!(text, "\n[{section}]\n");
        }
        text.push('\n');
        for line in key.help {
            let _ = writeln!(text, "# {line}");
        }
        let _ = write!(text, "# {}", key.variable());
        if let Some((variable, unit)) = key.legacy {
            let _ = write!(text, ", or {variable}{}", if unit == "s" { " in seconds" } else { "" });
        }
        text.push('\n');
        // A path without a default is a suggestion. It is written as a comment so that a reader who removes every `#`
        // in front of a name gets the defaults, and not files that do not exist.
        let _ = match key.kind.show(&mut defaults) {
            Some(value) => writeln!(text, "#{name} = {value}"),
            None => writeln!(text, "# {name} = \"/etc/gatecast/{name}.pem\""),
        };
    }
    text
}
