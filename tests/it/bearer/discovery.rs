//! RFC 9728: a client that knows nothing but the API's address finds its issuer, gets a token and calls.

use http::Method;
use serde_json::json;
use vestibule::demo::provider::Options;

use super::{API, call, challenge, token, usual, world};

const WELL_KNOWN: &str = "/.well-known/oauth-protected-resource";

/// JV-21, RFC 9728 2 and 3.3.
#[tokio::test]
async fn jv_21_the_metadata_of_a_resource_are_exact_and_for_everybody() {
    let world = world(|toml| {
        toml.text("routes.things", "resource", "https://api.test/v1/")
            .set("routes.things", "required_scopes", "[\"read\"]")
            .text("routes.things", "public_url", API)
    })
    .await;
    let browser = world.new_browser();
    let url = format!("{API}{WELL_KNOWN}/v1");
    let answer = browser.fetch_from("https://elsewhere.test", Method::GET, &url).await.is(200);
    let answer = answer.has("content-type", "application/json").has("access-control-allow-origin", "*");
    assert_eq!(
        answer.json(),
        json!({
            "resource": "https://api.test/v1/",
            "resource_name": "things",
            "authorization_servers": [world.provider.issuer()],
            "scopes_supported": ["read"],
            "bearer_methods_supported": ["header"],
        })
    );
    let preflight = browser.fetch_from("https://elsewhere.test", Method::OPTIONS, &url);
    let preflight = preflight
        .header("access-control-request-method", "GET")
        .header("access-control-request-headers", "mcp-protocol-version");
    preflight
        .await
        .is(204)
        .has("access-control-allow-origin", "*")
        .has("access-control-allow-headers", "mcp-protocol-version");
    browser.fetch(Method::HEAD, &url).await.is(200);
    browser.fetch(Method::POST, &url).without_metadata().await.refused(405, "method_not_allowed");
    // Elsewhere below the well-known path it is the application's.
    browser.get(&format!("{API}{WELL_KNOWN}")).await.refused(401, "bearer_required");
    let refused = browser.get(&format!("{API}/x")).await.is(401);
    assert!(challenge(&refused).contains(&format!("resource_metadata=\"{url}\"")), "{}", challenge(&refused));
    assert_eq!(world.upstream.recorded().len(), 0);
    world.finish().await;
}

/// A provider that is known by its keys alone verifies, and is not offered to clients: they could learn nothing there.
#[tokio::test]
async fn several_issuers_each_with_its_own_keys_one_of_them_by_keys_alone() {
    let (partners, strangers) = (provider("partners").await, provider("corp").await);
    let (issuer, keys) = (partners.issuer().to_owned(), partners.url(vestibule::demo::provider::Endpoint::Jwks));
    let world = world(move |toml| {
        toml.text("providers.partners", "issuer", &issuer)
            .text("providers.partners", "jwks_uri", &keys)
            .text("routes.web", "provider", "corp")
            .set("routes.things", "providers", "[\"corp\", \"partners\"]")
    })
    .await;
    call(&world, &token(&world, &[])).await.is(200);
    let of_partners = partners.access_token(("bob", "cli"), &["read"], &[]).unwrap();
    call(&world, &of_partners).await.is(200).says("\"authorizations\":1");
    assert_eq!(partners.journal().iter().filter(|seen| seen.parameters.is_empty()).count(), partners.journal().len());
    assert_eq!(partners.count(vestibule::demo::provider::Endpoint::Discovery), 0);
    // Nobody speaks in another's name: the keys are those of the issuer that a token names.
    let stolen = vestibule::demo::provider::JwtMutation::SetClaim("iss", json!(world.provider.issuer()));
    call(&world, &partners.access_token(("bob", "cli"), &["read"], &[stolen]).unwrap())
        .await
        .refused(401, "invalid_token");
    call(&world, &strangers.access_token(("bob", "cli"), &["read"], &[]).unwrap())
        .await
        .refused(401, "invalid_token");
    let metadata = world.new_browser().get(&format!("{API}{WELL_KNOWN}")).await.is(200).json();
    assert_eq!(metadata["authorization_servers"], json!([world.provider.issuer()]));
    world.finish().await;
}

async fn provider(name: &str) -> vestibule::demo::provider::DemoProvider {
    let options = Options { path: format!("/realms/{name}"), ..Options::default() };
    vestibule::demo::provider::DemoProvider::start(options).await.unwrap()
}

/// Both stand behind no verdict, and the metadata of a route whose rule is `/` are found before it.
#[tokio::test]
async fn a_rule_for_everything_does_not_hide_the_metadata() {
    let world = usual().await;
    world.new_browser().get(&format!("{API}{WELL_KNOWN}")).await.is(200);
    let asked = super::verdict(&world, WELL_KNOWN, &[]).await;
    assert_eq!(super::status(&asked), 403, "{asked}");
    world.finish().await;
}
