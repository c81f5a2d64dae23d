//! The development provider itself: what it refuses by default, and that it can be bent and taken down.

use std::time::Duration;

use http::{HeaderValue, Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;
use url::{Url, form_urlencoded};
use vestibule::demo::provider::{
    Authentication, Client, DemoProvider, Endpoint, JwtMutation, Kind, Mutation, Options, Secret, SignWith,
};
use vestibule::time::Clock;

use crate::world::browser::{Browser, Destination, Hosts, Surroundings};
use crate::world::{log, unique};

const CALLBACK: &str = "https://app.test/login/end";
/// The example of RFC 7636 appendix B.
const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
const CHALLENGE: &str = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";

/// A provider and a browser that knows the way to it.
struct Stage {
    provider: DemoProvider,
    browser: Browser,
    clock: Clock,
}

async fn stage() -> Stage {
    log::capture();
    let clock = Clock::default();
    let client = Client::confidential("web", "s&cret=with:odd+characters-long-enough")
        .redirect_uri(CALLBACK)
        .post_logout_redirect_uri("https://app.test/logout/end");
    let options = Options { clock: clock.clone(), canary: unique(), clients: vec![client], ..Options::default() };
    let provider = DemoProvider::start(options).await.unwrap();
    let hosts = Hosts::default();
    hosts.put(&provider.address().to_string(), Destination::Direct(provider.address()));
    let browser = Browser::new(Surroundings {
        hosts,
        clock: clock.clone(),
        transcript: Default::default(),
        log_position: log::position(),
        home: Url::parse("https://app.test/").unwrap(),
        jars: Default::default(),
    });
    Stage { provider, browser, clock }
}

impl Stage {
    /// The authorization URL with some parameters replaced or, when empty, left out.
    fn authorize(&self, changes: &[(&str, &str)]) -> String {
        let mut list = vec![
            ("response_type", "code"),
            ("client_id", "web"),
            ("redirect_uri", CALLBACK),
            ("scope", "openid profile email"),
            ("state", "the-state"),
            ("nonce", "the-nonce"),
            ("code_challenge", CHALLENGE),
            ("code_challenge_method", "S256"),
        ];
        for (name, value) in changes {
            list.retain(|(key, _)| key != name);
            list.push((name, value));
        }
        list.retain(|(_, value)| !value.is_empty());
        Url::parse_with_params(&self.provider.url(Endpoint::Authorize), list).unwrap().into()
    }

    /// What the callback would get.
    async fn callback(&self, changes: &[(&str, &str)]) -> Vec<(String, String)> {
        let answer = self.browser.navigate(&self.authorize(changes)).stop_before("/login/end").await;
        assert!(answer.status == StatusCode::SEE_OTHER, "{}", answer.describe());
        answer.location().query_pairs().into_owned().collect()
    }

    async fn code(&self) -> String {
        value(&self.callback(&[("login_hint", "alice")]).await, "code").unwrap()
    }

    async fn token(&self, parameters: &[(&str, &str)]) -> (u16, Value) {
        let form = form_urlencoded::Serializer::new(String::new()).extend_pairs(parameters).finish();
        let basic = "Basic d2ViOnMlMjZjcmV0JTNEd2l0aCUzQW9kZCUyQmNoYXJhY3RlcnMtbG9uZy1lbm91Z2g=";
        self.send(Method::POST, Endpoint::Token, Some(basic), form).await
    }

    async fn redeem(&self, code: &str) -> (u16, Value) {
        let parameters = [
            ("grant_type", "authorization_code"),
            ("code", code),
            ("redirect_uri", CALLBACK),
            ("code_verifier", VERIFIER),
        ];
        self.token(&parameters).await
    }

    async fn refresh(&self, token: &str) -> (u16, Value) {
        self.token(&[("grant_type", "refresh_token"), ("refresh_token", token)]).await
    }

    async fn userinfo(&self, token: &str) -> (u16, Value) {
        self.send(Method::GET, Endpoint::Userinfo, Some(&format!("Bearer {token}")), String::new()).await
    }

    async fn send(&self, method: Method, to: Endpoint, authorization: Option<&str>, form: String) -> (u16, Value) {
        let url = Url::parse(&self.provider.url(to)).unwrap();
        let stream = TcpStream::connect(self.provider.address()).await.unwrap();
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        let mut request = Request::builder().method(method).uri(url.path());
        request = request.header("host", url.authority()).header("content-type", "application/x-www-form-urlencoded");
        if let Some(value) = authorization {
            request = request.header("authorization", value);
        }
        let answer = sender.send_request(request.body(Full::<bytes::Bytes>::from(form)).unwrap()).await.unwrap();
        let status = answer.status().as_u16();
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        (status, serde_json::from_slice(&body).unwrap_or(Value::Null))
    }
}

fn value(list: &[(String, String)], name: &str) -> Option<String> {
    list.iter().find(|(key, _)| key == name).map(|(_, value)| value.clone())
}

fn claims(token: &Value) -> Value {
    use base64::Engine as _;
    let payload = token.as_str().unwrap().split('.').nth(1).unwrap();
    serde_json::from_slice(&base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(payload).unwrap()).unwrap()
}

#[tokio::test]
async fn a_person_picks_a_user_and_the_client_gets_a_code_state_and_iss() {
    let stage = stage().await;
    let picker = stage.browser.navigate(&stage.authorize(&[])).await.is(200).says("Alice Adams");
    let back = stage.browser.submit(&picker, &[("user", "bob")]).stop_before("/login/end").await.is(303).location();
    let list: Vec<(String, String)> = back.query_pairs().into_owned().collect();
    assert_eq!(value(&list, "state").as_deref(), Some("the-state"));
    assert_eq!(value(&list, "iss").as_deref(), Some(stage.provider.issuer()));
    let (status, tokens) = stage.redeem(&value(&list, "code").unwrap()).await;
    assert_eq!(status, 200, "{tokens}");
    let id = claims(&tokens["id_token"]);
    assert_eq!((id["nonce"].as_str(), id["email"].as_str()), (Some("the-nonce"), Some("bob@example.com")));
    assert!(id["at_hash"].is_string() && id["sid"].is_string());
    let (status, userinfo) = stage.userinfo(tokens["access_token"].as_str().unwrap()).await;
    assert_eq!((status, userinfo["preferred_username"].as_str()), (200, Some("bob")));
    // The browser is known now: no second question, and prompt=none works.
    assert!(value(&stage.callback(&[("prompt", "none")]).await, "code").is_some());
    stage.browser.navigate(&stage.authorize(&[("prompt", "login")])).await.is(200).says("Who are you?");
}

#[tokio::test]
async fn authorization_requests_that_are_wrong_are_refused() {
    let stage = stage().await;
    stage
        .browser
        .navigate(&stage.authorize(&[("redirect_uri", "https://app.test/login/end/")]))
        .await
        .is(400);
    stage.browser.navigate(&stage.authorize(&[("client_id", "stranger")])).await.is(400);
    for (changes, error) in [
        (&[("code_challenge", "")][..], "invalid_request"),
        (&[("code_challenge_method", "plain")], "invalid_request"),
        (&[("response_type", "token")], "unsupported_response_type"),
        (&[("scope", "profile")], "invalid_scope"),
        (&[("prompt", "none")], "login_required"),
    ] {
        assert_eq!(value(&stage.callback(changes).await, "error").as_deref(), Some(error), "{changes:?}");
    }
}

#[tokio::test]
async fn a_code_is_good_once_with_its_verifier_and_a_second_use_ends_its_tokens() {
    let stage = stage().await;
    let code = stage.code().await;
    let (_, tokens) = stage.redeem(&code).await;
    let access = tokens["access_token"].as_str().unwrap().to_owned();
    assert_eq!(stage.userinfo(&access).await.0, 200);
    assert_eq!(stage.redeem(&code).await.1["error"], "invalid_grant");
    assert_eq!(stage.userinfo(&access).await.0, 401);
    let other = stage.code().await;
    let wrong = [
        ("grant_type", "authorization_code"),
        ("code", &*other),
        ("redirect_uri", CALLBACK),
        ("code_verifier", "wrong"),
    ];
    assert_eq!(stage.token(&wrong).await.1["error"], "invalid_grant");
    let late = stage.code().await;
    stage.clock.shift(61);
    assert_eq!(stage.redeem(&late).await.1["error"], "invalid_grant");
}

#[tokio::test]
async fn a_refresh_token_used_twice_ends_its_family_and_is_counted() {
    let stage = stage().await;
    let (_, tokens) = stage.redeem(&stage.code().await).await;
    let first = tokens["refresh_token"].as_str().unwrap().to_owned();
    let (status, renewed) = stage.refresh(&first).await;
    assert_eq!(status, 200);
    assert!(claims(&renewed["id_token"])["nonce"].is_null());
    assert_eq!(stage.provider.reuses(), 0);
    assert_eq!(stage.refresh(&first).await.1["error"], "invalid_grant");
    assert_eq!(stage.provider.reuses(), 1);
    let second = renewed["refresh_token"].as_str().unwrap();
    assert_eq!(stage.refresh(second).await.1["error"], "invalid_grant");
    assert_eq!(stage.userinfo(renewed["access_token"].as_str().unwrap()).await.0, 401);
}

#[tokio::test]
async fn clients_authenticate_themselves_in_one_way() {
    let stage = stage().await;
    let form = |secret: &str| format!("grant_type=refresh_token&refresh_token=x&client_id=web&client_secret={secret}");
    let right = form("s%26cret%3Dwith%3Aodd%2Bcharacters-long-enough");
    assert_eq!(stage.send(Method::POST, Endpoint::Token, None, right.clone()).await.1["error"], "invalid_grant");
    assert_eq!(stage.send(Method::POST, Endpoint::Token, None, form("wrong")).await.1["error"], "invalid_client");
    let both = stage.send(Method::POST, Endpoint::Token, Some("Basic d2ViOng="), right).await;
    assert_eq!((both.0, both.1["error"].as_str()), (401, Some("invalid_client")));
    let seen: Vec<Authentication> = stage.provider.journal().iter().map(|seen| seen.authentication).collect();
    assert_eq!(seen, [Authentication::Post, Authentication::Post, Authentication::Basic]);
}

#[tokio::test]
async fn logout_goes_back_to_registered_addresses_only() {
    let stage = stage().await;
    let (_, tokens) = stage.redeem(&stage.code().await).await;
    let hint = tokens["id_token"].as_str().unwrap();
    let url = |back: &str| {
        let list = [("id_token_hint", hint), ("post_logout_redirect_uri", back), ("state", "s1")];
        String::from(Url::parse_with_params(&stage.provider.url(Endpoint::EndSession), list).unwrap())
    };
    stage.browser.navigate(&url("https://evil.test/")).await.is(400);
    let back = stage.browser.navigate(&url("https://app.test/logout/end")).stop_before("/logout/end").await;
    assert_eq!(back.location().as_str(), "https://app.test/logout/end?state=s1");
    assert_eq!(value(&stage.callback(&[("prompt", "none")]).await, "error").as_deref(), Some("login_required"));
    assert_eq!(stage.refresh(tokens["refresh_token"].as_str().unwrap()).await.1["error"], "invalid_grant");
}

#[tokio::test]
async fn it_lies_when_told_and_only_then() {
    let stage = stage().await;
    let lie = |kind| stage.provider.mutate(Mutation::next(Endpoint::Token, kind));
    lie(Kind::IdToken(JwtMutation::SetClaim("iss", "https://evil.test".into())));
    lie(Kind::JsonRemove("expires_in"));
    lie(Kind::HeaderSet(http::header::CONTENT_TYPE, HeaderValue::from_static("text/plain")));
    let (_, tokens) = stage.redeem(&stage.code().await).await;
    assert_eq!(claims(&tokens["id_token"])["iss"], "https://evil.test");
    assert!(tokens["expires_in"].is_null());
    lie(Kind::IdToken(JwtMutation::Sign(SignWith::Nothing)));
    let (_, tokens) = stage.redeem(&stage.code().await).await;
    assert!(tokens["id_token"].as_str().unwrap().ends_with('.'));
    let (_, tokens) = stage.redeem(&stage.code().await).await;
    assert_eq!(claims(&tokens["id_token"])["iss"], stage.provider.issuer());
    let issued = stage.provider.issued();
    assert_eq!(issued.iter().filter(|(kind, _)| *kind == Secret::IdToken).count(), 3);
}

#[tokio::test]
async fn it_goes_down_and_comes_back_on_its_port() {
    let stage = stage().await;
    let address = stage.provider.address();
    stage.provider.go_down().await.unwrap();
    assert!(TcpStream::connect(address).await.is_err());
    stage.provider.come_up().unwrap();
    assert_eq!(stage.send(Method::GET, Endpoint::Discovery, None, String::new()).await.0, 200);
    stage.provider.delay(Endpoint::Jwks, Duration::from_millis(30));
    let start = std::time::Instant::now();
    let (_, before) = stage.send(Method::GET, Endpoint::Jwks, None, String::new()).await;
    assert!(start.elapsed() >= Duration::from_millis(30));
    stage.provider.rotate_keys().unwrap();
    assert_ne!(stage.send(Method::GET, Endpoint::Jwks, None, String::new()).await.1, before);
}

#[tokio::test]
async fn it_serves_loopback_only() {
    let options = Options { listen: "0.0.0.0:0".parse().unwrap(), ..Options::default() };
    assert!(DemoProvider::start(options).await.is_err());
    let stage = stage().await;
    let request = "GET /realms/corp/userinfo HTTP/1.1\r\nHost: rebound.test\r\n\r\n";
    assert_eq!(crate::world::raw::Raw::status(stage.provider.address(), request).await, 403);
}
