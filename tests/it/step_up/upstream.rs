//! An upstream that asks for a stronger or more recent login (RFC 9470): it becomes one, and ends when it does not help.

use http::Method;

use super::{INSUFFICIENT, asked, login_url, world};
use crate::world::World;
use crate::world::answer::{Answer, parameter};
use crate::world::browser::Browser;
use crate::world::upstream::Reply;

/// A refusal of the upstream's with these `WWW-Authenticate` lines.
fn refusal(challenges: &[&str]) -> Reply {
    let reply = Reply::text("the upstream's own words").status(401).header("x-upstream", "yes");
    challenges.iter().fold(reply, |reply, challenge| reply.header("www-authenticate", challenge))
}

const STRONG: &str = "Bearer error=\"insufficient_user_authentication\", \
                      error_description=\"A different authentication level is required\", acr_values=\"2 3\"";
const RECENT: &str = "Bearer realm=\"api\", error=\"insufficient_user_authentication\", max_age=5";

/// Asserts that it is the upstream's own answer.
#[track_caller]
fn passed_on(answer: Answer, challenges: &[&str]) {
    let answer = answer.is(401).has("x-upstream", "yes").says("the upstream's own words").lacks("vestibule-error");
    assert_eq!(answer.all("www-authenticate"), challenges, "{}", answer.describe());
    assert!(answer.header("location").is_none(), "{}", answer.describe());
}

/// Goes through the picker that `at` leads to.
async fn step_up(browser: &Browser, at: &str) -> Answer {
    let picker = browser.navigate(at).await.is(200).says("Who are you?");
    browser.choose(&picker, "alice").await
}

#[tokio::test]
async fn rfc_9470_a_page_goes_through_a_login_that_brings_what_the_upstream_asks_for() {
    let world = world(&[]).await;
    world.browser.login("alice").await;
    for (challenge, acr_values, max_age) in [(STRONG, Some("2 3"), None), (RECENT, None, Some("5"))] {
        world.upstream.next(refusal(&[challenge]));
        let sent = world.browser.navigate("/api/pay?a=b&c=%20").stay().await.is(302);
        let sent = sent.has("cache-control", "no-store").lacks("x-upstream").lacks("www-authenticate");
        let (acr, age, url) = asked(&world.browser, sent.location().as_str()).await;
        assert_eq!((acr.as_deref(), age.as_deref()), (acr_values, max_age));
        let picker = world.browser.navigate(url.as_str()).await.is(200).says("Who are you?");
        let back = world.browser.choose(&picker, "alice").await.is(200);
        back.at("https://app.test/api/pay?a=b&c=%20").says("\"target\":\"/api/pay?a=b&c=%20\"");
        world.clock.shift(61);
    }
    world.finish().await;
}

#[tokio::test]
async fn rfc_9470_a_script_gets_the_usual_answer_whatever_it_sent() {
    let world = world(&[]).await;
    world.browser.login("alice").await;
    for method in [Method::GET, Method::POST, Method::PUT] {
        world.upstream.next(refusal(&[STRONG]));
        let body = if method == Method::GET { String::new() } else { "x".repeat(100_000) };
        let refused = world.browser.fetch(method, "/api/pay").body(body).await.refused(401, INSUFFICIENT);
        let refused = refused.has("content-type", "application/problem+json").lacks("x-upstream");
        let refused = refused.has("vestibule-error", INSUFFICIENT);
        let refused =
            refused.has("www-authenticate", "Vestibule error=\"insufficient_user_authentication\", acr_values=\"2 3\"");
        let (acr_values, _, _) = asked(&world.browser, &login_url(&refused)).await;
        assert_eq!(acr_values.as_deref(), Some("2 3"));
    }
    // A script of a listed origin may read it.
    world.edit(|toml| toml.set("routes.web", "allowed_origins", "[\"https://www.app.test\"]")).await;
    world.upstream.next(refusal(&[STRONG]));
    let refused = world.browser.fetch_from("https://www.app.test", Method::POST, "/api/pay").await;
    refused.refused(401, INSUFFICIENT).has("access-control-allow-origin", "https://www.app.test");
    // A form is shown how to go on.
    world.upstream.next(refusal(&[STRONG]));
    let form = world.browser.post("/api/pay").header("sec-fetch-mode", "navigate").await;
    form.refused(401, INSUFFICIENT).says("in a new tab").lacks("location").lacks("www-authenticate");
    world.finish().await;
}

