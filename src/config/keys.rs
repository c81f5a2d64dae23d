//! The table of [`schema`](super::schema): every key, its kind, its default and its meaning. No code, only data.

mod route;

use super::schema::Kind::{Bool, Choice, Count, Duration, Either, List, Map, Secret, Table, Text};
use super::schema::Need::{Default, Optional, Required, Usual};
use super::schema::{Key, Kind, Need};

pub(super) use route::{PATH_RULE, ROUTE};

const fn key(name: &'static str, kind: Kind, need: Need, doc: &'static str) -> Key {
    Key { name, kind, need, doc }
}

const TEXTS: Kind = List(&Text);
const TEXT_OR_TEXTS: Kind = Either(&[Text, TEXTS]);

pub(super) const ROOT: &[Key] = &[
    key("server", Table(&[SERVER]), Optional(""), "Listeners, and who may speak to them."),
    key("sessions", Table(&[SESSIONS]), Optional(""), "Where sessions live, and how long."),
    key("log", Table(&[LOG]), Optional(""), "What is logged, and how."),
    key(
        "providers",
        Map(&Table(&[PROVIDER, CLIENT])),
        Required("corp"),
        "An OpenID Connect provider, and our default client there.",
    ),
    key("upstreams", Map(&Table(&[UPSTREAM])), Optional("api"), "A server that requests are handed on to."),
    key(
        "routes",
        Map(&Table(&[ROUTE, CLIENT])),
        Required("web"),
        "What is done for one kind of client of one site. The name is the route's identity in metrics, in logs and \
         across reloads.",
    ),
];

const SERVER: &[Key] = &[
    key(
        "listen",
        Text,
        Default("\"127.0.0.1:9080\""),
        "Where routes listen that do not say otherwise: an IP address with a port, or \"unix:/absolute/path\".",
    ),
    key(
        "verdict_listen",
        Text,
        Optional("\"unix:/run/vestibule/verdict.sock\""),
        "Where verdicts for Caddy's forward_auth are given. Absent: none are. Nothing else is served there; never proxy \
         it publicly.",
    ),
    key(
        "metrics_listen",
        Text,
        Default("\"127.0.0.1:9464\""),
        "Where /metrics, /livez and /readyz answer, or \"off\".",
    ),
    key(
        "metrics_hosts",
        TEXTS,
        Default("[]"),
        "Names with a dot in them that scrapers call it by, such as \"vestibule.example.net\". Addresses and names \
         without a dot are always good. Any other name gets 403: a web page could have had it resolve to us.",
    ),
    key(
        "control",
        Text,
        Optional("\"unix:/run/vestibule/control.sock\""),
        "Where operators act on the running process: POST /-/reload, GET /-/config. A socket gets mode 0600, a TCP \
         address needs control_token. Absent: nowhere. Never for a proxy.",
    ),
    key(
        "control_token",
        Secret,
        Optional("{ file = \"/etc/vestibule/control.token\" }"),
        "The bearer token that control asks for, 32 bytes or more: `vestibule keygen` makes one.",
    ),
    key(
        "trusted_proxies",
        TEXTS,
        Default("[\"127.0.0.0/8\", \"::1/128\"]"),
        "Peers that may speak to routes; all others get 403, and on a unix socket everybody may. A listener beyond \
         loopback needs this set explicitly.",
    ),
    key(
        "drain_timeout",
        Duration,
        Default("\"30s\""),
        "How long requests in flight may take to finish after SIGTERM. Then the session file is let go, and then event \
         streams and WebSockets end, which have no end of their own.",
    ),
    key(
        "stream_close_delay",
        Duration,
        Default("\"0s\""),
        "How much longer event streams and WebSockets go on after that, within drain_timeout and not longer than their \
         sessions. A process that waits for them waits to be replaced, so this is for where the next one serves already.",
    ),
];

