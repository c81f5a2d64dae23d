//! A login from its first redirect to its grant, and what a callback may say.

use std::collections::HashSet;
use std::time::Duration;

use serde_json::json;
use url::Url;
use vestibule::config::{AuthMethod, Userinfo};
use vestibule::demo::provider::{Authentication, Endpoint, Kind, Options};
use vestibule::provider::{Ask, CallbackError};
use vestibule::web::Query;

use super::stage::{REDIRECT_URI, SECRET, Stage, ask, claim, refused, values};

#[tokio::test]
async fn cb_1_a_login_sends_one_code_once_and_brings_tokens() {
    let stage = Stage::new().await;
    let grant = stage.login().await.unwrap();
    assert_eq!(grant.subject, "alice-0001");
    assert_eq!(claim(&grant.claims, "iss"), Some(stage.op.issuer()));
    assert_eq!(claim(&grant.userinfo, "email"), Some("alice@example.com"));
    assert!(grant.sid.is_some() && grant.refresh_token.is_some());
    let lifetime = grant.access_expires_at.since(stage.now()).as_secs();
    assert!((295..=305).contains(&lifetime), "{lifetime}");
    assert_eq!(grant.access_token.claims().and_then(|claims| claims.get("aud").cloned()), Some(json!("api")));
    let sent: Vec<_> = stage.op.journal().into_iter().filter(|seen| seen.endpoint == Endpoint::Token).collect();
    assert_eq!(sent.len(), 1);
    assert_eq!(sent[0].parameter("grant_type"), Some("authorization_code"));
    assert_eq!(sent[0].parameter("redirect_uri"), Some(REDIRECT_URI));
    assert_eq!(sent[0].parameter("code_verifier").map(str::len), Some(43));
    assert_eq!(stage.op.count(Endpoint::Userinfo), 1);
}

#[tokio::test]
async fn ls_1_the_authorization_request_has_each_parameter_once() {
    let stage = Stage::with(Options::default(), |script| {
        for (name, value) in [("login_hint", "nobody"), ("audience", "api"), ("prompt", "consent")] {
            script.authorization_params.insert(name.to_owned(), value.to_owned());
        }
    })
    .await;
    let ask = Ask {
        prompt: Some("login".to_owned()),
        ui_locales: Some("de en".to_owned()),
        acr_values: vec!["1".to_owned(), "2".to_owned()],
        max_age: Some(Duration::from_secs(300)),
        ..ask()
    };
    let (url, attempt) = stage.client.begin(&ask, stage.now()).await.unwrap();
    assert_eq!(url.as_str().split('?').next(), Some(stage.op.url(Endpoint::Authorize).as_str()));
    for (name, value) in [
        ("response_type", "code"),
        ("client_id", "web"),
        ("redirect_uri", REDIRECT_URI),
        ("scope", "openid profile email"),
        ("state", attempt.state()),
        ("code_challenge_method", "S256"),
        ("prompt", "login"),
        ("login_hint", "alice"),
        ("ui_locales", "de en"),
        ("acr_values", "1 2"),
        ("max_age", "300"),
        ("audience", "api"),
    ] {
        assert_eq!(values(&url, name), [value], "{name}");
    }
    let names: Vec<_> = url.query_pairs().map(|(name, _)| name.into_owned()).collect();
    assert_eq!(names.iter().collect::<HashSet<_>>().len(), names.len(), "ls_7: {names:?}");
    assert_eq!(values(&url, "nonce")[0].len(), 43);
    assert_eq!(values(&url, "code_challenge")[0].len(), 43);
}

#[tokio::test]
async fn ls_2_no_two_logins_share_a_random_value() {
    let stage = Stage::new().await;
    let mut seen = HashSet::new();
    for _ in 0..1_000 {
        let (url, _) = stage.client.begin(&ask(), stage.now()).await.unwrap();
        for name in ["state", "nonce", "code_challenge"] {
            assert!(seen.insert(values(&url, name).remove(0)));
        }
    }
}

#[tokio::test]
async fn ls_9_d16_a_query_of_the_authorization_endpoint_stays() {
    let stage = Stage::new().await;
    let endpoint = format!("{}?tenant=a%20b", stage.op.url(Endpoint::Authorize));
    stage.lie(Endpoint::Discovery, Kind::JsonSet("authorization_endpoint", json!(endpoint)));
    let (url, _) = stage.client.begin(&ask(), stage.now()).await.unwrap();
    assert!(url.as_str().starts_with(&endpoint), "{url}");
    assert_eq!(values(&url, "client_id"), ["web"]);
}

