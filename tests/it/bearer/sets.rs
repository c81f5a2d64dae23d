//! Table K as bearers meet it: key sets that cannot be believed, and single keys that cannot. What is bad never lets anybody
//! in, and never takes down what was good.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use vestibule::demo::provider::JwtMutation::{RemoveHeader, SetHeader};
use vestibule::demo::provider::Kind::{Close, DelayBefore, JsonSet};
use vestibule::demo::provider::{Endpoint, Mutation};

use super::keys::futures;
use super::{call, fresh_token, token, usual};
use crate::openid::keys::bad_sets;
use crate::world::World;

/// K02–K05, K18, K27, K29; JV-16: without a set that can be believed nobody can tell, so nobody gets in and nobody is to
/// blame.
#[tokio::test]
async fn jv_16_k02_to_k29_a_bad_set_is_503_from_the_start() {
    let mut world = usual().await;
    for (id, kind) in bad_sets() {
        world.provider.mutate(Mutation::always(Endpoint::Jwks, kind));
        world.restart().await;
        world.add_host("api.test", false).await;
        let answer = call(&world, &fresh_token(&world)).await;
        assert_eq!(answer.status, 503, "{id}: {}", answer.describe());
        assert!(answer.header("retry-after").is_some(), "{id}");
        world.provider.clear_mutations();
    }
    assert_eq!(world.upstream.recorded().len(), 0);
    let begun = Instant::now();
    while call(&world, &fresh_token(&world)).await.status != 200 {
        assert!(begun.elapsed() < Duration::from_secs(10), "good keys are there, and nobody noticed");
    }
    world.finish().await;
}

/// The same rows once good keys are known: those go on, and for others nobody can tell.
#[tokio::test]
async fn jv_16_k02_to_k29_a_bad_set_never_replaces_a_good_one() {
    let world = usual().await;
    call(&world, &fresh_token(&world)).await.is(200);
    for (id, kind) in bad_sets() {
        world.clock.shift(120);
        let before = world.provider.count(Endpoint::Jwks);
        world.provider.mutate(Mutation::always(Endpoint::Jwks, kind));
        let unknown = token(&world, &[SetHeader("kid", json!("unknown"))]);
        let answer = call(&world, &unknown).await;
        assert_eq!(answer.status, 503, "{id}: {}", answer.describe());
        assert_eq!(world.provider.count(Endpoint::Jwks) - before, 1, "{id}");
        let answer = call(&world, &fresh_token(&world)).await;
        assert_eq!(answer.status, 200, "{id}: {}", answer.describe());
        world.provider.clear_mutations();
    }
    world.finish().await;
}

/// A change to the keys that the provider publishes, the first of which signs.
type Change = fn(&mut Vec<Value>);

/// JV-8; K06, K09–K12, K17, K19, K25, K27: a key that can be misused is none, and takes no other with it.
#[tokio::test]
async fn jv_8_table_k_one_odd_key_is_dropped_and_the_others_stay() {
    let dropped: [(&str, Change); 9] = [
        ("K06 no n", |keys| drop(keys[0].as_object_mut().unwrap().remove("n"))),
        ("K09 use", |keys| keys[0]["use"] = json!("enc")),
        ("K10 alg", |keys| keys[0]["alg"] = json!("RS512")),
        ("K11 key_ops", |keys| keys[0]["key_ops"] = json!(["encrypt"])),
        ("K12 1024 bits", |keys| keys[0]["n"] = json!(keys[0]["n"].as_str().unwrap()[..171])),
        ("K17 private", |keys| keys[0]["d"] = json!("AAAA")),
        ("K19 kid", |keys| keys[0]["kid"] = json!(5)),
        ("K19 long kid", |keys| keys[0]["kid"] = json!("k".repeat(1_000_000 / 8))),
        ("K27 x5u", |keys| keys[0] = json!({"kty": "RSA", "kid": keys[0]["kid"], "x5u": "http://127.0.0.1:9/"})),
    ];
    let harmless: [(&str, Change); 5] = [
        ("K01", |_| {}),
        ("K06 beside", |keys| keys.push(json!({"kty": "RSA", "kid": "b", "e": "AQAB"}))),
        ("K07 beside", |keys| keys.push(json!({"kty": "OKP", "crv": "Ed448", "kid": "b", "x": "AAAA"}))),
        ("K17 beside", |keys| keys.push(json!({"kty": "oct", "kid": "b", "k": "AAAA"}))),
        ("K19 beside", |keys| {
            for kid in [json!("../../etc/passwd"), json!("a\u{0}"), json!(null), json!(5)] {
                let mut key = keys[0].clone();
                key["kid"] = kid;
                keys.push(key);
            }
        }),
    ];
    let world = usual().await;
    call(&world, &fresh_token(&world)).await.is(200);
    let keys = signing_first(&world).await;
    for (expected, rows) in [(401, &dropped[..]), (200, &harmless[..])] {
        for (id, change) in rows {
            let mut keys = keys.clone();
            change(&mut keys);
            world.provider.mutate(Mutation::always(Endpoint::Jwks, JsonSet("keys", json!(keys))));
            look_again(&world).await;
            let answer = call(&world, &fresh_token(&world)).await;
            assert_eq!(answer.status, expected, "{id}: {}", answer.describe());
            world.provider.clear_mutations();
            look_again(&world).await;
            call(&world, &fresh_token(&world)).await.is(200);
        }
    }
    let told = [("provider", "corp"), ("result", "private_key")];
    assert!(world.metric("vestibule_jwks_fetches_total", &told).await >= 2.0);
    world.finish().await;
}

