//! A cookie jar as strict as browsers are (RFC 6265bis 5.7, 5.8): prefixes, `Secure`, `Domain`, `SameSite`, expiry.

use std::fmt;

use http::HeaderMap;
use http::header::SET_COOKIE;
use url::Url;

use super::site::is_trustworthy;

/// How far a request is from the site that it goes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Context {
    /// From the same site, or typed.
    SameSite,
    /// A top-level GET from another site: `Lax` cookies go along.
    CrossSiteNavigation,
    /// Anything else from another site.
    CrossSite,
}

/// `SameSite`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SameSite {
    /// Never from another site.
    Strict,
    /// From another site with top-level navigations only; also what browsers make of no attribute.
    Lax,
    /// Always.
    None,
}

/// One cookie.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cookie {
    /// Its name.
    pub name: String,
    /// Its value.
    pub value: String,
    /// Its host, or its domain when `host_only` is false.
    pub domain: String,
    /// No `Domain` attribute.
    pub host_only: bool,
    /// `Path`.
    pub path: String,
    /// `Secure`.
    pub secure: bool,
    /// `HttpOnly`.
    pub http_only: bool,
    /// `SameSite`.
    pub same_site: SameSite,
    /// Seconds since the epoch; `None` for a session cookie.
    pub expires_at: Option<i64>,
    created: u64,
}

/// All cookies of one browser.
#[derive(Clone, Debug, Default)]
pub struct Jar {
    cookies: Vec<Cookie>,
    rejected: Vec<String>,
    values: Vec<(String, String)>,
    serial: u64,
}

/// Why a cookie was not taken.
struct Rejection(&'static str);

impl fmt::Display for Rejection {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.0)
    }
}

impl Jar {
    /// Takes the cookies of an answer from `url` at the time `now`.
    pub fn take(&mut self, url: &Url, headers: &HeaderMap, now: i64) {
        for line in headers.get_all(SET_COOKIE) {
            let line = String::from_utf8_lossy(line.as_bytes()).into_owned();
            if let Err(reason) = self.set(url, &line, now) {
                let name = line.split('=').next().unwrap_or_default();
                self.rejected.push(format!("{name}: {reason}"));
            }
        }
    }

    fn set(&mut self, url: &Url, line: &str, now: i64) -> Result<(), Rejection> {
        let mut cookie = parse(url, line, now)?;
        judge(url, &cookie, line)?;
        self.values.push((cookie.domain.clone(), cookie.value.clone()));
        self.serial += 1;
        cookie.created = self.serial;
        let same = |other: &Cookie| {
            other.name == cookie.name
                && other.domain == cookie.domain
                && other.host_only == cookie.host_only
                && other.path == cookie.path
        };
        if let Some(old) = self.cookies.iter().find(|other| same(other)) {
            // Overwriting keeps the place in the order (RFC 6265bis 5.7, step 23).
            cookie.created = old.created;
        }
        self.cookies.retain(|other| !same(other));
        if cookie.expires_at.is_none_or(|at| at > now) {
            self.cookies.push(cookie);
        }
        Ok(())
    }

    /// The `Cookie` header for a request, longest path first, then oldest first (RFC 6265bis 5.8.3).
    pub fn header(&self, url: &Url, context: Context, now: i64) -> Option<String> {
        let mut fit: Vec<&Cookie> = self.cookies.iter().filter(|cookie| cookie.fits(url, context, now)).collect();
        fit.sort_by(|one, other| other.path.len().cmp(&one.path.len()).then(one.created.cmp(&other.created)));
        let pairs: Vec<String> = fit.iter().map(|cookie| format!("{}={}", cookie.name, cookie.value)).collect();
        (!pairs.is_empty()).then(|| pairs.join("; "))
    }

