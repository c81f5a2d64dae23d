//! Pushed authorization requests (RFC 9126), for providers that take no others: the request goes to the provider
//! directly, and the browser carries a reference to it.

use bytes::Bytes;
use http::Response;
use serde_json::Value;
use url::Url;

use super::error::escaped;
use super::transport::Operation;
use super::{Client, Error, Metadata, form};
use crate::web::strict_object;

impl Client {
    /// Pushes the request that `url` stands for. Returns the URL that refers to it (RFC 9126 4). There is no falling
    /// back to the whole URL: a request that was meant to be hidden is not shown instead.
    pub(super) async fn pushed(&self, metadata: &Metadata, url: &Url) -> Result<Url, Error> {
        let unfit = |rule: &str| Error::Unacceptable(format!("pushed authorization request: {rule}"));
        let endpoint = metadata.pushed_authorization_request_endpoint.as_ref();
        let endpoint = endpoint.ok_or_else(|| unfit("there is no endpoint for it"))?;
        let own = metadata.authorization_endpoint.query_pairs().count();
        let pairs: Vec<_> = url.query_pairs().skip(own).collect();
        let pairs: Vec<(&str, &str)> = pairs.iter().map(|(name, value)| (name.as_ref(), value.as_ref())).collect();
        let request = form::authenticated(&self.registration, metadata, endpoint, &pairs)?;
        let operation = Operation::PushedAuthorization;
        let answer = self.provider.transport.send(operation, request).await;
        let request_uri = request_uri(&answer.map_err(|failure| failure.into_error(operation))?)?;
        let mut short = metadata.authorization_endpoint.clone();
        short
            .query_pairs_mut()
            .append_pair("client_id", &self.registration.client_id)
            .append_pair("request_uri", &request_uri);
        Ok(short)
    }
}

/// `request_uri` of a 201 (RFC 9126 2.2), or the error of anything else (2.3).
fn request_uri(answer: &Response<Bytes>) -> Result<String, Error> {
    let unfit = |rule: &str| Error::Unacceptable(format!("pushed authorization request: {rule}"));
    let members = strict_object(answer.body()).map_err(|error| unfit(&error.to_string()))?;
    let text = |name: &str| members.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
    if !answer.status().is_success() {
        return Err(Error::Refused(escaped(text("error").unwrap_or("unknown"))));
    }
    text("request_uri").map(str::to_owned).ok_or_else(|| unfit("request_uri is missing"))
}
