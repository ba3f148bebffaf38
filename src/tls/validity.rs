//! Reads the end of a certificate's validity (X.509 `notAfter`, RFC 5280 section 4.1) and no other field. rustls does
//! not offer it, and a whole X.509 parser would be a large dependency for one date.

use crate::model::Timestamp;
use jiff::{civil::DateTime, tz::TimeZone};

const EXPLICIT_VERSION: u8 = 0xa0;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;

/// Refuses a certificate in DER form that has expired. One that cannot be parsed is accepted here, and refused by
/// rustls.
///
/// # Errors
/// Returns the time at which it expired.
pub(super) fn check(certificate: &[u8]) -> Result<(), Timestamp> {
    let now = Timestamp(jiff::Timestamp::now().as_millisecond());
    match not_after(certificate).filter(|end| *end < now) {
        Some(end) => Err(end),
        None => Ok(()),
    }
}

fn not_after(certificate: &[u8]) -> Option<Timestamp> {
    let certificate = element(certificate)?.1;
    let mut fields = element(certificate)?.1;
    // The version is optional (RFC 5280 section 4.1.2.1).
    if fields.first() == Some(&EXPLICIT_VERSION) {
        fields = element(fields)?.2;
    }
    for _before_validity in ["serial number", "signature", "issuer"] {
        fields = element(fields)?.2;
    }
    let validity = element(fields)?.1;
    let (tag, text, _) = element(element(validity)?.2)?;
    time(tag, std::str::from_utf8(text).ok()?)
}

/// Splits off the first element of DER (X.690 section 8.1): its tag, its content, and the bytes after it.
fn element(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (tag, rest) = bytes.split_first()?;
    let (first, rest) = rest.split_first()?;
    let (length, rest) = match first {
        0..=0x7f => (usize::from(*first), rest),
        // The long form: the low bits are the number of length bytes. Three are enough for 16 MiB.
        0x81..=0x83 => {
            let (digits, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
            (digits.iter().fold(0, |length, digit| length << 8 | usize::from(*digit)), rest)
        }
        _ => return None,
    };
    let (content, rest) = rest.split_at_checked(length)?;
    Some((*tag, content, rest))
}

/// Parses `YYMMDDHHMMSSZ` or `YYYYMMDDHHMMSSZ` (RFC 5280 section 4.1.2.5).
fn time(tag: u8, text: &str) -> Option<Timestamp> {
    let digits = text.strip_suffix('Z').filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()))?;
    let (year, rest) = digits.split_at_checked(match tag {
        UTC_TIME => 2,
        GENERALIZED_TIME => 4,
        _ => return None,
    })?;
    let year: i16 = year.parse().ok()?;
    let year = match tag {
        // RFC 5280 section 4.1.2.5.1: two digits from 50 on mean 19xx.
        UTC_TIME if year < 50 => 2_000 + year,
        UTC_TIME => 1_900 + year,
        _ => year,
    };
    let two_digits = |start: usize| rest.get(start..start + 2)?.parse().ok();
    let time =
        DateTime::new(year, two_digits(0)?, two_digits(2)?, two_digits(4)?, two_digits(6)?, two_digits(8)?, 0).ok()?;
    Some(Timestamp(time.to_zoned(TimeZone::UTC).ok()?.timestamp().as_millisecond()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertificateParams, KeyPair, date_time_ymd};

    fn valid_until(year: i32) -> Vec<u8> {
        let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        params.not_after = date_time_ymd(year, 2, 3);
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().to_vec()
    }

    #[test]
    fn only_an_expired_certificate_is_refused() {
        for year in [1999, 2021] {
            let end = check(&valid_until(year)).unwrap_err();
            assert_eq!(end.to_string(), format!("{year}-02-03T00:00:00.000Z"));
        }
        for year in [2049, 2050, 9999] {
            assert_eq!(check(&valid_until(year)), Ok(()), "{year}");
            assert_eq!(
                not_after(&valid_until(year)).map(|end| end.to_string()[..10].to_owned()),
                Some(format!("{year}-02-03"))
            );
        }
    }

    #[test]
    fn malformed_certificates_cause_no_panic() {
        let whole = valid_until(2021);
        for length in 0..whole.len() {
            let _ = check(&whole[..length]);
            let mut flipped = whole.clone();
            flipped[length] ^= 0xff;
            let _ = check(&flipped);
        }
    }
}
