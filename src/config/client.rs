//! Our registration at a provider: the client's side of `[providers.NAME]`, or of a route that brings its own.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use toml::de::DeValue;

use super::report::{Wrong, quote};
use super::section::Section;
use super::{Provider, Secret};

/// Our registration at a provider: what `client_id` stands for there. A client is (issuer, registration).
#[derive(Debug, PartialEq, Eq)]
pub struct Client {
    /// The issuer.
    pub provider: Arc<Provider>,
    /// `client_id` (RFC 6749 2.2).
    pub client_id: String,
    /// `client_secret`; absent for a public client.
    pub client_secret: Option<Secret>,
    /// `token_endpoint_auth_method`; absent: what the metadata allows, `client_secret_basic` first.
    pub token_endpoint_auth_method: Option<AuthMethod>,
    /// Scopes asked for; always contains `openid`.
    pub scopes: Vec<String>,
    /// Further parameters of the authorization request, never one that we set ourselves.
    pub authorization_params: BTreeMap<String, String>,
    /// Query parameters of `login/start` that go on to the provider, and which values of each.
    pub forwarded_params: BTreeMap<String, Forwarded>,
    /// What to do about the userinfo endpoint at login.
    pub userinfo: Userinfo,
    /// Audiences allowed in an ID token beside `client_id` (OpenID Connect Core 3.1.3.7 (3)).
    pub additional_audiences: Vec<String>,
    /// Whether `id_token_hint` accompanies the redirect to end-session. Default true.
    pub id_token_hint: bool,
    /// Whether the ID token must carry `at_hash`. Default false: checked when present.
    pub require_at_hash: bool,
}

/// Which values of a query parameter go on to the provider.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Forwarded {
    /// Whatever it is, unless another site made the link.
    Any,
    /// One of these, whoever made the link.
    Listed(BTreeSet<String>),
}

/// `token_endpoint_auth_method` (RFC 7591 2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuthMethod {
    /// HTTP Basic, both parts form-encoded first (RFC 6749 2.3.1).
    ClientSecretBasic,
    /// In the request body.
    ClientSecretPost,
    /// Public client.
    None,
}

/// `userinfo`: whether the login asks the userinfo endpoint after the ID token was validated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Userinfo {
    /// Required when the provider has the endpoint and scopes beyond `openid` are asked for (the default).
    Auto,
    /// Never asked.
    Off,
    /// A login without it fails.
    Required,
}

/// Parameters of an authorization request that are ours to set; a second one would decide who is right.
const OURS: &[&str] = &[
    "claims",
    "client_assertion",
    "client_assertion_type",
    "client_id",
    "client_secret",
    "code_challenge",
    "code_challenge_method",
    "nonce",
    "redirect_uri",
    "request",
    "request_uri",
    "response_mode",
    "response_type",
    "scope",
    "state",
];

/// What every provider understands, and front ends expect to pass on.
const USUALLY_FORWARDED: [&str; 3] = ["prompt", "login_hint", "ui_locales"];

impl Client {
    /// The client that `section` describes at `provider`. The section has a `client_id`.
    pub(super) fn resolve(provider: Option<Arc<Provider>>, section: &Section<'_>) -> Option<Self> {
        let client_id = section.parse("client_id", |text| match text {
            "" => Err(Wrong::new("this client id is empty")),
            text => Ok(text.to_owned()),
        });
        let client_secret = section.secret("client_secret");
        let method =
            section.optional("token_endpoint_auth_method", |section, name| section.choice(name, AuthMethod::named));
        match_secret(section, method.flatten());
        let scopes = scopes(section);
        let authorization_params = authorization_params(section);
        let forwarded_params = forwarded_params(section);
        let userinfo = section.choice("userinfo", Userinfo::named);
        if userinfo == Some(Userinfo::Off) {
            let wrong = Wrong::new("claims that the provider shows at its userinfo endpoint only are not seen");
            section.cx.weaker(&section.at("userinfo"), wrong);
        }
        let additional_audiences = section.list("additional_audiences", |text| Ok(text.to_owned()));
        if additional_audiences.iter().flatten().next().is_some() {
            let wrong = Wrong::new("ID tokens are accepted that are meant for others too");
            section.cx.weaker(&section.at("additional_audiences"), wrong);
        }
        let id_token_hint = section.bool("id_token_hint");
        let require_at_hash = section.bool("require_at_hash");
        Some(Self {
            provider: provider?,
            client_id: client_id?,
            client_secret: client_secret?,
            token_endpoint_auth_method: method?,
            scopes: scopes?,
            authorization_params: authorization_params?,
            forwarded_params: forwarded_params?,
            userinfo: userinfo?,
            additional_audiences: additional_audiences?,
            id_token_hint: id_token_hint?,
            require_at_hash: require_at_hash?,
        })
    }
}

