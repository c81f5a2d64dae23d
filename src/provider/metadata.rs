//! What the provider says about itself (OpenID Connect Discovery 3, RFC 8414 2): read strictly where we depend on it,
//! leniently where we do not, and rewritten to the back channel where our own calls go there.

use std::net::IpAddr;

use serde_json::{Map, Value};
use url::{Host, Url};

use super::jwt::algorithm;
use crate::config::{self, SigningAlg};
use crate::web::strict_object;

/// Parameters of the authorization request that are ours; an endpoint that already names one would let two values
/// stand side by side (RFC 6749 3.1).
const OUR_PARAMETERS: [&str; 14] = [
    "response_type",
    "response_mode",
    "client_id",
    "redirect_uri",
    "scope",
    "state",
    "nonce",
    "code_challenge",
    "code_challenge_method",
    "prompt",
    "max_age",
    "acr_values",
    "request",
    "request_uri",
];

/// Verified metadata of one issuer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Metadata {
    /// Where browsers log in; public. May have a query, which is kept.
    pub authorization_endpoint: Url,
    /// Where codes and refresh tokens are exchanged; by the back channel.
    pub token_endpoint: Url,
    /// Where the keys are; by the back channel.
    pub jwks_uri: Url,
    /// Where claims are; by the back channel.
    pub userinfo_endpoint: Option<Url>,
    /// Where browsers log out; public.
    pub end_session_endpoint: Option<Url>,
    /// Where tokens are revoked; by the back channel.
    pub revocation_endpoint: Option<Url>,
    /// Where devices begin; public.
    pub device_authorization_endpoint: Option<Url>,
    /// Where opaque tokens are looked up; by the back channel.
    pub introspection_endpoint: Option<Url>,
    /// Where authorization requests are pushed (RFC 9126); by the back channel.
    pub pushed_authorization_request_endpoint: Option<Url>,
    /// Whether every authorization request must be pushed.
    pub require_pushed_authorization_requests: bool,
    /// `None`: it does not say, which means `client_secret_basic`.
    pub token_endpoint_auth_methods_supported: Option<Vec<String>>,
    /// Algorithms that both sides know; never empty.
    pub signing_algs: Vec<SigningAlg>,
    /// Whether every callback carries `iss` (RFC 9207 3).
    pub authorization_response_iss_parameter_supported: bool,
    /// The values of `prompt` that it knows (Initiating User Registration 1.0, 4.2); `None`: it does not say.
    pub prompt_values_supported: Option<Vec<String>>,
}

impl Metadata {
    /// Where the metadata of `provider` are (OpenID Connect Discovery 4).
    ///
    /// # Errors
    /// A base URL that is none, which the config does not let through.
    pub(super) fn location(provider: &config::Provider) -> Result<Url, String> {
        let base = provider.backchannel.as_deref().unwrap_or(&provider.issuer).trim_end_matches('/');
        Url::parse(&format!("{base}/.well-known/openid-configuration")).map_err(|_| "issuer is no URL".to_owned())
    }

    /// Reads and judges a metadata document.
    ///
    /// # Errors
    /// The rule that it breaks.
    pub(super) fn parse(body: &[u8], provider: &config::Provider) -> Result<Self, String> {
        let document = strict_object(body).map_err(|error| error.to_string())?;
        // Discovery 4.3: byte for byte, or another issuer could speak in this one's name.
        if document.get("issuer").and_then(Value::as_str) != Some(provider.issuer.as_str()) {
            return Err("issuer is not the configured one, byte for byte".to_owned());
        }
        let endpoints = Endpoints { document: &document, provider };
        let authorization_endpoint = endpoints.required("authorization_endpoint", Channel::Public)?;
        if let Some(ours) = authorization_endpoint.query_pairs().find(|(name, _)| OUR_PARAMETERS.contains(&&**name)) {
            return Err(format!("authorization_endpoint already has a parameter `{}`", super::error::escaped(&ours.0)));
        }
        let metadata = Self {
            authorization_endpoint,
            token_endpoint: endpoints.required("token_endpoint", Channel::Back)?,
            jwks_uri: endpoints.required("jwks_uri", Channel::Back)?,
            userinfo_endpoint: endpoints.optional("userinfo_endpoint", Channel::Back),
            end_session_endpoint: endpoints.optional("end_session_endpoint", Channel::Public),
            revocation_endpoint: endpoints.optional("revocation_endpoint", Channel::Back),
            device_authorization_endpoint: endpoints.optional("device_authorization_endpoint", Channel::Public),
            introspection_endpoint: endpoints.optional("introspection_endpoint", Channel::Back),
            pushed_authorization_request_endpoint: endpoints
                .optional("pushed_authorization_request_endpoint", Channel::Back),
            require_pushed_authorization_requests: is_true(&document, "require_pushed_authorization_requests"),
            token_endpoint_auth_methods_supported: strings(&document, "token_endpoint_auth_methods_supported"),
            signing_algs: signing_algs(&document, &provider.signing_algs)?,
            authorization_response_iss_parameter_supported: is_true(
                &document,
                "authorization_response_iss_parameter_supported",
            ),
            prompt_values_supported: strings(&document, "prompt_values_supported"),
        };
        if metadata.require_pushed_authorization_requests && metadata.pushed_authorization_request_endpoint.is_none() {
            return Err("it requires pushed authorization requests and has no endpoint for them".to_owned());
        }
        if strings(&document, "code_challenge_methods_supported").is_some_and(|methods| !names(&methods, "S256")) {
            tracing::warn!(provider = %provider.name, "provider does not announce S256; it is sent all the same");
        }
        Ok(metadata)
    }
}

