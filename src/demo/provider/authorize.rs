//! The authorization endpoint: who are you, and may this client know?

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use http::header::{HeaderValue, SET_COOKIE};
use http::{Method, StatusCode};
use url::form_urlencoded;

use super::call::{Answer, Call, html, see_other};
use super::journal::{Endpoint, Secret};
use super::ledger::{CodeTerms, Grant, Issued, Ledger, Login};
use super::user::User;
use super::{Broken, Setup};
use crate::error::page::escape;
use crate::web;

/// The cookie by which the provider knows a browser again.
const COOKIE: &str = "demo-provider";

/// How long a code is good for.
const CODE_LIFETIME: Duration = Duration::from_secs(60);

/// A request whose client and redirect URI are known, so that errors may be sent there.
struct Request<'a> {
    client_id: &'a str,
    redirect_uri: &'a str,
    call: &'a Call,
}

/// Answers with the picker, with a code, or with an error.
///
/// # Errors
/// [`Broken`] without randomness.
pub(super) fn answer(setup: &Setup, ledger: &mut Ledger, call: &Call) -> Result<Answer, Broken> {
    for (kind, name) in [(Secret::State, "state"), (Secret::Nonce, "nonce")] {
        if let Some(value) = call.query(name) {
            ledger.remember(kind, value);
        }
    }
    let client = call.query("client_id").and_then(|id| setup.clients.iter().find(|client| client.id == id));
    let redirect_uri = call.query("redirect_uri");
    let (Some(client), Some(redirect_uri)) = (client, redirect_uri) else {
        return Ok(html(StatusCode::BAD_REQUEST, "Unknown client", "<p>No client of this name is registered.</p>\n"));
    };
    // An error must not be sent to an address that is not registered: that would be an open redirect.
    if !client.redirect_uris.iter().any(|uri| uri == redirect_uri) {
        let text = "<p>The redirect URI is not registered for this client.</p>\n";
        return Ok(html(StatusCode::BAD_REQUEST, "Unknown redirect URI", text));
    }
    let request = Request { client_id: &client.id, redirect_uri, call };
    if let Some(error) = request.fault() {
        return Ok(request.redirect(setup, &[("error", error)]));
    }
    request.decide(setup, ledger)
}

