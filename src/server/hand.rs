//! `/-/sessions` of the control listener: who is logged in, and the end of it by the operator's hand. No answer holds a
//! token, nor a handle.

use std::time::Duration;

use http::header::CONTENT_TYPE;
use http::{HeaderValue, Response, StatusCode};
use serde_json::{Value, json};
use tracing::info;

use crate::config;
use crate::mode::auth_code::{Shared, Who};
use crate::runtime::Lasting;
use crate::server::admin::text;
use crate::session::{Filter, Found, SessionId};
use crate::time::Timestamp;
use crate::web::{Body, Query};

/// How many sessions one answer has, unless it is said.
const LIMIT: usize = 100;
/// The most that it can have.
const MAX_LIMIT: usize = 1000;

const PARAMETERS: &str = "id, sub, sid, route, provider, older_than, idle_for";

/// What is asked for.
struct Asked {
    filter: Filter,
    after: Option<SessionId>,
    limit: usize,
    /// Every session is meant on purpose.
    all: bool,
}

/// GET: a page of sessions, in the order of their ids.
pub(super) async fn list(query: &str, lasting: &Lasting, idle_timeout: Duration) -> Response<Body> {
    let asked = match read(query) {
        Ok(asked) if !asked.all => asked,
        Ok(_) => {
            return text(StatusCode::BAD_REQUEST, "`all` is for DELETE; without a filter, all are listed\n".to_owned());
        }
        Err(wrong) => return text(StatusCode::BAD_REQUEST, wrong),
    };
    let (now, sessions) = (lasting.clock.now(), &lasting.shared.sessions);
    match sessions.page(&asked.filter, (asked.after, asked.limit), (idle_timeout, now)).await {
        Ok(page) => {
            let told: Vec<Value> = page.sessions.iter().map(|found| told(found, idle_timeout)).collect();
            answer(&json!({
                "sessions": told,
                "next": page.next.map(|id| id.hex()),
                "in_store": sessions.count(),
                "server_time": now.rfc3339(),
            }))
        }
        Err(error) => text(StatusCode::SERVICE_UNAVAILABLE, format!("{error}\n")),
    }
}

/// DELETE: ends those that are meant, with their streams. Whoever means all has to say so.
pub(super) async fn end(query: &str, lasting: &Lasting) -> Response<Body> {
    let asked = match read(query) {
        Ok(asked) => asked,
        Err(wrong) => return text(StatusCode::BAD_REQUEST, wrong),
    };
    if asked.after.is_some() || asked.limit != LIMIT {
        return text(StatusCode::BAD_REQUEST, "`after` and `limit` are for GET: all that are meant end\n".to_owned());
    }
    if asked.all != is_empty(&asked.filter) {
        let wrong = format!("say which, by {PARAMETERS}; or all=true, and nothing else, for every session\n");
        return text(StatusCode::BAD_REQUEST, wrong);
    }
    let Shared { sessions, farewells, .. } = &lasting.shared;
    let now = lasting.clock.now();
    // Logins that are on their way have neither an id nor an age.
    if let Some(who) = logins(&asked.filter)
        && let Err(error) = farewells.note(sessions, who, now).await
    {
        return text(StatusCode::SERVICE_UNAVAILABLE, format!("{error}; none has ended\n"));
    }
    match sessions.end_by_hand(&asked.filter, now).await {
        Ok(ended) => {
            info!(ended, which = which(&asked.filter), "control: sessions ended");
            answer(&json!({ "ended": ended }))
        }
        Err(error) => text(StatusCode::SERVICE_UNAVAILABLE, format!("{error}; some may have ended\n")),
    }
}

/// Whose logins end with the sessions that are meant.
fn logins(filter: &Filter) -> Option<Who<'_>> {
    let Filter { id, subject, sid, route, provider, older_than, idle_for } = filter;
    let who = Who {
        issuer: None,
        subject: subject.as_deref(),
        sid: sid.as_deref(),
        route: route.as_deref(),
        provider: provider.as_deref(),
    };
    (id.is_none() && older_than.is_none() && idle_for.is_none()).then_some(who)
}

