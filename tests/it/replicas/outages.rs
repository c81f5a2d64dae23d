//! A server that is silent, restarted, or not there at all: nobody is let in on what cannot be asked, and nobody is logged
//! out.

use std::future::IntoFuture as _;
use std::time::{Duration, Instant};

use vestibule::demo::provider::Endpoint;

use super::{Replicas, SECOND, needs_redis, shares};
use crate::streams::open;
use crate::world::browser::Browser;
use crate::world::live::{Ending, Live, Socket, SocketUpstream};
use crate::world::raw::Raw;
use crate::world::redis::{self, RedisServer};
use crate::world::{World, eventually};

/// A server that says nothing any more is not passed over: memory is believed for less than a second.
#[tokio::test]
async fn what_is_in_memory_is_not_believed_when_the_server_is_silent() {
    needs_redis!();
    let two = Replicas::start().await;
    let world = &two.world;
    world.browser.login("alice").await;
    world.browser.get("/api/me").await.is(200);
    let signal = |name: &str| signal(&two.redis, name);
    signal("-STOP");
    let stopped = Instant::now();
    let mut served = Duration::ZERO;
    let unanswered = loop {
        let asked = stopped.elapsed();
        let ask = tokio::time::timeout(Duration::from_millis(500), world.browser.get("/api/me").into_future());
        match ask.await {
            Ok(answer) if answer.status == 200 => served = asked,
            Ok(answer) => break Some(answer),
            Err(_) => break None,
        }
        assert!(stopped.elapsed() < Duration::from_secs(5), "still served from memory");
    };
    assert!(served < SECOND, "served from memory for {served:?}");
    if let Some(answer) = unanswered {
        answer.refused(503, "store_unavailable");
    }
    signal("-CONT");
    is_in_again(&world.browser).await;
    two.finish().await;
}

fn signal(redis: &RedisServer, name: &str) {
    let pid = redis.pid().to_string();
    assert!(std::process::Command::new("kill").args([name, &pid]).status().unwrap().success());
}

