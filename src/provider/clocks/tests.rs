//! What one `Date` proves, what a token proves, and whom several providers together prove wrong.

use http::HeaderValue;

use super::*;
use crate::provider::testing::{provider, surroundings};

/// A moment of our clock, in milliseconds.
const NOON: i64 = 1_700_000_000_000;

fn watch(clocks: &Arc<Clocks>, issuer: &str, name: &str) -> Arc<ClockWatch> {
    let mut config = provider(issuer);
    config.name = config::Name::parse(name).unwrap();
    clocks.watch(Arc::new(config), surroundings().metrics)
}

fn dated(millis: i64) -> HeaderMap {
    let date = Timestamp::from_unix(millis.div_euclid(1000)).imf_fixdate();
    HeaderMap::from_iter([(DATE, HeaderValue::from_str(&date).unwrap())])
}

/// What is measured of a clock that is ahead by `ahead` and answers after half of `took`.
fn measured(ahead: i64, asked: i64, took: u64) -> i64 {
    let watch = watch(&Arc::default(), "https://id.example/", "corp");
    let took = Duration::from_millis(took);
    watch.answered(&dated(asked + millis(took) / 2 + ahead), asked, took);
    watch.skew().unwrap().0
}

#[test]
fn clocks_that_agree_are_never_said_to_differ() {
    for phase in [0, 1, 250, 500, 999] {
        for took in [0, 3, 80, 1500, 4999] {
            assert_eq!(measured(0, NOON + phase, took), 0, "{phase} {took}");
        }
    }
}

#[test]
fn what_is_said_is_never_too_much_and_short_by_no_more_than_a_second_and_half_the_wait() {
    for ahead in [-86_400_000, -90_000, -5_250, 5_250, 90_000, 86_400_000] {
        for phase in [0, 1, 250, 500, 999] {
            for took in [0, 3, 80, 1500, 4999] {
                let said = measured(ahead, NOON + phase, took);
                assert!(said.signum() == ahead.signum() && said.abs() <= ahead.abs(), "{said} for {ahead}");
                let short = ahead.abs() - said.abs();
                assert!(short <= 1000 + i64::try_from(took.div_ceil(2)).unwrap(), "{said} for {ahead} after {took}");
            }
        }
    }
}

#[test]
fn what_a_cache_kept_says_nothing_of_a_clock() {
    let watch = watch(&Arc::default(), "https://id.example/", "corp");
    let mut headers = dated(NOON - 3_600_000);
    headers.insert(AGE, HeaderValue::from_static("3600"));
    watch.answered(&headers, NOON, Duration::ZERO);
    for odd in ["", "yesterday", "Thu, 01 Jan 1970 00:00:00 GMT, Thu, 01 Jan 1970 00:00:00 GMT"] {
        let headers = HeaderMap::from_iter([(DATE, HeaderValue::from_static(odd))]);
        watch.answered(&headers, NOON, Duration::ZERO);
    }
    assert_eq!(watch.skew(), None);
}

#[test]
fn a_token_tells_of_a_clock_that_is_ahead_behind_a_balancer_whose_own_is_right() {
    let watch = watch(&Arc::default(), "https://id.example/", "corp");
    let now = Timestamp::from_unix(NOON / 1000);
    watch.answered(&dated(NOON), NOON, Duration::ZERO);
    watch.issued(now.plus(Duration::from_secs(90)), now);
    assert_eq!(watch.skew(), Some(Skew(90_000)));
    // Made at the time of the code: that is no clock that is behind.
    watch.issued(now.minus(Duration::from_secs(90)), now);
    assert_eq!(watch.skew(), Some(Skew(0)));
    // What no token confirms is forgotten in the end.
    watch.issued(now.plus(Duration::from_secs(90)), now);
    watch.answered(&dated(NOON + 3_600_000), NOON + 3_600_000, Duration::ZERO);
    assert_eq!(watch.skew(), Some(Skew(90_000)));
    watch.answered(&dated(NOON + 3_601_000), NOON + 3_601_000, Duration::ZERO);
    assert_eq!(watch.skew(), Some(Skew(0)));
}

#[test]
fn one_provider_proves_nobody_wrong_and_two_do() {
    let clocks = Arc::default();
    let off = |watch: &ClockWatch, ahead: i64| watch.answered(&dated(NOON + ahead), NOON, Duration::ZERO);
    let corp = watch(&clocks, "https://id.example/realms/corp", "corp");
    let blame = || clocks.blame(&corp, corp.skew().unwrap());
    off(&corp, 90_000);
    assert_eq!(blame(), Blame::Either);
    // The same machine under another name has the same clock.
    let twin = watch(&clocks, "https://id.example/realms/twin", "twin");
    off(&twin, 90_000);
    assert_eq!(blame(), Blame::Either);
    let partners = watch(&clocks, "https://partners.example/", "partners");
    assert_eq!(blame(), Blame::Either);
    off(&partners, 300);
    assert_eq!(blame(), Blame::Theirs("partners".to_owned()));
    off(&partners, 80_000);
    assert_eq!(blame(), Blame::Ours("partners".to_owned()));
    off(&partners, -80_000);
    assert_eq!(blame(), Blame::Either);
    // One that has left with its configuration is no witness any more.
    off(&partners, 80_000);
    drop(partners);
    assert_eq!(blame(), Blame::Either);
}

#[test]
fn half_of_what_is_tolerated_is_worth_a_word_and_half_of_that_is_well_again() {
    let watch = watch(&Arc::default(), "https://id.example/", "corp");
    let told = |ahead: i64| {
        watch.answered(&dated(NOON + ahead), NOON, Duration::ZERO);
        watch.readings.lock().unwrap().told
    };
    assert_eq!(
        [0, 30_000, 31_000, 30_000, 16_000, 15_000, 30_000].map(told),
        [false, false, true, true, true, false, false]
    );
    assert_eq!([-30_000, -32_000, -17_000, -16_000].map(told), [false, true, true, false]);
    assert!(watch.describe().unwrap().starts_with("its clock is 15.0 s behind ours"), "{:?}", watch.describe());
}
