//! Several of everything: routes on one host, public URLs of one route, and providers to choose from (spec 3 and 4.1;
//! CB-6, C08, C09); providers that change.

use std::future::IntoFuture as _;
use std::time::Duration;

use http::Method;
use vestibule::demo::provider::{Client, DemoProvider, Endpoint, Options, Secret};

use crate::world::answer::{Answer, parameter};
use crate::world::browser::Browser;
use crate::world::{Edit, World, eventually};

/// A second provider in `world`, at which the same client is registered with these redirect URIs.
async fn second_provider(world: &World, redirect_uris: &[&str]) -> DemoProvider {
    let client = Client::confidential("web", "a secret of the second provider's own");
    let client = redirect_uris.iter().fold(client, |client, uri| client.redirect_uri(uri));
    let options =
        Options { clock: world.clock.clone(), path: "/other".to_owned(), clients: vec![client], ..Options::default() };
    let provider = DemoProvider::start(options).await.unwrap();
    world.add_server(&provider.address().to_string(), provider.address());
    provider
}

/// A world with the providers `corp` and `partners`.
async fn two_providers() -> (World, DemoProvider) {
    let world = World::builder()
        .provider(|options| {
            let client = options.clients.remove(0).redirect_uri("https://app.test/login/end/corp");
            options.clients.push(client.post_logout_redirect_uri("https://app.test/logout/end"));
        })
        .start()
        .await;
    let partners = second_provider(&world, &["https://app.test/login/end/partners"]).await;
    let issuer = partners.issuer().to_owned();
    let edit = world
        .edit(move |toml| {
            toml.text("providers.partners", "issuer", &issuer)
                .text("providers.partners", "client_id", "web")
                .text("providers.partners", "client_secret", "a secret of the second provider's own")
                .set("routes.web", "providers", "[\"corp\", \"partners\"]")
        })
        .await;
    assert_eq!(edit, Edit::Served, "{}", world.log());
    (world, partners)
}

/// The links of a page.
fn links(page: &Answer) -> Vec<String> {
    let text = page.text();
    let hrefs = text.split("href=\"").skip(1).filter_map(|rest| rest.split('"').next());
    hrefs.map(|href| href.replace("&amp;", "&")).collect()
}

#[tokio::test]
async fn a_person_chooses_between_providers_and_comes_back_to_each_ones_own_uri() {
    let (world, partners) = two_providers().await;
    let page = world.browser.navigate("/login/start?redirect=/page%3Fa%3Db&failure=/sorry").await.is(200);
    let page = page
        .has("content-type", "text/html; charset=utf-8")
        .says("corp")
        .says("partners")
        .lacks("set-cookie");
    let links = links(&page);
    assert_eq!(links.len(), 2, "{links:?}");
    for (link, issuer, uri) in [
        (&links[0], world.provider.issuer(), "https://app.test/login/end/corp"),
        (&links[1], partners.issuer(), "https://app.test/login/end/partners"),
    ] {
        let url = world.browser.click("/", link).stay().await.is(302).location();
        assert!(url.as_str().starts_with(issuer), "{url}");
        assert_eq!(parameter(&url, "redirect_uri").as_deref(), Some(uri));
        let browser = world.new_browser();
        let picker = browser.click("/", link).await.is(200).says("Who are you?");
        browser.choose(&picker, "bob").await.is(200).at("https://app.test/page?a=b");
        assert_eq!(browser.get("/claims").await.is(200).json()["iss"], issuer);
        // The session lives by its own provider.
        world.clock.shift(301);
        browser.get("/api/me").await.is(200);
        let end_session = browser.click("/", "/logout").stay().await.is(302).location();
        assert!(end_session.as_str().starts_with(issuer), "{end_session}");
    }
    world.finish().await;
}

