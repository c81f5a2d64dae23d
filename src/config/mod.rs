//! What the operator wrote, resolved: every value here is legal, so nothing below has to check it again.
//!
//! `file` mirrors the TOML, `resolve` is the only bridge from there to these types, and reports every problem at once.
//! All parts implement `Eq`: a reload keeps the running state of whatever is equal. Names are resolved: a route holds
//! the provider and the upstream that it means.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use http::header::HeaderName;
use http::{Method, Uri};
use ipnet::IpNet;
use zeroize::Zeroizing;

/// The whole resolved configuration; the only way to get one is [`load`](crate::config::load).
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

/// A name given by the operator: `[a-z0-9]` then up to 62 of `[a-z0-9_-]`, so that it fits a metric label, a cookie
/// name and a path segment as it is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(Arc<str>);

impl Name {
    /// `None` when `text` breaks the rule above.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut bytes = text.bytes();
        let first = bytes.next().is_some_and(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
        let rest = bytes.all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'_' | b'-'));
        (first && rest && text.len() <= 63).then(|| Self(text.into()))
    }

    /// The name as written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// A secret read from a file, an environment variable, a systemd credential or the config itself. `Debug` prints a
/// mask, there is no `Display`, and the bytes are wiped when the last clone goes.
#[derive(Clone)]
pub struct Secret(Arc<Zeroizing<String>>);

impl Secret {
    /// Wraps `text`.
    #[must_use]
    pub fn new(text: String) -> Self {
        Self(Arc::new(Zeroizing::new(text)))
    }

    /// The secret itself. Grep for this name to audit who reads secrets.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("[secret]")
    }
}

impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        // Compared only between two configs of ours, never with input, so time tells nobody anything.
        self.0.as_str() == other.0.as_str()
    }
}

impl Eq for Secret {}

/// `[server]`.
#[derive(Debug, PartialEq, Eq)]
pub struct Server {
    /// Where `/metrics`, `/livez` and `/readyz` answer.
    pub metrics_listen: Option<Listen>,
    /// Peers that may speak to the listeners of routes; all others get 403. Peers on a unix socket always may.
    pub trusted_proxies: Vec<IpNet>,
    /// How long requests in flight may take to finish after SIGTERM. Default 30 s.
    pub drain_timeout: Duration,
}

/// Where to listen: `127.0.0.1:9080`, `[::1]:9080` or `unix:/run/vestibule/app.sock`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Listen {
    /// A TCP address; port 0 is allowed and picks a free one.
    Tcp(SocketAddr),
    /// A unix socket path.
    Unix(PathBuf),
}

impl fmt::Display for Listen {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => write!(formatter, "{address}"),
            Self::Unix(path) => write!(formatter, "unix:{}", path.display()),
        }
    }
}

/// `[sessions]`.
#[derive(Debug, PartialEq, Eq)]
pub struct Sessions {
    /// Where sessions live.
    pub store: Store,
    /// Key ring for everything sealed: the first seals, all open. Empty: a ring for this process is made.
    pub keys: Vec<Secret>,
    /// A session unused for this long is over. Default 30 min.
    pub idle_timeout: Duration,
    /// A session is over this long after its login, used or not. Default 10 h.
    pub max_lifetime: Duration,
    /// How many sessions the memory store holds before it evicts the longest idle one. Default 1,000,000.
    pub max_sessions: usize,
}

/// `sessions.store`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Store {
    /// In this process; gone with it.
    Memory,
}

/// `[log]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Log {
    /// A `tracing` filter such as `info` or `info,vestibule::provider=debug`. Default `info`.
    pub level: String,
    /// How a line looks.
    pub format: LogFormat,
}

/// `log.format`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// Human on a terminal, JSON otherwise (the default).
    Auto,
    /// One readable line an event.
    Human,
    /// One JSON object a line.
    Json,
}

/// `[providers.NAME]`, the issuer's side: who it is and how to reach it. What we are there is a [`Client`].
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct Provider {
    /// The name in metrics and logs.
    pub name: Name,
    /// The issuer identifier, compared byte for byte with what the provider says (OpenID Connect Discovery 4.3).
    pub issuer: String,
    /// Base URL for our own calls to the provider, replacing the issuer's prefix. `http` is allowed here.
    pub backchannel: Option<String>,
    /// Tolerance when judging `exp`, `nbf` and `iat`. Default 60 s.
    pub clock_skew: Duration,
    /// PEM of additional trust anchors, as read from `ca_file`; system roots apply when absent.
    pub ca: Option<Arc<[u8]>>,
    /// Signature algorithms accepted; metadata only narrows it. Asymmetric ones only.
    pub signing_algs: Vec<SigningAlg>,
    /// How long the last good JWKS may serve while the provider is unreachable. Default 24 h.
    pub max_stale: Duration,
    /// Whether `/readyz` waits for this provider. Default false.
    pub required_for_ready: bool,
}

