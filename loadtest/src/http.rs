//! One HTTP answer, read from bytes as they come.

/// An answer that is there whole.
#[derive(Debug, PartialEq, Eq)]
pub struct Answer<'a> {
    /// RFC 9110 section 15.
    pub status: u16,
    /// The body.
    pub body: &'a [u8],
    /// Whether the connection ends with it.
    pub closes: bool,
    /// Bytes of the whole answer.
    pub length: usize,
}

const FIELDS_MAX: usize = 32;

/// The answer at the beginning of `bytes`; `None` while it is not there whole. The hub gives the length of every body.
///
/// # Errors
/// It is no HTTP.
pub fn answer(bytes: &[u8]) -> Result<Option<Answer<'_>>, String> {
    let mut fields = [httparse::EMPTY_HEADER; FIELDS_MAX];
    let mut response = httparse::Response::new(&mut fields);
    let head = match response.parse(bytes) {
        Ok(httparse::Status::Complete(head)) => head,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(error) => return Err(format!("not an HTTP answer: {error}")),
    };
    let status = response.code.unwrap_or(0);
    let field = |name: &str| {
        let found = response.headers.iter().find(|field| field.name.eq_ignore_ascii_case(name));
        found.and_then(|field| std::str::from_utf8(field.value).ok())
    };
    let length = field("content-length").map_or(Ok(0), str::parse::<usize>).map_err(|error| error.to_string())?;
    let closes = field("connection").is_some_and(|value| value.eq_ignore_ascii_case("close"));
    // An upgrade has no body, whatever follows.
    let end = if status == 101 { head } else { head.saturating_add(length) };
    Ok(bytes.get(head..end).map(|body| Answer { status, body, closes, length: end }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_read_when_they_are_whole() {
        let bytes = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nokHTTP";
        let expected = Answer { status: 200, body: b"ok", closes: true, length: bytes.len() - 4 };
        assert_eq!(answer(bytes).unwrap().unwrap(), expected);
        (0..bytes.len() - 4).for_each(|cut| assert_eq!(answer(&bytes[..cut]).unwrap(), None, "{cut}"));
        assert!(answer(b"nonsense\r\n\r\n").is_err());
    }
}
