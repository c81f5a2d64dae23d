//! `login/start`: where the browser is sent to the provider.

use std::collections::BTreeSet;
use std::time::Duration;

use http::header::SET_COOKIE;
use http::{Response, StatusCode};
use serde_json::json;
use tracing::debug;

use crate::config::{self, Forwarded};
use crate::error::{Reason, Refusal};
use crate::mode::auth_code::attempt::{self, Ticket};
use crate::mode::auth_code::step_up::StepUp;
use crate::mode::auth_code::{AuthCode, Party, html, pages, redirect};
use crate::mode::step_up::Demand;
use crate::mode::{Call, json as json_answer};
use crate::provider::Ask;
use crate::web::{Body, CookieJar, Kind, Parameter, Query, ReturnTo};

/// `prompt` values of OpenID Connect Core 3.1.2.1.
const PROMPTS: [&str; 4] = ["none", "login", "consent", "select_account"];
/// Longest hint that is passed on.
const MAX_HINT: usize = 256;

impl AuthCode {
    /// GET and POST `login/start`.
    pub(super) async fn login_start(&self, call: &Call) -> Result<Response<Body>, Refusal> {
        let query = Query::parse(call.head.uri.query().unwrap_or_default());
        let return_to = self.target(call, &query, "redirect")?;
        let failure = self.target(call, &query, "failure")?;
        let begun = self.begin(call, &query, (return_to.as_ref(), failure.as_ref())).await;
        let ends = [("redirect", return_to.as_ref()), ("failure", failure.as_ref())];
        let ends = ends.map(|(name, to)| (name, to.map(ReturnTo::as_str)));
        begun.map_err(|refusal| self.with_another_start(call, &ends, refusal))
    }

    async fn begin(
        &self,
        call: &Call,
        query: &Query,
        (return_to, failure): (Option<&ReturnTo>, Option<&ReturnTo>),
    ) -> Result<Response<Body>, Refusal> {
        let wants_json = call.head.method == http::Method::POST || call.wants.names_json();
        let step_up = self.step_up(call);
        let Some(party) = self.party(query, step_up.as_ref())? else {
            let chooser = self.chooser_url(call, query)?;
            return if wants_json && call.kind == Kind::Fetch {
                Ok(json_answer(&json!({ "authorization_request_url": chooser })))
            } else {
                Ok(html(pages::chooser(&self.choices(), &chooser)))
            };
        };
        let back = return_to.map_or_else(|| ReturnTo::from_config(&self.mode.home_url), ReturnTo::clone);
        let demand = self.demand(call, step_up.as_ref(), &back)?;
        let taken_back = self.break_loop(call, party, step_up.as_ref()).await?;
        let ask = self.ask(call, query, (party, demand))?;
        let (url, attempt) = party.client.begin(&ask, call.now).await?;
        let provider = &party.binding.provider;
        let ticket = Ticket {
            attempt,
            provider: provider.to_string(),
            return_to: back.as_str().to_owned(),
            failure: failure.map(|to| to.as_str().to_owned()),
        };
        let site = self.origin(call)?;
        let cookie = ticket.seal(ticket.attempt.state(), &self.config.name, site, &self.keys)?;
        let mut response = if wants_json {
            json_answer(&json!({ "authorization_request_url": url.as_str() }))
        } else {
            redirect(StatusCode::FOUND, url.as_str())?
        };
        let jar = CookieJar::new(&call.head.headers);
        for gone in attempt::make_room(&jar, &cookie, &self.config.name, site) {
            response.headers_mut().append(SET_COOKIE, gone);
        }
        response.headers_mut().append(SET_COOKIE, cookie);
        if let Some(cookie) = taken_back {
            response.headers_mut().append(SET_COOKIE, cookie);
        }
        self.shared.metrics.login_started(self.config.name.as_str(), provider.as_str());
        debug!(route = %self.config.name, %provider, request_id = %call.request_id, "login started");
        Ok(response)
    }

    /// A checked `redirect` or `failure`; an unacceptable one refuses the login instead of being forgotten.
    pub(super) fn target(&self, call: &Call, query: &Query, name: &str) -> Result<Option<ReturnTo>, Refusal> {
        match query.parameter(name) {
            Parameter::Absent => Ok(None),
            Parameter::Once(text) => ReturnTo::parse(text, self.origin(call)?, &self.mode.allowed_redirects)
                .map(Some)
                .ok_or_else(|| Refusal::new(Reason::BadRedirect).because(format!("{name} is not allowed"))),
            Parameter::Repeated => Err(Refusal::new(Reason::BadRedirect).because(format!("{name} occurs twice"))),
        }
    }

