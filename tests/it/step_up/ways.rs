//! The ways to a step-up beside a script's: pages, forms, verdicts, several providers, and links that are not ours.

use super::{INSUFFICIENT, asked, login_url, world};
use crate::world::World;

/// Where navigations are not redirected, and for forms, whose body a redirect would lose, a page leads on.
#[tokio::test]
async fn where_nothing_is_redirected_a_page_leads_to_the_step_up() {
    let world = world(&[
        ("/api/vault/", "{ acr_values = [\"2\"] }"),
        ("/api/form/", "{ unauthenticated = \"login\", acr_values = [\"2\"] }"),
    ])
    .await;
    world.browser.login("alice").await;
    let page = world.browser.navigate("/api/vault/1?a=b").stay().await.refused(401, INSUFFICIENT);
    let page = page.says("Sign in once more").lacks("www-authenticate").lacks("location");
    let link = page.text().split("href=\"").nth(1).unwrap().split('"').next().unwrap().replace("&amp;", "&");
    let (acr_values, _, url) = asked(&world.browser, &link).await;
    assert_eq!(acr_values.as_deref(), Some("2"));
    let picker = world.browser.navigate(url.as_str()).await.is(200);
    world.browser.choose(&picker, "alice").await.is(200).at("https://app.test/api/vault/1?a=b");

    let other = world.new_browser();
    other.login("alice").await;
    let form = other.post("/api/form/1").header("sec-fetch-mode", "navigate").body("a=b").await;
    let form = form.refused(401, INSUFFICIENT).says("in a new tab");
    assert!(form.text().contains("href=\"https://app.test/login/start/"), "{}", form.describe());
    world.finish().await;
}

/// R24: what a login is asked to bring stands in a seal of ours; a link can be made up by anybody and asks for nothing.
#[tokio::test]
async fn ls_7_r24_no_link_but_ours_makes_the_provider_ask_for_anything() {
    let world = world(&[("/api/vault/", "{ acr_values = [\"2\"], max_age = \"5m\" }")]).await;
    world.browser.login("alice").await;
    let good = login_url(&world.browser.get("/api/vault/1").await);
    let (front, last) = good.split_at(good.len() - 1);
    let flipped = format!("{front}{}", if last == "A" { "B" } else { "A" });
    let start = "https://app.test/login/start";
    for url in [
        format!("{start}/{}", "A".repeat(80)),
        format!("{start}/acr_values-2"),
        format!("{start}/x"),
        flipped,
        format!("{start}?acr_values=2&max_age=0"),
        format!("{start}/x?acr_values=2&max_age=0"),
    ] {
        let (acr_values, max_age, _) = asked(&world.browser, &url).await;
        assert_eq!((acr_values, max_age), (None, None), "{url}");
    }
    for beside in
        [format!("{start}/"), format!("{good}/"), format!("{good}/x"), format!("{start}/a.b"), format!("{start}/a%2Db")]
    {
        let answer = world.browser.navigate(&beside).stay().await;
        assert!(matches!(answer.status.as_u16(), 400 | 404), "{beside}: {}", answer.describe());
    }
    // Keys that are gone open nothing: it is a usual login then, and the script is refused and told once more.
    let mut world = world;
    world.restart().await;
    assert_eq!(asked(&world.browser, &good).await.0, None);
    world.finish().await;
}

/// What was sealed for one site asks for nothing at another.
#[tokio::test]
async fn a_seal_of_one_route_is_none_of_another() {
    let builder = World::builder().config(|toml| {
        toml.set("routes.web.paths", "\"/api/\"", "{ acr_values = [\"2\"] }")
            .text("routes.other", "mode", "auth-code")
            .text("routes.other", "public_url", "https://other.test")
            .text("routes.other", "upstream", "api")
    });
    let world = builder
        .provider(|options| {
            let client = options.clients.remove(0).redirect_uri("https://other.test/login/end");
            options.clients.push(client);
        })
        .start()
        .await;
    world.add_host("other.test", true).await;
    world.browser.login("alice").await;
    let good = login_url(&world.browser.get("/api/vault/1").await);
    assert_eq!(asked(&world.browser, &good).await.0.as_deref(), Some("2"));
    assert_eq!(asked(&world.browser, &good.replace("app.test", "other.test")).await.0, None);
    world.finish().await;
}

/// A device route has no such endpoint.
#[tokio::test]
async fn programs_have_no_step_up() {
    let builder = World::builder().config(|toml| {
        toml.text("routes.cli", "mode", "device")
            .text("routes.cli", "public_url", "https://cli.test")
            .text("routes.cli", "client_id", "cli")
            .text("routes.cli", "upstream", "api")
            .set("routes.cli", "audiences", "[\"api\"]")
    });
    let world = builder.start().await;
    world.add_host("cli.test", false).await;
    let program = world.new_browser();
    program.get("https://cli.test/login/start/abc").like_a_program().await.refused(404, "not_found");
    world.finish().await;
}

/// Nobody said where to go afterwards: then it is home, and that may ask for something, too.
#[tokio::test]
async fn ls_16_a_login_that_leads_home_asks_for_what_home_asks_for() {
    let builder = World::builder().config(|toml| {
        toml.set("routes.web.paths", "\"/api/\"", "{ unauthenticated = \"login\", max_age = \"5m\" }").text(
            "routes.web",
            "home_url",
            "https://app.test/api/home",
        )
    });
    let world = builder.start().await;
    let (_, max_age, url) = asked(&world.browser, "/login/start").await;
    assert_eq!(max_age.as_deref(), Some("300"));
    let picker = world.browser.navigate(url.as_str()).await.is(200);
    world.browser.choose(&picker, "alice").await.is(200).at("https://app.test/api/home");
    world.finish().await;
}
