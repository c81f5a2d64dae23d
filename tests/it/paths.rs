//! Path rules (spec 3): who may pass, what the upstream is told of them, and what it is not (PX-5, PX-7, PX-12, CB-24,
//! H11 to H15, H23).

use http::Method;
use serde_json::json;
use vestibule::demo::provider::{Endpoint, JwtMutation, Kind, Mutation};

use crate::world::World;
use crate::world::browser::Browser;

/// A world with these path rules, in which every path goes to the sidecar.
async fn world(rules: &'static [(&'static str, &'static str)]) -> World {
    let builder = World::builder().config(move |toml| {
        toml.text("routes.web", "base_path", "/.vestibule").text(
            "routes.web",
            "home_url",
            "https://app.test/open/home",
        );
        for (prefix, rule) in rules {
            toml.set("routes.web.paths", &format!("\"{prefix}\""), rule);
        }
        toml.set("routes.web.paths", "\"/open/\"", "{ unauthenticated = \"pass\" }")
    });
    let builder = builder.provider(|options| {
        options.clients[0].redirect_uris.push("https://app.test/.vestibule/login/end".to_owned());
    });
    builder.without_front_end().start().await
}

/// Logs `user` in.
async fn member(world: &World, user: &str) -> Browser {
    let browser = world.new_browser();
    browser.navigate(&format!("/.vestibule/login/start?login_hint={user}")).await.is(200);
    browser
}

/// Gives the next logins' ID tokens this claim, and userinfo, too.
fn claim(world: &World, name: &'static str, value: serde_json::Value) {
    let lie = Kind::IdToken(JwtMutation::SetClaim(name, value.clone()));
    world.provider.mutate(Mutation::always(Endpoint::Token, lie));
    world.provider.mutate(Mutation::always(Endpoint::Userinfo, Kind::JsonSet(name, value)));
}

#[tokio::test]
async fn strangers_are_refused_sent_to_log_in_or_let_pass() {
    let world = world(&[("/app/", "{ unauthenticated = \"login\" }"), ("/api/", "{}")]).await;
    let browser = &world.browser;
    // "401", the default, for pages and scripts.
    browser
        .navigate("/api/x")
        .await
        .refused(401, "login_required")
        .has("content-type", "text/html; charset=utf-8");
    browser.get("/api/x").await.refused(401, "login_required");
    // "login": whoever navigates is sent there, everybody else is told.
    let answer = browser.navigate("/app/x?y=1").stay().await.is(302);
    assert_eq!(answer.location().path(), "/.vestibule/login/start");
    let old = browser.navigate("/app/x").without_metadata().stay().await.is(302);
    assert_eq!(old.location().path(), "/.vestibule/login/start");
    let head = browser
        .fetch(Method::HEAD, "/app/x")
        .header("sec-fetch-mode", "navigate")
        .header("sec-fetch-dest", "document");
    head.await.is(302);
    let told = browser.get("/app/x").await.refused(401, "login_required").lacks("location");
    assert_eq!(told.json()["login_url"], "https://app.test/.vestibule/login/start");
    browser
        .get("/app/x")
        .header("accept", "text/html")
        .await
        .refused(401, "login_required")
        .lacks("location");
    browser.get("/app/x").like_a_program().await.refused(401, "login_required").lacks("location");
    assert_eq!(world.upstream.count(), 0);
    // "pass": as nobody, without anything that could be taken for somebody.
    browser.get("/open/x").header("authorization", "Bearer theirs").await.is(200);
    assert_eq!(world.upstream.last().header("authorization"), None);
    world.finish().await;
}

#[tokio::test]
async fn a_form_without_a_session_is_told_to_log_in_elsewhere_and_not_redirected() {
    let world = world(&[("/app/", "{ unauthenticated = \"login\" }")]).await;
    let form = world
        .browser
        .post("/app/save")
        .header("sec-fetch-mode", "navigate")
        .header("sec-fetch-dest", "document");
    let page = form
        .header("accept", "text/html")
        .body("a=b")
        .await
        .refused(401, "login_required")
        .lacks("location");
    page.has("content-type", "text/html; charset=utf-8").says("new tab").says("send it again");
    assert_eq!(world.upstream.count(), 0);
    world.finish().await;
}

