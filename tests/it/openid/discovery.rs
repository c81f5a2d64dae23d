//! Table D: metadata that are not believed, and a provider that comes late, goes, and comes back.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE, DATE};
use http::{HeaderValue, StatusCode};
use serde_json::json;
use vestibule::demo::provider::Kind::{
    BodyReplace, Close, Endless, HeaderSet, JsonRaw, JsonRemove, JsonSet, Redirect, Status,
};
use vestibule::demo::provider::{Endpoint, Kind, Mutation, Options};
use vestibule::metrics::Metrics;
use vestibule::provider::Error;
use vestibule::time::Clock;

use super::stage::{Script, Stage, ask, eventually, op, refused, values};

#[tokio::test]
async fn table_d_metadata_that_are_refused() {
    let op = op(Options::default()).await;
    let issuer = op.issuer().to_owned();
    let authority = op.address().to_string();
    let with_query = format!("{}?client_id=evil", op.url(Endpoint::Authorize));
    let with_user = op.url(Endpoint::Authorize).replace("://", "://user:canary@");
    let rows: Vec<(&str, Kind, &str)> = vec![
        ("D02", JsonSet("issuer", json!("https://evil.example")), "issuer is not the configured one"),
        ("D03 slash", JsonSet("issuer", json!(format!("{issuer}/"))), "issuer is not the configured one"),
        ("D04 case", JsonSet("issuer", json!(issuer.replace("http", "HTTP"))), "issuer is not the configured one"),
        ("D04 encoded", JsonSet("issuer", json!(issuer.replace("corp", "%63orp"))), "issuer is not the configured one"),
        ("D05", JsonRemove("issuer"), "issuer is not the configured one"),
        ("D05", JsonSet("issuer", json!(null)), "issuer is not the configured one"),
        ("D05", JsonSet("issuer", json!([issuer])), "issuer is not the configured one"),
        ("D05", JsonSet("issuer", json!("")), "issuer is not the configured one"),
        ("D06", JsonRaw(format!(r#""issuer":"{issuer}","#)), "a member occurs twice"),
        ("D06", JsonRaw(r#""issuer":"https://evil.example","#.to_owned()), "a member occurs twice"),
        ("D07", Status(StatusCode::NOT_FOUND), "status 404"),
        ("D07", Status(StatusCode::INTERNAL_SERVER_ERROR), "status 500"),
        ("D07", Status(StatusCode::UNAUTHORIZED), "status 401"),
        ("D07", Status(StatusCode::NO_CONTENT), "status 204"),
        ("D07", Status(StatusCode::PARTIAL_CONTENT), "status 206"),
        ("D08", Redirect(StatusCode::MOVED_PERMANENTLY, format!("http://{authority}/other")), "status 301"),
        ("D08", Redirect(StatusCode::TEMPORARY_REDIRECT, format!("http://{authority}/other")), "status 307"),
        ("D09", HeaderSet(CONTENT_TYPE, HeaderValue::from_static("text/html")), "content type"),
        ("D10", BodyReplace(Bytes::from_static(b"{\"issuer\":")), "ends too early"),
        ("D10", BodyReplace(Bytes::from_static(b"\xef\xbb\xbf{}")), "syntax error"),
        ("D10", BodyReplace(Bytes::from_static(b"\xff\xfe{\0}\0")), "syntax error"),
        ("D10", BodyReplace(Bytes::from_static(b"{}{}")), "something follows"),
        ("D11", JsonRemove("authorization_endpoint"), "authorization_endpoint is missing"),
        ("D11", JsonRemove("token_endpoint"), "token_endpoint is missing"),
        ("D11", JsonRemove("jwks_uri"), "jwks_uri is missing"),
        ("D12", JsonSet("token_endpoint", json!("http://id.example.com/token")), "token_endpoint is plain http"),
        ("D13", JsonSet("jwks_uri", json!("ftp://id.example.com/keys")), "neither https nor http"),
        ("D15", JsonSet("authorization_endpoint", json!("javascript:alert(1)")), "neither https nor http"),
        ("D15", JsonSet("authorization_endpoint", json!("data:text/html,x")), "neither https nor http"),
        ("D15", JsonSet("authorization_endpoint", json!(format!("{issuer}/a#b"))), "has a fragment"),
        ("D15", JsonSet("authorization_endpoint", json!(with_user)), "has a user name"),
        ("D16 LS-9", JsonSet("authorization_endpoint", json!(with_query)), "already has a parameter"),
        ("D17", JsonSet("id_token_signing_alg_values_supported", json!(["none", "HS256"])), "none of the allowed"),
        ("D25", HeaderSet(CONTENT_ENCODING, HeaderValue::from_static("gzip")), "encoded"),
        ("D25", Endless, "too large"),
        ("D23", Close, "cannot be reached"),
        ("LS-13", JsonSet("require_pushed_authorization_requests", json!(true)), "no endpoint for them"),
    ];
    for (id, kind, expected) in rows {
        op.mutate(Mutation::always(Endpoint::Discovery, kind));
        let client = Script::new(&issuer).start(&Clock::default(), &Arc::new(Metrics::new()));
        let result = client.begin(&ask(), Clock::default().now()).await;
        assert!(matches!(result, Err(Error::Unavailable(_))), "{id}: {result:?}");
        refused(id, result, expected);
        assert!(!client.provider.is_ready());
        op.clear_mutations();
    }
    assert_eq!(op.count(Endpoint::Authorize), 0);
    assert_eq!(op.count(Endpoint::Jwks), 0, "keys of refused metadata are not fetched");
}

#[tokio::test]
async fn og_5_what_we_do_not_need_may_be_odd() {
    let stage = Stage::new().await;
    for (name, value) in [
        ("end_session_endpoint", json!("")),
        ("revocation_endpoint", json!("http://id.example.com/revoke")),
        ("introspection_endpoint", json!(5)),
        ("device_authorization_endpoint", json!("javascript:x")),
        ("response_types_supported", json!(null)),
        ("code_challenge_methods_supported", json!(["plain"])),
        ("id_token_signing_alg_values_supported", json!(["none", "HS256", "RS256", "XX"])),
    ] {
        stage.lie(Endpoint::Discovery, JsonSet(name, value));
    }
    let (url, _) = stage.client.begin(&ask(), stage.now()).await.unwrap();
    assert_eq!(values(&url, "code_challenge_method"), ["S256"], "D19");
    assert!(stage.client.end_session(None, "https://app.example.com/", "s").is_none());
    stage.login().await.unwrap();
}

#[tokio::test]
async fn d26_metadata_that_go_bad_leave_the_good_ones() {
    let stage = Stage::new().await;
    stage.login().await.unwrap();
    let evil = JsonSet("issuer", json!("https://evil.example"));
    stage.op.mutate(Mutation::always(Endpoint::Discovery, evil));
    let asked = stage.op.count(Endpoint::Discovery);
    // Keys as old as this are asked for anew, and the metadata before them.
    stage.clock.shift(25 * 60 * 60);
    stage.login().await.unwrap();
    assert_eq!(stage.op.count(Endpoint::Discovery), asked + 1);
    assert!(stage.client.provider.is_ready());
}

#[tokio::test]
async fn ls_10_a_provider_that_is_down_is_said_to_be_down_at_once() {
    let stage = Stage::new().await;
    stage.op.go_down().await.unwrap();
    let other = Script::new(stage.op.issuer()).start(&stage.clock, &stage.metrics);
    for _ in 0..20 {
        let begun = Instant::now();
        refused("LS-10", other.begin(&ask(), stage.now()).await, "not available");
        assert!(begun.elapsed() < Duration::from_millis(2500), "{:?}", begun.elapsed());
    }
    // It recovers alone, soon after the provider does.
    stage.op.come_up().unwrap();
    let begun = Instant::now();
    eventually("metadata and keys are there", || other.provider.is_ready()).await;
    assert!(begun.elapsed() < Duration::from_secs(4), "{:?}", begun.elapsed());
    other.begin(&ask(), stage.now()).await.unwrap();
}

#[tokio::test]
async fn a_login_that_comes_first_waits_for_the_metadata() {
    let stage = Stage::new().await;
    stage.ready().await;
    let before = stage.op.count(Endpoint::Discovery);
    stage.op.delay(Endpoint::Discovery, Duration::from_millis(300));
    let other = Script::new(stage.op.issuer()).start(&stage.clock, &stage.metrics);
    let attempts: Vec<_> = (0..50)
        .map(|_| {
            let (client, now) = (other.clone(), stage.now());
            tokio::spawn(async move { client.begin(&ask(), now).await.is_ok() })
        })
        .collect();
    for attempt in attempts {
        assert!(attempt.await.unwrap());
    }
    eventually("keys are there, too", || other.provider.is_ready()).await;
    assert_eq!(stage.op.count(Endpoint::Discovery), before + 1, "one fetch serves all who wait");
}

#[tokio::test]
async fn a_login_does_not_wait_for_a_provider_that_hangs() {
    let stage = Stage::new().await;
    stage.op.delay(Endpoint::Discovery, Duration::from_secs(60));
    let other = Script::new(stage.op.issuer()).start(&stage.clock, &stage.metrics);
    let begun = Instant::now();
    refused("L13", other.begin(&ask(), stage.now()).await, "not known yet");
    assert!((2900..9000).contains(&begun.elapsed().as_millis()), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn the_loop_ends_with_the_last_handle() {
    let stage = Stage::new().await;
    stage.ready().await;
    let weak = Arc::downgrade(&stage.client.provider);
    let Stage { client, op, .. } = stage;
    drop(client);
    eventually("the provider is gone", || weak.upgrade().is_none()).await;
    // Also in the middle of a fetch.
    op.delay(Endpoint::Discovery, Duration::from_secs(60));
    let client = Script::new(op.issuer()).start(&Clock::default(), &Arc::new(Metrics::new()));
    let (before, weak) = (op.count(Endpoint::Discovery), Arc::downgrade(&client.provider));
    eventually("a fetch is under way", || op.count(Endpoint::Discovery) > before).await;
    drop(client);
    eventually("the provider is gone", || weak.upgrade().is_none()).await;
}

#[tokio::test]
async fn backchannel_our_calls_go_there_and_browsers_do_not() {
    let issuer = "https://id.example.com/realms/corp";
    let op = op(Options { issuer: Some(issuer.to_owned()), ..Options::default() }).await;
    let base = format!("http://{}/realms/corp", op.address());
    let mut script = Script::new(issuer);
    script.provider.backchannel = Some(base.clone());
    let client = script.start(&Clock::default(), &Arc::new(Metrics::new()));
    let (url, _) = client.begin(&ask(), Clock::default().now()).await.unwrap();
    assert!(url.as_str().starts_with("https://id.example.com/realms/corp/authorize?"), "{url}");
    let out = client.end_session(None, "https://app.example.com/", "s").unwrap();
    assert!(out.as_str().starts_with("https://id.example.com/realms/corp/end-session?"), "{out}");
    eventually("keys came by the back channel", || client.provider.is_ready()).await;
    let metadata = client.provider.metadata().await.unwrap();
    for endpoint in [&metadata.token_endpoint, &metadata.jwks_uri] {
        assert!(endpoint.as_str().starts_with(&base), "{endpoint}");
    }
    for endpoint in [&metadata.userinfo_endpoint, &metadata.revocation_endpoint] {
        assert!(endpoint.as_ref().unwrap().as_str().starts_with(&base));
    }
}

#[tokio::test]
async fn the_clocks_are_compared() {
    let stage = Stage::new().await;
    let date = HeaderValue::from_static("Thu, 01 Jan 2026 00:00:00 GMT");
    stage.op.mutate(Mutation::always(Endpoint::Userinfo, HeaderSet(DATE, date)));
    stage.login().await.unwrap();
    let text = stage.metrics.render();
    let line = text.lines().find(|line| line.starts_with("vestibule_provider_clock_skew_seconds{")).unwrap();
    let skew: f64 = line.rsplit(' ').next().unwrap().parse().unwrap();
    let expected = 1_767_225_600 - stage.now().unix();
    assert!((skew - expected as f64).abs() < 5.0, "{line}");
    for name in ["vestibule_provider_up{provider=\"corp\"} 1", "vestibule_jwks_keys{provider=\"corp\"} 2"] {
        assert!(text.contains(name), "{name}\n{text}");
    }
}
