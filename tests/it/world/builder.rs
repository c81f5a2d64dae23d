//! How a world is made, and in what it may differ from the usual one.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::sync::Mutex;

use url::Url;
use vestibule::demo::provider::{Client, DemoProvider, Options};
use vestibule::time::Clock;

use super::browser::{Browser, Destination, Hosts, Surroundings};
use super::toml::Toml;
use super::upstream::EchoUpstream;
use super::{METRICS, ROUTES, World, log, start_sidecar, unique};

type AdjustConfig = Box<dyn FnOnce(&mut Toml) -> &mut Toml + Send>;
type AdjustProvider = Box<dyn FnOnce(&mut Options) + Send>;

/// What will differ.
#[derive(Default)]
pub struct Builder {
    config: Vec<AdjustConfig>,
    provider: Vec<AdjustProvider>,
    front_end: Option<bool>,
}

impl Builder {
    /// Changes the config file.
    pub fn config(mut self, adjust: impl FnOnce(&mut Toml) -> &mut Toml + Send + 'static) -> Self {
        self.config.push(Box::new(adjust));
        self
    }

    /// Changes how the provider is set up; its first client is the world's.
    pub fn provider(mut self, adjust: impl FnOnce(&mut Options) + Send + 'static) -> Self {
        self.provider.push(Box::new(adjust));
        self
    }

    /// Every path goes to the sidecar: there is no front end beside it.
    pub fn without_front_end(mut self) -> Self {
        self.front_end = Some(false);
        self
    }

    /// Starts everything. Time stands until a story moves it, or lets the clock run.
    pub async fn start(self) -> World {
        log::capture();
        let log_position = log::position();
        let (clock, canary) = (Clock::default(), unique());
        clock.hold();
        let secret = format!("canary-{canary}-secret-0-{}", unique());
        let client = Client::confidential("web", &secret)
            .redirect_uri("https://app.test/login/end")
            .post_logout_redirect_uri("https://app.test/logout/end");
        let mut options =
            Options { clock: clock.clone(), canary: canary.clone(), clients: vec![client], ..Options::default() };
        self.provider.into_iter().for_each(|adjust| adjust(&mut options));
        let provider = DemoProvider::start(options).await.unwrap();
        let upstream = EchoUpstream::start().await;

        let dir = tempfile::tempdir().unwrap();
        let secret_file = dir.path().join("web.secret");
        std::fs::write(&secret_file, &secret).unwrap();
        std::fs::set_permissions(&secret_file, Permissions::from_mode(0o600)).unwrap();
        let mut toml = usual(&provider, &upstream, secret_file.to_str().unwrap());
        self.config.into_iter().for_each(|adjust| {
            adjust(&mut toml);
        });
        let config_path = dir.path().join("vestibule.toml");
        std::fs::write(&config_path, toml.render()).unwrap();
        let sidecar = start_sidecar(&config_path, &clock).await;

        let around = Surroundings {
            hosts: Hosts::default(),
            clock: clock.clone(),
            transcript: Default::default(),
            log_position,
            home: Url::parse("https://app.test/").unwrap(),
            jars: Default::default(),
        };
        around.hosts.put(&provider.address().to_string(), Destination::Direct(provider.address()));
        let world = World {
            browser: Browser::new(around.clone()),
            provider,
            upstream,
            clock,
            around,
            sidecar: Some(sidecar),
            process: None,
            past: String::new(),
            held: None,
            toml: Mutex::new(toml),
            dir,
            canary,
            panics: log::panics().len(),
            finished: false,
        };
        world.add_host("app.test", self.front_end.unwrap_or(true)).await;
        world
    }
}

/// The usual config file.
fn usual(provider: &DemoProvider, upstream: &EchoUpstream, secret_file: &str) -> Toml {
    let mut toml = Toml::default();
    toml.text("server", "listen", ROUTES)
        .text("server", "metrics_listen", METRICS)
        .text("providers.corp", "issuer", provider.issuer())
        .text("providers.corp", "client_id", "web")
        .set("providers.corp", "client_secret", &format!("{{ file = \"{secret_file}\" }}"))
        .text("upstreams.api", "url", &upstream.url())
        .text("routes.web", "mode", "auth-code")
        .text("routes.web", "public_url", "https://app.test")
        .text("routes.web", "upstream", "api");
    toml
}
