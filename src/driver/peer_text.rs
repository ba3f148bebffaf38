//! Text that a peer gave, as it stands in the log: it cannot forge lines, steer a terminal, change how a line reads, or be a token.

use crate::engine::LiveTokens;
use std::borrow::Cow;

/// Stands for a text that holds a live token.
const MASKED: &str = "(live token)";

/// The text without a character that is not shown as itself, or [`MASKED`].
pub(super) fn peer_text<'a>(text: &'a str, tokens: LiveTokens<'_>) -> Cow<'a, str> {
    if tokens.are_in(text) { Cow::Borrowed(MASKED) } else { clean(text) }
}

/// The text with each control, bidi, separator or invisible character replaced by U+FFFD. A log that is JSON escapes such characters for
/// its reader, who then shows them: so they do not get that far.
pub(super) fn clean(text: &str) -> Cow<'_, str> {
    if !text.contains(is_unsafe) {
        return Cow::Borrowed(text);
    }
    Cow::Owned(text.replace(is_unsafe, "\u{fffd}"))
}

fn is_unsafe(c: char) -> bool {
    let format = matches!(c,
        '\u{61c}' | '\u{feff}'              // Arabic letter mark; byte order mark
        | '\u{200b}'..='\u{200f}'           // zero width, and the marks of a direction
        | '\u{2028}'..='\u{202e}'           // separators of lines and paragraphs, embeddings and overrides
        | '\u{2060}'..='\u{206f}'           // invisible operators, isolates
        | '\u{e0000}'..='\u{e007f}'); // tags
    // C0, DEL and C1 are what Unicode calls control.
    c.is_control() || format
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_shown_as_itself_is_replaced() {
        for (text, expected) in [
            ("rev-7 ä 東京 🙂", "rev-7 ä 東京 🙂"),
            ("a\r\nb\tc", "a\u{fffd}\u{fffd}b\u{fffd}c"),
            ("\u{0}\u{1b}[31m\u{7f}\u{9b}", "\u{fffd}\u{fffd}[31m\u{fffd}\u{fffd}"),
            ("\u{61c}\u{200e}\u{202a}\u{202e}\u{2066}\u{2069}", "\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}"),
            ("\u{85}\u{2028}\u{2029}\u{feff}", "\u{fffd}\u{fffd}\u{fffd}\u{fffd}"),
        ] {
            assert_eq!(clean(text), expected, "{text:?}");
        }
    }
}
