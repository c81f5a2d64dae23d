//! URLs of sites: origins in their one canonical form, and the rules that every URL of a config must obey.

use url::{Host, Url};

use super::report::Wrong;

/// An origin (RFC 6454) in its canonical ASCII form, lower case and without a default port.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Origin {
    /// `https`, or `http` on loopback.
    pub scheme: Scheme,
    /// Host and port as in a `Host` header: lower case, default port left out.
    pub host: String,
    /// `scheme://host`, as in an `Origin` header.
    pub text: String,
}

/// The scheme of an [`Origin`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Scheme {
    /// Plain text; loopback only.
    Http,
    /// TLS, by Caddy.
    Https,
}

/// One entry of `allowed_redirects`: same origin, and a path prefix on a segment boundary; query and fragment are free.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RedirectPrefix {
    /// The origin that must be equal.
    pub origin: Origin,
    /// `/` or a path without a trailing slash.
    pub path: String,
}

impl Scheme {
    /// The scheme as it is written.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }
}

impl Origin {
    /// An origin alone: no path, no wildcard; https, or http on loopback.
    pub(super) fn parse(text: &str) -> Result<Self, Wrong> {
        let url = site(text)?;
        if url.path() != "/" || url.query().is_some() || url.fragment().is_some() {
            return Err(Wrong::new("this must be an origin, such as `https://app.example.com`, and nothing after it"));
        }
        Self::of(&url)
    }

    /// The origin of `url`, which [`site`] has judged.
    pub(super) fn of(url: &Url) -> Result<Self, Wrong> {
        let scheme = if url.scheme() == "https" { Scheme::Https } else { Scheme::Http };
        let host = url.host_str().ok_or_else(|| Wrong::new("this URL has no host"))?;
        let host = url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"));
        let text = format!("{}://{host}", scheme.as_str());
        Ok(Self { scheme, host, text })
    }
}

impl RedirectPrefix {
    /// An origin and a path; query and fragment are free, so they cannot be asked for.
    pub(super) fn parse(text: &str) -> Result<Self, Wrong> {
        let url = plain(site(text)?)?;
        let path = match url.path().trim_end_matches('/') {
            "" => "/".to_owned(),
            path => path.to_owned(),
        };
        Ok(Self { origin: Origin::of(&url)?, path })
    }
}

/// Any absolute http or https URL: it says what it seems to say, has a host, and holds no user or password.
pub(super) fn absolute(text: &str) -> Result<Url, Wrong> {
    // No message repeats the URL: a password may be in it where it does not belong, and only the report masks it.
    let wrong = || Wrong::new("this is no absolute http or https URL");
    // `Url` forgives what people must not write: spaces, backslashes, a missing `//`.
    let rest = text
        .split_once("://")
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("http") || scheme.eq_ignore_ascii_case("https"));
    let Some((_, rest)) = rest else {
        return Err(wrong().hint("write it out, with `https://` or `http://` in front"));
    };
    if rest.starts_with('/') || text.contains(|char: char| char.is_whitespace() || char.is_control() || char == '\\') {
        return Err(wrong());
    }
    let url = Url::parse(text).map_err(|error| Wrong::new(format!("this is no URL: {error}")))?;
    match url.host_str() {
        _ if !url.username().is_empty() || url.password().is_some() => {
            Err(Wrong::new("a URL here must not hold a user or a password"))
        }
        Some(host) if host.contains('*') => Err(Wrong::new("there are no wildcards here").hint("name each host")),
        Some(host) if host.ends_with('.') => Err(Wrong::new("leave out the dot at the end of the host")),
        Some(_) => Ok(url),
        None => Err(wrong()),
    }
}

/// A URL that browsers see, or that secrets are sent to: https, or http on loopback.
pub(super) fn site(text: &str) -> Result<Url, Wrong> {
    let url = absolute(text)?;
    if url.scheme() == "http" && !is_loopback(&url) {
        return Err(Wrong::new("plain http is for loopback only")
            .hint("use https; on a developer's machine, `http://localhost` with a port"));
    }
    Ok(url)
}

/// `url`, if it has neither query nor fragment.
pub(super) fn plain(url: Url) -> Result<Url, Wrong> {
    if url.query().is_some() || url.fragment().is_some() {
        return Err(Wrong::new("this URL must not have a `?` or a `#`"));
    }
    Ok(url)
}

/// Whether `url` stays on this machine (RFC 6761 6.3 for `localhost`).
pub(super) fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(domain)) => domain == "localhost" || domain.ends_with(".localhost"),
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}
