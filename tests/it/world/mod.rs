//! The kit: a world of provider, upstream, sidecar and browser on loopback, and what must hold after every story.
//!
//! ```ignore
//! let world = World::start().await;
//! world.browser.login("alice").await;
//! world.browser.get("/api/me").await.is(200);
//! world.finish().await;
//! ```

pub mod answer;
pub mod browser;
pub mod canary;
pub mod jar;
pub mod log;
pub mod raw;
pub mod site;
pub mod toml;
pub mod upstream;

use std::time::{Duration, Instant};

/// Waits until `done`, at most ten seconds.
#[track_caller]
pub fn eventually(what: &str, mut done: impl FnMut() -> bool) -> impl Future<Output = ()> {
    let place = std::panic::Location::caller();
    let what = what.to_owned();
    async move {
        let start = Instant::now();
        while !done() {
            assert!(start.elapsed() < Duration::from_secs(10), "{place}: waited in vain for {what}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

/// A name for one world that is in no other.
pub fn unique() -> String {
    let token = vestibule::web::token().unwrap();
    token.chars().filter(char::is_ascii_alphanumeric).take(16).collect()
}
