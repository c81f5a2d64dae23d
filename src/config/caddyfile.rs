//! The Caddyfile that fits a config: which requests of which site go to which listener, and what serves the rest.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

use super::path_rule::ENDPOINTS;
use super::{Config, Listen, Mode, Origin, Route, Scheme, resource_metadata_path};

/// How Caddy speaks to Vestibule, for `import vestibule`. The shipped Caddyfile has the same lines.
const SNIPPET: &str = include_str!("vestibule.caddyfile");

/// Caddy's own refusals of uploads, see the snippet.
const REFUSALS: &str = "
	# The same for a refusal of Caddy's own, when Vestibule closed its connection in the middle of an upload.
	handle_errors {
		@upload {
			protocol http/1.1
			not method GET HEAD
		}
		header @upload Connection close
	}
";

/// What serves the paths of a site that no route has: the app itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FrontEnd {
    /// A folder with the files of a single-page app.
    Folder(PathBuf),
    /// A server, such as that of a bundler: `http://localhost:5173`.
    Server(String),
}

impl FrontEnd {
    /// A folder, unless `text` begins as a web address does.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        if text.starts_with("http://") || text.starts_with("https://") {
            Self::Server(text.trim_end_matches('/').to_owned())
        } else {
            Self::Folder(PathBuf::from(text))
        }
    }
}

/// Writes the Caddyfile for every site of `config`. It has no global options: those belong to whoever runs Caddy.
#[must_use]
pub fn caddyfile(config: &Config, front_end: &FrontEnd) -> String {
    let mut sites: BTreeMap<&Origin, Vec<&Arc<Route>>> = BTreeMap::new();
    for route in config.routes.values() {
        for url in &route.public_urls {
            sites.entry(url).or_default().push(route);
        }
    }
    let mut text = SNIPPET.to_owned();
    for (origin, routes) in sites {
        site(&mut text, (origin, &routes), front_end);
    }
    text
}

/// One site: the listeners of its routes, then the app.
fn site(text: &mut String, (origin, routes): (&Origin, &[&Arc<Route>]), front_end: &FrontEnd) {
    let mut listeners: BTreeMap<&Listen, Vec<&Route>> = BTreeMap::new();
    for route in routes {
        listeners.entry(&route.listen).or_default().push(route);
    }
    let several = listeners.len() > 1;
    let (clis, others): (Vec<_>, Vec<_>) = listeners
        .into_iter()
        .partition(|(_, routes)| several && routes.iter().all(|route| is_for_clis(route)));
    let (whole, parts): (Vec<_>, Vec<_>) = others.into_iter().partition(|(_, routes)| has_whole_site(routes));
    let _ = writeln!(text, "\n{} {{", address(origin));
    if origin.scheme == Scheme::Http {
        let _ = writeln!(
            text,
            "\t# Plain http is for this machine only; Caddy would listen to all others too.\n\tbind {}\n",
            bind(origin)
        );
    }
    for (number, (listen, routes)) in clis.iter().enumerate() {
        let name = if number == 0 { "cli".to_owned() } else { format!("cli-{}", number + 1) };
        of_clis(text, &name, (listen, routes));
    }
    for (number, (listen, routes)) in parts.iter().enumerate() {
        let name = if number == 0 { "vestibule".to_owned() } else { format!("vestibule-{}", number + 1) };
        let mut seen = BTreeSet::new();
        let mut paths: Vec<String> = routes.iter().copied().flat_map(paths).collect();
        paths.retain(|path| seen.insert(path.clone()));
        let _ = write!(
            text,
            "\t# {}: its endpoints, and the paths behind it.\n\t@{name} path {}\n\thandle @{name} {{\n{}\t}}\n\n",
            names(routes),
            paths.join(" "),
            proxy(listen)
        );
    }
    match whole.first() {
        Some((listen, routes)) => {
            let _ = write!(text, "\t# {}: everything else.\n\thandle {{\n{}\t}}\n", names(routes), proxy(listen));
        }
        None => {
            let _ = write!(text, "\t# Everything else is the app itself.\n\thandle {{\n{}\t}}\n", app(front_end));
        }
    }
    text.push_str(REFUSALS);
    text.push_str("}\n");
}

