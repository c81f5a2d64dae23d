//! All providers with their default clients, as routes find them.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::keys::CLIENT;
use super::report::{At, Wrong, nearest, quote};
use super::section::Section;
use super::{Client, Issuer, Name, Provider};

/// One `[providers.NAME]`.
struct Entry {
    /// `None` when it is not legal, which has been said.
    provider: Option<Arc<Provider>>,
    /// The client that stands beside the issuer; an outer `None` when there is none, an inner one when it is not legal.
    client: Option<Option<Arc<Client>>>,
}

/// All `[providers]`.
pub(super) struct Providers(BTreeMap<String, Entry>);

impl Providers {
    pub(super) fn resolve(root: &Section<'_>) -> Self {
        let mut entries = BTreeMap::new();
        let mut issuers: Vec<(String, At)> = Vec::new();
        for (name, at, section) in root.tables("providers") {
            let legal = Name::judge(&name).map_err(|wrong| root.cx.error(&at, wrong)).ok();
            let provider = legal.and_then(|name| Provider::resolve(name, &section)).map(Arc::new);
            let client = section.has("client_id").then(|| Client::resolve(provider.clone(), &section).map(Arc::new));
            orphans(&section, "give the provider a `client_id`, or leave this out");
            if let Some(provider) = &provider {
                refuse_twins(&provider.issuer, &section, &mut issuers);
            }
            entries.insert(name, Entry { provider, client });
        }
        Self(entries)
    }

    /// All providers by name, when all are legal.
    pub(super) fn all(&self) -> Option<BTreeMap<Name, Arc<Provider>>> {
        let all = self
            .0
            .values()
            .map(|entry| entry.provider.clone().map(|provider| (provider.name.clone(), provider)));
        all.collect()
    }

    /// The clients that the users of a route may log in with.
    pub(super) fn clients_of(&self, route: &Section<'_>) -> Option<Vec<Arc<Client>>> {
        if route.has("client_id") {
            let client = self.own_client(route)?;
            let at = if route.has("provider") { route.at("provider") } else { route.header().clone() };
            return can_log_in(&client.provider, route, &at).then(|| vec![client]);
        }
        refuse_orphans(route);
        let named = self.named_by(route)?;
        let key = if route.has("providers") { "providers" } else { "provider" };
        let with_login = |(_, entry): &(String, &Entry)| match &entry.provider {
            Some(provider) => can_log_in(provider, route, &route.at(key)),
            None => true,
        };
        if !named.iter().all(with_login) {
            return None;
        }
        let client = |(name, entry): &(String, &Entry)| {
            if entry.client.is_none() {
                let wrong = Wrong::new(format!("provider {} has no `client_id`", quote(name)));
                route.cx.error(&route.at(key), wrong.hint("give it one, or give this route its own"));
            }
            entry.client.clone().flatten()
        };
        named.iter().map(client).collect::<Vec<_>>().into_iter().collect()
    }

    /// The client that a route brings itself; the route has a `client_id`.
    pub(super) fn own_client(&self, route: &Section<'_>) -> Option<Arc<Client>> {
        let provider = match self.named_by(route).as_deref() {
            Some([(_, entry)]) => entry.provider.clone(),
            Some([_, _, ..]) => {
                let wrong = Wrong::new("one client cannot be registered at several providers");
                route.cx.error(&route.at("client_id"), wrong.hint("leave it out: each provider has its own client"));
                None
            }
            _ => None,
        };
        // Resolved even when there is no provider, so that its own problems are told too.
        Client::resolve(provider, route).map(Arc::new)
    }

    /// The providers of a route that accepts their tokens, each with its default client if it has one.
    pub(super) fn issuers_of(&self, route: &Section<'_>) -> Option<Vec<Issuer>> {
        let issuer = |(_, entry): (String, &Entry)| {
            Some(Issuer { provider: entry.provider.clone()?, introspector: entry.client.clone().flatten() })
        };
        self.named_by(route)?.into_iter().map(issuer).collect()
    }

