//! Pushed authorization requests (RFC 9126): what the browser carries, what the provider gets, and no falling back.

use std::sync::{Arc, Mutex};

use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use url::form_urlencoded;
use vestibule::demo::provider::Endpoint;
use vestibule::demo::provider::Kind::JsonSet;

use super::stage::{REDIRECT_URI, Stage, ask, refused, values};

/// An endpoint that answers each request with the next of `answers`, and remembers what it was sent.
async fn endpoint(answers: Vec<(u16, &'static str)>) -> (String, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/par", listener.local_addr().unwrap());
    let seen = Arc::new(Mutex::new(Vec::new()));
    let heard = Arc::clone(&seen);
    tokio::spawn(async move {
        for (status, body) in answers {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = Vec::new();
            while !is_whole(&request) {
                request.push(stream.read_u8().await.unwrap());
            }
            heard.lock().unwrap().push(String::from_utf8(request).unwrap());
            let head = format!("HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nConnection: close\r\n");
            let answer = format!("{head}Content-Length: {}\r\n\r\n{body}", body.len());
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
    });
    (url, seen)
}

fn is_whole(request: &[u8]) -> bool {
    let text = String::from_utf8_lossy(request);
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
    let length = head
        .lines()
        .find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok());
    body.len() == length.unwrap_or(0)
}

async fn stage(par: &str) -> Stage {
    let stage = Stage::new().await;
    stage.lie(Endpoint::Discovery, JsonSet("pushed_authorization_request_endpoint", json!(par)));
    stage.lie(Endpoint::Discovery, JsonSet("require_pushed_authorization_requests", json!(true)));
    stage
}

#[tokio::test]
async fn ls_13_the_browser_carries_a_reference_only() {
    let (par, seen) = endpoint(vec![(201, r#"{"request_uri":"urn:x:1 2","expires_in":60}"#)]).await;
    let stage = stage(&par).await;
    let (url, attempt) = stage.client.begin(&ask(), stage.now()).await.unwrap();
    let names: Vec<_> = url.query_pairs().map(|(name, _)| name.into_owned()).collect();
    assert_eq!(names, ["client_id", "request_uri"]);
    assert_eq!(values(&url, "request_uri"), ["urn:x:1 2"]);
    let request = seen.lock().unwrap().remove(0);
    let (head, body) = request.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("POST /par HTTP/1.1\r\n") && head.contains("authorization: Basic "), "{head}");
    let sent: Vec<(String, String)> = form_urlencoded::parse(body.as_bytes()).into_owned().collect();
    for (name, value) in [
        ("response_type", "code"),
        ("client_id", "web"),
        ("redirect_uri", REDIRECT_URI),
        ("state", attempt.state()),
        ("code_challenge_method", "S256"),
    ] {
        let found: Vec<_> = sent.iter().filter(|(key, _)| key == name).map(|(_, value)| value.as_str()).collect();
        assert_eq!(found, [value], "{name}");
    }
    assert!(!body.contains("client_secret"), "never both Basic and body");
}

#[tokio::test]
async fn ls_13_a_refused_push_is_not_replaced_by_a_whole_url() {
    let rows = [
        (201, r#"{"expires_in":60}"#, "request_uri is missing"),
        (201, r#"{"request_uri":""}"#, "request_uri is missing"),
        (201, "[]", "not a JSON object"),
        (400, r#"{"error":"invalid_request"}"#, "invalid_request"),
        (401, r#"{"error":"invalid_client"}"#, "invalid_client"),
        (200, r#"{"request_uri":"urn:x:1"}"#, "status 200"),
        (500, "{}", "status 500"),
    ];
    let (par, _) = endpoint(rows.iter().map(|(status, body, _)| (*status, *body)).collect()).await;
    let stage = stage(&par).await;
    for (status, body, expected) in rows {
        refused(&format!("LS-13 {status} {body}"), stage.client.begin(&ask(), stage.now()).await, expected);
    }
}