/// Who calls an endpoint.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Channel {
    /// Browsers and devices.
    Public,
    /// We.
    Back,
}

struct Endpoints<'a> {
    document: &'a Map<String, Value>,
    provider: &'a config::Provider,
}

impl Endpoints<'_> {
    fn required(&self, name: &str, channel: Channel) -> Result<Url, String> {
        let text = self.document.get(name).and_then(Value::as_str).ok_or_else(|| format!("{name} is missing"))?;
        self.read(text, channel).map_err(|rule| format!("{name} {rule}"))
    }

    /// Providers send empty strings and worse for what they lack; such an endpoint is one that is not there.
    fn optional(&self, name: &str, channel: Channel) -> Option<Url> {
        let text = self.document.get(name).and_then(Value::as_str)?;
        let read = self.read(text, channel);
        if let Err(rule) = &read {
            tracing::warn!(provider = %self.provider.name, endpoint = name, rule, "endpoint is left out");
        }
        read.ok()
    }

    fn read(&self, text: &str, channel: Channel) -> Result<Url, &'static str> {
        let rewritten = (channel == Channel::Back).then(|| self.rewritten(text)).flatten();
        let url = Url::parse(rewritten.as_deref().unwrap_or(text)).map_err(|_| "is no URL")?;
        if !url.username().is_empty() || url.password().is_some() {
            return Err("has a user name");
        }
        if url.fragment().is_some() {
            return Err("has a fragment");
        }
        match url.scheme() {
            "https" => Ok(url),
            "http" if self.plain_text_allowed(&url, channel) => Ok(url),
            "http" => Err("is plain http"),
            _ => Err("is neither https nor http"),
        }
    }

    /// Plain http: on loopback, if the issuer itself is there; and along the back channel, if that is what it is.
    fn plain_text_allowed(&self, url: &Url, channel: Channel) -> bool {
        if self.provider.issuer.starts_with("http://") && is_loopback(url) {
            return true;
        }
        let back = self.provider.backchannel.as_deref();
        channel == Channel::Back && back.is_some_and(|base| below(url.as_str(), base).is_some())
    }

    /// The same endpoint along the back channel, if it is below the issuer.
    fn rewritten(&self, text: &str) -> Option<String> {
        let base = self.provider.backchannel.as_deref()?.trim_end_matches('/');
        Some(format!("{base}{}", below(text, &self.provider.issuer)?))
    }
}

/// What follows `base` in `url`, on a segment boundary.
fn below<'u>(url: &'u str, base: &str) -> Option<&'u str> {
    let rest = url.strip_prefix(base.trim_end_matches('/'))?;
    (rest.is_empty() || rest.starts_with(['/', '?'])).then_some(rest)
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        Some(Host::Ipv4(address)) => IpAddr::from(address).is_loopback(),
        Some(Host::Ipv6(address)) => IpAddr::from(address).is_loopback(),
        None => false,
    }
}

/// What both sides know; metadata only narrow the config's list (RFC 8725 3.1).
fn signing_algs(document: &Map<String, Value>, allowed: &[SigningAlg]) -> Result<Vec<SigningAlg>, String> {
    let Some(supported) = strings(document, "id_token_signing_alg_values_supported") else {
        return Ok(allowed.to_vec());
    };
    let supported: Vec<SigningAlg> = supported.iter().filter_map(|name| algorithm(name)).collect();
    let common: Vec<SigningAlg> = allowed.iter().copied().filter(|alg| supported.contains(alg)).collect();
    if common.is_empty() {
        return Err("id_token_signing_alg_values_supported has none of the allowed algorithms".to_owned());
    }
    Ok(common)
}

/// A list of strings; what is not a string is skipped, and what is no list is not there.
fn strings(document: &Map<String, Value>, name: &str) -> Option<Vec<String>> {
    let list = document.get(name)?.as_array()?;
    Some(list.iter().filter_map(Value::as_str).map(str::to_owned).collect())
}

fn names(list: &[String], wanted: &str) -> bool {
    list.iter().any(|name| name == wanted)
}

/// Some providers write booleans as strings.
fn is_true(document: &Map<String, Value>, name: &str) -> bool {
    match document.get(name) {
        Some(Value::Bool(value)) => *value,
        Some(Value::String(text)) => text == "true",
        _ => false,
    }
}
