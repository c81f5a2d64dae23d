//! Logouts that the provider tells of: by back channel (OpenID Connect Back-Channel Logout 1.0, with the cases of the
//! conformance suite's plan for it) and by front channel.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::json;
use vestibule::demo::provider::JwtMutation::{self, RemoveClaim, SetClaim, SetHeader, Sign};
use vestibule::demo::provider::{Algorithm, Client, Endpoint, SignWith};
use vestibule::session::{Selector, Session};

use crate::world::browser::Browser;
use crate::world::live::{Ending, Live};
use crate::world::raw::Raw;
use crate::world::upstream::Reply;
use crate::world::{World, eventually};

const FORM: &str = "application/x-www-form-urlencoded";

/// What a provider sends; what it gets.
async fn post(world: &World, media: &str, body: &str) -> (u16, String) {
    let head = format!(
        "POST /logout/backchannel HTTP/1.1\r\nHost: app.test\r\nUser-Agent: provider/1\r\nAccept: text/html, */*\r\n\
         X-Forwarded-For: 203.0.113.9\r\nContent-Type: {media}\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    let mut raw = Raw::connect(world.address().await).await;
    raw.write(format!("{head}{body}")).await;
    let answer = raw.read_answer().await;
    (answer.split(' ').nth(1).unwrap().parse().unwrap(), answer)
}

async fn tell(world: &World, token: &str) -> (u16, String) {
    post(world, FORM, &format!("logout_token={token}&ignored_parameter=1")).await
}

/// The sessions of somebody.
async fn sessions(world: &World, subject: &str) -> Vec<Arc<Session>> {
    let sessions = &world.sidecar().lasting().shared.sessions;
    sessions.find(Selector::Subject { issuer: world.provider.issuer(), subject }).await.unwrap()
}

/// Alice's name at the provider, and what it calls the session of each of her logins.
async fn alice(world: &World) -> Vec<String> {
    sessions(world, "alice-0001").await.iter().map(|session| session.sid.clone().unwrap()).collect()
}

fn token(world: &World, sid: Option<&str>, changes: &[JwtMutation]) -> String {
    world.provider.logout_token(("alice-0001", sid, "web"), changes).unwrap()
}

async fn is_in(browser: &Browser) -> bool {
    browser.get("/check_auth").await.json()["logged_in"] == true
}

/// Also BC-7: the provider brings no cookie and no Origin. Also O01: neither copy of the cookie works afterwards.
#[tokio::test]
async fn bc_1_bc_6_bc_7_o01_o21_a_sid_ends_that_session_and_a_sub_all() {
    let world = World::start().await;
    let (phone, bob) = (world.new_browser(), world.new_browser());
    for (browser, user) in [(&world.browser, "alice"), (&phone, "alice"), (&bob, "bob")] {
        browser.login(user).await;
    }
    let thief = world.browser.copy();
    let id = |browser: &Browser| {
        let cookie = browser.cookies().into_iter().find(|cookie| cookie.name.ends_with("vestibule-web")).unwrap();
        vestibule::session::SessionId::of_cookie(cookie.value.as_bytes()).unwrap()
    };
    let first = sessions(&world, "alice-0001").await.into_iter().find(|one| one.id == id(&world.browser)).unwrap();
    let changes = [SetClaim("ignored_claim", json!({ "x": 1 }))];
    let (status, answer) = tell(&world, &token(&world, first.sid.as_deref(), &changes)).await;
    assert_eq!(status, 200, "{answer}");
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(body.is_empty() && head.to_ascii_lowercase().contains("cache-control: no-store"), "{answer}");
    for gone in [&world.browser, &thief] {
        gone.get("/api/me").await.refused(401, "login_required");
    }
    assert!(is_in(&phone).await && is_in(&bob).await);

    // O25: the same name at another issuer is somebody else; here it is no issuer of ours at all.
    let foreign = token(&world, None, &[SetClaim("iss", json!("https://other.example"))]);
    assert_eq!(tell(&world, &foreign).await.0, 400);
    assert_eq!(tell(&world, &token(&world, None, &[])).await.0, 200);
    assert!(!is_in(&phone).await && is_in(&bob).await);
    // BC-1: whoever is out already is out.
    assert_eq!(tell(&world, &token(&world, None, &[])).await.0, 200);
    assert!(world.metric("vestibule_logouts_total", &[("kind", "back_channel")]).await > 1.5);
    assert!(world.log().contains("\"kind\":\"back_channel\"") || world.log().contains("back_channel"));
    world.finish().await;
}

#[tokio::test]
async fn bc_2_bc_4_what_is_no_good_logout_token_is_400_and_ends_nothing() {
    let world = World::builder()
        .config(|toml| toml.set("providers.corp", "signing_algs", "[\"RS256\"]"))
        .start()
        .await;
    world.browser.login("alice").await;
    let sid = alice(&world).await.pop().unwrap();
    let now = world.clock.now().unix();
    let id_token_like = [SetHeader("typ", json!("JWT")), SetClaim("nonce", json!("n")), RemoveClaim("events")];
    let cases: Vec<(&str, Vec<JwtMutation>)> = vec![
        ("alg-none", vec![Sign(SignWith::Nothing)]),
        ("wrong-alg", vec![Sign(SignWith::Published(Algorithm::ES256))]),
        ("a stranger's signature", vec![Sign(SignWith::Stranger)]),
        ("wrong-iss", vec![SetClaim("iss", json!("https://other.example"))]),
        ("wrong-aud", vec![SetClaim("aud", json!("other"))]),
        ("no-event", vec![RemoveClaim("events")]),
        ("wrong-event", vec![SetClaim("events", json!({ "http://schemas.openid.net/event/foobar": {} }))]),
        (
            "an event that is no object",
            vec![SetClaim("events", json!({ "http://schemas.openid.net/event/backchannel-logout": 1 }))],
        ),
        (
            "events that are a list",
            vec![SetClaim("events", json!(["http://schemas.openid.net/event/backchannel-logout"]))],
        ),
        ("with-nonce", vec![SetClaim("nonce", json!("n"))]),
        ("O09", vec![RemoveClaim("iat")]),
        ("O09 old", vec![SetClaim("iat", json!(now - 3600))]),
        ("O09 future", vec![SetClaim("iat", json!(now + 3600))]),
        ("O10", vec![RemoveClaim("jti")]),
        ("O10 empty", vec![SetClaim("jti", json!(""))]),
        ("O11", vec![RemoveClaim("exp")]),
        ("O11 past", vec![SetClaim("exp", json!(now - 120))]),
        ("O18 at+jwt", vec![SetHeader("typ", json!("at+jwt"))]),
        ("O18 an ID token", id_token_like.to_vec()),
        ("neither sub nor sid", vec![RemoveClaim("sub"), RemoveClaim("sid")]),
        ("sub no string", vec![SetClaim("sub", json!(5))]),
        ("O23", vec![SetClaim("sub", json!("bob-0002"))]),
    ];
    for (name, changes) in cases {
        let (status, answer) = tell(&world, &token(&world, Some(&sid), &changes)).await;
        assert_eq!(status, 400, "{name}: {answer}");
        assert!(answer.contains("invalid_request") && answer.to_ascii_lowercase().contains("no-store"), "{answer}");
        assert!(answer.contains("json"), "BC-2: {answer}");
    }
    assert!(is_in(&world.browser).await);
    for typ in [SetHeader("typ", json!("logout+jwt")), SetHeader("typ", json!("JWT")), JwtMutation::RemoveHeader("typ")]
    {
        assert_eq!(tell(&world, &token(&world, None, &[typ, SetClaim("sub", json!("bob-0002"))])).await.0, 200, "O18");
    }
    assert!(is_in(&world.browser).await);
    world.finish().await;
}

#[tokio::test]
async fn bc_3_bc_10_o15_o19_z11_one_token_in_one_form() {
    let world = World::start().await;
    world.browser.login("alice").await;
    let good = token(&world, None, &[]);
    for (media, body, expected) in [
        (FORM, format!("logout_token={good}&logout_token={good}"), 400),
        (FORM, String::new(), 400),
        (FORM, "logout_token=".to_owned(), 400),
        (FORM, format!("logout_token={}", "x".repeat(20_000)), 400),
        (FORM, format!("logout_token={}", "x".repeat(100_000)), 413),
        ("application/json", format!("{{\"logout_token\":\"{good}\"}}"), 400),
        ("multipart/form-data; boundary=x", format!("--x\r\n\r\n{good}\r\n--x--"), 400),
        ("text/plain", format!("logout_token={good}"), 400),
    ] {
        let (status, answer) = post(&world, media, &body).await;
        assert_eq!(status, expected, "{media} {body:.60}: {answer}");
    }
    let get = format!("GET /logout/backchannel?logout_token={good} HTTP/1.1\r\nHost: app.test\r\n\r\n");
    assert_eq!(Raw::status(world.address().await, get).await, 405);
    assert!(is_in(&world.browser).await);
    let form = format!("{FORM}; charset=utf-8");
    assert_eq!(post(&world, &form, &format!("state=x&logout_token={good}")).await.0, 200);
    assert!(!is_in(&world.browser).await);
    world.finish().await;
}

#[tokio::test]
async fn bc_5_o10_a_token_is_good_once() {
    let world = World::start().await;
    world.browser.login("alice").await;
    let good = token(&world, None, &[]);
    assert_eq!(tell(&world, &good).await.0, 200);
    // A login of the same second might have begun before.
    world.clock.shift(1);
    world.browser.navigate("/login/start").await.is(200).at("https://app.test/");
    let (status, answer) = tell(&world, &good).await;
    assert_eq!(status, 400, "{answer}");
    assert!(is_in(&world.browser).await);
    world.finish().await;
}

#[tokio::test]
async fn bc_8_a_login_on_its_way_dies_too_and_the_next_one_lives() {
    let world = World::start().await;
    let picker = world.browser.begin_login().await;
    let callback = world.browser.callback_for(&picker, "alice").await;
    // While the code is being exchanged.
    world.provider.delay(Endpoint::Token, Duration::from_millis(400));
    let asked = world.provider.count(Endpoint::Token);
    let browser = world.browser.copy();
    let flying = {
        let callback = callback.clone();
        tokio::spawn(async move { browser.navigate(callback.as_str()).await })
    };
    let begun = Instant::now();
    while world.provider.count(Endpoint::Token) == asked {
        assert!(begun.elapsed() < Duration::from_secs(10));
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(tell(&world, &token(&world, None, &[])).await.0, 200);
    let answer = flying.await.unwrap();
    assert!(answer.text().contains("login_expired"), "{}", answer.describe());
    assert!(sessions(&world, "alice-0001").await.is_empty());
    // BC-9: what it has just brought is taken back.
    eventually("the revocation", || world.provider.count(Endpoint::Revocation) == 1).await;
    world.provider.delay(Endpoint::Token, Duration::ZERO);
    world.clock.shift(1);
    world.browser.navigate("/login/start").await.is(200).at("https://app.test/");
    assert!(is_in(&world.browser).await);
    world.finish().await;
}

/// Promise 3, and BC-9: its streams end within a second, and its refresh token is taken back at the provider.
#[tokio::test]
async fn bc_9_lo_9_streams_end_and_the_refresh_token_is_revoked() {
    let world = World::start().await;
    let hello = Reply::Stream {
        headers: vec![("content-type".to_owned(), "text/event-stream".to_owned())],
        parts: vec![(Duration::ZERO, "data: hello\n\n".into())],
        open: true,
    };
    world.upstream.on("/api/events", hello);
    world.browser.login("alice").await;
    let mut events = Live::get(&world, &world.browser, "/api/events").await;
    events.says("data: hello\n\n").await;
    let revoked = world.provider.count(Endpoint::Revocation);
    assert_eq!(tell(&world, &token(&world, None, &[])).await.0, 200);
    let (ending, took) = events.ended().await;
    assert!(ending == Ending::Broken && took < Duration::from_secs(1), "{ending:?} after {took:?}");
    let begun = Instant::now();
    while world.provider.count(Endpoint::Revocation) == revoked {
        assert!(begun.elapsed() < Duration::from_secs(10), "never revoked");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    world.finish().await;
}

/// O26: whoever sends nonsense costs the provider nothing, and is told to stop; a good token is heard all the same, since
/// behind a balancer it may come from the same address.
#[tokio::test]
async fn bc_7_bc_10_o26_nonsense_is_bounded() {
    let world = World::start().await;
    world.browser.login("alice").await;
    let keys = world.provider.count(Endpoint::Jwks);
    let stranger = token(&world, None, &[Sign(SignWith::Stranger), SetHeader("kid", json!("unknown"))]);
    let mut told = [0, 0];
    for _ in 0..200 {
        match tell(&world, &stranger).await.0 {
            400 => told[0] += 1,
            429 => told[1] += 1,
            other => panic!("{other}"),
        }
    }
    assert!(told[0] == 60 && told[1] == 140, "{told:?}");
    assert!(world.provider.count(Endpoint::Jwks) - keys < 5, "keys were fetched for nonsense");
    world.new_browser().login("bob").await;
    assert_eq!(tell(&world, &token(&world, None, &[])).await.0, 200);
    assert!(!is_in(&world.browser).await);
    world.finish().await;
}

/// Sessions that outlive the process are no better known than what was said about their end.
#[tokio::test]
async fn bc_5_bc_8_a_restart_forgets_no_logout() {
    let mut world = World::builder()
        .config(|toml| toml.set("sessions", "store", "{ file = \"state/sessions.redb\" }"))
        .start()
        .await;
    world.browser.login("alice").await;
    let (late, bob) = (world.new_browser(), world.new_browser());
    let picker = late.begin_login().await;
    let callback = late.callback_for(&picker, "alice").await;
    let picker = bob.begin_login().await;
    let bobs = bob.callback_for(&picker, "bob").await;
    let good = token(&world, None, &[]);
    assert_eq!(tell(&world, &good).await.0, 200);
    world.restart().await;
    let answer = late.navigate(callback.as_str()).await;
    assert!(answer.text().contains("login_expired"), "{}", answer.describe());
    bob.navigate(bobs.as_str()).await.is(200).at("https://app.test/");
    world.clock.shift(1);
    world.browser.navigate("/login/start").await.is(200).at("https://app.test/");
    let (status, answer) = tell(&world, &good).await;
    assert_eq!(status, 400, "{answer}");
    assert!(is_in(&world.browser).await);
    world.finish().await;
}

#[tokio::test]
async fn logins_in_a_file_are_ended_from_outside_too_and_stay_ended() {
    let mut world = World::builder()
        .config(|toml| toml.set("sessions", "store", "{ file = \"state/sessions.redb\" }"))
        .start()
        .await;
    let bob = world.new_browser();
    world.browser.login("alice").await;
    bob.login("bob").await;
    let sid = alice(&world).await.pop().unwrap();
    assert_eq!(tell(&world, &token(&world, Some(&sid), &[SetClaim("sub", json!("bob-0002"))])).await.0, 400, "O23");
    assert_eq!(tell(&world, &token(&world, Some(&sid), &[])).await.0, 200);
    world.restart().await;
    assert!(!is_in(&world.browser).await && is_in(&bob).await);
    world.finish().await;
}

#[tokio::test]
async fn by_front_channel_a_sid_ends_its_session_and_nothing_else_does() {
    let world = World::start().await;
    world.browser.login("alice").await;
    let sid = alice(&world).await.pop().unwrap();
    let address = world.address().await;
    let frame = async |query: String| {
        let head = format!(
            "GET /logout/frontchannel{query} HTTP/1.1\r\nHost: app.test\r\nAccept: text/html\r\nSec-Fetch-Site: cross-site\r\n\
             Sec-Fetch-Mode: navigate\r\nSec-Fetch-Dest: iframe\r\n\r\n"
        );
        let mut raw = Raw::connect(address).await;
        raw.write(head).await;
        raw.read_answer().await
    };
    let issuer: String = url::form_urlencoded::byte_serialize(world.provider.issuer().as_bytes()).collect();
    for query in [
        String::new(),
        format!("?iss={issuer}"),
        format!("?sid={sid}"),
        format!("?iss=https://other.example&sid={sid}"),
    ] {
        assert!(frame(query.clone()).await.starts_with("HTTP/1.1 400 "), "{query}");
    }
    assert!(frame(format!("?iss={issuer}&sid=unknown")).await.starts_with("HTTP/1.1 200 "));
    assert!(is_in(&world.browser).await);
    let answer = frame(format!("?iss={issuer}&sid={sid}")).await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    let origin = world.provider.issuer().split("/realms").next().unwrap().to_owned();
    assert!(answer.contains(&format!("frame-ancestors {origin}")) && answer.contains("no-store"), "{answer}");
    assert!(!is_in(&world.browser).await);
    assert!(world.metric("vestibule_logouts_total", &[("kind", "front_channel")]).await > 0.5);
    world.finish().await;
}

/// Tokens are for one client; a route of another one does not hear them.
#[tokio::test]
async fn bc_4_o25_a_token_for_another_client_is_not_ours() {
    let world = World::builder().provider(|options| options.clients.push(Client::public("other"))).start().await;
    world.browser.login("alice").await;
    let theirs = world.provider.logout_token(("alice-0001", None, "other"), &[]).unwrap();
    assert_eq!(tell(&world, &theirs).await.0, 400);
    assert!(is_in(&world.browser).await);
    world.finish().await;
}
