//! `vestibule check --online`: asks every provider what the program would ask it, before anybody depends on the answers.

use std::fmt::{self, Display};
use std::sync::Arc;

use tokio_util::task::TaskTracker;

use crate::cli::{complain, say};
use crate::config::{self, Config, Mode, Route};
use crate::metrics::Metrics;
use crate::provider::{Acquaintance, Client, Metadata, Provider, Surroundings};
use crate::time::Clock;

/// How a question ended.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Grade {
    Ok,
    /// It works, but not as well as it could.
    Warning,
    Error,
}

impl Display for Grade {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Error => "error",
        })
    }
}

/// Asks, and prints what came of it. Returns whether all is well; with `strict`, a warning is not.
pub(super) fn ask(config: &Config, strict: bool) -> bool {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            complain(&format!("error: cannot ask the providers: {error}"));
            return false;
        }
    };
    let worst = runtime.block_on(ask_all(config));
    runtime.shutdown_background();
    match worst {
        Grade::Ok => true,
        Grade::Warning => !strict,
        Grade::Error => false,
    }
}

async fn ask_all(config: &Config) -> Grade {
    let (clock, clocks) = (Clock::default(), Arc::default());
    let mut report = Report { worst: Grade::Ok };
    for provider in config.providers.values() {
        let surroundings = Surroundings {
            clock: clock.clone(),
            metrics: Arc::new(Metrics::new()),
            tasks: TaskTracker::new(),
            clocks: Arc::clone(&clocks),
        };
        say(&format!("\nProvider {} ({}):", provider.name, provider.issuer));
        let running = Provider::start(Arc::clone(provider), surroundings);
        let metadata = report.provider(&running, &clock).await;
        if let Some(metadata) = metadata {
            report.clients(config, &running, &metadata).await;
        }
    }
    report.worst
}

struct Report {
    worst: Grade,
}

impl Report {
    fn line(&mut self, grade: Grade, what: &str, words: impl Display) {
        say(&format!("  {grade:<9}{what:<14}{words}"));
        self.worst = match (self.worst, grade) {
            (Grade::Error, _) | (_, Grade::Error) => Grade::Error,
            (Grade::Warning, _) | (_, Grade::Warning) => Grade::Warning,
            (Grade::Ok, Grade::Ok) => Grade::Ok,
        };
    }

    /// Metadata, keys and clock. Returns the metadata, where there are any.
    async fn provider(&mut self, provider: &Provider, clock: &Clock) -> Option<Arc<Metadata>> {
        let by_keys_alone = provider.config().jwks_uri.is_some();
        let metadata = if by_keys_alone { None } else { Some(provider.metadata().await) };
        match &metadata {
            Some(Ok(metadata)) => {
                self.line(Grade::Ok, "metadata", format_args!("token endpoint {}", metadata.token_endpoint));
            }
            Some(Err(error)) => self.line(Grade::Error, "metadata", error),
            None => {}
        }
        // Without metadata nobody knows where the keys are, and why has been said.
        if !matches!(metadata, Some(Err(_))) {
            match provider.usable_keys(clock.now()).await {
                Ok(count) => self.line(Grade::Ok, "keys", count),
                Err(error) => self.line(Grade::Error, "keys", error),
            }
        }
        match provider.clock_skew() {
            Some(skew) if skew.exceeds(provider.config().clock_skew) => self.line(
                Grade::Error,
                "clock",
                format_args!("it {skew}, more than `clock_skew` allows: tokens will be refused; have both set by NTP"),
            ),
            Some(skew) => self.line(Grade::Ok, "clock", format_args!("it {skew}")),
            None => {}
        }
        metadata.and_then(Result::ok)
    }

    /// Every registration at `provider` that a route has, each once.
    async fn clients(&mut self, config: &Config, provider: &Arc<Provider>, metadata: &Metadata) {
        let (mut introduced, mut introspectors): (Vec<&config::Client>, Vec<&config::Client>) =
            (Vec::new(), Vec::new());
        let here = |client: &&Arc<config::Client>| client.provider == *provider.config();
        let running =
            |client: &Arc<config::Client>| Client { provider: Arc::clone(provider), registration: Arc::clone(client) };
        for route in config.routes.values() {
            match &route.mode {
                Mode::AuthCode(mode) => {
                    for client in mode.clients.iter().filter(here) {
                        self.logout(route, metadata);
                        if !introduced.contains(&&**client) {
                            introduced.push(client);
                            let uri = config::redirect_uri(route, mode, client, 0).unwrap_or_default();
                            self.client(&running(client), &uri).await;
                        }
                    }
                }
                Mode::Device(mode) if here(&&mode.client) => self.device(route, metadata),
                Mode::Device(_) | Mode::Verify(_) => {}
            }
            let issuers = route.mode.bearer().map(|bearer| bearer.issuers.iter()).into_iter().flatten();
            for client in issuers.filter_map(|issuer| issuer.introspector.as_ref()).filter(here) {
                if !introspectors.contains(&&**client) {
                    introspectors.push(client);
                    self.introspection(&running(client)).await;
                }
            }
        }
    }

    fn logout(&mut self, route: &Route, metadata: &Metadata) {
        if metadata.end_session_endpoint.is_none() {
            let words = format!("route {}: it has no end-session endpoint, so people stay logged in there", route.name);
            self.line(Grade::Warning, "logout", words);
        }
    }

    fn device(&mut self, route: &Route, metadata: &Metadata) {
        match &metadata.device_authorization_endpoint {
            Some(endpoint) => self.line(Grade::Ok, "device flow", endpoint),
            None => {
                let words = format!("route {}: it has no device authorization endpoint", route.name);
                self.line(Grade::Error, "device flow", words);
            }
        }
    }

    async fn introspection(&mut self, client: &Client) {
        let id = &client.registration.client_id;
        match client.ask_about_nothing().await {
            Ok(()) => self.line(Grade::Ok, "introspection", format_args!("as client {id}")),
            Err(error) => self.line(Grade::Error, "introspection", format_args!("as client {id}: {error}")),
        }
    }

    async fn client(&mut self, client: &Client, redirect_uri: &str) {
        let (id, secret) = (&client.registration.client_id, client.registration.client_secret.is_some());
        let what = if secret { "with its secret" } else { "without a secret" };
        let (grade, words) = match client.introduce(redirect_uri).await {
            Ok(Acquaintance::Known) => (Grade::Ok, format!("{id} is known {what}")),
            Ok(Acquaintance::Stranger(code)) => {
                (Grade::Error, format!("{id} is not known {what}: the provider answers {code}"))
            }
            Ok(Acquaintance::Unclear(code)) => {
                (Grade::Warning, format!("the provider answers {code} to a made-up code of {id}, which tells nothing"))
            }
            Err(error) => (Grade::Error, format!("{id}: {error}")),
        };
        self.line(grade, "client", words);
    }
}
