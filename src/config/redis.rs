//! `sessions.store.redis`: where a Redis or Valkey server is, alone or behind Sentinels, in one URL that may hold the
//! password and is therefore treated as a secret.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use percent_encoding::percent_decode_str;
use url::Host;

use super::Secret;
use super::report::Wrong;
use super::section::Section;

/// Port of a server, when the URL names none.
const PORT: u16 = 6379;
/// Port of a Sentinel, when the URL names none.
const SENTINEL_PORT: u16 = 26379;
/// `prefix`, when it is absent.
const PREFIX: &str = "vestibule";

/// A Redis or Valkey server.
#[derive(Clone, PartialEq, Eq)]
pub struct Redis {
    /// How it is reached.
    pub servers: Servers,
    /// Its logical database. Default 0.
    pub database: i64,
    /// The ACL user; `None` is the server's `default`.
    pub user: Option<String>,
    /// The user's password.
    pub password: Option<Secret>,
    /// The ACL user at the Sentinels.
    pub sentinel_user: Option<String>,
    /// The password for the Sentinels.
    pub sentinel_password: Option<Secret>,
    /// Whether connections are TLS, to Sentinels as well.
    pub tls: bool,
    /// PEM of the trust anchors to use instead of the system's, as read from `ca_file`.
    pub ca: Option<Arc<[u8]>>,
    /// What the names of all keys begin with, before a colon.
    pub prefix: String,
}

/// How a server is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Servers {
    /// At a host and port.
    One(String, u16),
    /// At a unix socket.
    Unix(PathBuf),
    /// At the address that these Sentinels give for the master of that name.
    Sentinels(Vec<(String, u16)>, String),
}

impl Redis {
    /// What `url` says, with the usual prefix.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(url: &str) -> Result<Self, String> {
        let redis = parse(url).map_err(|wrong| wrong.message().to_owned())?;
        Ok(Self { prefix: PREFIX.to_owned(), ..redis })
    }

    /// Whether `other` has the same sessions, however it is reached or logged in to.
    #[must_use]
    pub fn is_same_place(&self, other: &Self) -> bool {
        let same = match (&self.servers, &other.servers) {
            (Servers::Sentinels(_, master), Servers::Sentinels(_, other)) => master == other,
            (one, other) => one == other,
        };
        same && self.database == other.database && self.prefix == other.prefix
    }

    /// What stands in `store`; `None` when it was refused.
    pub(super) fn resolve(section: &Section<'_>) -> Option<Self> {
        let url = section.secret_url("redis")??;
        let sentinel_password = section.secret("sentinel_password");
        let sentinel_user = section.optional("sentinel_user", Section::text);
        let ca = section.certificates("ca_file");
        let prefix = section.optional("prefix", |section, name| section.parse(name, prefix));
        let parsed = parse(url.expose()).map_err(|wrong| section.cx.error(&section.at("redis"), wrong)).ok()?;
        let (sentinel_user, sentinel_password, ca) = (sentinel_user?, sentinel_password?, ca?);
        let behind = matches!(parsed.servers, Servers::Sentinels(..));
        for name in ["sentinel_user", "sentinel_password"].into_iter().filter(|name| !behind && section.has(name)) {
            let wrong = Wrong::new(format!("`{name}` needs Sentinels"));
            section.cx.error(&section.at(name), wrong.hint("leave it out, or write `redis+sentinel://…`"));
        }
        if ca.is_some() && !parsed.tls {
            let wrong = Wrong::new("`ca_file` needs TLS");
            section.cx.error(&section.at("ca_file"), wrong.hint("leave it out, or write `rediss://…`"));
        }
        let prefix = prefix?.unwrap_or_else(|| PREFIX.to_owned());
        Some(Self { sentinel_user, sentinel_password, ca, prefix, ..parsed })
    }
}

/// Names, dots, dashes, underscores and colons: what no glob and no shell reads anything into, and what an ACL pattern
/// can be written for.
fn prefix(text: &str) -> Result<String, Wrong> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_' | b':');
    if text.is_empty() || text.len() > 100 || !text.bytes().all(plain) {
        let wrong = Wrong::new("this is no prefix of key names");
        return Err(wrong.hint("one to 100 letters, digits, dots, dashes, underscores and colons"));
    }
    Ok(text.to_owned())
}

