//! What the operator wrote, resolved: every value here is legal, so nothing below has to check it again.
//!
//! The text becomes a table with the place of every value (`toml`), the table is walked against one schema (`keys`,
//! `walk`), and only then read into the types below (`section`; each type stands beside the code that reads it). All
//! three steps collect problems instead of stopping at the first. All parts implement `Eq`: a reload keeps the running
//! state of whatever is equal. Names are resolved: a route holds the provider and the upstream that it means.

mod auth_code;
mod bearer;
mod caddyfile;
mod client;
mod conflicts;
mod device;
mod difference;
mod effects;
mod environment;
mod flat;
mod identity_headers;
mod json_schema;
mod keys;
mod load;
mod mask;
mod measure;
mod mode_name;
mod name;
mod origin;
mod path_rule;
mod prefix;
mod provider;
mod providers;
mod redis;
mod reference;
mod registrations;
mod report;
mod route;
mod schema;
mod secret;
mod section;
mod server;
mod sessions;
mod shadows;
mod standby;
mod starter;
mod upstream;
mod verify;
mod walk;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

pub use auth_code::{AuthCode, ClaimsShown, ClaimsSource};
pub use bearer::{Bearer, Issuer, TokenProfile, resource_metadata_path, resource_metadata_url};
pub use caddyfile::{FrontEnd, caddyfile};
pub use client::{AuthMethod, Client, Forwarded, Userinfo};
pub use device::Device;
pub use difference::{Change, Difference, Written, difference};
pub use effects::{Effect, effects};
pub use environment::{Environment, File, System, Unreadable};
pub use identity_headers::IdentityHeader;
pub use json_schema::json_schema;
pub use load::{Loaded, load, load_text};
pub use measure::parse_duration;
pub use name::Name;
pub use origin::{Origin, RedirectPrefix, Scheme};
pub use path_rule::{Authorization, PathRule, Unauthenticated};
pub use provider::{Provider, SigningAlg};
pub use redis::{Redis, Servers};
pub use reference::reference;
pub use registrations::{Registration, Registrations, redirect_uri, registrations};
pub use report::{Problem, Report, Severity, Sources};
pub use route::{Mode, Route, RouteKey};
pub use secret::Secret;
pub use server::{Control, Listen, Log, LogFormat, Server};
pub use sessions::{Sessions, Store};
pub use standby::metrics_listen;
pub use starter::{NewFile, Starter, WriteError};
pub use upstream::{Target, Upstream, UpstreamHost};
pub use verify::Verify;

/// The whole resolved configuration; the only way to get one is [`load`].
#[derive(Debug, PartialEq, Eq)]
pub struct Config {
    /// Listeners and who may speak to them.
    pub server: Server,
    /// Where sessions live and how long.
    pub sessions: Sessions,
    /// What is logged and how.
    pub log: Log,
    /// Every provider, also those that no route uses.
    pub providers: BTreeMap<Name, Arc<Provider>>,
    /// Every route by its name, which is its identity in metrics, logs, verdicts and across reloads.
    pub routes: BTreeMap<Name, Arc<Route>>,
    /// Secret, key and CA files that were read; they are watched like the config file itself.
    pub files: BTreeSet<PathBuf>,
}
