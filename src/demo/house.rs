//! The house: everything that a demo runs, from the first free port to the last word.

use std::path::PathBuf;
use std::time::Duration;

use url::Url;

use super::api::{AUDIENCE, Api};
use super::caddy::{Caddy, Program};
use super::folder::{CLIENT, Folder, Plan};
use super::port::Ports;
use super::provider::{self, Client, DemoProvider, Endpoint, KeySet};
use super::{Trouble, fetch};
use crate::config;
use crate::reload::{self, ApplyLog, Sidecar};
use crate::time::Clock;
use crate::web;

/// The port that browsers get when it is free: the same address each time.
const PORT: u16 = 8080;

/// The ports that a config without `listen` and `metrics_listen` has.
const USUAL: (u16, u16) = (9080, 9464);

/// Short, so that a person sees a token renewed.
const ACCESS_TOKEN_LIFETIME: Duration = Duration::from_secs(30);

/// What a demo may differ in.
pub struct Options {
    /// The port that browsers come to; else 8080, or any that is free.
    pub port: Option<u16>,
    /// A person's own front end, by its address.
    pub front: Option<String>,
    /// A person's own API, by its address.
    pub api: Option<String>,
    /// The Caddy to use.
    pub caddy: Option<PathBuf>,
    /// Applies `[log]`.
    pub apply_log: ApplyLog,
}

/// A running demo. Whatever runs and whatever was written ends with the handle; [`stop`](Self::stop) does it in order.
pub struct House {
    caddy: Caddy,
    program: Program,
    sidecar: Sidecar,
    api: Api,
    provider: DemoProvider,
    plan: Plan,
    own_api: bool,
    absent: Vec<String>,
    folder: Folder,
}

impl House {
    /// Starts everything, and returns when a login can begin. `tell` hears of what takes longer.
    ///
    /// # Errors
    /// [`Trouble`]; nothing is left running then.
    pub async fn start(options: Options, tell: &dyn Fn(&str)) -> Result<Self, Trouble> {
        let front = options.front.map(front_end).transpose()?;
        let program = Program::find(options.caddy.as_deref(), &config::System, tell).await?;
        // Each is held until the moment before whoever listens there takes it over.
        let (mut door, mut inner) = (Ports::default(), Ports::default());
        let port = match options.port {
            Some(port) => door.exactly(port)?,
            None => door.rather(PORT)?,
        };
        let (listen, metrics_port) = (inner.rather(USUAL.0)?, inner.rather(USUAL.1)?);
        let origin = format!("http://localhost:{port}");
        let secret = web::token().map_err(|error| Trouble::System("make a secret", std::io::Error::other(error)))?;
        let provider = start_provider(&origin, &secret).await?;
        let api = Api::start(provider.issuer()).await.map_err(|error| Trouble::System("start the API", error))?;
        let own_api = options.api.is_some();
        let plan = Plan {
            port: listen,
            metrics_port,
            issuer: provider.issuer().to_owned(),
            secret,
            api: options.api.unwrap_or_else(|| api.url()),
            front,
            origin,
        };
        let folder = Folder::new().map_err(|error| Trouble::System("make a folder", error))?;
        folder.write(&plan).map_err(|error| Trouble::System("write the files of the demo", error))?;
        drop(inner);
        let sidecar = Sidecar::start(reload::Options {
            config_path: folder.config(),
            clock: Clock::default(),
            apply_log: options.apply_log,
            managed: reload::Managed::default(),
        });
        let sidecar = sidecar.await.map_err(Trouble::Vestibule)?;
        folder.write_caddyfile(&plan).map_err(|error| Trouble::System("write the Caddyfile", error))?;
        drop(door);
        let mut caddy = program.start(&folder)?;
        caddy.ready(&plan.app()?).await?;
        let absent = plan.absent(own_api).await;
        Ok(Self { caddy, program, sidecar, api, provider, plan, own_api, absent, folder })
    }

