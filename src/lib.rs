//! Vestibule: the room between the front door and the house. Caddy is the front door; Vestibule knows OpenID Connect.
//!
//! # One paragraph
//! An operator's TOML becomes a [`config::Config`], in which every value is legal. A `Config` becomes a
//! [`runtime::Snapshot`], immutable: routes, clients, upstreams, key ring. Each request takes one snapshot for its
//! whole life, passes one door (`server::edge`), is matched to a route and its mode, is proved to be somebody, and is
//! handed off to an upstream. A changed file builds a new snapshot beside the old one and swaps the pointer. What must
//! outlive a snapshot is named in [`runtime::Lasting`], and nothing else is shared.
//!
//! # Order
//! `cli → demo → reload → server → runtime → mode → handoff → error → session → provider → web → metrics → config →
//! time`: a module may use modules further right, never further left. A test (`tests/it/architecture.rs`) reads this
//! list and holds every `use` against it.
//!
//! # What is deliberately absent
//! 1. No global state: no `static` that changes, no default metrics registry.
//! 2. Building a snapshot does no network I/O: a provider that is down blocks neither a start nor a reload.
//! 3. A request sees exactly one snapshot.
//! 4. No code below `error` knows a status code for a failure; no code above invents one.
//! 5. No token, code, cookie value or secret is ever formatted: their types have no `Display` and a masked `Debug`.
//! 6. Tokens leave the process only through `handoff` (to the upstream) and `provider::transport` (to the provider);
//!    the one exception, `id_token_hint`, is `provider::Client::end_session`.
//! 7. Only the edge and background loops read the clock.

pub mod cli;
#[cfg(feature = "demo")]
pub mod demo;
pub mod reload;
pub mod server;
pub mod runtime;
pub mod mode;
pub mod handoff;
pub mod error;
pub mod session;
pub mod provider;
pub mod web;
pub mod metrics;
pub mod config;
pub mod time;
