//! The processes beside Vestibule: the upstream, and the yardstick, a proxy as bare as hyper lets one be.

use std::convert::Infallible;
use std::net::SocketAddr;

use bytes::Bytes;
use http::header::{AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE, COOKIE, HeaderValue};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{Request, Response, Uri};
use http_body_util::Full;
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
pub(crate) async fn yardstick(upstream: Authority, bearer: usize, cookies: HeaderValue) {
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
