//! What ends at this hop: headers that speak about one connection only (RFC 9110 7.6.1), both ways.

use http::header::{CONNECTION, HeaderMap, HeaderName};

/// Whether a header is always between two neighbours.
pub(super) fn is_hop(name: &str) -> bool {
    matches!(
        name,
        "connection"
            | "keep-alive"
            | "proxy-authenticate"
            | "proxy-authorization"
            | "proxy-connection"
            | "te"
            | "transfer-encoding"
            | "upgrade"
    )
}

/// Removes what `Connection` names, and every header that `falls`, as `connection` itself has to. Must run before any
/// header of ours is added, or `Connection: authorization` could take it away again.
pub(super) fn sweep(headers: &mut HeaderMap, falls: impl Fn(&str) -> bool) {
    // One look at each name: most heads have next to nothing to remove, and nothing is looked up for the rest.
    let mut fallen: Vec<HeaderName> = headers.keys().filter(|name| falls(name.as_str())).cloned().collect();
    if fallen.contains(&CONNECTION) {
        fallen.extend(named(headers));
    }
    for name in fallen {
        headers.remove(name);
    }
}

/// The names in `Connection`. Members that can be no header name are nobody's.
fn named(headers: &HeaderMap) -> impl Iterator<Item = HeaderName> {
    let members = headers.get_all(CONNECTION).iter().flat_map(|value| value.as_bytes().split(|byte| *byte == b','));
    members
        .map(<[u8]>::trim_ascii)
        .filter(|member| !member.eq_ignore_ascii_case(b"close") && !member.eq_ignore_ascii_case(b"keep-alive"))
        .filter_map(|member| HeaderName::from_bytes(member).ok())
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
        sweep(&mut headers, is_hop);
        let left: Vec<&str> = headers.keys().map(HeaderName::as_str).collect();
        assert_eq!(left, ["x-four"]);
    }
}
