//! Whether a text that a peer gave holds a token that is in force, which must not be logged.

use crate::{model::KeyHash, shard::Directory};
use std::fmt;

/// The tokens in force on one core: those of all gateways, and the admin token.
#[derive(Clone, Copy)]
pub struct LiveTokens<'a> {
    directory: &'a Directory,
    admin_token: KeyHash,
}

impl<'a> LiveTokens<'a> {
    pub(super) fn new(directory: &'a Directory, admin_token: KeyHash) -> Self {
        Self { directory, admin_token }
    }

    /// Whether the text is a live token, or one of its words is. Costs a SHA-256 for each word: ask only before a line is written.
    pub fn are_in(&self, text: &str) -> bool {
        // Tokens that the hub made are base64url; one that was brought over by its hash may hold any visible character.
        let base64url = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        let words = text.split(|c: char| !c.is_ascii_graphic()).chain(text.split(|c| !base64url(c)));
        std::iter::once(text).chain(words).filter(|word| !word.is_empty()).any(|word| self.is_live(word))
    }

    fn is_live(&self, word: &str) -> bool {
        let hash = KeyHash::of(word.as_bytes());
        hash == self.admin_token || self.directory.owner_of(&hash).is_some()
    }
}

impl fmt::Debug for LiveTokens<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LiveTokens(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Change, GatewayId, TokenId};

    #[test]
    fn a_token_is_found_whole_and_among_other_words() {
        let mut directory = Directory::default();
        let token = |text: &str| Change::TokenCreated {
            gateway: GatewayId::random(),
            token: TokenId::random(),
            hash: KeyHash::of(text.as_bytes()),
        };
        directory.apply(token("made_by-us"));
        directory.apply(token("brought/over=="));
        let tokens = LiveTokens::new(&directory, KeyHash::of(b"the-admins"));
        for (text, expected) in [
            ("", false),
            ("made_by", false),
            ("made_by-us2", false),
            ("made_by-us", true),
            ("key=made_by-us;", true),
            ("\u{202e}made_by-us\u{2028}", true),
            ("Bearer brought/over==", true),
            ("the-admins", true),
        ] {
            assert_eq!(tokens.are_in(text), expected, "{text:?}");
        }
    }
}
