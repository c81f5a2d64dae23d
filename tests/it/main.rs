//! The integration suite: one binary, one kit, stories against real sockets.
#![expect(clippy::unwrap_used, reason = "tests fail by panicking")]

mod architecture;
