//! The OpenID Foundation's modules for relying parties (plans "Basic RP" and "Config RP"), one test a module, by name.
//!
//! Each is run against the side of ours that speaks with the provider. A module that must be refused is refused before
//! userinfo is asked, as the suite judges it, and a clean login afterwards succeeds.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tokio_util::task::TaskTracker;
use url::Url;
use vestibule::config::{self, Name, Secret, SigningAlg, Userinfo};
use vestibule::demo::provider::{
    self as demo, Algorithm, Authentication, DemoProvider, Endpoint, JwtMutation, KeySet, Kind, Mutation, Options,
    SignWith,
};
use vestibule::metrics::Metrics;
use vestibule::provider::{Ask, Client, Error, Grant, Provider, Surroundings};
use vestibule::time::Clock;
use vestibule::web::Query;

use crate::world::browser::{self, Browser, Destination, Hosts};
use crate::world::{log, unique};

const CALLBACK: &str = "https://app.test/login/end";
const SECRET: &str = "a client secret: with characters & that = need + escaping";

/// A relying party, its provider and a browser between them.
struct Party {
    provider: DemoProvider,
    client: Client,
    browser: Browser,
    clock: Clock,
}

impl Party {
    async fn new() -> Self {
        Self::with(|_| {}).await
    }

    async fn with(adjust: impl FnOnce(&mut Options)) -> Self {
        log::capture();
        let clock = Clock::default();
        let registration =
            demo::Client::confidential("web", SECRET).only(&[Authentication::Basic]).redirect_uri(CALLBACK);
        let mut options =
            Options { clock: clock.clone(), canary: unique(), clients: vec![registration], ..Options::default() };
        adjust(&mut options);
        let provider = DemoProvider::start(options).await.unwrap();
        let client = client(provider.issuer(), &clock);
        let hosts = Hosts::default();
        hosts.put(&provider.address().to_string(), Destination::Direct(provider.address()));
        let browser = Browser::new(browser::Surroundings {
            hosts,
            clock: clock.clone(),
            transcript: Default::default(),
            log_position: log::position(),
            home: Url::parse("https://app.test/").unwrap(),
        });
        Self { provider, client, browser, clock }
    }

    /// A login from the first redirect to the last answer.
    async fn login(&self) -> Result<Grant, Error> {
        let ask = Ask { redirect_uri: CALLBACK.to_owned(), ..Ask::default() };
        let (url, attempt) = self.client.begin(&ask, self.clock.now()).await?;
        let url = format!("{url}&login_hint=alice");
        let callback = self.browser.navigate(&url).stop_before("/login/end").await.is(303).location();
        let query = Query::parse(callback.query().unwrap());
        let callback = self.client.accept(attempt, &query, self.clock.now())?;
        self.client.exchange(callback, self.clock.now()).await
    }

    /// Asserts that a lie in the ID token is refused before userinfo is asked, and that the truth is not.
    async fn refuses(&self, lie: JwtMutation) {
        let text = format!("{lie:?}");
        self.provider.mutate(Mutation::next(Endpoint::Token, Kind::IdToken(lie)));
        let asked = self.provider.count(Endpoint::Userinfo);
        match self.login().await {
            Err(Error::Unacceptable(_)) => {}
            Err(error) => panic!("{text}: refused as {error}"),
            Ok(_) => panic!("{text}: accepted"),
        }
        assert_eq!(self.provider.count(Endpoint::Userinfo), asked, "{text}: userinfo was asked");
        assert_eq!(self.login().await.unwrap().subject, "alice-0001");
    }
}

