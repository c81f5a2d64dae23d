//! Time as an argument: the instant a request happens at, and the one clock that edge and background loops may read.
//!
//! Every function that judges time takes a [`Timestamp`]. Only the edge (once per request) and the loops that run
//! beside requests hold a [`Clock`]. Tests move the clock instead of sleeping.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

/// Whole seconds since the Unix epoch. 64 bits, saturating, so that neither 2038 nor a hostile `exp` can wrap it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Timestamp(i64);

impl Timestamp {
    /// The instant `seconds` after the Unix epoch.
    #[must_use]
    pub const fn from_unix(seconds: i64) -> Self {
        Self(seconds)
    }

    /// Seconds since the Unix epoch.
    #[must_use]
    pub const fn unix(self) -> i64 {
        self.0
    }

    /// This instant moved into the future; whole seconds, saturating.
    #[must_use]
    pub fn plus(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(i64::try_from(duration.as_secs()).unwrap_or(i64::MAX)))
    }

    /// This instant moved into the past; whole seconds, saturating.
    #[must_use]
    pub fn minus(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub(i64::try_from(duration.as_secs()).unwrap_or(i64::MAX)))
    }

    /// How long after `earlier` this instant is; zero when it is not after it.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_secs(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }

    /// RFC 3339 in UTC, as the JSON endpoints print it. An instant out of the calendar prints as the epoch.
    #[must_use]
    pub fn rfc3339(self) -> String {
        jiff::Timestamp::from_second(self.0).unwrap_or(jiff::Timestamp::UNIX_EPOCH).to_string()
    }

    /// As `Date` has it (RFC 9110 5.6.7). An instant out of the calendar prints as the epoch.
    #[must_use]
    pub fn imf_fixdate(self) -> String {
        let instant = jiff::Timestamp::from_second(self.0).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
        instant.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string()
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.rfc3339())
    }
}

/// How long ago the system's clock, which stamps files too, said `stamp`; zero when that is still to come.
#[must_use]
pub fn age(stamp: SystemTime) -> Duration {
    stamp.elapsed().unwrap_or_default()
}

/// The system clock; tests move it, and hold it where a story depends on the second.
#[derive(Clone, Debug, Default)]
pub struct Clock(Arc<Hand>);

/// What tests have done to a clock.
#[derive(Debug, Default)]
struct Hand {
    /// Seconds ahead of the system.
    offset: AtomicI64,
    /// The milliseconds at which the system's time is taken to stand; zero while it runs.
    held: AtomicI64,
}

impl Clock {
    /// The current instant.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        Timestamp(self.now_in_millis().div_euclid(1000))
    }

    /// The current instant in milliseconds since the Unix epoch, for whoever compares clocks.
    #[must_use]
    pub fn now_in_millis(&self) -> i64 {
        let offset = self.0.offset.load(Ordering::Relaxed).saturating_mul(1000);
        let system = match self.0.held.load(Ordering::Relaxed) {
            0 => system(),
            held => held,
        };
        system.saturating_add(offset)
    }

    /// Moves this clock and all its clones by `seconds`; for tests, which must not wait.
    pub fn shift(&self, seconds: i64) {
        self.0.offset.fetch_add(seconds, Ordering::Relaxed);
    }

    /// Stops this clock and all its clones, so that time passes by [`Clock::shift`] alone; for tests, which a slow machine
    /// must not turn into other stories.
    pub fn hold(&self) {
        self.0.held.store(system(), Ordering::Relaxed);
    }

    /// Lets it run again, from the system's time and what it was moved by.
    pub fn run(&self) {
        self.0.held.store(0, Ordering::Relaxed);
    }
}

/// Milliseconds since the Unix epoch by the system.
fn system() -> i64 {
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the system clock")]
    let system = SystemTime::now();
    let millis = system.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
    i64::try_from(millis).unwrap_or(i64::MAX)
}
