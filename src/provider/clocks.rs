//! How far each provider's clock is from ours, as its answers show, and which of the clocks that makes the wrong one.
//!
//! A `Date` is cut to whole seconds, and was written somewhere between our request and the answer. What it proves is an
//! interval: the provider's clock is ahead by at least `date - answered` and at most `date + 1 s - asked`. Reported is
//! the end of it that is nearer to zero, so that no slow answer and no resolution is ever taken for a wrong clock; where
//! both may agree, that is zero. The middle, half a second after `Date` against the middle of the request, would be as
//! near on average and off by seconds whenever an answer takes long.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use http::header::{AGE, DATE, HeaderMap};
use url::Url;

use super::claims;
use super::jwt::Verified;
use crate::config;
use crate::metrics::Metrics;
use crate::time::Timestamp;

/// One answer cannot tell less than this.
const RESOLUTION: Duration = Duration::from_secs(1);

/// What one token proved is held against its provider for so long, unless another proves better before.
const TOKEN_COUNTS: Duration = Duration::from_secs(60 * 60);

/// How far a clock is ahead of ours, at least; behind when negative. Milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Skew(i64);

impl Skew {
    /// What of the interval between two readings is nearest to zero.
    fn between(lowest: i64, highest: i64) -> Self {
        Self(if lowest > 0 { lowest } else { highest.min(0) })
    }

    /// A clock whose times are `seconds` ahead of ours.
    pub(super) const fn from_seconds(seconds: i64) -> Self {
        Self(seconds.saturating_mul(1000))
    }

    /// In seconds.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "a difference that loses precision is absurd anyway")]
    pub fn seconds(self) -> f64 {
        self.0 as f64 / 1000.0
    }

    /// Whether it is more than this, in either direction.
    #[must_use]
    pub fn exceeds(self, tolerated: Duration) -> bool {
        Duration::from_millis(self.0.unsigned_abs()) > tolerated
    }

    const fn farther(self, other: Self) -> Self {
        if other.0.unsigned_abs() > self.0.unsigned_abs() { other } else { self }
    }
}

impl fmt::Display for Skew {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.seconds().abs();
        match self.0 {
            -99..=99 => formatter.write_str("agrees with ours"),
            100.. => write!(formatter, "is {seconds:.1} s ahead of ours"),
            _ => write!(formatter, "is {seconds:.1} s behind ours"),
        }
    }
}

/// The clocks of all providers of this process: only together can they tell which of them is wrong.
#[derive(Debug, Default)]
pub struct Clocks(Mutex<Vec<Weak<ClockWatch>>>);

/// Whose clock is wrong, as far as can be told.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Blame {
    /// Nobody knows.
    Either,
    /// Ours: that of this other provider is off in the same direction.
    Ours(String),
    /// The provider's: that of this other one agrees with ours.
    Theirs(String),
}

impl fmt::Display for Blame {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Either => formatter.write_str(
                "which of the two clocks is wrong cannot be told from here: have both set by NTP (here, `timedatectl` \
                 says whether it is)",
            ),
            Self::Ours(other) => write!(
                formatter,
                "the clock of provider {other} is off in the same direction, so it is this machine's that is wrong: \
                 have it set by NTP (`timedatectl` says whether it is)"
            ),
            Self::Theirs(other) => write!(
                formatter,
                "the clock of provider {other} agrees with ours, so it is this provider's that is wrong: whoever runs \
                 it must have it set by NTP"
            ),
        }
    }
}

impl Clocks {
    /// Watches the clock of one more provider.
    pub(super) fn watch(self: &Arc<Self>, config: Arc<config::Provider>, metrics: Arc<Metrics>) -> Arc<ClockWatch> {
        let url = config.jwks_uri.as_deref().or(config.backchannel.as_deref()).unwrap_or(&config.issuer);
        let host = Url::parse(url).ok().and_then(|url| url.host_str().map(str::to_owned)).unwrap_or_default();
        let readings = Mutex::default();
        let watch = Arc::new(ClockWatch { config, host, metrics, all: Arc::clone(self), readings });
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|watch| watch.strong_count() > 0);
        all.push(Arc::downgrade(&watch));
        watch
    }

    /// Whose clock is wrong when that of `watch` is off by `skew`. Two issuers on one host are one clock.
    fn blame(&self, watch: &ClockWatch, skew: Skew) -> Blame {
        let all: Vec<Arc<ClockWatch>> = {
            let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            all.iter().filter_map(Weak::upgrade).collect()
        };
        let others = all.iter().filter(|other| other.host != watch.host);
        let measured: Vec<_> = others.filter_map(|other| Some((other, other.skew()?))).collect();
        let same = measured
            .iter()
            .find(|(other, theirs)| other.is_off(*theirs) && theirs.0.signum() == skew.0.signum());
        let sound = measured.iter().find(|(other, theirs)| !other.is_off(*theirs));
        match (same, sound) {
            (Some((other, _)), None) => Blame::Ours(other.config.name.to_string()),
            (None, Some((other, _))) => Blame::Theirs(other.config.name.to_string()),
            _ => Blame::Either,
        }
    }
}

