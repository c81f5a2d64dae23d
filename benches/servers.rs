//! The processes beside Vestibule: the upstream, and the yardsticks, servers as bare as hyper lets them be.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeyPair, KeySize};
use aws_lc_rs::signature::{KeyPair as _, ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_SHA256};
use bytes::Bytes;
use http::header::{AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE, COOKIE, HeaderMap, HeaderName, HeaderValue};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{Request, Response, StatusCode, Uri};
use http_body_util::{Empty, Full};
use hyper::body::{Body, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpListener;

/// What the upstream sends: 2 kB, as an API's answer may be.
const BODY: &[u8] = &[b'x'; 2048];

/// Answers everything alike, and says with which size of bearer and which cookies it was asked.
pub(crate) async fn upstream() {
    serve(|request: Request<Incoming>| async move {
        let bearer = request.headers().get(AUTHORIZATION).map_or(0, HeaderValue::len);
        let mut response = Response::new(Full::new(Bytes::from_static(BODY)));
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        headers.insert("x-bearer-size", HeaderValue::from(bearer));
        if request.uri().path() == "/api/cookies" {
            let cookies = request.headers().get(COOKIE).cloned();
            headers.insert("x-cookies", cookies.unwrap_or(HeaderValue::from_static("")));
        }
        response
    })
    .await;
}

/// Passes everything to `upstream` with a bearer of `bearer` bytes and the cookies that Vestibule would leave.
pub(crate) async fn proxy(upstream: Authority, bearer: usize, cookies: HeaderValue) {
    let mut connector = HttpConnector::new();
    connector.set_nodelay(true);
    let client: Client<_, Incoming> = Client::builder(TokioExecutor::new()).build(connector);
    let bearer = HeaderValue::try_from(format!("Bearer {}", "x".repeat(bearer - 7))).unwrap();
    serve(move |mut request: Request<Incoming>| {
        let (client, upstream, bearer, cookies) = (client.clone(), upstream.clone(), bearer.clone(), cookies.clone());
        async move {
            let mut parts = http::uri::Parts::default();
            parts.scheme = Some(Scheme::HTTP);
            parts.authority = Some(upstream);
            let path = request.uri().path_and_query().cloned();
            parts.path_and_query = path.or(Some(PathAndQuery::from_static("/")));
            *request.uri_mut() = Uri::from_parts(parts).unwrap();
            request.headers_mut().insert(AUTHORIZATION, bearer);
            request.headers_mut().insert(COOKIE, cookies);
            client.request(request).await.unwrap()
        }
    })
    .await;
}

/// Answers everything with the head in this file.
pub(crate) async fn answer(file: &Path) {
    let head = head(file);
    serve(move |_| {
        let response = response(&head);
        async move { response }
    })
    .await;
}

/// The same, after one RS256 verification of a message of the size of a bearer's.
pub(crate) async fn verify(file: &Path) {
    let head = head(file);
    let pair = KeyPair::generate(KeySize::Rsa2048).unwrap();
    let message = vec![b'x'; 1000];
    let mut signature = vec![0; pair.public_modulus_len()];
    pair.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), &message, &mut signature).unwrap();
    let key = ParsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, pair.public_key()).unwrap();
    let work = Arc::new((key, message, signature));
    serve(move |_| {
        let (key, message, signature) = &*work;
        key.verify_sig(message, signature).unwrap();
        let response = response(&head);
        async move { response }
    })
    .await;
}

/// Status and headers of an answer, without what hyper adds by itself.
fn head(file: &Path) -> (StatusCode, HeaderMap) {
    let text = std::fs::read_to_string(file).unwrap();
    let mut lines = text.lines();
    let status = lines.next().and_then(|line| line.split(' ').nth(1)).unwrap().parse().unwrap();
    let pairs = lines.filter_map(|line| line.split_once(": ")).filter(|(name, _)| *name != "date");
    let headers = pairs.map(|(name, value)| (name.parse::<HeaderName>().unwrap(), value.parse().unwrap()));
    (status, headers.collect())
}

/// An answer with headers that are made anew, as they have to be for every user.
fn response((status, headers): &(StatusCode, HeaderMap)) -> Response<Empty<Bytes>> {
    let mut response = Response::new(Empty::new());
    *response.status_mut() = *status;
    for (name, value) in headers {
        response.headers_mut().insert(name.clone(), value.clone());
    }
    response
}

/// Prints the port and serves until the process is killed.
async fn serve<F, Fut, B>(answer: F)
where
    F: Fn(Request<Incoming>) -> Fut + Clone + Send + Sync + 'static,
    Fut: Future<Output = Response<B>> + Send,
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await.unwrap();
    println!("{}", listener.local_addr().unwrap().port());
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        stream.set_nodelay(true).unwrap();
        let answer = answer.clone();
        tokio::spawn(async move {
            let service = service_fn(|request| {
                let answer = answer(request);
                async { Ok::<_, Infallible>(answer.await) }
            });
            // A connection that breaks is the load generator's end.
            let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        });
    }
}
