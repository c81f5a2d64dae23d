//! A provider that can be told to lie, a client of it, and a browser that does nothing but follow one redirect.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Map, Value};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_util::task::TaskTracker;
use url::Url;
use vestibule::config::{self, Name, Secret, SigningAlg};
use vestibule::demo::provider::{self as demo, DemoProvider, Endpoint, Kind, Mutation, Options};
use vestibule::metrics::Metrics;
use vestibule::provider::{Ask, Attempt, Client, Error, Grant, Provider, Renewal, Surroundings};
use vestibule::time::{Clock, Timestamp};
use vestibule::web::Query;

/// Where the provider sends browsers back.
pub(super) const REDIRECT_URI: &str = "https://app.example.com/login/end";

/// A secret that must be form-encoded before it is put into Basic.
pub(super) const SECRET: &str = "canary %+:/ä secret";

/// Our side and the provider's.
pub(super) struct Stage {
    pub(super) op: DemoProvider,
    pub(super) clock: Clock,
    pub(super) metrics: Arc<Metrics>,
    pub(super) client: Client,
}

/// A registration and an issuer that a test may change before anything runs.
pub(super) struct Script {
    pub(super) provider: config::Provider,
    pub(super) client_secret: Option<&'static str>,
    pub(super) method: Option<config::AuthMethod>,
    pub(super) scopes: Vec<&'static str>,
    pub(super) authorization_params: BTreeMap<String, String>,
    pub(super) userinfo: config::Userinfo,
    pub(super) additional_audiences: Vec<String>,
    pub(super) require_at_hash: bool,
}

impl Script {
    /// What most operators write.
    pub(super) fn new(issuer: &str) -> Self {
        Self {
            provider: config::Provider {
                name: Name::parse("corp").unwrap(),
                issuer: issuer.to_owned(),
                backchannel: None,
                jwks_uri: None,
                introspection: false,
                clock_skew: Duration::from_secs(60),
                ca: None,
                signing_algs: vec![
                    SigningAlg::RS256,
                    SigningAlg::PS256,
                    SigningAlg::ES256,
                    SigningAlg::ES384,
                    SigningAlg::EdDSA,
                ],
                max_stale: Duration::from_secs(24 * 60 * 60),
                required_for_ready: false,
            },
            client_secret: Some(SECRET),
            method: None,
            scopes: vec!["openid", "profile", "email"],
            authorization_params: BTreeMap::new(),
            userinfo: config::Userinfo::Auto,
            additional_audiences: Vec::new(),
            require_at_hash: false,
        }
    }

    /// The client, and its provider started.
    pub(super) fn start(self, clock: &Clock, metrics: &Arc<Metrics>) -> Client {
        let provider = Arc::new(self.provider);
        let registration = config::Client {
            provider: Arc::clone(&provider),
            client_id: "web".to_owned(),
            client_secret: self.client_secret.map(|secret| Secret::new(secret.to_owned())),
            token_endpoint_auth_method: self.method,
            scopes: self.scopes.into_iter().map(str::to_owned).collect(),
            authorization_params: self.authorization_params,
            forwarded_params: BTreeMap::new(),
            userinfo: self.userinfo,
            additional_audiences: self.additional_audiences,
            id_token_hint: true,
            require_at_hash: self.require_at_hash,
        };
        let surroundings = Surroundings {
            clock: clock.clone(),
            metrics: Arc::clone(metrics),
            tasks: TaskTracker::new(),
            clocks: Arc::default(),
        };
        Client { provider: Provider::start(provider, surroundings), registration: Arc::new(registration) }
    }
}

/// The development provider with the client `web`.
pub(super) async fn op(options: Options) -> DemoProvider {
    let web = demo::Client::confidential("web", SECRET).redirect_uri(REDIRECT_URI);
    let web = web.post_logout_redirect_uri("https://app.example.com/logout/end");
    DemoProvider::start(Options { clients: vec![web], ..options }).await.unwrap()
}

impl Stage {
    /// Everything as usual.
    pub(super) async fn new() -> Self {
        Self::with(Options::default(), |_| {}).await
    }

