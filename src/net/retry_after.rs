//! The pause that a server asks for before the next request.

use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use jiff::fmt::strtime;
use jiff::tz::TimeZone;
use reqwest::header::{AGE, DATE, HeaderMap, RETRY_AFTER};

use crate::core::time::{self, HOUR};

/// The longest pause that a server is granted. A longer one is probably a mistake, and
/// would keep keys from rotating for days.
pub const MAX_RETRY_AFTER: Duration = HOUR;

/// The header with the pause in milliseconds, which some APIs send besides `Retry-After`.
const RETRY_AFTER_MS: &str = "retry-after-ms";

/// Returns the pause that a response asks for, whatever its status: milliseconds before
/// seconds or a date, at most [`MAX_RETRY_AFTER`]; none if no header can be read.
///
/// A date is compared with the response's own `Date`, so that this host's clock does not
/// matter, or with the host's clock if there is none.
#[must_use]
pub fn requested_pause(headers: &HeaderMap) -> Option<Duration> {
    let span = |name: &str, unit: f64| longest_span(headers, name, unit);
    span(RETRY_AFTER_MS, 1000.0)
        .or_else(|| span(RETRY_AFTER.as_str(), 1.0))
        .or_else(|| {
            let until = parse_http_date(header_text(headers, RETRY_AFTER.as_str())?)?;
            let now = server_time(headers).unwrap_or_else(host_time);
            // A time that is over asks for no pause.
            Some(Duration::try_from(until.duration_since(now)).unwrap_or_default())
        })
        .map(|pause| pause.min(MAX_RETRY_AFTER))
}

/// Returns the time of this host, for a response without a `Date`.
#[expect(
    clippy::disallowed_methods,
    reason = "nothing is recorded by it, and a wrong clock costs one pause"
)]
fn host_time() -> Timestamp {
    time::from_system(SystemTime::now())
}

/// Returns the server's time, by the `Date` of a response. A cache keeps the `Date` of the
/// answer that it repeats, and says in `Age` how many seconds ago that was; where `Age`
/// cannot be read, the time is unknown.
#[must_use]
pub fn server_time(headers: &HeaderMap) -> Option<Timestamp> {
    let date = header_text(headers, DATE.as_str()).and_then(parse_http_date)?;
    if !headers.contains_key(AGE) {
        return Some(date);
    }
    let age = header_text(headers, AGE.as_str())?.trim();
    let is_number = !age.is_empty() && age.bytes().all(|byte| byte.is_ascii_digit());
    let seconds = age.parse().ok().filter(|_| is_number)?;
    date.checked_add(Duration::from_secs(seconds)).ok()
}

/// Returns a header as text, if it is text.
#[must_use]
pub fn header_text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

/// Returns the longest of the spans that a header has: proxies on the way add one of their
/// own, as another header or behind a comma. None if one of them cannot be read.
fn longest_span(headers: &HeaderMap, name: &str, unit: f64) -> Option<Duration> {
    let mut longest = None;
    for value in headers.get_all(name) {
        for part in value.to_str().ok()?.split(',') {
            longest = longest.max(Some(parse_span(part, unit)?));
        }
    }
    longest
}

/// Parses a number of units; one that is too large for a duration is the longest.
fn parse_span(text: &str, unit: f64) -> Option<Duration> {
    let text = text.trim();
    // Neither a sign nor a word such as `inf`.
    let is_number = text.starts_with(|first: char| first.is_ascii_digit());
    let number = text.parse::<f64>().ok().filter(|_| is_number)?;
    Some(Duration::try_from_secs_f64(number / unit).unwrap_or(Duration::MAX))
}

/// The forms of a date that HTTP had before RFC 1123, and that a recipient must accept.
const OBSOLETE_DATES: [&str; 2] = ["%A, %d-%b-%y %H:%M:%S GMT", "%a %b %e %H:%M:%S %Y"];