    /// All cookies for a host that have not expired.
    pub fn of(&self, host: &str, now: i64) -> Vec<Cookie> {
        let fresh = |cookie: &&Cookie| cookie.expires_at.is_none_or(|at| at > now);
        self.cookies.iter().filter(fresh).filter(|cookie| cookie.domain == host).cloned().collect()
    }

    /// Puts a cookie there as an attacker or an older life would have.
    pub fn plant(&mut self, url: &Url, line: &str, now: i64) {
        if let Err(reason) = self.set(url, line, now) {
            panic!("the browser does not take {line}: {reason}");
        }
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.cookies.clear();
    }

    /// Every value that a cookie of this host ever had.
    pub fn values(&self, host: &str) -> Vec<String> {
        self.values.iter().filter(|(domain, _)| domain == host).map(|(_, value)| value.clone()).collect()
    }

    /// Cookies that were not taken, and why.
    pub fn rejected(&self) -> &[String] {
        &self.rejected
    }
}

impl Cookie {
    fn fits(&self, url: &Url, context: Context, now: i64) -> bool {
        let host = url.host_str().unwrap_or_default();
        let domain = if self.host_only { self.domain == host } else { is_within(host, &self.domain) };
        let path = url.path() == self.path
            || url.path().starts_with(&self.path)
                && (self.path.ends_with('/') || url.path()[self.path.len()..].starts_with('/'));
        let site = match (self.same_site, context) {
            (_, Context::SameSite) | (SameSite::None, _) | (SameSite::Lax, Context::CrossSiteNavigation) => true,
            (SameSite::Strict | SameSite::Lax, _) => false,
        };
        domain && path && site && (!self.secure || is_trustworthy(url)) && self.expires_at.is_none_or(|at| at > now)
    }
}

/// Whether `host` is `domain` or below it.
fn is_within(host: &str, domain: &str) -> bool {
    host == domain || host.strip_suffix(domain).is_some_and(|front| front.ends_with('.'))
}

/// Reads `Set-Cookie` (RFC 6265bis 5.6).
fn parse(url: &Url, line: &str, now: i64) -> Result<Cookie, Rejection> {
    let mut parts = line.split(';');
    let pair = parts.next().unwrap_or_default();
    let (name, value) = pair.split_once('=').unwrap_or(("", pair));
    let (name, value) = (name.trim_matches([' ', '\t']), value.trim_matches([' ', '\t']));
    if line.bytes().any(|byte| matches!(byte, 0..=8 | 10..=31 | 127)) {
        return Err(Rejection("control characters"));
    }
    if name.len() + value.len() > 4096 {
        return Err(Rejection("longer than 4096 bytes"));
    }
    let host = url.host_str().unwrap_or_default().to_owned();
    let directory = url.path().rsplit_once('/').map_or("/", |(front, _)| if front.is_empty() { "/" } else { front });
    let mut cookie = Cookie {
        name: name.to_owned(),
        value: value.to_owned(),
        domain: host,
        host_only: true,
        path: directory.to_owned(),
        secure: false,
        http_only: false,
        same_site: SameSite::Lax,
        expires_at: None,
        created: 0,
    };
    for part in parts {
        let (key, value) = part.split_once('=').unwrap_or((part, ""));
        let value = value.trim();
        match key.trim().to_ascii_lowercase().as_str() {
            "secure" => cookie.secure = true,
            "httponly" => cookie.http_only = true,
            "path" if value.starts_with('/') => value.clone_into(&mut cookie.path),
            "max-age" => cookie.expires_at = value.parse::<i64>().ok().map(|age| now.saturating_add(age)),
            "domain" if !value.is_empty() => {
                cookie.domain = value.trim_start_matches('.').to_ascii_lowercase();
                cookie.host_only = false;
            }
            "samesite" => {
                cookie.same_site = match value.to_ascii_lowercase().as_str() {
                    "strict" => SameSite::Strict,
                    "none" => SameSite::None,
                    _ => SameSite::Lax,
                }
            }
            // `Expires` is never sent by us; a test that needs it will find it missing here.
            "expires" => return Err(Rejection("Expires is not modelled")),
            _ => {}
        }
    }
    Ok(cookie)
}