#[tokio::test]
async fn allowed_groups_let_members_pass_and_tell_others_that_they_are_known() {
    let world = world(&[
        ("/admin/", "{ allowed_groups = [\"admins\", \"owners\"], unauthenticated = \"login\" }"),
        ("/staff/", "{ allowed_groups = [\"staff\"] }"),
    ])
    .await;
    let [alice, bob, carol] =
        [member(&world, "alice").await, member(&world, "bob").await, member(&world, "carol").await];
    for (browser, admin, staff) in [(&alice, 200, 200), (&bob, 403, 200), (&carol, 403, 403)] {
        browser.get("/admin/x").await.is(admin);
        browser.get("/staff/x").await.is(staff);
    }
    // No redirect: logging in again would not help.
    bob.navigate("/admin/x").stay().await.refused(403, "forbidden").lacks("location").says("signed in");
    let problem = bob.get("/admin/x").await.refused(403, "forbidden").has("content-type", "application/problem+json");
    assert!(!problem.text().contains("admins"), "the rule is not the user's to know");
    world.finish().await;
}

#[tokio::test]
async fn groups_come_from_the_configured_claim() {
    let builder = World::builder().config(|toml| {
        toml.text("routes.web", "groups_claim", "realm_access.roles").set(
            "routes.web.paths",
            "\"/api/\"",
            "{ allowed_groups = [\"user\"], identity_headers = \"oauth2-proxy\" }",
        )
    });
    let world = builder.start().await;
    world.browser.login("carol").await;
    world.browser.get("/api/me").await.is(200);
    assert_eq!(world.upstream.last().header("x-forwarded-groups"), Some("user"));
    world.finish().await;
}

#[tokio::test]
async fn cb_24_u12_allowed_email_domains_want_one_verified_address() {
    let world = world(&[("/api/", "{ allowed_email_domains = [\"Example.com\"] }")]).await;
    for (email, verified, status) in [
        (json!("dora@example.com"), json!(true), 200),
        (json!("dora@EXAMPLE.COM"), json!(true), 200),
        (json!("dora@example.com"), json!("true"), 200),
        (json!("dora@example.com"), json!(false), 403),
        (json!("dora@example.com"), json!("false"), 403),
        (json!("dora@example.com"), json!(1), 403),
        (json!("dora@evil.test@example.com"), json!(true), 403),
        (json!("dora@example.com@evil.test"), json!(true), 403),
        (json!("dora@sub.example.com"), json!(true), 403),
        (json!("dora@evilexample.com"), json!(true), 403),
        (json!("@example.com"), json!(true), 403),
        (json!("example.com"), json!(true), 403),
        (json!(["dora@example.com"]), json!(true), 403),
    ] {
        world.provider.clear_mutations();
        claim(&world, "email", email.clone());
        claim(&world, "email_verified", verified.clone());
        let answer = member(&world, "alice").await.get("/api/x").await;
        assert_eq!(answer.status.as_u16(), status, "{email} {verified}: {}", answer.describe());
    }
    world.finish().await;
}

#[tokio::test]
async fn required_claims_descend_at_dots_and_look_into_lists() {
    let world = world(&[
        ("/it/", "{ required_claims = { department = [\"it\", \"hr\"] } }"),
        ("/both/", "{ required_claims = { department = [\"it\"], \"realm_access.roles\" = [\"admins\"] } }"),
    ])
    .await;
    for (department, user, first, second) in [
        (json!("it"), "alice", 200, 200),
        (json!("it"), "bob", 200, 403),
        (json!(["x", "hr"]), "alice", 200, 403),
        (json!("IT"), "alice", 403, 403),
        (json!({ "it": true }), "alice", 403, 403),
        (json!(null), "alice", 403, 403),
    ] {
        world.provider.clear_mutations();
        claim(&world, "department", department.clone());
        let browser = member(&world, user).await;
        for (path, status) in [("/it/x", first), ("/both/x", second)] {
            let answer = browser.get(path).await;
            assert_eq!(answer.status.as_u16(), status, "{path} {department}: {}", answer.describe());
        }
    }
    world.finish().await;
}