const SESSIONS: &[Key] = &[
    key(
        "store",
        Either(&[Choice(&["memory"]), Table(&[STORE])]),
        Default("\"memory\""),
        "Where sessions live. \"memory\" ends with the process; { file = \"/var/lib/vestibule/sessions.redb\" } survives \
         a restart and a crash; { redis = { file = \"/etc/vestibule/redis.url\" } } is for several processes that share all \
         sessions.",
    ),
    key(
        "keys",
        List(&Secret),
        Optional("[{ file = \"/etc/vestibule/session.key\" }]"),
        "Keys of at least 32 bytes for everything that is sealed: the first seals, all open, so put a new one first and \
         drop the old one after max_lifetime. Absent: session.key beside the store file, which is made when it is not there; \
         with sessions in memory, a key for this process, and a restart ends every session. With redis they are required: all \
         processes need the same.",
    ),
    key(
        "idle_timeout",
        Duration,
        Default("\"30m\""),
        "A session unused for this long is over, and its open streams with it. Requests are use, and what a client says \
         on a WebSocket; what it is only told is not.",
    ),
    key("max_lifetime", Duration, Default("\"10h\""), "A session is over this long after its login, used or not."),
    key(
        "max_sessions",
        Count,
        Default("1_000_000"),
        "How many sessions the store holds before the longest unused one makes room for the next.",
    ),
];

const STORE: &[Key] = &[
    key(
        "file",
        Text,
        Optional("\"/var/lib/vestibule/sessions.redb\""),
        "A database file, for one process. It is made when it is not there, and so is its directory.",
    ),
    key(
        "redis",
        Secret,
        Optional("\"redis://127.0.0.1:6379/0\""),
        "A Redis (6.2 or later) or Valkey server, for several processes: `redis://user:password@host:6379/0`, `rediss://` for \
         TLS, `redis+unix:///run/redis/redis.sock`, or `redis+sentinel://a:26379,b:26379/mymaster/0`. With a password in \
         it, it belongs into a file.",
    ),
    key(
        "prefix",
        Text,
        Optional("\"vestibule\""),
        "What the names of all keys in Redis begin with, before a colon. \"vestibule\" when it is absent.",
    ),
    key(
        "ca_file",
        Text,
        Optional("\"/etc/vestibule/redis-ca.pem\""),
        "PEM of the certificate authorities that Redis is believed by, instead of the system's.",
    ),
    key("sentinel_user", Text, Optional("\"sentinel\""), "The ACL user at the Sentinels, when they have users."),
    key(
        "sentinel_password",
        Secret,
        Optional("{ file = \"/etc/vestibule/sentinel.secret\" }"),
        "The password for the Sentinels, when they ask for one.",
    ),
];

const LOG: &[Key] = &[
    key("level", Text, Default("\"info\""), "A level, or a filter such as \"info,vestibule::provider=debug\"."),
    key(
        "format",
        Choice(&["auto", "human", "json"]),
        Default("\"auto\""),
        "How a line looks. \"auto\": human on a terminal, JSON otherwise.",
    ),
];

const PROVIDER: &[Key] = &[
    key(
        "issuer",
        Text,
        Required("\"https://id.example.com/realms/corp\""),
        "The issuer, byte for byte as the provider writes it. https; http on loopback only.",
    ),
    key(
        "backchannel",
        Text,
        Optional("\"http://keycloak.internal:8080/realms/corp\""),
        "Where our own calls to the provider go instead of the issuer; browsers are still sent to the issuer. http is \
         allowed.",
    ),
    key(
        "jwks_uri",
        Text,
        Optional("\"https://id.example.com/keys\""),
        "Where the provider's keys are, when it has no metadata. Its tokens can then be verified; nobody can log in there.",
    ),
    key(
        "introspection",
        Bool,
        Default("false"),
        "Whether routes that verify bearers look opaque tokens up at the provider. The client that asks needs a secret.",
    ),
    key("clock_skew", Duration, Default("\"60s\""), "Tolerance when judging the times in tokens."),
    key(
        "ca_file",
        Text,
        Optional("\"/etc/vestibule/corp-ca.pem\""),
        "PEM certificates that are trusted for this provider, beside the system's.",
    ),
    key(
        "signing_algs",
        TEXTS,
        Default("[\"RS256\", \"PS256\", \"ES256\", \"ES384\", \"EdDSA\"]"),
        "Signature algorithms that are accepted; the provider's metadata only narrows the list.",
    ),
    key(
        "max_stale",
        Duration,
        Default("\"24h\""),
        "How long known keys still serve while the provider is unreachable.",
    ),
    key("required_for_ready", Bool, Default("false"), "Whether /readyz waits for this provider."),
];