fn client(issuer: &str, clock: &Clock) -> Client {
    let config = Arc::new(config::Provider {
        name: Name::parse("corp").unwrap(),
        issuer: issuer.to_owned(),
        backchannel: None,
        clock_skew: Duration::from_secs(60),
        ca: None,
        signing_algs: vec![
            SigningAlg::RS256,
            SigningAlg::PS256,
            SigningAlg::ES256,
            SigningAlg::ES384,
            SigningAlg::EdDSA,
        ],
        max_stale: Duration::from_secs(24 * 3600),
        required_for_ready: false,
    });
    let surroundings =
        Surroundings { clock: clock.clone(), metrics: Arc::new(Metrics::new()), tasks: TaskTracker::new() };
    let registration = Arc::new(config::Client {
        provider: Arc::clone(&config),
        client_id: "web".to_owned(),
        client_secret: Some(Secret::new(SECRET.to_owned())),
        token_endpoint_auth_method: None,
        scopes: ["openid", "profile", "email"].map(str::to_owned).to_vec(),
        authorization_params: BTreeMap::new(),
        userinfo: Userinfo::Auto,
        additional_audiences: Vec::new(),
        id_token_hint: true,
        require_at_hash: false,
    });
    Client { provider: Provider::start(config, surroundings), registration }
}

/// oidcc-client-test
#[tokio::test]
async fn oidcc_client_test() {
    let party = Party::new().await;
    let grant = party.login().await.unwrap();
    assert_eq!(grant.subject, "alice-0001");
    for endpoint in [Endpoint::Discovery, Endpoint::Authorize, Endpoint::Token, Endpoint::Userinfo] {
        assert_eq!(party.provider.count(endpoint), 1, "{endpoint:?}");
    }
}

/// oidcc-client-test-invalid-iss
#[tokio::test]
async fn invalid_iss() {
    let party = Party::new().await;
    party.refuses(JwtMutation::SetClaim("iss", json!("https://evil.test"))).await;
}

/// oidcc-client-test-missing-sub
#[tokio::test]
async fn missing_sub() {
    Party::new().await.refuses(JwtMutation::RemoveClaim("sub")).await;
}

/// oidcc-client-test-invalid-aud
#[tokio::test]
async fn invalid_aud() {
    Party::new().await.refuses(JwtMutation::SetClaim("aud", json!("another"))).await;
}

/// oidcc-client-test-missing-iat
#[tokio::test]
async fn missing_iat() {
    Party::new().await.refuses(JwtMutation::RemoveClaim("iat")).await;
}

/// oidcc-client-test-kid-absent-single-jwks
#[tokio::test]
async fn kid_absent_single_jwks() {
    let party = Party::with(|options| options.keys = KeySet::Single).await;
    party
        .provider
        .mutate(Mutation::next(Endpoint::Token, Kind::IdToken(JwtMutation::RemoveHeader("kid"))));
    party.login().await.unwrap();
}

/// oidcc-client-test-kid-absent-multiple-jwks: one of the keys fits the algorithm and is tried.
#[tokio::test]
async fn kid_absent_multiple_jwks() {
    let party = Party::with(|options| options.keys = KeySet::Usual).await;
    party
        .provider
        .mutate(Mutation::next(Endpoint::Token, Kind::IdToken(JwtMutation::RemoveHeader("kid"))));
    party.login().await.unwrap();
}

/// oidcc-client-test-idtoken-sig-rs256, and the other algorithms that are accepted by default (I01).
#[tokio::test]
async fn idtoken_sig_rs256() {
    use Algorithm::{ES256, ES384, EdDSA, PS256, RS256};
    for signing in [RS256, PS256, ES256, ES384, EdDSA] {
        let party = Party::with(|options| options.signing = signing).await;
        party.login().await.unwrap_or_else(|error| panic!("{signing:?}: {error}"));
    }
}

/// oidcc-client-test-idtoken-sig-none: we refuse, which the suite allows.
#[tokio::test]
async fn idtoken_sig_none() {
    Party::new().await.refuses(JwtMutation::Sign(SignWith::Nothing)).await;
}

/// oidcc-client-test-invalid-sig-rs256
#[tokio::test]
async fn invalid_sig_rs256() {
    let party = Party::new().await;
    party.refuses(JwtMutation::FlipBit(2)).await;
    party.refuses(JwtMutation::Sign(SignWith::Stranger)).await;
}

