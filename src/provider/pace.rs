//! How often the provider is asked: a bucket against floods of unknown keys, delays that grow while it is down, and what
//! it says itself.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use http::header::{CACHE_CONTROL, RETRY_AFTER};
use http::{HeaderMap, StatusCode};

use crate::time::Timestamp;

/// Forced fetches of the key set: three at once, then one every 30 seconds. A provider that rotates its keys just before
/// it signs needs the first at once; a flood of made-up `kid`s gets no more than this out of us.
#[derive(Debug)]
pub(super) struct Bucket {
    tokens: u32,
    since: Timestamp,
}

impl Bucket {
    const BURST: u32 = 3;
    const REFILL: Duration = Duration::from_secs(30);

    /// A full bucket.
    pub(super) const fn full(now: Timestamp) -> Self {
        Self { tokens: Self::BURST, since: now }
    }

    /// Takes one token, if there is one.
    pub(super) fn take(&mut self, now: Timestamp) -> bool {
        if now < self.since {
            // The clock was set back: start to count from here, or nothing would be refilled until it caught up.
            self.since = now;
        }
        let refills = now.since(self.since).as_secs() / Self::REFILL.as_secs();
        let gained = u32::try_from(refills).unwrap_or(u32::MAX);
        self.tokens = self.tokens.saturating_add(gained).min(Self::BURST);
        self.since = self.since.plus(Duration::from_secs(refills * Self::REFILL.as_secs()));
        let taken = self.tokens > 0;
        self.tokens = self.tokens.saturating_sub(1);
        taken
    }
}

/// When to try again what has failed for `outage`: after half that time, between a quarter of a second and a minute.
/// A provider that was away for a second is found half a second later, and one that is away for a day is asked once
/// a minute.
pub(super) fn retry_delay(outage: Duration) -> Duration {
    (outage / 2).clamp(Duration::from_millis(250), Duration::from_secs(60))
}

/// Until when the provider wants to be left alone, for all sessions (`Retry-After`, RFC 9110 10.2.3).
#[derive(Debug)]
pub(super) struct Rest(AtomicI64);

impl Rest {
    /// As long as it is left alone at most: sessions wait for it.
    const MOST: Duration = Duration::from_secs(60);

    /// Nothing was said yet.
    pub(super) const fn none() -> Self {
        Self(AtomicI64::new(i64::MIN))
    }

    /// Whether it may be asked. A clock that was set back does not prolong what was said.
    pub(super) fn is_over(&self, now: Timestamp) -> bool {
        let until = Timestamp::from_unix(self.0.load(Ordering::Relaxed));
        now >= until || until > now.plus(Self::MOST)
    }

    /// Hears what an answer says.
    pub(super) fn hear(&self, status: StatusCode, headers: &HeaderMap, now: Timestamp) {
        if !matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE) {
            return;
        }
        let Some(said) = headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok()) else { return };
        let until = match said.trim().parse::<u64>() {
            Ok(seconds) => Some(now.plus(Duration::from_secs(seconds).min(Self::MOST))),
            Err(_) => {
                jiff::fmt::rfc2822::parse(said).ok().map(|date| Timestamp::from_unix(date.timestamp().as_second()))
            }
        };
        if let Some(until) = until {
            self.0.store(until.min(now.plus(Self::MOST)).unix(), Ordering::Relaxed);
        }
    }
}

/// When to fetch keys again: what the answer's `Cache-Control` says, within a minute and a day.
pub(super) fn refresh_delay(headers: &HeaderMap) -> Duration {
    const UNSAID: Duration = Duration::from_secs(15 * 60);
    let directives = headers.get_all(CACHE_CONTROL).iter().filter_map(|value| value.to_str().ok());
    let mut directives = directives.flat_map(|value| value.split(',')).filter_map(|one| one.trim().split_once('='));
    let max_age = directives.find(|(name, _)| name.trim().eq_ignore_ascii_case("max-age"));
    let seconds = max_age.and_then(|(_, value)| value.trim().trim_matches('"').parse::<i128>().ok());
    let delay = seconds.map_or(UNSAID, |seconds| Duration::from_secs(seconds.clamp(0, 86_400).unsigned_abs() as u64));
    delay.clamp(Duration::from_secs(60), Duration::from_secs(24 * 60 * 60))
}