/// K25: the same name, another key: the first token that it signed makes us look.
#[tokio::test]
async fn k25_new_material_under_an_old_name_is_found_by_the_first_token() {
    let world = usual().await;
    call(&world, &fresh_token(&world)).await.is(200);
    let mut stale = signing_first(&world).await;
    stale[0]["n"] = json!(another_modulus(&stale[0]));
    world.provider.mutate(Mutation::next(Endpoint::Jwks, JsonSet("keys", json!(stale))));
    look_again(&world).await;
    let before = world.provider.count(Endpoint::Jwks);
    call(&world, &fresh_token(&world)).await.is(200);
    call(&world, &fresh_token(&world)).await.is(200);
    assert_eq!(world.provider.count(Endpoint::Jwks) - before, 1);
    world.finish().await;
}

/// JV-15: a token that names no key is tried with the only one that fits, and with none when there are two.
#[tokio::test]
async fn jv_15_without_kid_the_only_key_that_fits_and_never_one_of_two() {
    let world = usual().await;
    let nameless = || token(&world, &[RemoveHeader("kid"), super::unlike_any_other()]);
    call(&world, &nameless()).await.is(200);
    let mut keys = signing_first(&world).await;
    let mut second = keys[0].clone();
    (second["kid"], second["n"]) = (json!("second"), json!(another_modulus(&keys[0])));
    keys.push(second);
    world.provider.mutate(Mutation::always(Endpoint::Jwks, JsonSet("keys", json!(keys))));
    look_again(&world).await;
    call(&world, &nameless()).await.refused(401, "invalid_token");
    call(&world, &fresh_token(&world)).await.is(200);
    world.finish().await;
}

/// K21: whoever waits for a look that dies has its answer together with the one who began it.
#[tokio::test]
async fn k21_two_hundred_wait_for_a_look_that_dies() {
    let world = usual().await;
    call(&world, &fresh_token(&world)).await.is(200);
    let before = world.provider.count(Endpoint::Jwks);
    world.provider.mutate(Mutation::always(Endpoint::Jwks, DelayBefore(Duration::from_millis(1_500))));
    world.provider.mutate(Mutation::always(Endpoint::Jwks, Close));
    let begun = Instant::now();
    let calls = (0..200).map(|number| {
        let token = token(&world, &[SetHeader("kid", json!(format!("kid-{number}")))]);
        let world = &world;
        async move { drop(call(world, &token).await.refused(503, "provider_unavailable")) }
    });
    futures(calls.collect()).await;
    assert!(begun.elapsed() < Duration::from_secs(8), "{:?}", begun.elapsed());
    assert_eq!(world.provider.count(Endpoint::Jwks) - before, 1);
    world.provider.clear_mutations();
    world.clock.shift(120);
    world.provider.rotate_keys().unwrap();
    call(&world, &fresh_token(&world)).await.is(200);
    world.finish().await;
}

/// The published keys, that which signs before the others.
async fn signing_first(world: &World) -> Vec<Value> {
    let mut keys = world.published_keys().await;
    keys.sort_by_key(|key| !(key["kty"] == "RSA" && key["use"] == "sig"));
    keys
}

/// Another modulus of the same size.
fn another_modulus(key: &Value) -> String {
    let modulus = key["n"].as_str().unwrap();
    let middle = if &modulus[100..104] == "AAAA" { "BBBB" } else { "AAAA" };
    format!("{}{middle}{}", &modulus[..100], &modulus[104..])
}

/// Lets the sidecar look at the keys, by a token that nobody signed.
async fn look_again(world: &World) {
    world.clock.shift(120);
    let before = world.provider.count(Endpoint::Jwks);
    call(world, &token(world, &[SetHeader("kid", json!("unknown"))])).await;
    assert_eq!(world.provider.count(Endpoint::Jwks) - before, 1, "nobody looked");
}
