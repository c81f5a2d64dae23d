//! `login/end` when the login fails (spec 4.1, requirements CB, LG): what the browser, the front end and the log are told.

use bytes::Bytes;
use http::{Method, StatusCode};
use serde_json::json;
use url::Url;
use vestibule::demo::provider::{Endpoint, Kind, Mutation};

use crate::clients::{Spa, spa_world};
use crate::world::World;
use crate::world::answer::{Answer, parameter};

/// Logs in with a provider that answers the authorization request with `error`, whose text says more than it should.
async fn refused_login(world: &World, start: &str, error: &str) -> Answer {
    world.provider.clear_mutations();
    let lies = [
        Kind::ParameterRemove("code"),
        Kind::ParameterSet("error", error.to_owned()),
        Kind::ParameterSet("error_description", "<script>alert('boo')</script> \"quoted\" 0x42".to_owned()),
        Kind::ParameterSet("error_uri", "https://evil.test/".to_owned()),
    ];
    lies.into_iter().for_each(|kind| world.provider.mutate(Mutation::nth(Endpoint::Authorize, 2, kind)));
    let picker = world.new_browser();
    let page = picker.navigate(start).await.is(200);
    picker.choose(&page, "alice").await
}

#[tokio::test]
async fn cb_8_c16_an_error_of_the_provider_becomes_a_page_in_our_words() {
    let world = World::start().await;
    for (error, status, code) in [
        ("access_denied", 400, "access_denied"),
        ("login_required", 401, "login_required"),
        ("interaction_required", 400, "access_denied"),
        ("server_error", 400, "provider_refused"),
        ("../x", 400, "provider_refused"),
        ("<script>", 400, "provider_refused"),
    ] {
        let page = refused_login(&world, "/login/start", error).await.refused(status, code);
        let page = page.has("content-type", "text/html; charset=utf-8").lacks("location");
        let page = page.says("href=\"https://app.test/login/start\"").says("Request: <code>");
        assert!(!["script", "boo", "quoted", "0x42", "evil"].iter().any(|word| page.text().contains(word)));
    }
    assert_eq!(world.provider.count(Endpoint::Token), 0);
    assert_eq!(world.sidecar().lasting().shared.sessions.count(), 0);
    assert!(world.log().contains("boo"), "LG-4: the provider's text is for the log");
    world.finish().await;
}

#[tokio::test]
async fn cb_8_the_front_end_that_navigates_is_sent_to_its_failure_page() {
    let world = World::start().await;
    let start = "/login/start?redirect=/in&failure=/sorry%3Fx%3D1%23top";
    let answer = refused_login(&world, start, "access_denied").await.is(200);
    assert_eq!(answer.url.path(), "/sorry");
    assert_eq!(parameter(&answer.url, "x").as_deref(), Some("1"));
    assert_eq!(parameter(&answer.url, "error").as_deref(), Some("access_denied"));
    assert_eq!(answer.url.fragment(), Some("top"));
    let id = parameter(&answer.url, "request_id").unwrap();
    assert!(world.log().contains(&format!("\"request_id\":\"{id}\"")), "{id} is not in the log");
    assert_eq!(answer.url.query_pairs().count(), 3, "{}", answer.url);
    // A login that the token endpoint refuses goes the same way.
    world.provider.clear_mutations();
    world
        .provider
        .mutate(Mutation::nth(Endpoint::Token, 1, Kind::Status(StatusCode::INTERNAL_SERVER_ERROR)));
    let picker = world.browser.navigate(start).await.is(200);
    let answer = world.browser.choose(&picker, "alice").await.is(200);
    assert_eq!(parameter(&answer.url, "error").as_deref(), Some("login_failed"));
    assert_eq!(world.sidecar().lasting().shared.sessions.count(), 0);
    world.finish().await;
}

