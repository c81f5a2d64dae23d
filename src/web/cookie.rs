//! Cookies as bytes: reading ours among strangers', writing ours, and cutting ours from what goes upstream.
//!
//! Names are compared as bytes and only SP and HTAB are trimmed. Anything cleverer (Unicode trimming, `$Version`,
//! quoted strings) lets an attacker write a cookie that a browser would not let him set under our `__Host-` name.

use std::time::Duration;

use bytes::{BufMut as _, BytesMut};
use http::header::{COOKIE, HeaderMap, HeaderValue, SET_COOKIE};
use memchr::{memchr, memchr_iter};

use crate::config::{Name, Scheme};

/// What the names of all our cookies begin with behind the prefix that browsers enforce.
const OURS: &str = "vestibule-";

/// `__Host-` is enforced by every browser, `__Host-Http-` by newer ones on top (no script can set it).
const HOST_PREFIX: &str = "__Host-Http-";

/// The name and the attributes of one of our cookies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CookieName {
    name: String,
    secure: bool,
}

impl CookieName {
    /// The session cookie of a route. `http` public URLs (loopback only) cannot have the prefix: it wants `Secure`.
    #[must_use]
    pub fn session(route: &Name, scheme: Scheme) -> Self {
        Self::new(format!("{OURS}{route}"), scheme)
    }

    /// The login cookie of one attempt at a route, told apart by `attempt` (URL-safe characters only).
    #[must_use]
    pub fn login(route: &Name, attempt: &str, scheme: Scheme) -> Self {
        Self::new(format!("{}{attempt}", Self::login_stem(route)), scheme)
    }

    /// What the names of all login cookies of a route begin with, behind the prefix.
    fn login_stem(route: &Name) -> String {
        // A dot is in no route name, so that no session cookie of another route can look like this.
        format!("{OURS}{route}.login.")
    }

    /// The short-lived count of a browser's recent logins at a route.
    #[must_use]
    pub fn loops(route: &Name, scheme: Scheme) -> Self {
        Self::new(format!("{OURS}{route}.loops"), scheme)
    }

    /// The short-lived note of what a browser's last login at a route has brought.
    #[must_use]
    pub fn stepped(route: &Name, scheme: Scheme) -> Self {
        Self::new(format!("{OURS}{route}.stepped"), scheme)
    }

    fn new(name: String, scheme: Scheme) -> Self {
        match scheme {
            Scheme::Https => Self { name: format!("{HOST_PREFIX}{name}"), secure: true },
            Scheme::Http => Self { name, secure: false },
        }
    }

    /// The full name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.name
    }

    /// `Set-Cookie` for `value`, which must consist of cookie octets.
    #[must_use]
    pub fn set(&self, value: &str, max_age: Duration) -> HeaderValue {
        self.header(value, max_age.as_secs())
    }

    /// `Set-Cookie` that removes the cookie: same name, path and `Secure`, or browsers would keep it.
    #[must_use]
    pub fn clear(&self) -> HeaderValue {
        self.header("", 0)
    }

    fn header(&self, value: &str, max_age: u64) -> HeaderValue {
        let secure = if self.secure { "; Secure" } else { "" };
        let text = format!("{}={value}; Path=/{secure}; HttpOnly; SameSite=Lax; Max-Age={max_age}", self.name);
        let mut header = HeaderValue::from_str(&text).unwrap_or_else(|_| HeaderValue::from_static(""));
        header.set_sensitive(true);
        header
    }
}

/// The `Cookie` headers of one request.
#[derive(Clone, Copy, Debug)]
pub struct CookieJar<'a>(&'a HeaderMap);

impl<'a> CookieJar<'a> {
    /// The jar of a request.
    #[must_use]
    pub const fn new(headers: &'a HeaderMap) -> Self {
        Self(headers)
    }

