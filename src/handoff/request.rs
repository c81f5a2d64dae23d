//! The request's head as the upstream shall see it: what the client may not say is dropped in every spelling, what we
//! know is said instead.

use bytes::Bytes;
use http::header::{AUTHORIZATION, FORWARDED, HOST, HeaderMap, HeaderName, HeaderValue};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{Method, Uri, Version, request};
use percent_encoding::percent_decode_str;

use crate::config::{Target, Upstream, UpstreamHost};
use crate::error::{Reason, Refusal};
use crate::handoff::{Passage, hop, websocket};
use crate::web::cut_own;

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const X_FORWARDED_PREFIX: HeaderName = HeaderName::from_static("x-forwarded-prefix");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// Names by which a client could tell an upstream where it comes from or what it asks for. Never taken from a client;
/// rebuilt where we know better.
const NEVER: &[&str] = &["forwarded", "x-real-ip", "x-original-url", "x-rewrite-url", "x-http-method-override"];

/// Beginnings of names that are ours alone.
const NEVER_PREFIXES: &[&str] = &["x-forwarded-", "vestibule-"];

/// Identity headers of other proxies: a rule that says who calls keeps clients from all of them, since apps read more
/// names than a rule may know.
const OTHERS: &[&str] = &["x-auth-request-", "x-authenticated-", "x-authentik-", "x-remote-", "x-webauth-", "remote-"];

/// A family of which a rule that owns one member owns all. APIs use other members for other things.
const FAMILY: &str = "x-auth-";

/// What is known about an upstream before a request comes.
#[derive(Debug)]
pub(super) struct Destination {
    scheme: Scheme,
    authority: Authority,
    /// Whether it speaks HTTP/2, which has the host in the target and no upgrades.
    http2: bool,
    /// Our name for the upstream, as a `Host` header.
    own_host: Option<HeaderValue>,
    host: UpstreamHost,
    base_path: String,
}

impl Destination {
    pub(super) fn new(config: &Upstream) -> Self {
        let uri = config.target.uri().into_parts();
        let authority = uri.authority.unwrap_or(Authority::from_static("localhost"));
        Self {
            scheme: uri.scheme.unwrap_or(Scheme::HTTP),
            own_host: HeaderValue::from_str(authority.as_str()).ok(),
            authority,
            http2: matches!(config.target, Target::H2c(_)),
            host: config.host,
            base_path: config.base_path.clone(),
        }
    }

    /// Turns the head of a client's request into that of ours, and says whether it asks for a WebSocket.
    ///
    /// # Errors
    /// A [`Refusal`] for what cannot be passed on: other upgrades, CONNECT and TRACE, targets that are no path.
    pub(super) fn rewrite(&self, head: &mut request::Parts, passage: Passage) -> Result<bool, Refusal> {
        if matches!(head.method, Method::CONNECT | Method::TRACE) {
            return Err(Refusal::new(Reason::MethodNotAllowed));
        }
        let websocket = websocket::is_asked(head)?;
        if websocket && self.http2 {
            return Err(Refusal::new(Reason::UpgradeUnsupported).because("no WebSocket to an h2c upstream"));
        }
        let host = passage.forwarded_host.as_ref().filter(|_| self.host == UpstreamHost::Client);
        let host = host.or(self.own_host.as_ref()).cloned();
        head.uri = self.uri(&head.uri, passage.strip_prefix.as_deref(), host.as_ref())?;
        // The version is our connection's, not the client's.
        head.version = Version::HTTP_11;
        hop::sweep(&mut head.headers, |name| falls(name, &passage));
        cut_own(&mut head.headers);
        tell(&mut head.headers, passage);
        match host {
            Some(host) if !self.http2 => head.headers.insert(HOST, host),
            _ => head.headers.remove(HOST),
        };
        if websocket {
            websocket::mark(&mut head.headers);
        }
        Ok(websocket)
    }

    /// The target: authority from the config alone, path by rule, query byte for byte.
    fn uri(&self, asked: &Uri, strip_prefix: Option<&str>, host: Option<&HeaderValue>) -> Result<Uri, Refusal> {
        let asked = asked.path_and_query().ok_or(Reason::BadRequest)?;
        if !asked.path().starts_with('/') {
            return Err(Refusal::new(Reason::BadRequest).because("the target is no path"));
        }
        // Where to connect is the connector's to know; over HTTP/2 this is the one place for the host.
        let host = host.filter(|_| self.http2).and_then(|host| Authority::try_from(host.as_bytes()).ok());
        let mut parts = http::uri::Parts::default();
        parts.scheme = Some(self.scheme.clone());
        parts.authority = Some(host.unwrap_or_else(|| self.authority.clone()));
        parts.path_and_query = Some(self.path(asked, strip_prefix)?);
        Uri::from_parts(parts).map_err(|error| Refusal::new(Reason::BadRequest).because(error))
    }