    /// Everything as usual but what `edit` changes.
    pub(super) async fn with(options: Options, edit: impl FnOnce(&mut Script)) -> Self {
        let clock = options.clock.clone();
        let op = op(options).await;
        let mut script = Script::new(op.issuer());
        edit(&mut script);
        let metrics = Arc::new(Metrics::new());
        let client = script.start(&clock, &metrics);
        Self { op, clock, metrics, client }
    }

    /// Queues a lie for the next request to `at`.
    pub(super) fn lie(&self, at: Endpoint, kind: Kind) {
        self.op.mutate(Mutation::next(at, kind));
    }

    pub(super) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Begins a login, follows the redirect, and brings back the callback's query.
    pub(super) async fn arrive(&self, ask: &Ask) -> Result<(Attempt, Query), Error> {
        let (url, attempt) = self.client.begin(ask, self.now()).await?;
        let back = follow(&url).await;
        Ok((attempt, Query::parse(back.query().unwrap_or_default())))
    }

    /// A whole login.
    pub(super) async fn login(&self) -> Result<Grant, Error> {
        self.login_as(&ask()).await
    }

    /// A whole login that asks for something.
    pub(super) async fn login_as(&self, ask: &Ask) -> Result<Grant, Error> {
        let (attempt, query) = self.arrive(ask).await?;
        let callback = self.client.accept(attempt, &query, self.now())?;
        self.client.exchange(callback, self.now()).await
    }

    /// A refresh of what `grant` left.
    pub(super) async fn refresh(&self, grant: &Grant) -> Result<Renewal, Error> {
        let token = grant.refresh_token.as_ref().unwrap();
        self.client.refresh(token, &grant.claims, self.now()).await
    }

    /// Starts our side anew, knowing nothing of the provider.
    pub(super) fn restart(&mut self) {
        self.client = Script::new(self.op.issuer()).start(&self.clock, &self.metrics);
    }

    /// Waits until metadata and keys are there.
    pub(super) async fn ready(&self) {
        let client = self.client.clone();
        eventually("the provider is ready", || client.provider.is_ready()).await;
    }
}

/// What every test asks for unless it is about that.
pub(super) fn ask() -> Ask {
    Ask { redirect_uri: REDIRECT_URI.to_owned(), login_hint: Some("alice".to_owned()), ..Ask::default() }
}

/// Polls `holds` for at most five seconds.
pub(super) async fn eventually(what: &str, holds: impl Fn() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < Duration::from_secs(5), "not within five seconds: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// GETs `url` and returns where it redirects to.
pub(super) async fn follow(url: &Url) -> Url {
    let address = format!("{}:{}", url.host_str().unwrap(), url.port().unwrap());
    let target = format!("{}?{}", url.path(), url.query().unwrap_or_default());
    let mut stream = TcpStream::connect(&address).await.unwrap();
    let request = format!("GET {target} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let location = answer.lines().find_map(|line| line.strip_prefix("location: "));
    location.unwrap_or_else(|| panic!("no redirect:\n{answer}")).parse().unwrap()
}

/// The values of a parameter, in order.
pub(super) fn values(url: &Url, name: &str) -> Vec<String> {
    url.query_pairs().filter(|(key, _)| key == name).map(|(_, value)| value.into_owned()).collect()
}

/// Asserts that `result` failed and that the failure says `expected`; never that it holds a secret.
pub(super) fn refused<T>(id: &str, result: Result<T, Error>, expected: &str) {
    let Err(error) = result else { panic!("{id}: accepted, expected `{expected}`") };
    let (shown, debugged) = (error.to_string(), format!("{error:?}"));
    assert!(shown.contains(expected), "{id}: `{shown}` does not say `{expected}`");
    assert!(!shown.contains("canary") && !debugged.contains("canary"), "{id}: {debugged} holds a secret");
}

/// A claim of a map.
pub(super) fn claim<'m>(claims: &'m Map<String, Value>, name: &str) -> Option<&'m str> {
    claims.get(name).and_then(Value::as_str)
}
