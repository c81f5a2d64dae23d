//! A legacy app, proxied whole: it knows nothing of OpenID Connect, trusts its headers, and never sees who is not let in.

use http::Method;
use serde_json::json;
use vestibule::demo::provider::{Endpoint, JwtMutation, Kind, Mutation};

use crate::world::World;
use crate::world::live::{Socket, SocketUpstream, cookie, handshake};
use crate::world::upstream::Reply;

/// A world with one app behind everything, for the staff alone.
async fn world() -> World {
    let world = World::builder()
        .without_front_end()
        .config(|toml| {
            let rule = "unauthenticated = \"login\", identity_headers = \"oauth2-proxy\", authorization = \"remove\"";
            toml.text("routes.web", "base_path", "/.vestibule")
                .set("routes.web.paths", "\"/\"", &format!("{{ {rule}, allowed_groups = [\"staff\"] }}"))
                .set("routes.web.paths", "\"/static/\"", "{ unauthenticated = \"pass\" }")
                .set("routes.web.paths", "\"/tool/\"", "{ unauthenticated = \"login\", strip_prefix = \"/tool\" }")
        })
        .provider(|options| {
            options.clients[0] = options.clients[0].clone().redirect_uri("https://app.test/.vestibule/login/end");
        })
        .start();
    world.await
}

/// A login that begins with a page of the app.
async fn log_in(world: &World, user: &str, page: &str) {
    let picker = world.browser.navigate(page).await.is(200).says("Who are you?");
    let landed = world.browser.choose(&picker, user).await;
    assert_eq!(landed.url.as_str(), format!("https://app.test{page}"), "{}", landed.describe());
}

#[tokio::test]
async fn a_navigation_logs_in_on_its_way_and_the_app_is_told_who_comes() {
    let world = world().await;
    log_in(&world, "alice", "/wiki/page?edit=1&x=%20").await;
    assert_eq!(world.upstream.count(), 1, "the app sees nobody before the login");
    let seen = world.upstream.last();
    assert_eq!(seen.target(), "/wiki/page?edit=1&x=%20");
    assert_eq!(seen.header("x-forwarded-user"), Some("alice-0001"));
    assert_eq!(seen.header("x-forwarded-email"), Some("alice@example.com"));
    assert!(
        seen.header("x-forwarded-groups")
            .is_some_and(|groups| groups.split(',').any(|group| group == "staff"))
    );
    assert_eq!((seen.header("authorization"), seen.header("cookie")), (None, None));
    assert_eq!(seen.header("host"), Some("app.test"));

    // Its own logout, cookies and Basic dialogue are its own business; ours stay out of its sight.
    world.upstream.next(Reply::text("bye").header("set-cookie", "app=1; Path=/"));
    world.browser.get("/logout").await.is(200).says("bye");
    let ask = world
        .browser
        .post("/save")
        .header("authorization", "Basic dGhlaXJz")
        .header("x-forwarded-user", "root");
    ask.header("x_forwarded_user", "root")
        .header("x-auth-request-user", "root")
        .body("text=1")
        .await
        .is(200);
    let seen = world.upstream.last();
    assert_eq!((seen.method(), seen.body.as_slice()), ("POST", &b"text=1"[..]));
    assert_eq!((seen.header("authorization"), seen.header("cookie")), (None, Some("app=1")));
    assert!(!seen.head.contains("root"), "{}", seen.head);
    world.finish().await;
}

/// U17, Z10: whatever a provider says of a person is one header of the app's, or none; and so it is in JSON.
#[tokio::test]
async fn u17_z10_what_is_said_of_a_person_stays_what_it_is() {
    let world = world().await;
    let lie = |claim, value| {
        world
            .provider
            .mutate(Mutation::always(Endpoint::Token, Kind::IdToken(JwtMutation::SetClaim(claim, value))));
    };
    let odd = "x@example.com\r\nX-Admin: 1\r\n\r\n<script>\u{202e}\u{0}";
    lie("email", json!(odd));
    log_in(&world, "alice", "/wiki").await;
    let seen = world.upstream.last();
    let told = "x@example.com%0D%0AX-Admin: 1%0D%0A%0D%0A<script>%E2%80%AE%00";
    assert_eq!((seen.header("x-forwarded-email"), seen.header("x-admin")), (Some(told), None));
    let answer = world.browser.get("/.vestibule/userinfo").await.is(200).has("x-content-type-options", "nosniff");
    assert!(!answer.text().contains(['\r', '\n', '\0']), "{}", answer.describe());
    assert_eq!(answer.json()["email"], odd);

    let many: Vec<String> = std::iter::once("staff".to_owned()).chain((0..10_000).map(|at| format!("g{at}"))).collect();
    lie("groups", json!(many));
    let other = world.new_browser();
    let picker = other.navigate("/wiki").await.is(200).says("Who are you?");
    other.choose(&picker, "alice").await.refused(403, "forbidden");
    assert_eq!(world.upstream.count(), 1, "no app is told that much");
    world.finish().await;
}

