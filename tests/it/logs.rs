//! What the log tells and what it does not (LG-2 to LG-5, promise 8). LG-1, that it tells no secret, is the oracle's to
//! judge after every story.

use http::StatusCode;
use serde_json::Value;
use vestibule::demo::provider::{Endpoint, Kind, Mutation};

use crate::world::upstream::Reply;
use crate::world::{Edit, World};

/// The events of the program itself that have this message and this field.
fn events(world: &World, message: &str, (field, wanted): (&str, &str)) -> Vec<Value> {
    let log = world.log();
    let own = log.lines().filter(|line| line.contains("\"target\":\"vestibule"));
    let parsed = own.map(|line| serde_json::from_str::<Value>(line).unwrap_or_else(|error| panic!("{error}: {line}")));
    let fits = |event: &Value| event["fields"]["message"] == message && event["fields"][field] == wanted;
    parsed.filter(fits).collect()
}

#[tokio::test]
async fn lg_2_what_an_operator_has_to_know_is_an_event_with_its_context() {
    let world = World::builder()
        .config(|toml| toml.text("routes.web", "home_url", "https://app.test/x"))
        .start()
        .await;
    let browser = world.new_browser();
    let picker = browser.begin_login().await;
    browser.submit(&picker, &[("cancel", "1")]).await.refused(400, "access_denied");
    browser.begin_login().await;
    browser.navigate("/login/start?login_hint=alice").await.is(200);
    let foreign = browser.fetch_from("https://evil.test", http::Method::POST, "/api/x").await;
    let foreign = foreign.refused(403, "cross_site").json();
    // The ids of one listener begin alike; worlds of other tests log beside this one.
    let (stem, _) = foreign["request_id"].as_str().unwrap().split_once('-').unwrap();
    let own = |event: &Value| event["fields"]["request_id"].as_str().is_some_and(|id| id.starts_with(stem));
    world
        .provider
        .mutate(Mutation::nth(Endpoint::Token, 1, Kind::Status(StatusCode::SERVICE_UNAVAILABLE)));
    world.clock.shift(301);
    browser.get("/api/x").await.is(503);
    browser.post("/logout").await.is(200);
    assert_eq!(world.edit(|toml| toml.text("routes.web", "home_url", "https://app.test/y")).await, Edit::Served);
    assert_eq!(world.edit(|toml| toml.text("routes.web", "home_urls", "https://app.test/y")).await, Edit::Refused);

    for (message, field) in [
        ("login succeeded", ("provider", "corp")),
        ("login failed", ("reason", "access_denied")),
        ("request refused", ("reason", "cross_site")),
        ("logged out", ("kind", "rp_initiated")),
    ] {
        let mut found = events(&world, message, field);
        found.retain(own);
        assert!(!found.is_empty(), "{message} {field:?} was not logged");
        for event in found {
            assert_eq!(event["fields"]["route"], "web");
            assert!(event["timestamp"].as_str().is_some_and(|time| time.ends_with('Z')), "{event}");
            assert!(event["level"] != "DEBUG" && event["level"] != "TRACE", "{event}");
        }
    }
    assert!(!events(&world, "token refresh failed", ("provider", "corp")).is_empty());
    let refused = events(
        &world,
        "configuration refused, the old one stays",
        ("config", world.dir().join("vestibule.toml").to_str().unwrap()),
    );
    assert!(
        refused
            .iter()
            .any(|event| event["fields"]["report"].as_str().is_some_and(|report| report.contains("home_urls")))
    );
    world.finish().await;
}

/// What an operator reads at the default level about the requests of this world.
fn told(world: &World) -> Vec<Value> {
    let log = world.log();
    let own = log.lines().filter(|line| line.contains("\"target\":\"vestibule"));
    let events = own.map(|line| serde_json::from_str::<Value>(line).unwrap());
    events.filter(|event| !matches!(event["level"].as_str(), Some("DEBUG" | "TRACE"))).collect()
}

#[tokio::test]
async fn lg_2_one_event_is_one_line() {
    let world = World::start().await;
    let about = |id: &str| -> Vec<Value> {
        told(&world).into_iter().filter(|event| event["fields"]["request_id"] == id).collect()
    };
    let id = |page: &crate::world::answer::Answer| {
        let text = page.text();
        text.split("Request: <code>").nth(1).unwrap().split('<').next().unwrap().to_owned()
    };
    // The provider's answer is unfit, says no, or says something else.
    world
        .provider
        .mutate(Mutation::nth(Endpoint::Token, 1, Kind::Status(StatusCode::INTERNAL_SERVER_ERROR)));
    let browsers = [world.new_browser(), world.new_browser(), world.new_browser()];
    let page = browsers[0].choose(&browsers[0].begin_login().await, "alice").await.refused(502, "login_failed");
    let lies = [Kind::ParameterRemove("code"), Kind::ParameterSet("error", "server_error".to_owned())];
    let said = Kind::ParameterSet("error_description", "the directory is asleep".to_owned());
    for lie in lies.into_iter().chain([said]) {
        world.provider.mutate(Mutation::nth(Endpoint::Authorize, 2, lie));
    }
    let other = browsers[1].choose(&browsers[1].begin_login().await, "alice").await.refused(400, "provider_refused");
    world.provider.clear_mutations();
    let picker = browsers[2].begin_login().await;
    let cancelled = browsers[2].submit(&picker, &[("cancel", "1")]).await.refused(400, "access_denied");
    for (page, level, reason) in
        [(page, "WARN", "login_failed"), (other, "WARN", "provider_refused"), (cancelled, "INFO", "access_denied")]
    {
        let lines = about(&id(&page));
        let [line] = lines.as_slice() else { panic!("{reason}: {lines:#?}") };
        assert_eq!((&line["level"], &line["fields"]["message"]), (&level.into(), &"login failed".into()));
        let fields = &line["fields"];
        assert_eq!((&fields["route"], &fields["provider"]), (&"web".into(), &"corp".into()));
        assert_eq!(fields["reason"], reason);
        assert!(fields["detail"].as_str().is_some_and(|detail| !detail.is_empty()), "{line}");
        assert!(reason != "provider_refused" || line.to_string().contains("the directory is asleep"), "{line}");
    }

    // A logout is one as well, whether its session is ended here only or at the provider, too.
    world.browser.login("alice").await;
    let session = told(&world).into_iter().rfind(|event| event["fields"]["message"] == "login succeeded").unwrap();
    let session = session["fields"]["session"].clone();
    world.browser.post("/logout").await.is(200);
    let mut lines = told(&world);
    lines.retain(|event| event["fields"]["session"] == session && event["fields"]["message"] != "login succeeded");
    let [line] = lines.as_slice() else { panic!("{lines:#?}") };
    assert_eq!(line["fields"]["message"], "logged out");
    for field in ["route", "provider", "kind", "request_id"] {
        assert!(line["fields"][field].is_string(), "{field}: {line}");
    }
    world.finish().await;
}

