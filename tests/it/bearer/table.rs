//! Table B: every way in which a bearer can be wrong, asked for both as a proxied call and as a verdict.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use vestibule::demo::provider::{Algorithm, Endpoint, JwtMutation, SignWith};

use JwtMutation::{RawHeader, RawPayload, RemoveClaim, RemoveHeader, Segment, SetClaim, SetHeader, Sign, Text};

use super::{API, call, challenge, header, status, token, usual, verdict, world};
use crate::world::World;

/// What must come of a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expect {
    /// It passes.
    Pass,
    /// 401 `invalid_token`.
    Invalid,
}

/// One row.
type Row = (&'static str, Vec<JwtMutation>, Expect);

/// Asks with every row's token, both ways.
async fn judge(world: &World, rows: Vec<Row>) {
    for (id, changes, expect) in rows {
        let token = token(world, &changes);
        hold(world, id, &token, expect).await;
    }
}

/// Asks with one token, both ways; what is refused never reaches the upstream.
async fn hold(world: &World, id: &str, token: &str, expect: Expect) {
    let before = world.upstream.recorded().len();
    let answer = call(world, token).await;
    let (proxied, asked, code) = match expect {
        Expect::Pass => (200, 204, ""),
        Expect::Invalid => (401, 401, "invalid_token"),
    };
    assert_eq!(answer.status.as_u16(), proxied, "{id}: {}", answer.describe());
    let verdict = verdict(world, "/things/1", &[format!("Authorization: Bearer {token}")]).await;
    assert_eq!(status(&verdict), asked, "{id}: {verdict}");
    let reached = world.upstream.recorded().len() - before;
    if expect == Expect::Pass {
        assert_eq!((reached, header(&verdict, "vestibule-verdict")), (1, Some("allow")), "{id}");
        return;
    }
    assert_eq!((reached, header(&verdict, "vestibule-verdict")), (0, None), "{id}");
    for challenge in [challenge(&answer), header(&verdict, "www-authenticate").unwrap()] {
        assert!(challenge.starts_with(&format!("Bearer realm=\"{API}\", error=\"{code}\"")), "{id}: {challenge}");
    }
    answer.refused(proxied, code);
}

/// JV-7, JV-9; B01–B05, B08, B09.
#[tokio::test]
async fn jv_7_jv_9_what_a_header_says_never_widens_what_is_accepted() {
    let world = usual().await;
    let tripwire = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let trap = format!("http://{}/keys", tripwire.local_addr().unwrap());
    let keys = world.published_keys().await;
    let rsa = keys.iter().find(|key| key["kty"] == "RSA" && key["use"] == "sig").unwrap();
    let ec_kid = keys.iter().find(|key| key["crv"] == "P-256").unwrap()["kid"].clone();
    let modulus = URL_SAFE_NO_PAD.decode(rsa["n"].as_str().unwrap()).unwrap();
    let hs = |secret: Vec<u8>| vec![Sign(SignWith::Hs256(secret))];
    let foreign = |name: &'static str, value: Value| vec![Sign(SignWith::Stranger), SetHeader(name, value)];
    let none = |alg: &str| vec![Sign(SignWith::Nothing), SetHeader("alg", json!(alg))];
    let kid = |kid: &str| vec![SetHeader("kid", json!(kid))];
    let mut rows = vec![
        ("B01", vec![], Expect::Pass),
        ("B01 ES256", vec![Sign(SignWith::Published(Algorithm::ES256))], Expect::Pass),
        ("B03 HS256 with the modulus", hs(modulus), Expect::Invalid),
        ("B04 HS256 with the JWK", hs(rsa.to_string().into_bytes()), Expect::Invalid),
        ("B05 HS256 with nothing", hs(Vec::new()), Expect::Invalid),
        ("B07 a stranger's key", vec![Sign(SignWith::Stranger)], Expect::Invalid),
        ("B07 one bit of the signature", vec![JwtMutation::FlipBit(2)], Expect::Invalid),
        ("B07 one bit of the payload", vec![JwtMutation::FlipBit(1)], Expect::Invalid),
        ("B08 jku", foreign("jku", json!(trap)), Expect::Invalid),
        ("B08 x5u", foreign("x5u", json!(trap)), Expect::Invalid),
        ("B08 x5c", foreign("x5c", json!(["AAAA"])), Expect::Invalid),
        ("B08 jwk", foreign("jwk", rsa.clone()), Expect::Invalid),
        ("B08 jku beside a good signature", vec![SetHeader("jku", json!(trap))], Expect::Pass),
        ("B09 traversal", kid("../../../../dev/null"), Expect::Invalid),
        ("B09 SQL", kid("x' UNION SELECT 'key' --"), Expect::Invalid),
        ("B09 URL", kid(&trap), Expect::Invalid),
        ("B09 long", kid(&"k".repeat(5000)), Expect::Invalid),
        ("B09 number", vec![SetHeader("kid", json!(5))], Expect::Invalid),
        ("B09 of another kind of key", vec![SetHeader("kid", ec_kid)], Expect::Invalid),
    ];
    for alg in ["none", "None", "NONE", "nOnE", ""] {
        rows.push(("B02", none(alg), Expect::Invalid));
    }
    judge(&world, rows).await;
    let trapped = tokio::time::timeout(std::time::Duration::from_millis(50), tripwire.accept()).await;
    assert!(trapped.is_err(), "a key was fetched from where a token said");
    world.finish().await;
}

/// JV-7, JV-10, JV-17; B17–B19, B25.
#[tokio::test]
async fn jv_7_jv_10_jv_17_the_algorithm_is_the_keys_and_no_extension_is_understood() {
    let world = usual().await;
    let rows = vec![
        ("B17 ES256 over an RSA key", vec![SetHeader("alg", json!("ES256"))], Expect::Invalid),
        ("B17 PS256 over PKCS#1", vec![SetHeader("alg", json!("PS256"))], Expect::Invalid),
        ("B17 RS384", vec![SetHeader("alg", json!("RS384"))], Expect::Invalid),
        ("B18 crit with a string", vec![SetHeader("crit", json!(["x"])), SetHeader("x", json!("y"))], Expect::Invalid),
        ("B18 crit with a number", vec![SetHeader("crit", json!(["x"])), SetHeader("x", json!(1))], Expect::Invalid),
        ("B18 crit empty", vec![SetHeader("crit", json!([]))], Expect::Invalid),
        ("B18 crit b64", vec![SetHeader("crit", json!(["b64"])), SetHeader("b64", json!(false))], Expect::Invalid),
        ("B18 an extension that is not critical", vec![SetHeader("ver", json!(1))], Expect::Pass),
        ("B19 zip", vec![SetHeader("zip", json!("DEF"))], Expect::Invalid),
        ("B19 enc", vec![SetHeader("enc", json!("A128GCM"))], Expect::Invalid),
        (
            "B19 five parts",
            vec![Text("eyJhbGciOiJkaXIiLCJlbmMiOiJBMTI4R0NNIn0..AAAA.AAAA.AAAA".into())],
            Expect::Invalid,
        ),
        (
            "B25 63 bytes",
            vec![Sign(SignWith::Published(Algorithm::ES256)), Segment(2, "A".repeat(84))],
            Expect::Invalid,
        ),
        (
            "B25 65 bytes",
            vec![Sign(SignWith::Published(Algorithm::ES256)), Segment(2, "A".repeat(87))],
            Expect::Invalid,
        ),
        ("B25 no signature", vec![Segment(2, String::new())], Expect::Invalid),
        ("JV-17 dots", vec![Text(".".repeat(8000))], Expect::Invalid),
        ("JV-17 long", vec![SetClaim("pad", json!("x".repeat(7000)))], Expect::Invalid),
    ];
    judge(&world, rows).await;
    world.finish().await;
}

/// JV-12, JV-13; B10–B13, B16, B24, B26, B43, B44.
#[tokio::test]
async fn jv_12_jv_13_claims_are_read_by_their_type_and_held_against_the_config() {
    let world = usual().await;
    let now = world.clock.now().unix();
    let issuer = world.provider.issuer().to_owned();
    let set = |name, value: Value| vec![SetClaim(name, value)];
    let raw = |member: &str| {
        let text = format!(
            "{{\"iss\":\"{issuer}\",\"sub\":\"alice-0001\",\"aud\":\"api\",\"exp\":{},\"scope\":\"read\"{member}}}",
            now + 300
        );
        vec![RawPayload(text)]
    };
    let rows = vec![
        ("B10 iss missing", vec![RemoveClaim("iss")], Expect::Invalid),
        ("B11 iss wrong", set("iss", json!("https://evil.example")), Expect::Invalid),
        ("B11 iss with a slash", set("iss", json!(format!("{issuer}/"))), Expect::Invalid),
        ("B11 iss in capitals", set("iss", json!(issuer.to_uppercase())), Expect::Invalid),
        ("B12 iss a list", set("iss", json!(["https://evil.example", issuer])), Expect::Invalid),
        ("B12 iss a number", set("iss", json!(5)), Expect::Invalid),
        ("B13 aud missing", vec![RemoveClaim("aud")], Expect::Invalid),
        ("B13 aud a number", set("aud", json!(5)), Expect::Invalid),
        ("B13 aud null", set("aud", Value::Null), Expect::Invalid),
        ("B13 aud empty", set("aud", json!([])), Expect::Invalid),
        ("B13 aud a list with a number", set("aud", json!(["api", 5])), Expect::Invalid),
        ("B13 aud in capitals", set("aud", json!("API")), Expect::Invalid),
        ("B16 aud of another", set("aud", json!("another-api")), Expect::Invalid),
        ("B16 aud among others", set("aud", json!(["another-api", "api"])), Expect::Pass),
        ("B14 exp missing", vec![RemoveClaim("exp")], Expect::Invalid),
        ("B14 exp a string", set("exp", json!("9999999999")), Expect::Invalid),
        ("B14 exp past", set("exp", json!(now - 61)), Expect::Invalid),
        ("B14 exp within the skew", set("exp", json!(now - 30)), Expect::Pass),
        ("B14 exp beyond all calendars", set("exp", json!(1e300)), Expect::Pass),
        ("B14 exp negative", set("exp", json!(-1)), Expect::Invalid),
        ("B15 nbf to come", set("nbf", json!(now + 600)), Expect::Invalid),
        ("B15 nbf a string", set("nbf", json!("0")), Expect::Invalid),
        ("B15 nbf past", set("nbf", json!(now - 10)), Expect::Pass),
        ("B24 payload a list", vec![RawPayload("[1,2,3,4,5]".into())], Expect::Invalid),
        ("B24 payload a string", vec![RawPayload("\"sub\"".into())], Expect::Invalid),
        ("B24 header a list", vec![RawHeader("[\"RS256\"]".into())], Expect::Invalid),
        ("B24 nothing odd", raw(""), Expect::Pass),
        ("B26 scope twice", raw(",\"scope\":\"write\""), Expect::Invalid),
        ("B26 aud twice", raw(",\"aud\":\"api\""), Expect::Invalid),
        ("B26 exp twice", raw(",\"exp\":1"), Expect::Invalid),
        ("B43 iat to come", set("iat", json!(now + 600)), Expect::Invalid),
        ("B43 iat a string", set("iat", json!("0")), Expect::Invalid),
        ("B44 sub missing", vec![RemoveClaim("sub")], Expect::Invalid),
        ("B44 sub empty", set("sub", json!("")), Expect::Invalid),
        ("B44 sub a number", set("sub", json!(5)), Expect::Invalid),
        ("B44 sub of 256 characters", set("sub", json!("s".repeat(256))), Expect::Invalid),
    ];
    judge(&world, rows).await;
    world.finish().await;
}

/// JV-11, JV-18; B22, and B23 for the plain profile.
#[tokio::test]
async fn jv_11_jv_18_a_token_of_another_kind_is_no_access_token() {
    let world = usual().await;
    let typ = |typ: &str| vec![SetHeader("typ", json!(typ))];
    let set = |name, value: Value| vec![SetClaim(name, value)];
    let mut rows = vec![
        ("B23 no typ", vec![RemoveHeader("typ")], Expect::Pass),
        ("B23 JWT", typ("JWT"), Expect::Pass),
        ("B23 at+jwt", typ("AT+JWT"), Expect::Pass),
        ("B23 typ a number", vec![SetHeader("typ", json!(5))], Expect::Invalid),
        ("JV-18 bound to a DPoP key", set("cnf", json!({"jkt": "x"})), Expect::Invalid),
        ("JV-18 bound to a certificate", set("cnf", json!({"x5t#S256": "x"})), Expect::Invalid),
        ("JV-11 ID token by at_hash", set("at_hash", json!("x")), Expect::Invalid),
        ("JV-11 ID token by c_hash", set("c_hash", json!("x")), Expect::Invalid),
        ("JV-11 ID token by nonce", vec![SetClaim("nonce", json!("x")), RemoveClaim("scope")], Expect::Invalid),
        ("JV-11 nonce beside scopes", set("nonce", json!("x")), Expect::Pass),
        ("JV-11 Keycloak's ID token", set("typ", json!("ID")), Expect::Invalid),
        ("JV-11 Keycloak's access token", set("typ", json!("Bearer")), Expect::Pass),
        ("JV-11 Keycloak's refresh token", set("typ", json!("Refresh")), Expect::Invalid),
        ("JV-11 logout token without typ", vec![RemoveHeader("typ"), SetClaim("events", json!({}))], Expect::Invalid),
        ("B22 client assertion", vec![SetClaim("iss", json!("cli")), SetClaim("sub", json!("cli"))], Expect::Invalid),
    ];
    for other in ["logout+jwt", "dpop+jwt", "secevent+jwt", "token-introspection+jwt", "client-authentication+jwt", ""]
    {
        rows.push(("B22", typ(other), Expect::Invalid));
    }
    judge(&world, rows).await;
    // The ID token that a login brings, whole.
    world.browser.login("alice").await;
    let issued = world.provider.issued();
    let (_, id_token) = issued.iter().rfind(|(kind, _)| *kind == vestibule::demo::provider::Secret::IdToken).unwrap();
    hold(&world, "JV-11 a whole ID token", id_token, Expect::Invalid).await;
    world.finish().await;
}

/// JV-11; B23: RFC 9068 by the letter.
#[tokio::test]
async fn b23_the_profile_of_rfc_9068_wants_its_type_and_its_claims() {
    let world = world(|toml| toml.text("routes.things", "token_profile", "rfc9068")).await;
    let typ = |typ: &str| vec![SetHeader("typ", json!(typ))];
    let rows = vec![
        ("B23", vec![], Expect::Pass),
        ("B23 application/AT+JWT", typ("application/AT+JWT"), Expect::Pass),
        ("B23 missing", vec![RemoveHeader("typ")], Expect::Invalid),
        ("B23 JWT", typ("JWT"), Expect::Invalid),
        ("RFC 9068 2.2 iat", vec![RemoveClaim("iat")], Expect::Invalid),
        ("RFC 9068 2.2 jti", vec![RemoveClaim("jti")], Expect::Invalid),
        ("RFC 9068 2.2 client_id", vec![RemoveClaim("client_id")], Expect::Invalid),
    ];
    judge(&world, rows).await;
    world.finish().await;
}

impl World {
    /// The keys that the provider publishes.
    pub(super) async fn published_keys(&self) -> Vec<Value> {
        let answer = self.browser.get(&self.provider.url(Endpoint::Jwks)).without_metadata().await.is(200);
        answer.json()["keys"].as_array().unwrap().clone()
    }
}
