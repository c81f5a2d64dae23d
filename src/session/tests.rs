//! Every store keeps the same promises: compare-and-swap, both clocks, the index, the bound, and the hooks.

mod moving;
mod pages;
mod sharing;
#[path = "../../tests/it/world/port.rs"]
#[expect(unreachable_pub, reason = "the stories of tests/it are a crate of their own")]
mod port;
#[path = "../../tests/it/world/redis.rs"]
#[expect(dead_code, unreachable_pub, reason = "the stories of tests/it use the rest")]
pub(in crate::session) mod server;

use std::sync::OnceLock;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Map, json};

use super::*;
use crate::config::{self, Name, Secret};
use crate::metrics::Metrics;
use crate::provider::{AccessToken, IdToken, RefreshToken, Renewal};
use crate::web::KeyRing;

pub(in crate::session) const IDLE: Duration = Duration::from_secs(1800);

type Ends = Arc<Mutex<Vec<(SessionId, EndKind)>>>;

/// Tells `story` once on each store, with room for `capacity` sessions.
async fn on_each_store(capacity: usize, story: impl AsyncFn(Sessions, Ends)) {
    let (hook, ends) = told();
    story(Sessions::in_memory(Memory::new(capacity), vec![hook], Arc::new(Metrics::new())), ends).await;
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("sessions.redb");
    let options = FileOptions { path, capacity, keys: Arc::new(KeyRing::new(&[]).unwrap()) };
    let (hook, ends) = told();
    story(Sessions::in_file(options, vec![hook], Arc::new(Metrics::new())), ends).await;
    if server::is_here() {
        let server = server::RedisServer::with(&[]);
        let (hook, ends) = told();
        story(in_redis(&server, capacity, vec![hook]), ends).await;
    }
}

/// Sessions in a server, as one of its processes has them.
pub(in crate::session) fn in_redis(server: &server::RedisServer, capacity: usize, hooks: Vec<EndHook>) -> Sessions {
    Sessions::in_redis(redis_options(server, capacity), hooks, Arc::new(Metrics::new()))
}

fn redis_options(server: &server::RedisServer, capacity: usize) -> RedisOptions {
    let keys = Arc::new(KeyRing::new(&[Secret::new("a".repeat(40))]).unwrap());
    let server = config::Redis::parse(&server.url()).unwrap();
    RedisOptions { server: Arc::new(server), capacity, keys }
}

/// How much later than it says a store lets go of a session.
fn lag(sessions: &Sessions) -> i64 {
    if sessions.state().0 == "redis" { 10 } else { 0 }
}

fn told() -> (EndHook, Ends) {
    let ends = Ends::default();
    let noted = Arc::clone(&ends);
    (Arc::new(move |session, kind| noted.lock().unwrap().push((session.id, kind))), ends)
}

pub(in crate::session) fn at(seconds: i64) -> Timestamp {
    Timestamp::from_unix(1_700_000_000 + seconds)
}

pub(in crate::session) fn session(subject: &str, sid: Option<&str>, now: Timestamp) -> (Handle, Session) {
    let handle = Handle::new().unwrap();
    let name = |text| Name::parse(text).unwrap();
    let session = Session {
        id: handle.id(),
        version: 0,
        binding: Arc::new(Binding {
            route: name("web"),
            provider: name("corp"),
            issuer: "https://id.example".to_owned(),
            client_id: "web".to_owned(),
        }),
        subject: subject.to_owned(),
        sid: sid.map(str::to_owned),
        created_at: now,
        expires_at: now.plus(Duration::from_secs(36_000)),
        claims: Map::new(),
        userinfo: Map::new(),
        tokens: Tokens {
            access: AccessToken::from_stored("access").unwrap(),
            access_expires_at: now.plus(Duration::from_secs(300)),
            obtained_at: now,
            refresh: RefreshToken::from_stored("refresh"),
            id_token: IdToken::from_stored("id"),
        },
        profile: OnceLock::new(),
    };
    (handle, session)
}

