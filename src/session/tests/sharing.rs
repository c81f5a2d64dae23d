//! What processes that share a server owe each other, and what a server that comes and goes does to streams.

use std::collections::BTreeSet;
use std::time::Instant;

use tokio_util::task::TaskTracker;

use super::moving::moved;
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

/// One session that cannot be read is not a server that is silent: what became of the others is asked for.
#[tokio::test]
async fn sc_5_a_session_that_cannot_be_read_costs_the_others_nothing() {
    if !server::is_here() {
        return;
    }
    let redis = server::RedisServer::start();
    let sessions = Arc::new(in_redis(&redis, 100, Vec::new()));
    let streams = hear(&sessions);
    let mut open = Vec::new();
    for number in 0..3 {
        open.push(stream_in(&sessions, &streams, &format!("user{number}")).await);
    }
    // The first that is looked at.
    open.sort_by_key(|(id, _)| *id);
    let (broken, _open) = open.remove(0);
    redis.raw(&format!("SET vestibule:s:{} nonsense", broken.hex()));
    let other = in_redis(&redis, 100, Vec::new());
    for (id, _) in &open {
        other.load(*id, IDLE, Touch::Use, at(1000)).await.unwrap().unwrap();
    }
    other.close().await;
    assert!(sessions.load(broken, IDLE, Touch::Look, at(1801)).await.is_err());
    streams.watch(&sessions, IDLE, at(1801)).await;
    for (id, stream) in &open {
        let is_cut = tokio::time::timeout(Duration::from_millis(10), stream.cut()).await.is_ok();
        assert!(!is_cut, "{id} was used elsewhere");
    }
}

/// Who leaves with a copy brings back whoever logs out at the others, and both send the same refresh tokens: so nobody
/// does, and whoever is alone may.
#[tokio::test]
async fn sessions_do_not_move_away_from_a_server_that_others_have_too() {
    if !server::is_here() {
        return;
    }
    let (one, other) = (server::RedisServer::with(&[]), server::RedisServer::with(&[]));
    let (leaves, stays) = (in_redis(&one, 100, Vec::new()), in_redis(&one, 100, Vec::new()));
    let (_, session) = session("alice", None, at(0));
    let id = session.id;
    leaves.insert(session, at(0)).await.unwrap();
    assert!(stays.load(id, IDLE, Touch::Use, at(1)).await.unwrap().is_some());
    let why = leaves.begin_move(Destination::Redis(redis_options(&other, 100))).await.unwrap_err();
    assert!(why.contains("1 other process(es) have them, too"), "{why}");
    assert!(other.raw("KEYS vestibule:s:*").starts_with("*0"), "nothing was copied");
    assert_eq!(leaves.end(Selector::Id(id), EndKind::Local).await.unwrap().len(), 1);
    stays.close().await;
    moved(&leaves, Destination::Redis(redis_options(&other, 100))).await;
}

/// A name in the place of an address, say. What only another process can open is none of the mover's business either.
#[tokio::test]
async fn another_name_of_the_same_server_is_no_other_place() {
    if !server::is_here() {
        return;
    }
    let redis = server::RedisServer::with(&[]);
    let ours = in_redis(&redis, 100, Vec::new());
    let keys = ["b".repeat(40), "a".repeat(40)].map(Secret::new);
    let newer = RedisOptions { keys: Arc::new(KeyRing::new(&keys).unwrap()), ..redis_options(&redis, 100) };
    let theirs = Sessions::in_redis(newer, Vec::new(), Arc::new(Metrics::new()));
    let (_, session) = session("alice", None, at(0));
    let id = session.id;
    theirs.insert(session, at(0)).await.unwrap();
    let url = redis.url().replace("127.0.0.1", "localhost");
    let to = RedisOptions { server: Arc::new(config::Redis::parse(&url).unwrap()), ..redis_options(&redis, 100) };
    assert!(ours.begin_move(Destination::Redis(to)).await.unwrap().is_none());
    assert!(theirs.load(id, IDLE, Touch::Use, at(1)).await.unwrap().is_some());
}

/// What is written to a server can be read at its copy, which takes no writes itself: it is no place to be.
#[tokio::test]
async fn a_copy_of_the_server_is_neither_the_same_nor_a_place_to_move_to() {
    if !server::is_here() {
        return;
    }
    let redis = server::RedisServer::with(&[]);
    let copy = server::RedisServer::with(&[&format!("replicaof 127.0.0.1 {}", redis.port())]);
    let sessions = in_redis(&redis, 100, Vec::new());
    let id = sessions.insert(session("alice", None, at(0)).1, at(0)).await.unwrap().id;
    let begun = Instant::now();
    while !copy.raw("INFO replication").contains("master_link_status:up") {
        assert!(begun.elapsed() < Duration::from_secs(20), "the copy does not come about");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let why = sessions.begin_move(Destination::Redis(redis_options(&copy, 100))).await.unwrap_err();
    assert!(why.contains("cannot move"), "{why}");
    assert!(sessions.load(id, IDLE, Touch::Use, at(1)).await.unwrap().is_some());
}

/// What was used while sessions were copied is carried over without a word for each.
#[tokio::test]
async fn cf_11_nobody_waits_at_the_end_of_a_move_for_what_was_used_meanwhile() {
    if !server::is_here() {
        return;
    }
    let redis = server::RedisServer::with(&[]);
    let sessions = Sessions::in_memory(Memory::new(100_000), Vec::new(), Arc::new(Metrics::new()));
    let mut all = Vec::new();
    for number in 0..5_000 {
        all.push(sessions.insert(session(&format!("user{number}"), None, at(0)).1, at(0)).await.unwrap().id);
    }
    let moving = sessions.begin_move(Destination::Redis(redis_options(&redis, 100_000))).await.unwrap().unwrap();
    for id in &all {
        sessions.load(*id, IDLE, Touch::Use, at(60)).await.unwrap().unwrap();
    }
    let asked = || -> u64 {
        let stats = redis.raw("INFO stats");
        let count = stats.lines().find_map(|line| line.strip_prefix("total_commands_processed:"));
        count.unwrap().trim().parse().unwrap()
    };
    let before = asked();
    let left = sessions.finish_move(moving).await.unwrap();
    let commands = asked() - before;
    assert!(commands < 500, "{commands} commands for 5,000 uses");
    sessions.forget(left).await;
    for id in all.iter().step_by(100) {
        assert_eq!(sessions.load(*id, IDLE, Touch::Look, at(61)).await.unwrap().unwrap().last_used_at, at(60));
    }
}