/// Reads the URL. No error repeats any of it: the password may be anywhere in it.
fn parse(url: &str) -> Result<Redis, Wrong> {
    let (scheme, rest) = url.split_once("://").ok_or_else(scheme_wrong)?;
    let (scheme, rest) = (scheme.to_ascii_lowercase(), rest);
    let (tls, kind) = match scheme.as_str() {
        "redis" | "valkey" => (false, Way::One),
        "rediss" | "valkeys" => (true, Way::One),
        "redis+unix" | "valkey+unix" => (false, Way::Unix),
        "redis+sentinel" | "valkey+sentinel" => (false, Way::Sentinel),
        "rediss+sentinel" | "valkeys+sentinel" => (true, Way::Sentinel),
        _ => return Err(scheme_wrong()),
    };
    if rest.contains(['?', '#']) {
        return Err(Wrong::new("this URL has a `?` or `#`").hint("write those as %3F and %23 in a password"));
    }
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    let (credentials, hosts) = authority
        .rsplit_once('@')
        .map_or((None, authority), |(credentials, hosts)| (Some(credentials), hosts));
    let (user, password) = credentials.map_or(Ok((None, None)), login)?;
    let (servers, database) = match kind {
        Way::Unix if hosts.is_empty() && !path.is_empty() => (Servers::Unix(PathBuf::from(format!("/{path}"))), 0),
        Way::Unix => {
            return Err(Wrong::new("this URL names no socket").hint("such as `redis+unix:///run/redis/redis.sock`"));
        }
        Way::One => {
            let (host, port) = host(hosts, PORT)?;
            (Servers::One(host, port), database(path)?)
        }
        Way::Sentinel => {
            let (master, number) = path.split_once('/').unwrap_or((path, ""));
            if master.is_empty() {
                let wrong = Wrong::new("this URL does not name the master that the Sentinels watch");
                return Err(wrong.hint("such as `redis+sentinel://sentinel-a,sentinel-b:26379/mymaster/0`"));
            }
            let hosts = hosts.split(',').map(|each| host(each, SENTINEL_PORT)).collect::<Result<_, _>>()?;
            (Servers::Sentinels(hosts, master.to_owned()), database(number)?)
        }
    };
    let (sentinel_user, sentinel_password) = (None, None);
    let (ca, prefix) = (None, String::new());
    Ok(Redis { servers, database, user, password, sentinel_user, sentinel_password, tls, ca, prefix })
}

enum Way {
    One,
    Unix,
    Sentinel,
}

fn scheme_wrong() -> Wrong {
    Wrong::new("this is no URL of a Redis or Valkey server").hint(
        "`redis://host:6379/0`, `rediss://…` for TLS, `redis+unix:///run/redis/redis.sock`, or \
         `redis+sentinel://a:26379,b:26379/mymaster`; `valkey` may stand for `redis`",
    )
}

type Login = (Option<String>, Option<Secret>);

/// `user:password`, `:password` or `user`, percent-encoded.
fn login(text: &str) -> Result<Login, Wrong> {
    let decode = |text: &str| {
        let decoded = percent_decode_str(text).decode_utf8().map(|text| text.into_owned());
        decoded.map_err(|_| Wrong::new("the user or the password in this URL is not UTF-8"))
    };
    let (user, password) = text.split_once(':').map_or((text, None), |(user, password)| (user, Some(password)));
    let user = Some(decode(user)?).filter(|user| !user.is_empty());
    let password = password.map(decode).transpose()?.filter(|password| !password.is_empty());
    Ok((user, password.map(Secret::new)))
}