#[tokio::test]
async fn lg_3_c17_nothing_that_comes_in_can_write_a_line_of_its_own() {
    let world = World::start().await;
    let evil = "x\r\nlogin succeeded user=admin\u{1b}[2J\u{202e}\u{2028}\u{0}";
    let encoded: String = url::form_urlencoded::byte_serialize(evil.as_bytes()).collect();
    for kind in [
        Kind::ParameterRemove("code"),
        Kind::ParameterSet("error", evil.to_owned()),
        Kind::ParameterSet("error_description", evil.to_owned()),
    ] {
        world.provider.mutate(Mutation::nth(Endpoint::Authorize, 2, kind));
    }
    let picker = world.browser.begin_login().await;
    world.browser.choose(&picker, "alice").await.refused(400, "provider_refused");
    for path in [
        "/login/start?redirect=",
        "/login/start?provider=",
        "/login/end?state=",
        "/login/end?code=x&state=",
        "/logout/go?to=",
        "/userinfo?",
    ] {
        world.browser.get(&format!("{path}{encoded}")).await;
    }
    world.upstream.next(Reply::Raw(format!("HTTP/1.1 200 {evil}\r\nX: {evil}\r\n\r\n").into_bytes()));
    world.browser.get("/api/x").await;
    let log = world.log();
    for line in log.lines().filter(|line| line.contains("\"target\":\"vestibule")) {
        serde_json::from_str::<Value>(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        assert!(!line.contains(['\u{1b}', '\u{202e}', '\u{2028}', '\u{0}']), "{line}");
    }
    world.finish().await;
}

#[tokio::test]
async fn lg_4_promise_8_the_same_code_stands_in_answer_log_and_metric() {
    let world = World::builder()
        .config(|toml| {
            toml.set("routes.web.paths", "\"/api/\"", "{ allowed_groups = [\"admins\"], methods = [\"GET\"] }")
                .text("upstreams.api", "response_timeout", "100ms")
        })
        .start()
        .await;
    world.browser.login("alice").await;
    let [bob, nobody] = [world.new_browser(), world.new_browser()];
    bob.login("bob").await;
    world.upstream.on("/api/hangs", Reply::Hang);
    let refusals = [
        ("login_required", nobody.get("/api/x").await),
        ("forbidden", bob.get("/api/x").await),
        ("method_not_allowed", bob.post("/api/x").await),
        ("cross_site", bob.fetch_from("https://evil.test", http::Method::GET, "/api/x").await),
        ("bad_redirect", bob.get("/login/start?redirect=//evil").await),
        ("unknown_login", bob.get("/login/end?code=x&state=y").await),
        ("upstream_timeout", world.browser.get("/api/hangs").await),
    ];
    for (code, answer) in refusals {
        assert_eq!(answer.header("vestibule-error"), Some(code), "{}", answer.describe());
        let body = answer.json();
        assert_eq!((&body["code"], &body["error"]), (&code.into(), &code.into()));
        assert_eq!(body["status"], answer.status.as_u16());
        let id = body["request_id"].as_str().unwrap();
        let logged = ["request refused", "request failed"].iter().any(|message| {
            events(&world, message, ("request_id", id)).iter().any(|event| event["fields"]["reason"] == code)
        });
        assert!(logged, "{code} with {id} is not in the log");
        let counted = world.metric("vestibule_refusals_total", &[("route", "web"), ("reason", code)]).await;
        assert!(counted >= 1.0, "{code} is not counted");
    }
    world.finish().await;
}

#[tokio::test]
async fn lg_5_a_flood_of_one_refusal_is_a_line_now_and_then() {
    let world = World::start().await;
    world.browser.login("alice").await;
    let ask = || world.browser.fetch_from("https://evil.test", http::Method::POST, "/api/x");
    let mut ids = Vec::new();
    let begun = std::time::Instant::now();
    for _ in 0..100 {
        ids.push(
            ask().header("accept", "application/json").await.refused(403, "cross_site").json()["request_id"].clone(),
        );
    }
    let mine = |event: &Value| ids.contains(&event["fields"]["request_id"]) && event["level"] == "INFO";
    let lines = events(&world, "request refused", ("reason", "cross_site")).into_iter().filter(mine).count();
    let most = 2 + begun.elapsed().as_secs() as usize;
    assert!((1..=most).contains(&lines), "{lines} lines for 100 requests in {:?}", begun.elapsed());
    assert!(world.metric("vestibule_refusals_total", &[("route", "web"), ("reason", "cross_site")]).await >= 100.0);
    world.finish().await;
}
