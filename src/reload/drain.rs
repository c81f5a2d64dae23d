//! The end of a process, in order: requests in flight finish, and the work that they left behind; the store closes; streams
//! go last. What is not done by `drain_timeout` is left behind.

use std::time::{Duration, Instant};

use tracing::warn;

use crate::reload::house::House;
use crate::server::Connections;
use crate::session::Streams;

/// How often is looked whether something is done that nobody tells of.
const LOOK: Duration = Duration::from_millis(10);
/// A code exchange or a refresh that has begun gets at least the time of one provider call.
const ONE_CALL: Duration = Duration::from_secs(10);
/// How long streams that were cut may take to say so.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Ends everything that the listeners of `house` have begun.
pub(super) async fn all(house: &House) {
    let (drain, delay) = {
        let server = &house.current.load().config.server;
        (server.drain_timeout, server.stream_close_delay)
    };
    let (tasks, shared) = (&house.lasting.tasks, &house.lasting.shared);
    let streams = &shared.streams;
    streams.begin_no_more();
    let begun = Instant::now();
    let mut listeners = house.listeners.lock().await;
    let connections = listeners.connections();
    let rest = async {
        let left = || drain.saturating_sub(begun.elapsed());
        let _ = tokio::time::timeout(left(), only_streams(&connections, streams)).await;
        tasks.close();
        if tokio::time::timeout(left().max(ONE_CALL), tasks.wait()).await.is_err() {
            warn!(tasks = tasks.len(), "unfinished work was left behind");
        }
        // Nobody asks it any more: sessions were looked up when their streams began, and the loop that looks again has ended.
        shared.sessions.close().await;
        let _ = tokio::time::timeout(left().min(delay), no_streams(streams)).await;
        streams.close();
    };
    tokio::join!(listeners.shutdown(drain), rest);
    streams.tasks().close();
    let _ = tokio::time::timeout(LAST_WORDS, streams.tasks().wait()).await;
}

/// Waits until nothing has a connection but streams. Over HTTP/2 several may share one; a request that is then taken for a
/// stream still finishes, with its session looked up already.
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
