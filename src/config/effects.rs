//! What a change of the config means for those who are there: sessions, streams, listeners, and what has to be
//! registered at a provider first.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::{AuthCode, Config, Listen, Mode, Name, Route, Sessions, Store, registrations};

/// One consequence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Effect {
    /// The key or table that it comes from, such as `routes.web`.
    pub about: String,
    /// What happens, in one sentence without a full stop. Never holds a secret.
    pub text: String,
}

impl fmt::Display for Effect {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: {}", self.about, self.text)
    }
}

/// What happens when `after` takes the place of `before` in a running process.
#[must_use]
pub fn effects(before: &Config, after: &Config) -> Vec<Effect> {
    let mut effects = Effects(Vec::new());
    effects.registrations(before, after);
    effects.listeners(before, after);
    for (name, route) in &before.routes {
        effects.route(route, after.routes.get(name).map(AsRef::as_ref));
    }
    effects.sessions(&before.sessions, &after.sessions);
    for (name, provider) in &before.providers {
        if after.providers.get(name).is_some_and(|after| after != provider) {
            effects.say(&format!("providers.{name}"), "its metadata and keys are fetched anew");
        }
    }
    effects.upstreams(before, after);
    if before.server.trusted_proxies != after.server.trusted_proxies {
        effects.say("server.trusted_proxies", "the next request of a peer that is not listed any more gets 403");
    }
    effects.0
}

/// Who may use sessions: the issuer and client that they were made with.
fn parties(mode: &AuthCode) -> BTreeSet<(&str, &str)> {
    mode.clients
        .iter()
        .map(|client| (client.provider.issuer.as_str(), client.client_id.as_str()))
        .collect()
}

fn auth_code(route: &Route) -> Option<&AuthCode> {
    match &route.mode {
        Mode::AuthCode(mode) => Some(mode),
        Mode::Device(_) | Mode::Verify(_) => None,
    }
}

/// Every listener, with what it serves.
fn listeners(config: &Config) -> BTreeMap<&Listen, &'static str> {
    let server = &config.server;
    let metrics = server.metrics_listen.iter().map(|listen| (listen, "metrics"));
    let verdicts = server.verdict_listen.iter().map(|listen| (listen, "verdicts"));
    let control = server.control.iter().map(|control| (&control.listen, "control"));
    let routes = config.routes.values().map(|route| (&route.listen, "routes"));
    routes.chain(metrics).chain(verdicts).chain(control).collect()
}

struct Effects(Vec<Effect>);

impl Effects {
    fn say(&mut self, about: &str, text: impl Into<String>) {
        self.0.push(Effect { about: about.to_owned(), text: text.into() });
    }

    fn registrations(&mut self, before: &Config, after: &Config) {
        let (before, after) = (registrations(before), registrations(after));
        for ((provider, client), new) in &after.0 {
            let old = before.0.get(&(provider.clone(), client.clone())).cloned().unwrap_or_default();
            let about = format!("providers.{provider}");
            for uri in new.redirect_uris.difference(&old.redirect_uris) {
                self.say(&about, format!("first register the redirect URI {uri} for client {client}"));
            }
            for uri in new.post_logout_redirect_uris.difference(&old.post_logout_redirect_uris) {
                self.say(&about, format!("first register the post-logout redirect URI {uri} for client {client}"));
            }
            for uri in new.backchannel_logout_uris.difference(&old.backchannel_logout_uris) {
                self.say(&about, format!("first register the back-channel logout URI {uri} for client {client}"));
            }
            if new.device_flow && !old.device_flow {
                self.say(&about, format!("first allow client {client} the device flow"));
            }
        }
    }

    fn listeners(&mut self, before: &Config, after: &Config) {
        let (before, after) = (listeners(before), listeners(after));
        for (listen, serves) in &after {
            match before.get(listen) {
                None => self.say("server", format!("{listen} opens ({serves})")),
                Some(served) if served != serves => {
                    self.say("server", format!("{listen} changes from {served} to {serves}"));
                }
                Some(_) => {}
            }
        }
        for (listen, serves) in before.iter().filter(|(listen, _)| !after.contains_key(*listen)) {
            let text = format!("{listen} ({serves}) closes when its requests are done: first have nobody dial it");
            self.say("server", text);
        }
    }

    fn route(&mut self, before: &Route, after: Option<&Route>) {
        let about = format!("routes.{}", before.name);
        let Some(mode) = auth_code(before) else { return };
        let Some(after_mode) = after.and_then(auth_code) else {
            let text = "its sessions are unusable and their streams end at once; they are deleted after ten minutes, \
                        unless it is put back";
            return self.say(&about, text);
        };
        for (issuer, client) in parties(mode).difference(&parties(after_mode)) {
            let text = format!(
                "sessions of client {client} at {issuer} are unusable and their streams end at once; they are deleted \
                 after ten minutes, unless it is put back"
            );
            self.say(&about, text);
        }
        let hosts =
            |route: &Route| -> BTreeSet<String> { route.public_urls.iter().map(|url| url.host.clone()).collect() };
        for host in hosts(before).difference(&after.map(hosts).unwrap_or_default()) {
            self.say(&about, format!("nobody is logged in at {host} any more"));
        }
    }

    fn sessions(&mut self, before: &Sessions, after: &Sessions) {
        if before.store != after.store {
            let text = match &after.store {
                Store::Redis(_) if before.store.is_same_place(&after.store) => {
                    "connects anew; sessions stay where they are"
                }
                Store::Redis(_) => "sessions move there, beside those that it holds already, and nobody is logged out",
                Store::Memory => "sessions move into the process, and from then on end with it",
                Store::File(_) => "sessions move there, and nobody is logged out; the file they leave is emptied",
            };
            self.say("sessions.store", text);
            if matches!(before.store, Store::Redis(_)) && !before.store.is_same_place(&after.store) {
                self.say(
                    "sessions.store",
                    "refused while other processes are connected to the Redis that sessions leave",
                );
            }
        }
        if before.keys.iter().any(|key| !after.keys.contains(key)) {
            let text = "what a key sealed that is gone cannot be opened any more: logins on their way begin anew, and \
                        sessions that are read from a store again are not found";
            self.say("sessions.keys", text);
        }
        if after.idle_timeout < before.idle_timeout {
            self.say("sessions.idle_timeout", "sessions that were unused for so long are over at once");
        }
        if after.max_lifetime != before.max_lifetime {
            self.say("sessions.max_lifetime", "holds for logins from now on; sessions keep the end that they have");
        }
        if after.max_sessions < before.max_sessions {
            self.say("sessions.max_sessions", "what is too many ends as people log in, the longest unused first");
        }
    }

    fn upstreams(&mut self, before: &Config, after: &Config) {
        let of = |config: &Config| -> BTreeMap<Name, _> {
            let all = config.routes.values().flat_map(|route| route.upstreams());
            all.map(|upstream| (upstream.name.clone(), std::sync::Arc::clone(upstream))).collect()
        };
        let (before, after) = (of(before), of(after));
        for (name, upstream) in &before {
            if after.get(name).is_some_and(|after| after != upstream) {
                let text = "requests from now on use new connections; streams that are open go on";
                self.say(&format!("upstreams.{name}"), text);
            }
        }
    }
}
