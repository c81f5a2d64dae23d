//! What an upstream is told, header by header.

use std::sync::Arc;
use std::time::Duration;

use http::Request;

use super::*;
use crate::config::Name;

fn destination(base_path: &str, host: UpstreamHost) -> Destination {
    destination_of(Target::Http("inner.example:8080".parse().unwrap()), base_path, host)
}

fn destination_of(target: Target, base_path: &str, host: UpstreamHost) -> Destination {
    Destination::new(&Upstream {
        name: Name::parse("api").unwrap(),
        target,
        base_path: base_path.to_owned(),
        host,
        ca: None,
        connect_timeout: Duration::from_secs(1),
        response_timeout: Duration::from_secs(1),
        idle_timeout: Duration::from_secs(1),
    })
}

fn head(uri: &str, headers: &[(&str, &str)]) -> request::Parts {
    let mut head = Request::builder().uri(uri).body(()).unwrap().into_parts().0;
    for (name, value) in headers {
        head.headers.append(HeaderName::from_bytes(name.as_bytes()).unwrap(), value.parse().unwrap());
    }
    head
}

fn value(text: &'static str) -> HeaderValue {
    HeaderValue::from_static(text)
}

fn passage() -> Passage {
    Passage {
        authorization: Some(value("Bearer ours")),
        identity: vec![(HeaderName::from_static("x-auth-user"), value("alice"))],
        owned: Arc::from([HeaderName::from_static("x-auth-user"), HeaderName::from_static("tenant")]),
        forwarded_for: Some(value("203.0.113.7, 2001:db8::1")),
        forwarded_proto: "https",
        forwarded_host: Some(value("app.example.com")),
        ..Passage::default()
    }
}

/// The headers that leave, in no order.
fn sent(headers: &[(&str, &str)], passage: Passage) -> Vec<String> {
    let mut head = head("/api/x", headers);
    destination("", UpstreamHost::Upstream).rewrite(&mut head, passage).unwrap();
    let line = |(name, value): (&HeaderName, &HeaderValue)| format!("{name}: {}", value.to_str().unwrap());
    let mut lines: Vec<String> = head.headers.iter().map(line).collect();
    lines.sort();
    lines
}

const OURS: [&str; 7] = [
    "authorization: Bearer ours",
    "forwarded: for=203.0.113.7, for=\"[2001:db8::1]\";host=\"app.example.com\";proto=https",
    "host: inner.example:8080",
    "x-auth-user: alice",
    "x-forwarded-for: 203.0.113.7, 2001:db8::1",
    "x-forwarded-host: app.example.com",
    "x-forwarded-proto: https",
];

#[test]
fn px_5_client_credentials_and_our_cookies_stay_behind() {
    let client = [
        ("authorization", "Bearer theirs"),
        ("proxy-authorization", "Basic x"),
        ("dpop", "proof"),
        ("cookie", "__Host-Http-vestibule-web=secret"),
    ];
    assert_eq!(sent(&client, passage()), OURS);
}

#[test]
fn px_6_h08_connection_cannot_name_our_headers_away() {
    let client = [("connection", "close, Authorization, X-Forwarded-For, Cookie, X-Auth-User, Host, Forwarded")];
    assert_eq!(sent(&client, passage()), OURS);
}

#[test]
fn px_7_h01_to_h04_identity_is_dropped_in_every_spelling() {
    for name in [
        "X_Auth_User",
        "X.Auth.User",
        "x-auth_user",
        "X-AUTH-USER",
        "x.auth-user",
        "X-Auth-Zzz",
        "X_auth_groups",
        "Tenant",
        "Vestibule-User",
        "vestibule_email",
        "Remote-User",
        "remote_groups",
    ] {
        let client = [(name, "evil"), (name, "evil"), (name, "evil")];
        assert_eq!(sent(&client, passage()), OURS, "{name}");
    }
}

#[test]
fn px_7_names_that_only_resemble_are_kept() {
    for name in ["x-auth", "tenants", "x-tenant", "my-x-auth-user", "remotely", "x-forwarded"] {
        let kept = sent(&[(name, "1")], passage());
        assert!(kept.contains(&format!("{name}: 1")), "{name} {kept:?}");
    }
    // A rule that tells who calls by other names leaves APIs their tokens, and one that tells nothing leaves all.
    let tenant = || Passage { owned: Arc::from([HeaderName::from_static("tenant")]), ..Passage::default() };
    assert!(sent(&[("x-auth-token", "1")], tenant()).contains(&"x-auth-token: 1".to_owned()));
    assert!(!sent(&[("x-auth-request-user", "1")], tenant()).contains(&"x-auth-request-user: 1".to_owned()));
    assert!(sent(&[("remote-user", "1")], Passage::default()).contains(&"remote-user: 1".to_owned()));
}