    /// The value of the cookie called `name`; `None` when it is absent, or there twice with different values.
    #[must_use]
    pub fn value(&self, name: &CookieName) -> Option<&'a [u8]> {
        let mut found = None;
        for entry in self.entries() {
            // Most entries are others', and end here without being taken apart.
            let Some((key, value)) = entry.starts_with(name.name.as_bytes()).then(|| pair(entry)).flatten() else {
                continue;
            };
            if key != name.name.as_bytes() {
                continue;
            }
            match found {
                Some(first) if first != value => return None,
                _ => found = Some(value),
            }
        }
        found
    }

    /// The `attempt` parts of the login cookies of a route, as the browser orders them: oldest first (RFC 6265 5.4).
    pub fn attempts(&self, route: &Name, scheme: Scheme) -> impl Iterator<Item = &'a str> {
        let stem = CookieName::new(CookieName::login_stem(route), scheme).name;
        self.entries()
            .filter_map(pair)
            .filter_map(move |(key, _)| std::str::from_utf8(key.strip_prefix(stem.as_bytes())?).ok())
    }

    /// What stands between semicolons, without blanks in front.
    fn entries(&self) -> impl Iterator<Item = &'a [u8]> {
        self.0.get_all(COOKIE).iter().flat_map(|header| split(header.as_bytes())).map(trim_start)
    }
}

/// The parts of a `Cookie` header.
fn split(header: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut ends = memchr_iter(b';', header).chain([header.len()]);
    let mut begin = 0;
    std::iter::from_fn(move || {
        let end = ends.next()?;
        let part = header.get(begin..end);
        begin = end + 1;
        part
    })
}

/// One `name=value`, blanks trimmed around both.
fn pair(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let equals = memchr(b'=', text)?;
    let (name, value) = text.split_at_checked(equals)?;
    Some((trim(name), trim(value.get(1..)?)))
}

/// Trims SP and HTAB in front, nothing else.
fn trim_start(mut text: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] = text {
        text = rest;
    }
    text
}

/// Trims SP and HTAB, nothing else.
fn trim(mut text: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = text {
        text = rest;
    }
    text
}

/// Removes every cookie of ours, of any route, from the `Cookie` headers; all other bytes stay as they came.
pub fn cut_own(headers: &mut HeaderMap) {
    if !headers.get_all(COOKIE).iter().any(|header| split(header.as_bytes()).any(is_own)) {
        return;
    }
    let values: Vec<HeaderValue> = headers.get_all(COOKIE).iter().filter_map(keep_others).collect();
    headers.remove(COOKIE);
    for value in values {
        headers.append(COOKIE, value);
    }
}

/// Whether a part of a `Cookie` header is a cookie of ours. (Its name ends before its first `=`, and ours have none.)
fn is_own(part: &[u8]) -> bool {
    is_ours(trim_start(part)) && part.contains(&b'=')
}

/// Removes every `Set-Cookie` that would write a cookie of ours; all others stay as they came and in their order.
pub fn cut_own_set(headers: &mut HeaderMap) {
    let ours = |header: &HeaderValue| {
        let first = header.as_bytes().split(|byte| *byte == b';').next().unwrap_or_default();
        pair(first).is_some_and(|(name, _)| is_ours(name))
    };
    if !headers.get_all(SET_COOKIE).iter().any(ours) {
        return;
    }
    let kept: Vec<HeaderValue> = headers.get_all(SET_COOKIE).iter().filter(|header| !ours(header)).cloned().collect();
    headers.remove(SET_COOKIE);
    for value in kept {
        headers.append(SET_COOKIE, value);
    }
}

/// Whether something that begins with a cookie's name begins with one of ours, with or without the prefix, in any case (browsers compare prefixes so).
#[must_use]
fn is_ours(name: &[u8]) -> bool {
    let bare = without(name, HOST_PREFIX.as_bytes()).unwrap_or(name);
    without(bare, OURS.as_bytes()).is_some()
}

/// What follows `prefix`, in whatever case that is written.
fn without<'a>(name: &'a [u8], prefix: &[u8]) -> Option<&'a [u8]> {
    let (head, rest) = name.split_at_checked(prefix.len())?;
    head.eq_ignore_ascii_case(prefix).then_some(rest)
}