pub(super) const CLIENT: &[Key] = &[
    key("client_id", Text, Usual("\"web\""), "The client's id at the provider."),
    key(
        "client_secret",
        Secret,
        Optional("{ file = \"/etc/vestibule/web.secret\" }"),
        "The client's secret: { file = … }, { env = … } or { credential = … } (systemd). Absent: a public client.",
    ),
    key(
        "token_endpoint_auth_method",
        Choice(&["client_secret_basic", "client_secret_post", "none"]),
        Optional("\"client_secret_basic\""),
        "How the client shows who it is. Absent: what the metadata allows, client_secret_basic first.",
    ),
    key(
        "scopes",
        TEXTS,
        Default("[\"openid\", \"profile\", \"email\"]"),
        "Scopes asked for; openid must be among them.",
    ),
    key(
        "authorization_params",
        Map(&Text),
        Default("{}"),
        "Further parameters of the authorization request, such as { audience = \"https://api.example.com\" }.",
    ),
    key(
        "forwarded_params",
        Map(&TEXT_OR_TEXTS),
        Default("{}"),
        "Query parameters of login/start that go on to the provider, each with the values that may, such as \
         { kc_idp_hint = [\"google\", \"github\"] }. \"*\" is any value that does not come from another site's link. \
         prompt, login_hint and ui_locales are \"*\" unless they stand here.",
    ),
    key(
        "userinfo",
        Choice(&["auto", "off", "required"]),
        Default("\"auto\""),
        "Whether a login asks the userinfo endpoint. \"auto\": when there is one, and scopes beyond openid are asked for.",
    ),
    key(
        "additional_audiences",
        TEXTS,
        Default("[]"),
        "Audiences that an ID token may have beside client_id; any other one refuses the login.",
    ),
    key("require_at_hash", Bool, Default("false"), "Whether an ID token must carry at_hash; it is checked when there."),
    key(
        "id_token_hint",
        Bool,
        Default("true"),
        "Whether the redirect to the provider's logout carries the ID token; without it many providers ask the user.",
    ),
];

pub(super) const UPSTREAM: &[Key] = &[
    key(
        "url",
        Text,
        Required("\"http://127.0.0.1:8080\""),
        "http, https or h2c (HTTP/2 without TLS), or a socket, \"unix:/run/app.sock\". The URL's path (behind a socket: \
         \":/path\") is put before the request's, and the query is kept byte for byte.",
    ),
    key(
        "host",
        Choice(&["client", "upstream"]),
        Default("\"client\""),
        "Whose Host the upstream sees: the site's, as the client asked for it, or its own.",
    ),
    key(
        "ca_file",
        Text,
        Optional("\"/etc/vestibule/api-ca.pem\""),
        "PEM certificates that are trusted for this upstream, beside the system's.",
    ),
    key("connect_timeout", Duration, Default("\"3s\""), "Time to connect."),
    key("response_timeout", Duration, Default("\"60s\""), "Time from the end of the request to the response head."),
    key(
        "idle_timeout",
        Duration,
        Default("\"5m\""),
        "Longest silence within a body, either way, and on a WebSocket. A stream has no total limit: event streams \
         live as long as something comes, be it a comment.",
    ),
];

/// The three ways to say where a secret is read.
pub(super) const SECRET: &[Key] = &[
    key("file", Text, Optional("\"/etc/vestibule/web.secret\""), "A file; one newline at its end is not part of it."),
    key("env", Text, Optional("\"WEB_SECRET\""), "An environment variable of this process."),
    key("credential", Text, Optional("\"web.secret\""), "A systemd credential."),
];