/// The clock of one provider.
#[derive(Debug)]
pub(super) struct ClockWatch {
    config: Arc<config::Provider>,
    /// Where it ticks.
    host: String,
    metrics: Arc<Metrics>,
    all: Arc<Clocks>,
    readings: Mutex<Readings>,
}

#[derive(Debug, Default)]
struct Readings {
    /// By the last `Date`.
    date: Option<Skew>,
    /// By the last token, and when that came: a `Date` may be that of a balancer in front of whoever makes tokens.
    token: Option<(Skew, Timestamp)>,
    /// Whether the log has been told that it is off.
    told: bool,
}

impl Readings {
    fn skew(&self) -> Option<Skew> {
        let readings = self.date.into_iter().chain(self.token.map(|(skew, _)| skew));
        readings.reduce(Skew::farther)
    }
}

impl ClockWatch {
    /// How far it is ahead of ours, at least.
    pub(super) fn skew(&self) -> Option<Skew> {
        self.readings.lock().unwrap_or_else(PoisonError::into_inner).skew()
    }

    /// What an operator should know of it: how far it is off, and when that is worth a word, what to do.
    pub(super) fn describe(&self) -> Option<String> {
        let skew = self.skew()?;
        if !self.is_off(skew) {
            return Some(format!("its clock {skew}"));
        }
        let (tolerated, blame) = (self.config.clock_skew.as_secs(), self.all.blame(self, skew));
        Some(format!("its clock {skew}, and `clock_skew` tolerates {tolerated} s: {blame}"))
    }

    /// Reads the `Date` of an answer to a request that was sent at `asked` and took so long; milliseconds of our clock.
    pub(super) fn answered(&self, headers: &HeaderMap, asked: i64, took: Duration) {
        // What a cache kept was dated when it was made (RFC 9111 5.1).
        if headers.contains_key(AGE) {
            return;
        }
        let date = headers.get(DATE).and_then(|date| date.to_str().ok());
        let Some(date) = date.and_then(|date| jiff::fmt::rfc2822::parse(date).ok()) else { return };
        let date = date.timestamp().as_millisecond();
        let answered = asked.saturating_add(millis(took));
        let latest = date.saturating_add(millis(RESOLUTION)).saturating_sub(asked);
        let skew = Skew::between(date.saturating_sub(answered), latest);
        self.read(Timestamp::from_unix(answered.div_euclid(1000)), |readings| readings.date = Some(skew));
    }

    /// Reads `iat` of a token that came at `now`.
    pub(super) fn sent(&self, token: &Verified, now: Timestamp) {
        if let Ok(Some(issued)) = claims::date(&token.claims, "iat") {
            self.issued(issued, now);
        }
    }

    /// A token may have been made before it was asked for, so that it proves nothing of a clock that is behind.
    fn issued(&self, iat: Timestamp, now: Timestamp) {
        let Skew(ahead) = Skew::from_seconds(iat.unix().saturating_sub(now.unix()));
        let skew = Skew::between(ahead, 0);
        self.read(now, |readings| readings.token = Some((skew, now)));
    }

    /// Takes a reading, and tells the log once when the clock has gone off, and once when it is well again.
    fn read(&self, now: Timestamp, take: impl FnOnce(&mut Readings)) {
        let (skew, told) = {
            let mut readings = self.readings.lock().unwrap_or_else(PoisonError::into_inner);
            readings.token = readings.token.filter(|(_, at)| now.since(*at) <= TOKEN_COUNTS);
            take(&mut readings);
            let skew = readings.skew().unwrap_or_default();
            let was_told = readings.told;
            readings.told = if was_told { skew.exceeds(self.worth_a_word() / 2) } else { self.is_off(skew) };
            (skew, (was_told != readings.told).then_some(readings.told))
        };
        let provider = self.config.name.as_str();
        self.metrics.provider_clock_skew(provider, skew.seconds());
        let (seconds, tolerated) = (skew.seconds(), self.config.clock_skew.as_secs());
        match told {
            Some(true) => {
                let advice = self.all.blame(self, skew);
                tracing::warn!(provider, clock_skew = tolerated, skew = seconds, "provider's clock {skew}: {advice}");
            }
            Some(false) => tracing::info!(provider, skew = seconds, "provider's clock is well again"),
            None => {}
        }
    }

    fn is_off(&self, skew: Skew) -> bool {
        skew.exceeds(self.worth_a_word())
    }

    /// Half of what is tolerated: time to act before logins fail. Less than the resolution cannot be told.
    fn worth_a_word(&self) -> Duration {
        (self.config.clock_skew / 2).max(RESOLUTION)
    }
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;
