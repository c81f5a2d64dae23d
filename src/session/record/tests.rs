//! Records come back as they went in, whatever the session holds, and nothing else comes out of anything.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use proptest::prelude::*;
use serde_json::{Map, json};

use super::*;
use crate::session::Handle;

fn jwt(claims: &Map<String, Value>) -> String {
    let payload = URL_SAFE_NO_PAD.encode(serde_json::to_vec(claims).unwrap());
    format!("eyJhbGciOiJSUzI1NiIsImtpZCI6ImtleSJ9.{payload}.{}", URL_SAFE_NO_PAD.encode([7; 256]))
}

fn session(claims: &Map<String, Value>, id_token: &str) -> Session {
    let now = Timestamp::from_unix(1_700_000_000);
    Session {
        id: Handle::new().unwrap().id(),
        version: 3,
        binding: Arc::new(Binding {
            route: Name::parse("web").unwrap(),
            provider: Name::parse("corp").unwrap(),
            issuer: "https://id.example.com/realms/corp".to_owned(),
            client_id: "web".to_owned(),
        }),
        subject: "5b9d5a9e-3a0c-4f0e-8d43-0f1c6f7f8f0a".to_owned(),
        sid: Some("a1f0c2d4-7a54-4d5e-9c53-3e1f2a9b7c10".to_owned()),
        created_at: now,
        expires_at: now.plus(Duration::from_secs(36_000)),
        claims: claims.clone(),
        userinfo: Map::new(),
        tokens: Tokens {
            access: AccessToken::from_stored("access").unwrap(),
            access_expires_at: now.plus(Duration::from_secs(300)),
            obtained_at: now,
            refresh: RefreshToken::from_stored("refresh"),
            id_token: IdToken::from_stored(id_token),
        },
        profile: OnceLock::new(),
    }
}

fn assert_same(one: &Session, other: &Session) {
    assert_eq!(one.id, other.id);
    assert_eq!(one.version, other.version);
    assert_eq!(one.binding, other.binding);
    assert_eq!((&one.subject, &one.sid), (&other.subject, &other.sid));
    assert_eq!((one.created_at, one.expires_at), (other.created_at, other.expires_at));
    assert_eq!(one.claims, other.claims);
    assert_eq!(one.userinfo, other.userinfo);
    let (one, other) = (&one.tokens, &other.tokens);
    assert!(one.access == other.access && one.refresh == other.refresh && one.id_token == other.id_token);
    assert_eq!((one.access_expires_at, one.obtained_at), (other.access_expires_at, other.obtained_at));
}

fn usual_claims() -> Map<String, Value> {
    let claims = json!({
        "iss": "https://id.example.com/realms/corp", "aud": "web", "exp": 1_700_000_300, "iat": 1_700_000_000,
        "sub": "5b9d5a9e-3a0c-4f0e-8d43-0f1c6f7f8f0a", "sid": "a1f0c2d4-7a54-4d5e-9c53-3e1f2a9b7c10", "nonce": "n",
        "email": "alice@example.com", "email_verified": true, "name": "Alice", "groups": ["staff", "ops"],
    });
    claims.as_object().unwrap().clone()
}

#[test]
fn a_usual_session_costs_little_beside_its_tokens() {
    let claims = usual_claims();
    let mut session = session(&claims, &jwt(&claims));
    let protocol = ["iss", "aud", "exp"];
    session.userinfo = claims.into_iter().filter(|(name, _)| !protocol.contains(&name.as_str())).collect();
    let record = encode(&session).unwrap();
    assert_same(&decode(session.id, &record).unwrap(), &session);
    let tokens = &session.tokens;
    let packed = |text: &str| postcard::to_stdvec(&Packed::new(text)).unwrap().len();
    let tokens = packed(tokens.access.expose()) + packed("refresh") + packed(tokens.id_token.expose());
    assert!(record.len() < tokens + 100, "{} beside {tokens}", record.len());
}

#[test]
fn the_head_can_be_read_alone() {
    let claims = usual_claims();
    let session = session(&claims, "id");
    let record = encode(&session).unwrap();
    assert_eq!(head(&record), Some(Head { version: 3, expires_at: session.expires_at }));
    assert_eq!(head(&[]), None);
    assert_eq!(head(&[FORMAT]), None);
}

#[test]
fn another_format_and_a_torn_record_are_no_session() {
    let claims = usual_claims();
    let session = session(&claims, &jwt(&claims));
    let record = encode(&session).unwrap();
    for len in 0..record.len() {
        assert!(decode(session.id, &record[..len]).is_none(), "cut to {len}");
    }
    let mut other = record.to_vec();
    other[0] = FORMAT + 1;
    assert!(decode(session.id, &other).is_none());
    assert_eq!(head(&other), None);
}

proptest! {
    #[test]
    fn every_session_comes_back_the_same(
        names in prop::collection::btree_map("[a-z]{1,5}|sub|sid", "\\PC{0,12}", 0..12),
        kept in prop::collection::btree_map("[a-z]{1,5}|sub|sid", "\\PC{0,12}", 0..4),
        (subject, sid) in ("\\PC{1,12}", prop::option::of("\\PC{0,12}")),
        (version, times, refresh) in (any::<u64>(), any::<[i64; 4]>(), prop::option::of("[ -~]{1,60}")),
        access in "[!-~]{1,90}",
    ) {
        let object = |map: std::collections::BTreeMap<String, String>| -> Map<String, Value> {
            map.into_iter().map(|(name, value)| (name, Value::from(value))).collect()
        };
        let said = object(names);
        let mut session = session(&said, &jwt(&said));
        session.claims.extend(object(kept.clone()));
        session.userinfo = object(kept);
        (session.subject, session.sid, session.version) = (subject, sid, version);
        session.created_at = Timestamp::from_unix(times[0]);
        session.expires_at = Timestamp::from_unix(times[1]);
        session.tokens.access_expires_at = Timestamp::from_unix(times[2]);
        session.tokens.obtained_at = Timestamp::from_unix(times[3]);
        session.tokens.access = AccessToken::from_stored(&access).unwrap();
        session.tokens.refresh = refresh.as_deref().and_then(RefreshToken::from_stored);
        let record = encode(&session).unwrap();
        assert_same(&decode(session.id, &record).unwrap(), &session);
        prop_assert_eq!(head(&record).unwrap(), Head { version, expires_at: session.expires_at });
    }

    #[test]
    fn sc_7_nothing_comes_out_of_noise(mut noise in prop::collection::vec(any::<u8>(), 0..400)) {
        let id = Handle::new().unwrap().id();
        let _ = decode(id, &noise);
        noise.insert(0, FORMAT);
        let _ = (decode(id, &noise), head(&noise));
    }
}
