//! Verdicts for Caddy's `forward_auth`: 204 with our mark for those who may pass, anything but a 2xx for all others.

use std::net::SocketAddr;
use std::time::Duration;

use vestibule::demo::provider::Endpoint;

use crate::world::World;
use crate::world::raw::Raw;

const VERDICTS: &str = "127.0.0.3:0";

/// A world whose route gives verdicts by these path rules.
async fn world(paths: &'static [(&'static str, &'static str)]) -> World {
    let builder = World::builder().config(move |toml| {
        toml.text("server", "verdict_listen", VERDICTS);
        toml.text("routes.web", "base_path", "/.vestibule").unset("routes.web", "upstream");
        for (prefix, rule) in paths {
            toml.set("routes.web.paths", &format!("\"{prefix}\""), rule);
        }
        toml
    });
    let builder = builder.provider(|options| {
        for client in &mut options.clients {
            *client = client
                .clone()
                .redirect_uri("https://app.test/.vestibule/login/end")
                .post_logout_redirect_uri("https://app.test/.vestibule/logout/end");
        }
    });
    builder.without_front_end().start().await
}

/// A question of Caddy's.
struct Question {
    address: SocketAddr,
    lines: Vec<String>,
    target: &'static str,
}

async fn question(world: &World, method: &str, uri: &str) -> Question {
    let lines =
        ["Host: app.test".to_owned(), "X-Forwarded-For: 203.0.113.7".to_owned(), "X-Forwarded-Proto: https".to_owned()];
    let asked = [
        format!("X-Forwarded-Method: {method}"),
        format!("X-Forwarded-Uri: {uri}"),
        "X-Forwarded-Host: app.test".to_owned(),
    ];
    let address = world.bound(VERDICTS).await;
    Question { address, lines: lines.into_iter().chain(asked).collect(), target: "/web" }
}

impl Question {
    fn line(mut self, line: &str) -> Self {
        self.lines.push(line.to_owned());
        self
    }

    fn without(mut self, name: &str) -> Self {
        self.lines.retain(|line| !line.to_ascii_lowercase().starts_with(&name.to_ascii_lowercase()));
        self
    }

    fn at(mut self, target: &'static str) -> Self {
        self.target = target;
        self
    }

    /// With the cookies of a browser.
    fn by(self, browser: &crate::world::browser::Browser) -> Self {
        let cookies: Vec<String> =
            browser.cookies().iter().map(|cookie| format!("{}={}", cookie.name, cookie.value)).collect();
        self.line(&format!("Cookie: {}", cookies.join("; ")))
    }

    async fn ask(self) -> String {
        self.ask_by("GET").await
    }

    async fn ask_by(self, method: &str) -> String {
        let head = format!("{method} {} HTTP/1.1\r\n{}\r\n\r\n", self.target, self.lines.join("\r\n"));
        let mut raw = Raw::connect(self.address).await;
        raw.write(head).await;
        raw.read_answer().await
    }
}

fn status(answer: &str) -> u16 {
    answer
        .split(' ')
        .nth(1)
        .and_then(|code| code.parse().ok())
        .unwrap_or_else(|| panic!("no answer: {answer:?}"))
}

fn header<'a>(answer: &'a str, name: &str) -> Vec<&'a str> {
    let lines = answer.split("\r\n\r\n").next().unwrap().lines().skip(1);
    lines
        .filter_map(|line| line.split_once(": "))
        .filter(|(key, _)| key.eq_ignore_ascii_case(name))
        .map(|(_, value)| value)
        .collect()
}

async fn login(world: &World) {
    // The way home ends at a path that only Caddy serves.
    world.browser.navigate("/.vestibule/login/start?login_hint=alice").await.is(404);
    assert!(world.browser.cookies().iter().any(|cookie| cookie.name == "__Host-Http-vestibule-web"));
}

#[tokio::test]
async fn fa_1_a01_a_session_is_allowed_by_204_our_mark_and_each_header_once() {
    let world = world(&[("/", "{}")]).await;
    login(&world).await;
    let answer = question(&world, "GET", "/wiki?x=1").await.by(&world.browser).ask().await;
    assert_eq!(status(&answer), 204, "{answer}");
    assert_eq!(header(&answer, "vestibule-verdict"), ["allow"]);
    for name in ["vestibule-user", "vestibule-email", "vestibule-groups", "vestibule-subject"] {
        assert_eq!(header(&answer, name).len(), 1, "{name}: {answer}");
    }
    assert!(header(&answer, "set-cookie").is_empty() && answer.ends_with("\r\n\r\n"), "FA-12, no body: {answer}");
    assert!(header(&answer, "vestibule-authorization").is_empty(), "only where the rule asks for a bearer: {answer}");
    world.finish().await;
}

