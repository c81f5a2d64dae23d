//! Durations and sizes as people write them.

use std::time::Duration;

use super::report::{Wrong, quote};

/// Nothing in a config lasts longer; the bound keeps all sums of times far from overflow.
const LONGEST: Duration = Duration::from_secs(10 * 366 * 24 * 60 * 60);

const SIZE_UNITS: &[(&str, u64)] = &[
    ("kib", 1 << 10),
    ("mib", 1 << 20),
    ("gib", 1 << 30),
    ("kb", 1_000),
    ("mb", 1_000_000),
    ("gb", 1_000_000_000),
    ("b", 1),
];

/// `"5m 30s"`, `"500ms"`, `"PT5M"`.
pub(super) fn duration(text: &str) -> Result<Duration, Wrong> {
    let Ok(duration) = text.trim().parse::<jiff::SignedDuration>() else {
        let hint = if text.ends_with(['d', 'w']) || text.contains("day") || text.contains("week") {
            "the largest unit is the hour: a day is `\"24h\"`"
        } else {
            "write it like `\"30s\"`, `\"5m 30s\"` or `\"10h\"`"
        };
        return Err(Wrong::new(format!("{} is no duration", quote(text))).hint(hint));
    };
    match Duration::try_from(duration) {
        Ok(duration) if duration <= LONGEST => Ok(duration),
        Ok(_) => Err(Wrong::new("this duration is longer than ten years")),
        Err(_) => Err(Wrong::new("this duration must not be negative")),
    }
}

/// A duration as the configuration writes it, for whoever writes one elsewhere.
#[must_use]
pub fn parse_duration(text: &str) -> Option<Duration> {
    duration(text).ok()
}

/// `"10MiB"`, `"512 kB"`, `"1GB"`: a number and a unit.
pub(super) fn size(text: &str) -> Result<u64, Wrong> {
    let lower = text.trim().to_ascii_lowercase();
    let parsed = SIZE_UNITS.iter().find_map(|(unit, bytes)| {
        let number: u64 = lower.strip_suffix(unit)?.trim_end().parse().ok()?;
        number.checked_mul(*bytes)
    });
    parsed.filter(|size| *size > 0).ok_or_else(|| {
        Wrong::new(format!("{} is no size", quote(text)))
            .hint("write it like `\"512KiB\"` or `\"10MiB\"`, or as a number of bytes")
    })
}
