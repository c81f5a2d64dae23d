//! `acr_values` and `max_age` of a path (LS-16, CB-16, I36; OpenID Connect Core 3.1.2.1, 3.1.3.7).

use http::Method;
use serde_json::json;
use vestibule::demo::provider::JwtMutation::{RemoveClaim, SetClaim};
use vestibule::demo::provider::{Endpoint, Kind, Mutation};

use super::{INSUFFICIENT, asked, login_url, world};
use crate::world::World;

const STRONG: &[(&str, &str)] = &[("/api/vault/", "{ unauthenticated = \"login\", acr_values = [\"2\"] }")];
const RECENT: &[(&str, &str)] = &[("/api/vault/", "{ unauthenticated = \"login\", max_age = \"15m\" }")];

/// Changes what ID tokens say.
fn lie(world: &World, change: vestibule::demo::provider::JwtMutation) {
    world.provider.mutate(Mutation::always(Endpoint::Token, Kind::IdToken(change)));
}

#[tokio::test]
async fn ls_16_a_script_is_told_what_is_missing_and_where_its_page_gets_it() {
    let world = world(STRONG).await;
    world.browser.login("alice").await;
    world.browser.get("/api/me").await.is(200);
    let before = world.upstream.count();
    for method in [Method::GET, Method::POST, Method::DELETE] {
        let refused = world.browser.fetch(method, "/api/vault/1").body("{\"amount\": 5}").await;
        let refused = refused.refused(401, INSUFFICIENT).has("content-type", "application/problem+json");
        // No scheme of ours makes a browser ask for a password.
        let refused =
            refused.has("www-authenticate", "Vestibule error=\"insufficient_user_authentication\", acr_values=\"2\"");
        let refused = refused.has("vestibule-error", INSUFFICIENT).has("cache-control", "no-store");
        assert_eq!(refused.json()["error"], INSUFFICIENT);
        login_url(&refused);
    }
    assert_eq!(world.upstream.count(), before, "the upstream was asked");

    let refused = world.browser.get("/api/vault/1").header("accept", "application/json").await;
    let start = login_url(&refused.has("content-type", "application/json"));
    let (acr_values, max_age, _) = asked(&world.browser, &start).await;
    assert_eq!((acr_values.as_deref(), max_age), (Some("2"), None));
    // As the front end does with every `login_url`: its own page is no path of ours, and is not what asks for this.
    let picker = world
        .browser
        .click("/", &format!("{start}?redirect=%2Fpay%3Fa%3Db%23c"))
        .await
        .is(200)
        .says("Who are you?");
    world.browser.choose(&picker, "alice").await.is(200).at("https://app.test/pay?a=b#c");
    world.browser.post("/api/vault/1").await.is(200);
    assert_eq!(world.browser.get("/claims").await.is(200).json()["acr"], "2");
    world.finish().await;
}

/// The same by `POST login/start`, which fetches the provider's address.
#[tokio::test]
async fn ls_16_a_script_may_begin_that_login_itself() {
    let world = world(STRONG).await;
    world.browser.login("alice").await;
    let start = login_url(&world.browser.get("/api/vault/1").await);
    let begun = world.browser.post(&start).header("accept", "application/json").await.is(200).json();
    let url = begun["authorization_request_url"].as_str().unwrap().parse().unwrap();
    assert_eq!(crate::world::answer::parameter(&url, "acr_values").as_deref(), Some("2"));
    world.browser.fetch(Method::PUT, &start).await.is(405).has("allow", "GET, POST");
    world.finish().await;
}

#[tokio::test]
async fn ls_16_cb_16_a_login_longer_ago_than_max_age_is_made_anew_and_opens_the_path() {
    let world = world(RECENT).await;
    world.browser.login("alice").await;
    world.browser.get("/api/vault/1").await.is(200);
    // Fifteen minutes, and what the clocks may be apart.
    world.clock.shift(15 * 60 + 50);
    world.browser.get("/api/vault/1").await.is(200);
    world.clock.shift(20);
    let refused = world.browser.post("/api/vault/1").await.refused(401, INSUFFICIENT);
    let refused =
        refused.has("www-authenticate", "Vestibule error=\"insufficient_user_authentication\", max_age=\"900\"");
    let (acr_values, max_age, _) = asked(&world.browser, &login_url(&refused)).await;
    assert_eq!((acr_values, max_age.as_deref()), (None, Some("900")));
    world.browser.get("/api/me").await.is(200);
    // The provider knows alice, and asks her all the same.
    let picker = world.browser.navigate("/api/vault/1?a=b").await.is(200).says("Who are you?");
    assert_eq!(crate::world::answer::parameter(&picker.url, "max_age").as_deref(), Some("900"));
    world.browser.choose(&picker, "alice").await.is(200).at("https://app.test/api/vault/1?a=b");
    world.browser.get("/api/vault/1").await.is(200);
    // A first login for the path asks for it at once.
    let stranger = world.new_browser();
    let start = stranger.navigate("/api/vault/1").stay().await.is(302).location();
    assert_eq!(asked(&stranger, start.as_str()).await.1.as_deref(), Some("900"));
    world.finish().await;
}

