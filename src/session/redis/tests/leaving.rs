//! What is left in the server when processes leave it, each in its way.

use std::sync::Arc;
use std::time::Duration;

use super::scripts::open;
use crate::session::tests::server::{self, RedisServer};
use crate::session::tests::{at, session};
use crate::session::{EndKind, Selector, Touch};

const IDLE: Duration = Duration::from_secs(1800);

/// A process whose connection has just broken is not heard for a moment, and is there all the same.
#[tokio::test]
async fn who_leaves_takes_nothing_from_a_process_that_is_connecting_again() {
    if !server::is_here() {
        return;
    }
    let server = RedisServer::with(&[]);
    let (leaves, breaks) = (open(&server), open(&server));
    let (_, first) = session("alice", None, at(0));
    let id = first.id;
    leaves.insert(Arc::new(first), at(0)).await.unwrap();
    breaks.opened().await.unwrap();
    breaks.close().await;
    let leaving = tokio::spawn(async move { leaves.leave().await });
    // It has looked for others, and found none.
    while !server.raw("INFO commandstats").contains("cmdstat_pubsub|numsub:") {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let again = open(&server);
    again.opened().await.unwrap();
    leaving.await.unwrap().unwrap();
    assert!(again.load(id, IDLE, Touch::Look, at(1)).await.unwrap().is_some(), "the session is gone");
}

/// Records go by themselves an hour after their end, should nobody come back; what they are found by goes with them.
#[tokio::test]
async fn what_nobody_sweeps_goes_by_itself_and_leaves_nothing() {
    if !server::is_here() {
        return;
    }
    let server = RedisServer::with(&[]);
    let redis = open(&server);
    let add = async |sid: Option<&str>, seconds: i64| {
        let (_, added) = session("alice", sid, at(seconds));
        let id = added.id;
        redis.insert(Arc::new(added), at(seconds)).await.unwrap();
        id
    };
    let (first, later) = (add(Some("one"), 0).await, add(None, 600).await);
    let time_left =
        |key: &str| -> i64 { server.raw(&format!("TTL {key}")).trim().trim_start_matches(':').parse().unwrap() };
    let sets: Vec<String> = {
        let keys = server.raw("KEYS vestibule:i:*");
        keys.lines().filter(|line| line.starts_with("vestibule:i:")).map(str::to_owned).collect()
    };
    assert_eq!(sets.len(), 2, "{sets:?}");
    let records = [first, later].map(|id| time_left(&format!("vestibule:s:{}", id.hex())));
    let longest = records.into_iter().max().unwrap();
    assert!(longest > 3600, "{records:?}");
    for set in &sets {
        let left = time_left(set);
        assert!((1..=longest).contains(&left), "{set}: {left} s, and records {records:?}");
    }
    // What was forgotten is not found, and is out of what it was found by.
    server.raw(&format!("DEL vestibule:s:{}", first.hex()));
    let selector = Selector::Sid { issuer: "https://id.example", sid: "one" };
    assert!(redis.find(selector).await.unwrap().is_empty());
    assert!(sets.iter().any(|set| server.raw(&format!("EXISTS {set}")).starts_with(":0")), "{sets:?}");
    redis.end(Selector::Id(later), EndKind::Local).await.unwrap();
}