#[tokio::test]
async fn fa_2_nobody_is_sent_to_log_in_or_refused_and_never_let_through() {
    let world = world(&[
        ("/", "{ unauthenticated = \"login\" }"),
        ("/strict/", "{}"),
        ("/public/", "{ unauthenticated = \"pass\" }"),
    ])
    .await;
    let page = question(&world, "GET", "/wiki?x=1").await.line("Sec-Fetch-Mode: navigate").ask().await;
    assert_eq!(status(&page), 302, "{page}");
    let back = "https://app.test/.vestibule/login/start?redirect=https%3A%2F%2Fapp.test%2Fwiki%3Fx%3D1";
    assert_eq!(header(&page, "location"), [back]);
    let form = question(&world, "POST", "/wiki")
        .await
        .line("Accept: text/html")
        .line("Origin: https://app.test")
        .ask()
        .await;
    assert_eq!(status(&form), 401, "a redirect would lose the body: {form}");
    let fetch = question(&world, "GET", "/wiki").await.line("Accept: */*").ask().await;
    assert_eq!((status(&fetch), header(&fetch, "content-type")), (401, vec!["application/problem+json"]));
    let strict = question(&world, "GET", "/strict/x").await.line("Accept: text/html").ask().await;
    assert_eq!(status(&strict), 401);
    let public = question(&world, "GET", "/public/logo").await.ask().await;
    assert_eq!((status(&public), header(&public, "vestibule-user").len()), (204, 0), "{public}");
    world.finish().await;
}

#[tokio::test]
async fn fa_4_a11_a_question_that_is_not_caddys_is_refused() {
    let world = world(&[("/", "{ unauthenticated = \"pass\" }")]).await;
    assert_eq!(status(&question(&world, "GET", "/x").await.ask().await), 204);
    for name in ["X-Forwarded-Uri", "X-Forwarded-Method", "X-Forwarded-Host"] {
        let missing = question(&world, "GET", "/x").await.without(name).ask().await;
        assert_eq!(status(&missing), 401, "{name} missing: {missing}");
        let twice = question(&world, "GET", "/x").await.line(&format!("{name}: app.test")).ask().await;
        assert_eq!(status(&twice), 401, "{name} twice: {twice}");
        let empty = question(&world, "GET", "/x").await.without(name).line(&format!("{name}: ")).ask().await;
        assert!(matches!(status(&empty), 401 | 403), "{name} empty: {empty}");
    }
    for uri in ["x", "http://app.test/x", "*", "/\\x\\..", "/a b"] {
        let odd = question(&world, "GET", uri).await.ask().await;
        let wanted: &[u16] = if uri == "/\\x\\.." { &[204, 403] } else { &[403] };
        assert!(wanted.contains(&status(&odd)), "{uri}: {odd}");
    }
    world.finish().await;
}

#[tokio::test]
async fn fa_5_a25_nothing_is_read_from_the_query_and_a_route_is_known_by_its_name() {
    let world = world(&[("/", "{}")]).await;
    let named = question(&world, "GET", "/x").await.at("/web?route=open&unauthenticated=pass").ask().await;
    assert_eq!(status(&named), 401, "{named}");
    for target in ["/", "/other", "/web/", "/WEB", "/web/../web"] {
        let unknown = question(&world, "GET", "/x").await.at(target).ask().await;
        assert_eq!(status(&unknown), 403, "{target}: {unknown}");
    }
    world.finish().await;
}