    fn path(&self, asked: &PathAndQuery, strip_prefix: Option<&str>) -> Result<PathAndQuery, Refusal> {
        let whole = asked.as_str();
        let rest = match strip_prefix {
            None => whole,
            Some(prefix) => match whole.strip_prefix(prefix) {
                Some(rest) if rest.is_empty() || rest.starts_with(['/', '?']) => rest,
                // The rule matched another spelling of the prefix than the one that would have to be cut.
                _ => return Err(Refusal::new(Reason::AmbiguousPath)),
            },
        };
        if strip_prefix.is_none() && self.base_path.is_empty() {
            return Ok(asked.clone());
        }
        if !self.base_path.is_empty() && climbs(asked.path()) {
            return Err(Refusal::new(Reason::AmbiguousPath).because("it climbs out of the upstream's path"));
        }
        let slash = if rest.starts_with('/') { "" } else { "/" };
        let joined = [&self.base_path, slash, rest].concat();
        PathAndQuery::from_maybe_shared(Bytes::from(joined))
            .map_err(|error| Refusal::new(Reason::BadRequest).because(error))
    }
}

/// Whether a path has a segment that means "up" to some reader, plain or encoded.
fn climbs(path: &str) -> bool {
    let decoded = percent_decode_str(path).decode_utf8_lossy();
    decoded.split(['/', '\\']).any(|segment| segment.split(';').next() == Some(".."))
}

/// Says what we know. Runs last, so that nothing of the client's can take it away.
fn tell(headers: &mut HeaderMap, passage: Passage) {
    if let Some(forwarded) = forwarded(&passage) {
        headers.insert(FORWARDED, forwarded);
    }
    if let Some(prefix) = passage.strip_prefix.and_then(|prefix| HeaderValue::try_from(prefix).ok()) {
        headers.insert(X_FORWARDED_PREFIX, prefix);
    }
    if !passage.forwarded_proto.is_empty() {
        headers.insert(X_FORWARDED_PROTO, HeaderValue::from_static(passage.forwarded_proto));
    }
    if let Some(host) = passage.forwarded_host {
        headers.insert(X_FORWARDED_HOST, host);
    }
    if let Some(peers) = passage.forwarded_for {
        headers.insert(X_FORWARDED_FOR, peers);
    }
    for (name, value) in passage.identity {
        headers.insert(name, value);
    }
    if let Some(authorization) = passage.authorization {
        headers.insert(AUTHORIZATION, authorization);
    }
}

/// Whether a header of the client's ends here.
fn falls(name: &str, passage: &Passage) -> bool {
    match name {
        // `Expect` was answered by our own server, and trailers do not pass.
        "expect" | "trailer" => true,
        "authorization" | "dpop" => !passage.keep_authorization,
        // Where we know better, what the client said is overwritten.
        "x-forwarded-for" => passage.forwarded_for.is_none(),
        "x-forwarded-host" => passage.forwarded_host.is_none(),
        "x-forwarded-proto" => passage.forwarded_proto.is_empty(),
        _ => hop::is_hop(name) || is_claim(name, &passage.owned),
    }
}

/// Whether a header, in any spelling that an app may read as the same name, says what only we may say.
fn is_claim(name: &str, owned: &[HeaderName]) -> bool {
    NEVER_PREFIXES.iter().any(|prefix| begins(name, prefix))
        || NEVER.iter().any(|never| is_spelling(name, never))
        || owned.iter().any(|owned| is_spelling(name, owned.as_str()))
        || !owned.is_empty() && OTHERS.iter().any(|other| begins(name, other))
        || begins(name, FAMILY) && owned.iter().any(|owned| owned.as_str().starts_with(FAMILY))
}

/// Whether `name` is `known`, were `_` and `.` dashes: CGI, WSGI and PHP make one variable of them all. Header names
/// are lower case here.
fn is_spelling(name: &str, known: &str) -> bool {
    name.len() == known.len() && begins(name, known)
}

/// Whether `name` begins with `known` by the same measure.
fn begins(name: &str, known: &str) -> bool {
    let dashed = |byte: u8| if matches!(byte, b'_' | b'.') { b'-' } else { byte };
    name.len() >= known.len() && name.bytes().zip(known.bytes()).all(|(one, other)| dashed(one) == dashed(other))
}

/// `Forwarded` (RFC 7239 4): one element for each address, the last of which saw the host and the scheme.
fn forwarded(passage: &Passage) -> Option<HeaderValue> {
    let mut text = String::with_capacity(96);
    for address in passage.forwarded_for.as_ref()?.to_str().ok()?.split(',') {
        let (open, close) = if address.contains(':') { ("\"[", "]\"") } else { ("", "") };
        let comma = if text.is_empty() { "" } else { ", " };
        text.extend([comma, "for=", open, address.trim(), close]);
    }
    if let Some(host) = passage.forwarded_host.as_ref().and_then(|host| host.to_str().ok()) {
        text.extend([";host=\"", host, "\""]);
    }
    if !passage.forwarded_proto.is_empty() {
        text.extend([";proto=", passage.forwarded_proto]);
    }
    HeaderValue::try_from(text).ok()
}

#[cfg(test)]
mod tests;
