//! Upstreams behind TLS: believed by `ca_file`, over HTTP/1.1, within the time to connect.

use std::io::{Read as _, Write as _};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rcgen::{CertificateParams, KeyPair};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

use super::*;

/// A server with a certificate for `localhost` that is its own authority, as PEM; it says which protocol was agreed on.
fn serve() -> (String, String) {
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(vec!["localhost".to_owned()]).unwrap().self_signed(&key).unwrap();
    let chain = vec![certificate.der().clone()];
    let pem =
        format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", STANDARD.encode(certificate.der()));
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let crypto = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(crypto).with_safe_default_protocol_versions().unwrap();
    let mut config = config.with_no_client_auth().with_single_cert(chain, key).unwrap();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let config = Arc::new(config);
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let authority = format!("localhost:{}", listener.local_addr().unwrap().port());
    std::thread::spawn(move || {
        while let Ok((tcp, _)) = listener.accept() {
            let mut stream = StreamOwned::new(ServerConnection::new(Arc::clone(&config)).unwrap(), tcp);
            let mut head = [0; 4096];
            if stream.read(&mut head).is_ok_and(|read| read > 0) {
                let agreed = String::from_utf8_lossy(stream.conn.alpn_protocol().unwrap_or(b"none")).into_owned();
                let length = agreed.len();
                let _ = write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{agreed}");
            }
        }
    });
    (authority, pem)
}

fn over_tls(authority: &str, ca: Option<&str>) -> Result<Arc<Upstream>, String> {
    let target = Target::Https(authority.parse().unwrap());
    let ca = ca.map(|pem| Arc::from(pem.as_bytes()));
    Upstream::build(
        Arc::new(config::Upstream { target, ca, ..config(authority) }),
        &Metrics::new(),
        &Streams::new(TaskTracker::new()),
    )
}

#[tokio::test]
async fn an_upstream_behind_tls_is_believed_by_its_ca_file_and_speaks_http_1_1() {
    let (authority, pem) = serve();
    let upstream = over_tls(&authority, Some(&pem)).unwrap();
    assert_eq!(text(upstream.forward(get(), Passage::default()).await.unwrap()).await, "none", "HTTP/2 is not offered");
    let (_, other) = serve();
    for ca in [None, Some(other.as_str())] {
        let refusal = over_tls(&authority, ca).unwrap().forward(get(), Passage::default()).await.unwrap_err();
        assert_eq!(refusal.reason, Reason::UpstreamUnreachable);
        assert!(refusal.detail.unwrap().contains("certificate"));
    }
    assert!(over_tls(&authority, Some("no certificate")).is_err());
}

#[tokio::test]
async fn a_handshake_that_never_ends_is_unreachable_within_the_time_to_connect() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let target = Target::Https(format!("localhost:{}", listener.local_addr().unwrap().port()).parse().unwrap());
    let config = config::Upstream { target, response_timeout: PATIENCE, ..config("x:1") };
    let upstream = build(config, &Metrics::new());
    let refused = tokio::time::timeout(PATIENCE, upstream.forward(get(), Passage::default())).await;
    assert_eq!(refused.unwrap().unwrap_err().reason, Reason::UpstreamUnreachable);
}
