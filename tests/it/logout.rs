//! `logout` (spec 4.1, requirements LO, CB-22): out here first, then out at the provider, in both dialects.

use http::{Method, StatusCode};
use serde_json::json;
use url::Url;
use vestibule::demo::provider::{Endpoint, Kind, Mutation, Secret};

use crate::clients::{FRONT_END, Spa, go, spa_world};
use crate::world::World;
use crate::world::answer::{Answer, parameter};
use crate::world::browser::Browser;

/// The `logout_url` of an answer.
fn logout_url(answer: &Answer) -> String {
    answer.json()["logout_url"].as_str().unwrap_or_else(|| panic!("{}", answer.describe())).to_owned()
}

/// Asserts that an answer clears the session cookie as browsers want it (SC-2, S03).
#[track_caller]
fn clears_the_session(answer: &Answer) {
    let line = "__Host-Http-vestibule-web=; Path=/; Secure; HttpOnly; SameSite=Lax; Max-Age=0";
    assert!(answer.all("set-cookie").iter().any(|cookie| cookie == line), "{}", answer.describe());
}

/// Whether a browser holds a session cookie.
fn has_session(browser: &Browser) -> bool {
    browser.cookies().iter().any(|cookie| cookie.name == "__Host-Http-vestibule-web")
}

#[tokio::test]
async fn lo_1_s03_the_spa_that_posts_gets_a_url_that_works_once() {
    let world = spa_world().await;
    let spa = Spa::new(&world.browser);
    spa.log_in("alice").await;
    let thief = world.browser.copy();
    let answer = spa.fetch(Method::POST, "/logout").await.is(200).has("content-type", "application/json");
    clears_the_session(&answer);
    assert!(!has_session(&world.browser));
    // SC-6: here it is over at once, also for whoever holds a copy.
    thief
        .fetch_from(FRONT_END, Method::GET, "https://app.test/web/userinfo")
        .await
        .refused(401, "login_required");
    // The page never sees the ID token: its URL is ours, and the redirect behind it is the browser's.
    let ours: Url = logout_url(&answer).parse().unwrap();
    assert_eq!(ours.host_str(), Some("app.test"));
    let answer = world.browser.click(FRONT_END, ours.as_str()).stay().await.is(302).has("cache-control", "no-store");
    let end_session = answer.location();
    assert!(end_session.as_str().starts_with(&world.provider.url(Endpoint::EndSession)), "{end_session}");
    let id_token = world.provider.issued().into_iter().rfind(|(kind, _)| *kind == Secret::IdToken).unwrap().1;
    assert_eq!(parameter(&end_session, "id_token_hint"), Some(id_token));
    assert_eq!(parameter(&end_session, "client_id").as_deref(), Some("web"));
    let back = parameter(&end_session, "post_logout_redirect_uri");
    assert_eq!(back.as_deref(), Some("https://app.test/web/logout/end"));
    assert!(parameter(&end_session, "state").is_some());
    world.browser.click(FRONT_END, end_session.as_str()).await.is(200).says("Signed out");
    // Used once; a second time it is only a signed-out page.
    world
        .browser
        .click(FRONT_END, ours.as_str())
        .await
        .is(200)
        .says("Signed out")
        .at("https://app.test/web/logout/end");
    assert_eq!(world.provider.count(Endpoint::EndSession), 1);
    world.finish().await;
}

#[tokio::test]
async fn lo_2_without_a_session_the_spa_gets_401_and_a_stale_cookie_goes() {
    let world = spa_world().await;
    let spa = Spa::new(&world.browser);
    let answer = spa.fetch(Method::POST, "/logout").await.refused(401, "login_required");
    assert!(answer.body.is_empty(), "{}", answer.describe());
    clears_the_session(&answer);
    world
        .browser
        .plant(&format!("__Host-Http-vestibule-web={}; Path=/; Secure; HttpOnly", "A".repeat(43)));
    spa.fetch(Method::POST, "/logout").await.refused(401, "login_required");
    assert!(!has_session(&world.browser));
    spa.log_in("alice").await;
    spa.fetch(Method::POST, "/logout").await.is(200);
    // react-admin calls it again on every failed check.
    spa.fetch(Method::POST, "/logout").await.is(401);
    let program = go(&world.browser, Method::POST, "/web/logout").header("origin", "https://app.test").await;
    assert_eq!(program.refused(401, "login_required").has("content-type", "application/json").json()["status"], 401);
    world.finish().await;
}

#[tokio::test]
async fn the_front_end_that_navigates_is_led_out_and_home() {
    let world = World::start().await;
    world.browser.login("alice").await;
    let answer = world.browser.click("/", "/logout?redirect=/bye%3Fx%3D1").stay().await.is(302);
    clears_the_session(&answer);
    assert!(answer.location().as_str().starts_with(&world.provider.url(Endpoint::EndSession)), "{}", answer.describe());
    let page = world.browser.click("/", answer.location().as_str()).await.is(200);
    assert_eq!(page.url.path(), "/logout/end");
    page.says("Signed out").says("href=\"https://app.test/bye?x=1\"").says("http-equiv=\"refresh\"");
    world.browser.get("/api/me").await.is(401);
    // At the provider it is over, too: the next login asks again.
    world.browser.begin_login().await;
    assert!(world.metric("vestibule_logouts_total", &[("kind", "rp_initiated")]).await >= 1.0);
    world.finish().await;
}

