//! Clients that bring bearer tokens of their own: device and verify mode, proxied and as verdicts.

mod device;
mod discovery;
mod flow;
mod keys;
mod opaque;
mod program;
mod rules;
mod sets;
mod step_up;
mod table;

use std::net::SocketAddr;

use serde_json::json;
use vestibule::demo::provider::JwtMutation;

use crate::world::World;
use crate::world::answer::Answer;
use crate::world::builder::Builder;
use crate::world::raw::Raw;
use crate::world::toml::Toml;

/// Where the verify route of these stories is.
pub(super) const API: &str = "https://api.test";

const VERDICTS: &str = "127.0.0.3:0";

/// What makes a world with a verify route at [`API`] beside the usual one, changed by `edit`.
pub(super) fn builder(edit: impl FnOnce(&mut Toml) -> &mut Toml + Send + 'static) -> Builder {
    World::builder().config(|toml| {
        toml.text("server", "verdict_listen", VERDICTS)
            .text("routes.things", "mode", "verify")
            .text("routes.things", "public_url", API)
            .set("routes.things", "audiences", "[\"api\"]")
            .text("routes.things", "upstream", "api");
        edit(toml)
    })
}

/// The world of such a builder.
pub(super) async fn world(edit: impl FnOnce(&mut Toml) -> &mut Toml + Send + 'static) -> World {
    let world = builder(edit).start().await;
    world.add_host("api.test", false).await;
    world
}

/// The usual world of a verify route.
pub(super) async fn usual() -> World {
    world(|toml| toml).await
}

/// An access token of alice's for the client `cli`.
pub(super) fn token(world: &World, changes: &[JwtMutation]) -> String {
    world.provider.access_token(("alice", "cli"), &["read", "write"], changes).unwrap()
}

/// A token that no two calls give alike.
pub(super) fn fresh_token(world: &World) -> String {
    token(world, &[unlike_any_other()])
}

/// What makes a token another one.
pub(super) fn unlike_any_other() -> JwtMutation {
    JwtMutation::SetClaim("n", json!(crate::world::unique()))
}

/// Calls the API as a program does.
pub(super) async fn call(world: &World, token: &str) -> Answer {
    call_at(world, "/things/1", token).await
}

/// The same, elsewhere.
pub(super) async fn call_at(world: &World, path: &str, token: &str) -> Answer {
    let ask = world.new_browser().get(&format!("{API}{path}")).without_metadata();
    ask.header("authorization", &format!("Bearer {token}")).await
}

/// The challenge of a refusal.
#[track_caller]
pub(super) fn challenge(answer: &Answer) -> &str {
    answer.header("www-authenticate").unwrap_or_else(|| panic!("no challenge: {}", answer.describe()))
}

/// What Caddy is told when it asks for `uri` of the verify route with these header lines.
pub(super) async fn verdict(world: &World, uri: &str, lines: &[String]) -> String {
    let address: SocketAddr = world.bound(VERDICTS).await;
    let mut head = format!(
        "GET /things HTTP/1.1\r\nHost: api.test\r\nX-Forwarded-For: 203.0.113.7\r\nX-Forwarded-Proto: https\r\n\
         X-Forwarded-Method: GET\r\nX-Forwarded-Uri: {uri}\r\nX-Forwarded-Host: api.test\r\n"
    );
    lines.iter().for_each(|line| head.push_str(&format!("{line}\r\n")));
    let mut raw = Raw::connect(address).await;
    raw.write(format!("{head}\r\n")).await;
    raw.read_answer().await
}

/// The status of an answer as it came over the wire.
#[track_caller]
pub(super) fn status(answer: &str) -> u16 {
    let code = answer.split(' ').nth(1).and_then(|code| code.parse().ok());
    code.unwrap_or_else(|| panic!("no answer: {answer:?}"))
}

/// The value of a header of such an answer.
pub(super) fn header<'a>(answer: &'a str, name: &str) -> Option<&'a str> {
    let head = answer.split("\r\n\r\n").next().unwrap();
    let mut lines = head.lines().filter_map(|line| line.split_once(": "));
    lines.find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value)
}
