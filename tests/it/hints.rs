//! What a link to `login/start` may ask of the provider (LS-7): what the config lets through, and nothing of ours.

use http::Method;
use url::Url;

use crate::world::World;
use crate::world::answer::parameter;
use crate::world::browser::Browser;

/// A world whose front ends choose the identity provider behind the provider.
async fn world() -> World {
    let params = "{ kc_idp_hint = [\"google\", \"git hub\"], hd = \"*\", prompt = [\"login\", \"none\"] }";
    World::builder()
        .config(move |toml| {
            toml.set("providers.corp", "forwarded_params", params)
                .set("providers.corp", "authorization_params", "{ kc_idp_hint = \"corp\", audience = \"api\" }")
                .set("routes.web", "allowed_origins", "[\"https://www.app.test\"]")
        })
        .start()
        .await
}

/// Where a link in the app leads.
async fn asked(browser: &Browser, query: &str) -> Url {
    browser.click("/", &format!("/login/start?{query}")).stay().await.is(302).location()
}

#[tokio::test]
async fn ls_7_what_the_config_names_goes_on_and_goes_before_what_is_always_sent() {
    let world = world().await;
    let sent =
        asked(&world.browser, "kc_idp_hint=google&hd=example.com&login_hint=bob&ui_locales=de&prompt=login").await;
    for (name, value) in [
        ("kc_idp_hint", "google"),
        ("hd", "example.com"),
        ("login_hint", "bob"),
        ("ui_locales", "de"),
        ("prompt", "login"),
        ("audience", "api"),
    ] {
        assert_eq!(parameter(&sent, name).as_deref(), Some(value), "{sent}");
    }
    let sent = asked(&world.browser, "kc_idp_hint=git+hub").await;
    assert_eq!(parameter(&sent, "kc_idp_hint").as_deref(), Some("git hub"));
    // A script is answered with the same, be it ours or a listed origin's.
    for from in ["https://app.test/", "https://www.app.test/"] {
        let ask = world.browser.fetch_from(from, Method::POST, "/login/start?kc_idp_hint=google&hd=example.com");
        let url = ask.await.is(200).json()["authorization_request_url"].as_str().unwrap().to_owned();
        let url = Url::parse(&url).unwrap();
        assert_eq!(parameter(&url, "kc_idp_hint").as_deref(), Some("google"));
        assert_eq!(parameter(&url, "hd").as_deref(), Some("example.com"));
    }
    world.finish().await;
}

#[tokio::test]
async fn ls_7_nothing_else_does_and_nothing_of_ours_is_touched_or_doubled() {
    let world = world().await;
    for (query, name, expected) in [
        ("kc_idp_hint=evil", "kc_idp_hint", Some("corp")),
        ("kc_idp_hint=google&kc_idp_hint=evil", "kc_idp_hint", Some("corp")),
        ("kc_idp_hint=", "kc_idp_hint", Some("corp")),
        ("hd=a%0d%0ab", "hd", None),
        ("prompt=consent", "prompt", None),
        ("prompt=login%20none", "prompt", None),
        ("audience=evil", "audience", Some("api")),
        ("claims=%7B%7D", "claims", None),
        ("request_uri=https://evil.test/", "request_uri", None),
        ("resource=https://evil.test/", "resource", None),
        ("response_mode=fragment", "response_mode", None),
        ("acr_values=0", "acr_values", None),
        ("max_age=1", "max_age", None),
    ] {
        let sent = asked(&world.browser, query).await;
        assert_eq!(parameter(&sent, name).as_deref(), expected, "{query}: {sent}");
    }
    let ours = "scope=all&client_id=evil&redirect_uri=https://evil.test/&response_type=token&state=s&nonce=n\
                &code_challenge=c&code_challenge_method=plain";
    let sent = asked(&world.browser, ours).await;
    let names = ["scope", "client_id", "redirect_uri", "response_type", "state", "nonce", "code_challenge"];
    let ones = names.map(|name| parameter(&sent, name).unwrap());
    assert!(!ones.iter().any(|value| ["all", "evil", "token", "s", "n", "c"].contains(&value.as_str())), "{sent}");
    assert!(!sent.as_str().contains("evil"), "{sent}");
    assert_eq!(parameter(&sent, "code_challenge_method").as_deref(), Some("S256"));
    world.finish().await;
}

#[tokio::test]
async fn ls_7_another_sites_link_chooses_among_listed_values_only() {
    let world = world().await;
    let link = "/login/start?kc_idp_hint=google&hd=evil.example&login_hint=bob&prompt=login";
    let sent = world.browser.click("https://evil.test/", link).stay().await.is(302).location();
    assert_eq!(parameter(&sent, "kc_idp_hint").as_deref(), Some("google"));
    assert_eq!(parameter(&sent, "prompt").as_deref(), Some("login"));
    assert_eq!((parameter(&sent, "hd"), parameter(&sent, "login_hint")), (None, None));
    world.finish().await;
}

#[tokio::test]
async fn the_chooser_of_providers_does_not_forget_them() {
    let world = World::builder()
        .config(|toml| {
            toml.set("providers.corp", "forwarded_params", "{ kc_idp_hint = [\"google\"] }")
                .text("providers.partners", "issuer", "http://127.0.0.1:1")
                .text("providers.partners", "client_id", "web")
                .set("routes.web", "providers", "[\"corp\", \"partners\"]")
        })
        .start()
        .await;
    let ask = world
        .browser
        .post("/login/start?redirect=/x&kc_idp_hint=google&login_hint=bob&scope=all")
        .await
        .is(200);
    let chooser = Url::parse(ask.json()["authorization_request_url"].as_str().unwrap()).unwrap();
    let chosen = world.browser.click("/", &format!("{chooser}&provider=corp")).stay().await.is(302).location();
    assert_eq!(parameter(&chosen, "kc_idp_hint").as_deref(), Some("google"));
    assert_eq!(parameter(&chosen, "login_hint").as_deref(), Some("bob"));
    assert_eq!(parameter(&chooser, "scope"), None);
    world.finish().await;
}
