//! Who is registered at the development provider, and how they authenticate themselves at its endpoints.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::{AUTHORIZATION, HeaderMap};
use url::form_urlencoded;

use super::call::Call;
use super::journal::Authentication;

/// A registration (RFC 7591 2).
#[derive(Clone, Debug)]
pub struct Client {
    /// `client_id`.
    pub id: String,
    /// `client_secret`; a public client has none.
    pub secret: Option<String>,
    /// How the client may authenticate itself; a public client with [`Authentication::None`] only.
    pub methods: Vec<Authentication>,
    /// `redirect_uris`, compared byte for byte.
    pub redirect_uris: Vec<String>,
    /// `post_logout_redirect_uris`, compared byte for byte.
    pub post_logout_redirect_uris: Vec<String>,
    /// Whether it may use the device flow (RFC 8628).
    pub device_flow: bool,
    /// Whether its access tokens are opaque: only introspection tells what they are good for.
    pub opaque_tokens: bool,
}

impl Client {
    /// A confidential client that may send its secret either way.
    #[must_use]
    pub fn confidential(id: &str, secret: &str) -> Self {
        Self {
            id: id.to_owned(),
            secret: Some(secret.to_owned()),
            methods: vec![Authentication::Basic, Authentication::Post],
            redirect_uris: Vec::new(),
            post_logout_redirect_uris: Vec::new(),
            device_flow: false,
            opaque_tokens: false,
        }
    }

    /// A public client.
    #[must_use]
    pub fn public(id: &str) -> Self {
        Self { secret: None, methods: vec![Authentication::None], ..Self::confidential(id, "") }
    }

    /// One more redirect URI.
    #[must_use]
    pub fn redirect_uri(mut self, uri: &str) -> Self {
        self.redirect_uris.push(uri.to_owned());
        self
    }

    /// One more post-logout redirect URI.
    #[must_use]
    pub fn post_logout_redirect_uri(mut self, uri: &str) -> Self {
        self.post_logout_redirect_uris.push(uri.to_owned());
        self
    }

    /// With the device flow.
    #[must_use]
    pub const fn with_device_flow(mut self) -> Self {
        self.device_flow = true;
        self
    }

    /// With opaque access tokens.
    #[must_use]
    pub const fn with_opaque_tokens(mut self) -> Self {
        self.opaque_tokens = true;
        self
    }

    /// Only these ways to authenticate.
    #[must_use]
    pub fn only(mut self, methods: &[Authentication]) -> Self {
        self.methods = methods.to_vec();
        self
    }
}

/// How a request authenticates itself, judged by what is there.
pub(super) fn method_of(headers: &HeaderMap, form_has_secret: bool) -> Authentication {
    let scheme = headers
        .get(AUTHORIZATION)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.split_once(' '))
        .map(|(scheme, _)| scheme.to_ascii_lowercase());
    match scheme.as_deref() {
        Some("basic") => Authentication::Basic,
        Some("bearer") => Authentication::Bearer,
        _ if form_has_secret => Authentication::Post,
        _ => Authentication::None,
    }
}

/// The client that sends `call`; `None` is `invalid_client` (RFC 6749 5.2). Two ways at once are one too many
/// (RFC 6749 2.3).
pub(super) fn authenticate<'a>(clients: &'a [Client], call: &Call) -> Option<&'a Client> {
    let in_form = call.form("client_secret");
    let (id, secret) = match call.authentication {
        Authentication::Basic if in_form.is_some() => return None,
        Authentication::Basic => basic(&call.headers)?,
        Authentication::Post => (call.form("client_id")?.to_owned(), in_form?.to_owned()),
        Authentication::None => (call.form("client_id")?.to_owned(), String::new()),
        Authentication::Bearer => return None,
    };
    let client = clients.iter().find(|client| client.id == id)?;
    let right = match &client.secret {
        Some(expected) => *expected == secret && call.authentication != Authentication::None,
        None => call.authentication == Authentication::None,
    };
    (right && client.methods.contains(&call.authentication)).then_some(client)
}

/// Name and password of HTTP Basic, each form-encoded (RFC 6749 2.3.1).
fn basic(headers: &HeaderMap) -> Option<(String, String)> {
    let (_, encoded) = headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    let decoded = String::from_utf8(STANDARD.decode(encoded).ok()?).ok()?;
    let (id, secret) = decoded.split_once(':')?;
    Some((form_decode(id)?, form_decode(secret)?))
}

/// One form-encoded text; `None` when it holds separators that an encoder would have escaped.
fn form_decode(text: &str) -> Option<String> {
    if text.contains(['&', '=']) {
        return None;
    }
    Some(form_urlencoded::parse(text.as_bytes()).next().map(|(key, _)| key.into_owned()).unwrap_or_default())
}