fn host(text: &str, default: u16) -> Result<(String, u16), Wrong> {
    let wrong = || Wrong::new("this URL has no good host").hint("a name or an address, and a port behind a colon");
    let (host, port) = match text.rsplit_once(':') {
        // The colon of an IPv6 address stands within its brackets.
        Some((host, port)) if !port.ends_with(']') => (host, port.parse().map_err(|_| wrong())?),
        Some(_) | None => (text, default),
    };
    if host.contains(',') {
        return Err(wrong());
    }
    match Host::parse(host).map_err(|_| wrong())? {
        Host::Domain(name) => Ok((name, port)),
        Host::Ipv4(address) => Ok((address.to_string(), port)),
        Host::Ipv6(address) => Ok((address.to_string(), port)),
    }
}

fn database(text: &str) -> Result<i64, Wrong> {
    if text.is_empty() {
        return Ok(0);
    }
    let number = text.parse().ok().filter(|number| *number >= 0);
    number.ok_or_else(|| Wrong::new("the database in this URL is no number").hint("such as `redis://host:6379/0`"))
}

impl fmt::Display for Redis {
    /// Where it is, without who may use it.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let s = if self.tls { "s" } else { "" };
        match &self.servers {
            Servers::One(host, port) => write!(formatter, "redis{s}://{host}:{port}/{}", self.database),
            Servers::Unix(path) => write!(formatter, "redis+unix://{}", path.display()),
            Servers::Sentinels(hosts, master) => {
                let hosts: Vec<String> = hosts.iter().map(|(host, port)| format!("{host}:{port}")).collect();
                write!(formatter, "redis{s}+sentinel://{}/{master}/{}", hosts.join(","), self.database)
            }
        }
    }
}

impl fmt::Debug for Redis {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Redis({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(url: &str) -> String {
        match parse(url) {
            Ok(redis) => {
                let password = redis.password.as_ref().map(Secret::expose).unwrap_or_default();
                format!("{redis} as {}:{password}", redis.user.as_deref().unwrap_or_default())
            }
            Err(wrong) => format!("error: {wrong:?}"),
        }
    }

    #[test]
    fn urls_are_read_as_other_clients_read_them() {
        assert_eq!(said("redis://cache.internal"), "redis://cache.internal:6379/0 as :");
        assert_eq!(said("VALKEYS://u:p%40ss@cache:7000/3"), "rediss://cache:7000/3 as u:p@ss");
        assert_eq!(said("redis://:only@127.0.0.1:1/"), "redis://127.0.0.1:1/0 as :only");
        assert_eq!(said("redis://[::1]:7000"), "redis://::1:7000/0 as :");
        assert_eq!(said("redis://[::1]"), "redis://::1:6379/0 as :");
        assert_eq!(said("redis+unix:///run/redis/redis.sock"), "redis+unix:///run/redis/redis.sock as :");
        assert_eq!(
            said("rediss+sentinel://u:p@a,b:5,c:6/mymaster/2"),
            "rediss+sentinel://a:26379,b:5,c:6/mymaster/2 as u:p"
        );
    }

    #[test]
    fn what_is_wrong_is_said_without_the_password() {
        for url in [
            "hunter2",
            "http://:hunter2@host",
            "redis://:hunter2@",
            "redis://:hunter2@host:port",
            "redis://:hunter2@host/zero",
            "redis://:hunter2@host/-1",
            "redis://:hunter2@host/0?db=1",
            "redis://:hunter2@a,b/0",
            "redis+sentinel://:hunter2@a,b",
            "redis+sentinel://:hunter2@a,,b/m",
            "redis+unix://:hunter2@host/run/redis.sock",
            "redis+unix://:hunter2@",
        ] {
            let said = said(url);
            assert!(said.starts_with("error") && !said.contains("hunter2"), "{url}: {said}");
        }
    }

    #[test]
    fn a_new_password_or_another_sentinel_is_the_same_place() {
        let same = |one: &str, other: &str| parse(one).unwrap().is_same_place(&parse(other).unwrap());
        assert!(same("redis://:one@host", "rediss://u:two@host:6379/0"));
        assert!(same("redis+sentinel://a/m", "redis+sentinel://b,c/m"));
        assert!(!same("redis://host/0", "redis://host/1"));
        assert!(!same("redis+sentinel://a/m", "redis+sentinel://a/n"));
    }
}