pub(in crate::session) fn renewal(token: &str, now: Timestamp) -> Renewal {
    Renewal {
        access_token: AccessToken::from_stored(token).unwrap(),
        access_expires_at: now.plus(Duration::from_secs(300)),
        refresh_token: None,
        id_token: None,
    }
}

#[tokio::test]
async fn sc_3_a_handle_opens_its_session_and_nothing_else_does() {
    on_each_store(10, async |sessions, _| {
        let (handle, session) = session("alice", None, at(0));
        sessions.insert(session, at(0)).await.unwrap();
        assert_eq!(handle.expose().len(), 43);
        let id = SessionId::of_cookie(handle.expose().as_bytes()).unwrap();
        assert!(sessions.load(id, IDLE, Touch::Use, at(1)).await.unwrap().is_some());
        for strange in [&b""[..], b"short", &[b'='; 43], &[0xff; 43], &[b'A'; 44]] {
            assert!(SessionId::of_cookie(strange).is_none(), "{strange:?}");
        }
        let other = SessionId::of_cookie(&[b'A'; 43]).unwrap();
        assert!(sessions.load(other, IDLE, Touch::Use, at(1)).await.unwrap().is_none());
        assert!(!format!("{handle:?}").contains(handle.expose()));
    })
    .await;
}

#[tokio::test]
async fn sc_5_idle_and_absolute_ends_are_kept_and_a_look_does_not_extend() {
    on_each_store(10, async |sessions, ends| {
        let (_, session) = session("alice", None, at(0));
        let id = session.id;
        sessions.insert(session, at(0)).await.unwrap();
        assert!(sessions.load(id, IDLE, Touch::Look, at(1_799)).await.unwrap().is_some());
        assert!(sessions.load(id, IDLE, Touch::Look, at(1_800 + lag(&sessions))).await.unwrap().is_none());
        assert_eq!(sessions.load(id, IDLE, Touch::Use, at(1_799)).await.unwrap().unwrap().last_used_at, at(1_799));
        for step in 1..20 {
            assert!(sessions.load(id, IDLE, Touch::Use, at(1_799 * step)).await.unwrap().is_some());
        }
        assert!(sessions.load(id, IDLE, Touch::Use, at(35_000)).await.unwrap().is_some());
        assert!(sessions.load(id, IDLE, Touch::Use, at(35_999)).await.unwrap().is_some());
        assert!(sessions.load(id, IDLE, Touch::Use, at(36_000)).await.unwrap().is_none());
        assert_eq!(sessions.sweep(IDLE, at(36_000)).await.unwrap(), 1);
        assert_eq!(*ends.lock().unwrap(), [(id, EndKind::Expired)]);
        assert_eq!(sessions.count(), 0);
    })
    .await;
}

#[tokio::test]
async fn sc_13_s18_far_clocks_do_not_wrap() {
    on_each_store(10, async |sessions, _| {
        let (_, mut session) = session("alice", None, Timestamp::from_unix(i64::MAX - 10));
        session.expires_at = session.created_at.plus(Duration::from_secs(u64::MAX));
        let id = session.id;
        sessions.insert(session, Timestamp::from_unix(i64::MAX - 10)).await.unwrap();
        assert!(sessions.load(id, IDLE, Touch::Look, Timestamp::from_unix(i64::MAX - 5)).await.unwrap().is_some());
    })
    .await;
}