impl Request<'_> {
    /// The error code of a request that asks for what we do not do.
    fn fault(&self) -> Option<&'static str> {
        let call = self.call;
        let scopes = call.query("scope").unwrap_or_default();
        if call.repeats_itself() {
            return Some("invalid_request");
        }
        if call.query("response_type") != Some("code") {
            return Some("unsupported_response_type");
        }
        if call.query("response_mode").is_some_and(|mode| mode != "query") {
            return Some("invalid_request");
        }
        if !scopes.split(' ').any(|scope| scope == "openid") {
            return Some("invalid_scope");
        }
        let challenge = call.query("code_challenge").unwrap_or_default();
        let method = call.query("code_challenge_method");
        (method != Some("S256") || challenge.len() != 43).then_some("invalid_request")
    }

    /// Who the user is: chosen on the page, hinted at, or known from before.
    fn decide(&self, setup: &Setup, ledger: &mut Ledger) -> Result<Answer, Broken> {
        let call = self.call;
        let prompts: Vec<&str> = call.query("prompt").unwrap_or_default().split(' ').collect();
        let login = call.cookie(COOKIE).and_then(|cookie| ledger.logins.get(cookie)).cloned();
        let login = login.filter(|login| self.is_fresh(login) && self.is_strong(setup, login));
        if prompts.contains(&"none") {
            return match login {
                Some(login) => self.grant(setup, ledger, &login),
                None => Ok(self.redirect(setup, &[("error", "login_required")])),
            };
        }
        if let Some(user) = self.named_user(setup) {
            return self.log_in(setup, ledger, user);
        }
        if call.form("cancel").is_some() {
            return Ok(self.redirect(setup, &[("error", "access_denied")]));
        }
        match login {
            Some(login) if !prompts.contains(&"login") && !prompts.contains(&"select_account") => {
                self.grant(setup, ledger, &login)
            }
            _ => Ok(self.picker(setup)),
        }
    }

    /// Whether a login is young enough for `max_age` (OpenID Connect Core 3.1.2.1).
    fn is_fresh(&self, login: &Login) -> bool {
        let max_age = self.call.query("max_age").and_then(|text| text.parse().ok());
        max_age.is_none_or(|seconds| self.call.now.since(login.since) < Duration::from_secs(seconds))
    }

    /// Whether a login has one of the authentication contexts that are asked for, as far as there are such.
    fn is_strong(&self, setup: &Setup, login: &Login) -> bool {
        let asked = self.call.query("acr_values").unwrap_or_default();
        let mut known = asked.split(' ').filter(|value| setup.acr_values.iter().any(|known| known == value)).peekable();
        known.peek().is_none() || known.any(|value| value == login.acr)
    }

    /// The user that the page's form or `login_hint` names.
    fn named_user<'s>(&self, setup: &'s Setup) -> Option<&'s User> {
        let chosen = if self.call.method == Method::POST { self.call.form("user") } else { None };
        let named = chosen.or_else(|| self.call.query("login_hint"))?;
        setup.users.iter().find(|user| user.is_called(named))
    }

    /// Logs a user in at the provider, then grants.
    fn log_in(&self, setup: &Setup, ledger: &mut Ledger, user: &User) -> Result<Answer, Broken> {
        let cookie = web::token().map_err(|_| Broken)?;
        let sid = web::token().map_err(|_| Broken)?;
        let acr = setup.acr(self.call.query("acr_values").unwrap_or_default());
        let login = Login { user: user.clone(), since: self.call.now, acr, sid };
        let mut answer = self.grant(setup, ledger, &login)?;
        ledger.logins.insert(cookie.clone(), login);
        // No `Secure`: this provider speaks plain http, on loopback only.
        let text = format!("{COOKIE}={cookie}; Path=/; HttpOnly; SameSite=Lax");
        answer.headers_mut().append(SET_COOKIE, HeaderValue::from_str(&text).map_err(|_| Broken)?);
        Ok(answer)
    }

    /// Sends the browser back with a code.
    fn grant(&self, setup: &Setup, ledger: &mut Ledger, login: &Login) -> Result<Answer, Broken> {
        let call = self.call;
        let scopes = call.query("scope").unwrap_or_default().split(' ').map(str::to_owned).collect();
        let grant = Grant::new(login, self.client_id, scopes, call.query("nonce").map(str::to_owned));
        let code = ledger.marked(Secret::Code)?;
        ledger.remember(Secret::Code, &code);
        let terms = CodeTerms {
            redirect_uri: self.redirect_uri.to_owned(),
            challenge: call.query("code_challenge").unwrap_or_default().to_owned(),
        };
        let issued =
            Issued { grant: Arc::new(grant), expires_at: call.now.plus(CODE_LIFETIME), used: false, code: Some(terms) };
        ledger.codes.insert(code.clone(), issued);
        Ok(self.redirect(setup, &[("code", &code)]))
    }

    /// Back to the client, with `state` and `iss` (RFC 9207 2).
    fn redirect(&self, setup: &Setup, parameters: &[(&str, &str)]) -> Answer {
        let mut query = form_urlencoded::Serializer::new(String::new());
        query.extend_pairs(parameters);
        if let Some(state) = self.call.query("state") {
            query.append_pair("state", state);
        }
        query.append_pair("iss", &setup.issuer);
        let separator = if self.redirect_uri.contains('?') { '&' } else { '?' };
        see_other(&format!("{}{separator}{}", self.redirect_uri, query.finish()))
    }

    /// The page on which a person picks who to be.
    fn picker(&self, setup: &Setup) -> Answer {
        let action = format!("{}?{}", setup.url(Endpoint::Authorize), self.call.query_text);
        let mut body = format!(
            "<p>This is a development provider: there are no passwords. <strong>{}</strong> asks who you are; be anybody.</p>\n\
             <form method=\"post\" action=\"{}\">\n<ul class=\"choices\">\n",
            escape(self.client_id),
            escape(&action)
        );
        for user in &setup.users {
            let _ = writeln!(
                body,
                "<li><button name=\"user\" value=\"{}\">{} {} <small>{}</small></button></li>",
                escape(&user.name),
                escape(&user.given_name),
                escape(&user.family_name),
                escape(&about(user))
            );
        }
        body.push_str("</ul>\n<p><button name=\"cancel\" value=\"1\">Do not log in</button></p>\n</form>\n");
        html(StatusCode::OK, "Who are you?", &body)
    }
}

/// What a user differs in from others.
fn about(user: &User) -> String {
    let verified = if user.email_verified { "" } else { " (not verified)" };
    let groups = if user.groups.is_empty() { "no group".to_owned() } else { user.groups.join(", ") };
    format!("{}{verified} · {groups}", user.email)
}