#[tokio::test]
async fn lo_3_without_a_session_a_navigation_goes_straight_to_where_it_may() {
    let world = World::start().await;
    let ask = |url: &'static str| world.browser.click("https://evil.test/", url).stay();
    ask("/logout?redirect=/bye").await.is(302).has("location", "https://app.test/bye");
    ask("/logout").await.is(302).has("location", "https://app.test/");
    ask("/logout?redirect=https://evil.test/").await.refused(400, "bad_redirect").lacks("location");
    world.browser.login("alice").await;
    world
        .browser
        .click("/", "/logout?redirect=https://evil.test/")
        .stay()
        .await
        .refused(400, "bad_redirect");
    world.browser.post("/logout?redirect=//evil.test").await.refused(400, "bad_redirect");
    world.browser.get("/api/me").await.is(200);
    assert_eq!(world.provider.count(Endpoint::EndSession), 0);
    world.finish().await;
}

#[tokio::test]
async fn a_logout_from_another_site_or_from_nowhere_has_to_be_confirmed() {
    let world = World::start().await;
    world.browser.login("alice").await;
    let link = "/logout?redirect=/bye";
    let pages = [
        world.browser.click("https://evil.test/", link).stay().await,
        world.browser.click("https://sub.app.test/", link).stay().await,
        world.browser.navigate(link).stay().await,
        world.browser.navigate(link).without_metadata().stay().await,
    ];
    for page in &pages {
        assert_eq!(page.status, StatusCode::OK, "{}", page.describe());
        assert!(page.text().contains("Sign out?") && page.all("set-cookie").is_empty(), "{}", page.describe());
        world.browser.get("/api/me").await.is(200);
    }
    // The link of the page works also in a browser without Fetch Metadata, for this session only.
    let text = pages[3].text();
    let confirm = text.split("href=\"").nth(1).unwrap().split('"').next().unwrap().replace("&amp;", "&");
    let other = world.new_browser();
    other.login("bob").await;
    other.navigate(&confirm).without_metadata().stay().await.is(200).says("Sign out?");
    let answer = world.browser.navigate(&confirm).without_metadata().stay().await.is(302);
    clears_the_session(&answer);
    world
        .browser
        .click("/", answer.location().as_str())
        .await
        .is(200)
        .says("href=\"https://app.test/bye\"");
    world.browser.get("/api/me").await.is(401);
    other.get("/api/me").await.is(200);
    world.finish().await;
}

/// Spec 4.1: from another site, or nobody knows from where. A listed origin beside ours is neither.
#[tokio::test]
async fn a_listed_origin_of_the_same_site_logs_out_as_our_own_pages_do() {
    let world = World::builder()
        .config(|toml| {
            toml.set("routes.web", "allowed_origins", "[\"https://www.app.test\", \"https://app.elsewhere\"]")
        })
        .start()
        .await;
    world.browser.login("alice").await;
    let from = |page: &'static str, referrer: &'static str| {
        world.browser.click(page, "/logout").header("referer", referrer).stay()
    };
    for asked in [
        // A sibling that is not listed, one that only looks like it, and one that does not say who it is.
        from("https://sub.app.test/", "https://sub.app.test/"),
        from("https://sub.app.test/", "https://www.app.test.evil.test/"),
        from("https://sub.app.test/", "https://www.app.test@evil.test/"),
        from("https://sub.app.test/", "null"),
        world.browser.click("https://www.app.test/", "/logout").stay(),
        from("https://www.app.test/", "https://www.app.test/").header("referer", "https://evil.test/"),
        // Another site has to ask, listed or not; and a typed address may be a link in a mail program.
        from("https://app.elsewhere/", "https://app.elsewhere/"),
        world.browser.navigate("/logout").header("referer", "https://www.app.test/").stay(),
        // What is fetched in advance is nobody's wish.
        from("https://www.app.test/", "https://www.app.test/").header("sec-purpose", "prefetch"),
        world.browser.navigate("/logout").without_metadata().header("referer", "https://evil.test/").stay(),
    ] {
        asked.await.is(200).says("Sign out?");
    }
    from("https://www.app.test/", "https://www.app.test/").await.is(302);
    world.browser.get("/api/me").await.is(401);
    world.browser.navigate("/login/start?login_hint=alice").await.is(200);
    let old = world
        .browser
        .navigate("/logout")
        .without_metadata()
        .header("referer", "https://app.test/account")
        .stay();
    old.await.is(302);
    world.finish().await;
}

#[tokio::test]
async fn o03_other_sites_cannot_log_anybody_out() {
    let world = World::start().await;
    world.browser.login("alice").await;
    world
        .browser
        .fetch_from("https://evil.test", Method::POST, "/logout")
        .await
        .refused(403, "cross_site");
    world
        .browser
        .fetch_from("https://evil.test", Method::GET, "/logout")
        .await
        .refused(403, "cross_site");
    let framed = world.browser.click("https://evil.test/", "/logout").header("sec-fetch-dest", "iframe").stay();
    framed.await.refused(403, "cross_site");
    world.browser.post("/logout").like_a_program().await.refused(403, "cross_site");
    world.browser.get("/api/me").await.is(200);
    world.finish().await;
}

