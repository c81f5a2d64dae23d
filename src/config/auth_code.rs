//! What a route with `mode = "auth-code"` has: browsers that log in.

use std::sync::Arc;

use http::header::HeaderName;

use super::origin::site;
use super::path_rule::header_name;
use super::report::{Wrong, quote};
use super::section::Section;
use super::{Client, Origin, RedirectPrefix};

/// What an auth-code route has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuthCode {
    /// The clients a browser may log in with; more than one shows a chooser.
    pub clients: Vec<Arc<Client>>,
    /// `redirect_uri`s, one per public URL and in the same order; only for front ends that POST the code themselves.
    pub redirect_uris: Option<Vec<String>>,
    /// Where to go when nobody said.
    pub home_url: String,
    /// Origins beside `public_urls` whose scripts may call us.
    pub allowed_origins: Vec<Origin>,
    /// Response headers that scripts of those origins may read (`Access-Control-Expose-Headers`).
    pub expose_headers: Vec<HeaderName>,
    /// Where login and logout may send the browser.
    pub allowed_redirects: Vec<RedirectPrefix>,
    /// Where `/claims` and groups come from.
    pub claims_source: ClaimsSource,
    /// Which claims `/claims` shows.
    pub claims: ClaimsShown,
}

/// `claims_source`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClaimsSource {
    /// The ID token, with userinfo beside it.
    IdToken,
    /// The payload of the access token, when it is a JWT.
    AccessToken,
}

/// `claims`: which claims the endpoint of that name shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClaimsShown {
    /// The standard claims of OpenID Connect Core 5.1 and the groups claim.
    Standard,
    /// All but tokens.
    All,
}

/// What the route knows of its sites by the time.
pub(super) struct Sites<'a> {
    /// Empty when they are not legal.
    pub(super) public_urls: &'a [Origin],
    pub(super) several_providers: bool,
}

impl AuthCode {
    /// What `section` says; `clients` is `None` when they are not legal.
    pub(super) fn resolve(section: &Section<'_>, clients: Option<Vec<Arc<Client>>>, sites: &Sites<'_>) -> Option<Self> {
        let allowed_origins = section.list("allowed_origins", Origin::parse);
        let redirect_uris = section.optional("redirect_uri", |section, name| {
            redirect_uris(name, section, allowed_origins.as_deref().unwrap_or_default(), sites)
        });
        let home_url = if section.has("home_url") {
            section.parse("home_url", |text| site(text).map(|_| text.to_owned()))
        } else {
            sites.public_urls.first().map(|url| format!("{}/", url.text))
        };
        let expose_headers = section.list("expose_headers", |text| match text {
            "*" => Err(Wrong::new("`*` means nothing to requests with cookies").hint("name each header")),
            text => header_name(text),
        });
        let allowed_redirects = if section.has("allowed_redirects") {
            section.list("allowed_redirects", RedirectPrefix::parse)
        } else {
            let all = sites.public_urls.iter().chain(allowed_origins.iter().flatten());
            Some(all.map(|origin| RedirectPrefix { origin: origin.clone(), path: "/".to_owned() }).collect())
        };
        let claims_source = section.choice("claims_source", ClaimsSource::named);
        let claims = section.choice("claims", ClaimsShown::named);
        if claims == Some(ClaimsShown::All) {
            section.cx.weaker(&section.at("claims"), Wrong::new("scripts see every claim of the user"));
        }
        Some(Self {
            clients: clients?,
            redirect_uris: redirect_uris?,
            home_url: home_url?,
            allowed_origins: allowed_origins?,
            expose_headers: expose_headers?,
            allowed_redirects: allowed_redirects?,
            claims_source: claims_source?,
            claims: claims?,
        })
    }
}

/// One for each public URL. The page at it posts the code to us, so it must be one that may.
fn redirect_uris(key: &str, section: &Section<'_>, allowed: &[Origin], sites: &Sites<'_>) -> Option<Vec<String>> {
    let uris = section.list(key, |text| {
        let url = site(text)?;
        if url.fragment().is_some() {
            return Err(Wrong::new("a redirect URI has no fragment").hint("the provider sends the code in the query"));
        }
        let origin = Origin::of(&url)?;
        // Nothing to compare with when public_url is itself illegal.
        if sites.public_urls.is_empty()
            || sites.public_urls.iter().chain(allowed).any(|known| known.text == origin.text)
        {
            return Ok(text.to_owned());
        }
        Err(Wrong::new(format!("{} is none of this route's origins", quote(&origin.text)))
            .hint("use one of `public_url` or `allowed_origins`"))
    })?;
    let wrong = if sites.several_providers {
        Wrong::new("with several providers each has its own redirect URI, so none can be chosen here")
            .hint("leave it out: `<public_url><base_path>/login/end/<provider>` is used")
    } else if !sites.public_urls.is_empty() && sites.public_urls.len() != uris.len() {
        let (have, want) = (uris.len(), sites.public_urls.len());
        Wrong::new(format!("there must be one for each public_url: {want}, not {have}")).hint("in the same order")
    } else {
        return Some(uris);
    };
    section.cx.error(&section.at(key), wrong);
    None
}

impl ClaimsSource {
    fn named(text: &str) -> Option<Self> {
        match text {
            "id_token" => Some(Self::IdToken),
            "access_token" => Some(Self::AccessToken),
            _ => None,
        }
    }
}

impl ClaimsShown {
    fn named(text: &str) -> Option<Self> {
        match text {
            "standard" => Some(Self::Standard),
            "all" => Some(Self::All),
            _ => None,
        }
    }
}
