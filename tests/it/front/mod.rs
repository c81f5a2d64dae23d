//! Strangers before the shipped Caddyfile, on every Caddy at hand: what they send gives them no identity, no way round a
//! door, and no request that is not theirs.

mod agents;
mod bodies;
mod identity;
pub mod site;
mod tricks;
mod trouble;

use site::{Actor, BROWSER, Front, PATIENCE, Seen, behind_each};
