//! What operators are told, and who is told nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use http::{HeaderName, Method, request};

use super::*;
use crate::config::{self, Config, Name, SigningAlg};
use crate::runtime::{Current, Lasting, Snapshot};
use crate::server::admin::{Admin, Readiness};
use crate::server::standing::Standing;
use crate::time::Clock;

const LOOPBACK: Peer = Peer::Tcp(SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 50_000));

fn provider(name: &str, required_for_ready: bool) -> (Name, Arc<config::Provider>) {
    let name = Name::parse(name).unwrap();
    let provider = config::Provider {
        name: name.clone(),
        // Nobody listens there.
        issuer: "http://127.0.0.1:1/".to_owned(),
        backchannel: None,
        jwks_uri: None,
        introspection: false,
        clock_skew: Duration::from_secs(60),
        ca: None,
        signing_algs: vec![SigningAlg::RS256],
        max_stale: Duration::from_secs(60),
        required_for_ready,
    };
    (name, Arc::new(provider))
}

fn admin(providers: BTreeMap<Name, Arc<config::Provider>>) -> (Admin, Arc<Readiness>, Clock) {
    let config = Config {
        server: config::Server {
            verdict_listen: None,
            control: None,
            metrics_listen: Some(Listen::Tcp("127.0.0.1:9464".parse().unwrap())),
            metrics_hosts: vec!["metrics.example.net".to_owned()],
            trusted_proxies: Vec::new(),
            drain_timeout: Duration::from_secs(1),
            stream_close_delay: Duration::ZERO,
        },
        sessions: config::Sessions {
            store: config::Store::Memory,
            keys: Vec::new(),
            missing_key: None,
            idle_timeout: Duration::from_secs(60),
            max_lifetime: Duration::from_secs(60),
            max_sessions: 10,
        },
        log: config::Log { level: "info".to_owned(), format: config::LogFormat::Auto },
        providers,
        routes: BTreeMap::new(),
        files: BTreeSet::new(),
    };
    let clock = Clock::default();
    let lasting = Lasting::new(&config, clock.clone()).unwrap();
    let snapshot = Snapshot::build(Arc::new(config), None, &lasting).unwrap();
    let readiness = Arc::new(Readiness::default());
    let report = config::load_text(Path::new("vestibule.toml"), "[server]", &config::System).unwrap_err();
    let standing = Arc::new(Standing::new("vestibule.toml".into(), &report, clock.now()));
    let admin = Admin::new(Current::new(snapshot), lasting, Arc::clone(&readiness), Arc::clone(&standing));
    (admin, readiness, clock)
}

fn ask(uri: &str, headers: &[(&str, &str)]) -> request::Parts {
    let mut head = Request::builder().uri(uri).body(()).unwrap().into_parts().0;
    for (name, value) in headers {
        head.headers.append(HeaderName::from_bytes(name.as_bytes()).unwrap(), value.parse().unwrap());
    }
    head
}