#[tokio::test]
async fn px_7_identity_headers_say_who_it_is_and_only_we_say_them() {
    let world = world(&[
        ("/proxy/", "{ identity_headers = \"oauth2-proxy\" }"),
        ("/authelia/", "{ identity_headers = \"authelia\", unauthenticated = \"pass\" }"),
        ("/own/", "{ identity_headers = { \"X-Auth-User\" = \"preferred_username\", \"X-Auth-Role\" = \"realm_access.roles\" } }"),
    ])
    .await;
    let alice = member(&world, "alice").await;
    alice.get("/proxy/x").header("x-forwarded-user", "evil").await.is(200);
    let seen = world.upstream.last();
    assert_eq!(seen.header("x-forwarded-user"), Some("alice-0001"));
    assert_eq!(seen.header("x-forwarded-email"), Some("alice@example.com"));
    assert_eq!(seen.header("x-forwarded-preferred-username"), Some("alice"));
    assert_eq!(seen.header("x-forwarded-groups"), Some("staff,admins"));
    alice.get("/authelia/x").header("remote-user", "evil").header("remote_groups", "evil").await.is(200);
    let seen = world.upstream.last();
    assert_eq!((seen.header("remote-user"), seen.header("remote-name")), (Some("alice"), Some("Alice Adams")));
    alice.get("/own/x").await.is(200);
    let seen = world.upstream.last();
    assert_eq!((seen.header("x-auth-user"), seen.header("x-auth-role")), (Some("alice"), Some("staff,admins,user")));
    // H01 to H04, also where nobody is logged in and nothing would overwrite them.
    let spellings = ["Remote-User", "Remote_User", "REMOTE.USER", "Remote-Zzz", "remote_email", "Remote-Groups"];
    let ask = spellings.iter().fold(world.browser.get("/authelia/x"), |ask, name| ask.header(name, "evil"));
    ask.await.is(200);
    assert!(!world.upstream.last().head.contains("evil"), "{}", world.upstream.last().head);
    let spellings = ["X_Auth_User", "X.Auth.User", "x-auth_user", "X-Auth-Zzz", "X-AUTH-ROLE", "x-auth-role"];
    let ask = spellings.iter().fold(alice.get("/own/x"), |ask, name| ask.header(name, "evil"));
    ask.await.is(200);
    assert!(!world.upstream.last().head.contains("evil"), "{}", world.upstream.last().head);
    // A path without identity tells none.
    alice.get("/open/x").await.is(200);
    assert!(!world.upstream.last().head.contains("alice"), "{}", world.upstream.last().head);
    world.finish().await;
}

#[tokio::test]
async fn h14_h15_no_claim_ends_a_header_or_adds_a_group() {
    let world =
        world(&[("/api/", "{ identity_headers = { \"X-Name\" = \"name\", \"X-Groups\" = \"groups\" } }")]).await;
    claim(&world, "name", json!("Zoë\r\nX-Admin: 1\u{0}\u{7f}"));
    claim(&world, "groups", json!(["a,admin", "b c", "x\ny"]));
    member(&world, "alice").await.get("/api/x").await.is(200);
    let seen = world.upstream.last();
    assert_eq!(seen.header("x-admin"), None);
    assert_eq!(seen.header("x-name"), Some("Zo%C3%AB%0D%0AX-Admin: 1%00%7F"));
    assert_eq!(seen.header("x-groups"), Some("a%2Cadmin,b c,x%0Ay"));
    // Too much is refused, not cut: half a list of groups would be another list.
    claim(&world, "groups", json!((0..2_000).map(|number| format!("group-{number}")).collect::<Vec<_>>()));
    member(&world, "alice").await.get("/api/x").await.refused(403, "forbidden");
    world.finish().await;
}

