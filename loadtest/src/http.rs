//! Parses one HTTP answer from the bytes received so far.

/// A complete answer.
#[derive(Debug, PartialEq, Eq)]
pub struct Answer<'a> {
    /// The status code (RFC 9110 section 15).
    pub status: u16,
    /// The body.
    pub body: &'a [u8],
    /// Whether it has `Connection: close`.
    pub closes: bool,
    /// Length of the whole answer in bytes.
    pub length: usize,
}

const FIELDS_MAX: usize = 32;

/// The answer at the beginning of `bytes`; `None` if it is incomplete. Only `Content-Length` is supported: the hub
/// sends no chunked bodies.
///
/// # Errors
/// The bytes are not an HTTP answer.
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
    // A 101 has no body: what follows are WebSocket frames.
    let end = if status == 101 { head } else { head.saturating_add(length) };
    Ok(bytes.get(head..end).map(|body| Answer { status, body, closes, length: end }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_read_once_it_is_complete() {
        let bytes = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nokHTTP";
        let expected = Answer { status: 200, body: b"ok", closes: true, length: bytes.len() - 4 };
        assert_eq!(answer(bytes).unwrap().unwrap(), expected);
        (0..bytes.len() - 4).for_each(|cut| assert_eq!(answer(&bytes[..cut]).unwrap(), None, "{cut}"));
        assert!(answer(b"nonsense\r\n\r\n").is_err());
    }
}