#[tokio::test]
async fn only_navigations_are_sent_to_log_in_and_only_the_staff_gets_in() {
    let world = world().await;
    world.browser.get("/api/x").await.refused(401, "login_required");
    world.browser.fetch(Method::POST, "/save").await.refused(401, "login_required");
    assert_eq!(world.upstream.count(), 0);
    world.browser.get("/static/style.css").await.is(200);
    let seen = world.upstream.last();
    assert_eq!((seen.target(), seen.all("x-forwarded-user").len()), ("/static/style.css", 0));
    for ambiguous in ["/static/../secret", "/static/%2e%2e/secret", "/static//secret", "/static/..;/secret"] {
        let mut raw = world.raw().await;
        raw.write(format!("GET {ambiguous} HTTP/1.1\r\nHost: app.test\r\n\r\n")).await;
        assert!(raw.read_answer().await.starts_with("HTTP/1.1 400 "), "{ambiguous}");
    }
    let picker = world.browser.navigate("/wiki").await.is(200).says("Who are you?");
    world.browser.choose(&picker, "carol").await.refused(403, "forbidden");
    assert_eq!(world.upstream.count(), 1, "carol is not of the staff");
    world.finish().await;
}

#[tokio::test]
async fn what_the_app_says_about_where_it_is_passes_as_it_is() {
    let world = world().await;
    log_in(&world, "alice", "/").await;
    // Redirects are the app's own; a prefix that was cut is told, so that it can build them right.
    world.upstream.next(Reply::text("").status(302).header("location", "/next?x=1"));
    world.browser.get("/tool/start").stay().await.is(302).has("location", "/next?x=1");
    let seen = world.upstream.last();
    assert_eq!((seen.target(), seen.header("x-forwarded-prefix")), ("/start", Some("/tool")));
    assert_eq!((seen.header("x-forwarded-host"), seen.header("x-forwarded-proto")), (Some("app.test"), Some("https")));
    world.finish().await;
}

#[tokio::test]
async fn px_19_the_apps_sockets_are_for_those_who_may_see_the_app() {
    let upstream = SocketUpstream::start().await;
    let rule = format!(
        "{{ upstream = \"{}\", unauthenticated = \"login\", allowed_groups = [\"staff\"], identity_headers = \"oauth2-proxy\" }}",
        upstream.url()
    );
    let world = World::builder()
        .config(move |toml| toml.text("routes.web", "base_path", "/.vestibule").set("routes.web.paths", "\"/\"", &rule))
        .provider(|options| {
            options.clients[0] = options.clients[0].clone().redirect_uri("https://app.test/.vestibule/login/end");
        })
        .without_front_end()
        .start()
        .await;
    let shake = |browser| Socket::shake(&world, handshake(browser).header("origin", "https://app.test"));
    let refused = shake(&world.browser).await.err().unwrap();
    assert_eq!((refused.status().as_u16(), refused.headers().get("location")), (401, None));
    let carol = world.new_browser();
    let picker = carol.navigate("/.vestibule/login/start").await.is(200).says("Who are you?");
    carol.choose(&picker, "carol").await;
    assert!(!cookie(&carol).is_empty());
    assert_eq!(shake(&carol).await.err().unwrap().status(), 403);
    assert!(upstream.handshakes().is_empty());
    let picker = world.browser.navigate("/.vestibule/login/start").await.is(200).says("Who are you?");
    world.browser.choose(&picker, "alice").await;
    shake(&world.browser).await.unwrap().0.echoes("hello").await;
    let seen = upstream.handshakes().pop().unwrap();
    assert_eq!((&seen["x-forwarded-user"], seen.get("authorization")), (&"alice-0001".parse().unwrap(), None));
    world.finish().await;
}
