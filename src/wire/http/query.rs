//! The parameters of a query, percent-decoded (RFC 3986 section 2.1).

/// Why the value of a parameter cannot be read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BadParameter {
    /// An escape is malformed, or the bytes are not UTF-8.
    Encoding,
    /// There are two. An error, because proxies and servers do not agree on which of them counts.
    Twice,
}

impl BadParameter {
    /// The text behind the parameter's name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Encoding => "is not percent-encoded UTF-8",
            Self::Twice => "is given twice",
        }
    }
}

/// The value of a parameter in a query, which is the text behind `?`; empty if it has none.
///
/// # Errors
/// If it is given twice, or is not percent-encoded UTF-8.
pub fn parameter(query: Option<&str>, name: &str) -> Result<Option<String>, BadParameter> {
    let mut found = None;
    for pair in query.unwrap_or_default().split('&') {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        if decode(key).as_deref() != Some(name) {
            continue;
        }
        let value = decode(value).ok_or(BadParameter::Encoding)?;
        if found.replace(value).is_some() {
            return Err(BadParameter::Twice);
        }
    }
    Ok(found)
}

/// Percent-decodes a text, with `+` for a space as in HTML forms; `None` if an escape is malformed.
fn decode(text: &str) -> Option<String> {
    let hex = |digit: Option<u8>| char::from(digit?).to_digit(16).and_then(|n| u8::try_from(n).ok());
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => hex(rest.next())? * 16 + hex(rest.next())?,
            b'+' => b' ',
            plain => plain,
        });
    }
    String::from_utf8(bytes).ok()
}
