//! Authenticated form requests to endpoints that `openidconnect` does not cover: revocation, which it sends over https
//! only (the back channel may be plain http), and pushed authorization requests.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderValue, Request};
use url::Url;
use url::form_urlencoded::{Serializer, byte_serialize};

use super::{Error, Metadata, protocol};
use crate::config::{self, AuthMethod};

/// A POST of `parameters` to `endpoint` that authenticates the client as the token endpoint would have it
/// (RFC 7009 2.1, RFC 9126 2).
///
/// # Errors
/// [`Error::Unacceptable`] when the provider offers no way to authenticate us.
pub(super) fn authenticated(
    registration: &config::Client,
    metadata: &Metadata,
    endpoint: &Url,
    parameters: &[(&str, &str)],
) -> Result<Request<Bytes>, Error> {
    let mut body = Serializer::new(String::new());
    body.extend_pairs(parameters);
    let named = parameters.iter().any(|(name, _)| *name == "client_id");
    let mut request = Request::post(endpoint.as_str())
        .header(CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
    let id = registration.client_id.as_str();
    let secret = registration.client_secret.as_ref().map(|secret| secret.expose());
    match (protocol::auth_method(registration, metadata)?, secret) {
        (AuthMethod::ClientSecretBasic, Some(secret)) => {
            // RFC 6749 2.3.1: both parts are form-encoded before they are joined, unlike in ordinary Basic.
            let pair: String =
                byte_serialize(id.as_bytes()).chain([":"]).chain(byte_serialize(secret.as_bytes())).collect();
            let value = HeaderValue::try_from(format!("Basic {}", STANDARD.encode(pair)));
            let mut value = value.map_err(|_| Error::Unacceptable("credentials do not fit a header".to_owned()))?;
            value.set_sensitive(true);
            request = request.header(AUTHORIZATION, value);
        }
        (AuthMethod::ClientSecretPost, Some(secret)) => {
            if !named {
                body.append_pair("client_id", id);
            }
            body.append_pair("client_secret", secret);
        }
        _ if named => {}
        _ => {
            body.append_pair("client_id", id);
        }
    }
    let odd = |_| Error::Unacceptable("an endpoint is no URL".to_owned());
    request.body(Bytes::from(body.finish())).map_err(odd)
}
