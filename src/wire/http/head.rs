//! A request head that has passed all checks.

use super::{
    Framing, Method, Version,
    fields::{Fields, Span},
};
use std::fmt;

/// A request head. Its bytes may contain keys, so they are overwritten on drop, and `Debug` shows method and path only.
pub struct Head {
    /// The method.
    pub method: Method,
    /// The protocol version.
    pub version: Version,
    /// How the end of the body is determined.
    pub framing: Framing,
    /// Whether another request may follow on this connection.
    pub keep_alive: bool,
    /// Whether the peer waits for [`super::CONTINUE`] before it sends the body.
    pub expects_continue: bool,
    pub(super) path: Span,
    pub(super) query: Option<Span>,
    pub(super) fields: Fields,
}

impl Head {
    /// The path as it was sent, without the query. It begins with `/`, is ASCII, and has no empty segment, no dot
    /// segment and no percent-encoded slash.
    pub fn path(&self) -> &str {
        self.text(self.path)
    }

    /// The query after `?`, as it was sent.
    pub fn query(&self) -> Option<&str> {
        self.query.map(|span| self.text(span))
    }

    /// The first value of a field, without the blanks around it. The case of the name is ignored.
    pub fn field(&self, name: &str) -> Option<&[u8]> {
        self.fields.first(name)
    }

    /// All values of a field, one for each line, in order.
    pub fn fields<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a [u8]> {
        self.fields.all(name)
    }

    /// The value of a field that occurs exactly once.
    pub fn only_field<'a>(&'a self, name: &'a str) -> Option<&'a [u8]> {
        self.fields.only(name).ok().flatten()
    }

    /// Whether the comma-separated lists in all fields of this name contain the token. Case is ignored.
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