#[tokio::test]
async fn og_8_the_client_authenticates_as_configured_or_as_the_metadata_allow() {
    let both = [Authentication::Basic, Authentication::Post];
    for (offered, method, expected) in [
        (&both[..], None, Authentication::Basic),
        (&both[1..], None, Authentication::Post),
        (&both[..], Some(AuthMethod::ClientSecretPost), Authentication::Post),
        (&both[..], Some(AuthMethod::ClientSecretBasic), Authentication::Basic),
    ] {
        let web = vestibule::demo::provider::Client::confidential("web", SECRET).redirect_uri(REDIRECT_URI);
        let op = vestibule::demo::provider::DemoProvider::start(Options {
            clients: vec![web.only(offered)],
            ..Options::default()
        });
        let op = op.await.unwrap();
        let mut stage = Stage::with(Options::default(), |script| {
            script.provider.issuer = op.issuer().to_owned();
            script.method = method;
        })
        .await;
        stage.op = op;
        stage.login().await.unwrap();
        let seen = stage.op.journal().into_iter().find(|seen| seen.endpoint == Endpoint::Token).unwrap();
        assert_eq!(seen.authentication, expected, "{offered:?} {method:?}");
        assert_eq!(seen.parameter("client_secret").is_some(), expected == Authentication::Post);
    }
}

#[tokio::test]
async fn a_public_client_names_itself_and_proves_itself_by_pkce() {
    let web = vestibule::demo::provider::Client::public("web").redirect_uri(REDIRECT_URI);
    let op = vestibule::demo::provider::DemoProvider::start(Options { clients: vec![web], ..Options::default() });
    let op = op.await.unwrap();
    let mut stage = Stage::with(Options::default(), |script| {
        script.provider.issuer = op.issuer().to_owned();
        script.client_secret = None;
    })
    .await;
    stage.op = op;
    stage.login().await.unwrap();
}

#[tokio::test]
async fn d21_a_configured_method_that_is_not_offered_is_refused_in_words() {
    let stage = Stage::with(Options::default(), |script| script.method = Some(AuthMethod::ClientSecretBasic)).await;
    stage.lie(Endpoint::Discovery, Kind::JsonSet("token_endpoint_auth_methods_supported", json!(["private_key_jwt"])));
    let begun = stage.client.begin(&ask(), stage.now()).await;
    refused("D21", begun, "token_endpoint_auth_method client_secret_basic");
}

#[tokio::test]
async fn c_table_what_a_callback_may_say() {
    let stage = Stage::new().await;
    let issuer: String = url::form_urlencoded::byte_serialize(stage.op.issuer().as_bytes()).collect();
    let (_, attempt) = stage.client.begin(&ask(), stage.now()).await.unwrap();
    let state = attempt.state().to_owned();
    let mut flipped = state.clone().into_bytes();
    flipped[7] ^= 1;
    let flipped = String::from_utf8(flipped).unwrap();
    let said = |code, words: &str| Some(CallbackError::Provider { code, words: words.to_owned() });
    let twice = CallbackError::Malformed("a parameter occurs twice");
    let neither = CallbackError::Malformed("neither code nor error");
    let tokens = CallbackError::Malformed("tokens have no place in a callback of the code flow");
    let ok = format!("state={state}&iss={issuer}");
    let table = [
        ("C01", format!("{ok}&code=x"), None),
        ("CB-11", format!("{ok}&code=x&session_state=s&scope=a&authuser=0&hd=b"), None),
        ("C19", format!("{ok}&code=logout"), None),
        ("C02", format!("iss={issuer}&code=x"), Some(CallbackError::State)),
        ("C04", format!("state={flipped}&iss={issuer}&code=x"), Some(CallbackError::State)),
        ("C07 empty", format!("state={state}&iss=&code=x"), Some(CallbackError::Issuer)),
        ("C07 slash", format!("{ok}%2F&code=x"), Some(CallbackError::Issuer)),
        (
            "C07 twice encoded",
            format!("state={state}&code=x&iss={}", issuer.replace('%', "%25")),
            Some(CallbackError::Issuer),
        ),
        ("C08 CB-4", format!("state={state}&code=x&iss=https%3A%2F%2Fother.example"), Some(CallbackError::Issuer)),
        ("CB-5", format!("state={state}&code=x"), Some(CallbackError::Issuer)),
        ("CB-4 error", format!("state={state}&error=access_denied&iss=x"), Some(CallbackError::Issuer)),
        ("C10 code", format!("{ok}&code=x&code=x"), Some(twice.clone())),
        ("C11 state", format!("{ok}&code=x&state={state}"), Some(twice.clone())),
        ("C12 iss", format!("{ok}&code=x&iss={issuer}"), Some(twice.clone())),
        ("C13 error", format!("{ok}&error=a&error=b"), Some(twice.clone())),
        ("CB-7 session_state", format!("{ok}&code=x&session_state=a&session_state=b"), Some(twice)),
        ("CB-10", format!("{ok}&code=x&error=y"), Some(CallbackError::Malformed("both code and error"))),
        ("C21", format!("{ok}&code=x&access_token=t"), Some(tokens.clone())),
        ("C21", format!("{ok}&code=x&id_token=t"), Some(tokens)),
        ("C30", format!("{ok}&code[]=x"), Some(neither.clone())),
        ("C30", format!("{ok}&code%00=x"), Some(neither.clone())),
        ("C30", format!("{ok}&code="), Some(neither)),
        (
            "CB-8",
            format!("{ok}&error=access_denied&error_description=%3Cscript%3E"),
            said("access_denied", "access_denied: <script>"),
        ),
        ("CB-8", format!("{ok}&error=login_required"), said("login_required", "login_required")),
        ("C16", format!("{ok}&error=../x"), said("unknown", "../x")),
        ("LG-3", format!("{ok}&error=%0Ax%1B"), said("unknown", "\\nx\\u{1b}")),
    ];
    for (id, query, expected) in table {
        let result = stage.client.accept(attempt.clone(), &Query::parse(&query), stage.now());
        assert_eq!(result.err(), expected, "{id}: {query}");
    }
    assert_eq!(stage.op.count(Endpoint::Token), 0, "a refused callback sends nothing");
}

