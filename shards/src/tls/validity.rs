//! From when until when a certificate is good, for warnings.
//!
//! Whether a connection may use it is decided elsewhere; this reads two dates and understands nothing else.

use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

/// A certificate that has less left than this is warned of.
const SOON_DAYS: i64 = 14;
const DAY_S: i64 = 86_400;

const SEQUENCE: u8 = 0x30;
const INTEGER: u8 = 0x02;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
/// The version of a certificate, which the first ones did not have.
const VERSION: u8 = 0xa0;

/// In seconds of Unix time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Validity {
    from_s: i64,
    until_s: i64,
}

/// Says in the log when a certificate is not good now, or soon.
pub(super) fn warn_of_dates(path: &Path, certificate: &[u8]) {
    let now_s = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let now_s = i64::try_from(now_s).unwrap_or(i64::MAX);
    let Some(trouble) = validity(certificate).and_then(|validity| trouble(validity, now_s)) else { return };
    tracing::warn!(path = %path.display(), "a certificate {trouble}: peers refuse those out of date; have it renewed");
}

/// What is wrong with it at a time.
fn trouble(validity: Validity, now_s: i64) -> Option<String> {
    let days = |seconds: i64| seconds / DAY_S;
    if now_s > validity.until_s {
        Some(format!("expired {} days ago", days(now_s - validity.until_s)))
    } else if now_s < validity.from_s {
        Some(format!("is not good before {} days from now", days(validity.from_s - now_s)))
    } else if validity.until_s - now_s < SOON_DAYS * DAY_S {
        Some(format!("expires in {} days", days(validity.until_s - now_s)))
    } else {
        None
    }
}

/// The dates in a certificate, if it is one.
fn validity(certificate: &[u8]) -> Option<Validity> {
    let (body, _) = element(certificate, SEQUENCE)?;
    let (mut signed, _) = element(body, SEQUENCE)?;
    if signed.first() == Some(&VERSION) {
        signed = element(signed, VERSION)?.1;
    }
    let (_serial, rest) = element(signed, INTEGER)?;
    let (_algorithm, rest) = element(rest, SEQUENCE)?;
    let (_issuer, rest) = element(rest, SEQUENCE)?;
    let (dates, _) = element(rest, SEQUENCE)?;
    let (from_s, dates) = time(dates)?;
    let (until_s, _) = time(dates)?;
    Some(Validity { from_s, until_s })
}

/// The content of a DER element with this tag, and what follows it.
fn element(bytes: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (&found, rest) = bytes.split_first()?;
    let (&first, rest) = rest.split_first()?;
    let (length, rest) = if first < 0x80 {
        (usize::from(first), rest)
    } else {
        let (digits, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
        if digits.len() > 4 {
            return None;
        }
        (digits.iter().fold(0, |length, digit| length << 8 | usize::from(*digit)), rest)
    };
    (found == tag).then(|| rest.split_at_checked(length))?
}

/// A date in seconds of Unix time, and what follows it.
fn time(bytes: &[u8]) -> Option<(i64, &[u8])> {
    let tag = *bytes.first()?;
    let (text, rest) = element(bytes, tag)?;
    let (year, text) = match tag {
        // Two digits stand for 1950 to 2049.
        UTC_TIME => {
            let (year, text) = number(text, 2)?;
            (if year < 50 { 2000 + year } else { 1900 + year }, text)
        }
        GENERALIZED_TIME => number(text, 4)?,
        _ => return None,
    };
    let (month, text) = number(text, 2)?;
    let (day, text) = number(text, 2)?;
    let (hour, text) = number(text, 2)?;
    let (minute, text) = number(text, 2)?;
    let (second, _) = number(text, 2)?;
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    Some((days_since_1970(year, month, day) * DAY_S + hour * 3600 + minute * 60 + second, rest))
}

/// A number of so many digits, and what follows it.
fn number(text: &[u8], digits: usize) -> Option<(i64, &[u8])> {
    let (digits, rest) = text.split_at_checked(digits)?;
    let value = std::str::from_utf8(digits).ok()?.parse().ok()?;
    Some((value, rest))
}

/// Days of the Gregorian calendar.
fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    // Counted from March, so that a leap day is a year's last.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days_before_month = (153 * month + 2) / 5;
    year * 365 + year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400) + days_before_month + day
        - 719_469
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_those_of_the_calendar() {
        for ((year, month, day), days) in [
            ((1970, 1, 1), 0),
            ((1969, 12, 31), -1),
            ((2000, 2, 29), 11_016),
            ((2000, 3, 1), 11_017),
            ((2026, 11, 30), 20_787),
            ((2100, 3, 1), 47_541),
        ] {
            assert_eq!(days_since_1970(year, month, day), days, "{year}-{month}-{day}");
        }
    }

    #[test]
    fn the_dates_of_a_certificate_are_found() {
        let key = rcgen::KeyPair::generate().unwrap();
        for (from, until, expect) in [
            ((2020, 1, 1), (2049, 12, 31), (1_577_836_800, 2_524_521_600)),
            ((1999, 6, 1), (2050, 1, 1), (928_195_200, 2_524_608_000)),
        ] {
            let mut params = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
            params.not_before = rcgen::date_time_ymd(from.0, from.1, from.2);
            params.not_after = rcgen::date_time_ymd(until.0, until.1, until.2);
            let certificate = params.self_signed(&key).unwrap();
            let found = validity(certificate.der()).unwrap();
            assert_eq!((found.from_s, found.until_s), expect);
            for cut in 0..150 {
                // Whatever is missing, it does not panic.
                let _ = validity(&certificate.der()[..cut]);
            }
        }
    }

    #[test]
    fn trouble_is_told_in_days() {
        let validity = Validity { from_s: 100 * DAY_S, until_s: 200 * DAY_S };
        for (day, expect) in [
            (90, Some("is not good before 10 days from now")),
            (150, None),
            (187, Some("expires in 13 days")),
            (203, Some("expired 3 days ago")),
        ] {
            assert_eq!(trouble(validity, day * DAY_S).as_deref(), expect, "day {day}");
        }
    }
}