/// The rules of storage (RFC 6265bis 5.7).
fn judge(url: &Url, cookie: &Cookie, line: &str) -> Result<(), Rejection> {
    let lower = cookie.name.to_ascii_lowercase();
    let has_path_attribute = line.to_ascii_lowercase().contains("path=/");
    if !cookie.host_only && !is_within(url.host_str().unwrap_or_default(), &cookie.domain) {
        return Err(Rejection("a foreign domain"));
    }
    if cookie.secure && !is_trustworthy(url) {
        return Err(Rejection("Secure over plain http"));
    }
    if cookie.same_site == SameSite::None && !cookie.secure {
        return Err(Rejection("SameSite=None without Secure"));
    }
    if (lower.starts_with("__secure-") || lower.starts_with("__host-")) && !cookie.secure {
        return Err(Rejection("the prefix wants Secure"));
    }
    if lower.starts_with("__host-") && !(cookie.host_only && cookie.path == "/" && has_path_attribute) {
        return Err(Rejection("__Host- wants Path=/ and no Domain"));
    }
    if (lower.starts_with("__host-http-") || lower.starts_with("__http-")) && !cookie.http_only {
        return Err(Rejection("the Http prefix wants HttpOnly"));
    }
    if cookie.name.is_empty() && cookie.value.to_ascii_lowercase().starts_with("__host-") {
        return Err(Rejection("a nameless cookie that looks like a prefixed one"));
    }
    Ok(())
}

#[test]
fn the_jar_enforces_prefixes_and_same_site() {
    let url = Url::parse("https://app.test/login/start").unwrap();
    let taken = |line: &str| Jar::default().set(&url, line, 0).is_ok();
    assert!(taken("__Host-a=1; Path=/; Secure; HttpOnly"));
    assert!(!taken("__Host-a=1; Path=/; HttpOnly"));
    assert!(!taken("__Host-a=1; Path=/x; Secure"));
    assert!(!taken("__Host-a=1; Secure"));
    assert!(!taken("__Host-a=1; Path=/; Secure; Domain=app.test"));
    assert!(!taken("__Host-Http-a=1; Path=/; Secure"));
    assert!(!taken("a=1; SameSite=None"));
    assert!(!taken("a=1; Domain=evil.test"));
    assert!(!taken(&format!("a={}", "x".repeat(4096))));

    let mut jar = Jar::default();
    jar.plant(&url, "strict=1; Path=/; Secure; SameSite=Strict", 0);
    jar.plant(&url, "lax=1; Path=/; Secure; SameSite=Lax; Max-Age=10", 0);
    jar.plant(&url, "none=1; Path=/; Secure; SameSite=None", 0);
    let sent = |context, now| jar.header(&url, context, now).unwrap();
    assert_eq!(sent(Context::SameSite, 0), "strict=1; lax=1; none=1");
    assert_eq!(sent(Context::CrossSiteNavigation, 0), "lax=1; none=1");
    assert_eq!(sent(Context::CrossSite, 0), "none=1");
    assert_eq!(sent(Context::SameSite, 10), "strict=1; none=1");
    let other = Url::parse("https://www.app.test/").unwrap();
    assert_eq!(jar.header(&other, Context::SameSite, 0), None);

    // A removal that forgets `Secure` is itself refused, so the cookie stays.
    let mut jar = Jar::default();
    jar.plant(&url, "__Host-a=1; Path=/; Secure; HttpOnly", 0);
    assert!(jar.set(&url, "__Host-a=; Path=/; Max-Age=0", 0).is_err());
    assert_eq!(jar.of("app.test", 0).len(), 1);
    jar.plant(&url, "__Host-a=; Path=/; Secure; Max-Age=0", 0);
    assert_eq!(jar.of("app.test", 0).len(), 0);
}
