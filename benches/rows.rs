//! The rows of the table: what is asked of Vestibule, and beside which yardstick.

use crate::login::{HOST, OTHER_COOKIES};

/// One kind of work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Row {
    /// A call of a front end: cookie in, bearer out.
    Proxy,
    /// A verdict for a session.
    Session,
    /// A verdict for a bearer that was seen before.
    Seen,
    /// A verdict for an RS256 bearer that was never seen before.
    New,
}

impl Row {
    /// All rows.
    pub(crate) const ALL: [Self; 4] = [Self::Proxy, Self::Session, Self::Seen, Self::New];

    /// What the command line calls it.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Proxy => "proxy",
            Self::Session => "session",
            Self::Seen => "seen",
            Self::New => "new",
        }
    }

    /// The most that it may cost, as a multiple of its yardstick.
    pub(crate) const fn target(self) -> f64 {
        match self {
            Self::Proxy => 1.08,
            Self::Session | Self::New => 1.15,
            Self::Seen => 1.20,
        }
    }

    /// How many tokens are needed. A route remembers at most 16,384, and fewer of this size; so when all others were
    /// asked with in between, a token is as new as on the first day.
    pub(crate) const fn tokens(self) -> usize {
        match self {
            Self::Proxy | Self::Session => 0,
            Self::Seen => 1,
            Self::New => 24_000,
        }
    }
}

/// What every request of the page has.
const BROWSER: &str = "User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) \
                       Chrome/156.0.0.0 Safari/537.36\r\n\
                       Accept: application/json\r\n\
                       Accept-Encoding: gzip, deflate, br, zstd\r\n\
                       Accept-Language: en-GB,en;q=0.9\r\n";

/// What a browser says about a call that its page makes.
fn page(session: &str) -> String {
    format!(
        "Cookie: {OTHER_COOKIES}; {session}\r\n\
         Referer: https://{HOST}/items\r\n\
         Sec-Ch-Ua-Platform: \"Linux\"\r\n\
         Sec-Fetch-Dest: empty\r\n\
         Sec-Fetch-Mode: cors\r\n\
         Sec-Fetch-Site: same-origin\r\n\
         Via: 2.0 Caddy\r\n\
         X-Forwarded-For: 203.0.113.7\r\n\
         X-Forwarded-Host: {HOST}\r\n\
         X-Forwarded-Proto: https\r\n"
    )
}

/// A call as Caddy would pass it on for a page's `fetch`.
pub(crate) fn call(path: &str, session: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: {HOST}\r\n{BROWSER}{}\r\n", page(session))
}

/// What Caddy's `forward_auth` asks about the same call, at `path`.
pub(crate) fn question(path: &str, session: &str) -> String {
    format!(
        "GET {path} HTTP/1.1\r\nHost: {HOST}\r\n{BROWSER}{}X-Forwarded-Method: GET\r\n\
         X-Forwarded-Uri: /api/items?page=2&sort=name\r\n\r\n",
        page(session)
    )
}

/// What Caddy's `forward_auth` asks about a program that brings `token`.
pub(crate) fn bearer(token: &str) -> String {
    format!(
        "GET /things HTTP/1.1\r\nHost: {HOST}\r\nUser-Agent: inventory/3.1\r\nAccept: application/json\r\n\
         Accept-Encoding: gzip\r\nAuthorization: Bearer {token}\r\nVia: 2.0 Caddy\r\nX-Forwarded-For: 203.0.113.7\r\n\
         X-Forwarded-Host: things.example.com\r\nX-Forwarded-Method: GET\r\nX-Forwarded-Proto: https\r\n\
         X-Forwarded-Uri: /items?page=2&sort=name\r\n\r\n"
    )
}
