//! What can be seen of a sidecar from outside: the answers to a set of questions, what the upstream and the provider were
//! asked for them, and who listens where. Whatever differs from run to run is masked, so that two observations compare.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::SocketAddr;

use http::Method;
use serde_json::json;
use vestibule::config::Listen;
use vestibule::demo::provider::{Algorithm, Endpoint, JwtMutation, SignWith};
use vestibule::reload::Sidecar;

use super::World;
use super::answer::Answer;
use super::ask::Ask;
use super::browser::{Browser, Destination};

/// What was seen, by what was looked at.
pub type Seen = BTreeMap<&'static str, String>;

/// Hosts that are asked, whether they are there or not.
const HOSTS: [&str; 4] = ["app.test", "other.test", "cli.test", "things.test"];

/// What of an answer's head says something.
const HEADERS: &[&str] = &[
    "location",
    "www-authenticate",
    "vestibule-error",
    "cache-control",
    "vary",
    "access-control-allow-origin",
    "access-control-allow-headers",
    "access-control-allow-methods",
    "access-control-expose-headers",
];

/// What two looks differ in.
pub fn differences(one: &Seen, other: &Seen) -> Vec<String> {
    let names: std::collections::BTreeSet<_> = one.keys().chain(other.keys()).collect();
    let differ = names.into_iter().filter(|name| one.get(*name) != other.get(*name));
    differ.map(|name| format!("{name}:\n{:?}\n{:?}", one.get(name), other.get(name))).collect()
}

/// Looks at `sidecar`, which serves a config file of `world`.
pub async fn observe(world: &World, sidecar: &Sidecar) -> Seen {
    let addresses = sidecar.addresses().await;
    find(world, sidecar, &addresses);
    let mut look = Look { world, browser: world.new_browser(), seen: Seen::new() };
    look.seen
        .insert("listeners", format!("{:?}", addresses.keys().map(Listen::to_string).collect::<Vec<_>>()));
    look.strangers().await;
    look.programs().await;
    look.members().await;
    look.operators(sidecar, &addresses);
    look.seen
}

/// Puts the hosts of all routes on the map.
fn find(world: &World, sidecar: &Sidecar, addresses: &BTreeMap<Listen, Listen>) {
    let snapshot = sidecar.snapshot();
    for (host, route) in HOSTS.iter().map(|host| (*host, None)).chain(
        snapshot
            .config
            .routes
            .values()
            .flat_map(|route| route.public_urls.iter().map(move |url| (url.host.as_str(), Some(route)))),
    ) {
        let listen = route.or_else(|| snapshot.config.routes.values().next()).map(|route| &route.listen);
        if let Some(Listen::Tcp(sidecar)) = listen.and_then(|listen| addresses.get(listen)) {
            let destination = Destination::Caddy { sidecar: *sidecar, front_end: false };
            world.around.hosts.put(host, destination);
        }
    }
}

struct Look<'a> {
    world: &'a World,
    browser: Browser,
    seen: Seen,
}