#[tokio::test]
async fn cb_8_the_spa_that_posts_gets_401_for_login_required_and_400_for_the_rest() {
    let world = spa_world().await;
    let spa = Spa::new(&world.browser);
    for (error, status, code) in [
        ("login_required", 401, "login_required"),
        ("access_denied", 400, "access_denied"),
        ("temporarily_unavailable", 400, "provider_refused"),
    ] {
        let url = spa.login_start().await;
        let state = parameter(&url, "state").unwrap();
        let issuer = world.provider.issuer();
        let href = format!("https://www.app.test/?error={error}&error_description=boo&state={state}&iss={issuer}");
        let answer = spa.login_end(&href).await.refused(status, code).has("vestibule-error", code);
        // It would call `.json()` on a body and believe what it finds.
        assert!(answer.body.is_empty(), "{}", answer.describe());
        let answer = answer.has("access-control-allow-origin", "https://www.app.test");
        assert!(answer.all("set-cookie").iter().all(|line| line.contains("Max-Age=0")), "{}", answer.describe());
    }
    // A client that names a type gets it.
    for (accept, media) in [
        ("application/json", "application/json"),
        ("application/problem+json", "application/problem+json"),
        ("application/json, application/problem+json", "application/problem+json"),
    ] {
        let answer = spa.login_end("https://www.app.test/?code=x").header("accept", accept).await;
        let answer = answer.refused(400, "unknown_login").has("content-type", media);
        assert_eq!(answer.json()["login_url"], "https://app.test/web/login/start");
    }
    world.finish().await;
}

#[tokio::test]
async fn cb_9_c15_an_error_without_a_login_of_this_browser_is_nobodys() {
    let world = World::start().await;
    let picker = world.browser.begin_login().await;
    let callback = world.browser.callback_for(&picker, "alice").await;
    let issuer = world.provider.issuer();
    let strange =
        format!("/login/end?error=access_denied&state=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA&iss={issuer}");
    world.browser.navigate(&strange).await.refused(400, "unknown_login").lacks("set-cookie");
    world
        .browser
        .navigate("/login/end?error=access_denied")
        .await
        .refused(400, "unknown_login")
        .lacks("set-cookie");
    // An error from elsewhere does not cost the login either.
    let state = parameter(&callback, "state").unwrap();
    let forged = format!("/login/end?error=access_denied&state={state}&iss=https://evil.test");
    world.browser.navigate(&forged).await.refused(400, "issuer_mismatch").lacks("set-cookie");
    world.browser.navigate(callback.as_str()).await.is(200).at("https://app.test/");
    world.finish().await;
}

#[tokio::test]
async fn cb_19_t_table_a_wrong_token_answer_is_502_and_its_code_is_not_tried_again() {
    let world = World::start().await;
    let lies = [
        Kind::Status(StatusCode::BAD_REQUEST),
        Kind::Status(StatusCode::UNAUTHORIZED),
        Kind::Status(StatusCode::INTERNAL_SERVER_ERROR),
        Kind::BodyReplace(Bytes::from_static(b"<html>boo</html>")),
        Kind::BodyReplace(Bytes::from_static(b"{\"error\":\"invalid_grant\",\"error_description\":\"boo\"}")),
        Kind::JsonRemove("id_token"),
        Kind::JsonSet("token_type", json!("mac")),
    ];
    let count = lies.len() as u64;
    for lie in lies {
        let what = format!("{lie:?}");
        world.provider.mutate(Mutation::nth(Endpoint::Token, 1, lie));
        let browser = world.new_browser();
        let callback = browser.callback_for(&browser.begin_login().await, "alice").await;
        let page = browser.navigate(callback.as_str()).stay().await;
        assert!(page.status == StatusCode::BAD_GATEWAY, "{what}: {}", page.describe());
        let page = page.refused(502, "login_failed").says("Start again");
        assert!(!page.text().contains("boo"), "{what}: {}", page.describe());
        assert!(page.all("set-cookie").iter().all(|line| line.contains("Max-Age=0")), "{what}: {}", page.describe());
        // The cookie is gone, so the same URL is nobody's now.
        browser.navigate(callback.as_str()).stay().await.refused(400, "unknown_login");
    }
    assert_eq!(world.provider.count(Endpoint::Token), count);
    assert_eq!(world.sidecar().lasting().shared.sessions.count(), 0);
    assert!(world.metric("vestibule_logins_total", &[("route", "web"), ("result", "login_failed")]).await >= 7.0);
    world.still_works().await;
    world.finish().await;
}

#[tokio::test]
async fn c19_a_code_called_logout_is_a_code() {
    let world = World::start().await;
    world.browser.login("alice").await;
    let url = world.browser.navigate("/login/start").stay().await.location();
    let (state, issuer) = (parameter(&url, "state").unwrap(), world.provider.issuer());
    let answer = world.browser.navigate(&format!("/login/end?code=logout&state={state}&iss={issuer}")).await;
    answer.refused(502, "login_failed");
    world.browser.get("/api/me").await.is(200);
    world.finish().await;
}

