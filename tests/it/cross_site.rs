//! Who may call with the user's cookie, and whose scripts may read the answer (spec 4.2; PX-2, PX-3, PX-4, H20), rule by
//! rule as the README numbers them.

use http::Method;

use crate::clients::{FRONT_END, Spa, go, spa_world};
use crate::world::World;
use crate::world::answer::Answer;
use crate::world::upstream::Reply;

/// Origins that are near, and not listed.
const STRANGERS: [&str; 7] = [
    "https://evil.test",
    "https://www.app.test:8443",
    "http://www.app.test",
    "http://app.test",
    "https://sub.www.app.test",
    "https://www.app.test.evil.test",
    "https://app.testx",
];

/// The members of `Vary`.
fn varies(answer: &Answer) -> Vec<String> {
    let values = answer.all("vary").join(",");
    values
        .split(',')
        .map(|name| name.trim().to_ascii_lowercase())
        .filter(|name| !name.is_empty())
        .collect()
}

#[tokio::test]
async fn rule_1_a_link_from_anywhere_opens_a_page() {
    let world = World::start().await;
    world.browser.login("alice").await;
    for from in ["https://evil.test/", "https://sub.app.test/", "https://app.test/"] {
        world.browser.click(from, "/api/page").await.is(200);
    }
    world.browser.navigate("/api/page").await.is(200);
    world.browser.navigate("/api/page").without_metadata().await.is(200);
    let before = world.upstream.count();
    // A frame, an image or a prefetching script is not a page that a person opens.
    for dest in ["iframe", "frame", "embed", "object", "image", "script", "empty"] {
        let ask = world.browser.click("https://evil.test/", "/api/page").header("sec-fetch-dest", dest);
        ask.await.refused(403, "cross_site");
    }
    let form = world.browser.fetch_from("https://evil.test", Method::POST, "/api/page");
    form.header("sec-fetch-mode", "navigate")
        .header("sec-fetch-dest", "document")
        .await
        .refused(403, "cross_site");
    assert_eq!(world.upstream.count(), before);
    world.finish().await;
}

#[tokio::test]
async fn rule_2_px_3_h20_an_origin_must_be_ours_or_listed() {
    let world = spa_world().await;
    let spa = Spa::new(&world.browser);
    spa.log_in("alice").await;
    for method in [Method::GET, Method::HEAD, Method::POST, Method::PUT, Method::DELETE] {
        for origin in STRANGERS.iter().chain(&["null", "", "https://app.test/", "https://app.test, https://evil.test"])
        {
            let ask = world.browser.fetch(method.clone(), "/api/me").without_metadata().header("origin", origin);
            let answer = ask.await;
            assert_eq!(answer.status.as_u16(), 403, "{method} {origin:?}: {}", answer.describe());
            assert_eq!(answer.header("vestibule-error"), Some("cross_site"));
            answer.lacks("access-control-allow-origin").lacks("access-control-allow-credentials");
        }
        world.browser.fetch(method.clone(), "/api/me").header("origin", "https://app.test").await.is(200);
        world.browser.fetch(method, "/api/me").header("origin", FRONT_END).await.is(200);
    }
    let twice = world.browser.post("/api/me").header("origin", FRONT_END).header("origin", FRONT_END);
    twice.await.refused(403, "cross_site");
    assert!(world.upstream.recorded().iter().all(|request| request.header("origin").is_some()));
    assert_eq!(world.upstream.count(), 10);
    world.finish().await;
}