impl Look<'_> {
    fn note(&mut self, name: &'static str, text: &str) {
        self.seen.insert(name, masked(text));
    }

    /// Asks, and notes the answer and what it made the upstream see.
    async fn ask(&mut self, name: &'static str, ask: Ask) -> Answer {
        let before = self.world.upstream.count();
        let answer = ask.await;
        let mut text = told(&answer);
        if self.world.upstream.count() > before {
            text.push_str(&self.world.upstream.last().head);
        }
        self.note(name, &text);
        answer
    }

    /// Whoever has no session.
    async fn strangers(&mut self) {
        let browser = self.browser.clone();
        for (name, url) in [
            ("login", "https://app.test/login/start"),
            ("login elsewhere", "https://app.test/auth/login/start"),
            ("login of another host", "https://other.test/login/start"),
            ("login by a listed provider", "https://app.test/login/start?kc_idp_hint=github"),
            ("login that leads back", "https://app.test/login/start?redirect=https%3A%2F%2Fapp.test%2Fdeep%2Fx"),
            ("login that leads to a rule", "https://app.test/login/start?redirect=%2Fapi%2Fpage"),
            ("page of a stranger", "https://app.test/api/page"),
            ("page beside all rules", "https://app.test/elsewhere"),
        ] {
            self.ask(name, browser.navigate(url).stay()).await;
        }
        self.ask("fetch of a stranger", browser.get("https://app.test/api/me")).await;
        let preflight = browser.fetch_from("https://www.test", Method::OPTIONS, "https://app.test/api/me");
        self.ask("preflight", preflight.header("access-control-request-method", "PUT")).await;
        self.ask("foreign origin", browser.fetch_from("https://www.test", Method::GET, "https://app.test/check_auth"))
            .await;
    }

    /// Whoever brings a bearer, and whoever asks how to get one.
    async fn programs(&mut self) {
        let start = self.browser.post("https://cli.test/login/start").like_a_program();
        self.ask("device login", start).await;
        let metadata = "https://things.test/.well-known/oauth-protected-resource";
        self.ask("resource", self.browser.get(metadata).like_a_program()).await;
        let expired = json!(self.world.clock.now().unix() - 30);
        for (name, host, changes) in [
            ("bearer", "things.test", vec![]),
            ("bearer of a CLI", "cli.test", vec![]),
            ("bearer just expired", "things.test", vec![JwtMutation::SetClaim("exp", expired)]),
            ("bearer by ES256", "things.test", vec![JwtMutation::Sign(SignWith::Published(Algorithm::ES256))]),
            ("bearer of another kind", "things.test", vec![JwtMutation::SetHeader("typ", json!("JWT"))]),
            ("bearer for somebody else", "cli.test", vec![JwtMutation::SetClaim("aud", json!("else"))]),
        ] {
            let token = self.world.provider.access_token(("alice", "cli"), &["read"], &changes).unwrap();
            let ask = self.browser.get(&format!("https://{host}/api/thing")).like_a_program();
            self.ask(name, ask.header("authorization", &format!("Bearer {token}"))).await;
        }
    }

    /// Whoever logs in.
    async fn members(&mut self) {
        let (provider, browser) = (&self.world.provider, self.browser.clone());
        let (asked, begun) = (provider.journal().len(), provider.count(Endpoint::Userinfo));
        let login = browser.navigate("https://app.test/login/start?login_hint=alice").await;
        self.note("logged in", &format!("{} at {}\n", login.status, login.url));
        let journal = provider.journal();
        let ways = journal[asked..].iter().filter(|seen| seen.parameter("grant_type").is_some());
        let ways: Vec<String> = ways.map(|seen| format!("{:?}", seen.authentication)).collect();
        let userinfo = provider.count(Endpoint::Userinfo) - begun;
        self.note("provider", &format!("token requests by {ways:?}, userinfo {userinfo} times"));
        self.ask("fetch of a member", browser.get("https://app.test/api/me")).await;
        self.ask("upload", browser.post("https://app.test/api/me").body("x".repeat(2_000))).await;
        for name in ["userinfo", "claims"] {
            self.ask(name, browser.get(&format!("https://app.test/{name}"))).await;
        }
        let session = browser.get("https://app.test/session").await;
        let session: serde_json::Value = serde_json::from_slice(&session.body).unwrap_or_default();
        let at = |name: &str| session[name].as_str().and_then(|text| text.parse::<jiff::Timestamp>().ok());
        let lasts = |name: &str| Some(at(name)?.as_second() - at("created_at")?.as_second());
        let minutes = |name: &str| lasts(name).map(|seconds| (seconds + 30) / 60);
        self.note("limits", &format!("{:?} {:?}", minutes("expires_at"), minutes("idle_expires_at")));
        // With room for one session only, the next one takes this one's place.
        let bob = self.world.new_browser();
        bob.navigate("https://app.test/login/start?login_hint=bob").await;
        self.ask("fetch beside another member", browser.get("https://app.test/api/me")).await;
        let logout = browser.post("https://app.test/logout").await;
        let url = serde_json::from_slice::<serde_json::Value>(&logout.body).unwrap_or_default();
        if let Some(url) = url["logout_url"].as_str() {
            self.ask("logout", browser.click("https://app.test/", url).stay()).await;
        }
        bob.post("https://app.test/logout").await;
    }

    /// Whoever runs it.
    fn operators(&mut self, sidecar: &Sidecar, addresses: &BTreeMap<Listen, Listen>) {
        let snapshot = sidecar.snapshot();
        let server = &snapshot.config.server;
        if let Some(Listen::Tcp(metrics)) = server.metrics_listen.as_ref().and_then(|listen| addresses.get(listen)) {
            let ready = plain(*metrics, "/readyz?verbose", "localhost");
            // What was measured depends on when, and on who was asked since.
            let timeless = |line: &str| line.split("; its clock").next().unwrap_or_default().to_owned();
            let kept: Vec<String> = ready.lines().filter(|line| !line.starts_with("config:")).map(timeless).collect();
            self.note("readiness", &kept.join("\n"));
            self.note("metrics by name", plain(*metrics, "/livez", "vestibule.example.net").lines().next().unwrap());
            let text = plain(*metrics, "/metrics", "localhost");
            let labels = ["route", "provider", "upstream", "store"].map(|label| names(&text, label));
            self.note("series", &format!("{labels:?}"));
        }
        let control = server.control.as_ref().map(|control| control.listen.clone());
        if let Some(Listen::Unix(path)) = control {
            let mut stream = std::os::unix::net::UnixStream::connect(path).unwrap();
            stream.write_all(b"GET /-/config HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").unwrap();
            let mut text = String::new();
            stream.read_to_string(&mut text).unwrap();
            self.note("control", text.lines().next().unwrap());
        }
    }
}

