//! One request head that has passed every check.

use super::{
    Framing, Method, Version,
    fields::{Fields, Span},
};
use std::fmt;

/// A request head. It owns its bytes and overwrites them when it goes, because keys are among them; for the same
/// reason it shows nothing but method and path.
pub struct Head {
    /// The method.
    pub method: Method,
    /// The protocol version.
    pub version: Version,
    /// Where the body ends.
    pub framing: Framing,
    /// Whether another request may follow on the same connection.
    pub keep_alive: bool,
    /// Whether the peer waits for [`super::CONTINUE`] before it sends the body.
    pub expects_continue: bool,
    pub(super) path: Span,
    pub(super) query: Option<Span>,
    pub(super) fields: Fields,
}

impl Head {
    /// The path as it was sent, without the query. It begins with `/`, is ASCII, has no empty and no dot segments and
    /// no escaped slash.
    pub fn path(&self) -> &str {
        self.text(self.path)
    }

    /// What followed `?`, as it was sent.
    pub fn query(&self) -> Option<&str> {
        self.query.map(|span| self.text(span))
    }

    /// The first value of a field, without the blanks around it. The name may be in any case.
    pub fn field(&self, name: &str) -> Option<&[u8]> {
        self.fields.first(name)
    }

    /// All values of a field, in order, one for each line.
    pub fn fields<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a [u8]> {
        self.fields.all(name)
    }

    /// The one value of a field; none where there are several.
    pub fn only_field<'a>(&'a self, name: &'a str) -> Option<&'a [u8]> {
        self.fields.only(name).ok().flatten()
    }

    /// Whether a field's comma-separated list, over all its lines, has this token in any case.
    pub fn has_token(&self, name: &str, token: &str) -> bool {
        self.fields.has_token(name, token)
    }

    fn text(&self, span: Span) -> &str {
        std::str::from_utf8(self.fields.slice(span)).expect("a target that passed its check is ASCII")
    }
}

impl fmt::Debug for Head {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Head({} {})", self.method.as_str(), self.path())
    }
}
