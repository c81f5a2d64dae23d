//! Logouts from outside that one of several processes is told of.

use std::time::Duration;

use vestibule::demo::provider::Endpoint;
use vestibule::reload::Sidecar;
use vestibule::session::Selector;

use super::{Replicas, SECOND, is_out_soon, needs_redis};
use crate::world::eventually;
use crate::world::live::{Socket, SocketUpstream};
use crate::world::raw::Raw;
use crate::world::redis;

async fn tell(replica: std::net::SocketAddr, token: &str) -> u16 {
    let body = format!("logout_token={token}");
    let mut raw = Raw::connect(replica).await;
    raw.write(format!(
        "POST /logout/backchannel HTTP/1.1\r\nHost: app.test\r\nContent-Type: application/x-www-form-urlencoded\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    ))
    .await;
    raw.read_answer().await.split(' ').nth(1).unwrap().parse().unwrap()
}

async fn address(sidecar: &Sidecar) -> std::net::SocketAddr {
    let asked = vestibule::config::Listen::Tcp("127.0.0.1:0".parse().unwrap());
    match sidecar.addresses().await.get(&asked) {
        Some(vestibule::config::Listen::Tcp(address)) => *address,
        other => panic!("{other:?}"),
    }
}

/// Also LO-9: a WebSocket at the process that was not told ends as well.
#[tokio::test]
async fn bc_1_bc_5_lo_9_back_channel_logout_at_one_process_ends_all() {
    needs_redis!();
    let sockets = SocketUpstream::start().await;
    let url = sockets.url();
    let two = Replicas::with(move |toml| toml.text("upstreams.api", "url", &url)).await;
    let world = &two.world;
    world.browser.login("alice").await;
    let mut socket = Socket::open(world, &world.browser).await;
    socket.echoes("hello").await;
    two.both(async |_| assert!(two.is_in(&world.browser).await)).await;
    let other = address(&two.other).await;
    let token = world.provider.logout_token(("alice-0001", None, "web"), &[]).unwrap();
    assert_eq!(tell(other, &token).await, 200);
    let took = socket.ended().await;
    assert!(took < SECOND, "{took:?}");
    is_out_soon(&world.browser).await;
    two.at_other().await;
    assert!(!two.is_in(&world.browser).await);
    // BC-5: used is used, wherever.
    assert_eq!(tell(world.address().await, &token).await, 400);
    two.finish().await;
}

/// A login whose code is being exchanged here dies by a logout that is told there.
#[tokio::test]
async fn bc_8_a_login_on_its_way_dies_by_a_logout_at_another_process() {
    needs_redis!();
    let two = Replicas::start().await;
    let world = &two.world;
    let picker = world.browser.begin_login().await;
    let callback = world.browser.callback_for(&picker, "alice").await;
    world.provider.delay(Endpoint::Token, Duration::from_millis(400));
    let asked = world.provider.count(Endpoint::Token);
    let browser = world.browser.clone();
    let flying = tokio::spawn(async move { browser.navigate(callback.as_str()).await });
    eventually("the exchange", || world.provider.count(Endpoint::Token) > asked).await;
    let token = world.provider.logout_token(("alice-0001", None, "web"), &[]).unwrap();
    assert_eq!(tell(address(&two.other).await, &token).await, 200);
    let answer = flying.await.unwrap();
    assert!(answer.text().contains("login_expired"), "{}", answer.describe());
    assert!(!two.is_in(&world.browser).await);
    two.finish().await;
}

/// Front-Channel Logout 1.0: the frame in the provider's page comes to any process, and no other session is meant.
#[tokio::test]
async fn a_front_channel_logout_at_one_process_ends_the_session_at_all() {
    needs_redis!();
    let two = Replicas::start().await;
    let world = &two.world;
    let bob = world.new_browser();
    world.browser.login("alice").await;
    bob.login("bob").await;
    two.both(async |_| assert!(two.is_in(&world.browser).await)).await;
    let issuer = world.provider.issuer();
    let sessions = &two.other.lasting().shared.sessions;
    let found = sessions.find(Selector::Subject { issuer, subject: "alice-0001" }).await.unwrap();
    let query = url::form_urlencoded::Serializer::new(String::new())
        .append_pair("iss", issuer)
        .append_pair("sid", found[0].sid.as_deref().unwrap())
        .finish();
    let mut raw = Raw::connect(address(&two.other).await).await;
    raw.write(format!(
        "GET /logout/frontchannel?{query} HTTP/1.1\r\nHost: app.test\r\nAccept: text/html\r\nSec-Fetch-Site: cross-site\r\n\
         Sec-Fetch-Mode: navigate\r\nSec-Fetch-Dest: iframe\r\n\r\n"
    ))
    .await;
    assert!(raw.read_answer().await.starts_with("HTTP/1.1 200"));
    is_out_soon(&world.browser).await;
    two.both(async |_| assert!(!two.is_in(&world.browser).await && two.is_in(&bob).await)).await;
    two.finish().await;
}