/// A listener of routes whose paths browsers have, too: who asks is told apart by the client's name. That decides
/// nothing but who answers, because anybody can call themselves anything; each listener keeps its own rules.
fn of_clis(text: &mut String, name: &str, (listen, routes): (&Listen, &[&Route])) {
    let metadata: Vec<String> = routes.iter().filter_map(|route| metadata(route)).collect();
    let _ = write!(
        text,
        "\t# {}: how clients find out where to log in.\n\t@{name}-metadata path {}\n\thandle @{name}-metadata {{\n{}\t}}\n\n",
        names(routes),
        metadata.join(" "),
        proxy(listen)
    );
    let paths = match has_whole_site(routes) {
        true => String::new(),
        false => format!("\t\tpath {}\n", routes.iter().copied().flat_map(paths).collect::<Vec<_>>().join(" ")),
    };
    let _ = write!(
        text,
        "\t# {}: the same paths, for whoever is no browser.\n\t@{name} {{\n\t\tnot header User-Agent *Mozilla*\n{paths}\t}}\n\
         \thandle @{name} {{\n{}\t}}\n\n",
        names(routes),
        proxy(listen)
    );
}

const fn is_for_clis(route: &Route) -> bool {
    matches!(route.mode, Mode::Device(_))
}

fn metadata(route: &Route) -> Option<String> {
    route.mode.resource().map(resource_metadata_path)
}

/// How Caddy names the site: a plain host has HTTPS by itself, and for `http://` Caddy makes no certificate.
fn address(origin: &Origin) -> &str {
    match origin.scheme {
        Scheme::Https if !origin.host.contains(':') => &origin.host,
        Scheme::Https | Scheme::Http => &origin.text,
    }
}

/// The loopback address of a plain-http origin.
fn bind(origin: &Origin) -> &str {
    let host = origin.host.rsplit_once(':').map_or(origin.host.as_str(), |(host, _)| host);
    if host.ends_with("localhost") { "127.0.0.1" } else { host }
}

fn has_whole_site(routes: &[&Route]) -> bool {
    routes
        .iter()
        .any(|route| route.paths.iter().any(|rule| rule.prefix == "/" && rule.upstream.is_some()))
}

fn names(routes: &[&Route]) -> String {
    let names: Vec<String> = routes.iter().map(|route| format!("Route `{}`", route.name)).collect();
    names.join(", ")
}

/// Everything that a route answers. Caddy compares more loosely than Vestibule does (decoded, in any case), so it sends
/// rather too much than too little.
fn paths(route: &Route) -> Vec<String> {
    let endpoints: &[&str] = match route.mode {
        Mode::AuthCode(_) => ENDPOINTS,
        Mode::Device(_) => &["login"],
        Mode::Verify(_) => &[],
    };
    let endpoints = endpoints.iter().flat_map(|name| match *name {
        "login" => vec![format!("{}/login/*", route.base_path)],
        "logout" => vec![format!("{}/logout", route.base_path), format!("{}/logout/*", route.base_path)],
        name => vec![format!("{}/{name}", route.base_path)],
    });
    // What has no upstream is asked about by forward_auth, and never sent here.
    let rules = route.paths.iter().filter(|rule| rule.upstream.is_some());
    let rules = rules.map(|rule| rule.prefix.trim_end_matches('/'));
    let rules = rules.flat_map(|prefix| [prefix.to_owned(), format!("{prefix}/*")]);
    endpoints.chain(metadata(route)).chain(rules).collect()
}

fn proxy(listen: &Listen) -> String {
    format!("\t\treverse_proxy {} {{\n\t\t\timport vestibule\n\t\t}}\n", dial(listen))
}

/// A listener as Caddy dials it. One that listens everywhere is dialled on this machine.
fn dial(listen: &Listen) -> String {
    match listen {
        Listen::Tcp(address) if address.ip().is_unspecified() => {
            let here = if address.is_ipv4() { Ipv4Addr::LOCALHOST.into() } else { Ipv6Addr::LOCALHOST.into() };
            SocketAddr::new(here, address.port()).to_string()
        }
        Listen::Tcp(address) => address.to_string(),
        Listen::Unix(path) => quoted(&format!("unix/{}", path.display())),
    }
}

fn app(front_end: &FrontEnd) -> String {
    match front_end {
        FrontEnd::Folder(folder) => format!(
            "\t\troot * {}\n\t\ttry_files {{path}} /index.html\n\t\tfile_server\n",
            quoted(&folder.display().to_string())
        ),
        FrontEnd::Server(url) => format!("\t\treverse_proxy {}\n", quoted(url)),
    }
}

/// A token of the Caddyfile, in quotes where it needs them.
fn quoted(text: &str) -> String {
    let plain = |char: char| char.is_alphanumeric() || "-._~/:@+,=[]".contains(char);
    if !text.is_empty() && text.chars().all(plain) {
        return text.to_owned();
    }
    format!("\"{}\"", text.replace('"', "\\\""))
}
