//! The Caddyfile that fits a config: which requests of which site go to which listener, and what serves the rest.

mod plan;
mod verdict;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

use plan::{Group, Target, plan};

use super::{Config, Listen, Mode, Origin, Route, Scheme};

/// How Caddy speaks to Vestibule, for `import vestibule`. The shipped Caddyfile has the same lines.
const SNIPPET: &str = include_str!("vestibule.caddyfile");

/// Who is not a browser with a session: browsers call themselves Mozilla, and so do a few programs that bring bearers.
const PROGRAMS: &str = "\t\tnot {
\t\t\theader User-Agent *Mozilla*
\t\t\tnot header_regexp Authorization (?i)^bearer
\t\t}
";

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
    let asked = |route: &&Arc<Route>| route.paths.iter().any(|rule| rule.upstream.is_none());
    if let Some(verdicts) = &config.server.verdict_listen {
        let asked: Vec<&Arc<Route>> = config.routes.values().filter(asked).collect();
        if !asked.is_empty() {
            text.push_str(verdict::SNIPPETS);
        }
        for route in asked {
            text.push_str(&verdict::question(route, verdicts));
        }
    }
    for (origin, routes) in sites {
        site(&mut text, (origin, &routes), front_end);
    }
    text
}

/// One site: what goes to Vestibule, then the app.
fn site(text: &mut String, (origin, routes): (&Origin, &[&Arc<Route>]), front_end: &FrontEnd) {
    let _ = writeln!(text, "\n{} {{", address(origin));
    if origin.scheme == Scheme::Http {
        let _ = writeln!(
            text,
            "\t# Plain http is for this machine only; Caddy would listen to all others too.\n\tbind {}\n",
            bind(origin)
        );
    }
    let plan = plan(routes);
    for (second, first) in &plan.hidden {
        let _ = write!(
            text,
            "\t# Route `{}` has the same paths as route `{}`, and only you know which requests are meant for it:\n\
             \t# a `handle` with a matcher of your own, before the others, may lead to {}.\n\n",
            second.name,
            first.name,
            dial(&second.listen)
        );
    }
    let mut taken = BTreeSet::new();
    for group in &plan.groups {
        self::group(text, group, &mut taken);
    }
    if !plan.is_whole() {
        let rest = match routes.iter().any(|route| matches!(route.mode, Mode::AuthCode(_))) {
            true => format!("\t# Everything else is the app itself.\n\thandle {{\n{}\t}}\n", app(front_end)),
            false => "\t# There is nothing else here.\n\thandle {\n\t\trespond 404\n\t}\n".to_owned(),
        };
        text.push_str(&rest);
    }
    text.truncate(text.trim_end().len());
    text.push('\n');
    text.push_str(REFUSALS);
    text.push_str("}\n");
}

/// One `handle`. Who asks is told apart by what a client calls itself, which decides nothing but who answers: anybody can
/// call themselves anything, so each listener keeps rules of its own.
fn group(text: &mut String, group: &Group<'_>, taken: &mut BTreeSet<String>) {
    let names: Vec<String> = group.routes.iter().map(|route| format!("Route `{}`", route.name)).collect();
    let patterns = group.patterns.join(" ");
    let says = match (group.target, group.programs, group.metadata, patterns.is_empty()) {
        (Target::App { .. }, ..) => ": asked before a request goes to an app that is not behind Vestibule.",
        (_, _, true, _) => ": how clients find out where to log in, whatever they call themselves.",
        (_, true, ..) => ", for whoever is no browser, or brings a bearer.",
        (.., true) => ": everything else.",
        (.., false) => ": its own paths, and those behind it.",
    };
    let _ = writeln!(text, "\t# {}{says}", names.join(", "));
    let name = free_name(group, taken);
    let matcher = match (group.programs, patterns.is_empty()) {
        (false, true) => String::new(),
        (false, false) => {
            let _ = writeln!(text, "\t@{name} path {patterns}");
            format!("@{name} ")
        }
        (true, _) => {
            let paths = if patterns.is_empty() { String::new() } else { format!("\t\tpath {patterns}\n") };
            let _ = writeln!(text, "\t@{name} {{\n{paths}{PROGRAMS}\t}}");
            format!("@{name} ")
        }
    };
    let inside = match group.target {
        Target::Listener(listen) => proxy(listen),
        Target::App { route, authorization } => verdict::app(route, authorization),
    };
    let _ = write!(text, "\thandle {matcher}{{\n{inside}\t}}\n\n");
}

/// A name for the matcher of a group.
fn free_name(group: &Group<'_>, taken: &mut BTreeSet<String>) -> String {
    let route = group.routes.first().map_or("vestibule", |route| route.name.as_str());
    let stem = match (group.target, group.metadata) {
        (Target::App { .. }, _) => format!("{route}-app"),
        (_, true) => format!("{route}-metadata"),
        _ => route.to_owned(),
    };
    let numbered = (2..).map(|number| format!("{stem}-{number}"));
    let name = std::iter::once(stem.clone()).chain(numbered).find(|name| !taken.contains(name)).unwrap_or_default();
    taken.insert(name.clone());
    name
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
