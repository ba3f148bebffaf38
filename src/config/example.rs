//! The example file, written from the table of keys so that the two cannot drift apart.

use super::{draft::Draft, table::KEYS};
use std::fmt::Write as _;

const HEAD: &str = "\
# Gatecast: every key at its default.
#
# A line that begins with # and a letter sets a key when the # is taken away; a line that begins with # and a blank is
# for reading. Durations are written as \"250ms\", \"20s\", \"5m\" or \"1h\", sizes as 65536, \"64KiB\" or \"1MiB\".
#
# The environment variable beside a key wins over this file, and a flag wins over both: `--set heartbeat.interval=10s`.
";

/// The text of `docs/gatecast.example.toml`.
pub(super) fn example() -> String {
    let mut text = HEAD.to_owned();
    let mut defaults = Draft::new();
    let mut section = "";
    for key in KEYS {
        let (its_section, name) = key.name.split_once('.').unwrap_or(("", key.name));
        if its_section != section {
            section = its_section;
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
        let _ = match key.kind.show(&mut defaults) {
            Some(value) => writeln!(text, "#{name} = {value}"),
            None => writeln!(text, "# {name} = \"/etc/gatecast/{name}.pem\""),
        };
    }
    text
}