#[tokio::test]
async fn a_script_chooses_by_name_or_is_led_to_the_chooser() {
    let (world, partners) = two_providers().await;
    let url = |answer: &Answer| answer.json()["authorization_request_url"].as_str().unwrap().to_owned();
    let chooser = world.browser.post("/login/start?redirect=/page").await.is(200).lacks("set-cookie");
    let page = world.browser.click("/", &url(&chooser)).await.is(200).says("partners");
    assert!(links(&page).iter().all(|link| link.contains("redirect=")), "{}", page.describe());
    let chosen = world.browser.post("/login/start?provider=partners").await.is(200);
    assert!(url(&chosen).starts_with(partners.issuer()), "{}", chosen.describe());
    world
        .browser
        .post("/login/start?provider=evil")
        .await
        .refused(400, "bad_request")
        .lacks("set-cookie");
    world.browser.post("/login/start?provider=corp&provider=corp").await.refused(400, "bad_request");
    world
        .browser
        .navigate("/login/start?provider=evil")
        .stay()
        .await
        .refused(400, "bad_request")
        .lacks("location");
    world.finish().await;
}

#[tokio::test]
async fn cb_6_c08_c09_an_answer_counts_at_the_uri_of_its_own_provider_only() {
    let (world, partners) = two_providers().await;
    let picker = world.browser.navigate("/login/start?provider=corp").await.is(200);
    let callback = world.browser.submit(&picker, &[("user", "alice")]).stop_before("/login/end/corp").await.location();
    let mut elsewhere = callback.clone();
    elsewhere.set_path("/login/end/partners");
    world.browser.navigate(elsewhere.as_str()).await.refused(400, "issuer_mismatch");
    // The right path with another configured provider's name in the answer.
    let mixed = callback.as_str().replace(&urlencoded(world.provider.issuer()), &urlencoded(partners.issuer()));
    assert_ne!(mixed, callback.as_str());
    world.browser.navigate(&mixed).await.refused(400, "issuer_mismatch");
    for path in ["/login/end/evil", "/login/end/corp/", "/login/end/CORP"] {
        elsewhere.set_path(path);
        let answer = world.browser.navigate(elsewhere.as_str()).stay().await;
        assert!(matches!(answer.status.as_u16(), 400 | 404), "{path}: {}", answer.describe());
    }
    assert_eq!((world.provider.count(Endpoint::Token), partners.count(Endpoint::Token)), (0, 0));
    world.browser.navigate(callback.as_str()).await.is(200).at("https://app.test/");
    world.finish().await;
}

fn urlencoded(text: &str) -> String {
    url::form_urlencoded::byte_serialize(text.as_bytes()).collect()
}

#[tokio::test]
async fn a_session_ends_when_its_provider_leaves_the_route_and_others_do_not() {
    let (world, _partners) = two_providers().await;
    let [one, other] = [world.new_browser(), world.new_browser()];
    one.navigate("/login/start?provider=corp&login_hint=alice").await.is(200);
    other.navigate("/login/start?provider=partners&login_hint=bob").await.is(200);
    one.get("/api/me").await.is(200);
    other.get("/api/me").await.is(200);
    assert_eq!(world.edit(|toml| toml.set("routes.web", "providers", "[\"corp\"]")).await, Edit::Served);
    one.get("/api/me").await.is(200);
    other.get("/api/me").await.refused(401, "login_required");
    world.finish().await;
}

/// How often a provider was asked to refresh.
fn refreshes(provider: &DemoProvider) -> usize {
    let journal = provider.journal();
    journal.iter().filter(|seen| seen.parameter("grant_type") == Some("refresh_token")).count()
}

