//! What ends at this hop: headers that speak about one connection only (RFC 9110 7.6.1), both ways.

use http::header::{
    CONNECTION, HeaderMap, HeaderName, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, TE, TRANSFER_ENCODING, UPGRADE,
};

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");

/// Removes what `Connection` names and what is always between two neighbours. Must run before any header of ours is
/// added, or `Connection: authorization` could take it away again.
pub(super) fn strip(headers: &mut HeaderMap) {
    for name in named(headers) {
        headers.remove(name);
    }
    for name in [
        CONNECTION,
        KEEP_ALIVE,
        PROXY_AUTHENTICATE,
        PROXY_AUTHORIZATION,
        PROXY_CONNECTION,
        TE,
        TRANSFER_ENCODING,
        UPGRADE,
    ] {
        headers.remove(name);
    }
}

/// The names in `Connection`. Members that can be no header name are nobody's.
fn named(headers: &HeaderMap) -> Vec<HeaderName> {
    let members = headers.get_all(CONNECTION).iter().flat_map(|value| value.as_bytes().split(|byte| *byte == b','));
    members
        .map(<[u8]>::trim_ascii)
        .filter(|member| !member.eq_ignore_ascii_case(b"close") && !member.eq_ignore_ascii_case(b"keep-alive"))
        .filter_map(|member| HeaderName::from_bytes(member).ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn px_6_removes_what_connection_names_in_any_header_line_and_case() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("connection", "close, X-One ,"),
            ("connection", "x-two;q=1, \u{7f}, x-three"),
            ("x-one", "1"),
            ("x-three", "3"),
            ("x-three", "3 again"),
            ("x-four", "4"),
            ("te", "trailers"),
            ("keep-alive", "timeout=5"),
            ("proxy-connection", "keep-alive"),
            ("proxy-authorization", "Basic x"),
            ("transfer-encoding", "chunked"),
            ("upgrade", "h2c"),
        ] {
            if let Ok(value) = HeaderValue::from_str(value) {
                headers.append(name, value);
            }
        }
        headers.append("connection", HeaderValue::from_static("x-three"));
        strip(&mut headers);
        let left: Vec<&str> = headers.keys().map(HeaderName::as_str).collect();
        assert_eq!(left, ["x-four"]);
    }
}