#[tokio::test]
async fn fa_7_fa_15_another_host_and_another_method_are_refused() {
    let world = world(&[("/", "{}")]).await;
    login(&world).await;
    let by = |question: Question| question.by(&world.browser);
    let upper = by(question(&world, "GET", "/x")
        .await
        .without("X-Forwarded-Host")
        .line("X-Forwarded-Host: APP.test:443"));
    assert_eq!(status(&upper.ask().await), 204, "hosts are compared without case and default port");
    for host in ["evil.test", "app.test.evil", "xapp.test", "app.test:8443"] {
        let foreign = by(question(&world, "GET", "/x")
            .await
            .without("X-Forwarded-Host")
            .line(&format!("X-Forwarded-Host: {host}")));
        let answer = foreign.ask().await;
        assert_eq!((status(&answer), header(&answer, "vestibule-error")), (403, vec!["host_mismatch"]), "{host}");
    }
    let posted = by(question(&world, "GET", "/x").await.line("Content-Length: 0")).ask_by("POST").await;
    assert_eq!(status(&posted), 403);
    world.finish().await;
}

#[tokio::test]
async fn fa_6_a14_a17_no_spelling_of_a_path_makes_it_public() {
    let world = world(&[("/", "{}"), ("/public/", "{ unauthenticated = \"pass\" }")]).await;
    assert_eq!(status(&question(&world, "GET", "/public/x").await.ask().await), 204);
    for uri in [
        "/private?x=/public/",
        "/private#/public/",
        "/private%23/public/",
        "/PUBLIC/x",
        "/%70ublic/x",
        "/public/../private",
        "/public/%2e%2e/private",
        "/public//..",
        "/public/..;/private",
        "/public/..%2fprivate",
        "/public%2f..%2fprivate",
        "/public/%5c../private",
        "//public/x",
        "/publicity",
        "/public/./../private",
    ] {
        let answer = question(&world, "GET", uri).await.ask().await;
        assert!(matches!(status(&answer), 401 | 403), "{uri}: {answer}");
    }
    world.finish().await;
}

#[tokio::test]
async fn fa_13_a16_a26_a27_preflights_upgrades_and_expectations_get_plain_answers() {
    let world = world(&[("/", "{}")]).await;
    login(&world).await;
    let preflight = question(&world, "OPTIONS", "/x").await.by(&world.browser);
    let preflight = preflight.line("Origin: https://app.test").line("Access-Control-Request-Method: PUT").ask().await;
    assert_eq!(status(&preflight), 401, "{preflight}");
    let upgrade =
        |origin: &str| ["Connection: Upgrade".to_owned(), "Upgrade: websocket".to_owned(), format!("Origin: {origin}")];
    for (origin, expected) in [("https://app.test", 204), ("https://evil.test", 403)] {
        let mut asked = question(&world, "GET", "/ws").await.by(&world.browser);
        asked.lines.extend(upgrade(origin));
        let answer = asked.ask().await;
        assert_eq!(status(&answer), expected, "{origin}: {answer}");
    }
    let expecting = question(&world, "POST", "/x").await.by(&world.browser).line("Origin: https://app.test");
    let answer = expecting.line("Expect: 100-continue").ask().await;
    assert_eq!(status(&answer), 204, "answered at once: {answer}");
    world.finish().await;
}

#[tokio::test]
async fn fa_8_fa_9_a13_neither_a_user_agent_nor_a_bearer_is_a_login() {
    let world = world(&[("/", "{}")]).await;
    for agent in ["kube-probe/1.29", "GoogleHC/1.0", "ELB-HealthChecker/2.0"] {
        let answer = question(&world, "GET", "/x").await.line(&format!("User-Agent: {agent}")).ask().await;
        assert_eq!(status(&answer), 401, "{agent}");
    }
    assert_eq!(status(&question(&world, "GET", "/x").await.line("Authorization: Bearer x").ask().await), 401);
    world.finish().await;
}

#[tokio::test]
async fn fa_16_rules_about_users_hold_and_say_403() {
    let world =
        world(&[("/", "{ allowed_groups = [\"staff\"] }"), ("/moon/", "{ allowed_groups = [\"astronauts\"] }")]).await;
    login(&world).await;
    assert_eq!(status(&question(&world, "GET", "/x").await.by(&world.browser).ask().await), 204);
    let answer = question(&world, "GET", "/moon/x").await.by(&world.browser).ask().await;
    assert_eq!((status(&answer), header(&answer, "vestibule-error")), (403, vec!["forbidden"]));
    assert!(world.metric("vestibule_verdicts_total", &[("route", "web"), ("result", "forbidden")]).await > 0.5);
    world.finish().await;
}