#[tokio::test]
async fn lo_5_the_return_leg_is_a_signed_out_page_whatever_comes_back() {
    let world = World::start().await;
    world.browser.login("alice").await;
    for query in ["", "?state=x", "?state=x&state=y", "?state=%00", "?error=access_denied&code=1"] {
        let page = world.browser.navigate(&format!("/logout/end{query}")).stay().await.is(200).says("Signed out");
        page.says("href=\"https://app.test/\"").lacks("set-cookie").lacks("location");
    }
    // A page about nobody's session ends nobody's session, and begins none.
    world.browser.get("/api/me").await.is(200);
    assert_eq!(world.provider.count(Endpoint::Authorize), 2);
    world.finish().await;
}

#[tokio::test]
async fn lo_6_without_an_end_session_endpoint_it_ends_here() {
    let mut world = World::start().await;
    world
        .provider
        .mutate(Mutation::always(Endpoint::Discovery, Kind::JsonRemove("end_session_endpoint")));
    world.restart().await;
    world.browser.login("alice").await;
    let answer = world.browser.post("/logout?redirect=/bye").await.is(200);
    assert_eq!(answer.json(), json!({ "logout_url": "https://app.test/bye" }));
    world.browser.get("/api/me").await.is(401);
    world.browser.navigate("/login/start").await.is(200);
    world.browser.get("/api/me").await.is(200);
    world.browser.click("/", "/logout").stay().await.is(302).has("location", "https://app.test/");
    world.browser.get("/api/me").await.is(401);
    assert!(world.metric("vestibule_logouts_total", &[("kind", "local")]).await >= 2.0);
    world.finish().await;
}

#[tokio::test]
async fn lo_7_the_refresh_token_is_revoked_and_a_failure_is_nobodys_trouble() {
    let world = World::start().await;
    world.browser.login("alice").await;
    let refresh = world.provider.issued().into_iter().rfind(|(kind, _)| *kind == Secret::RefreshToken).unwrap().1;
    world.browser.post("/logout").await.is(200);
    crate::world::eventually("the revocation", || world.provider.count(Endpoint::Revocation) == 1).await;
    let journal = world.provider.journal();
    let seen = journal.iter().find(|seen| seen.endpoint == Endpoint::Revocation).unwrap();
    assert_eq!(seen.parameter("token"), Some(refresh.as_str()));
    world.provider.mutate(Mutation::always(Endpoint::Revocation, Kind::Close));
    world.browser.navigate("/login/start?prompt=none").await.is(200);
    world.browser.post("/logout").await.is(200);
    world.finish().await;
}

#[tokio::test]
async fn lo_8_a_provider_that_is_down_keeps_nobody_logged_in() {
    let world = World::start().await;
    world.browser.login("alice").await;
    world.provider.go_down().await.unwrap();
    let begun = std::time::Instant::now();
    let answer = world.browser.post("/logout").await.is(200);
    assert!(begun.elapsed() < std::time::Duration::from_secs(2), "{:?}", begun.elapsed());
    clears_the_session(&answer);
    world.browser.get("/api/me").await.is(401);
    world.provider.come_up().unwrap();
    world.finish().await;
}

#[tokio::test]
async fn the_id_token_hint_can_be_left_out() {
    let world = World::builder().config(|toml| toml.set("providers.corp", "id_token_hint", "false")).start().await;
    world.browser.login("alice").await;
    let end_session = world.browser.click("/", "/logout").stay().await.is(302).location();
    assert_eq!(parameter(&end_session, "id_token_hint"), None);
    assert_eq!(parameter(&end_session, "client_id").as_deref(), Some("web"));
    world.finish().await;
}

#[tokio::test]
async fn a_form_that_logs_out_is_led_on() {
    let world = World::start().await;
    world.browser.login("alice").await;
    let form = world.browser.post("/logout").header("sec-fetch-mode", "navigate").header("accept", "text/html");
    let answer = form.await.is(303);
    clears_the_session(&answer);
    assert!(answer.location().as_str().starts_with(&world.provider.url(Endpoint::EndSession)));
    world.finish().await;
}

#[tokio::test]
async fn s21_nothing_passes_after_the_answer_of_a_logout() {
    let world = World::start().await;
    world.browser.login("alice").await;
    let thief = world.browser.copy();
    let before: Vec<_> = (0..50).map(|_| tokio::spawn(thief.get("/api/race").into_future())).collect();
    world.browser.post("/logout").await.is(200);
    let after: Vec<_> = (0..50).map(|_| tokio::spawn(thief.get("/api/race").into_future())).collect();
    for request in before {
        let status = request.await.unwrap().status.as_u16();
        assert!(matches!(status, 200 | 401), "{status}");
    }
    for request in after {
        request.await.unwrap().refused(401, "login_required");
    }
    world.finish().await;
}
