//! Clocks that differ: what operators see of it before logins fail, and what people and logs are told when they do.

use std::net::SocketAddr;

use serde_json::json;
use vestibule::demo::provider::{DemoProvider, Endpoint, Options};
use vestibule::time::Clock;

use crate::world::{World, eventually, unique};

/// Gives a provider `clock`, which stands still as that of its world does.
fn set(options: &mut Options, clock: Clock) {
    clock.hold();
    options.clock = clock;
}

/// A world whose provider has a clock of its own, the provider's name, which is in no other world, and that clock.
async fn world_apart(seconds: i64) -> (World, String, Clock) {
    let (name, theirs) = (name(), Clock::default());
    theirs.shift(seconds);
    let (table, clock) = (format!("providers.{name}"), theirs.clone());
    let world = World::builder().provider(move |options| set(options, clock));
    let world = world.config(move |toml| toml.rename("providers.corp", &table)).start().await;
    (world, name, theirs)
}

fn name() -> String {
    format!("corp-{}", unique().to_lowercase())
}

/// The log's lines that say `what` of `provider`.
fn told(world: &World, provider: &str, what: &str) -> Vec<String> {
    let provider = format!("\"provider\":\"{provider}\"");
    world
        .log()
        .lines()
        .filter(|line| line.contains(what) && line.contains(&provider))
        .map(str::to_owned)
        .collect()
}

/// What such a line begins with.
const CLOCK: &str = "provider's clock";

/// Has the provider asked for something, so that its clock is read once more.
async fn asked_again(world: &World) {
    world.new_browser().navigate("/login/start?login_hint=alice").await;
}

#[tokio::test]
async fn a_clock_that_runs_away_is_shown_and_told_of_once_before_logins_fail() {
    let (world, corp, theirs) = world_apart(0).await;
    asked_again(&world).await;
    world
        .admin("/readyz?verbose")
        .await
        .is(200)
        .says(&format!("provider {corp}: up; its clock agrees with ours\n"));
    assert!(world.metric("vestibule_provider_clock_skew_seconds", &[("provider", &corp)]).await.abs() < 0.001);
    assert_eq!(told(&world, &corp, CLOCK), [""; 0]);

    theirs.shift(45);
    for _ in 0..3 {
        asked_again(&world).await;
    }
    let skew = world.metric("vestibule_provider_clock_skew_seconds", &[("provider", &corp)]).await;
    assert!((43.0..=45.0).contains(&skew), "{skew}");
    let shown = world.admin("/readyz?verbose").await.is(200).text();
    let line = shown
        .lines()
        .find(|line| line.starts_with(&format!("provider {corp}: up; its clock is 4")))
        .unwrap();
    assert!(line.contains(" s ahead of ours, and `clock_skew` tolerates 60 s: ") && line.contains("NTP"), "{line}");
    // Not per request, and with what to do.
    let lines = told(&world, &corp, CLOCK);
    let [line] = lines.as_slice() else { panic!("{lines:?}") };
    assert!(line.contains("WARN") && line.contains(" s ahead of ours: which of the two clocks is wrong"), "{line}");

    theirs.shift(-45);
    for _ in 0..3 {
        asked_again(&world).await;
    }
    let lines = told(&world, &corp, CLOCK);
    let [_, line] = lines.as_slice() else { panic!("{lines:?}") };
    assert!(line.contains("INFO") && line.contains("well again"), "{line}");
    world.finish().await;
}

#[tokio::test]
async fn two_providers_that_are_off_in_the_same_direction_prove_this_machine_wrong() {
    let theirs = Clock::default();
    theirs.shift(-50);
    // Another address, because two issuers on one host have one clock.
    let listen = SocketAddr::from(([127, 0, 0, 3], 0));
    let partners = Options { listen, clock: theirs.clone(), ..Options::default() };
    let partners = DemoProvider::start(partners).await.unwrap();
    let (issuer, corp, other) = (partners.issuer().to_owned(), name(), name());
    let tables = (corp.clone(), format!("providers.{corp}"), format!("providers.{other}"));
    let world = World::builder().provider(move |options| set(options, theirs)).config(move |toml| {
        toml.rename("providers.corp", &tables.1)
            .text("routes.web", "provider", &tables.0)
            .text(&tables.2, "issuer", &issuer)
    });
    let world = world.start().await;
    let told_of = |name: &str| !told(&world, name, CLOCK).is_empty();
    eventually("both have answered", || told_of(&corp) && told_of(&other)).await;
    let mut shown = world.admin("/readyz?verbose").await.is(200);
    for witness in [&corp, &other] {
        let words = "is off in the same direction, so it is this machine's that is wrong";
        shown = shown.says(&format!("the clock of provider {witness} {words}"));
    }
    assert_eq!(shown.text().matches(" s behind ours, and `clock_skew` tolerates 60 s").count(), 2, "{}", shown.text());
    // Whichever was read second knew it.
    let lines = [told(&world, &corp, CLOCK), told(&world, &other, CLOCK)].concat();
    assert!(lines.iter().any(|line| line.contains("this machine's that is wrong")), "{lines:?}");
    world.finish().await;
}

/// Before, all that anybody heard of it was "an answer that could not be accepted".
#[tokio::test]
async fn a_login_that_fails_by_the_clocks_names_them_and_by_how_much() {
    for (ahead, direction) in [(95, "ahead of"), (-800, "behind")] {
        let (world, corp, _) = world_apart(ahead).await;
        let page = world.browser.navigate("/login/start?login_hint=alice").await.refused(502, "login_failed");
        let page = page.says("clock of the sign-in service").says(direction).says("NTP").says("(cause: clock)");
        let text = page.text();
        let words: Vec<&str> = text.split_whitespace().collect();
        let at = words.iter().position(|word| *word == "seconds").unwrap();
        let seconds: i64 = words[at - 1].parse().unwrap();
        assert!((60..=ahead.abs()).contains(&seconds), "{text}");
        let lines = told(&world, &corp, "login failed");
        let [line] = lines.as_slice() else { panic!("{lines:?}") };
        assert!(line.contains("clock_skew") && line.contains("NTP") && line.contains(direction), "{line}");
        // A callback that comes again, while the first is answered or after it, is told the same.
        let other = world.new_browser();
        let picker = other.begin_login().await;
        let callback = other.callback_for(&picker, "alice").await;
        let again = other.copy();
        let both = tokio::join!(
            other.call_back(world.provider.issuer(), &callback),
            again.call_back(world.provider.issuer(), &callback)
        );
        both.0.refused(502, "login_failed").says("(cause: clock)");
        both.1.refused(502, "login_failed").says("(cause: clock)");
        assert_eq!(world.provider.count(Endpoint::Token), 2);
        world.finish().await;
    }
}

#[tokio::test]
async fn a_front_end_that_posts_its_callback_is_told_of_the_clocks_too() {
    let (world, ..) = world_apart(95).await;
    let picker = world.browser.begin_login().await;
    let callback = world.browser.callback_for(&picker, "alice").await;
    let answer = world.browser.post("/login/end").json(&json!({ "request_url": callback.as_str() }));
    let answer = answer.header("accept", "application/json").await.refused(502, "login_failed");
    let detail = answer.json()["detail"].as_str().unwrap().to_owned();
    assert!(detail.contains("clock of the sign-in service") && detail.contains("ahead of"), "{detail}");
    world.finish().await;
}
