//! The end of a process in order (L15): requests finish, the store closes, streams end last; and what is over meanwhile is
//! over.

use std::fs::File;
use std::time::{Duration, Instant};

use crate::streams::open;
use crate::world::live::{Ending, Live, Socket, SocketUpstream};
use crate::world::upstream::Reply;
use crate::world::{Edit, ROUTES, World};

const SECOND: Duration = Duration::from_secs(1);

/// Sessions in a file, a WebSocket beside the API, streams that may go on; and alice.
async fn world(sockets: &SocketUpstream) -> World {
    let rule = format!("{{ upstream = \"{}\" }}", sockets.url());
    let world = World::builder().config(move |toml| {
        toml.set("sessions", "store", "{ file = \"state/sessions.redb\" }")
            .text("server", "stream_close_delay", "8s")
            .set("routes.web.paths", "\"/api/\"", "{}")
            .set("routes.web.paths", "\"/api/socket/\"", &rule)
    });
    let world = world.start().await;
    world.upstream.on("/api/events", open("text/event-stream", "data: hello\n\n"));
    world.browser.login("alice").await;
    world
}

/// An answer that takes `time`.
fn report(time: Duration) -> Reply {
    let parts = vec![(Duration::ZERO, b"first ".to_vec()), (time, b"last".to_vec())];
    Reply::Stream { headers: Vec::new(), parts, open: false }
}

fn store(world: &World) -> File {
    File::open(world.dir().join("state/sessions.redb")).unwrap()
}

