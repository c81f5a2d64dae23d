//! The end of a process, in order: requests in flight finish, and the work that they left behind; the store closes; streams
//! go last. What is not done by `drain_timeout` is left behind.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tracing::warn;

use crate::mode::auth_code::Shared;
use crate::reload::house::{House, WATCH};
use crate::server::Connections;
use crate::session::Streams;

/// How often is looked whether something is done that nobody tells of.
const LOOK: Duration = Duration::from_millis(10);
/// A code exchange or a refresh that has begun gets at least the time of one provider call.
const ONE_CALL: Duration = Duration::from_secs(10);
/// How long it may take to note what was said last, and streams that were cut to say so.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Ends everything that the listeners of `house` have begun.
pub(super) async fn all(house: &House) {
    let drain = house.current.load().config.server.drain_timeout;
    let Shared { sessions, streams, .. } = &house.lasting.shared;
    streams.begin_no_more();
    let mut listeners = house.listeners.lock().await;
    let connections = listeners.connections();
    let ending = async { tokio::join!(listeners.shutdown(drain), in_order(house, &connections)) };
    tokio::select! {
        _ = ending => {}
        // Sessions whose time is over take their streams along to the last.
        () = watch(house) => {}
    }
    streams.tasks().close();
    let _ = tokio::time::timeout(LAST_WORDS, streams.tasks().wait()).await;
    sessions.close().await;
}

/// Requests, their work, the store, streams.
async fn in_order(house: &House, connections: &Connections) {
    let config = Arc::clone(&house.current.load().config);
    let (server, idle_timeout) = (&config.server, config.sessions.idle_timeout);
    let (tasks, Shared { sessions, streams, revoker, .. }) = (&house.lasting.tasks, &house.lasting.shared);
    let begun = Instant::now();
    let left = || server.drain_timeout.saturating_sub(begun.elapsed());
    let _ = tokio::time::timeout(left(), only_streams(connections, streams)).await;
    tasks.close();
    if tokio::time::timeout(left().max(ONE_CALL), tasks.wait()).await.is_err() {
        warn!(tasks = tasks.len(), "unfinished work was left behind");
    }
    let last_words = streams.watch_once_more(sessions, idle_timeout, house.lasting.clock.now());
    // A store that does not answer makes nobody wait, for one session after another.
    let _ = tokio::time::timeout(left().min(LAST_WORDS), last_words).await;
    // A file is free for the next process from now on, and nobody but time ends a session any more. Of a store that is
    // shared, streams have to hear until they are gone.
    if !sessions.is_shared() {
        sessions.close().await;
    }
    let _ = tokio::time::timeout(left().min(server.stream_close_delay), no_streams(streams)).await;
    streams.close();
    // Sessions that have ended have let go of the store; only their provider has still to hear of it. The next process may
    // wait for this one to be gone, and not for a provider that hangs.
    revoker.finish(left().min(ONE_CALL)).await;
}

async fn watch(house: &House) {
    loop {
        tokio::time::sleep(WATCH).await;
        house.look_at_streams().await;
    }
}

/// Waits until nothing has a connection but streams: connections are HTTP/1.1, and have one request at a time.
async fn only_streams(connections: &Connections, streams: &Streams) {
    while connections.count() > streams.endless().1 {
        tokio::time::sleep(LOOK).await;
    }
}

async fn no_streams(streams: &Streams) {
    while streams.endless().0 > 0 {
        tokio::time::sleep(LOOK).await;
    }
}