async fn body(response: Response<Body>) -> String {
    String::from_utf8(response.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap()
}

#[tokio::test]
async fn ad_1_three_paths_answer_and_nothing_else() {
    let (admin, _, _) = admin(BTreeMap::new());
    let local = [("host", "127.0.0.1:9464")];
    let metrics = admin.answer(&ask("/metrics", &local), LOOPBACK);
    assert_eq!(metrics.headers()["content-type"], "text/plain; version=0.0.4; charset=utf-8");
    assert!(body(metrics).await.contains("vestibule_build_info{version=\""));
    assert_eq!(admin.answer(&ask("/livez", &local), LOOPBACK).status(), StatusCode::OK);
    for path in ["/", "/metrics/", "/debug", "/readyz/x", "//metrics", "/%6detrics"] {
        assert_eq!(admin.answer(&ask(path, &local), LOOPBACK).status(), StatusCode::NOT_FOUND, "{path}");
    }
}

#[tokio::test]
async fn ad_2_m20_only_reading_methods_no_origin_and_no_cors() {
    let (admin, _, _) = admin(BTreeMap::new());
    for method in [Method::POST, Method::PUT, Method::DELETE, Method::OPTIONS, Method::PATCH] {
        let mut head = ask("/metrics", &[("host", "localhost")]);
        head.method = method;
        let response = admin.answer(&head, LOOPBACK);
        assert_eq!(response.status(), StatusCode::METHOD_NOT_ALLOWED);
        assert_eq!(response.headers()["allow"], "GET, HEAD");
    }
    for origin in ["null", "http://127.0.0.1:9464", "https://evil.example"] {
        let response = admin.answer(&ask("/metrics", &[("host", "localhost"), ("origin", origin)]), LOOPBACK);
        assert_eq!(response.status(), StatusCode::FORBIDDEN, "{origin}");
        assert!(!response.headers().keys().any(|name| name.as_str().starts_with("access-control")));
    }
}

#[tokio::test]
async fn ad_2_a_name_that_a_stranger_could_have_resolved_to_us_is_refused() {
    let (admin, _, _) = admin(BTreeMap::new());
    let status = |hosts: &[&str], peer| {
        let hosts: Vec<(&str, &str)> = hosts.iter().map(|host| ("host", *host)).collect();
        admin.answer(&ask("/livez", &hosts), peer).status()
    };
    for host in ["127.0.0.1:9464", "127.0.0.1", "10.1.2.3:80", "[::1]:9464", "[fe80::1]", "localhost:9464", "LocalHost"]
    {
        assert_eq!(status(&[host], LOOPBACK), StatusCode::OK, "{host}");
    }
    // What Prometheus sends in a compose file, and a name that the config lists.
    for host in
        ["vestibule:9464", "vestibule", "sso_vestibule-1:9464", "metrics.example.net:9464", "Metrics.Example.net"]
    {
        assert_eq!(status(&[host], LOOPBACK), StatusCode::OK, "{host}");
    }
    for host in [
        "evil.example",
        "evil.example:9464",
        "localhost.evil.example",
        "127.0.0.1.evil.example",
        "localhost:evil",
        "[::1].evil.example",
        "::1",
        "[127.0.0.1]",
        "",
        "user@localhost",
        "127.0.0.1:9464:9464",
        "vestibule.",
        ".vestibule",
        "vestibule.evil.example:9464",
        "x.metrics.example.net",
        "metrics.example.net.evil.example",
        "metrics.example.net.",
        ":9464",
    ] {
        assert_eq!(status(&[host], LOOPBACK), StatusCode::FORBIDDEN, "{host}");
    }
    assert_eq!(status(&[], LOOPBACK), StatusCode::FORBIDDEN);
    assert_eq!(status(&["localhost", "localhost"], LOOPBACK), StatusCode::FORBIDDEN);
    assert_eq!(status(&["whatever"], Peer::Unix), StatusCode::OK);
    let absolute = ask("http://evil.example/livez", &[("host", "localhost")]);
    assert_eq!(admin.answer(&absolute, LOOPBACK).status(), StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn ready_begins_with_the_first_config_and_ends_with_draining() {
    let (admin, readiness, _) = admin(BTreeMap::from([provider("corp", false)]));
    let ready = || admin.answer(&ask("/readyz", &[("host", "localhost")]), LOOPBACK).status();
    assert_eq!(ready(), StatusCode::SERVICE_UNAVAILABLE);
    readiness.set_ready();
    assert_eq!(ready(), StatusCode::OK);
    readiness.set_draining();
    assert_eq!(ready(), StatusCode::SERVICE_UNAVAILABLE);
}

#[tokio::test]
async fn ad_5_a_provider_counts_only_where_it_is_required() {
    let (admin, readiness, clock) = admin(BTreeMap::from([provider("corp", true), provider("partners", false)]));
    readiness.set_ready();
    clock.shift(7);
    let response = admin.answer(&ask("/readyz?verbose", &[("host", "localhost")]), LOOPBACK);
    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
    let text = body(response).await;
    for line in ["not ready\n", "process: serving\n", "provider corp: down, required\n", "provider partners: down\n"] {
        assert!(text.contains(line), "{text}");
    }
    assert!(text.contains(", generation 1, 7 s old\n") || text.contains(", generation 1, 8 s old\n"), "{text}");
    assert!(text.contains("store memory: up, 0 sessions\n"), "{text}");
}