/// An asymmetric JWS algorithm (RFC 7518, RFC 8037). There is no symmetric one and no `none`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum SigningAlg {
    /// RSASSA-PKCS1-v1_5 with SHA-256.
    RS256,
    /// RSASSA-PKCS1-v1_5 with SHA-384.
    RS384,
    /// RSASSA-PKCS1-v1_5 with SHA-512.
    RS512,
    /// RSASSA-PSS with SHA-256.
    PS256,
    /// RSASSA-PSS with SHA-384.
    PS384,
    /// RSASSA-PSS with SHA-512.
    PS512,
    /// ECDSA on P-256 with SHA-256.
    ES256,
    /// ECDSA on P-384 with SHA-384.
    ES384,
    /// Ed25519.
    EdDSA,
}

/// Our registration at a provider: what `client_id` stands for there. A client is (issuer, registration).
#[derive(Debug, PartialEq, Eq)]
pub struct Client {
    /// The issuer.
    pub provider: Arc<Provider>,
    /// `client_id` (RFC 6749 2.2).
    pub client_id: String,
    /// `client_secret`; absent for a public client.
    pub client_secret: Option<Secret>,
    /// `token_endpoint_auth_method`; absent: what the metadata allows, `client_secret_basic` first.
    pub token_endpoint_auth_method: Option<AuthMethod>,
    /// Scopes asked for; always contains `openid`.
    pub scopes: Vec<String>,
    /// Further parameters of the authorization request, never one that we set ourselves.
    pub authorization_params: BTreeMap<String, String>,
    /// What to do about the userinfo endpoint at login.
    pub userinfo: Userinfo,
    /// Audiences allowed in an ID token beside `client_id` (OpenID Connect Core 3.1.3.7 (3)).
    pub additional_audiences: Vec<String>,
    /// Whether `id_token_hint` accompanies the redirect to end-session. Default true.
    pub id_token_hint: bool,
    /// Whether the ID token must carry `at_hash`. Default false: checked when present.
    pub require_at_hash: bool,
}

/// `token_endpoint_auth_method` (RFC 7591 2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuthMethod {
    /// HTTP Basic, both parts form-encoded first (RFC 6749 2.3.1).
    ClientSecretBasic,
    /// In the request body.
    ClientSecretPost,
    /// Public client.
    None,
}

/// `userinfo`: whether the login asks the userinfo endpoint after the ID token was validated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Userinfo {
    /// Required when the provider has the endpoint and scopes beyond `openid` are asked for (the default).
    Auto,
    /// Never asked.
    Off,
    /// A login without it fails.
    Required,
}

/// `[upstreams.NAME]`, or an URL written in place.
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct Upstream {
    /// The name in metrics and logs; for one written in place, the name of the route and the prefix' position.
    pub name: Name,
    /// How to connect.
    pub target: Target,
    /// Path that is put before the request's path; empty or starting with `/`, never ending with it.
    pub base_path: String,
    /// Whose `Host` the upstream sees.
    pub host: UpstreamHost,
    /// PEM of additional trust anchors for https.
    pub ca: Option<Arc<[u8]>>,
    /// Time to connect. Default 3 s.
    pub connect_timeout: Duration,
    /// Time from the end of the request to the response head. Default 60 s.
    pub response_timeout: Duration,
    /// Longest silence within a body, either way; an unfinished answer has no total timeout. Default 5 min.
    pub idle_timeout: Duration,
}

/// How an upstream is reached.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Target {
    /// `http://host:port`.
    Http(http::uri::Authority),
    /// `https://host:port`.
    Https(http::uri::Authority),
}

/// `upstreams.NAME.host`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum UpstreamHost {
    /// The upstream's own authority.
    Upstream,
    /// The host the client asked for (the default for apps that build absolute URLs).
    Client,
}

/// `[routes.NAME]`.
#[derive(Debug, PartialEq, Eq)]
pub struct Route {
    /// The route's identity.
    pub name: Name,
    /// The listener that Caddy dials for this route.
    pub listen: Listen,
    /// The site's public URLs; the first is the main one. Gives hosts, origins and every absolute URL.
    pub public_urls: Vec<Origin>,
    /// Where the endpoints live: empty, or starting with `/` and not ending with it.
    pub base_path: String,
    /// What is done for this kind of client.
    pub mode: Mode,
    /// Path rules, longest segment prefix first.
    pub paths: Vec<Arc<PathRule>>,
    /// The claim that holds a user's groups; dots descend into objects. Default `groups`.
    pub groups_claim: String,
}

/// `mode`, with what only that mode has.
#[derive(Debug, PartialEq, Eq)]
pub enum Mode {
    /// Browsers log in with the authorization code flow; the session holds the tokens.
    AuthCode(Box<AuthCode>),
}