/// Waits until the next process could open the store.
async fn is_free(world: &World) {
    let (file, begun) = (store(world), Instant::now());
    while file.try_lock().is_err() {
        assert!(begun.elapsed() < SECOND * 2, "the store is not closed");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    file.unlock().unwrap();
}

/// The store is open until `report` has come, and closed right after.
async fn is_kept_until(world: &World, report: Live) {
    let file = store(world);
    let reading = tokio::spawn(report.ended());
    while !reading.is_finished() {
        assert!(file.try_lock().is_err(), "the store closed while a request was on its way");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(reading.await.unwrap().0, Ending::Whole);
    is_free(world).await;
}

#[tokio::test]
async fn l15_a_shutdown_lets_requests_finish_and_then_ends_event_streams() {
    let mut world = World::start().await;
    world.upstream.on("/api/events", open("text/event-stream", "data: hello\n\n"));
    let parts = vec![(Duration::ZERO, b"first ".to_vec()), (SECOND, b"last".to_vec())];
    world.upstream.on("/api/report", Reply::Stream { headers: Vec::new(), parts, open: false });
    world.browser.login("alice").await;
    let mut events = Live::get(&world, &world.browser, "/api/events").await;
    events.says("data: hello\n\n").await;
    let mut report = Live::get(&world, &world.browser, "/api/report").await;
    report.says("first ").await;
    let began = Instant::now();
    let (ended, finished, ()) = tokio::join!(events.ended(), report.ended(), world.restart());
    assert_eq!((ended.0, finished.0), (Ending::Broken, Ending::Whole));
    assert!(ended.1 >= finished.1, "the stream went first: {ended:?} {finished:?}");
    assert!(began.elapsed() < SECOND * 5, "{:?}", began.elapsed());
    world.finish().await;
}

#[tokio::test]
async fn l15_a_shutdown_does_not_wait_for_sockets() {
    let upstream = SocketUpstream::start().await;
    let url = upstream.url();
    let mut world = World::builder().config(move |toml| toml.text("upstreams.api", "url", &url)).start().await;
    world.browser.login("alice").await;
    let mut socket = Socket::open(&world, &world.browser).await;
    socket.echoes("hello").await;
    let began = Instant::now();
    world.restart().await;
    assert!(began.elapsed() < SECOND * 5, "{:?}", began.elapsed());
    socket.ended().await;
    upstream.has_open(0).await;
    world.finish().await;
}

/// Requests, the store, streams: in this order, each with the one after it still at work; and the next process serves as
/// soon as the store is free.
#[tokio::test]
async fn l15_requests_finish_then_the_store_closes_then_the_next_process_serves_while_streams_go_on() {
    let sockets = SocketUpstream::start().await;
    let mut world = world(&sockets).await;
    world.upstream.on("/api/report", report(SECOND));
    let mut events = Live::get(&world, &world.browser, "/api/events").await;
    events.says("data: hello\n\n").await;
    let mut socket = Socket::open(&world, &world.browser).await;
    socket.echoes("hello").await;
    let mut report = Live::get(&world, &world.browser, "/api/report").await;
    report.says("first ").await;
    let leaving = tokio::spawn(world.leave().shutdown());
    is_kept_until(&world, report).await;
    world.enter().await;
    world.browser.get("/api/me").await.is(200);
    assert!(events.is_quiet_for(Duration::from_millis(100)).await);
    socket.echoes("still here").await;
    let begun = Instant::now();
    assert_eq!(events.ended().await.0, Ending::Broken);
    socket.ended().await;
    let took = begun.elapsed();
    assert!(took > SECOND * 4 && took < SECOND * 9, "they went on for {took:?}");
    leaving.await.unwrap();
    world.finish().await;
}

/// A request at a listener that a reload has closed is one like any other, and no stream stands in for it.
#[tokio::test]
async fn l15_a_request_at_a_listener_that_has_gone_is_waited_for_too() {
    let sockets = SocketUpstream::start().await;
    let mut world = world(&sockets).await;
    world.upstream.on("/api/report", report(SECOND * 2));
    let mut events = Live::get(&world, &world.browser, "/api/events").await;
    events.says("data: hello\n\n").await;
    let mut report = Live::get(&world, &world.browser, "/api/report").await;
    report.says("first ").await;
    let path = format!("unix:{}", world.dir().join("routes.sock").display());
    assert_eq!(world.edit(|toml| toml.text("server", "listen", &path)).await, Edit::Served);
    let leaving = tokio::spawn(world.leave().shutdown());
    is_kept_until(&world, report).await;
    assert!(events.is_quiet_for(Duration::from_millis(100)).await);
    leaving.await.unwrap();
    assert_eq!(events.ended().await.0, Ending::Broken);
    let text = world.edited(|toml| toml.text("server", "listen", ROUTES));
    std::fs::write(world.dir().join("vestibule.toml"), text).unwrap();
    world.enter().await;
    world.browser.get("/api/me").await.is(200);
    world.finish().await;
}

/// What a client said just before counts as use of its session, and no session outlives its time on an open stream, not
/// even on one that never falls silent.
#[tokio::test]
async fn sc_5_the_last_word_is_a_use_and_sessions_run_out_on_streams_that_go_on() {
    let sockets = SocketUpstream::start().await;
    let mut world = world(&sockets).await;
    let mut socket = Socket::open(&world, &world.browser).await;
    let mut events = Live::get(&world, &world.browser, "/api/events").await;
    events.says("data: hello\n\n").await;
    world.clock.shift(20);
    socket.echoes("hello").await;
    let leaving = tokio::spawn(world.leave().shutdown());
    is_free(&world).await;
    // Half an hour is the limit, counted from the last word.
    world.clock.shift(30 * 60 - 10);
    world.enter().await;
    world.browser.get("/api/me").await.is(200);
    world.clock.shift(20);
    let (chattered, silent) = tokio::join!(socket.chatters(), events.ended());
    assert_eq!(silent.0, Ending::Broken);
    assert!(chattered < SECOND * 3 && silent.1 < SECOND * 3, "they went on for {chattered:?} and {:?}", silent.1);
    leaving.await.unwrap();
    world.finish().await;
}

/// Whoever asks twice does not want to wait for streams either.
#[tokio::test]
async fn a_second_sigterm_ends_streams_at_once() {
    let sockets = SocketUpstream::start().await;
    let mut world = world(&sockets).await;
    world.become_process().await;
    let mut socket = Socket::open(&world, &world.browser).await;
    socket.echoes("hello").await;
    world.process().signal("TERM");
    is_free(&world).await;
    socket.echoes("still here").await;
    world.process().signal("TERM");
    assert!(socket.ended().await < SECOND * 2);
    world.process().says("second signal");
    world.kill();
    world.revive().await;
    world.browser.get("/api/me").await.is(200);
    world.finish().await;
}