#[tokio::test]
async fn px_17_the_later_of_two_writers_of_one_version_loses() {
    on_each_store(10, async |sessions, _| {
        let (_, session) = session("alice", None, at(0));
        let first = sessions.insert(session, at(0)).await.unwrap();
        let Swap::Done(second) =
            sessions.replace(Arc::new(first.renewed(renewal("a", at(1)), at(1))), None).await.unwrap()
        else {
            panic!()
        };
        assert_eq!(second.version, 1);
        assert_eq!(second.tokens.refresh.as_ref().unwrap().expose(), "refresh", "not rotated: the old one stays");
        let Swap::Stale(kept) =
            sessions.replace(Arc::new(first.renewed(renewal("b", at(1)), at(1))), None).await.unwrap()
        else {
            panic!()
        };
        assert_eq!(kept.tokens.access.expose(), "a");
    })
    .await;
}

#[tokio::test]
async fn x15_o28_a_refresh_does_not_bring_an_ended_session_back() {
    on_each_store(10, async |sessions, _| {
        let (_, session) = session("alice", None, at(0));
        let first = sessions.insert(session, at(0)).await.unwrap();
        sessions.end(Selector::Id(first.id), EndKind::Local).await.unwrap();
        assert!(matches!(
            sessions.replace(Arc::new(first.renewed(renewal("a", at(1)), at(1))), None).await.unwrap(),
            Swap::Gone
        ));
        assert!(sessions.load(first.id, IDLE, Touch::Look, at(1)).await.unwrap().is_none());
    })
    .await;
}

#[tokio::test]
async fn cb_23_bc_6_ends_by_sid_one_session_and_by_subject_all() {
    on_each_store(100, async |sessions, ends| {
        let mut ids = Vec::new();
        for (subject, sid) in [("alice", Some("s1")), ("alice", Some("s2")), ("alice", None), ("bob", Some("s1x"))] {
            let (_, session) = session(subject, sid, at(0));
            ids.push(session.id);
            sessions.insert(session, at(0)).await.unwrap();
        }
        let issuer = "https://id.example";
        let by_sid = sessions.end(Selector::Sid { issuer, sid: "s2" }, EndKind::Local).await.unwrap();
        assert_eq!(by_sid.iter().map(|session| session.id).collect::<Vec<_>>(), [ids[1]]);
        let elsewhere = Selector::Subject { issuer: "https://other.example", subject: "alice" };
        assert!(sessions.end(elsewhere, EndKind::Local).await.unwrap().is_empty());
        let by_subject = sessions.end(Selector::Subject { issuer, subject: "alice" }, EndKind::Local).await.unwrap();
        assert_eq!(by_subject.len(), 2);
        assert_eq!(sessions.count(), 1, "bob stays");
        assert_eq!(ends.lock().unwrap().len(), 3, "each end is told once");
        assert!(
            sessions
                .end(Selector::Subject { issuer, subject: "alice" }, EndKind::Local)
                .await
                .unwrap()
                .is_empty()
        );
    })
    .await;
}

#[tokio::test]
async fn sc_11_a_full_store_ends_the_longest_unused() {
    on_each_store(2, async |sessions, ends| {
        let mut ids = Vec::new();
        for second in 0..3 {
            let (_, session) = session("alice", None, at(second));
            ids.push(session.id);
            sessions.insert(session, at(second)).await.unwrap();
            assert!(sessions.count() <= 2);
        }
        assert!(sessions.load(ids[2], IDLE, Touch::Look, at(3)).await.unwrap().is_some(), "a fresh login stays");
        let ends = ends.lock().unwrap();
        assert_eq!(ends.len(), 1);
        assert_eq!(ends[0].1, EndKind::Evicted);
    })
    .await;
}

#[test]
fn claims_are_found_by_full_name_before_dots_descend() {
    let claims = json!({ "a.b": 1, "a": { "b": 2, "c": { "d": 3 } }, "https://x.example/groups": ["g"] });
    let claims = claims.as_object().unwrap();
    assert_eq!(claim(claims, "a.b"), Some(&json!(1)));
    assert_eq!(claim(claims, "a.c.d"), Some(&json!(3)));
    assert_eq!(claim(claims, "https://x.example/groups"), Some(&json!(["g"])));
    assert_eq!(claim(claims, "a.b.c"), None);
}
