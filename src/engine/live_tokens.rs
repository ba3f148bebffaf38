//! Finds live tokens in text from peers, so that they are not logged.

use crate::{model::KeyHash, shard::Directory, wire::token_text::is_token_char};
use std::fmt;

/// Characters of a token that the hub has made: 32 bytes in base64url.
const CREATED_TOKEN_CHARS: usize = 43;

/// The live tokens known to one core: the tokens of all gateways, and the admin token. Only their hashes are known.
#[derive(Clone, Copy)]
pub struct LiveTokens<'a> {
    directory: &'a Directory,
    admin_token: KeyHash,
}

impl<'a> LiveTokens<'a> {
    pub(super) fn new(directory: &'a Directory, admin_token: KeyHash) -> Self {
        Self { directory, admin_token }
    }

    /// Returns whether the text or one of its words is a live token. Computes a SHA-256 for each word, so call it only
    /// when a line is certain to be written.
    pub fn are_in(&self, text: &str) -> bool {
        // Tokens made by the hub are base64url. A token that was imported by its hash may contain any visible
        // character, so the text is split in both ways.
        let words = text.split(|c: char| !c.is_ascii_graphic()).chain(text.split(|c| !is_token_char(c)));
        // A token of ours may also be glued to other characters of its alphabet, as in `rev-TOKEN`.
        let runs = text.split(|c| !is_token_char(c)).filter(|run| run.len() > CREATED_TOKEN_CHARS);
        let windows = runs.flat_map(|run| {
            (0..=run.len() - CREATED_TOKEN_CHARS).map(move |from| &run[from..from + CREATED_TOKEN_CHARS])
        });
        std::iter::once(text).chain(words).chain(windows).filter(|word| !word.is_empty()).any(|word| self.is_live(word))
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
    fn a_token_is_found_alone_and_between_other_words() {
        let mut directory = Directory::default();
        let token = |text: &str| Change::TokenCreated {
            gateway: GatewayId::random(),
            token: TokenId::random(),
            hash: KeyHash::of(text.as_bytes()),
        };
        directory.apply(token("made_by-us"));
        directory.apply(token("brought/over=="));
        let created = "0123456789-abcdefghijklmnopqrstuvwxyz_ABCDE";
        assert_eq!(created.len(), CREATED_TOKEN_CHARS);
        directory.apply(token(created));
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
            (&format!("rev-{created}_x"), true),
            (&format!("https://a-{created}.example"), true),
            (&created[1..], false),
        ] {
            assert_eq!(tokens.are_in(text), expected, "{text:?}");
        }
    }
}