#[tokio::test]
async fn h11_authorization_is_replaced_removed_or_left_as_the_path_says() {
    let world = world(&[
        ("/api/", "{}"),
        ("/app/", "{}"),
        ("/app/api/", "{ authorization = \"bearer\" }"),
        ("/api/none/", "{ authorization = \"remove\" }"),
        ("/own/", "{ authorization = \"pass\", unauthenticated = \"pass\" }"),
    ])
    .await;
    let alice = member(&world, "alice").await;
    for (path, expected) in [
        ("/api/x", "Bearer ey"),
        ("/app/x", ""),
        ("/app/api/x", "Bearer ey"),
        ("/api/none/x", ""),
        ("/own/x", "Basic dGhlaXJz"),
    ] {
        alice
            .get(path)
            .header("authorization", "Basic dGhlaXJz")
            .header("proxy-authorization", "Basic eA==")
            .await
            .is(200);
        let seen = world.upstream.last();
        let found = seen.header("authorization").unwrap_or_default();
        assert!(found.starts_with(expected) && found.is_empty() == expected.is_empty(), "{path}: {found:.12}");
        assert_eq!(seen.header("proxy-authorization"), None);
    }
    let twice = alice.get("/api/x").header("authorization", "Basic a").header("authorization", "Basic b");
    assert_eq!(twice.await.status.as_u16(), 400, "H12");
    world.finish().await;
}

#[tokio::test]
async fn px_12_h23_methods_are_those_of_the_rule() {
    let world = world(&[("/read/", "{ methods = [\"GET\", \"HEAD\"] }"), ("/api/", "{}")]).await;
    let alice = member(&world, "alice").await;
    for method in [Method::POST, Method::PUT, Method::DELETE, Method::PATCH, Method::OPTIONS] {
        let answer = alice.fetch(method.clone(), "/read/x").await.refused(405, "method_not_allowed");
        assert_eq!(answer.header("allow"), Some("GET, HEAD"), "{}", answer.describe());
        alice.fetch(method, "/api/x").await.is(200);
    }
    alice.get("/read/x").header("x-http-method-override", "DELETE").await.is(200);
    assert_eq!((world.upstream.last().method(), world.upstream.last().header("x-http-method-override")), ("GET", None));
    alice.fetch(Method::HEAD, "/read/x").await.is(200);
    // A stranger learns that before anything about logins.
    world.browser.post("/read/x").await.refused(405, "method_not_allowed");
    world.finish().await;
}

#[tokio::test]
async fn the_longest_prefix_of_whole_segments_wins() {
    let world = world(&[
        ("/api/", "{ strip_prefix = \"/api\" }"),
        ("/api/v2/", "{ strip_prefix = \"/api/v2\", allowed_groups = [\"admins\"] }"),
        ("/apiary/", "{}"),
    ])
    .await;
    let bob = member(&world, "bob").await;
    for (asked, seen) in [
        ("/api/things?x=%2F", "/things?x=%2F"),
        ("/api/", "/"),
        ("/api", "/"),
        ("/api?q", "/?q"),
        ("/api/v20/x", "/v20/x"),
        ("/apiary/x", "/apiary/x"),
    ] {
        bob.get(asked).await.is(200);
        assert_eq!(world.upstream.last().target(), seen, "{asked}");
    }
    assert_eq!(world.upstream.last().header("x-forwarded-prefix"), None);
    bob.get("/api/v2/x").await.refused(403, "forbidden");
    bob.get("/api/v2").await.refused(403, "forbidden");
    let alice = member(&world, "alice").await;
    alice.get("/api/v2/x").await.is(200);
    assert_eq!(
        (world.upstream.last().target(), world.upstream.last().header("x-forwarded-prefix")),
        ("/x", Some("/api/v2"))
    );
    world.finish().await;
}