/// The provider's name stays, and behind it is another issuer: the refresh on its way is the old one's affair.
#[tokio::test]
async fn x17_a_reload_that_replaces_the_provider_during_a_refresh_mixes_nothing() {
    let world = World::start().await;
    let partners = second_provider(&world, &["https://app.test/login/end"]).await;
    let before = std::fs::read_to_string(world.dir().join("vestibule.toml")).unwrap();
    world.browser.login("alice").await;
    world.clock.shift(301);
    world.provider.delay(Endpoint::Token, Duration::from_millis(2500));
    let waiting = tokio::spawn(world.browser.copy().get("/api/me").into_future());
    eventually("the refresh", || refreshes(&world.provider) == 1).await;
    let issuer = partners.issuer().to_owned();
    let edit = world.edit(|toml| {
        toml.text("providers.corp", "issuer", &issuer).text(
            "providers.corp",
            "client_secret",
            "a secret of the second provider's own",
        )
    });
    assert_eq!(edit.await, Edit::Served, "{}", world.log());
    assert!(!waiting.is_finished(), "the reload came too late");
    // Whoever asks from now on is nobody; the first one has begun under the old configuration and ends under it.
    world.browser.get("/api/me").await.refused(401, "login_required");
    assert_eq!(world.upstream.count(), 0);
    waiting.await.unwrap().is(200);
    let issued = world.provider.issued();
    let (_, newest) = issued.iter().rfind(|(kind, _)| *kind == Secret::AccessToken).unwrap();
    assert_eq!(world.upstream.last().header("authorization"), Some(format!("Bearer {newest}").as_str()));
    world.browser.get("/api/me").await.refused(401, "login_required");
    assert_eq!((partners.count(Endpoint::Token), partners.count(Endpoint::Revocation)), (0, 0));
    // Put back, it goes on with what the old one's refresh brought.
    assert_eq!(world.write(&before).await, Edit::Served);
    world.browser.get("/api/me").await.is(200);
    world.clock.shift(301);
    world.browser.get("/api/me").await.is(200);
    assert_eq!((refreshes(&world.provider), world.provider.reuses()), (2, 0));
    assert_eq!(partners.count(Endpoint::Token), 0);
    world.finish().await;
}

#[tokio::test]
async fn bc_6_o25_somebody_of_the_same_name_at_another_provider_stays_logged_in() {
    let (world, partners) = two_providers().await;
    let [one, other] = [world.new_browser(), world.new_browser()];
    one.navigate("/login/start?provider=corp&login_hint=alice").await.is(200);
    other.navigate("/login/start?provider=partners&login_hint=alice").await.is(200);
    let subject = |browser: &Browser| browser.get("/claims").into_future();
    assert_eq!(subject(&one).await.json()["sub"], subject(&other).await.json()["sub"]);
    let token = partners.logout_token(("alice-0001", None, "web"), &[]).unwrap();
    let form = "application/x-www-form-urlencoded";
    let told = world.new_browser().post("/logout/backchannel").header("content-type", form).like_a_program();
    told.body(format!("logout_token={token}")).await.is(200);
    one.get("/api/me").await.is(200);
    other.get("/api/me").await.refused(401, "login_required");
    world.finish().await;
}

#[tokio::test]
async fn each_public_url_has_its_own_redirect_uri_cookies_and_links() {
    let world = World::builder()
        .config(|toml| toml.set("routes.web", "public_url", "[\"https://app.test\", \"https://app.other.test\"]"))
        .provider(|options| {
            let client = options.clients.remove(0).redirect_uri("https://app.other.test/login/end");
            options.clients.push(client.post_logout_redirect_uri("https://app.other.test/logout/end"));
        })
        .start()
        .await;
    world.add_host("app.other.test", true).await;
    for origin in ["https://app.test", "https://app.other.test"] {
        let browser = world.new_browser();
        let at = |path: &str| format!("{origin}{path}");
        let answer = browser.click(origin, &at("/login/start?redirect=/page")).stay().await.is(302);
        assert_eq!(parameter(&answer.location(), "redirect_uri"), Some(at("/login/end")));
        let landed = browser
            .click(origin, &at("/login/start?redirect=/page&login_hint=alice"))
            .stop_before("/page")
            .await;
        assert_eq!(landed.is(303).location().as_str(), at("/page"));
        browser.fetch_from(origin, Method::GET, &at("/api/me")).await.is(200);
        assert_eq!(world.upstream.last().header("x-forwarded-host"), Some(&origin[8..]));
        let times = browser.fetch_from(origin, Method::GET, &at("/session")).await.is(200).json();
        assert_eq!(times["logout_url"], at("/logout"));
        // The other URL's cookies are another host's.
        let other = if origin == "https://app.test" { "https://app.other.test" } else { "https://app.test" };
        browser
            .fetch_from(other, Method::GET, &format!("{other}/api/me"))
            .await
            .refused(401, "login_required");
        let problem = browser.fetch_from(other, Method::GET, &format!("{other}/userinfo")).await.is(401).json();
        assert_eq!(problem["login_url"], format!("{other}/login/start"));
        let end_session = browser.click(origin, &at("/logout")).stay().await.is(302).location();
        assert_eq!(parameter(&end_session, "post_logout_redirect_uri"), Some(at("/logout/end")));
        let page = browser.click(origin, end_session.as_str()).await.is(200);
        assert_eq!(page.url.host_str(), Some(&origin[8..]));
    }
    world.finish().await;
}

