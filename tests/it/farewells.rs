//! Logins on their way when somebody ends the sessions that they would become: they end with them, and no others do.

use std::path::PathBuf;
use std::time::Duration;

use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::task::JoinHandle;
use vestibule::demo::provider::{Endpoint, JwtMutation::SetClaim};
use vestibule::session::{Filter, Selector};

use crate::world::answer::Answer;
use crate::world::raw::Raw;
use crate::world::{Edit, World, eventually};

/// A login of alice whose code is being exchanged.
async fn flying(world: &World) -> JoinHandle<Answer> {
    let browser = world.new_browser();
    let picker = browser.begin_login().await;
    let callback = browser.callback_for(&picker, "alice").await;
    world.provider.delay(Endpoint::Token, Duration::from_millis(500));
    let asked = world.provider.count(Endpoint::Token);
    let flying = tokio::spawn(async move { browser.navigate(callback.as_str()).await });
    eventually("the exchange", || world.provider.count(Endpoint::Token) > asked).await;
    flying
}

/// The socket on which `world` takes orders, from the first call on.
async fn control(world: &World) -> PathBuf {
    let socket = world.dir().join("control.sock");
    let listen = format!("unix:{}", socket.display());
    if !socket.exists() {
        assert_eq!(world.edit(|toml| toml.text("server", "control", &listen)).await, Edit::Served);
        eventually("the socket", || socket.exists()).await;
    }
    socket
}

/// `DELETE /-/sessions?query` as an operator sends it; how many ended.
pub async fn delete(world: &World, query: &str) -> u64 {
    let socket = control(world).await;
    let mut stream = UnixStream::connect(&socket).await.unwrap();
    let head = format!("DELETE /-/sessions?{query} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (_, body) = answer.split_once("\r\n\r\n").unwrap();
    serde_json::from_str::<serde_json::Value>(body).unwrap()["ended"].as_u64().unwrap()
}

#[tokio::test]
async fn bc_8_an_operator_ends_logins_that_are_on_their_way() {
    for (query, ends) in [
        ("all=true", true),
        ("sub=alice-0001", true),
        ("route=web&provider=corp", true),
        ("sub=bob-0002", false),
        ("route=other", false),
        ("sub=alice-0001&idle_for=1h", false),
    ] {
        let world = World::start().await;
        // Before the login is on its way: a reload takes as long as it takes.
        control(&world).await;
        let flying = flying(&world).await;
        assert_eq!(delete(&world, query).await, 0);
        let answer = flying.await.unwrap();
        assert_eq!(answer.text().contains("login_expired"), ends, "{query}: {}", answer.describe());
        // Whoever logs in afterwards is in.
        world.provider.delay(Endpoint::Token, Duration::ZERO);
        world.clock.shift(1);
        world.browser.login("alice").await;
        world.browser.get("/api/me").await.is(200);
        world.finish().await;
    }
}

#[tokio::test]
async fn bc_9_what_an_operator_ends_is_revoked_at_the_provider_in_every_store() {
    for store in ["\"memory\"", "{ file = \"state/sessions.redb\" }"] {
        let world = World::builder().config(move |toml| toml.set("sessions", "store", store)).start().await;
        let bob = world.new_browser();
        world.browser.login("alice").await;
        bob.login("bob").await;
        let sessions = &world.sidecar().lasting().shared.sessions;
        let ids = sessions.page(&Filter::default(), (None, 10), (Duration::MAX, world.clock.now())).await.unwrap();
        let ids: Vec<String> = ids.sessions.iter().map(|one| one.session.id.to_string()).collect();
        let revoked = world.provider.count(Endpoint::Revocation);
        assert_eq!(delete(&world, "all=true").await, 2);
        eventually("both", || world.provider.count(Endpoint::Revocation) == revoked + 2).await;
        // One line for each that ended, and one for the call.
        let log = world.log();
        let told = |id: &String| {
            log.lines()
                .filter(|line| line.contains("session ended") && line.contains("operator") && line.contains(id))
                .count()
        };
        assert_eq!(ids.iter().map(told).collect::<Vec<_>>(), [1, 1], "{log}");
        assert!(log.contains("control: sessions ended"));
        world.finish().await;
    }
}

#[tokio::test]
async fn a_front_channel_logout_ends_the_login_of_its_sid_that_is_on_its_way() {
    let world = World::start().await;
    world.browser.login("alice").await;
    let sessions = &world.sidecar().lasting().shared.sessions;
    let issuer = world.provider.issuer();
    let found = sessions.find(Selector::Subject { issuer, subject: "alice-0001" }).await.unwrap();
    let sid = found[0].sid.clone().unwrap();
    // The provider knows the browser, so the next login is of the same sid.
    world.provider.delay(Endpoint::Token, Duration::from_millis(500));
    let asked = world.provider.count(Endpoint::Token);
    let browser = world.browser.clone();
    let flying = tokio::spawn(async move { browser.navigate("/login/start").await });
    eventually("the exchange", || world.provider.count(Endpoint::Token) > asked).await;
    let query = url::form_urlencoded::Serializer::new(String::new())
        .append_pair("iss", issuer)
        .append_pair("sid", &sid)
        .finish();
    let mut raw = Raw::connect(world.address().await).await;
    raw.write(format!(
        "GET /logout/frontchannel?{query} HTTP/1.1\r\nHost: app.test\r\nAccept: text/html\r\nSec-Fetch-Site: cross-site\r\n\
         Sec-Fetch-Mode: navigate\r\nSec-Fetch-Dest: iframe\r\n\r\n"
    ))
    .await;
    assert!(raw.read_answer().await.starts_with("HTTP/1.1 200"));
    let answer = flying.await.unwrap();
    assert!(answer.text().contains("login_expired"), "{}", answer.describe());
    world.finish().await;
}

/// O23: a token that is refused has said nothing.
#[tokio::test]
async fn o23_a_logout_token_that_is_refused_ends_no_login() {
    let world = World::start().await;
    world.browser.login("alice").await;
    let sessions = &world.sidecar().lasting().shared.sessions;
    let issuer = world.provider.issuer();
    let found = sessions.find(Selector::Subject { issuer, subject: "alice-0001" }).await.unwrap();
    let sid = found[0].sid.clone().unwrap();
    world.provider.delay(Endpoint::Token, Duration::from_millis(500));
    let asked = world.provider.count(Endpoint::Token);
    let browser = world.browser.clone();
    let flying = tokio::spawn(async move { browser.navigate("/login/start").await });
    eventually("the exchange", || world.provider.count(Endpoint::Token) > asked).await;
    let lie = [SetClaim("sub", json!("bob-0002"))];
    let token = world.provider.logout_token(("alice-0001", Some(&sid), "web"), &lie).unwrap();
    let body = format!("logout_token={token}");
    let mut raw = Raw::connect(world.address().await).await;
    raw.write(format!(
        "POST /logout/backchannel HTTP/1.1\r\nHost: app.test\r\nContent-Type: application/x-www-form-urlencoded\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    ))
    .await;
    assert!(raw.read_answer().await.starts_with("HTTP/1.1 400"));
    flying.await.unwrap().is(200).at("https://app.test/");
    world.browser.get("/api/me").await.is(200);
    world.finish().await;
}
