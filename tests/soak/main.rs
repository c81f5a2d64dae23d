//! Stories that take their time: a hundred kills under load, and crowds at the end of a token. Run apart from the
//! default suite: `cargo test --test soak`.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    reason = "tests fail by panicking"
)]
#![expect(unreachable_pub, reason = "nothing in a test binary is reachable from outside")]

mod client;
mod crowd;
mod kills;
#[expect(dead_code, reason = "the kit serves other stories too")]
#[path = "../it/world/mod.rs"]
mod world;
