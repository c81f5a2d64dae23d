//! What processes that share a server owe each other, and what a server that comes and goes does to streams.

use std::collections::BTreeSet;
use std::time::Instant;

use tokio_util::task::TaskTracker;

use super::*;
use crate::metrics::StreamKind;

fn wiki() -> Party {
    let route = Name::parse("wiki").unwrap();
    Party { route, issuer: "https://id.example".to_owned(), client_id: "wiki".to_owned() }
}

/// CF-11 beside others: a process that lacks a route knows nothing of those who have it, neither when it has come so nor when
/// an edit has made it so; and it does its duty once it is alone.
#[tokio::test]
async fn cf_11_a_process_without_a_route_ends_no_session_of_those_who_have_it() {
    if !server::is_here() {
        return;
    }
    let redis = server::RedisServer::with(&[]);
    let (with, without) = (in_redis(&redis, 100, Vec::new()), in_redis(&redis, 100, Vec::new()));
    let (_, session) = session("alice", None, at(0));
    let (id, party) = (session.id, Party::from(&*session.binding));
    with.serve(BTreeSet::from([party.clone()]), at(0));
    with.insert(session, at(100)).await.unwrap();
    without.serve(BTreeSet::from([wiki()]), at(0));
    assert_eq!(without.end_unserved(at(700)).await.unwrap(), 0);
    without.serve(BTreeSet::from([party, wiki()]), at(700));
    without.serve(BTreeSet::from([wiki()]), at(700));
    assert_eq!(without.end_unserved(at(1400)).await.unwrap(), 0);
    assert!(with.load(id, IDLE, Touch::Use, at(1401)).await.unwrap().is_some(), "a session of a route that serves");
    with.close().await;
    assert_eq!(without.end_unserved(at(1402)).await.unwrap(), 1);
}

/// A session in `sessions`, and a stream of it that is cut by what `sessions` hears.
async fn stream_in(sessions: &Arc<Sessions>, streams: &Arc<Streams>, subject: &str) -> (SessionId, Stream) {
    let (_, session) = session(subject, None, at(0));
    let id = session.id;
    sessions.insert(session, at(0)).await.unwrap();
    let member = Member { session: id, sessions: Arc::clone(sessions), idle_timeout: IDLE, now: at(1) };
    (id, streams.open(StreamKind::WebSocket, Some(&member), None).await.unwrap().unwrap())
}

fn hear(sessions: &Sessions) -> Arc<Streams> {
    let streams = Streams::new(TaskTracker::new());
    let hears = Arc::clone(&streams);
    sessions.tell_news(Arc::new(move |news| match news {
        News::Ended(session) => hears.cut(session),
        News::Changed(_) => {}
        News::Unknown => hears.look_again(),
    }));
    streams
}

async fn is_up(sessions: &Sessions) {
    let begun = Instant::now();
    while sessions.state().1 != State::Up {
        assert!(begun.elapsed() < Duration::from_secs(10), "the server is not found");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// A server that is back for a moment, and away again before anybody was looked at.
#[tokio::test]
async fn sc_5_a_server_that_comes_and_goes_cuts_no_stream_of_a_session_that_lives() {
    if !server::is_here() {
        return;
    }
    let mut redis = server::RedisServer::start();
    let sessions = Arc::new(in_redis(&redis, 100, Vec::new()));
    let streams = hear(&sessions);
    let (id, stream) = stream_in(&sessions, &streams, "alice").await;
    let is_cut = async || tokio::time::timeout(Duration::from_millis(10), stream.cut()).await.is_ok();
    redis.kill();
    streams.watch(&sessions, IDLE, at(3)).await;
    redis.run();
    is_up(&sessions).await;
    redis.kill();
    streams.watch(&sessions, IDLE, at(4)).await;
    assert!(!is_cut().await, "nobody has said that it is over");
    // Its own time is all that there is to go by.
    streams.watch(&sessions, IDLE, at(1801)).await;
    assert!(is_cut().await);
    redis.run();
    is_up(&sessions).await;
    assert!(sessions.load(id, IDLE, Touch::Use, at(15)).await.unwrap().is_some());
}

/// However many streams there are, a server that is silent is waited for once in a round; and what was said is not lost.
#[tokio::test]
async fn a_silent_server_is_waited_for_once_and_what_was_said_is_noted_later() {
    if !server::is_here() {
        return;
    }
    let mut redis = server::RedisServer::start();
    let sessions = Arc::new(in_redis(&redis, 100, Vec::new()));
    let streams = hear(&sessions);
    let mut open = Vec::new();
    for number in 0..20 {
        open.push(stream_in(&sessions, &streams, &format!("user{number}")).await);
    }
    redis.kill();
    open.iter().for_each(|(_, stream)| stream.spoke().store(true, std::sync::atomic::Ordering::Relaxed));
    let begun = Instant::now();
    streams.watch(&sessions, IDLE, at(1000)).await;
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    redis.run();
    is_up(&sessions).await;
    streams.watch(&sessions, IDLE, at(1001)).await;
    for (id, _) in &open {
        let found = sessions.load(*id, IDLE, Touch::Look, at(1002)).await.unwrap().unwrap();
        assert!(found.last_used_at >= at(1000), "{:?}", found.last_used_at);
    }
}
