//! `login/end` (spec 4.1, requirements CB, table C): what the provider's answer may be, and what comes of it.

use std::future::IntoFuture as _;
use std::time::Duration;

use http::StatusCode;
use serde_json::json;
use tokio::task::JoinSet;
use url::Url;
use vestibule::demo::provider::{Authentication, Endpoint};

use crate::clients::{Spa, spa_world};
use crate::world::answer::parameter;
use crate::world::{Edit, World};

/// A world in which a login has come back to the browser, and nobody has followed it yet.
async fn world_with_callback() -> (World, Url) {
    let world = World::start().await;
    let picker = world.browser.navigate("/login/start?redirect=/page?x%3D1").await.is(200);
    let callback = world.browser.callback_for(&picker, "alice").await;
    (world, callback)
}

/// `url` with its query changed.
fn with(url: &Url, change: impl FnOnce(&mut Vec<(String, String)>)) -> Url {
    let mut pairs: Vec<(String, String)> = url.query_pairs().into_owned().collect();
    change(&mut pairs);
    let mut url = url.clone();
    url.query_pairs_mut().clear().extend_pairs(pairs);
    url
}

/// `url` with one parameter set.
fn with_value(url: &Url, name: &str, value: &str) -> Url {
    with(url, |pairs| pairs.iter_mut().filter(|(key, _)| key == name).for_each(|(_, old)| value.clone_into(old)))
}

#[tokio::test]
async fn cb_1_c01_the_front_end_that_navigates_comes_home_with_a_session() {
    let (world, callback) = world_with_callback().await;
    let issuer = world.provider.issuer().to_owned();
    let answer = world.browser.click(&issuer, callback.as_str()).stay().await.is(303);
    let answer = answer.has("location", "https://app.test/page?x=1");
    let cookies = answer.all("set-cookie");
    let [session, loops, login] = cookies.as_slice() else { panic!("{cookies:?}") };
    assert!(session.starts_with("__Host-Http-vestibule-web="), "{session}");
    assert!(loops.starts_with("__Host-Http-vestibule-web.loops="), "{loops}");
    assert!(login.starts_with("__Host-Http-vestibule-web.login.") && login.contains("=; "), "{login}");
    assert!(login.ends_with("; Path=/; Secure; HttpOnly; SameSite=Lax; Max-Age=0"), "{login}");
    let journal = world.provider.journal();
    let asked: Vec<_> = journal.iter().filter(|seen| seen.endpoint == Endpoint::Token).collect();
    let [asked] = asked.as_slice() else { panic!("{asked:?}") };
    assert_eq!(asked.authentication, Authentication::Basic);
    assert_eq!(asked.parameter("grant_type"), Some("authorization_code"));
    assert_eq!(asked.parameter("code"), parameter(&callback, "code").as_deref());
    assert_eq!(asked.parameter("redirect_uri"), Some("https://app.test/login/end"));
    assert!(asked.parameter("code_verifier").is_some_and(|verifier| verifier.len() >= 43));
    world.browser.get("/api/me").await.is(200);
    world.finish().await;
}

#[tokio::test]
async fn cb_1_the_spa_that_posts_hands_its_own_url_in() {
    let world = spa_world().await;
    let spa = Spa::new(&world.browser);
    let stranger = spa.login_end("https://www.app.test/").await.is(200);
    assert_eq!(stranger.json(), json!({ "handled": false, "logged_in": false }));
    spa.log_in("alice")
        .await
        .has("content-type", "application/json")
        .has("access-control-allow-credentials", "true");
    // As checkAuth calls it, on whatever page it is.
    for href in
        ["https://www.app.test/", "https://www.app.test/#/things?code=1&state=2", "https://www.app.test/?page=2", ""]
    {
        let answer = spa.login_end(href).await.is(200);
        assert_eq!(answer.json(), json!({ "handled": false, "logged_in": true }), "{href}");
    }
    assert_eq!(world.provider.count(Endpoint::Token), 1);
    world.finish().await;
}

#[tokio::test]
async fn a_status_query_consumes_nothing() {
    let world = spa_world().await;
    let spa = Spa::new(&world.browser);
    let href = spa.pick(&spa.login_start().await, "alice").await;
    spa.login_end("https://www.app.test/").await.is(200).lacks("set-cookie");
    assert_eq!(spa.login_end(href.as_str()).await.is(200).json()["handled"], true);
    world.finish().await;
}

