//! What a request shows as its bearer, what is asked of it beside being good, and what the upstream is told.

use http::Method;
use serde_json::json;
use vestibule::demo::provider::JwtMutation::{RemoveClaim, SetClaim};

use super::{API, call, call_at, challenge, header, status, token, usual, verdict, world};
use crate::world::World;

const METADATA: &str = "resource_metadata=\"https://api.test/.well-known/oauth-protected-resource\"";

/// Asks with raw `Authorization` lines; the answer as it came.
async fn raw(world: &World, target: &str, lines: &[&str]) -> String {
    let mut raw = world.raw().await;
    let lines: String = lines.iter().map(|line| format!("{line}\r\n")).collect();
    raw.write(format!("GET {target} HTTP/1.1\r\nHost: api.test\r\n{lines}\r\n")).await;
    raw.read_answer().await
}

/// JV-1, JV-4; B28, B29: whoever shows nothing is told where to get a token, and of no error.
#[tokio::test]
async fn jv_1_jv_3_jv_4_b28_b29_without_a_bearer_there_is_a_challenge_and_no_error() {
    let world = usual().await;
    for (target, lines) in [
        ("/things/1", &[][..]),
        ("/things/1", &["Authorization: Basic YTpi"]),
        ("/things/1", &["Authorization: DPoP x"]),
        ("/things/1?access_token=x", &[]),
        ("/things/1", &["Cookie: access_token=x"]),
    ] {
        let answer = raw(&world, target, lines).await;
        assert_eq!(status(&answer), 401, "{lines:?}: {answer}");
        assert_eq!(header(&answer, "www-authenticate").unwrap(), format!("Bearer realm=\"{API}\", {METADATA}"));
        assert_eq!(header(&answer, "vestibule-error"), Some("bearer_required"));
        assert_eq!((header(&answer, "location"), header(&answer, "set-cookie")), (None, None));
        let owned: Vec<String> = lines.iter().map(|line| (*line).to_owned()).collect();
        let asked = verdict(&world, target, &owned).await;
        assert_eq!((status(&asked), header(&asked, "www-authenticate").is_some()), (401, true), "{asked}");
    }
    // A token in a form is none, and the body is not even looked at: it belongs to the upstream (RFC 9700 4.3.2).
    let form = format!("access_token={}", token(&world, &[]));
    let ask = world.new_browser().post(&format!("{API}/things/1")).like_a_program();
    ask.header("content-type", "application/x-www-form-urlencoded")
        .body(form)
        .await
        .refused(401, "bearer_required");
    // A person who opens it sees a page, with the same challenge.
    let page = world.new_browser().navigate(&format!("{API}/things/1")).await.refused(401, "bearer_required");
    assert!(challenge(&page).contains(METADATA));
    page.says("for programs");
    assert_eq!(world.upstream.recorded().len(), 0);
    world.finish().await;
}

/// JV-2, JV-4; B30, B31, B41.
#[tokio::test]
async fn jv_2_b30_b31_b41_what_can_be_read_in_two_ways_is_refused() {
    let world = usual().await;
    let good = token(&world, &[]);
    for scheme in ["Bearer", "bearer", "BEARER"] {
        assert_eq!(status(&raw(&world, "/things/1", &[&format!("Authorization: {scheme} {good}")]).await), 200);
    }
    let line = format!("Authorization: Bearer {good}");
    let (start, end) = good.split_at(40);
    for lines in [
        vec![line.clone(), line.clone()],
        vec![line.clone(), "Authorization: Basic YTpi".to_owned()],
        vec!["Authorization: Bearer".to_owned()],
        vec![format!("Authorization: Bearer  {good}")],
        vec![format!("Authorization: Bearer\t{good}")],
        vec![format!("Authorization: Bearer,{good}")],
        vec![format!("Authorization: Bearer {good},{good}")],
        vec![format!("Authorization: Bearer {good} {good}")],
        vec![format!("Authorization: Bearer {start} {end}")],
        vec![format!("Authorization: Bearer {start}\t{end}")],
        vec![format!("Authorization: Bearer \"{good}\"")],
        vec![format!("Authorization: Bearer {good}=x")],
    ] {
        let texts: Vec<&str> = lines.iter().map(String::as_str).collect();
        let answer = raw(&world, "/things/1", &texts).await;
        assert_eq!((status(&answer), header(&answer, "vestibule-error")), (400, Some("invalid_request")), "{answer}");
        assert!(header(&answer, "www-authenticate").unwrap().contains("error=\"invalid_request\""), "{answer}");
        let asked = verdict(&world, "/things/1", &lines).await;
        assert_eq!((status(&asked), header(&asked, "vestibule-error")), (403, Some("invalid_request")), "{asked}");
    }
    let answer = raw(&world, "/things/1?a=1&access_token=x", &[&line]).await;
    assert_eq!(status(&answer), 400, "{answer}");
    // A line break would end the header, and what follows is no header.
    let folded = format!("Authorization: Bearer {start}\r\n {end}");
    assert_eq!(status(&raw(&world, "/things/1", &[&folded]).await), 400);
    assert_eq!(world.upstream.recorded().len(), 3);
    world.finish().await;
}