fn parse_http_date(text: &str) -> Option<Timestamp> {
    let text = text.trim();
    if let Some(at) = time::from_mail_text(text) {
        return Some(at);
    }
    let mut forms = OBSOLETE_DATES.iter();
    forms.find_map(|form| {
        let date = strtime::parse(form, text).ok()?.to_datetime().ok()?;
        Some(date.to_zoned(TimeZone::UTC).ok()?.timestamp())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use reqwest::header::{HeaderName, HeaderValue};

    fn pause(pairs: &[(&'static str, &'static str)]) -> Option<Duration> {
        let pairs = pairs.iter().map(|(name, value)| {
            let name = HeaderName::from_static(name);
            (name, HeaderValue::from_static(value))
        });
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(name, value);
        }
        requested_pause(&headers)
    }

    #[test]
    fn a_date_is_read_in_its_three_forms() {
        let at = "1994-11-06T08:49:37Z".parse::<Timestamp>().unwrap();
        for (date, expected) in [
            ("Sun, 06 Nov 1994 08:49:37 GMT", Some(at)),
            ("Sunday, 06-Nov-94 08:49:37 GMT", Some(at)),
            ("Sun Nov  6 08:49:37 1994", Some(at)),
            ("", None),
            ("784111777", None),
            ("1994-11-06T08:49:37Z", None),
            ("Mon, 06 Nov 1994 08:49:37 GMT", None),
            ("Sun, 06 Nov 1994 08:49:37 CET", None),
            ("Sun, 31 Nov 1994 08:49:37 GMT", None),
            ("Sun, 06 Nov 1994 25:49:37 GMT", None),
            ("today", None),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(DATE, HeaderValue::from_static(date));
            assert_eq!(server_time(&headers), expected, "{date}");
        }
        assert_eq!(server_time(&HeaderMap::new()), None);
    }

    #[test]
    fn a_cached_date_is_older_by_its_age() {
        let date = "Sun, 06 Nov 1994 08:49:37 GMT";
        let at = |text: &str| Some(text.parse::<Timestamp>().unwrap());
        for (age, expected) in [
            (None, at("1994-11-06T08:49:37Z")),
            (Some("0"), at("1994-11-06T08:49:37Z")),
            (Some("600"), at("1994-11-06T08:59:37Z")),
            (Some(" 600 "), at("1994-11-06T08:59:37Z")),
            (Some("86400"), at("1994-11-07T08:49:37Z")),
            (Some(""), None),
            (Some("-1"), None),
            (Some("+1"), None),
            (Some("1.5"), None),
            (Some("10m"), None),
            (Some("600, 30"), None),
            (Some("18446744073709551615"), None),
            (Some("99999999999999999999"), None),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(DATE, HeaderValue::from_static(date));
            if let Some(age) = age {
                headers.insert(AGE, HeaderValue::from_static(age));
            }
            assert_eq!(server_time(&headers), expected, "{age:?}");
        }
    }

    #[test]
    fn a_pause_is_read_in_every_form() {
        let date = ("date", "Sun, 06 Nov 1994 08:49:37 GMT");
        let until = ("retry-after", "Sun, 06 Nov 1994 08:50:07 GMT");
        let rfc850 = ("retry-after", "Sunday, 06-Nov-94 08:50:07 GMT");
        let asctime = ("retry-after", "Sun Nov  6 08:50:07 1994");
        let before = ("retry-after", "Sun, 06 Nov 1994 08:49:07 GMT");
        let thirty = Some(Duration::from_secs(30));
        for (headers, expected) in [
            (&[("retry-after", "30")][..], thirty),
            (&[("retry-after", " 30 ")], thirty),
            (&[("retry-after", "30.0")], thirty),
            (&[("retry-after-ms", "30000")], thirty),
            (&[("retry-after-ms", "30000"), ("retry-after", "1")], thirty),
            (&[("retry-after-ms", "soon"), ("retry-after", "30")], thirty),
            (&[date, until], thirty),
            (&[date, rfc850], thirty),
            (&[date, asctime], thirty),
            (&[date, before], Some(Duration::ZERO)),
            (&[until], Some(Duration::ZERO)),
            (&[("retry-after", "0")], Some(Duration::ZERO)),
            (&[("retry-after", "3600")], Some(MAX_RETRY_AFTER)),
            (&[("retry-after", "9999999")], Some(MAX_RETRY_AFTER)),
            (&[("retry-after", "1e300")], Some(MAX_RETRY_AFTER)),
            (
                &[("retry-after", "Sat, 06 Nov 2094 08:50:07 GMT")],
                Some(MAX_RETRY_AFTER),
            ),
            (
                &[(
                    "retry-after",
                    concat!("9999999999999999999999999999999999999999", "9999999999"),
                )],
                Some(MAX_RETRY_AFTER),
            ),
            (&[("retry-after", "1e999")], Some(MAX_RETRY_AFTER)),
            (&[("retry-after-ms", "-1"), ("retry-after", "30")], thirty),
            (&[("retry-after", "030")], thirty),
            (
                &[("retry-after", "0.0001")],
                Some(Duration::from_micros(100)),
            ),
            (&[("retry-after", "+30")], None),
            (&[("retry-after", "30s")], None),
            (&[("retry-after", "30, 30")], thirty),
            (&[("retry-after", "10,30")], thirty),
            (&[("retry-after", "30"), ("retry-after", "1")], thirty),
            (&[("retry-after", "1"), ("retry-after", "30")], thirty),
            (&[("retry-after-ms", "1, 30000")], thirty),
            (&[("retry-after", "30, soon")], None),
            (&[("retry-after", "30,")], None),
            (&[("retry-after", "30;60")], None),
            (&[("retry-after", "0x1e")], None),
            (&[("retry-after", "1_000")], None),
            (&[("retry-after", "infinity")], None),
            // Another weekday, another zone, and no seconds.
            (
                &[date, ("retry-after", "Mon, 06 Nov 1994 08:50:07 GMT")],
                None,
            ),
            (
                &[date, ("retry-after", "Sun, 06 Nov 1994 08:50:07 CET")],
                None,
            ),
            (
                &[date, ("retry-after", "Sun, 06 Nov 1994 25:50:07 GMT")],
                None,
            ),
            (&[date, ("retry-after", "Sun, 06 Nov 1994")], None),
            (&[date, ("retry-after", "1994-11-06T08:50:07Z")], None),
            (&[("retry-after", "-1")], None),
            (&[("retry-after", "NaN")], None),
            (&[("retry-after", "inf")], None),
            (&[("retry-after", "soon")], None),
            (&[("retry-after", "")], None),
            (&[], None),
        ] {
            assert_eq!(pause(headers), expected, "{headers:?}");
        }
    }
}