/// A request of an operator's tool.
fn plain(address: SocketAddr, path: &str, host: &str) -> String {
    let mut stream = std::net::TcpStream::connect(address).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text.lines()
        .filter(|line| !line.starts_with("date:") && !line.starts_with("content-length:"))
        .map(|line| format!("{line}\n"))
        .collect()
}

/// The values of a label.
pub fn names(metrics: &str, label: &str) -> std::collections::BTreeSet<String> {
    let values = metrics.lines().filter_map(|line| line.split(&format!("{label}=\"")).nth(1));
    values.filter_map(|rest| rest.split('"').next().map(str::to_owned)).collect()
}

fn told(answer: &Answer) -> String {
    let mut text = format!("{}\n", answer.status);
    for name in HEADERS {
        text.extend(answer.all(name).iter().map(|value| format!("{name}: {value}\n")));
    }
    let cookies = answer.all("set-cookie");
    text.extend(
        cookies
            .iter()
            .map(|cookie| format!("cookie {}\n", cookie.split(['.', '=']).next().unwrap_or_default())),
    );
    if answer.header("content-type").is_some_and(|media| media.contains("json")) {
        let mut json: serde_json::Value = serde_json::from_slice(&answer.body).unwrap_or_default();
        for time in ["server_time", "auth_time", "iat", "exp"] {
            json.as_object_mut().and_then(|members| members.remove(time));
        }
        text.push_str(&json.to_string());
    }
    text
}

/// Without what no two runs have in common: long random words, ids of requests, times.
fn masked(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let is_word = |char: char| char.is_ascii_alphanumeric() || matches!(char, '_' | '-');
    let mut rest = text;
    while let Some(start) = rest.find(is_word) {
        let (before, from) = rest.split_at(start);
        let (word, after) = from.split_at(from.find(|char| !is_word(char)).unwrap_or(from.len()));
        out.push_str(before);
        let digits = word.bytes().filter(u8::is_ascii_digit).count();
        // A stem of eight hex digits, which may all be letters, and a count.
        let hex = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        let is_id = word.split_once('-').is_some_and(|(stem, count)| stem.len() == 8 && hex(stem) && hex(count));
        let is_secret = word.len() >= 20 && word.bytes().any(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit());
        let is_time = digits == word.len() && digits >= 10;
        out.push_str(if is_id || is_secret || is_time { "~" } else { word });
        rest = after;
    }
    out + rest
}
