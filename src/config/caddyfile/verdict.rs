//! What stands in a Caddyfile before an app that Vestibule only gives verdicts for.

use std::fmt::Write as _;

use super::dial;
use crate::config::{Authorization, Listen, Mode, PathRule, Route};

/// What all verdicts have in common.
pub(super) const SNIPPETS: &str = include_str!("../verdict.caddyfile");

/// What a verdict tells of somebody, where the route's rules name no headers of their own.
const TOLD: [&str; 5] =
    ["vestibule-user", "vestibule-email", "vestibule-name", "vestibule-subject", "vestibule-groups"];

/// The snippet that asks `route`, for `import vestibule-verdict-<route>`.
pub(super) fn question(route: &Route, verdicts: &Listen) -> String {
    let mut text = format!(
        "\n# Asks route `{name}` whether a request may pass. It may on nothing but 204 with Vestibule's mark.\n\
         (vestibule-verdict-{name}) {{\n\
         \treverse_proxy {} {{\n\
         \t\t# The `?` keeps the client's own query out of the question.\n\
         \t\trewrite /{name}?\n\
         \t\t@allowed {{\n\t\t\tstatus 204\n\t\t\theader Vestibule-Verdict allow\n\t\t}}\n\
         \t\thandle_response @allowed {{\n\t\t\tvars {{\n",
        dial(verdicts),
        name = route.name,
    );
    let bearer = asked(route).any(|rule| rule.authorization == Authorization::Bearer);
    let bearer = bearer.then(|| "vestibule-authorization".to_owned());
    for name in told(route).into_iter().chain(bearer) {
        let _ = writeln!(text, "\t\t\t\t{} {{rp.header.{}}}", variable(&name), title(&name));
    }
    text.push_str("\t\t\t}\n\t\t}\n\t\timport vestibule-question\n\t}\n}\n");
    text
}

/// The app behind the verdicts of `route`.
pub(super) fn app(route: &Route, authorization: Authorization) -> String {
    let setting = format!("{}_APP", route.name.as_str().to_uppercase().replace('-', "_"));
    let address = format!("{{${setting}}}");
    let mut text = String::from("\t\troute {\n\t\t\timport vestibule-unheard\n");
    for name in told(route) {
        if !is_unheard(&name) {
            let _ = writeln!(text, "\t\t\trequest_header -{}", title(&name));
        }
    }
    if matches!(route.mode, Mode::Verify(_)) {
        text.push_str(&preflight(route, &address));
    }
    let _ = write!(
        text,
        "\t\t\timport vestibule-verdict-{}\n\
         \t\t\t# Where the app is stands in no file of Vestibule's: set {setting} for Caddy, or write the address\n\
         \t\t\t# in its place. Before that, whoever may pass gets 503.\n\
         \t\t\treverse_proxy {address} {{\n\
         \t\t\t\timport vestibule-app\n\
         \t\t\t\t# By `header_up`: what `request_header` sets, a client's `Connection` header takes away again.\n",
        route.name
    );
    for name in told(route) {
        let _ = writeln!(text, "\t\t\t\theader_up {} {{vars.{}}}", title(&name), variable(&name));
    }
    for name in asked(route).flat_map(|rule| &rule.identity_headers).map(|header| header.name.as_str()) {
        if !is_plain(name) {
            let _ = writeln!(
                text,
                "\t\t\t\t# Caddy cannot set {name}: choose a name of letters, digits and dashes for it."
            );
        }
    }
    match authorization {
        Authorization::Bearer => text.push_str("\t\t\t\theader_up Authorization {vars.vestibule_authorization}\n"),
        Authorization::Remove => text.push_str("\t\t\t\theader_up -Authorization\n"),
        Authorization::Pass => {}
    }
    text.push_str("\t\t\t}\n\t\t}\n");
    text
}

/// An API answers the preflights of scripts itself, because they bring no bearer (Fetch 4.8). It is told of nobody.
fn preflight(route: &Route, address: &str) -> String {
    let mut text = format!(
        "\t\t\t# A preflight brings no bearer: the API answers it, and is told of nobody.\n\
         \t\t\t@preflight {{\n\
         \t\t\t\tmethod OPTIONS\n\
         \t\t\t\theader Origin *\n\
         \t\t\t\theader Access-Control-Request-Method *\n\
         \t\t\t}}\n\
         \t\t\treverse_proxy @preflight {address} {{\n\t\t\t\timport vestibule-app\n"
    );
    if asked(route).all(|rule| rule.authorization != Authorization::Pass) {
        text.push_str("\t\t\t\theader_up -Authorization\n");
    }
    text.push_str("\t\t\t}\n");
    text
}

/// The rules by which verdicts are given for an app that is not behind Vestibule.
fn asked(route: &Route) -> impl Iterator<Item = &PathRule> {
    route.paths.iter().map(AsRef::as_ref).filter(|rule: &&PathRule| rule.upstream.is_none())
}

/// The headers that the app is told by, of all rules: whichever holds, a client's own never get through.
fn told(route: &Route) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for header in asked(route).flat_map(|rule| &rule.identity_headers) {
        let name = header.name.as_str();
        if is_plain(name) && !names.iter().any(|known| known == name) {
            names.push(name.to_owned());
        }
    }
    if names.is_empty() { TOLD.map(str::to_owned).to_vec() } else { names }
}

/// Whether Caddy takes a name for nothing but a name.
fn is_plain(name: &str) -> bool {
    let plain = |char: char| char.is_ascii_alphanumeric() || "-_.".contains(char);
    name.starts_with(|char: char| char.is_ascii_alphanumeric()) && name.chars().all(plain)
}

/// Whether [`SNIPPETS`] keep clients from sending `name`.
fn is_unheard(name: &str) -> bool {
    let patterns = SNIPPETS.lines().filter_map(|line| line.trim().strip_prefix("request_header -"));
    patterns.map(str::to_ascii_lowercase).any(|pattern| match pattern.strip_suffix('*') {
        Some(beginning) => name.starts_with(beginning),
        None => name == pattern,
    })
}

/// The name of a variable of Caddy's for a header.
fn variable(name: &str) -> String {
    let plain = name.replace(['-', '.'], "_");
    if plain.starts_with("vestibule_") { plain } else { format!("vestibule_{plain}") }
}

/// A header's name as people write it.
fn title(name: &str) -> String {
    let mut begins = true;
    let mut large = |char: char| {
        let large = if begins { char.to_ascii_uppercase() } else { char };
        begins = char == '-';
        large
    };
    name.chars().map(&mut large).collect()
}