/// A provider that was not asked need not say when it was; then the login itself counts.
#[tokio::test]
async fn without_auth_time_a_session_is_as_old_as_its_login() {
    let world = world(RECENT).await;
    lie(&world, RemoveClaim("auth_time"));
    world.browser.login("alice").await;
    world.browser.get("/api/vault/1").await.is(200);
    world.clock.shift(16 * 60 + 1);
    world.browser.get("/api/vault/1").await.refused(401, INSUFFICIENT);
    // One that says nonsense has said nothing that can be relied on.
    world.provider.clear_mutations();
    lie(&world, SetClaim("auth_time", json!("yesterday")));
    let other = world.new_browser();
    other.login("alice").await;
    other.get("/api/vault/1").await.refused(401, INSUFFICIENT);
    world.finish().await;
}

/// I36 and CB-16: what was asked for and did not come is no login, and no loop: a page says so.
#[tokio::test]
async fn cb_16_i36_a_provider_that_takes_no_part_ends_on_a_page_that_says_so() {
    let paths = &[("/api/vault/", "{ unauthenticated = \"login\", acr_values = [\"2\"], max_age = \"5m\" }")];
    let world = world(paths).await;
    let old = json!(world.clock.now().unix() - 3600);
    for (what, lies) in [
        ("another acr", vec![SetClaim("acr", json!("1"))]),
        ("no acr", vec![RemoveClaim("acr")]),
        ("too old", vec![SetClaim("auth_time", old.clone())]),
        ("no time", vec![RemoveClaim("auth_time")]),
        ("neither", vec![RemoveClaim("acr"), RemoveClaim("auth_time")]),
    ] {
        let browser = world.new_browser();
        browser.login("alice").await;
        let userinfo = world.provider.count(Endpoint::Userinfo);
        lies.into_iter().for_each(|change| lie(&world, change));
        let picker = browser.navigate("/api/vault/1").await.is(200).says("Who are you?");
        let page = browser.choose(&picker, "alice").await.refused(403, "step_up_failed");
        let page = page.says("stronger or more recent").says("Start again").lacks("location");
        assert!(
            page.text().contains("redirect=https%3A%2F%2Fapp.test%2Fapi%2Fvault%2F1"),
            "{what}: {}",
            page.describe()
        );
        assert_eq!(world.provider.count(Endpoint::Userinfo), userinfo, "{what}");
        world.provider.clear_mutations();
        // Nobody was logged in by it, and nobody out.
        browser.get("/api/me").await.is(200);
        browser.get("/api/vault/1").await.refused(401, INSUFFICIENT);
    }
    let failed = [("result", "step_up_failed")];
    assert!(world.metric("vestibule_logins_total", &failed).await > 4.5);
    // A login that was begun with `failure` tells it there.
    let browser = world.new_browser();
    browser.login("alice").await;
    lie(&world, SetClaim("acr", json!("1")));
    let start = login_url(&browser.get("/api/vault/1").await);
    let picker = browser.click("/", &format!("{start}?failure=%2Fsorry")).await;
    let sorry = browser.choose(&picker, "alice").await;
    assert_eq!(crate::world::answer::parameter(&sorry.url, "error").as_deref(), Some("step_up_failed"));
    // A provider that says itself that it cannot is understood.
    world.provider.clear_mutations();
    let browser = world.new_browser();
    browser.login("alice").await;
    let picker = browser.navigate("/api/vault/1").await.is(200);
    let mut callback = browser.callback_for(&picker, "alice").await;
    let kept: Vec<_> = callback.query_pairs().into_owned().filter(|(name, _)| name != "code").collect();
    callback
        .query_pairs_mut()
        .clear()
        .extend_pairs(kept)
        .append_pair("error", "unmet_authentication_requirements");
    browser.call_back(world.provider.issuer(), &callback).await.refused(403, "step_up_failed");
    world.finish().await;
}

/// Both at once: either alone is not enough, and one login brings both.
#[tokio::test]
async fn a_rule_with_acr_and_max_age_asks_for_both_and_one_login_brings_them() {
    let paths = &[("/api/vault/", "{ unauthenticated = \"login\", acr_values = [\"2\", \"3\"], max_age = \"10m\" }")];
    let world = world(paths).await;
    let challenge = "Vestibule error=\"insufficient_user_authentication\", acr_values=\"2 3\", max_age=\"600\"";
    world.browser.login("alice").await;
    world
        .browser
        .get("/api/vault/1")
        .await
        .refused(401, INSUFFICIENT)
        .has("www-authenticate", challenge);
    let picker = world.browser.navigate("/api/vault/1").await.is(200);
    let url = &picker.url;
    let parameter = |name: &str| crate::world::answer::parameter(url, name);
    assert_eq!((parameter("acr_values").as_deref(), parameter("max_age").as_deref()), (Some("2 3"), Some("600")));
    world.browser.choose(&picker, "alice").await.is(200).at("https://app.test/api/vault/1");
    world.clock.shift(11 * 60 + 1);
    world
        .browser
        .get("/api/vault/1")
        .await
        .refused(401, INSUFFICIENT)
        .has("www-authenticate", challenge);
    world.finish().await;
}

/// Whoever may not pass in any case is not made to log in first.
#[tokio::test]
async fn fa_16_somebody_in_none_of_the_groups_is_forbidden_and_not_asked_to_log_in_again() {
    let paths = &[(
        "/api/vault/",
        "{ unauthenticated = \"login\", acr_values = [\"2\"], max_age = \"1m\", allowed_groups = [\"nobody\"] }",
    )];
    let world = world(paths).await;
    world.browser.login("alice").await;
    world.browser.get("/api/vault/1").await.refused(403, "forbidden").lacks("www-authenticate");
    world
        .browser
        .navigate("/api/vault/1")
        .stay()
        .await
        .refused(403, "forbidden")
        .says("Sign in as somebody else");
    world.finish().await;
}