#[tokio::test]
async fn px_15_parallel_questions_at_expiry_cause_one_refresh_and_get_the_fresh_token() {
    let world = world(&[("/", "{ authorization = \"bearer\" }")]).await;
    login(&world).await;
    let first = question(&world, "GET", "/x").await.by(&world.browser).ask().await;
    let before = header(&first, "vestibule-authorization").first().map(|bearer| (*bearer).to_owned());
    assert!(before.as_ref().is_some_and(|bearer| bearer.starts_with("Bearer ")), "{first}");
    world.provider.delay(Endpoint::Token, Duration::from_millis(200));
    world.clock.shift(400);
    let tokens = world.provider.count(Endpoint::Token);
    let mut all = tokio::task::JoinSet::new();
    for _ in 0..200 {
        all.spawn(question(&world, "GET", "/x").await.by(&world.browser).ask());
    }
    for answer in all.join_all().await {
        assert_eq!(status(&answer), 204, "{answer}");
        assert_ne!(header(&answer, "vestibule-authorization").first().copied(), before.as_deref(), "a fresh token");
    }
    assert_eq!((world.provider.count(Endpoint::Token) - tokens, world.provider.reuses()), (1, 0));
    world.finish().await;
}

/// Whatever fails behind a verdict is no yes.
#[tokio::test]
async fn fa_3_a07_a08_what_fails_is_never_a_yes() {
    let world = world(&[("/", "{ authorization = \"bearer\" }")]).await;
    login(&world).await;
    world.provider.go_down().await.unwrap();
    world.clock.shift(301);
    let answer = question(&world, "GET", "/x").await.by(&world.browser).ask().await;
    assert_eq!((status(&answer), header(&answer, "vestibule-error")), (503, vec!["provider_unavailable"]), "{answer}");
    world.provider.come_up().unwrap();
    world.clock.shift(6);
    assert_eq!(status(&question(&world, "GET", "/x").await.by(&world.browser).ask().await), 204, "and it was not lost");
    world.provider.revoke_all();
    world.clock.shift(301);
    let answer = question(&world, "GET", "/x").await.by(&world.browser).ask().await;
    assert_eq!((status(&answer), header(&answer, "vestibule-error")), (401, vec!["login_required"]), "{answer}");
    world.finish().await;
}

/// LS-16 for what stands behind a verdict: a session that is not enough opens nothing, and is shown the way to more.
#[tokio::test]
async fn fa_2_ls_16_a_session_that_is_not_enough_is_sent_on_or_refused_and_never_let_through() {
    let rules: &[(&str, &str)] = &[
        ("/", "{}"),
        ("/vault/", "{ unauthenticated = \"login\", acr_values = [\"2\"] }"),
        ("/strict/", "{ max_age = \"1m\" }"),
    ];
    let world = world(rules).await;
    login(&world).await;
    world.clock.shift(121);
    let browser = &world.browser;
    for (uri, challenge) in [("/vault/x", "acr_values=\"2\""), ("/strict/x", "max_age=\"60\"")] {
        let fetch = question(&world, "POST", uri).await.line("Origin: https://app.test").by(browser).ask().await;
        assert_eq!((status(&fetch), header(&fetch, "vestibule-verdict").len()), (401, 0), "{fetch}");
        let expected = format!("Vestibule error=\"insufficient_user_authentication\", {challenge}");
        assert_eq!(header(&fetch, "www-authenticate"), [expected.as_str()], "{fetch}");
        assert!(fetch.contains("\"login_url\":\"https://app.test/.vestibule/login/start/"), "{fetch}");
    }
    let page = question(&world, "GET", "/strict/x").await.line("Sec-Fetch-Mode: navigate").by(browser).ask().await;
    assert_eq!((status(&page), header(&page, "location").len()), (401, 0), "{page}");
    let page = question(&world, "GET", "/vault/x?a=b")
        .await
        .line("Sec-Fetch-Mode: navigate")
        .by(browser)
        .ask()
        .await;
    assert_eq!((status(&page), header(&page, "vestibule-verdict").len()), (302, 0), "{page}");
    let picker = browser.navigate(header(&page, "location")[0]).await.is(200).says("Who are you?");
    browser.choose(&picker, "alice").await.at("https://app.test/vault/x?a=b");
    for uri in ["/vault/x", "/strict/x"] {
        let answer = question(&world, "GET", uri).await.by(browser).ask().await;
        assert_eq!((status(&answer), header(&answer, "vestibule-verdict")), (204, vec!["allow"]), "{answer}");
    }
    world.finish().await;
}