#[tokio::test]
async fn c20_cb_14_c29_methods_and_bodies_of_the_callback() {
    let world = World::start().await;
    for method in [Method::HEAD, Method::PUT, Method::DELETE, Method::PATCH] {
        world.browser.fetch(method, "/login/end?code=x&state=y").await.is(405).has("allow", "GET, POST");
    }
    world.browser.fetch(Method::OPTIONS, "/login/end?code=x&state=y").await.is(405);
    let post = |kind: &str, body: String| world.browser.post("/login/end").header("content-type", kind).body(body);
    let problems = [
        post("application/x-www-form-urlencoded", "code=x&state=y".into())
            .await
            .refused(415, "unsupported_media_type"),
        post("text/plain", "{\"request_url\":\"https://app.test/\"}".into())
            .await
            .refused(415, "unsupported_media_type"),
        post("application/json", "{".into()).await.refused(400, "bad_request"),
        post("application/json", "[]".into()).await.refused(400, "bad_request"),
        post("application/json", "{\"request_url\":7}".into()).await.refused(400, "bad_request"),
        post("application/json", "{\"request_url\":\"a\",\"request_url\":\"b\"}".into())
            .await
            .refused(400, "bad_request"),
        post("application/json", format!("{{\"request_url\":\"{}\"}}", "x".repeat(17_000)))
            .await
            .refused(413, "body_too_large"),
    ];
    assert!(problems.iter().all(|answer| answer.body.is_empty()), "the front end that POSTs reads no errors");
    post("Application/JSON; charset=utf-8", "{\"request_url\":\"https://app.test/\",\"more\":1}".into())
        .await
        .is(200);
    // The provider may not post a form to us in the user's name (response_mode is query).
    let issuer = world.provider.issuer();
    let form = world.browser.fetch_from(issuer, Method::POST, "/login/end").header("sec-fetch-mode", "navigate");
    let form = form.header("content-type", "application/x-www-form-urlencoded").body("code=x&state=y");
    form.await
        .refused(403, "cross_site")
        .says("response_mode=form_post")
        .says("not supported")
        .lacks("set-cookie");
    let own = world.browser.post("/login/end").header("sec-fetch-mode", "navigate");
    let own = own.header("content-type", "application/x-www-form-urlencoded").body("code=x&state=y");
    own.await.refused(415, "unsupported_media_type").says("response_mode=form_post");
    assert_eq!(world.provider.count(Endpoint::Token), 0);
    world.finish().await;
}

#[tokio::test]
async fn c23_two_login_cookies_of_one_name_are_none() {
    let world = World::start().await;
    let callback = world.browser.callback_for(&world.browser.begin_login().await, "alice").await;
    let cookie = world.browser.cookies().into_iter().find(|cookie| cookie.name.contains(".login.")).unwrap();
    let twice = world.browser.navigate(callback.as_str()).header("cookie", &format!("{}=x", cookie.name));
    twice.await.refused(400, "unknown_login");
    assert_eq!(world.provider.count(Endpoint::Token), 0);
    world.browser.navigate(callback.as_str()).await.is(200);
    world.finish().await;
}

#[tokio::test]
async fn c32_a_callback_in_a_frame_is_refused() {
    let world = World::start().await;
    let callback = world.browser.callback_for(&world.browser.begin_login().await, "alice").await;
    let framed = world.browser.click(world.provider.issuer(), callback.as_str()).header("sec-fetch-dest", "iframe");
    framed.stay().await.refused(403, "cross_site").lacks("set-cookie");
    assert_eq!(world.provider.count(Endpoint::Token), 0);
    world.finish().await;
}

#[tokio::test]
async fn a_browser_that_leaves_in_the_middle_of_the_exchange_finds_itself_logged_in() {
    let world = World::start().await;
    let callback: Url = world.browser.callback_for(&world.browser.begin_login().await, "alice").await;
    world.provider.delay(Endpoint::Token, std::time::Duration::from_millis(300));
    let cookie = world.browser.cookies().into_iter().find(|cookie| cookie.name.contains(".login.")).unwrap();
    let mut raw = world.raw().await;
    let (path, query) = (callback.path(), callback.query().unwrap());
    raw.write(format!(
        "GET {path}?{query} HTTP/1.1\r\nHost: app.test\r\nCookie: {}={}\r\n\r\n",
        cookie.name, cookie.value
    ))
    .await;
    crate::world::eventually("the token request", || world.provider.count(Endpoint::Token) == 1).await;
    drop(raw);
    world.browser.navigate(callback.as_str()).await.is(200).at("https://app.test/");
    world.browser.get("/api/me").await.is(200);
    assert_eq!(world.provider.count(Endpoint::Token), 1);
    world.finish().await;
}
