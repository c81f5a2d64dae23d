//! device and verify mode: clients that bring bearer tokens of their own. They are verified before anything is handed on;
//! whoever has none is told where to get one (RFC 6750, RFC 9728), and a CLI is told where to begin (RFC 8628).

mod challenge;
mod credential;
mod discover;
mod memory;
mod pass;

use std::sync::Arc;
use std::sync::atomic::AtomicI64;

use http::{HeaderValue, Response};

use crate::config;
use crate::error::{Reason, Refusal};
use crate::metrics::RouteMetrics;
use crate::mode::{Call, Endpoint, Place, Rule, Served, Verdict, rules};
use crate::provider::{Client, Verifier};
use crate::web::Body;

use challenge::Challenges;
use memory::Memory;

/// A running route of device or verify mode.
#[derive(Debug)]
pub struct Bearer {
    config: Arc<config::Route>,
    /// What a CLI is told; device mode only.
    device: Option<Client>,
    /// `None`: bearers are handed on unseen, which only device mode can be told to do.
    verifier: Option<Verifier>,
    rules: Vec<Rule>,
    /// Names of the claims that the rules and the headers of verdicts look at.
    asked_for: Vec<String>,
    /// The host of each public URL.
    hosts: Vec<Option<HeaderValue>>,
    challenges: Challenges,
    /// What RFC 9728 2 has to say.
    metadata: String,
    /// Tokens that were verified a moment ago. Ends with this route, so a verdict never outlives the rules it was
    /// made by.
    memory: Memory,
    metrics: RouteMetrics,
    /// When the log was last told of a token for somebody else, in seconds since the epoch.
    told_of_audience: AtomicI64,
}

impl Bearer {
    /// Builds the route from its parts; `rules` stand in the order of the configuration.
    #[must_use]
    pub fn build(
        config: Arc<config::Route>,
        (device, verifier): (Option<Client>, Option<Verifier>),
        rules: Vec<Rule>,
        metrics: RouteMetrics,
    ) -> Self {
        Self {
            hosts: config.public_urls.iter().map(|url| HeaderValue::from_str(&url.host).ok()).collect(),
            challenges: Challenges::new(&config),
            metadata: discover::metadata(&config),
            memory: Memory::default(),
            told_of_audience: AtomicI64::new(i64::MIN),
            asked_for: rules::asked_for(rules.iter().map(|rule| &*rule.config), &config.groups_claim),
            config,
            device,
            verifier,
            rules,
            metrics,
        }
    }

    /// The configuration that it runs with.
    #[must_use]
    pub const fn config(&self) -> &Arc<config::Route> {
        &self.config
    }

    /// Serves one request: a [`Refusal`] for everything that is not served.
    #[must_use]
    pub fn serve(self: &Arc<Self>, call: Call, body: Body) -> Served {
        let route = Arc::clone(self);
        match call.place {
            Place::Rule(index) => Box::pin(route.pass(call, body, index)),
            Place::Endpoint(endpoint) => Box::pin(async move { route.endpoint(&call, endpoint).await }),
        }
    }

    async fn endpoint(&self, call: &Call, endpoint: Endpoint) -> Result<Response<Body>, Refusal> {
        match endpoint {
            Endpoint::LoginStart => self.login_start(call).await,
            Endpoint::ProtectedResource => self.protected_resource(call),
            _ => Err(Reason::NotFound.into()),
        }
    }

    /// Judges the request that Caddy's `forward_auth` asks about.
    ///
    /// # Errors
    /// A [`Refusal`] for everything that may not pass.
    pub async fn verdict(&self, call: &Call) -> Result<Verdict, Refusal> {
        match call.place {
            Place::Rule(index) => self.judge(call, index).await,
            Place::Endpoint(_) => {
                Err(Refusal::new(Reason::Forbidden).because("our own endpoints stand behind no verdict"))
            }
        }
    }
}
