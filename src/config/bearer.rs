//! What bearer tokens are held against, on routes of device and of verify mode; and what RFC 9728 tells about them.

use std::sync::Arc;

use url::Url;

use super::origin::{plain, site};
use super::providers::Providers;
use super::report::{Wrong, quote};
use super::section::Section;
use super::{Client, Origin, Provider};

/// What a bearer token is held against.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bearer {
    /// Whose tokens are accepted; never empty, no issuer twice.
    pub issuers: Vec<Issuer>,
    /// One of these must be in `aud`; never empty (RFC 8725 3.9).
    pub audiences: Vec<String>,
    /// The client that a token was issued to (`azp`, or else `client_id`) must be one of these; empty: no rule.
    pub authorized_parties: Vec<String>,
    /// A token must have all of these.
    pub required_scopes: Vec<String>,
    /// What a token must look like.
    pub profile: TokenProfile,
}

/// An issuer of bearer tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issuer {
    /// Whose keys sign.
    pub provider: Arc<Provider>,
    /// Who asks about opaque tokens (RFC 7662), where the provider introspects; it has a secret.
    pub introspector: Option<Arc<Client>>,
}

/// `token_profile`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenProfile {
    /// A JWT that is no token of another kind.
    Jwt,
    /// A JWT access token by the letter of RFC 9068 2.
    Rfc9068,
}

/// What only routes with bearers that are verified have.
pub(super) const VERIFYING: &[&str] = &["audiences", "authorized_parties", "required_scopes", "token_profile"];

/// Audiences that every token of a realm carries, whomever it is for, and whose habit that is.
const OF_EVERYBODY: &[(&str, &str)] = &[("account", "Keycloak puts it into the tokens of every client")];

impl Bearer {
    /// What `section` says; `issuers` is `None` when they are not legal.
    pub(super) fn resolve(section: &Section<'_>, issuers: Option<Vec<Issuer>>) -> Option<Self> {
        let audiences = audiences(section);
        let listed = |name: &str| {
            let texts = section.optional(name, |section, name| section.nonempty(name, |text| Ok(text.to_owned())));
            texts.map(Option::unwrap_or_default)
        };
        let authorized_parties = listed("authorized_parties");
        let required_scopes =
            section.optional("required_scopes", |section, name| section.nonempty(name, super::client::scope));
        let profile = section.optional("token_profile", |section, name| section.choice(name, TokenProfile::named));
        Some(Self {
            issuers: issuers?,
            audiences: audiences?,
            authorized_parties: authorized_parties?,
            required_scopes: required_scopes?.unwrap_or_default(),
            profile: profile?.unwrap_or(TokenProfile::Jwt),
        })
    }
}

impl TokenProfile {
    fn named(text: &str) -> Option<Self> {
        match text {
            "jwt" => Some(Self::Jwt),
            "rfc9068" => Some(Self::Rfc9068),
            _ => None,
        }
    }
}

/// At least one: a token that is good for anybody is good for whoever stole it elsewhere.
fn audiences(section: &Section<'_>) -> Option<Vec<String>> {
    let hint =
        "add a line such as `audiences = [\"https://api.example.com\"]`, with what this API is called at the provider";
    if !section.has("audiences") {
        let wrong = Wrong::new("`audiences` is missing: tokens meant for others would be accepted here").hint(hint);
        section.cx.error(section.header(), wrong.absence());
        return None;
    }
    let audiences = section.list("audiences", |text| match text {
        "" => Err(Wrong::new("this audience is empty")),
        text => Ok(text.to_owned()),
    })?;
    if audiences.is_empty() {
        let wrong = Wrong::new("without an audience, tokens meant for others would be accepted here").hint(hint);
        section.cx.error(&section.at("audiences"), wrong);
        return None;
    }
    for audience in &audiences {
        let habit = OF_EVERYBODY.iter().find(|(name, _)| name == audience).map(|(_, habit)| *habit);
        let habit = habit.or_else(|| {
            audience
                .ends_with("/userinfo")
                .then_some("Auth0 puts it into every token that may ask for userinfo")
        });
        if let Some(habit) = habit {
            let wrong = Wrong::new(format!("the audience {} keeps nobody out: {habit}", quote(audience)));
            let hint = "let the provider put an audience of this API's own into its tokens, and name that one";
            section.cx.warn(&section.at("audiences"), wrong.hint(hint));
        }
    }
    Some(audiences)
}

/// The issuers of a route: all its providers, each with who introspects its opaque tokens. `own` is the route's own
/// client, if it may introspect.
pub(super) fn issuers(section: &Section<'_>, providers: &Providers, own: Option<&Arc<Client>>) -> Option<Vec<Issuer>> {
    let mut introspects = 0;
    let mut legal = true;
    let named = providers.issuers_of(section)?;
    let issuer = |Issuer { provider, introspector }: Issuer| {
        if !provider.introspection {
            return Issuer { provider, introspector: None };
        }
        introspects += 1;
        let introspector = own.cloned().or(introspector).filter(|client| client.client_secret.is_some());
        if introspector.is_none() {
            let wrong = Wrong::new(format!(
                "provider {} introspects, and there is no client with a `client_secret` to ask it with",
                quote(provider.name.as_str())
            ));
            section.cx.error(section.header(), wrong.hint("RFC 7662 2.1 wants every caller authenticated"));
            legal = false;
        }
        Issuer { provider, introspector }
    };
    let issuers: Vec<Issuer> = named.into_iter().map(issuer).collect();
    if introspects > 1 {
        let wrong = Wrong::new("several of these providers introspect, and an opaque token does not say whose it is");
        let hint = "showing it to the wrong one would give it away: make a route for each";
        section.cx.error(&section.at("providers"), wrong.hint(hint));
        legal = false;
    }
    legal.then_some(issuers)
}

/// `resource` (RFC 9728 1.2): the identifier as written, or the main public URL. It must be where the route is, because
/// that is where clients look for its metadata.
pub(super) fn resource(section: &Section<'_>, public_urls: &[Origin]) -> Option<String> {
    if !section.has("resource") {
        return public_urls.first().map(|url| url.text.clone());
    }
    section.parse("resource", |text| {
        let url = site(text).and_then(plain)?;
        super::prefix::judge_path(url.path().trim_end_matches('/'))?;
        let origin = Origin::of(&url)?;
        // Nothing to compare with when public_url is itself illegal.
        if public_urls.is_empty() || public_urls.contains(&origin) {
            return Ok(text.to_owned());
        }
        Err(Wrong::new(format!("{} is none of this route's public URLs", quote(&origin.text)))
            .hint("clients look for the metadata of a resource at its own host (RFC 9728 3)"))
    })
}

/// Where the metadata of `resource` are (RFC 9728 3.1): the well-known path, and then the resource's own.
#[must_use]
pub fn resource_metadata_path(resource: &str) -> String {
    let path = Url::parse(resource).map(|url| url.path().trim_end_matches('/').to_owned()).unwrap_or_default();
    format!("/.well-known/oauth-protected-resource{path}")
}

/// [`resource_metadata_path`] at the host of `resource`, for those who do not know it.
#[must_use]
pub fn resource_metadata_url(resource: &str) -> Option<String> {
    let origin = Url::parse(resource).ok()?.origin().ascii_serialization();
    Some(format!("{origin}{}", resource_metadata_path(resource)))
}
