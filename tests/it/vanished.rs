//! Sessions of a route that is not there any more (promise 1, CF-11, M16): unusable and without streams at once, deleted
//! after ten minutes, and there again when the route is put back before.

use std::time::Duration;

use vestibule::demo::provider::Client;

use crate::streams::open;
use crate::world::browser::Browser;
use crate::world::live::{Ending, Live};
use crate::world::toml::Toml;
use crate::world::{Edit, World};

const FILE: &str = "{ file = \"sessions.redb\" }";

fn wiki(toml: &mut Toml) -> &mut Toml {
    toml.text("routes.wiki", "mode", "auth-code")
        .text("routes.wiki", "public_url", "https://wiki.test")
        .text("routes.wiki", "upstream", "api")
}

/// A world with two sites, a browser that is logged in at each, and a stream of each.
async fn two_sites(store: &'static str) -> (World, Browser, Live, Live) {
    let world = World::builder()
        .provider(|options| {
            let client = options.clients.remove(0).redirect_uri("https://wiki.test/login/end");
            options.clients.push(client);
            options.clients.push(Client::public("other").redirect_uri("https://wiki.test/login/end"));
        })
        .config(move |toml| wiki(toml).set("sessions", "store", store))
        .start()
        .await;
    world.add_host("wiki.test", false).await;
    world.upstream.on("/api/events", open("text/event-stream", "data: hello\n\n"));
    world.browser.login("alice").await;
    let bob = world.new_browser();
    bob.navigate("https://wiki.test/login/start?redirect=/api/page&login_hint=bob").await.is(200);
    let mut alices = Live::get(&world, &world.browser, "/api/events").await;
    let mut bobs = Live::get_at("wiki.test", &world, &bob, "/api/events").await;
    assert_eq!((alices.response.status(), bobs.response.status()), (http::StatusCode::OK, http::StatusCode::OK));
    alices.says("hello").await;
    bobs.says("hello").await;
    (world, bob, alices, bobs)
}

async fn sessions(world: &World) -> usize {
    world.sidecar().sweep().await;
    world.sidecar().lasting().shared.sessions.count()
}

async fn is_cut(stream: Live) {
    let (ending, took) = stream.ended().await;
    assert!(ending == Ending::Broken && took < Duration::from_secs(1), "{ending:?} after {took:?}");
}

async fn a_route_that_goes_and_comes_back(store: &'static str) {
    let (world, bob, mut alices, bobs) = two_sites(store).await;
    assert_eq!(world.edit(|toml| toml.remove("routes.wiki")).await, Edit::Served);
    is_cut(bobs).await;
    bob.navigate("https://wiki.test/api/page").await.is(403);
    assert!(alices.is_quiet_for(Duration::from_millis(200)).await, "the other site's go on");
    world.clock.shift(595);
    world.browser.get("/api/me").await.is(200);
    assert_eq!(sessions(&world).await, 2);
    assert_eq!(world.edit(wiki).await, Edit::Served);
    bob.navigate("https://wiki.test/api/page").await.is(200);
    world.clock.shift(10);
    assert_eq!(sessions(&world).await, 2, "it was never away");

    assert_eq!(world.edit(|toml| toml.remove("routes.wiki")).await, Edit::Served);
    world.clock.shift(300);
    // Any other edit in between changes nothing about the time.
    assert_eq!(world.edit(|toml| toml.text("routes.web", "home_url", "https://app.test/home")).await, Edit::Served);
    world.clock.shift(310);
    assert_eq!(sessions(&world).await, 1);
    assert!(world.log().contains("kind=\"unserved\"") || world.log().contains("\"kind\":\"unserved\""));
    assert_eq!(world.edit(wiki).await, Edit::Served);
    bob.navigate("https://wiki.test/api/page").await.is(401);
    world.browser.get("/api/me").await.is(200);
    assert!(alices.is_quiet_for(Duration::from_millis(200)).await);
    world.finish().await;
}

#[tokio::test]
async fn cf_11_a_route_that_goes_and_comes_back_in_memory() {
    a_route_that_goes_and_comes_back("\"memory\"").await;
}

#[tokio::test]
async fn cf_11_a_route_that_goes_and_comes_back_in_a_file() {
    a_route_that_goes_and_comes_back(FILE).await;
}

/// Streams of nobody in particular: of a path that is open to all.
#[tokio::test]
async fn a_route_that_goes_takes_its_streams_without_a_session_along() {
    let (world, gone, mut stays) = open_sites().await;
    assert_eq!(world.edit(|toml| toml.remove("routes.wiki").remove("routes.wiki.paths")).await, Edit::Served);
    is_cut(gone).await;
    assert!(stays.is_quiet_for(Duration::from_millis(200)).await, "the other site's goes on");
    world.finish().await;
}

/// M16: whoever came in by the rules of one mode is not there by those of another.
#[tokio::test]
async fn m16_a_route_of_another_mode_takes_no_stream_over() {
    let (world, by_cookie, mut stays) = open_sites().await;
    let verify = |toml: &mut Toml| {
        toml.text("routes.wiki", "mode", "verify").set("routes.wiki", "audiences", "[\"api\"]");
    };
    let served = world.edit(|toml| {
        verify(toml);
        toml
    });
    assert_eq!(served.await, Edit::Served);
    is_cut(by_cookie).await;
    let by_bearer = open_stream(&world, "wiki.test").await;
    assert_eq!(world.edit(|toml| wiki(toml).unset("routes.wiki", "audiences")).await, Edit::Served);
    is_cut(by_bearer).await;
    assert!(stays.is_quiet_for(Duration::from_millis(200)).await, "the other site's goes on");
    world.finish().await;
}

