//! What routes must not do to each other, or to the listeners.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::report::{At, Wrong};
use super::section::Section;
use super::{Listen, Mode, Route, Server, Target, resource_metadata_path};

/// Where in the config a claim on (listener, host, prefix) is made, and by which route.
type Claims<'a> = BTreeMap<(&'a Listen, &'a str, String), (&'a Route, At)>;

/// Checks all legal routes together.
pub(super) fn find(server: &Section<'_>, resolved: Option<&Server>, routes: &[(Arc<Route>, &Section<'_>)]) {
    let mut claims = Claims::new();
    let mut open: Vec<&Listen> = Vec::new();
    if let Some(resolved) = resolved {
        own_listeners(server, resolved);
    }
    for (route, section) in routes {
        let listen_at = if section.has("listen") { section.at("listen") } else { server.at("listen") };
        if !route.listen.is_local() && !server.has("trusted_proxies") && !open.contains(&&route.listen) {
            let wrong = Wrong::new("other machines can reach this listener, and nothing says which of them is Caddy");
            server.cx.error(&listen_at, wrong.hint("set `trusted_proxies` in `[server]` to Caddy's address"));
            open.push(&route.listen);
        }
        for (key, what, listen) in resolved.iter().flat_map(|server| special(server)) {
            if listen == &route.listen && !is_any_port(listen) {
                let wrong = Wrong::new(format!("a route and the {what} would share one listener"))
                    .also(listen_at.clone(), "the route's");
                server.cx.error(&server.at(key), wrong.hint("give each its own"));
            }
        }
        claim(route, section, &mut claims);
    }
    for (_, section) in routes {
        refuse_loops(section, routes);
    }
}

/// The listeners that are not for routes: key, what they serve, address.
fn special(server: &Server) -> impl Iterator<Item = (&'static str, &'static str, &Listen)> {
    let metrics = server.metrics_listen.iter().map(|listen| ("metrics_listen", "metrics", listen));
    let verdicts = server.verdict_listen.iter().map(|listen| ("verdict_listen", "verdicts", listen));
    metrics
        .chain(verdicts)
        .chain(server.control.iter().map(|control| ("control", "control", &control.listen)))
}

/// Metrics, verdicts and control have different readers; and who may ask for verdicts must be said when others could.
fn own_listeners(server: &Section<'_>, resolved: &Server) {
    let own: Vec<_> = special(resolved).collect();
    for (index, (key, what, listen)) in own.iter().enumerate() {
        let before = own.iter().take(index).find(|(_, _, other)| other == listen && !is_any_port(listen));
        if let Some((other, others, _)) = before {
            let wrong = Wrong::new(format!("{what} and {others} would share one listener"))
                .also(server.at(other), "the other one");
            server.cx.error(&server.at(key), wrong.hint("give each its own"));
        }
    }
    if resolved.verdict_listen.as_ref().is_some_and(|listen| !listen.is_local()) && !server.has("trusted_proxies") {
        let wrong = Wrong::new("other machines can reach this listener, and nothing says which of them is Caddy");
        let hint = "set `trusted_proxies` in `[server]` to Caddy's address, or listen on loopback or a unix socket";
        server.cx.error(&server.at("verdict_listen"), wrong.hint(hint));
    }
}

/// Claims every (listener, host, prefix) of `route`; one that is taken is an error, told once for two routes.
fn claim<'a>(route: &'a Route, section: &Section<'_>, claims: &mut Claims<'a>) {
    let tables = section.tables("paths");
    let at = |prefix: &str| {
        let rule = tables.iter().find(|(name, ..)| name == prefix).map(|(_, at, _)| at.clone());
        rule.unwrap_or_else(|| section.at("public_url"))
    };
    let endpoints = match &route.mode {
        Mode::AuthCode(_) | Mode::Device(_) => Some(format!("{}/", route.base_path)),
        Mode::Verify(_) => None,
    };
    let metadata = route.mode.resource().map(resource_metadata_path);
    let rules = route.paths.iter().map(|rule| rule.prefix.clone());
    let prefixes: Vec<String> = endpoints.iter().chain(&metadata).cloned().chain(rules).collect();
    let mut told: Vec<&Route> = Vec::new();
    for url in &route.public_urls {
        for prefix in &prefixes {
            let place = (&route.listen, url.host.as_str(), prefix.clone());
            let here = if Some(prefix) == endpoints.as_ref() { section.at("public_url") } else { at(prefix) };
            match claims.get(&place) {
                Some((other, first)) if !told.contains(other) => {
                    let wrong = Wrong::new(format!(
                        "routes `{}` and `{}` both want `{}{prefix}` on {}",
                        other.name, route.name, url.text, route.listen
                    ));
                    let hint = if Some(prefix) == metadata.as_ref() {
                        "give one another `resource` or `listen`: what is said about a resource is said once"
                    } else {
                        "give one another `listen`, `base_path` or path prefix, or put both into one route"
                    };
                    section.cx.error(&here, wrong.also(first.clone(), "the other one").hint(hint));
                    told.push(other);
                }
                Some(_) => {}
                None => {
                    claims.insert(place, (route, here));
                }
            }
        }
    }
}

/// An upstream that is one of our own listeners would be asked for ever.
fn refuse_loops(section: &Section<'_>, routes: &[(Arc<Route>, &Section<'_>)]) {
    let Some((route, _)) = routes.iter().find(|(_, other)| std::ptr::eq(*other, section)) else { return };
    for upstream in route.upstreams() {
        let ours = |listen: &Listen| match (listen, &upstream.target) {
            (Listen::Tcp(address), Target::Http(authority) | Target::H2c(authority)) => {
                address.to_string() == authority.as_str()
            }
            (Listen::Unix(path), Target::Unix(socket)) => path == socket,
            (Listen::Tcp(_), Target::Https(_) | Target::Unix(_)) | (Listen::Unix(_), _) => false,
        };
        if let Some((route, _)) = routes.iter().find(|(route, _)| ours(&route.listen)) {
            let wrong = Wrong::new(format!("upstream `{}` is Vestibule's own listener", route.listen));
            section.cx.error(section.header(), wrong.hint("name the address of the server behind it"));
            return;
        }
    }
}

const fn is_any_port(listen: &Listen) -> bool {
    matches!(listen, Listen::Tcp(address) if address.port() == 0)
}
