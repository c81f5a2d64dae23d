//! Processes whose key rings differ, as they do while a new key is being given to one after the other.

use std::sync::Arc;

use super::scripts::open_with;
use crate::session::tests::server::{self, RedisServer};
use crate::session::tests::{at, renewal, session};
use crate::session::{Begin, Swap};

/// What was renewed there is not taken for ended here: then what was just issued would be revoked.
#[tokio::test]
async fn s24_a_version_that_cannot_be_opened_is_not_an_end() {
    if !server::is_here() {
        return;
    }
    let server = RedisServer::with(&[]);
    let (old, new) = ("o".repeat(40), "n".repeat(40));
    let (behind, ahead) = (open_with(&server, &[&old]), open_with(&server, &[&new, &old]));
    let (_, first) = session("alice", None, at(0));
    let first = Arc::new(first);
    behind.insert(Arc::clone(&first), at(0)).await.unwrap();
    let Begin::Begun(lease) = behind.begin_refresh(&first).await.unwrap() else { panic!("nobody else has it") };
    // The holder stands still; another takes over.
    server.raw(&format!("DEL vestibule:l:{}", first.id.hex()));
    let Begin::Begun(later) = ahead.begin(&first, false).await.unwrap() else { panic!("it is free") };
    let renewed = |token: &str| Arc::new(first.renewed(renewal(token, at(1)), at(1)));
    let done = ahead.replace(renewed("second"), later.redis.as_ref()).await.unwrap();
    assert!(matches!(done, Swap::Done(_)), "{done:?}");
    let late = behind.replace(renewed("first"), lease.redis.as_ref()).await.unwrap();
    assert!(matches!(late, Swap::Sealed), "{late:?}");
}
