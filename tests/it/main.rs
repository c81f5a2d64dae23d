//! The integration suite: one binary, one kit, stories against real sockets.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    reason = "tests fail by panicking"
)]
#![expect(unreachable_pub, reason = "nothing in a test binary is reachable from outside")]

mod account;
mod alerts;
mod architecture;
mod bearer;
mod by_hand;
mod caddies;
mod caddyfile;
mod callback;
mod clients;
mod clocks;
mod commands;
mod config;
mod conformance;
mod control;
mod demo;
mod cross_site;
mod diff;
mod drain;
mod edits;
mod every_key;
mod explain;
mod farewells;
mod fresh_start;
mod failures;
mod front;
mod hints;
mod inbound;
mod init;
mod kit;
mod legacy;
mod login;
mod logout;
mod logs;
mod loops;
mod manager;
mod mounted;
mod moves;
mod online;
mod openid;
mod outside;
mod paths;
mod provider;
mod proxy;
mod readme;
mod redirects;
mod refresh;
mod replicas;
mod revocations;
mod session;
mod sites;
mod step_up;
mod store;
mod strangers;
mod streams;
mod uploads;
mod vanished;
mod verdict;
mod ways_on;
mod websocket;
#[expect(dead_code, reason = "the kit serves stories to come")]
mod world;
