//! A login loop ends with a page that names its cause (FA-14, A30).

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use vestibule::time::Clock;

use crate::world::World;
use crate::world::upstream::Reply;

/// Something on the way removes the session cookie.
fn lose_session(world: &World) {
    world.browser.plant("__Host-Http-vestibule-web=; Path=/; Secure; HttpOnly; SameSite=Lax; Max-Age=0");
}

#[tokio::test]
async fn fa_14_a30_a_browser_whose_cookie_is_lost_is_told_so_instead_of_redirected_again() {
    let world = World::start().await;
    for _ in 0..3 {
        world.browser.navigate("/login/start?login_hint=alice").await.is(200);
        lose_session(&world);
    }
    let page = world.browser.navigate("/login/start?login_hint=alice").await.refused(403, "login_loop");
    let page = page.says("cookie_not_returned").says("Start again");
    assert!(page.header("location").is_none());
    assert!(world.metric("vestibule_login_loops_total", &[("route", "web")]).await > 0.5);
    // The page took the count back: who mended the cause can start again at once.
    world.browser.navigate("/login/start?login_hint=alice").await.is(200);
    world.browser.get("/check_auth").await.is(200).says("true");
    world.finish().await;
}

#[tokio::test]
async fn a_lost_session_store_is_another_cause() {
    let mut world = World::start().await;
    for _ in 0..3 {
        world.browser.navigate("/login/start?login_hint=alice").await.is(200);
    }
    world.restart().await;
    let page = world.browser.navigate("/login/start?login_hint=alice").await;
    page.refused(403, "login_loop").says("session_gone");
    world.finish().await;
}

#[tokio::test]
async fn a_balancer_that_hides_tls_is_another_cause() {
    let world = World::start().await;
    world.add_balancer("app.test").await;
    for _ in 0..3 {
        world.browser.navigate("/login/start?login_hint=alice").await.is(200);
        lose_session(&world);
    }
    let page = world.browser.navigate("/login/start?login_hint=alice").await.refused(403, "login_loop");
    page.says("a proxy in front must pass the https scheme on (cause: scheme_http)");
    // Nor does a callback without the cookie of its login look for the cause in the browser.
    let other = world.new_browser();
    let picker = other.begin_login().await;
    let callback = other.callback_for(&picker, "alice").await;
    other.forget();
    let page = other.call_back(world.provider.issuer(), &callback).await;
    page.refused(400, "unknown_login").says("(cause: scheme_http)");
    world.finish().await;
}

/// Logins succeed, since their times are within `clock_skew`; access tokens are over before they are used.
#[tokio::test]
async fn a_provider_whose_clock_is_behind_is_another_cause() {
    let theirs = Clock::default();
    theirs.shift(-200);
    let world = World::builder().provider(move |options| {
        theirs.hold();
        options.clock = theirs;
        options.access_token_lifetime = Duration::from_secs(120);
    });
    let world = world.start().await;
    // An API that judges as `exp` says, by the right time.
    world.upstream.on("/api/", Reply::text("expired").status(401));
    for _ in 0..3 {
        world.browser.navigate("/login/start?login_hint=alice").await.is(200);
        world.browser.get("/api/me").await.is(401);
        let bearer = world.upstream.last().header("authorization").unwrap().to_owned();
        let payload = URL_SAFE_NO_PAD.decode(bearer.split('.').nth(1).unwrap()).unwrap();
        let claims: serde_json::Value = serde_json::from_slice(&payload).unwrap();
        assert!(claims["exp"].as_i64().unwrap() < world.clock.now().unix(), "{claims}");
    }
    let page = world.browser.navigate("/login/start?login_hint=alice").await.refused(403, "login_loop");
    page.says("The clocks of this site and of its sign-in service differ").says("(cause: clock)");
    world.finish().await;
}

#[tokio::test]
async fn three_logins_in_more_than_a_minute_are_no_loop() {
    let world = World::start().await;
    for _ in 0..5 {
        world.browser.navigate("/login/start?login_hint=alice").await.is(200);
        lose_session(&world);
        world.clock.shift(25);
    }
    world.finish().await;
}

/// A session that was never in use, or only until the front end's first call, is what loops leave behind.
#[tokio::test]
async fn an_upstream_that_refuses_every_token_is_a_loop_although_the_session_comes_back() {
    let world = World::start().await;
    for _ in 0..3 {
        world.browser.click("/", "/login/start?login_hint=alice").header("sec-fetch-user", "").await.is(200);
        world.clock.shift(2);
        world.browser.get("/api/me").await.is(200);
    }
    let page = world.browser.click("/", "/login/start?login_hint=alice").header("sec-fetch-user", "").await;
    page.refused(403, "login_loop");
    world.finish().await;
}

#[tokio::test]
async fn who_logs_in_again_and_again_by_hand_is_in_no_loop() {
    let world = World::start().await;
    // By clicking on a link of the app.
    let clicking = world.new_browser();
    for _ in 0..6 {
        clicking.click("/", "/login/start?login_hint=alice").await.is(200).at("https://app.test/");
        clicking.get("/api/me").await.is(200);
    }
    // By typing the address, using the app in between.
    let typing = world.new_browser();
    for _ in 0..6 {
        typing.navigate("/login/start?login_hint=alice").await.is(200).at("https://app.test/");
        world.clock.shift(6);
        typing.get("/api/me").await.is(200);
    }
    // By logging out and in, in either dialect.
    let leaving = world.new_browser();
    for round in 0..6 {
        leaving.navigate("/login/start?login_hint=alice").await.is(200).at("https://app.test/");
        if round % 2 == 0 {
            leaving.post("/logout").await.is(200);
        } else {
            leaving.click("/", "/logout").stay().await.is(302);
        }
    }
    // A click that is led through the provider again and again is a loop all the same.
    let looping = world.new_browser();
    looping.navigate("/login/start?login_hint=alice").await.is(200);
    for _ in 0..2 {
        looping.plant("__Host-Http-vestibule-web=; Path=/; Secure; HttpOnly; SameSite=Lax; Max-Age=0");
        looping.click("https://id.example/", "/login/start").await.is(200).at("https://app.test/");
    }
    looping.click("https://id.example/", "/login/start").await.refused(403, "login_loop");
    world.finish().await;
}

#[tokio::test]
async fn a_callback_without_any_cookie_says_that_cookies_are_missing() {
    let world = World::start().await;
    let picker = world.browser.begin_login().await;
    let callback = world.browser.callback_for(&picker, "alice").await;
    world.browser.forget();
    let page = world.browser.call_back(world.provider.issuer(), &callback).await;
    page.refused(400, "unknown_login").says("cookie_not_returned");
    world.finish().await;
}
