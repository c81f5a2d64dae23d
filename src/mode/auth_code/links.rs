//! The links of our own pages by which a person goes on to a login, without losing what they wanted.

use http::uri::PathAndQuery;

use crate::error::{Reason, Refusal};
use crate::mode::Call;
use crate::mode::auth_code::AuthCode;
use crate::provider::Switch;
use crate::session::Session;
use crate::web::{Kind, ReturnTo};

impl AuthCode {
    /// Adds to the refusal of a login how it is begun again with the same ends: `redirect`, and `failure` where the page
    /// is shown because nothing was begun.
    pub(super) fn with_another_start(&self, call: &Call, ends: &[(&str, Option<&str>)], refusal: Refusal) -> Refusal {
        let mut refusal = refusal;
        if call.kind == Kind::Fetch || refusal.way_on.is_some() {
            return refusal;
        }
        let (Some(start), Ok(origin)) = (self.login_url(call.site), self.origin(call)) else { return refusal };
        // What was good when the login began may not be any more, and a page of ours leads to no second refusal.
        let fit = |url: &&str| ReturnTo::parse(url, origin, &self.mode.allowed_redirects).is_some();
        let kept = ends.iter().filter_map(|(name, url)| Some((*name, url.filter(fit)?)));
        let kept: Vec<_> = kept.filter(|(name, url)| *name != "redirect" || *url != self.mode.home_url).collect();
        if !kept.is_empty() {
            refusal.way_on = Some(ReturnTo::from_config(start).with_parameters(&kept).into());
        }
        refusal
    }

    /// Adds to the refusal of somebody who is logged in how they come back as somebody else.
    pub(super) fn with_other_account(&self, call: &Call, session: &Session, mut refusal: Refusal) -> Refusal {
        if refusal.reason == Reason::Forbidden && call.kind != Kind::Fetch {
            refusal.way_on = self.other_account(call, session).map(Into::into);
        }
        refusal
    }

    /// A login as somebody else that leads back to the page which `call` asks for. What a form wanted is not asked for
    /// again: its body is gone.
    fn other_account(&self, call: &Call, session: &Session) -> Option<String> {
        let origin = self.config.public_urls.get(call.site)?;
        let start = self.login_url(call.site)?;
        let here = call.head.uri.path_and_query().map(PathAndQuery::as_str).filter(|_| call.kind == Kind::Navigation);
        let here = here.and_then(|here| ReturnTo::parse(here, origin, &self.mode.allowed_redirects));
        let back = here.as_ref().map(|here| ("redirect", here.as_str()));
        let party = self.parties.iter().find(|party| party.binding.is_same(&session.binding))?;
        let with = |url: &str, parameters: &[(&str, &str)]| ReturnTo::from_config(url).with_parameters(parameters);
        match party.client.switch() {
            Switch::Prompt(prompt) => {
                let parameters: Vec<_> = back.into_iter().chain([("prompt", prompt)]).collect();
                Some(with(start, &parameters))
            }
            Switch::SignOut => {
                let login = back.map_or_else(|| start.to_owned(), |back| with(start, &[back]));
                let path = |url: &str| url.strip_prefix(origin.text.as_str()).map(str::to_owned);
                // Escaped twice, a long address may be more than logout takes: then the way back is what is left out.
                let fits = |path: &String| ReturnTo::parse(path, origin, &self.mode.allowed_redirects).is_some();
                let login = path(&login).filter(fits).or_else(|| path(start))?;
                let logout = format!("{}{}/logout", origin.text, self.config.base_path);
                Some(with(&logout, &[("redirect", &login)]))
            }
        }
    }
}