async fn is_in_again(browser: &Browser) {
    let begun = Instant::now();
    loop {
        let answer = browser.get("/check_auth").await;
        if answer.status == 200 && answer.json()["logged_in"] == true {
            return;
        }
        assert!(begun.elapsed() < Duration::from_secs(10), "{}", answer.describe());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn a_server_that_is_restarted_logs_nobody_out_and_costs_no_request() {
    needs_redis!();
    let mut two = Replicas::start().await;
    two.world.browser.login("alice").await;
    two.redis.kill();
    let browser = two.world.browser.clone();
    let meanwhile = tokio::spawn(async move { browser.get("/api/me").await });
    tokio::time::sleep(Duration::from_millis(200)).await;
    two.redis.run();
    meanwhile.await.unwrap().is(200);
    let world = &two.world;
    two.both(async |_| drop(world.browser.get("/api/me").await.is(200))).await;
    two.finish().await;
}

/// PX-15, RFC 9700 4.14.2: no lease outlives such an outage, and yet nobody sends the token again whose answer has come to
/// another process meanwhile: that one brings it first.
#[tokio::test]
async fn px_15_what_was_renewed_while_the_server_was_away_is_brought_before_anybody_renews() {
    needs_redis!();
    let mut two = Replicas::start().await;
    two.world.browser.login("alice").await;
    two.world.provider.delay(Endpoint::Token, Duration::from_millis(300));
    two.world.clock.shift(301);
    let asked = two.world.provider.count(Endpoint::Token) + 1;
    let renews = tokio::spawn(two.world.browser.get("/api/me").into_future());
    eventually("the refresh", || two.world.provider.count(Endpoint::Token) == asked).await;
    two.redis.kill();
    tokio::time::sleep(Duration::from_secs(4)).await;
    two.redis.run();
    two.at_other().await;
    let begun = Instant::now();
    let answer = loop {
        let answer = two.world.browser.get("/api/me").await;
        if answer.status != 503 || begun.elapsed() > Duration::from_secs(10) {
            break answer;
        }
    };
    answer.is(200);
    renews.await.unwrap().is(200);
    assert_eq!((two.world.provider.count(Endpoint::Token), two.world.provider.reuses()), (asked, 0));
    two.finish().await;
}

#[tokio::test]
async fn without_the_server_it_starts_and_says_so_and_lets_nobody_in() {
    needs_redis!();
    let mut redis = RedisServer::start();
    let url = redis.url();
    redis.kill();
    let world = World::builder()
        .config(move |toml| {
            shares(toml, &url);
            toml
        })
        .start()
        .await;
    world
        .browser
        .plant("__Host-Http-vestibule-web=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA; Path=/; Secure; HttpOnly");
    world.browser.get("/api/me").await.refused(503, "store_unavailable");
    let text = world.admin("/readyz?verbose").await.text();
    assert!(text.contains("redis") && text.contains("down"), "{text}");
    redis.run();
    let begun = Instant::now();
    while world.browser.get("/api/me").await.status != 401 {
        assert!(begun.elapsed() < Duration::from_secs(10), "it does not find the server");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    world.browser.login("alice").await;
    world.browser.get("/api/me").await.is(200);
    world.finish().await;
}

/// A store that does not answer prolongs nothing, however much is said on a stream.
#[tokio::test]
async fn sc_5_a_stream_that_never_falls_silent_ends_with_its_session_without_the_server_too() {
    needs_redis!();
    let sockets = SocketUpstream::start().await;
    let url = sockets.url();
    let mut two = Replicas::with(move |toml| toml.text("upstreams.api", "url", &url)).await;
    two.world.browser.login("alice").await;
    let mut socket = Socket::open(&two.world, &two.world.browser).await;
    socket.echoes("hello").await;
    two.redis.kill();
    two.world.clock.shift(11 * 3600);
    let chattered = socket.chatters().await;
    assert!(chattered < SECOND * 4, "it went on for {chattered:?}");
    two.redis.run();
    two.finish().await;
}

/// A process that goes down listens for as long as it has streams.
#[tokio::test]
async fn lo_9_an_end_at_one_process_is_heard_by_one_whose_last_streams_go_on() {
    needs_redis!();
    let mut two = Replicas::with(|toml| toml.text("server", "stream_close_delay", "8s")).await;
    let events = open("text/event-stream", "data: hello\n\n");
    two.world.upstream.on("/api/events", events);
    two.world.browser.login("alice").await;
    let mut events = Live::get(&two.world, &two.world.browser, "/api/events").await;
    events.says("data: hello\n\n").await;
    let leaving = tokio::spawn(two.world.leave().shutdown());
    assert!(events.is_quiet_for(SECOND).await);
    two.at_other().await;
    two.world.browser.post("/logout").header("x-vestibule-csrf", "1").await.is(200);
    let ended = events.ended().await;
    assert!(ended.0 == Ending::Broken && ended.1 < SECOND, "{ended:?}");
    leaving.await.unwrap();
    two.world.enter().await;
    two.finish().await;
}

/// BC-1, BC-5: a provider that does not wait for a slow answer has said it all the same.
#[tokio::test]
async fn bc_1_a_logout_whose_provider_has_gone_is_acted_on() {
    needs_redis!();
    let two = Replicas::start().await;
    let world = &two.world;
    world.browser.login("alice").await;
    let token = world.provider.logout_token(("alice-0001", None, "web"), &[]).unwrap();
    let body = format!("logout_token={token}");
    signal(&two.redis, "-STOP");
    let mut raw = Raw::connect(world.address().await).await;
    raw.write(format!(
        "POST /logout/backchannel HTTP/1.1\r\nHost: app.test\r\nContent-Type: application/x-www-form-urlencoded\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    ))
    .await;
    let on_their_way = async || world.metric("vestibule_http_requests_in_flight", &[("route", "web")]).await;
    let begun = Instant::now();
    while on_their_way().await != 1.0 {
        assert!(begun.elapsed() < Duration::from_secs(2), "it would be over without the server");
    }
    drop(raw);
    while on_their_way().await != 0.0 {
        assert!(begun.elapsed() < Duration::from_secs(2), "it would be over without the server");
    }
    signal(&two.redis, "-CONT");
    let begun = Instant::now();
    while world.browser.get("/api/me").await.status != 401 {
        assert!(begun.elapsed() < Duration::from_secs(5), "the session lives on");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    two.finish().await;
}