#[tokio::test]
async fn a_callback_belongs_to_the_public_url_that_it_was_begun_under() {
    let world = World::builder()
        .config(|toml| toml.set("routes.web", "public_url", "[\"https://app.test\", \"https://app.other.test\"]"))
        .provider(|options| options.clients[0].redirect_uris.push("https://app.other.test/login/end".to_owned()))
        .start()
        .await;
    world.add_host("app.other.test", true).await;
    let picker = world.browser.begin_login().await;
    let callback = world.browser.callback_for(&picker, "alice").await;
    let cookies = world.browser.cookies();
    let pairs: Vec<String> = cookies.iter().map(|cookie| format!("{}={}", cookie.name, cookie.value)).collect();
    let elsewhere = callback.as_str().replace("https://app.test/", "https://app.other.test/");
    let answer = world.new_browser().navigate(&elsewhere).header("cookie", &pairs.join("; ")).await;
    answer.refused(400, "login_expired");
    assert_eq!(world.provider.count(Endpoint::Token), 0);
    world.finish().await;
}

/// Begins and ends a login on the route whose endpoints live below `base`.
async fn log_in_below(browser: &Browser, base: &str, user: &str) {
    browser
        .click("/", &format!("{base}/login/start?login_hint={user}&redirect=/done"))
        .stop_before("/done")
        .await
        .is(303);
}

#[tokio::test]
async fn two_routes_on_one_host_keep_their_sessions_apart() {
    let world = World::builder()
        .config(|toml| {
            toml.text("routes.web", "base_path", "/web")
                .text("routes.admin", "mode", "auth-code")
                .text("routes.admin", "public_url", "https://app.test")
                .text("routes.admin", "base_path", "/admin")
                .text("routes.admin", "upstream", "api")
                .set(
                    "routes.admin.paths",
                    "\"/admin-api/\"",
                    "{ authorization = \"bearer\", allowed_groups = [\"admins\"] }",
                )
        })
        .provider(|options| {
            for uri in ["https://app.test/web/login/end", "https://app.test/admin/login/end"] {
                options.clients[0].redirect_uris.push(uri.to_owned());
            }
        })
        .without_front_end()
        .start()
        .await;
    log_in_below(&world.browser, "/web", "bob").await;
    world.browser.get("/api/x").await.is(200);
    let problem = world.browser.get("/admin-api/x").await.refused(401, "login_required").json();
    assert_eq!(problem["login_url"], "https://app.test/admin/login/start");
    log_in_below(&world.browser, "/admin", "alice").await;
    world.browser.get("/admin-api/x").await.is(200);
    assert_eq!(world.browser.get("/web/userinfo").await.is(200).json()["preferred_username"], "bob");
    assert_eq!(world.browser.get("/admin/userinfo").await.is(200).json()["preferred_username"], "alice");
    // A logout of one leaves the other alone.
    world.browser.post("/admin/logout").await.is(200);
    world.browser.get("/admin-api/x").await.is(401);
    world.browser.get("/api/x").await.is(200);
    assert!(world.metric("vestibule_http_requests_total", &[("route", "admin"), ("endpoint", "logout")]).await >= 1.0);
    world.finish().await;
}

