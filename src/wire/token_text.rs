//! Tokens in text: the characters of which the hub makes them, and how to cut a text without leaving a part of one.

/// Whether a token that the hub has made may contain this character (base64url, RFC 4648 section 5).
pub fn is_token_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '-' | '_')
}

/// Where a text that may have `bytes_max` bytes ends. A word at the cut is left out whole, because the part of a token that
/// remained would not be recognized as one. In UTF-8 text, `bytes_max` is the boundary of a character.
pub fn cut(text: &[u8], bytes_max: usize) -> usize {
    if text.len() <= bytes_max {
        return text.len();
    }
    text[..bytes_max].iter().rposition(|byte| !is_token_char(char::from(*byte))).map_or(0, |at| at + 1)
}