/// `delay`, shortened by up to a quarter, so that many processes do not ask in step.
pub(super) fn jittered(delay: Duration) -> Duration {
    let [byte] = crate::web::bytes::<1>().unwrap_or([0]);
    delay - delay / 4 * u32::from(byte) / 255
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn px_16_what_a_provider_says_of_when_to_come_again() {
        let now = Timestamp::from_unix(1_000_000_000);
        let after = |seconds| now.plus(Duration::from_secs(seconds));
        let busy = StatusCode::SERVICE_UNAVAILABLE;
        for (status, said, rests) in [
            (StatusCode::TOO_MANY_REQUESTS, "7", 7),
            (busy, " 7 ", 7),
            (busy, "Sun, 09 Sep 2001 01:46:47 GMT", 7),
            (busy, "Sun, 09 Sep 2001 01:46:33 GMT", 0),
            (busy, "Fri, 09 Sep 2101 01:46:47 GMT", 60),
            (busy, "18446744073709551615", 60),
            (busy, "0", 0),
            (busy, "-7", 0),
            (busy, "soon", 0),
            (StatusCode::OK, "7", 0),
        ] {
            let rest = Rest::none();
            rest.hear(status, &HeaderMap::from_iter([(RETRY_AFTER, HeaderValue::from_static(said))]), now);
            let rested = (0..100).find(|seconds| rest.is_over(after(*seconds))).unwrap();
            assert_eq!(rested, rests, "{status} {said}");
            assert!(rest.is_over(now.minus(Duration::from_secs(600))), "a clock that was set back");
        }
        assert!(Rest::none().is_over(now));
    }

    #[test]
    fn jv_14_a_burst_of_three_then_one_in_thirty_seconds() {
        let start = Timestamp::from_unix(1_000);
        let mut bucket = Bucket::full(start);
        assert_eq!((0..1_000).filter(|_| bucket.take(start)).count(), 3);
        assert!(!bucket.take(start.plus(Duration::from_secs(29))));
        assert!(bucket.take(start.plus(Duration::from_secs(30))));
        assert!(!bucket.take(start.plus(Duration::from_secs(59))));
        assert_eq!((0..9).filter(|_| bucket.take(start.plus(Duration::from_secs(100_000)))).count(), 3);
    }

    #[test]
    fn a_clock_that_is_set_back_does_not_stop_the_refill() {
        let start = Timestamp::from_unix(1_000_000);
        let mut bucket = Bucket::full(start);
        assert_eq!((0..9).filter(|_| bucket.take(start)).count(), 3);
        let back = Timestamp::from_unix(1_000);
        assert!(!bucket.take(back));
        assert!(bucket.take(back.plus(Duration::from_secs(30))));
    }

    #[test]
    fn k26_max_age_is_clamped() {
        let table = [
            (None, 900),
            (Some("max-age=0"), 60),
            (Some("max-age=-5"), 60),
            (Some("max-age=3600"), 3600),
            (Some("public, MAX-AGE=\"120\", must-revalidate"), 120),
            (Some("max-age=315360000"), 86_400),
            (Some("max-age=99999999999999999999999"), 86_400),
            (Some("max-age=junk"), 900),
            (Some("no-store"), 900),
        ];
        for (value, seconds) in table {
            let mut headers = HeaderMap::new();
            if let Some(value) = value {
                headers.insert(CACHE_CONTROL, HeaderValue::from_static(value));
            }
            assert_eq!(refresh_delay(&headers), Duration::from_secs(seconds), "{value:?}");
        }
    }

    #[test]
    fn d30_delays_grow_with_the_outage() {
        let mut outage = Duration::ZERO;
        let mut attempts = 0;
        while outage < Duration::from_secs(60) {
            attempts += 1;
            outage += retry_delay(outage) * 3 / 4;
        }
        assert!(attempts < 25, "{attempts}");
        assert_eq!(retry_delay(Duration::from_secs(86_400)), Duration::from_secs(60));
        assert!(retry_delay(Duration::from_secs(1)) <= Duration::from_millis(500));
    }

    #[test]
    fn og_7_jitter_only_shortens() {
        for _ in 0..1_000 {
            let delay = jittered(Duration::from_secs(100));
            assert!((75..=100).contains(&delay.as_secs()), "{delay:?}");
        }
    }
}