/// A method that uses a secret needs one, and the other way round.
fn match_secret(section: &Section<'_>, method: Option<AuthMethod>) {
    let wrong = match (method, section.has("client_secret")) {
        (Some(AuthMethod::None), true) => {
            Wrong::new("a client that has a secret must use it").hint("drop `client_secret`, or this line")
        }
        (Some(AuthMethod::ClientSecretBasic | AuthMethod::ClientSecretPost), false) => {
            Wrong::new("this method needs a `client_secret`").hint("`\"none\"` is for public clients")
        }
        _ => return,
    };
    section.cx.error(&section.at("token_endpoint_auth_method"), wrong);
}

/// A scope token (RFC 6749 3.3).
pub(super) fn scope(text: &str) -> Result<String, Wrong> {
    let legal = |byte: u8| matches!(byte, 0x21 | 0x23..=0x5b | 0x5d..=0x7e);
    if text.is_empty() || !text.bytes().all(legal) {
        return Err(Wrong::new(format!("{} is no scope", quote(text))).hint("one scope is one string of the list"));
    }
    Ok(text.to_owned())
}

/// Scopes to ask for, `openid` among them.
fn scopes(section: &Section<'_>) -> Option<Vec<String>> {
    let scopes = section.list("scopes", scope)?;
    if !scopes.iter().any(|scope| scope == "openid") {
        let wrong =
            Wrong::new("`openid` is not among the scopes").hint("without it there is no ID token, and so no login");
        section.cx.error(&section.at("scopes"), wrong);
        return None;
    }
    Some(scopes)
}

fn authorization_params(section: &Section<'_>) -> Option<BTreeMap<String, String>> {
    let mut params = BTreeMap::new();
    let mut legal = true;
    for (name, at, value) in section.entries("authorization_params") {
        if OURS.contains(&name.as_str()) {
            let wrong = Wrong::new(format!("{} is set by Vestibule", quote(&name)));
            let hint = match name.as_str() {
                "scope" => "use `scopes`",
                "redirect_uri" => "use `redirect_uri` of the route",
                _ => "leave it out",
            };
            section.cx.error(&at, wrong.hint(hint));
            legal = false;
        }
        params.insert(name, value.as_str()?.to_owned());
    }
    legal.then_some(params)
}

/// Parameters whose value the answer is held to, so that who asks cannot choose it.
const ENFORCED: &[&str] = &["acr_values", "max_age"];

/// What `login/start` says of its own, beside the parameters for the provider.
const OF_LOGIN_START: &[&str] = &["redirect", "failure", "provider"];

fn forwarded_params(section: &Section<'_>) -> Option<BTreeMap<String, Forwarded>> {
    let mut params: BTreeMap<String, Forwarded> =
        USUALLY_FORWARDED.map(|name| (name.to_owned(), Forwarded::Any)).into();
    let mut legal = true;
    for (name, at, value) in section.entries("forwarded_params") {
        let hint = match name.as_str() {
            "scope" => Some("use `scopes`"),
            name if ENFORCED.contains(&name) => {
                Some("use `acr_values` and `max_age` of a path, or `authorization_params`")
            }
            name if OURS.contains(&name) || OF_LOGIN_START.contains(&name) => Some("leave it out"),
            _ => None,
        };
        let values: BTreeSet<String> = match value {
            DeValue::Array(values) => {
                values.iter().filter_map(|value| value.get_ref().as_str()).map(str::to_owned).collect()
            }
            single => single.as_str().map(str::to_owned).into_iter().collect(),
        };
        if let Some(hint) = hint {
            section.cx.error(&at, Wrong::new(format!("{} is not for links to decide", quote(&name))).hint(hint));
            legal = false;
        } else if values.len() > 1 && values.contains("*") {
            section
                .cx
                .error(&at, Wrong::new("`*` is every value: the others mean nothing").hint("keep one of both"));
            legal = false;
        }
        let forwarded = if values.contains("*") { Forwarded::Any } else { Forwarded::Listed(values) };
        params.insert(name, forwarded);
    }
    legal.then_some(params)
}

impl AuthMethod {
    fn named(text: &str) -> Option<Self> {
        match text {
            "client_secret_basic" => Some(Self::ClientSecretBasic),
            "client_secret_post" => Some(Self::ClientSecretPost),
            "none" => Some(Self::None),
            _ => None,
        }
    }
}

impl Userinfo {
    fn named(text: &str) -> Option<Self> {
        match text {
            "auto" => Some(Self::Auto),
            "off" => Some(Self::Off),
            "required" => Some(Self::Required),
            _ => None,
        }
    }
}