fn keep_others(header: &HeaderValue) -> Option<HeaderValue> {
    let mut kept = BytesMut::with_capacity(header.len());
    for cookie in split(header.as_bytes()).filter(|part| !is_own(part)) {
        if kept.is_empty() {
            kept.put_slice(cookie.trim_ascii_start());
        } else {
            kept.put_u8(b';');
            kept.put_slice(cookie);
        }
    }
    kept.truncate(kept.trim_ascii_end().len());
    if kept.is_empty() { None } else { HeaderValue::from_maybe_shared(kept.freeze()).ok() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn jar(header: &[u8]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(COOKIE, HeaderValue::from_bytes(header).unwrap());
        headers
    }

    fn name() -> CookieName {
        CookieName::session(&Name::parse("web").unwrap(), Scheme::Https)
    }

    #[test]
    fn sc_1_sc_2_setting_and_clearing_carry_the_same_attributes() {
        let set = name().set("abc", Duration::from_secs(60));
        assert_eq!(set, "__Host-Http-vestibule-web=abc; Path=/; Secure; HttpOnly; SameSite=Lax; Max-Age=60");
        let clear = name().clear();
        assert_eq!(clear, "__Host-Http-vestibule-web=; Path=/; Secure; HttpOnly; SameSite=Lax; Max-Age=0");
    }

    #[test]
    fn sc_8_the_same_name_with_two_values_is_nobody() {
        let headers = jar(b"__Host-Http-vestibule-web=a; __Host-Http-vestibule-web=b");
        assert_eq!(CookieJar::new(&headers).value(&name()), None);
        let headers = jar(b"__Host-Http-vestibule-web=a; __Host-Http-vestibule-web=a");
        assert_eq!(CookieJar::new(&headers).value(&name()), Some(&b"a"[..]));
    }

    #[test]
    fn sc_9_names_are_bytes_and_nothing_clever_is_decoded() {
        for header in [
            "\u{2000}__Host-Http-vestibule-web=a".as_bytes(),
            "\u{a0}__Host-Http-vestibule-web=a".as_bytes(),
            b"$Version=1, __Host-Http-vestibule-web=a",
            b"=__Host-Http-vestibule-web=a",
            b"__host-http-vestibule-web=a",
            b"__Host-Http-vestibule%2dweb=a",
        ] {
            assert_eq!(CookieJar::new(&jar(header)).value(&name()), None, "{header:?}");
        }
        let quoted = jar(b"__Host-Http-vestibule-web=\"a\"");
        assert_eq!(CookieJar::new(&quoted).value(&name()), Some(&b"\"a\""[..]));
    }

    #[test]
    fn sc_10_bytes_of_other_cookies_do_not_hide_ours() {
        let headers = jar(b"x=\xff\xfe; __Host-Http-vestibule-web=a");
        assert_eq!(CookieJar::new(&headers).value(&name()), Some(&b"a"[..]));
    }

    #[test]
    fn px_5_cuts_own_cookies_and_keeps_every_other_byte() {
        let mut headers = jar(b"a=1; __Host-Http-vestibule-web=x;  b=\xff ; vestibule-wiki.login.q=y;c=3");
        cut_own(&mut headers);
        assert_eq!(headers.get(COOKIE).unwrap().as_bytes(), b"a=1;  b=\xff ;c=3");
        let mut only = jar(b"__host-http-VESTIBULE-web=x");
        cut_own(&mut only);
        assert!(only.get(COOKIE).is_none());
    }

    #[test]
    fn ls_4_lists_the_attempts_of_this_route_only() {
        let headers = jar(b"__Host-Http-vestibule-web.login.one=1; __Host-Http-vestibule-web2.login.x=1; __Host-Http-vestibule-web.login.two=2");
        let route = Name::parse("web").unwrap();
        let attempts: Vec<&str> = CookieJar::new(&headers).attempts(&route, Scheme::Https).collect();
        assert_eq!(attempts, ["one", "two"]);
    }
}
