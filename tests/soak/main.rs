//! Stories that take their time: a hundred kills under load, a hundred reloads, restarts, crowds at the end of a token,
//! streams that are kept for minutes, a hundred thousand strangers. Run apart from the default suite: `cargo test --test soak`.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    reason = "tests fail by panicking"
)]
#![expect(unreachable_pub, reason = "nothing in a test binary is reachable from outside")]

#[expect(dead_code, reason = "what looks at Caddyfiles serves other stories")]
#[path = "../it/caddies.rs"]
mod caddies;
mod caddy;
mod client;
mod crowd;
mod kills;
mod reloads;
mod replicas;
mod restarts;
#[expect(dead_code, reason = "the site serves other stories too")]
#[path = "../it/front/site.rs"]
mod site;
mod streams;
mod traffic;
mod unfinished;
mod verdicts;
#[expect(dead_code, reason = "the kit serves other stories too")]
#[path = "../it/world/mod.rs"]
mod world;