#[tokio::test]
async fn cb_3_c05_fifty_parallel_callbacks_are_one_login() {
    let (world, callback) = world_with_callback().await;
    world.provider.delay(Endpoint::Token, Duration::from_millis(100));
    let issuer = world.provider.issuer().to_owned();
    let all = (0..50).map(|_| world.browser.copy().click(&issuer, callback.as_str()).stay().into_future());
    let answers = all.collect::<JoinSet<_>>().join_all().await;
    let first = answers[0].all("set-cookie");
    assert!(answers.iter().all(|answer| answer.status == 303
        && answer.all("set-cookie") == first
        && answer.location().path() == "/page"));
    assert_eq!(world.provider.count(Endpoint::Token), 1);
    assert_eq!(world.sidecar().lasting().shared.sessions.count(), 1);
    world.finish().await;
}

#[tokio::test]
async fn cb_3_c06_the_same_browser_may_repeat_itself_for_a_minute_and_nobody_else() {
    let (world, callback) = world_with_callback().await;
    let issuer = world.provider.issuer().to_owned();
    let (before, late) = (world.browser.copy(), world.browser.copy());
    world.browser.call_back(&issuer, &callback).await.is(200);
    // With the session that came of it, and with the login cookie that led to it.
    for browser in [&world.browser, &before] {
        browser
            .navigate(callback.as_str())
            .stay()
            .await
            .is(303)
            .has("location", "https://app.test/page?x=1");
    }
    // A thief of the URL has neither, another user has a session of his own.
    world
        .new_browser()
        .navigate(callback.as_str())
        .await
        .refused(400, "unknown_login")
        .lacks("set-cookie");
    let other = world.new_browser();
    other.login("bob").await;
    other.navigate(callback.as_str()).await.refused(400, "unknown_login");
    assert_eq!(other.get("/userinfo").await.is(200).json()["preferred_username"], "bob");
    world.clock.shift(61);
    world.browser.navigate(callback.as_str()).await.refused(400, "unknown_login");
    late.navigate(callback.as_str()).await.refused(400, "login_used");
    assert_eq!(world.provider.count(Endpoint::Token), 2);
    world.browser.get("/api/me").await.is(200);
    world.finish().await;
}

#[tokio::test]
async fn cb_3_the_spa_that_posts_twice_gets_the_same_answer_twice() {
    let world = spa_world().await;
    let spa = Spa::new(&world.browser);
    let href = spa.pick(&spa.login_start().await, "alice").await;
    // react-admin runs checkAuth beside login on the page that comes back.
    let (one, two) = tokio::join!(spa.login_end(href.as_str()), spa.login_end(href.as_str()));
    let three = spa.login_end(href.as_str()).await;
    for answer in [one, two, three] {
        assert_eq!(answer.is(200).json(), json!({ "handled": true, "logged_in": true }));
    }
    assert_eq!(world.provider.count(Endpoint::Token), 1);
    assert_eq!(world.sidecar().lasting().shared.sessions.count(), 1);
    world.finish().await;
}

#[tokio::test]
async fn c06_after_logout_a_repeated_callback_logs_nobody_in() {
    let (world, callback) = world_with_callback().await;
    let issuer = world.provider.issuer().to_owned();
    let before = world.browser.copy();
    world.browser.call_back(&issuer, &callback).await.is(200);
    let after = world.browser.copy();
    world.browser.post("/logout").await.is(200);
    for browser in [&world.browser, &after, &before] {
        let answer = browser.navigate(callback.as_str()).stay().await.is(400);
        assert!(!answer.all("set-cookie").iter().any(|line| line.starts_with("__Host-Http-vestibule-web=")));
        browser.get("/api/me").await.refused(401, "login_required");
    }
    assert_eq!(world.provider.count(Endpoint::Token), 1);
    world.finish().await;
}

#[tokio::test]
async fn cb_2_c02_c04_c22_only_the_state_of_this_browser_counts() {
    let (world, callback) = world_with_callback().await;
    let state = parameter(&callback, "state").unwrap();
    let changed: String = state.chars().map(|char| if char == 'a' { 'b' } else { 'a' }).collect();
    let strange = [
        with(&callback, |pairs| pairs.retain(|(name, _)| name != "state")),
        with_value(&callback, "state", ""),
        with_value(&callback, "state", &changed),
        with_value(&callback, "state", &format!("{state}A")),
    ];
    for url in &strange {
        world.browser.navigate(url.as_str()).await.refused(400, "unknown_login").lacks("set-cookie");
    }
    let thief = world.new_browser();
    thief.begin_login().await;
    thief.navigate(callback.as_str()).await.refused(400, "unknown_login");
    assert_eq!(world.provider.count(Endpoint::Token), 0);
    world.browser.navigate(callback.as_str()).await.is(200).at("https://app.test/page?x=1");
    world.finish().await;
}