/// An upstream that is never content: one login, and then its own words.
#[tokio::test]
async fn rfc_9470_an_upstream_that_refuses_the_new_login_too_is_passed_on_and_nothing_spins() {
    let world = world(&[]).await;
    for (path, challenge) in [("/api/strong", STRONG), ("/api/recent", RECENT)] {
        world.upstream.on(path, refusal(&[challenge]));
    }
    world.browser.login("alice").await;
    for path in ["/api/strong", "/api/recent"] {
        let challenge = if path == "/api/strong" { STRONG } else { RECENT };
        passed_on(step_up(&world.browser, path).await, &[challenge]);
        passed_on(world.browser.navigate(path).await, &[challenge]);
        passed_on(world.browser.get(path).await, &[challenge]);
        passed_on(world.browser.post(path).body("x").await, &[challenge]);
        // Another thing that it asks for is another matter.
        let other = "Bearer error=\"insufficient_user_authentication\", acr_values=\"3\"";
        world.upstream.next(refusal(&[other]));
        world.browser.get("/api/other").await.refused(401, INSUFFICIENT);
        // A while later it may be for a new reason: a login of five seconds has been too old for ten then.
        world.clock.shift(if path == "/api/strong" { 59 } else { 14 });
        passed_on(world.browser.get(path).await, &[challenge]);
        world.clock.shift(1);
        world.browser.get(path).await.refused(401, INSUFFICIENT);
    }
    // A front end that sends its page to log in whenever it is refused ends as well.
    let refused = world.browser.get("/api/strong").await.refused(401, INSUFFICIENT);
    let picker = world.browser.click("/", &format!("{}?redirect=%2Fpay", login_url(&refused))).await.is(200);
    world.browser.choose(&picker, "alice").await.is(200).at("https://app.test/pay");
    passed_on(world.browser.get("/api/strong").await, &[STRONG]);
    // That note is of one session: the next one begins anew.
    world.browser.post("/logout").await.is(200);
    world.browser.navigate("/login/start?login_hint=alice").await.is(200);
    world.browser.get("/api/strong").await.refused(401, INSUFFICIENT);
    world.finish().await;
}

/// FA-14: an upstream that asks for something else each time is a loop that the usual breaker ends, and it says why.
#[tokio::test]
async fn fa_14_an_upstream_that_asks_for_more_each_time_ends_on_a_page() {
    let world = World::builder()
        .provider(|options| options.acr_values = ["1", "2", "3", "4", "5"].map(str::to_owned).to_vec())
        .start()
        .await;
    world.browser.login("alice").await;
    for acr in ["2", "3"] {
        let challenge = format!("Bearer error={INSUFFICIENT}, acr_values={acr}");
        world.upstream.next(refusal(&[&challenge]));
        step_up(&world.browser, "/api/pay").await.is(200).at("https://app.test/api/pay");
    }
    world.upstream.next(refusal(&[&format!("Bearer error={INSUFFICIENT}, acr_values=4")]));
    let page = world.browser.navigate("/api/pay").await.refused(403, "login_loop");
    page.says("cause: step_up").lacks("location");
    world.finish().await;
}

/// What asks for no login, or for one in a way that two readers could understand differently, or that no request to a
/// provider should hold, is the upstream's own affair.
#[tokio::test]
async fn rfc_9470_hostile_whatever_else_an_upstream_answers_goes_on_as_it_came() {
    let world = world(&[]).await;
    world.browser.login("alice").await;
    let asks = |parameters: &str| format!("Bearer error=\"{INSUFFICIENT}\"{parameters}");
    let long = "x".repeat(513);
    let strong = asks(", acr_values=\"2\"");
    let several = |values: &[&str]| values.iter().map(|value| (*value).to_owned()).collect::<Vec<String>>();
    let cases: Vec<Vec<String>> = vec![
        vec![],
        several(&["Basic realm=\"x\""]),
        several(&["Bearer error=\"invalid_token\", acr_values=\"2\""]),
        several(&["Bearer error=\"insufficient_user_authentication_\", acr_values=\"2\""]),
        several(&["Bearer error=\"Insufficient_User_Authentication\", acr_values=\"2\""]),
        several(&["Basic error=\"insufficient_user_authentication\", acr_values=\"2\""]),
        several(&["DPoP error=\"insufficient_user_authentication\", acr_values=\"2\""]),
        several(&["Basic realm=\"Bearer error=\\\"insufficient_user_authentication\\\", acr_values=\\\"2\\\"\""]),
        vec![asks("")],
        vec![asks(", acr_values=\"\"")],
        vec![asks(", acr_values=\"  \"")],
        vec![asks(&format!(", acr_values=\"{long}\""))],
        vec![asks(", acr_values=\"1 2 3 4 5 6 7 8 9\"")],
        vec![asks(", acr_values=\"2\\\" , max_age=0\"")],
        vec![asks(", acr_values=\"2\\\\\"")],
        vec![asks(", acr_values=\"2\t3\"")],
        vec![asks(", acr_values=\"\u{fc}\"")],
        vec![asks(", acr_values=\"2\", acr_values=\"3\"")],
        vec![asks(", acr_values=\"2")],
        vec![asks(", acr_values=\"2\" max_age=5")],
        vec![asks(", max_age=\"-1\"")],
        vec![asks(", max_age=\"+5\"")],
        vec![asks(", max_age=\"5.0\"")],
        vec![asks(", max_age=\"5s\"")],
        vec![asks(", max_age=\"\"")],
        vec![asks(", max_age=\" 5\"")],
        vec![asks(", max_age=\"0x10\"")],
        vec![asks(", max_age=\"1000000000\"")],
        vec![asks(", max_age=\"99999999999999999999999\"")],
        vec![asks(", acr_values=\"2\", max_age=\"x\"")],
        // Two that contradict each other, in one header and in two.
        vec![format!("{strong}, {}", asks(", acr_values=\"3\""))],
        vec![strong.clone(), asks(", acr_values=\"3\"")],
        vec![strong.clone(), "Basic realm=\"open".to_owned()],
        vec![strong.clone(); 9],
    ];
    for challenges in cases {
        let texts: Vec<&str> = challenges.iter().map(String::as_str).collect();
        for navigates in [true, false] {
            world.upstream.next(refusal(&texts));
            let ask = if navigates { world.browser.navigate("/api/pay") } else { world.browser.post("/api/pay") };
            passed_on(ask.await, &texts);
        }
    }
    world.finish().await;
}

