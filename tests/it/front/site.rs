//! The shipped Caddyfile before everything that `config/one-site.toml` has, on every Caddy at hand: an API for a front
//! end and for programs, an app that is proxied whole, and two that Caddy asks about. What reaches them is written down.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use vestibule::demo::provider::Client;

use crate::caddies;
use crate::world::World;
use crate::world::caddy::Caddy;
use crate::world::live::cookie;
use crate::world::upstream::{EchoUpstream, Recorded};

/// Where the listeners of `config/one-site.toml` are here.
const WEB: &str = "127.0.0.1:0";
const CLI: &str = "127.0.0.4:0";
pub const VERDICTS: &str = "127.0.0.3:0";

/// Longest time for one answer.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// A User-Agent that Caddy takes for a browser.
pub const BROWSER: &str = "Mozilla/5.0 (X11; Linux x86_64) Gecko/20100101 Firefox/160.0";

/// The site with everything on it.
pub struct Front {
    pub world: World,
    pub caddy: Caddy,
    /// Proxied whole, for staff: `/wiki/`.
    pub wiki: EchoUpstream,
    /// Asked about, for anybody who is logged in: `/reports/`.
    pub reports: EchoUpstream,
    /// Asked about, for bearers: `/things/`.
    pub things: EchoUpstream,
}

/// Who asks.
pub struct Actor {
    pub name: &'static str,
    /// The lines of the head that say so.
    pub lines: String,
}

impl Front {
    /// The site behind the Caddy at `binary`.
    pub async fn behind(binary: &Path) -> Self {
        Self::with(binary, None).await
    }

    /// The same, with something else at `VESTIBULE_VERDICTS` than Vestibule.
    pub async fn with(binary: &Path, verdicts: Option<SocketAddr>) -> Self {
        let [wiki, reports, things] =
            [EchoUpstream::start().await, EchoUpstream::start().await, EchoUpstream::start().await];
        let wiki_url = wiki.url();
        let builder = World::builder().config(move |toml| {
            let rule = format!(
                "{{ upstream = \"{wiki_url}\", unauthenticated = \"login\", allowed_groups = [\"staff\"], \
                 identity_headers = \"oauth2-proxy\" }}"
            );
            let told = "{ unauthenticated = \"login\", identity_headers = { X-Remote-User = \"preferred_username\", \
                        X-Remote-Groups = \"groups\" } }";
            toml.text("server", "verdict_listen", VERDICTS)
                .unset("routes.web", "upstream")
                .set("routes.web.paths", "\"/api/\"", "{ upstream = \"api\" }")
                .set("routes.web.paths", "\"/wiki/\"", &rule)
                .set("routes.web.paths", "\"/reports/\"", told)
                .text("routes.cli", "mode", "device")
                .text("routes.cli", "listen", CLI)
                .text("routes.cli", "public_url", "https://app.test")
                .text("routes.cli", "client_id", "cli")
                .set("routes.cli", "audiences", "[\"api\"]")
                .text("routes.cli", "upstream", "api")
                .text("routes.things", "mode", "verify")
                .text("routes.things", "listen", CLI)
                .text("routes.things", "public_url", "https://app.test")
                .text("routes.things", "resource", "https://app.test/things")
                .set("routes.things", "audiences", "[\"https://app.test/things\"]")
                .set("routes.things", "required_scopes", "[\"read:things\"]")
                .set("routes.things.paths", "\"/things/\"", "{}")
        });
        let world = builder.provider(|options| options.clients.push(Client::public("cli"))).start().await;
        let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("Caddyfile");
        let shipped = std::fs::read_to_string(shipped).unwrap();
        let environment = [
            ("SITE", "http://app.test:{port}".to_owned()),
            ("VESTIBULE", world.bound(WEB).await.to_string()),
            ("VESTIBULE_CLI", world.bound(CLI).await.to_string()),
            ("VESTIBULE_VERDICTS", verdicts.unwrap_or(world.bound(VERDICTS).await).to_string()),
            ("WEB_APP", reports.address().to_string()),
            ("THINGS_APP", things.address().to_string()),
            ("SPA_ROOT", world.dir().display().to_string()),
        ];
        let caddy = Caddy::start(binary, &world.dir().join("caddy"), &shipped, &environment).await;
        Self { world, caddy, wiki, reports, things }
    }

    pub fn address(&self) -> SocketAddr {
        self.caddy.address
    }

    /// Nobody.
    pub fn nobody() -> Actor {
        Actor { name: "nobody", lines: String::new() }
    }

    /// Somebody with a session.
    pub async fn somebody(&self, name: &'static str) -> Actor {
        let browser = self.world.new_browser();
        browser.login(name).await;
        Actor { name, lines: format!("Cookie: theme=dark; {}\r\n", cookie(&browser)) }
    }

    /// Somebody with a bearer for the things.
    pub fn with_bearer(&self) -> Actor {
        let audience = vestibule::demo::provider::JwtMutation::SetClaim("aud", "https://app.test/things".into());
        let token = self.world.provider.access_token(("bob", "cli"), &["openid", "read:things"], &[audience]).unwrap();
        Actor { name: "a bearer", lines: format!("Authorization: Bearer {token}\r\n") }
    }

    /// Sends a request and gives the status of its answer; 0: none.
    pub async fn send(&self, line: &str, actor: &Actor, lines: &str) -> u16 {
        let head = format!("{line} HTTP/1.1\r\nHost: app.test\r\nUser-Agent: {BROWSER}\r\nAccept: text/html\r\n");
        self.ask(&format!("{head}{}{lines}\r\n", actor.lines)).await
    }

    /// Sends a head as it stands, and gives the status of its answer; 0: none.
    pub async fn ask(&self, head: &str) -> u16 {
        let mut stream = TcpStream::connect(self.address()).await.unwrap();
        // Whoever is not heard out may find nobody there any more.
        let _ = stream.write_all(head.as_bytes()).await;
        let mut answer = Vec::new();
        let reading =
            async { while !answer.contains(&b'\n') && stream.read_buf(&mut answer).await.unwrap_or(0) > 0 {} };
        assert!(tokio::time::timeout(PATIENCE, reading).await.is_ok(), "no answer to {head:?}");
        let line = String::from_utf8_lossy(&answer);
        line.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0)
    }

    /// What reached an app since it was asked last, by the app's name.
    pub fn reached(&self, seen: &mut Seen) -> Vec<(&'static str, Recorded)> {
        let apps =
            [("api", &self.world.upstream), ("wiki", &self.wiki), ("reports", &self.reports), ("things", &self.things)];
        let mut new = Vec::new();
        for ((name, app), seen) in apps.into_iter().zip(&mut seen.0) {
            let recorded = app.recorded();
            new.extend(recorded[*seen..].iter().map(|request| (name, request.clone())));
            *seen = recorded.len();
        }
        new
    }
}

/// How much of what reached the apps was looked at.
#[derive(Default)]
pub struct Seen([usize; 4]);

/// The site behind each Caddy.
pub async fn behind_each() -> Vec<Front> {
    let mut fronts = Vec::new();
    for binary in caddies::all() {
        fronts.push(Front::behind(&binary).await);
    }
    assert!(!fronts.is_empty(), "there is no Caddy to test with; tests/run fetches two");
    fronts
}
