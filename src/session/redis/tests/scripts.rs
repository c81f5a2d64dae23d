//! The scripts in a real server answer as the model that was explored does, whatever comes in whatever order.

use std::sync::Arc;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use super::model::{self, Begun, Replaced};
use crate::session::redis::scripts::Name;
use crate::session::redis::{Redis, RedisLease, RedisOptions, Word};
use crate::session::sessions::Hooks;
use crate::session::tests::server::{self, RedisServer};
use crate::session::tests::{at, renewal, session};
use crate::session::{Begin, EndKind, Journal, Selector, Session, Swap};
use crate::{config, metrics::Metrics, web::KeyRing};

/// What happens.
#[derive(Clone, Copy, Debug)]
enum Act {
    /// Process `who` begins with the version that there is, or with one before.
    Begin {
        who: usize,
        old: bool,
        patient: bool,
    },
    Hold {
        who: usize,
        word: Word,
    },
    /// It writes the version after the one that it began with.
    Replace {
        who: usize,
    },
    Expire,
    End,
}

fn act() -> impl Strategy<Value = Act> {
    let who = || 0..3_usize;
    let word = prop_oneof![Just(Word::Renew), Just(Word::Deny), Just(Word::Leave)];
    prop_oneof![
        6 => (who(), prop::bool::weighted(0.1), any::<bool>()).prop_map(|(who, old, patient)| Act::Begin { who, old, patient }),
        4 => (who(), word).prop_map(|(who, word)| Act::Hold { who, word }),
        4 => who().prop_map(|who| Act::Replace { who }),
        4 => Just(Act::Expire),
        1 => Just(Act::End),
    ]
}

/// A lease that was given to a process, and what the model calls it.
struct Held {
    lease: RedisLease,
    owner: usize,
    fence: u64,
    session: Arc<Session>,
}

async fn same(redis: &Redis, server: &RedisServer, acts: Vec<Act>) {
    let mut model = model::Store::new();
    let (_, first) = session("alice", None, at(0));
    let mut current = Arc::new(first);
    let mut before = Arc::clone(&current);
    redis.insert(Arc::clone(&current), at(0)).await.unwrap();
    let mut held: [Option<Held>; 3] = [None, None, None];
    let mut owners = 0;
    for act in acts {
        match act {
            Act::Begin { who, old, patient } => {
                let session = Arc::clone(if old { &before } else { &current });
                owners += 1;
                let expected = model.begin(owners, session.version, patient);
                match (redis.begin(&session, patient).await.unwrap(), expected) {
                    (Begin::Begun(lease), Begun::Lease { fence, interrupted }) => {
                        assert_eq!(lease.journal == Journal::Interrupted, interrupted);
                        let lease = lease.redis.unwrap();
                        assert_eq!(lease.fence, fence.to_string());
                        held[who] = Some(Held { lease, owner: owners, fence, session });
                    }
                    (Begin::Elsewhere, Begun::Elsewhere) | (Begin::Gone, Begun::Gone) => {}
                    (said, expected) => panic!("{said:?} and not {expected:?}"),
                }
            }
            Act::Hold { who, word } => {
                let Some(holder) = &held[who] else { continue };
                let expected = model.hold(holder.owner, (holder.fence, holder.lease.interrupted), word);
                assert_eq!(redis.hold(&holder.lease, word).await.unwrap(), expected, "{word:?}");
            }
            Act::Replace { who } => {
                let Some(holder) = &held[who] else { continue };
                let token = format!("{}-{}", holder.fence, holder.session.version);
                let next = Arc::new(holder.session.renewed(renewal(&token, at(1)), at(1)));
                let expected = model.replace(next.version, holder.fence);
                let said = redis.replace(Arc::clone(&next), Some(&holder.lease)).await.unwrap();
                match (said, expected) {
                    (Swap::Done(_), Replaced::Done) => (before, current) = (current, next),
                    // Written before by the same holder: it is told that its version is there.
                    (Swap::Done(_), Replaced::Stale) => assert!(current.is_same_version(&next)),
                    (Swap::Stale(_), Replaced::Stale)
                    | (Swap::Fenced, Replaced::Fenced)
                    | (Swap::Gone, Replaced::Gone) => {}
                    (said, expected) => panic!("{said:?} and not {expected:?}"),
                }
            }
            Act::Expire => {
                model.expire();
                server.raw(&format!("DEL vestibule:l:{}", current.id.hex()));
            }
            Act::End => {
                model.end();
                redis.end(Selector::Id(current.id), EndKind::Local).await.unwrap();
            }
        }
    }
    redis.end(Selector::Id(current.id), EndKind::Local).await.unwrap();
}

pub(super) fn open(server: &RedisServer) -> Redis {
    open_with(server, &["a key, and as long as it has to be at least"])
}

/// A store in `server`, sealed with `keys`.
pub(super) fn open_with(server: &RedisServer, keys: &[&str]) -> Redis {
    let url = config::Redis::parse(&server.url()).unwrap();
    let keys: Vec<_> = keys.iter().map(|key| config::Secret::new((*key).to_owned())).collect();
    let keys = Arc::new(KeyRing::new(&keys).unwrap());
    let options = RedisOptions { server: Arc::new(url), capacity: 100, keys };
    Redis::open(options, Hooks::new(Vec::new()), Arc::new(Metrics::new()))
}

#[test]
fn px_17_the_scripts_are_what_was_explored() {
    if !server::is_here() {
        return;
    }
    let server = RedisServer::with(&[]);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let redis = runtime.block_on(async { open(&server) });
    let mut runner = TestRunner::new(Config { cases: 300, failure_persistence: None, ..Config::default() });
    let story = |acts: Vec<Act>| {
        runtime.block_on(same(&redis, &server, acts));
        Ok(())
    };
    runner.run(&prop::collection::vec(act(), 1..40), story).unwrap();
}

/// A begin that is asked again because its answer was lost is the same lease, and does not say that nobody sent before.
#[tokio::test]
async fn px_15_a_begin_that_is_asked_again_is_the_same_and_takes_nothing_for_granted() {
    if !server::is_here() {
        return;
    }
    let server = RedisServer::with(&[]);
    let redis = open(&server);
    let (_, session) = session("alice", None, at(0));
    let session = Arc::new(session);
    redis.insert(Arc::clone(&session), at(0)).await.unwrap();
    let begin = |owner: &str| {
        let mut begin = redis.script(Name::Begin);
        begin.arg(session.id.hex()).arg(session.version).arg(owner).arg(3000);
        begin
    };
    let ask = async |owner: &str| redis.link.call::<(String, String, u8)>(&begin(owner)).await.unwrap();
    assert_eq!(ask("one").await, ("begun".to_owned(), "1".to_owned(), 0));
    assert_eq!(ask("one").await, ("begun".to_owned(), "1".to_owned(), 1));
}