    /// What a person needs to know: the line to open, and what is where.
    #[must_use]
    pub fn banner(&self) -> String {
        let Plan { origin, metrics_port, issuer, api, port, front, .. } = &self.plan;
        let built_in = self.folder.path().join("front").display().to_string();
        let front = front.as_deref().unwrap_or(&built_in);
        let own_api = if self.own_api { "    yours; accept tokens of the provider, audience `api`" } else { "" };
        let mut text = format!(
            "\n  Open this in your browser:  {origin}\n\n  \
             Caddy      {} ({})\n  \
             front end  {front}\n  \
             Vestibule  127.0.0.1:{port}, metrics at http://127.0.0.1:{metrics_port}/metrics\n  \
             API        {api}{own_api}\n  \
             provider   {issuer}; people: alice, bob, carol; no passwords\n\n  \
             Edit {}\n  while this runs, and watch it reload here. Ctrl-C stops everything.\n",
            self.program.version,
            self.program.path.display(),
            self.folder.config().display()
        );
        for absent in &self.absent {
            text.push_str(&format!("\n  Nothing answers at {absent} yet; start it when you like.\n"));
        }
        text
    }

    /// Waits until a part ends by itself, which none should.
    pub async fn trouble(&mut self) -> Trouble {
        self.caddy.end().await
    }

    /// Ends everything in order: who asks before who answers. The result says in plain words what happened.
    pub async fn stop(self) -> String {
        let path = self.folder.path().display().to_string();
        self.caddy.stop().await;
        self.sidecar.shutdown().await;
        let happened = happened(&self.provider, &self.api, self.own_api);
        drop((self.api, self.provider));
        let folder = match self.folder.remove() {
            Ok(()) => format!("and so is {path}"),
            Err(error) => format!("but {path} could not be removed: {error}"),
        };
        format!(
            "\nThe demo is over: Caddy, Vestibule, the API and the provider are gone, {folder}.\n\
             What happened: {happened}\n\
             What to do next: `vestibule demo --front URL --api URL` puts your own app behind this login;\n\
             `vestibule init` writes a configuration for your own provider. The README goes on from there.\n"
        )
    }
}

impl Plan {
    fn app(&self) -> Result<Url, Trouble> {
        Url::parse(&self.origin).map_err(|error| Trouble::System("name the app", std::io::Error::other(error)))
    }

    /// A person's own servers that do not answer.
    async fn absent(&self, own_api: bool) -> Vec<String> {
        let mut absent = Vec::new();
        for url in self.front.iter().chain(own_api.then_some(&self.api)) {
            let Ok(parsed) = Url::parse(url) else { continue };
            if parsed.scheme() == "http" && fetch::get(&parsed, "*/*").await.is_err() {
                absent.push(url.clone());
            }
        }
        absent
    }
}

/// The address of a person's own front end: a server, without a path.
fn front_end(given: String) -> Result<String, Trouble> {
    let url = Url::parse(&given).ok();
    let plain =
        url.filter(|url| matches!(url.scheme(), "http" | "https") && url.path() == "/" && url.query().is_none());
    plain.map(|url| url.origin().ascii_serialization()).ok_or(Trouble::FrontEnd(given))
}

/// A provider on another site than the app: `127.0.0.1` is not `localhost`, so every step of a login crosses sites as
/// it does in real life.
async fn start_provider(origin: &str, secret: &str) -> Result<DemoProvider, Trouble> {
    let client = Client::confidential(CLIENT, secret)
        .redirect_uri(&format!("{origin}/login/end"))
        // For front ends that post the code themselves, from their first page.
        .redirect_uri(&format!("{origin}/"))
        .post_logout_redirect_uri(&format!("{origin}/logout/end"));
    let options = provider::Options {
        path: "/realms/demo".to_owned(),
        clients: vec![client],
        keys: KeySet::Usual,
        access_token_lifetime: ACCESS_TOKEN_LIFETIME,
        audience: AUDIENCE.to_owned(),
        ..provider::Options::default()
    };
    DemoProvider::start(options).await.map_err(|error| Trouble::System("start the provider", error))
}

fn happened(provider: &DemoProvider, api: &Api, own_api: bool) -> String {
    let journal = provider.journal();
    let asked = |grant: &str| {
        let of_kind =
            |seen: &&provider::Seen| seen.endpoint == Endpoint::Token && seen.parameter("grant_type") == Some(grant);
        journal.iter().filter(of_kind).count()
    };
    let sign_ins = asked("authorization_code");
    if sign_ins == 0 {
        return "nobody signed in.".to_owned();
    }
    let renewed = asked("refresh_token");
    let calls = if own_api {
        String::new()
    } else {
        format!(", {}", counted(api.welcome(), "call let in by the API", "calls let in by the API"))
    };
    format!(
        "{}, {}{calls}. The browser held a cookie, and never a token.",
        counted(sign_ins as u64, "sign-in", "sign-ins"),
        counted(renewed as u64, "token renewed", "tokens renewed"),
    )
}

fn counted(number: u64, one: &str, many: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { many })
}