    /// The providers that a route names, or the only one there is.
    fn named_by(&self, route: &Section<'_>) -> Option<Vec<(String, &Entry)>> {
        let known = |name: &str| match self.0.get_key_value(name) {
            Some((name, entry)) => Ok((name.clone(), entry)),
            None => Err(self.unknown(name)),
        };
        match (route.has("provider"), route.has("providers")) {
            (true, true) => {
                let wrong = Wrong::new("a route has either `provider` or `providers`");
                route.cx.error(&route.at("providers"), wrong.also(route.at("provider"), "and here"));
                None
            }
            (true, false) => route.parse("provider", known).map(|one| vec![one]),
            (false, true) => {
                let named = route.list("providers", known)?;
                let twice = |index: usize, name: &String| named.iter().take(index).any(|(other, _)| other == name);
                let wrong = if named.is_empty() {
                    "this list is empty"
                } else if named.iter().enumerate().any(|(index, (name, _))| twice(index, name)) {
                    "a provider is named twice"
                } else {
                    return Some(named);
                };
                route.cx.error(&route.at("providers"), Wrong::new(wrong));
                None
            }
            (false, false) => self.only(route),
        }
    }

    fn only(&self, route: &Section<'_>) -> Option<Vec<(String, &Entry)>> {
        match self.0.iter().collect::<Vec<_>>().as_slice() {
            [(name, entry)] => Some(vec![((*name).clone(), entry)]),
            // That there are none has been said.
            [] => None,
            several => {
                let names: Vec<String> = several.iter().map(|(name, _)| quote(name)).collect();
                let wrong = Wrong::new("there are several providers, and this route does not say which");
                let hint = format!("add `provider` with one of {}, or `providers` with some of them", names.join(", "));
                route.cx.error(route.header(), wrong.hint(hint));
                None
            }
        }
    }

    fn unknown(&self, name: &str) -> Wrong {
        let wrong = Wrong::new(format!("there is no provider named {}", quote(name)));
        match nearest(name, self.0.keys().map(String::as_str)) {
            Some(near) => wrong.hint(format!("did you mean `{near}`?")),
            None => wrong.hint(format!("add `[providers.{name}]`")),
        }
    }
}

/// Whether people can log in at `provider`; says so where they cannot.
fn can_log_in(provider: &Provider, route: &Section<'_>, at: &At) -> bool {
    if provider.jwks_uri.is_none() {
        return true;
    }
    let wrong = Wrong::new(format!("nobody can log in at provider {}", quote(provider.name.as_str())));
    let hint =
        "with `jwks_uri` its keys are known and nothing else: its tokens can be verified, by `mode = \"verify\"`";
    route.cx.error(at, wrong.hint(hint));
    false
}

/// Refuses the keys of a client on a route that has none of its own.
pub(super) fn refuse_orphans(route: &Section<'_>) {
    orphans(route, "a route that names `client_id` brings its whole client; else this belongs to the provider");
}

/// Keys of a client where there is no client.
fn orphans(section: &Section<'_>, hint: &str) {
    if section.has("client_id") {
        return;
    }
    for key in CLIENT.iter().filter(|key| section.has(key.name)) {
        let wrong = Wrong::new(format!("`{}` without a `client_id` belongs to no client", key.name));
        section.cx.error(&section.at(key.name), wrong.hint(hint));
    }
}

/// One issuer is one provider: else a callback, or a token, could be judged by the rules of the wrong one.
fn refuse_twins(issuer: &str, section: &Section<'_>, seen: &mut Vec<(String, At)>) {
    let issuer = issuer.trim_end_matches('/');
    let at = section.at("issuer");
    match seen.iter().find(|(other, _)| other == issuer) {
        Some((_, first)) => {
            let wrong = Wrong::new("two providers have the same issuer").also(first.clone(), "the other one");
            section
                .cx
                .error(&at, wrong.hint("keep one, and give the routes of the other their own `client_id`"));
        }
        None => seen.push((issuer.to_owned(), at)),
    }
}