    /// The client to log in with; `None` when there are several and nobody chose.
    fn party(&self, query: &Query, step_up: Option<&StepUp>) -> Result<Option<&Party>, Refusal> {
        let known = step_up.and_then(|step_up| step_up.provider.as_deref());
        let known = known.and_then(|name| self.parties.iter().find(|party| party.binding.provider.as_str() == name));
        match (query.parameter("provider"), self.parties.as_slice()) {
            (Parameter::Absent, [only]) => Ok(Some(only)),
            (Parameter::Absent, _) => Ok(known),
            (Parameter::Once(name), parties) => parties
                .iter()
                .find(|party| party.binding.provider.as_str() == name)
                .map(Some)
                .ok_or_else(|| Refusal::new(Reason::BadRequest).because("no such provider on this route")),
            (Parameter::Repeated, _) => Err(Refusal::new(Reason::BadRequest).because("provider occurs twice")),
        }
    }

    fn choices(&self) -> Vec<&str> {
        self.parties.iter().map(|party| party.binding.provider.as_str()).collect()
    }

    /// `login/start` with the same targets, for a provider still to be chosen.
    fn chooser_url(&self, call: &Call, query: &Query) -> Result<String, Refusal> {
        // Its path, too, may say what the login is for.
        let start = format!("{}{}", self.origin(call)?.text, call.head.uri.path());
        let mut url = url::Url::parse(&start).map_err(|error| Refusal::new(Reason::Internal).because(error))?;
        let forwarded = self.parties.iter().flat_map(|party| party.client.registration.forwarded_params.keys());
        let forwarded: BTreeSet<&str> = forwarded.map(String::as_str).collect();
        for name in ["redirect", "failure"].into_iter().chain(forwarded) {
            if let Parameter::Once(value) = query.parameter(name) {
                url.query_pairs_mut().append_pair(name, value);
            }
        }
        Ok(url.into())
    }

    /// What to ask the provider for: of the query, what the config lets through. Where any value would do, it is taken
    /// from our own pages and from people, not from other sites' links; scripts have been judged before.
    fn ask(&self, call: &Call, query: &Query, (party, demand): (&Party, Demand)) -> Result<Ask, Refusal> {
        let site = call.head.headers.get("sec-fetch-site").map(http::HeaderValue::as_bytes);
        let ours = call.kind != Kind::Navigation || matches!(site, None | Some(b"none" | b"same-origin"));
        let params = &party.client.registration.forwarded_params;
        let hint = |(name, allowed): (&String, &Forwarded)| {
            let value = query.parameter(name).value().filter(|value| value.len() <= MAX_HINT)?;
            let passes = match allowed {
                Forwarded::Any => ours && !value.chars().any(char::is_control),
                Forwarded::Listed(values) => values.contains(value),
            };
            passes.then(|| (name.clone(), value.to_owned()))
        };
        let mut forwarded: Vec<(String, String)> = params.iter().filter_map(hint).collect();
        let mut take = |name: &str| {
            let at = forwarded.iter().position(|(known, _)| known == name)?;
            Some(forwarded.swap_remove(at).1)
        };
        let (prompt, login_hint, ui_locales) = (take("prompt"), take("login_hint"), take("ui_locales"));
        Ok(Ask {
            redirect_uri: self.redirect_uri(call, party)?,
            prompt: prompt.filter(|prompt| PROMPTS.contains(&prompt.as_str())),
            login_hint,
            ui_locales,
            forwarded,
            acr_values: demand.acr_values,
            max_age: demand.max_age.map(Duration::from_secs),
        })
    }

    /// Where the provider sends the browser back: one URI for each public URL, and for each provider where there are
    /// several, so that one provider's answer cannot be taken for another's (RFC 9700 4.4.2.2).
    pub(super) fn redirect_uri(&self, call: &Call, party: &Party) -> Result<String, Refusal> {
        let uri = config::redirect_uri(&self.config, &self.mode, &party.client.registration, call.site);
        uri.ok_or_else(|| Refusal::new(Reason::HostMismatch))
    }
}