fn is_empty(filter: &Filter) -> bool {
    let Filter { id, subject, sid, route, provider, older_than, idle_for } = filter;
    let texts = [id, subject, sid, route, provider].into_iter().all(Option::is_none);
    texts && older_than.is_none() && idle_for.is_none()
}

/// The filters that were used, for the log: whom `sub` and `sid` name is nobody's business there.
fn which(filter: &Filter) -> String {
    let Filter { id, subject, sid, route, provider, older_than, idle_for } = filter;
    let text = |name, value: &Option<String>| value.as_ref().map(|value| format!("{name}={value}"));
    let time = |name, value: &Option<Duration>| value.map(|value| format!("{name}={}s", value.as_secs()));
    let parts = [
        text("id", id),
        subject.as_ref().map(|_| "sub".to_owned()),
        sid.as_ref().map(|_| "sid".to_owned()),
        text("route", route),
        text("provider", provider),
        time("older_than", older_than),
        time("idle_for", idle_for),
    ];
    let said: Vec<String> = parts.into_iter().flatten().collect();
    if said.is_empty() { "all".to_owned() } else { said.join(", ") }
}

/// Reads the query. What is not understood is never passed over: it was to narrow down what ends.
fn read(query: &str) -> Result<Asked, String> {
    let mut asked = Asked { filter: Filter::default(), after: None, limit: LIMIT, all: false };
    let mut seen = Vec::new();
    for (name, value) in Query::parse(query).pairs() {
        if seen.contains(&name) {
            return Err(format!("{name} occurs twice\n"));
        }
        seen.push(name);
        let filter = &mut asked.filter;
        let duration = || config::parse_duration(value).ok_or_else(|| format!("{name}: write a time as \"30m\"\n"));
        let hex = !value.is_empty() && value.len() <= 64 && value.bytes().all(|byte| byte.is_ascii_hexdigit());
        match name {
            "id" if !hex => return Err("id: it, or its beginning, in hex\n".to_owned()),
            "id" => filter.id = Some(value.to_owned()),
            "sub" => filter.subject = Some(value.to_owned()),
            "sid" => filter.sid = Some(value.to_owned()),
            "route" => filter.route = Some(value.to_owned()),
            "provider" => filter.provider = Some(value.to_owned()),
            "older_than" => filter.older_than = Some(duration()?),
            "idle_for" => filter.idle_for = Some(duration()?),
            "after" => asked.after = Some(SessionId::from_hex(value).ok_or("after: the `next` of an answer\n")?),
            "limit" => {
                let limit = value.parse().ok().filter(|limit| (1..=MAX_LIMIT).contains(limit));
                asked.limit = limit.ok_or_else(|| format!("limit: 1 to {MAX_LIMIT}\n"))?;
            }
            "all" if value == "true" => asked.all = true,
            _ => return Err(format!("there is no {name}={value} here: {PARAMETERS}, after, limit, or all=true\n")),
        }
    }
    Ok(asked)
}

/// A session, for whoever operates it.
fn told(found: &Found, idle_timeout: Duration) -> Value {
    let session = &found.session;
    let time = |at: Timestamp| at.rfc3339();
    json!({
        "id": session.id.hex(),
        "route": session.binding.route.as_str(),
        "provider": session.binding.provider.as_str(),
        "sub": session.subject,
        "sid": session.sid,
        "preferred_username": session.claim("preferred_username").and_then(Value::as_str),
        "created_at": time(session.created_at),
        "last_used_at": time(found.last_used_at),
        "idle_expires_at": time(found.last_used_at.plus(idle_timeout).min(session.expires_at)),
        "expires_at": time(session.expires_at),
    })
}

fn answer(value: &Value) -> Response<Body> {
    let mut response = text(StatusCode::OK, format!("{value}\n"));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}