#[tokio::test]
async fn cb_4_cb_5_cb_7_cb_10_c_table_what_a_callback_may_not_say() {
    let (world, callback) = world_with_callback().await;
    let issuer = world.provider.issuer().to_owned();
    let added = |name: &str, value: &str| with(&callback, |pairs| pairs.push((name.to_owned(), value.to_owned())));
    let dropped = |name: &str| with(&callback, |pairs| pairs.retain(|(key, _)| key != name));
    let value = |name: &str| parameter(&callback, name).unwrap();
    let renamed = |to: &str| {
        with(&callback, |pairs| {
            pairs.iter_mut().filter(|(key, _)| key == "code").for_each(|(key, _)| to.clone_into(key))
        })
    };
    let cases = [
        ("c07 iss wrong", with_value(&callback, "iss", "https://evil.test"), "issuer_mismatch"),
        ("c07 iss empty", with_value(&callback, "iss", ""), "issuer_mismatch"),
        ("c07 iss with a slash", with_value(&callback, "iss", &format!("{issuer}/")), "issuer_mismatch"),
        ("c07 iss encoded twice", with_value(&callback, "iss", &issuer.replace('/', "%2F")), "issuer_mismatch"),
        ("c07 iss missing though announced", dropped("iss"), "issuer_mismatch"),
        ("c10 code twice", added("code", &value("code")), "bad_request"),
        ("c10 another code", added("code", "x"), "bad_request"),
        ("c11 state twice", added("state", &value("state")), "bad_request"),
        ("c11 another state", added("state", "x"), "bad_request"),
        ("c12 iss twice", added("iss", &issuer), "bad_request"),
        (
            "c13 error twice",
            with(&added("error", "x"), |pairs| pairs.push(("error".into(), "x".into()))),
            "bad_request",
        ),
        (
            "cb_7 session_state twice",
            with(&added("session_state", "x"), |pairs| pairs.push(("session_state".into(), "y".into()))),
            "bad_request",
        ),
        ("cb_10 code and error", added("error", "access_denied"), "bad_request"),
        ("c21 access_token", added("access_token", "x"), "bad_request"),
        ("c21 id_token", added("id_token", "x"), "bad_request"),
        ("c30 code[]", renamed("code[]"), "bad_request"),
        ("c30 code with a NUL", renamed("code\0"), "bad_request"),
        ("c30 a name with a blank", renamed("code "), "bad_request"),
        ("c30 no name", renamed(""), "bad_request"),
        ("c30 no code", dropped("code"), "bad_request"),
        ("c30 an empty code", with_value(&callback, "code", ""), "bad_request"),
    ];
    for (what, url, code) in &cases {
        let answer = world.browser.navigate(url.as_str()).stay().await;
        assert!(answer.status == StatusCode::BAD_REQUEST, "{what}: {}", answer.describe());
        answer.refused(400, code).lacks("location");
    }
    let semicolons = callback.as_str().replace('&', ";");
    world.browser.navigate(&semicolons).await.is(400);
    assert_eq!(world.provider.count(Endpoint::Token), 0);
    assert_eq!(world.sidecar().lasting().shared.sessions.count(), 0);
    // None of it cost the login. CB-11: what a provider adds beside it is ignored.
    let extra = with(&callback, |pairs| {
        let names = ["session_state", "scope", "authuser", "hd"];
        pairs.extend(names.map(|name| (name.to_owned(), "x".to_owned())));
    });
    world.browser.navigate(extra.as_str()).await.is(200).at("https://app.test/page?x=1");
    world.finish().await;
}

#[tokio::test]
async fn cb_12_a_login_ages_and_the_page_offers_a_new_one() {
    let (world, callback) = world_with_callback().await;
    let cookie = world.browser.cookies().into_iter().find(|cookie| cookie.name.contains(".login.")).unwrap();
    world.clock.shift(601);
    // The browser has thrown the cookie away by itself; one that did not is refused for the age inside.
    world.browser.navigate(callback.as_str()).await.refused(400, "unknown_login");
    let stubborn = world.new_browser();
    stubborn.plant(&format!("{}={}; Path=/; Secure; HttpOnly", cookie.name, cookie.value));
    let page = stubborn.navigate(callback.as_str()).await.refused(400, "login_expired");
    let again = "href=\"https://app.test/login/start?redirect=https%3A%2F%2Fapp.test%2Fpage%3Fx%3D1\"";
    page.says(again).says("Start again").lacks("location");
    assert_eq!(world.provider.count(Endpoint::Token), 0);
    world.finish().await;
}