/// What an auth-code route has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuthCode {
    /// The clients a browser may log in with; more than one shows a chooser.
    pub clients: Vec<Arc<Client>>,
    /// `redirect_uri`s, one per public URL and in the same order; only for front ends that POST the code themselves.
    pub redirect_uris: Option<Vec<String>>,
    /// Where to go when nobody said.
    pub home_url: String,
    /// Origins beside `public_urls` whose scripts may call us.
    pub allowed_origins: Vec<Origin>,
    /// Response headers that scripts of those origins may read (`Access-Control-Expose-Headers`).
    pub expose_headers: Vec<HeaderName>,
    /// Where login and logout may send the browser.
    pub allowed_redirects: Vec<RedirectPrefix>,
    /// Where `/claims` and groups come from.
    pub claims_source: ClaimsSource,
    /// Which claims `/claims` shows.
    pub claims: ClaimsShown,
}

/// An origin (RFC 6454) in its canonical ASCII form, lower case and without a default port.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Origin {
    /// `https`, or `http` on loopback.
    pub scheme: Scheme,
    /// Host and port as in a `Host` header: lower case, default port left out.
    pub host: String,
    /// `scheme://host`, as in an `Origin` header.
    pub text: String,
}

/// The scheme of an [`Origin`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Scheme {
    /// Plain text; loopback only.
    Http,
    /// TLS, by Caddy.
    Https,
}

/// One entry of `allowed_redirects`: same origin, and a path prefix on a segment boundary; query and fragment are free.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RedirectPrefix {
    /// The origin that must be equal.
    pub origin: Origin,
    /// `/` or a path without a trailing slash.
    pub path: String,
}

/// `claims_source`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClaimsSource {
    /// The ID token, with userinfo beside it.
    IdToken,
    /// The payload of the access token, when it is a JWT.
    AccessToken,
}

/// `claims`: which claims the endpoint of that name shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClaimsShown {
    /// The standard claims of OpenID Connect Core 5.1 and the groups claim.
    Standard,
    /// All but tokens.
    All,
}

/// A path rule: what happens to requests under a prefix.
#[derive(Debug, PartialEq, Eq)]
pub struct PathRule {
    /// Starts and ends with `/`; matches itself without the last slash, and everything below.
    pub prefix: String,
    /// Where requests go; absent on a route that only answers verdicts.
    pub upstream: Option<Arc<Upstream>>,
    /// Cut from the front of the path before it is sent on; a prefix of `prefix`, without a trailing slash.
    pub strip_prefix: Option<String>,
    /// What a request without a session gets.
    pub unauthenticated: Unauthenticated,
    /// Methods allowed; absent: all but TRACE and CONNECT.
    pub methods: Option<Vec<Method>>,
    /// The user must be in one of these; empty: no rule.
    pub allowed_groups: BTreeSet<String>,
    /// The verified e-mail address must be in one of these domains (lower case); empty: no rule.
    pub allowed_email_domains: BTreeSet<String>,
    /// Each claim (dots descend) must have, or contain, one of these values.
    pub required_claims: BTreeMap<String, BTreeSet<String>>,
    /// Acceptable `acr`; empty: no rule.
    pub acr_values: Vec<String>,
    /// Headers that tell the upstream who calls.
    pub identity_headers: Vec<IdentityHeader>,
    /// What happens to `Authorization`.
    pub authorization: Authorization,
    /// A header that every request must carry on top of the origin checks.
    pub csrf_header: Option<HeaderName>,
    /// Largest request body in bytes; absent: no limit of ours.
    pub max_body: Option<u64>,
}

/// `unauthenticated`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unauthenticated {
    /// 401, for navigations too.
    Refuse,
    /// Navigations are sent to log in, all else gets 401.
    Login,
    /// Goes on as nobody.
    Pass,
}

/// `authorization`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Authorization {
    /// The session's access token replaces whatever the client sent.
    Bearer,
    /// The header is dropped.
    Remove,
    /// The client's header goes on untouched.
    Pass,
}

/// One identity header and the claim it shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdentityHeader {
    /// The header.
    pub name: HeaderName,
    /// The claim; dots descend into objects. Lists are joined with commas.
    pub claim: String,
}

impl Route {
    /// The main public URL.
    #[must_use]
    pub fn main_url(&self) -> Option<&Origin> {
        self.public_urls.first()
    }

    /// The upstreams that this route's rules name.
    pub fn upstreams(&self) -> impl Iterator<Item = &Arc<Upstream>> {
        self.paths.iter().filter_map(|rule| rule.upstream.as_ref())
    }
}

impl Target {
    /// The target as the start of an absolute URI.
    #[must_use]
    pub fn uri(&self) -> Uri {
        let (scheme, authority) = match self {
            Self::Http(authority) => ("http", authority),
            Self::Https(authority) => ("https", authority),
        };
        Uri::builder()
            .scheme(scheme)
            .authority(authority.clone())
            .path_and_query("/")
            .build()
            .unwrap_or_default()
    }
}
