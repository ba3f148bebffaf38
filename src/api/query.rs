//! The query of a call: its parameters, and the page of a list.

use crate::{
    limits,
    wire::http::{self, Response},
};

/// A page of a list.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Page {
    /// Maximum number of rows, from 1 to [`limits::PAGE_ROWS_MAX`].
    pub limit: usize,
    /// Number of rows to skip.
    pub offset: usize,
}

/// The text behind `?`, not decoded.
#[derive(Clone, Copy)]
pub(super) struct Query<'a>(pub Option<&'a str>);

impl Query<'_> {
    /// The value of a parameter; 400 if it is given twice or is not percent-encoded UTF-8.
    pub fn value(&self, name: &str) -> Result<Option<String>, Response> {
        http::parameter(self.0, name).map_err(|bad| refuse(name, bad.as_str()))
    }

    /// `limit` and `offset`, or their defaults; 400 if one is invalid.
    pub fn page(&self) -> Result<Page, Response> {
        let limit = self.rows("limit")?.unwrap_or(limits::PAGE_ROWS_DEFAULT);
        Ok(Page { limit, offset: self.number("offset")?.unwrap_or(0) })
    }

    /// A number of rows, from 1 to [`limits::PAGE_ROWS_MAX`]; 400 if it is another.
    pub fn rows(&self, name: &str) -> Result<Option<usize>, Response> {
        let rows = self.number(name)?;
        if rows.is_some_and(|rows| !(1..=limits::PAGE_ROWS_MAX).contains(&rows)) {
            return Err(refuse(name, &format!("must be an integer from 1 to {}", limits::PAGE_ROWS_MAX)));
        }
        Ok(rows)
    }

    fn number(&self, name: &str) -> Result<Option<usize>, Response> {
        let Some(text) = self.value(name)? else { return Ok(None) };
        let digits = text.bytes().all(|b| b.is_ascii_digit());
        // At most 32 bits: the number becomes an `i64` in SQL and a `usize` here, and adding two of them must not
        // overflow.
        let number = text.parse::<u32>().ok().filter(|_| digits).and_then(|n| usize::try_from(n).ok());
        number.map(Some).ok_or_else(|| refuse(name, "must be an integer from 0 to 4294967295"))
    }
}

/// The 400 for an invalid query parameter.
pub(super) fn refuse(name: &str, what: &str) -> Response {
    Response::error(400, &format!("query parameter `{name}` {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_decoded_strictly() {
        let check = |query: &str, expected: Result<Option<&str>, u16>| {
            let got = Query(Some(query)).value("id").map_err(|r| r.status);
            assert_eq!(got.as_ref().map(|v| v.as_deref()), expected.as_ref().map(|v| *v), "{query}");
        };
        check("id=a", Ok(Some("a")));
        check("x=1&id=a%20b+c&y", Ok(Some("a b c")));
        check("%69d=%C3%A4", Ok(Some("ä")));
        check("id", Ok(Some("")));
        check("id==&", Ok(Some("=")));
        check("", Ok(None));
        check("idd=1&%zz=2", Ok(None));
        check("id=%", Err(400));
        check("id=%4", Err(400));
        check("id=%+1", Err(400));
        check("id=%ff", Err(400));
        check("id=1&id=1", Err(400));
    }

    #[test]
    fn a_page_out_of_bounds_is_refused() {
        let check = |query: Option<&str>, expected: Option<(usize, usize)>| {
            let page = Query(query).page().ok().map(|p| (p.limit, p.offset));
            assert_eq!(page, expected, "{query:?}");
        };
        check(None, Some((limits::PAGE_ROWS_DEFAULT, 0)));
        check(Some("limit=1&offset=4294967295"), Some((1, 4_294_967_295)));
        check(Some("limit=1000"), Some((1000, 0)));
        for bad in ["limit=0", "limit=1001", "limit=-1", "limit=+1", "limit=%2B1", "limit=", "limit=1e3", "offset=-1"] {
            check(Some(bad), None);
        }
        check(Some("offset=4294967296"), None);
        check(Some("offset=99999999999999999999999"), None);
        check(Some("offset=x"), None);
    }
}