#[tokio::test]
async fn rule_2_unsafe_methods_need_a_word_from_the_browser() {
    let world = World::start().await;
    world.browser.login("alice").await;
    for method in [Method::POST, Method::PUT, Method::PATCH, Method::DELETE, Method::from_bytes(b"PURGE").unwrap()] {
        let program = || world.browser.fetch(method.clone(), "/api/me").like_a_program();
        program().await.refused(403, "cross_site");
        program().header("accept", "text/html").await.refused(403, "cross_site");
        program().header("sec-fetch-mode", "navigate").await.refused(403, "cross_site");
        for site in ["cross-site", "same-site", "none", "", "SAME-ORIGIN", "same-origin, cross-site"] {
            program().header("sec-fetch-site", site).await.refused(403, "cross_site");
        }
        let twice = program().header("sec-fetch-site", "same-origin").header("sec-fetch-site", "cross-site");
        twice.await.refused(403, "cross_site");
        program().header("sec-fetch-site", "same-origin").await.is(200);
    }
    assert_eq!(world.upstream.count(), 5);
    world.finish().await;
}

#[tokio::test]
async fn rule_2_a_websocket_needs_it_too() {
    let world = World::start().await;
    world.browser.login("alice").await;
    let socket = || {
        let ask = world.browser.get("/api/socket").like_a_program();
        ask.header("connection", "Upgrade")
            .header("upgrade", "websocket")
            .header("sec-websocket-version", "13")
    };
    socket().await.refused(403, "cross_site");
    socket().header("accept", "text/html").await.refused(403, "cross_site");
    socket()
        .header("sec-fetch-site", "cross-site")
        .header("sec-fetch-mode", "websocket")
        .await
        .refused(403, "cross_site");
    socket().header("origin", "https://evil.test").await.refused(403, "cross_site");
    let answer = socket().header("origin", "https://app.test").await;
    assert_ne!(answer.status.as_u16(), 403, "{}", answer.describe());
    world.finish().await;
}

#[tokio::test]
async fn rule_3_other_reads_are_for_our_own_pages() {
    let world = spa_world().await;
    let spa = Spa::new(&world.browser);
    spa.log_in("alice").await;
    let ask = |path: &str, site: &str| world.browser.get(path).like_a_program().header("sec-fetch-site", site);
    for path in ["/api/me", "/web/userinfo", "/web/claims", "/web/session", "/web/check_auth"] {
        ask(path, "cross-site").await.refused(403, "cross_site");
        ask(path, "same-site").await.refused(403, "cross_site");
        ask(path, "unheard-of").await.refused(403, "cross_site");
        ask(path, "same-site").header("origin", FRONT_END).await.is(200);
        ask(path, "same-origin").await.is(200);
        ask(path, "none").await.is(200);
        // Without headers it is no browser that could be misused: the Go client and other programs.
        go(&world.browser, Method::GET, path).await.is(200);
        // An old Accept says nothing against a new Sec-Fetch-Site.
        ask(path, "cross-site").header("accept", "text/html").await.is(403);
    }
    world.finish().await;
}

#[tokio::test]
async fn rule_4_px_2_a_csrf_header_is_asked_for_on_top() {
    let world = World::builder()
        .config(|toml| {
            toml.set("routes.web.paths", "\"/api/\"", "{}").set(
                "routes.web.paths",
                "\"/api/strict/\"",
                "{ csrf_header = \"X-CSRF\" }",
            )
        })
        .start()
        .await;
    world.browser.login("alice").await;
    for method in [Method::GET, Method::POST] {
        let ask = || world.browser.fetch(method.clone(), "/api/strict/x");
        ask().await.refused(403, "csrf_header_missing");
        ask().header("x_csrf", "1").await.refused(403, "csrf_header_missing");
        ask().header("x-csrf", "1").await.is(200);
        let foreign = world.browser.fetch_from("https://evil.test", method.clone(), "/api/strict/x");
        foreign.header("x-csrf", "1").await.refused(403, "cross_site");
    }
    world.browser.navigate("/api/strict/x").await.refused(403, "csrf_header_missing");
    world.browser.post("/api/other").await.is(200);
    world.finish().await;
}