#[test]
fn px_8_h07_h10_h23_claims_about_origin_and_method_are_dropped_and_rebuilt() {
    for name in [
        "X-Forwarded-For",
        "X_Forwarded_For",
        "X-Forwarded-Proto",
        "X-Forwarded-Host",
        "X-Forwarded-Port",
        "X-Forwarded-Prefix",
        "X-Forwarded-Uri",
        "X-Forwarded-Method",
        "X.Forwarded.Server",
        "Forwarded",
        "X-Real-IP",
        "X-Original-URL",
        "X-Rewrite-URL",
        "X-HTTP-Method-Override",
        "X_Http_Method_Override",
    ] {
        assert_eq!(sent(&[(name, "evil")], passage()), OURS, "{name}");
    }
    let unknown = Passage { authorization: None, ..Passage::default() };
    assert_eq!(sent(&[("forwarded", "for=evil"), ("x-forwarded-for", "evil")], unknown), ["host: inner.example:8080"]);
}

#[test]
fn authorization_of_the_client_stays_only_where_the_rule_says_so() {
    let client = [("authorization", "Bearer theirs"), ("dpop", "proof"), ("proxy-authorization", "Basic x")];
    let keep = Passage { keep_authorization: true, ..Passage::default() };
    assert_eq!(sent(&client, keep), ["authorization: Bearer theirs", "dpop: proof", "host: inner.example:8080"]);
    assert_eq!(sent(&client, Passage::default()), ["host: inner.example:8080"]);
}

#[test]
fn in_5_expectations_and_trailers_end_here() {
    let client = [("expect", "100-continue"), ("te", "trailers"), ("trailer", "x-sum"), ("accept", "*/*")];
    assert_eq!(sent(&client, Passage::default()), ["accept: */*", "host: inner.example:8080"]);
}

fn target(base_path: &str, asked: &str, strip: Option<&str>) -> Result<String, Reason> {
    let mut head = head(asked, &[]);
    let passage = Passage { strip_prefix: strip.map(str::to_owned), ..Passage::default() };
    let rewritten = destination(base_path, UpstreamHost::Upstream).rewrite(&mut head, passage);
    rewritten.map(|_| head.uri.to_string()).map_err(|refusal| refusal.reason)
}

#[test]
fn px_9_px_11_authority_is_the_configs_and_path_and_query_stay_byte_for_byte() {
    let base = "http://inner.example:8080";
    for raw in ["/api/a%2Fb/%2e%2e/c;d=1//e?q=%26&redirect=https://x/?y", "//evil.example/x", "/api?", "/"] {
        assert_eq!(target("", raw, None).unwrap(), format!("{base}{raw}"));
    }
    assert_eq!(target("", "http://evil.example/api/x?y", None).unwrap(), format!("{base}/api/x?y"));
    assert_eq!(target("/v2", "/api/x?y=%20", None).unwrap(), format!("{base}/v2/api/x?y=%20"));
    assert_eq!(target("/v2", "/api/x?y", Some("/api")).unwrap(), format!("{base}/v2/x?y"));
    assert_eq!(target("", "/api/%41?y", Some("/api")).unwrap(), format!("{base}/%41?y"));
    assert_eq!(target("", "/api", Some("/api")).unwrap(), format!("{base}/"));
    assert_eq!(target("", "/api?y", Some("/api")).unwrap(), format!("{base}/?y"));
    assert_eq!(target("/v2", "/api?y", Some("/api")).unwrap(), format!("{base}/v2/?y"));
    for other in ["/%61pi/x", "/apix", "//api/x", "/API/x"] {
        assert_eq!(target("", other, Some("/api")), Err(Reason::AmbiguousPath), "{other}");
    }
    assert_eq!(target("", "*", None), Err(Reason::BadRequest));
}

#[test]
fn px_10_no_path_climbs_out_of_the_upstreams_own() {
    for path in ["/../admin", "/x/%2e%2E/admin", "/..%2fadmin", "/..%5cadmin", "/x/..;a=b/admin", "/%2e./admin?q=1"] {
        assert_eq!(target("/inner", path, None), Err(Reason::AmbiguousPath), "{path}");
        assert!(target("", path, None).is_ok(), "{path}");
    }
    for path in ["/a%2Fb//c", "/...", "/x..y/..z", "/?q=/../x"] {
        assert!(target("/inner", path, None).is_ok(), "{path}");
    }
}