#[tokio::test]
async fn cb_12_s24_after_a_restart_without_keys_a_login_begins_again() {
    let (mut world, callback) = world_with_callback().await;
    world.restart().await;
    world.browser.navigate(callback.as_str()).await.refused(400, "unknown_login").says("Start again");
    world.finish().await;
}

#[tokio::test]
async fn cb_13_a_reload_in_between_matters_only_when_the_client_changed() {
    let (world, callback) = world_with_callback().await;
    let edit = world.edit(|toml| toml.text("routes.web", "home_url", "https://app.test/home")).await;
    assert_eq!(edit, Edit::Served);
    let late = world.browser.copy();
    world.browser.navigate(callback.as_str()).await.is(200).at("https://app.test/page?x=1");
    let picker = world.new_browser();
    let second = picker.callback_for(&picker.begin_login().await, "bob").await;
    assert_eq!(world.edit(|toml| toml.text("providers.corp", "client_id", "other")).await, Edit::Served);
    picker.navigate(second.as_str()).await.refused(400, "login_expired");
    late.navigate(callback.as_str()).await.is(400);
    assert_eq!(world.provider.count(Endpoint::Token), 1);
    world.finish().await;
}

#[tokio::test]
async fn cb_20_s14_a_planted_session_is_never_adopted() {
    let world = World::start().await;
    let planted = "A".repeat(43);
    world.browser.plant(&format!("__Host-Http-vestibule-web={planted}; Path=/; Secure; HttpOnly"));
    world.browser.login("alice").await;
    let alice = world
        .browser
        .cookies()
        .into_iter()
        .find(|cookie| cookie.name == "__Host-Http-vestibule-web")
        .unwrap();
    assert_ne!(alice.value, planted);
    let attacker = world.new_browser();
    attacker.plant(&format!("__Host-Http-vestibule-web={planted}; Path=/; Secure; HttpOnly"));
    attacker.get("/api/me").await.refused(401, "login_required");
    // The victim has the attacker's own session; logging in ends it.
    attacker.login("bob").await;
    let bob = attacker.cookies().into_iter().find(|cookie| cookie.name == "__Host-Http-vestibule-web").unwrap();
    let victim = world.new_browser();
    victim.plant(&format!("__Host-Http-vestibule-web={}; Path=/; Secure; HttpOnly", bob.value));
    world.clock.shift(1);
    victim.login("carol").await;
    attacker.get("/api/me").await.refused(401, "login_required");
    assert_eq!(victim.get("/userinfo").await.is(200).json()["preferred_username"], "carol");
    world.finish().await;
}

#[tokio::test]
async fn cb_21_every_answer_of_a_callback_is_private_and_framed_by_nobody() {
    let (world, callback) = world_with_callback().await;
    let refused = world.browser.navigate(with_value(&callback, "state", "x").as_str()).await.is(400);
    let landed = world.browser.navigate(callback.as_str()).stay().await.is(303);
    assert!(!landed.location().as_str().contains("code="), "{}", landed.describe());
    for answer in [refused, landed] {
        let answer = answer.has("cache-control", "no-store").has("referrer-policy", "no-referrer");
        let answer = answer.has("x-content-type-options", "nosniff").lacks("authorization");
        let policy = answer.header("content-security-policy").unwrap().to_owned();
        assert!(policy.contains("default-src 'none'") && policy.contains("frame-ancestors 'none'"), "{policy}");
    }
    world.finish().await;
}

#[tokio::test]
async fn get_login_end_and_get_logout_redirect_whatever_accept_says() {
    let (world, callback) = world_with_callback().await;
    let json = |url: &str| world.browser.get(url).header("accept", "application/json");
    let path = callback.as_str().strip_prefix("https://app.test").unwrap();
    json(path).await.is(303).has("location", "https://app.test/page?x=1");
    let end_session = json("/logout").await.is(302).location();
    assert!(end_session.as_str().starts_with(&world.provider.url(Endpoint::EndSession)), "{end_session}");
    json("/logout?redirect=/bye").await.is(302).has("location", "https://app.test/bye");
    // What cannot be served is still told in the caller's own words.
    json("/login/end?code=x")
        .await
        .refused(400, "unknown_login")
        .has("content-type", "application/json");
    world.finish().await;
}