/// The same words beside any other status mean nothing.
#[tokio::test]
async fn rfc_9470_only_a_401_is_a_challenge() {
    let world = world(&[]).await;
    world.browser.login("alice").await;
    for status in [400, 403, 407, 200, 503] {
        world.upstream.next(refusal(&[STRONG]).status(status));
        world
            .browser
            .get("/api/pay")
            .await
            .is(status)
            .has("www-authenticate", STRONG)
            .has("x-upstream", "yes");
    }
    world.finish().await;
}

/// What is written unusually, and can be read in one way only, is understood.
#[tokio::test]
async fn rfc_9470_challenges_are_found_among_others_and_in_every_spelling() {
    let world = world(&[]).await;
    world.browser.login("alice").await;
    let strong = STRONG;
    for (challenges, acr_values, max_age) in [
        (vec!["Basic realm=\"a, b\", Bearer error=\"insufficient_user_authentication\", acr_values=\"2\""], "2", None),
        (vec!["bEaReR ERROR = insufficient_user_authentication ,, Acr_Values = 2 , max_age= 0"], "2", Some("0")),
        (vec!["Negotiate abc==, Basic realm=\"x\"", "Digest a=b", "Bearer", strong], "2 3", None),
        (vec![strong, strong], "2 3", None),
        (
            vec![
                "Bearer acr_values=\"2\\-\\r\\n%0d%0a  http://x/?a&b=c\", error=\"insufficient_user_authenticatio\\n\"",
            ],
            "2-rn%0d%0a http://x/?a&b=c",
            None,
        ),
    ] {
        world.upstream.next(refusal(&challenges));
        let sent = world.browser.navigate("/api/pay").stay().await.is(302).location();
        assert!(!sent.as_str().contains("%0d"), "what an upstream says stands in no URL of ours: {sent}");
        let (acr, age, url) = asked(&world.browser, sent.as_str()).await;
        assert_eq!((acr.as_deref(), age.as_deref()), (Some(acr_values), max_age), "{challenges:?}");
        assert_eq!(parameter(&url, "redirect_uri").as_deref(), Some("https://app.test/login/end"));
    }
    world.finish().await;
}

/// The rule of the path holds as well: what both are content with is asked for, and the shorter time; where there is no such
/// thing, a login would go back and forth.
#[tokio::test]
async fn a_path_and_its_upstream_are_asked_for_together() {
    let world = world(&[
        ("/api/both/", "{ acr_values = [\"1\", \"2\"], max_age = \"1h\" }"),
        ("/api/never/", "{ acr_values = [\"1\"] }"),
    ])
    .await;
    world.browser.login("alice").await;
    world.upstream.next(refusal(&[STRONG]));
    let refused = world.browser.get("/api/both/x").await.refused(401, INSUFFICIENT);
    let (acr_values, max_age, _) = asked(&world.browser, &login_url(&refused)).await;
    assert_eq!((acr_values.as_deref(), max_age.as_deref()), (Some("2"), Some("3600")));
    world.upstream.next(refusal(&[STRONG]));
    passed_on(world.browser.navigate("/api/never/x").await, &[STRONG]);
    world.finish().await;
}

/// Where nobody may pass as well, an upstream can send them to log in.
#[tokio::test]
async fn rfc_9470_a_stranger_who_passes_is_sent_to_log_in_as_strongly() {
    let world = world(&[("/api/open/", "{ unauthenticated = \"pass\" }")]).await;
    world.upstream.next(refusal(&[STRONG]));
    let back = step_up(&world.browser, "/api/open/x").await;
    back.is(200).at("https://app.test/api/open/x");
    assert_eq!(world.browser.get("/claims").await.is(200).json()["acr"], "2");
    let stranger = world.new_browser();
    world.upstream.next(refusal(&[STRONG]));
    login_url(&stranger.get("/api/open/x").await.refused(401, INSUFFICIENT));
    world.finish().await;
}

/// Bearers of programs are theirs, and so is what an upstream says to them.
#[tokio::test]
async fn rfc_9470_a_program_gets_the_upstreams_challenge_as_it_came() {
    let world = crate::bearer::usual().await;
    world.upstream.next(refusal(&[STRONG]));
    let token = crate::bearer::token(&world, &[]);
    let ask = world.new_browser().get("https://api.test/x").like_a_program();
    passed_on(ask.header("authorization", &format!("Bearer {token}")).await, &[STRONG]);
    world.finish().await;
}