/// JV-6; B27: scopes as RFC 9068 writes them, and as others do.
#[tokio::test]
async fn jv_6_b27_scopes_are_asked_for_by_name() {
    let world = world(|toml| toml.set("routes.things", "required_scopes", "[\"read\", \"admin\"]")).await;
    let with = |name: &'static str, value| token(&world, &[RemoveClaim("scope"), SetClaim(name, value)]);
    for (name, value) in [
        ("scope", json!("admin read")),
        ("scope", json!("read admin write")),
        ("scope", json!(["read", "admin"])),
        ("scp", json!(["read", "admin"])),
        ("scp", json!("read admin")),
    ] {
        call(&world, &with(name, value)).await.is(200);
    }
    for (name, value) in [
        ("scope", json!("read")),
        ("scope", json!("")),
        ("scope", json!("readadmin")),
        ("scope", json!("read,admin")),
        ("scope", json!("READ ADMIN")),
        ("scope", json!(5)),
        ("scope", json!(["read admin"])),
        ("scp", json!({"read": true, "admin": true})),
        ("other", json!("read admin")),
    ] {
        let token = with(name, value);
        let answer = call(&world, &token).await.refused(403, "insufficient_scope");
        let expected =
            format!("Bearer realm=\"{API}\", error=\"insufficient_scope\", scope=\"read admin\", {METADATA}");
        assert_eq!(challenge(&answer), expected);
        let asked = verdict(&world, "/x", &[format!("Authorization: Bearer {token}")]).await;
        assert_eq!((status(&asked), header(&asked, "www-authenticate")), (403, Some(expected.as_str())), "{asked}");
    }
    // `scp` is read only where there is no `scope`: two lists could say two things.
    let both = token(&world, &[SetClaim("scope", json!("read")), SetClaim("scp", json!("read admin"))]);
    call(&world, &both).await.refused(403, "insufficient_scope");
    world.finish().await;
}

/// The clients that a token may have been issued to.
#[tokio::test]
async fn a_token_of_a_client_that_is_not_listed_is_refused() {
    let world = world(|toml| toml.set("routes.things", "authorized_parties", "[\"cli\"]")).await;
    call(&world, &token(&world, &[])).await.is(200);
    call(&world, &token(&world, &[SetClaim("azp", json!("cli")), SetClaim("client_id", json!("x"))]))
        .await
        .is(200);
    for changes in [
        vec![SetClaim("client_id", json!("other"))],
        vec![RemoveClaim("client_id")],
        vec![SetClaim("azp", json!("other"))],
        vec![SetClaim("azp", json!(["cli"]))],
    ] {
        call(&world, &token(&world, &changes)).await.refused(401, "invalid_token");
    }
    world.finish().await;
}

/// PX-6, PX-7, DV-4 for bearers: the verified bearer goes on as it came, our cookies do not, and headers say who it is.
#[tokio::test]
async fn the_upstream_gets_the_bearer_as_it_came_and_identity_headers_of_the_token() {
    let world = world(|toml| {
        toml.set("routes.things.paths", "\"/\"", "{ identity_headers = \"oauth2-proxy\" }").set(
            "routes.things.paths",
            "\"/quiet/\"",
            "{ authorization = \"remove\" }",
        )
    })
    .await;
    let token = token(&world, &[]);
    let ask = world.new_browser().fetch(Method::POST, &format!("{API}/things/1?q=%20&q=2")).without_metadata();
    let ask = ask
        .header("authorization", &format!("bearer {token}"))
        .header("x-forwarded-user", "mallory")
        .header("x_forwarded_groups", "root")
        .header("dpop", "x")
        .header("cookie", "__Host-Http-vestibule-web=x; theme=dark")
        .body("a body");
    ask.await.is(200);
    let seen = world.upstream.last();
    assert_eq!(seen.header("authorization"), Some(format!("bearer {token}").as_str()));
    assert_eq!(seen.header("x-forwarded-user"), Some("alice-0001"));
    assert_eq!(seen.header("x-forwarded-groups"), Some("staff,admins"));
    assert_eq!((seen.header("x_forwarded_groups"), seen.header("dpop")), (None, None));
    assert!(seen.head.starts_with("POST /things/1?q=%20&q=2 "), "{}", seen.head);
    call_at(&world, "/quiet/x", &token).await.is(200);
    assert_eq!(world.upstream.last().header("authorization"), None);
    world.finish().await;
}

