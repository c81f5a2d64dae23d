//! Table D24 and OG-2: whom we do not believe to be the provider.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::{ServerConfig, ServerConnection, StreamOwned, SupportedProtocolVersion};
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use url::Url;

use super::client_config;
use crate::provider::testing::{LIMITS, provider, transport};
use crate::provider::transport::{Failure, Limits, Operation};

type Authority = CertifiedIssuer<'static, KeyPair>;

fn authority() -> Authority {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

fn params(name: &str) -> CertificateParams {
    CertificateParams::new(vec![name.to_owned()]).unwrap()
}

fn pem(authority: &Authority) -> String {
    format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", STANDARD.encode(authority.der()))
}

/// Serves one JSON object to each connection, over TLS with such a certificate.
fn serve(params: &CertificateParams, authority: &Authority, versions: &[&'static SupportedProtocolVersion]) -> Url {
    let key = KeyPair::generate().unwrap();
    let chain = vec![params.signed_by(&key, authority).unwrap().der().clone()];
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let crypto = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(crypto).with_protocol_versions(versions).unwrap();
    let config = Arc::new(config.with_no_client_auth().with_single_cert(chain, key).unwrap());
    let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    let url = format!("https://localhost:{}/", listener.local_addr().unwrap().port());
    std::thread::spawn(move || {
        while let Ok((tcp, _)) = listener.accept() {
            let mut stream = StreamOwned::new(ServerConnection::new(Arc::clone(&config)).unwrap(), tcp);
            let mut head = [0; 4096];
            if stream.read(&mut head).is_ok_and(|read| read > 0) {
                let said = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}";
                let _ = stream.write_all(said.as_bytes());
            }
        }
    });
    Url::parse(&url).unwrap()
}

/// Asks `url` with `ca` as additional anchor.
async fn ask(url: &Url, ca: Option<&str>) -> Result<(), Failure> {
    let mut provider = provider(url.as_str());
    provider.ca = ca.map(|pem| Arc::from(pem.as_bytes()));
    let patient = Limits { connect: Duration::from_secs(5), head: Duration::from_secs(5), ..LIMITS };
    transport(provider, patient).get(Operation::Discovery, url).await.map(|_| ())
}

const BOTH: &[&SupportedProtocolVersion] = &[&rustls::version::TLS13, &rustls::version::TLS12];

#[tokio::test]
async fn og_2_ca_file_is_believed_and_nobody_else() {
    let (ours, other) = (authority(), authority());
    for versions in [BOTH, &[&rustls::version::TLS12]] {
        let url = serve(&params("localhost"), &ours, versions);
        ask(&url, Some(&pem(&ours))).await.unwrap();
        ask(&url, Some(&[pem(&other), pem(&ours)].concat())).await.unwrap();
    }
    let url = serve(&params("localhost"), &ours, BOTH);
    for ca in [None, Some(pem(&other))] {
        let result = ask(&url, ca.as_deref()).await;
        assert!(matches!(&result, Err(Failure::Unreachable(why)) if why.contains("certificate")), "{result:?}");
    }
}

#[tokio::test]
async fn d24_wrong_names_times_and_protocols_are_refused() {
    let ours = authority();
    let mut expired = params("localhost");
    expired.not_after = rcgen::date_time_ymd(2020, 1, 1);
    let mut early = params("localhost");
    early.not_before = rcgen::date_time_ymd(2090, 1, 1);
    early.not_after = rcgen::date_time_ymd(2091, 1, 1);
    for (id, params) in [
        ("name", params("id.example.com")),
        ("NUL in the name", params("localhost\0.example.com")),
        ("address", params("127.0.0.1")),
        ("expired", expired),
        ("not yet", early),
    ] {
        let url = serve(&params, &ours, BOTH);
        let result = ask(&url, Some(&pem(&ours))).await;
        assert!(matches!(&result, Err(Failure::Unreachable(why)) if why.contains("certificate")), "{id}: {result:?}");
    }
}

#[tokio::test]
async fn d24_plain_text_where_tls_was_meant_is_refused() {
    let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    let url = Url::parse(&format!("https://{}/", listener.local_addr().unwrap())).unwrap();
    std::thread::spawn(move || {
        while let Ok((mut tcp, _)) = listener.accept() {
            let _ = tcp.write_all(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n{}");
        }
    });
    let result = ask(&url, None).await;
    assert!(matches!(result, Err(Failure::Unreachable(_))), "{result:?}");
}

#[test]
fn m11_an_unusable_ca_file_is_an_error_and_not_an_empty_set() {
    for pem in ["", "not PEM", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"] {
        assert!(client_config(Some(pem.as_bytes())).is_err(), "{pem:?}");
    }
    assert!(client_config(None).is_ok());
}