#[tokio::test]
async fn px_4_a_preflight_from_a_listed_origin_is_answered_before_anything_else() {
    let world = spa_world().await;
    let preflight = |origin: &str, path: &str, method: &str| {
        let ask = world.browser.fetch(Method::OPTIONS, path).without_metadata().header("origin", origin);
        ask.header("access-control-request-method", method)
    };
    for path in ["/api/me", "/web/login/end", "/web/logout", "/web/refresh", "/web/userinfo"] {
        let answer = preflight(FRONT_END, path, "PUT")
            .header("access-control-request-headers", "content-type,x-csrf")
            .await;
        let answer = answer.is(204).has("access-control-allow-origin", FRONT_END);
        let answer = answer.has("access-control-allow-credentials", "true");
        let answer = answer.has("access-control-allow-headers", "content-type,x-csrf").lacks("set-cookie");
        let methods = answer.header("access-control-allow-methods").unwrap();
        assert!(["GET", "POST", "PUT", "PATCH", "DELETE"].iter().all(|method| methods.contains(method)), "{methods}");
        assert!(answer.body.is_empty() && varies(&answer).contains(&"origin".to_owned()), "{}", answer.describe());
        for stranger in STRANGERS {
            let answer = preflight(stranger, path, "POST").await.refused(403, "cross_site");
            answer.lacks("access-control-allow-origin").lacks("access-control-allow-methods");
        }
        preflight("null", path, "POST").await.refused(403, "cross_site");
    }
    assert_eq!(world.upstream.count(), 0);
    // An OPTIONS that is no preflight is a request like others.
    world
        .browser
        .fetch(Method::OPTIONS, "/api/me")
        .header("origin", FRONT_END)
        .await
        .refused(401, "login_required");
    world.finish().await;
}

#[tokio::test]
async fn px_4_every_answer_carries_the_permission_of_its_origin_and_no_other() {
    let world = spa_world().await;
    let spa = Spa::new(&world.browser);
    let checked = |answer: Answer| {
        let answer = answer.has("access-control-allow-origin", FRONT_END);
        let answer = answer.has("access-control-allow-credentials", "true");
        let answer = answer.has("access-control-expose-headers", "x-total-count, vestibule-error");
        assert!(varies(&answer).contains(&"origin".to_owned()), "{}", answer.describe());
    };
    let api = |path: &str| world.browser.fetch_from(FRONT_END, Method::GET, &format!("https://app.test{path}"));
    checked(spa.fetch(Method::GET, "/userinfo").await.is(401));
    checked(spa.fetch(Method::PUT, "/userinfo").await.is(405));
    checked(spa.fetch(Method::GET, "/nothing").await.is(404));
    checked(spa.fetch(Method::POST, "/logout").await.is(401));
    checked(spa.fetch(Method::POST, "/login/end").body("x").await.is(415));
    checked(api("/api/a%2Fb").await.refused(400, "ambiguous_path"));
    checked(spa.log_in("alice").await);
    let reply = Reply::text("{}")
        .header("access-control-allow-origin", "*")
        .header("access-control-allow-methods", "GET");
    world.upstream.next(reply.header("vary", "Accept-Encoding").header("x-total-count", "7"));
    let answer = api("/api/things").await.is(200).has("x-total-count", "7").lacks("access-control-allow-methods");
    assert!(varies(&answer).contains(&"accept-encoding".to_owned()), "{}", answer.describe());
    checked(answer);
    world.upstream.next(Reply::Raw(b"boo\r\n\r\n".to_vec()));
    checked(api("/api/broken").await.is(502));
    world.upstream.next(Reply::text("no").status(403));
    checked(api("/api/forbidden").await.is(403));
    // Our own origin is an origin as well; without one nobody is named, and the answer still varies.
    world.browser.post("/api/x").await.is(200).has("access-control-allow-origin", "https://app.test");
    let answer = world.browser.get("/api/x").await.is(200).lacks("access-control-allow-origin");
    assert!(varies(&answer).contains(&"origin".to_owned()), "{}", answer.describe());
    world.finish().await;
}
