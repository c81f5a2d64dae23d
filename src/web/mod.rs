//! HTTP as browsers speak it: bodies, cookies, origins, return targets, and the strict readers for what strangers send.

mod body;
mod challenge;
mod cookie;
mod cross_site;
mod json;
mod kind;
mod query;
mod random;
mod return_to;
mod seal;

pub use body::{Body, BoxError};
pub use challenge::{Challenge, challenges};
pub use cookie::{CookieJar, CookieName, cut_own, cut_own_set};
pub use cross_site::{CrossSite, Judgement, judge};
pub use json::{JsonError, strict_object};
pub use kind::{Kind, Wants};
pub use query::{Parameter, Query};
pub use random::{RandomError, bytes, token};
pub use return_to::ReturnTo;
pub use seal::{KeyRing, OpenError, Purpose};
