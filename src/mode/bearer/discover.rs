//! How clients find their way by themselves: where a CLI begins (RFC 8628), and what protects this resource (RFC 9728).

use http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_REQUEST_HEADERS, CONTENT_TYPE,
};
use http::{HeaderValue, Method, Response, StatusCode};
use serde_json::{Map, Value, json};

use super::Bearer;
use crate::config::{self, Mode};
use crate::error::{Reason, Refusal};
use crate::mode::{Call, json};
use crate::web::Body;

impl Bearer {
    /// `login/start`: where the CLI begins, and as whom. It polls and keeps its tokens itself.
    pub(super) async fn login_start(&self, call: &Call) -> Result<Response<Body>, Refusal> {
        let client = self.device.as_ref().ok_or_else(|| Refusal::new(Reason::NotFound))?;
        if !matches!(call.head.method, Method::GET | Method::POST) {
            return Err(Refusal::method("GET, POST"));
        }
        let metadata = client.provider.metadata().await?;
        let Some(endpoint) = &metadata.device_authorization_endpoint else {
            let provider = &client.provider.config().name;
            let why = format!("the metadata of provider {provider} have no device_authorization_endpoint");
            return Err(Refusal::new(Reason::NoDeviceEndpoint).because(why));
        };
        Ok(json(&json!({
            "device_authorization_endpoint": endpoint.as_str(),
            "issuer": client.provider.config().issuer,
            "client_id": client.registration.client_id,
            "server_time": call.now.rfc3339(),
        })))
    }

    /// The metadata of the resource. Anybody may read them, from any page: they are what a stranger needs to log in.
    pub(super) fn protected_resource(&self, call: &Call) -> Result<Response<Body>, Refusal> {
        let mut response = match call.head.method {
            Method::GET | Method::HEAD => Response::new(Body::from(self.metadata.clone())),
            Method::OPTIONS => {
                let mut preflight = Response::new(Body::Empty);
                *preflight.status_mut() = StatusCode::NO_CONTENT;
                let headers = preflight.headers_mut();
                headers.insert(ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("GET, HEAD"));
                if let Some(requested) = call.head.headers.get(ACCESS_CONTROL_REQUEST_HEADERS) {
                    headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, requested.clone());
                }
                preflight
            }
            _ => return Err(Refusal::method("GET, HEAD, OPTIONS")),
        };
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
        Ok(response)
    }
}

/// The document of RFC 9728 2.
pub(super) fn metadata(route: &config::Route) -> String {
    let issuers: Vec<&str> = match &route.mode {
        Mode::AuthCode(_) => Vec::new(),
        Mode::Device(device) => vec![device.client.provider.issuer.as_str()],
        // Of an issuer without metadata a client could not learn where to ask for a token.
        Mode::Verify(verify) => verify
            .bearer
            .issuers
            .iter()
            .filter(|issuer| issuer.provider.jwks_uri.is_none())
            .map(|issuer| issuer.provider.issuer.as_str())
            .collect(),
    };
    let scopes = route.mode.bearer().map_or(&[][..], |bearer| &bearer.required_scopes);
    let mut document = Map::new();
    let mut set = |name: &str, value: Value| document.insert(name.to_owned(), value);
    set("resource", json!(route.mode.resource()));
    set("resource_name", json!(route.name.as_str()));
    set("bearer_methods_supported", json!(["header"]));
    // 2: members with no values are left out.
    if !issuers.is_empty() {
        set("authorization_servers", json!(issuers));
    }
    if !scopes.is_empty() {
        set("scopes_supported", json!(scopes));
    }
    Value::Object(document).to_string()
}