/// FA-16 for bearers: groups, claims, domains and methods are judged on the token's claims.
#[tokio::test]
async fn path_rules_are_judged_on_the_claims_of_the_token() {
    let world = world(|toml| {
        toml.text("routes.things", "groups_claim", "realm_access.roles")
            .set("routes.things.paths", "\"/staff/\"", "{ allowed_groups = [\"staff\"] }")
            .set(
                "routes.things.paths",
                "\"/claims/\"",
                "{ required_claims = { client_id = \"cli\", org = [\"a\", \"b\"] } }",
            )
            .set("routes.things.paths", "\"/mail/\"", "{ allowed_email_domains = [\"example.com\"] }")
            .set("routes.things.paths", "\"/read/\"", "{ methods = [\"GET\"] }")
            .set("routes.things.paths", "\"/open/\"", "{ unauthenticated = \"pass\" }")
    })
    .await;
    let alice = token(&world, &[]);
    let carol = world.provider.access_token(("carol", "cli"), &["read"], &[]).unwrap();
    call_at(&world, "/staff/x", &alice).await.is(200);
    let forbidden = call_at(&world, "/staff/x", &carol).await.refused(403, "forbidden");
    assert_eq!(forbidden.header("www-authenticate"), None);
    call_at(&world, "/claims/x", &alice).await.refused(403, "forbidden");
    call_at(&world, "/claims/x", &token(&world, &[SetClaim("org", json!(["z", "b"]))])).await.is(200);
    call_at(&world, "/mail/x", &alice).await.refused(403, "forbidden");
    let mail = [SetClaim("email", json!("a@example.com")), SetClaim("email_verified", json!(true))];
    call_at(&world, "/mail/x", &token(&world, &mail)).await.is(200);
    let post = world.new_browser().post(&format!("{API}/read/x")).without_metadata();
    post.header("authorization", &format!("Bearer {alice}"))
        .await
        .refused(405, "method_not_allowed")
        .has("allow", "GET");
    // Where nobody may pass, a bad bearer is still a bad one, and what is not ours does not go on.
    assert_eq!(status(&raw(&world, "/open/x", &["Authorization: Basic YTpi"]).await), 200);
    assert_eq!(world.upstream.last().header("authorization"), None);
    call_at(&world, "/open/x", "not-a-token").await.refused(401, "invalid_token");
    call_at(&world, "/elsewhere", &alice).await.refused(404, "not_found");
    world.finish().await;
}

/// §4.5 for verify routes: 204, the mark, who it is, and the bearer.
#[tokio::test]
async fn fa_1_fa_9_a_verdict_tells_who_the_bearer_is_each_once() {
    let world = world(|toml| {
        toml.set("routes.things.paths", "\"/\"", "{ identity_headers = \"authelia\" }").set(
            "routes.things.paths",
            "\"/open/\"",
            "{ unauthenticated = \"pass\", authorization = \"remove\" }",
        )
    })
    .await;
    let changes = [SetClaim("email", json!("alice@example.com")), SetClaim("name", json!("Zo\u{eb}, 100%"))];
    let token = token(&world, &changes);
    let line = [format!("Authorization: Bearer {token}")];
    for _ in 0..2 {
        let answer = verdict(&world, "/x?y=z", &line).await;
        assert_eq!((status(&answer), header(&answer, "vestibule-verdict")), (204, Some("allow")), "{answer}");
        for (name, value) in [
            ("vestibule-subject", "alice-0001"),
            ("vestibule-user", "alice"),
            ("vestibule-groups", "staff,admins"),
            ("vestibule-email", "alice@example.com"),
            ("vestibule-name", "Zo%C3%AB, 100%25"),
            ("remote-user", "alice"),
            ("vestibule-authorization", &format!("Bearer {token}")),
        ] {
            let lines = answer.lines().filter(|line| line.to_ascii_lowercase().starts_with(&format!("{name}: ")));
            assert_eq!((header(&answer, name), lines.count()), (Some(value), 1), "{name} in {answer}");
        }
        assert!(answer.ends_with("\r\n\r\n"), "{answer}");
    }
    let open = verdict(&world, "/open/x", &line).await;
    assert_eq!((status(&open), header(&open, "vestibule-authorization")), (204, None), "{open}");
    let nobody = verdict(&world, "/open/x", &[]).await;
    assert_eq!((status(&nobody), header(&nobody, "vestibule-subject")), (204, None), "{nobody}");
    world.finish().await;
}

/// A bearer and a session never meet: on a route with sessions a bearer is nobody, and the other way round.
#[tokio::test]
async fn fa_9_px_5_a_bearer_opens_no_session_route_and_a_session_opens_no_bearer_route() {
    let world = usual().await;
    let token = token(&world, &[]);
    let ask = world.new_browser().get("/api/me").header("authorization", &format!("Bearer {token}"));
    ask.await.refused(401, "login_required");
    world.browser.login("alice").await;
    world.browser.get(&format!("{API}/things/1")).await.refused(401, "bearer_required");
    world.finish().await;
}

/// DV-6: other sites cannot borrow what no cookie carries, so nothing is asked about where a request comes from.
#[tokio::test]
async fn a_bearer_needs_no_origin() {
    let world = usual().await;
    let token = token(&world, &[]);
    let ask = world.browser.fetch_from("https://elsewhere.test", Method::POST, &format!("{API}/things/1"));
    ask.header("authorization", &format!("Bearer {token}")).await.is(200);
    world.finish().await;
}