#[tokio::test]
async fn a_site_on_loopback_without_tls_has_cookies_that_browsers_take_there() {
    let origin = "http://localhost:8080";
    let world = World::builder()
        .config(|toml| toml.text("routes.web", "public_url", "http://localhost:8080"))
        .provider(|options| options.clients[0].redirect_uris.push("http://localhost:8080/login/end".to_owned()))
        .start()
        .await;
    world.add_host("localhost:8080", true).await;
    let start = format!("{origin}/login/start?login_hint=alice&redirect=/in");
    let answer = world.browser.navigate(&start).stop_before("/in").await.is(303);
    assert_eq!(answer.location().as_str(), "http://localhost:8080/in");
    let line = answer.all("set-cookie").into_iter().find(|line| line.starts_with("vestibule-web=")).unwrap();
    assert!(line.ends_with("; Path=/; HttpOnly; SameSite=Lax; Max-Age=36000"), "{line}");
    world.browser.fetch_from(origin, Method::GET, &format!("{origin}/api/me")).await.is(200);
    assert_eq!(world.upstream.last().header("x-forwarded-proto"), Some("http"));
    assert!(world.upstream.last().header("cookie").is_none());
    world.browser.fetch_from(origin, Method::POST, &format!("{origin}/logout")).await.is(200);
    world.browser.fetch_from(origin, Method::GET, &format!("{origin}/api/me")).await.is(401);
    world.finish().await;
}

/// Whoever is known at one of several providers steps up there, and is not asked which one it was.
#[tokio::test]
async fn ls_16_a_step_up_is_made_at_the_provider_that_knows_the_user() {
    let (world, partners) = two_providers().await;
    let vault = "{ unauthenticated = \"login\", acr_values = [\"2\"] }";
    assert_eq!(world.edit(|toml| toml.set("routes.web.paths", "\"/api/\"", vault)).await, Edit::Served);
    for (name, issuer) in [("corp", world.provider.issuer()), ("partners", partners.issuer())] {
        let browser = world.new_browser();
        browser.navigate(&format!("/login/start?login_hint=alice&provider={name}")).await.is(200);
        let picker = browser.navigate("/api/vault").await.is(200).says("Who are you?");
        assert!(picker.url.as_str().starts_with(issuer), "{}", picker.describe());
        browser.choose(&picker, "alice").await.is(200).at("https://app.test/api/vault");
        // Whoever wants another one can still say so.
        let refused = world.new_browser();
        refused.navigate(&format!("/login/start?login_hint=bob&provider={name}")).await.is(200);
        let start = refused.get("/api/vault").await.is(401).json()["login_url"].as_str().unwrap().to_owned();
        let other = refused.navigate(&format!("{start}?provider=corp")).stay().await.is(302).location();
        assert!(other.as_str().starts_with(world.provider.issuer()), "{other}");
        assert_eq!(parameter(&other, "acr_values").as_deref(), Some("2"));
    }
    world.finish().await;
}

/// A stranger whom an upstream sends to log in chooses first, and what was asked for is not forgotten over that.
#[tokio::test]
async fn rfc_9470_the_choice_of_a_provider_keeps_what_the_login_is_for() {
    let (world, _partners) = two_providers().await;
    let open = "{ unauthenticated = \"pass\" }";
    assert_eq!(world.edit(|toml| toml.set("routes.web.paths", "\"/api/\"", open)).await, Edit::Served);
    let challenge = "Bearer error=\"insufficient_user_authentication\", acr_values=\"2\"";
    world
        .upstream
        .next(crate::world::upstream::Reply::text("").status(401).header("www-authenticate", challenge));
    let page = world.browser.navigate("/api/open").await.is(200).says("Choose where you have an account");
    for link in links(&page) {
        let url = world.browser.click("/", &link).stay().await.is(302).location();
        assert_eq!(parameter(&url, "acr_values").as_deref(), Some("2"), "{link}");
    }
    world.finish().await;
}