/// oidcc-client-test-userinfo-invalid-sub: userinfo is asked, and the login refused for what it says (CB-18).
#[tokio::test]
async fn userinfo_invalid_sub() {
    let party = Party::new().await;
    party.provider.mutate(Mutation::next(Endpoint::Userinfo, Kind::JsonSet("sub", json!("bob-0001"))));
    assert!(matches!(party.login().await, Err(Error::Unacceptable(_))));
    assert_eq!(party.provider.count(Endpoint::Userinfo), 1);
    party.login().await.unwrap();
}

/// oidcc-client-test-nonce-invalid
#[tokio::test]
async fn nonce_invalid() {
    let party = Party::new().await;
    party.refuses(JwtMutation::SetClaim("nonce", json!("another"))).await;
    party.refuses(JwtMutation::RemoveClaim("nonce")).await;
}

/// oidcc-client-test-scope-userinfo-claims
#[tokio::test]
async fn scope_userinfo_claims() {
    let party = Party::new().await;
    let grant = party.login().await.unwrap();
    assert_eq!(grant.userinfo["email"], "alice@example.com");
    let asked = party.provider.journal();
    let asked = asked.iter().find(|seen| seen.endpoint == Endpoint::Authorize).unwrap();
    assert_eq!(asked.parameter("scope"), Some("openid profile email"));
    let userinfo = party.provider.journal().into_iter().find(|seen| seen.endpoint == Endpoint::Userinfo).unwrap();
    assert_eq!((userinfo.authentication, userinfo.parameters.len()), (Authentication::Bearer, 0));
}

/// oidcc-client-test-client-secret-basic (OG-8): the provider takes nothing else here.
#[tokio::test]
async fn client_secret_basic() {
    let party = Party::new().await;
    party.login().await.unwrap();
    let seen = party.provider.journal().into_iter().find(|seen| seen.endpoint == Endpoint::Token).unwrap();
    assert_eq!(seen.authentication, Authentication::Basic);
    assert_eq!(seen.parameter("client_secret"), None);
}

/// oidcc-client-test-discovery-openid-config
#[tokio::test]
async fn discovery_openid_config() {
    let party = Party::new().await;
    party.login().await.unwrap();
    assert_eq!(party.provider.count(Endpoint::Discovery), 1);
}

/// oidcc-client-test-discovery-jwks-uri-keys: the path of the keys is another in every run.
#[tokio::test]
async fn discovery_jwks_uri_keys() {
    let (one, other) = (Party::new().await, Party::new().await);
    assert_ne!(
        one.provider.url(Endpoint::Jwks).rsplit_once('/').unwrap().1,
        other.provider.url(Endpoint::Jwks).rsplit_once('/').unwrap().1
    );
    one.login().await.unwrap();
    other.login().await.unwrap();
    assert_eq!((one.provider.count(Endpoint::Jwks), other.provider.count(Endpoint::Jwks)), (1, 1));
}

/// oidcc-client-test-discovery-issuer-mismatch (OG-5): no login is begun.
#[tokio::test]
async fn discovery_issuer_mismatch() {
    let party = Party::new().await;
    let lie = json!(format!("{}/", party.provider.issuer()));
    party.provider.mutate(Mutation::always(Endpoint::Discovery, Kind::JsonSet("issuer", lie)));
    assert!(party.login().await.is_err());
    assert_eq!(party.provider.count(Endpoint::Authorize), 0);
}

/// oidcc-client-test-signing-key-rotation-just-before-signing
#[tokio::test]
async fn signing_key_rotation_just_before_signing() {
    let party = Party::new().await;
    party.provider.mutate(Mutation::next(Endpoint::Token, Kind::RotateKeys));
    party.login().await.unwrap();
}

/// oidcc-client-test-signing-key-rotation (K23): the second login costs one more fetch, the third none.
#[tokio::test]
async fn signing_key_rotation() {
    let party = Party::new().await;
    party.login().await.unwrap();
    let fetched = party.provider.count(Endpoint::Jwks);
    party.provider.rotate_keys().unwrap();
    party.login().await.unwrap();
    party.login().await.unwrap();
    assert_eq!(party.provider.count(Endpoint::Jwks), fetched + 1);
    assert_eq!(party.provider.count(Endpoint::Userinfo), 3);
}
