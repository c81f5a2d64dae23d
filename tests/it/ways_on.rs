//! Where the links of our own pages lead: on, to what the person wanted, and never to another site.

use url::Url;
use vestibule::demo::provider::{Endpoint, Kind, Mutation};

use crate::world::World;
use crate::world::answer::{Answer, parameter};

/// A world with an app for the staff alone; `missing` is what the provider does not say about itself.
async fn staff_only(missing: &[&'static str]) -> World {
    let mut world = World::builder()
        .without_front_end()
        .config(|toml| {
            let rule = "{ unauthenticated = \"login\", allowed_groups = [\"staff\"], authorization = \"remove\" }";
            toml.text("routes.web", "base_path", "/.vestibule").set("routes.web.paths", "\"/\"", rule)
        })
        .provider(|options| {
            options.clients[0] = options.clients[0]
                .clone()
                .redirect_uri("https://app.test/.vestibule/login/end")
                .post_logout_redirect_uri("https://app.test/.vestibule/logout/end");
        })
        .start()
        .await;
    for name in missing {
        world.provider.mutate(Mutation::always(Endpoint::Discovery, Kind::JsonRemove(name)));
    }
    world.restart().await;
    world.add_host("app.test", false).await;
    world
}

/// Where the page's link with this text leads.
#[track_caller]
fn link(page: &Answer, text: &str) -> Url {
    let markup = page.text();
    let before = markup.split(&format!("\">{text}</a>")).next().filter(|before| before.len() < markup.len());
    let Some(before) = before else { panic!("no link {text:?}: {}", page.describe()) };
    page.url.join(&before.rsplit("href=\"").next().unwrap().replace("&amp;", "&")).unwrap()
}

/// Carol, who is not of the staff, asks for a page of the app.
async fn turned_away(world: &World, page: &str) -> Answer {
    let picker = world.browser.navigate(page).await.is(200).says("Who are you?");
    world.browser.choose(&picker, "carol").await.refused(403, "forbidden")
}

/// Follows the link of a page that turned somebody away, and comes back as alice.
async fn become_alice(world: &World, page: &Answer, link: &Url) -> Answer {
    let picker = world.browser.click(page.url.as_str(), link.as_str()).await.is(200);
    world.browser.choose(&picker.says("Who are you?"), "alice").await
}

const OTHER: &str = "Sign in as somebody else";

#[tokio::test]
async fn who_may_not_see_a_page_chooses_another_account_where_the_provider_lets_people_choose() {
    let world = staff_only(&[]).await;
    let page = turned_away(&world, "/wiki/page?edit=1&x=%20").await;
    let link = link(&page, OTHER);
    assert_eq!(link.path(), "/.vestibule/login/start");
    assert_eq!(parameter(&link, "prompt").as_deref(), Some("select_account"));
    let landed = become_alice(&world, &page, &link).await.is(200);
    assert_eq!(landed.url.as_str(), "https://app.test/wiki/page?edit=1&x=%20");
    assert_eq!(world.provider.count(Endpoint::EndSession), 0);
    world.finish().await;
}

/// Keycloak answers `prompt=login` of another person with "you are already authenticated as different user".
#[tokio::test]
async fn where_the_provider_knows_one_account_at_a_time_it_is_signed_out_of_first() {
    let world = staff_only(&["prompt_values_supported"]).await;
    let page = turned_away(&world, "/wiki/page?edit=1&x=%20").await;
    let link = link(&page, OTHER);
    assert_eq!(link.path(), "/.vestibule/logout");
    let signed_out = world.browser.click(page.url.as_str(), link.as_str()).await.is(200).says("Signed out");
    assert_eq!(world.provider.count(Endpoint::EndSession), 1);
    let again = self::link(&signed_out, "Continue");
    let landed = become_alice(&world, &signed_out, &again).await.is(200);
    assert_eq!(landed.url.as_str(), "https://app.test/wiki/page?edit=1&x=%20");
    world.finish().await;
}

/// Google says nothing of its prompts, has no end-session endpoint, and refuses `prompt=login`.
#[tokio::test]
async fn where_nobody_can_be_signed_out_the_account_chooser_is_asked_for() {
    let world = staff_only(&["prompt_values_supported", "end_session_endpoint"]).await;
    let page = turned_away(&world, "/").await;
    let link = link(&page, OTHER);
    assert_eq!(parameter(&link, "prompt").as_deref(), Some("select_account"));
    become_alice(&world, &page, &link).await.is(200).at("https://app.test/");
    world.finish().await;
}

#[tokio::test]
async fn ls_6_no_path_makes_the_link_lead_to_another_site() {
    let world = staff_only(&[]).await;
    turned_away(&world, "/").await;
    for path in ["//evil.test/x", "/%2f%2fevil.test", "/\\evil.test", "/x/../..//evil.test", "/.//evil.test"] {
        let mut raw = world.raw().await;
        let cookie = world.browser.cookies().into_iter().find(|cookie| cookie.name.ends_with("-web")).unwrap();
        let cookie = format!("{}={}", cookie.name, cookie.value);
        raw.write(format!("GET {path} HTTP/1.1\r\nHost: app.test\r\nAccept: text/html\r\nCookie: {cookie}\r\n\r\n"))
            .await;
        let answer = raw.read_answer().await;
        assert!(answer.starts_with("HTTP/1.1 403 ") && answer.contains(OTHER), "{path}: {answer}");
        let link = answer.split("href=\"").nth(1).unwrap().split('"').next().unwrap().replace("&amp;", "&");
        let link = Url::parse(&link).unwrap();
        assert_eq!(link.host_str(), Some("app.test"), "{path}");
        // Whatever it leads back to, login/start judges it again, as it does for any link.
        let target = parameter(&link, "redirect").unwrap_or_else(|| "https://app.test/".to_owned());
        assert!(target.starts_with("https://app.test/") && !target[17..].starts_with('/'), "{path}: {link}");
    }
    // A script gets no page, and no link that would end anybody's session.
    let problem = world.browser.get("/").await.refused(403, "forbidden").json();
    assert_eq!(problem["login_url"], "https://app.test/.vestibule/login/start");
    world.finish().await;
}

#[tokio::test]
async fn with_several_providers_somebody_else_may_come_from_any_of_them() {
    let world = World::builder()
        .config(|toml| {
            toml.set("routes.web", "providers", "[\"corp\", \"partners\"]")
                .set("routes.web.paths", "\"/api/\"", "{ allowed_groups = [\"staff\"] }")
                .text("providers.partners", "issuer", "http://127.0.0.1:1")
                .text("providers.partners", "client_id", "web")
        })
        .provider(|options| {
            options.clients[0] = options.clients[0].clone().redirect_uri("https://app.test/login/end/corp");
        })
        .start()
        .await;
    world.browser.navigate("/login/start?provider=corp&login_hint=carol").await.is(200);
    let page = world.browser.navigate("/api/x").await.refused(403, "forbidden");
    let chooser = world.browser.click("/api/x", link(&page, OTHER).as_str()).await.is(200).says("Choose where");
    let picker = world.browser.click("/login/start", link(&chooser, "corp").as_str()).await.is(200);
    world
        .browser
        .choose(&picker.says("Who are you?"), "alice")
        .await
        .is(200)
        .at("https://app.test/api/x");
    world.finish().await;
}

const AGAIN: &str = "Start again";
const WANTED: &str = "/login/start?redirect=/orders%3Fpage%3D2%26x%3D%2520";

/// The page of a login that did not come about, and where it was meant to end.
async fn starts_again(world: &World, page: &Answer) {
    let mut landed = world.browser.click(page.url.as_str(), link(page, AGAIN).as_str()).await.is(200);
    // The provider may know the browser by now.
    if landed.text().contains("Who are you?") {
        landed = world.browser.choose(&landed, "alice").await.is(200);
    }
    assert_eq!(landed.url.as_str(), "https://app.test/orders?page=2&x=%20");
}

#[tokio::test]
async fn a_login_that_was_cancelled_starts_again_for_the_same_place() {
    let world = World::start().await;
    let picker = world.browser.navigate(WANTED).await.is(200);
    let page = world.browser.submit(&picker, &[("cancel", "1")]).await.refused(400, "access_denied");
    starts_again(&world, &page).await;
    world.finish().await;
}

#[tokio::test]
async fn so_does_one_that_failed_later_or_took_too_long_or_was_never_begun() {
    let mut world = World::start().await;
    world
        .provider
        .mutate(Mutation::nth(Endpoint::Token, 1, Kind::Status(http::StatusCode::INTERNAL_SERVER_ERROR)));
    let picker = world.browser.navigate(WANTED).await.is(200);
    let page = world.browser.choose(&picker, "alice").await.refused(502, "login_failed");
    starts_again(&world, &page).await;

    // A browser drops the cookie after ten minutes, unless its clock is behind.
    let late = world.new_browser();
    let callback = late.callback_for(&late.navigate(WANTED).await.is(200), "alice").await;
    let cookie = late.cookies().into_iter().find(|cookie| cookie.name.contains(".login.")).unwrap();
    world.clock.shift(601);
    let behind = late.navigate(callback.as_str()).header("cookie", &format!("{}={}", cookie.name, cookie.value));
    let page = behind.await.refused(400, "login_expired");
    starts_again(&world, &page).await;

    world.provider.go_down().await.unwrap();
    world.restart().await;
    let page = world
        .browser
        .navigate(&format!("{WANTED}&failure=/sorry"))
        .await
        .refused(503, "provider_unavailable");
    assert_eq!(parameter(&link(&page, AGAIN), "failure").as_deref(), Some("https://app.test/sorry"));
    world.provider.come_up().unwrap();
    let begun = std::time::Instant::now();
    while world.browser.navigate("/login/start").stay().await.status != http::StatusCode::FOUND {
        assert!(begun.elapsed() < std::time::Duration::from_secs(10), "the provider is not found again");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    starts_again(&world, &page).await;
    world.finish().await;
}

#[tokio::test]
async fn r_table_what_is_not_allowed_any_more_is_not_led_to() {
    let world = World::builder()
        .config(|toml| toml.set("routes.web", "allowed_redirects", "[\"https://other.test/\"]"))
        .start()
        .await;
    let picker = world.browser.navigate("/login/start?redirect=https://other.test/x").await.is(200);
    world.edit(|toml| toml.set("routes.web", "allowed_redirects", "[]")).await;
    let page = world.browser.submit(&picker, &[("cancel", "1")]).await.refused(400, "access_denied");
    assert_eq!(link(&page, AGAIN).as_str(), "https://app.test/login/start");
    world.finish().await;
}