#[test]
fn a_cut_prefix_is_told_and_host_follows_the_config() {
    let mut asked = head("/api/x", &[("host", "app.example.com"), ("x-forwarded-prefix", "/evil")]);
    let told = Passage { strip_prefix: Some("/api".to_owned()), ..passage() };
    destination("", UpstreamHost::Client).rewrite(&mut asked, told).unwrap();
    assert_eq!(asked.headers["x-forwarded-prefix"], "/api");
    assert_eq!(asked.headers["host"], "app.example.com");
}

/// Whether `headers` ask for a WebSocket, and what is sent.
fn upgrade(destination: &Destination, headers: &[(&str, &str)]) -> Result<(bool, HeaderMap), Reason> {
    let mut head = head("/api/x", headers);
    let asked = destination.rewrite(&mut head, Passage::default()).map_err(|refusal| refusal.reason)?;
    Ok((asked, head.headers))
}

#[test]
fn px_19_a_websocket_is_asked_for_on_both_hops_and_nothing_else_is() {
    let to = destination("", UpstreamHost::Upstream);
    let handshake = [
        ("connection", "keep-alive, X-Inner, upgrade"),
        ("x-inner", "1"),
        ("upgrade", "WebSocket"),
        ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ("sec-websocket-version", "13"),
        ("sec-websocket-protocol", "chat"),
    ];
    let (asked, sent) = upgrade(&to, &handshake).unwrap();
    assert!(asked);
    let sent: Vec<_> = ["connection", "upgrade", "sec-websocket-protocol"].map(|name| &sent[name]).into();
    assert_eq!(sent, ["Upgrade", "websocket", "chat"]);
    for (protocol, reason) in [("spdy/3.1", Reason::UpgradeUnsupported), ("h2c, tcp", Reason::UpgradeUnsupported)] {
        assert_eq!(upgrade(&to, &[("connection", "upgrade"), ("upgrade", protocol)]), Err(reason), "{protocol}");
    }
    let (connection, websocket) = (("connection", "upgrade"), ("upgrade", "websocket"));
    assert_eq!(upgrade(&to, &[connection, websocket]), Err(Reason::BadRequest));
    let key = ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==");
    assert_eq!(upgrade(&to, &[connection, websocket, key, key]), Err(Reason::BadRequest));
    // What Connection does not name is no upgrade (RFC 9110 7.8), and what clients offer everywhere is declined.
    for ordinary in [
        &[websocket, key][..],
        &[("connection", "Upgrade, HTTP2-Settings"), ("upgrade", "h2c"), ("http2-settings", "AAM")],
    ] {
        let (asked, sent) = upgrade(&to, ordinary).unwrap();
        assert!(!asked && !sent.contains_key("upgrade") && !sent.contains_key("connection"), "{sent:?}");
    }
}

#[test]
fn http_2_has_the_host_in_its_target_and_no_websocket() {
    let to = destination_of(Target::H2c("inner.example:8080".parse().unwrap()), "/v2", UpstreamHost::Client);
    let mut asked = head("/api/x?y", &[("host", "app.example.com")]);
    to.rewrite(&mut asked, passage()).unwrap();
    assert_eq!(asked.uri, "http://app.example.com/v2/api/x?y");
    assert!(!asked.headers.contains_key("host"));
    let handshake = [("connection", "upgrade"), ("upgrade", "websocket"), ("sec-websocket-key", "x")];
    assert_eq!(upgrade(&to, &handshake), Err(Reason::UpgradeUnsupported));
    let own = destination_of(Target::H2c("inner.example:8080".parse().unwrap()), "", UpstreamHost::Upstream);
    let mut asked = head("/api/x", &[("host", "app.example.com")]);
    own.rewrite(&mut asked, passage()).unwrap();
    assert_eq!(asked.uri, "http://inner.example:8080/api/x");
}

#[test]
fn a_socket_is_told_the_sites_host_or_that_it_is_local() {
    for (host, told) in [(UpstreamHost::Client, "app.example.com"), (UpstreamHost::Upstream, "localhost")] {
        let to = destination_of(Target::Unix("/run/app.sock".into()), "/base", host);
        let mut asked = head("/api/x", &[("host", "app.example.com")]);
        to.rewrite(&mut asked, passage()).unwrap();
        assert_eq!(asked.uri.path(), "/base/api/x");
        assert_eq!(asked.headers["host"], told);
    }
}

#[test]
fn px_12_connect_and_trace_go_nowhere() {
    for method in [Method::CONNECT, Method::TRACE] {
        let mut head = head("/api/x", &[]);
        head.method = method;
        let refused = destination("", UpstreamHost::Upstream).rewrite(&mut head, Passage::default());
        assert_eq!(refused.unwrap_err().reason, Reason::MethodNotAllowed);
    }
}