/// A world with two sites that have a path which is open to all, and a stream of each.
async fn open_sites() -> (World, Live, Live) {
    let world = World::builder().config(|toml| {
        let open = "{ unauthenticated = \"pass\" }";
        wiki(toml).set("routes.wiki.paths", "\"/open/\"", open).set("routes.web.paths", "\"/open/\"", open)
    });
    let world = world.start().await;
    world.add_host("wiki.test", false).await;
    world.upstream.on("/open/events", open("text/event-stream", "data: hello\n\n"));
    let (wiki, web) = (open_stream(&world, "wiki.test").await, open_stream(&world, "app.test").await);
    (world, wiki, web)
}

async fn open_stream(world: &World, host: &'static str) -> Live {
    let mut stream = Live::get_at(host, world, &world.browser, "/open/events").await;
    stream.says("hello").await;
    stream
}

/// M16: another client is somebody else, and so is a route of another mode.
#[tokio::test]
async fn m16_a_new_client_or_another_mode_takes_no_session_over() {
    let (world, bob, mut alices, bobs) = two_sites("\"memory\"").await;
    assert_eq!(world.edit(|toml| toml.text("routes.wiki", "client_id", "other")).await, Edit::Served);
    is_cut(bobs).await;
    bob.navigate("https://wiki.test/api/page").await.is(401);
    assert_eq!(world.edit(|toml| toml.unset("routes.wiki", "client_id")).await, Edit::Served);
    bob.navigate("https://wiki.test/api/page").await.is(200);
    let mut bobs = Live::get_at("wiki.test", &world, &bob, "/api/events").await;
    bobs.says("hello").await;
    let verify = |toml: &mut Toml| {
        toml.text("routes.wiki", "mode", "verify").set("routes.wiki", "audiences", "[\"api\"]");
    };
    let served = world.edit(|toml| {
        verify(toml);
        toml
    });
    assert_eq!(served.await, Edit::Served);
    is_cut(bobs).await;
    bob.navigate("https://wiki.test/api/page").await.is(401);
    world.clock.shift(601);
    assert_eq!(sessions(&world).await, 1);
    assert!(alices.is_quiet_for(Duration::from_millis(200)).await);
    world.finish().await;
}

/// A restart is no way around: whoever is in the file for a route that is not there has ten minutes from then on.
#[tokio::test]
async fn cf_11_ten_minutes_after_a_restart_sessions_of_no_route_are_deleted() {
    let (mut world, bob, alices, bobs) = two_sites(FILE).await;
    drop((alices, bobs));
    assert_eq!(world.edit(|toml| toml.remove("routes.wiki")).await, Edit::Served);
    world.restart().await;
    world.clock.shift(590);
    assert_eq!(sessions(&world).await, 2);
    world.clock.shift(20);
    assert_eq!(sessions(&world).await, 1);
    assert_eq!(world.edit(wiki).await, Edit::Served);
    world.add_host("wiki.test", false).await;
    bob.navigate("https://wiki.test/api/page").await.is(401);
    world.browser.get("/api/me").await.is(200);
    world.finish().await;
}

/// Names that are gone are gone from /metrics, also when an edit that brought them could not be bound, and when sessions
/// end that were counted under them.
#[tokio::test]
async fn series_of_what_is_gone_disappear() {
    let (world, _, alices, bobs) = two_sites("\"memory\"").await;
    drop((alices, bobs));
    let named = async |name: &str| {
        let text = world.admin("/metrics").await.is(200).text();
        text.lines().filter(|line| line.contains(&format!("=\"{name}\""))).count()
    };
    assert!(named("wiki").await > 3 && named("corp").await > 3);
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let listen = taken.local_addr().unwrap().to_string();
    let refused = world.edit(|toml| {
        toml.text("providers.next", "issuer", "https://id.next.example")
            .text("providers.next", "client_id", "web");
        toml.text("routes.web", "provider", "corp").text("routes.wiki", "provider", "next");
        toml.text("upstreams.new", "url", "http://127.0.0.1:9").text("routes.new", "mode", "auth-code");
        toml.text("routes.new", "provider", "next").text("routes.new", "upstream", "new");
        toml.text("routes.new", "public_url", "https://new.test").text("routes.new", "listen", &listen)
    });
    assert_eq!(refused.await, Edit::Refused);
    assert_eq!((named("new").await, named("next").await), (0, 0), "it was never there");
    drop(taken);
    let served = world.edit(|toml| toml.remove("routes.new").remove("upstreams.new"));
    assert_eq!(served.await, Edit::Served);
    assert_eq!(world.edit(|toml| toml.remove("routes.wiki").remove("providers.next")).await, Edit::Served);
    assert_eq!((named("wiki").await, named("next").await), (0, 0));
    world.clock.shift(601);
    assert_eq!(sessions(&world).await, 1);
    assert_eq!((named("wiki").await, named("next").await), (0, 0), "the end of its session was not counted anew");
    assert!(named("web").await > 3 && named("corp").await > 3);
    world.finish().await;
}