#[tokio::test]
async fn cb_12_an_attempt_ages() {
    let stage = Stage::new().await;
    let (attempt, query) = stage.arrive(&ask()).await.unwrap();
    let at = |seconds| attempt.started_at().plus(Duration::from_secs(seconds));
    assert!(stage.client.accept(attempt.clone(), &query, at(600)).is_ok());
    assert_eq!(stage.client.accept(attempt.clone(), &query, at(601)).err(), Some(CallbackError::Expired));
}

#[tokio::test]
async fn cb_6_cb_13_an_attempt_belongs_to_its_client() {
    let (a, b) = (Stage::new().await, Stage::new().await);
    let (attempt, query) = a.arrive(&ask()).await.unwrap();
    assert_eq!(b.client.accept(attempt, &query, b.now()).err(), Some(CallbackError::Expired));
    assert_eq!(a.op.count(Endpoint::Token) + b.op.count(Endpoint::Token), 0);
}

#[tokio::test]
async fn c24_a_stolen_code_meets_another_verifier() {
    let stage = Stage::new().await;
    let (_, stolen) = stage.arrive(&ask()).await.unwrap();
    let (attempt, own) = stage.arrive(&ask()).await.unwrap();
    let mixed = format!(
        "code={}&state={}&iss={}",
        stolen.parameter("code").value().unwrap(),
        own.parameter("state").value().unwrap(),
        stage.op.issuer()
    );
    let callback = stage.client.accept(attempt, &Query::parse(&mixed), stage.now()).unwrap();
    refused("C24", stage.client.exchange(callback, stage.now()).await, "refused the grant");
}

#[tokio::test]
async fn an_attempt_survives_its_cookie_and_is_masked() {
    let stage = Stage::new().await;
    let (attempt, query) = stage.arrive(&ask()).await.unwrap();
    let stored = serde_json::to_vec(&attempt).unwrap();
    let attempt: vestibule::provider::Attempt = serde_json::from_slice(&stored).unwrap();
    assert!(!format!("{attempt:?}").contains(attempt.state()));
    let callback = stage.client.accept(attempt, &query, stage.now()).unwrap();
    assert_eq!(format!("{callback:?}"), "Callback");
    let grant = stage.client.exchange(callback, stage.now()).await.unwrap();
    let shown = format!("{grant:?}");
    assert!(!shown.contains(grant.access_token.expose()) && !shown.contains(grant.id_token.expose()), "{shown}");
}

#[tokio::test]
async fn lo_1_the_way_out_names_the_token_the_client_and_the_return() {
    let stage = Stage::with(Options::default(), |script| script.userinfo = Userinfo::Off).await;
    let grant = stage.login().await.unwrap();
    assert_eq!(stage.op.count(Endpoint::Userinfo), 0);
    let back = "https://app.example.com/logout/end";
    let url = stage.client.end_session(Some(&grant.id_token), back, "s").unwrap();
    for (name, value) in [
        ("id_token_hint", grant.id_token.expose()),
        ("client_id", "web"),
        ("post_logout_redirect_uri", back),
        ("state", "s"),
    ] {
        assert_eq!(values(&url, name), [value]);
    }
    let without: Url = stage.client.end_session(None, back, "s").unwrap();
    assert!(values(&without, "id_token_hint").is_empty());
}

#[tokio::test]
async fn lo_7_a_revoked_refresh_token_is_dead() {
    let stage = Stage::new().await;
    let grant = stage.login().await.unwrap();
    stage.client.revoke(grant.refresh_token.as_ref().unwrap()).await;
    let seen = stage.op.journal().into_iter().find(|seen| seen.endpoint == Endpoint::Revocation).unwrap();
    assert_eq!(seen.authentication, Authentication::Basic);
    refused("LO-7", stage.refresh(&grant).await, "refused the grant");
}
