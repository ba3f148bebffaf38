//! Cleans text from peers before it is logged, so that it cannot forge lines, send escape sequences to a terminal,
//! change the direction of the text, or reveal a token.

use crate::engine::LiveTokens;
use std::borrow::Cow;

/// Replaces a text that contains a live token.
const MASKED: &str = "(live token)";

/// Returns the text as [`clean`] does, or [`MASKED`] if it contains a live token.
pub(super) fn peer_text<'a>(text: &'a str, tokens: LiveTokens<'_>) -> Cow<'a, str> {
    if tokens.are_in(text) { Cow::Borrowed(MASKED) } else { clean(text) }
}

/// Replaces each control, bidi, separator or invisible character by U+FFFD. JSON logs need this as well: they escape
/// such characters, but a log viewer decodes and shows them.
pub(super) fn clean(text: &str) -> Cow<'_, str> {
    if !text.contains(is_unsafe) {
        return Cow::Borrowed(text);
    }
    Cow::Owned(text.replace(is_unsafe, "\u{fffd}"))
}

fn is_unsafe(c: char) -> bool {
    let format = matches!(c,
        '\u{61c}' | '\u{feff}'              // Arabic letter mark; byte order mark
        | '\u{200b}'..='\u{200f}'           // zero-width characters, direction marks
        | '\u{2028}'..='\u{202e}'           // line and paragraph separators, bidi embeddings and overrides
        | '\u{2060}'..='\u{206f}'           // invisible operators, bidi isolates
        | '\u{e0000}'..='\u{e007f}'); // tags
    // Unicode's control characters are C0, DEL and C1.
    c.is_control() || format
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_bidi_and_invisible_characters_are_replaced() {
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
