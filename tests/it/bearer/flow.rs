//! The device flow from the first question to the call, as a CLI walks it: Vestibule says where, the development provider
//! does the rest, on its endpoint and on its page.

use std::time::Duration;

use serde_json::Value;
use vestibule::demo::provider::{Client, Endpoint};

use super::device::{CLI, call_at_cli};
use super::program::{Program, Waiting, oauth_error};
use crate::world::{World, builder::Builder};

/// A provider that knows two programs, one of which may not use the device flow.
fn with_programs(builder: Builder) -> Builder {
    builder.provider(|options| {
        options.clients.push(Client::public("cli").with_device_flow());
        options.clients.push(Client::public("other").with_device_flow());
        options.clients.push(Client::public("page"));
    })
}

async fn world() -> World {
    with_programs(super::device::builder(true)).start_cli().await
}

/// RFC 8628 3.1 to 3.5, and RFC 6749 6; DV-1.
#[tokio::test]
async fn a_program_is_told_where_logs_in_calls_and_renews() {
    let world = world().await;
    let told = world.new_browser().post(&format!("{CLI}/login/start")).like_a_program().await.is(200).json();
    assert_eq!(told["device_authorization_endpoint"], world.provider.url(Endpoint::DeviceAuthorization));
    assert_eq!(told["client_id"], "cli");
    let program = Program { world: &world, client_id: "cli" };

    let waiting = program.begin().await;
    oauth_error(program.poll(&waiting).await, "authorization_pending");
    // Too fast, and from then on everything is five seconds slower (3.5).
    oauth_error(program.poll(&waiting).await, "slow_down");
    world.clock.shift(i64::try_from(waiting.seconds).unwrap());
    oauth_error(program.poll(&waiting).await, "slow_down");
    program.allow(&waiting, "alice").await.is(200).says("act as alice");
    world.clock.shift(60);
    let tokens = program.poll(&waiting).await.is(200).json();
    oauth_error(program.poll(&waiting).await, "invalid_grant");

    call_at_cli(&world, text(&tokens, "access_token")).await.is(200);
    let seen = world.upstream.last();
    assert_eq!(seen.header("authorization"), Some(format!("Bearer {}", text(&tokens, "access_token")).as_str()));

    // It renews by itself; Vestibule has no part in that.
    world.clock.shift(400);
    call_at_cli(&world, text(&tokens, "access_token")).await.refused(401, "invalid_token");
    let renewed = program.refresh(text(&tokens, "refresh_token")).await.is(200).json();
    call_at_cli(&world, text(&renewed, "access_token")).await.is(200);
    // Rotation: the first refresh token is used up, and a second use ends the family (RFC 9700 4.14.2).
    oauth_error(program.refresh(text(&tokens, "refresh_token")).await, "invalid_grant");
    oauth_error(program.refresh(text(&renewed, "refresh_token")).await, "invalid_grant");
    assert_eq!(world.provider.reuses(), 1);
    world.finish().await;
}

/// RFC 8628 3.3, 5.2, 5.4: what a person can type, and what comes of a wrong code, a no, and too late.
#[tokio::test]
async fn the_page_asks_shows_and_takes_a_no() {
    let world = world().await;
    let program = Program { world: &world, client_id: "cli" };
    let person = world.new_browser();
    let page = world.provider.url(Endpoint::DevicePage);
    person.navigate(&page).await.is(200).says("Type in the code").says("name=\"user_code\"");
    person
        .navigate(&format!("{page}?user_code=XXXX-XXXX"))
        .await
        .is(400)
        .says("No program waits for this code");
    person.navigate(&format!("{page}?user_code=%3Cscript%3E")).await.is(400).says("No program waits");

    let waiting = program.begin().await;
    assert!(waiting.user_code.len() == 9 && waiting.user_code.chars().nth(4) == Some('-'), "{}", waiting.user_code);
    // As people type it.
    let sloppy = waiting.user_code.to_lowercase().replace('-', " ");
    let asked = person.navigate(&format!("{page}?user_code={}", sloppy.replace(' ', "+"))).await.is(200);
    let asked = asked
        .says("Who are you?")
        .says(&waiting.user_code)
        .says("<strong>cli</strong>")
        .says("Do not let it");
    // Nothing was decided by looking, nor by somebody who does not exist.
    oauth_error(program.poll(&waiting).await, "authorization_pending");
    let nobody = [("user_code", waiting.user_code.as_str()), ("user", "mallory")];
    person.submit(&asked, &nobody).await.is(200).says("Who are you?");
    world.clock.shift(10);
    oauth_error(program.poll(&waiting).await, "authorization_pending");
    let no = [("user_code", waiting.user_code.as_str()), ("cancel", "1")];
    person.submit(&asked, &no).await.is(200).says("The program was refused");
    world.clock.shift(10);
    oauth_error(program.poll(&waiting).await, "access_denied");
    // What was decided cannot be decided again.
    person.submit(&asked, &[("user_code", &waiting.user_code), ("user", "alice")]).await.is(400);
    world.clock.shift(10);
    oauth_error(program.poll(&waiting).await, "access_denied");

    let late = program.begin().await;
    world.clock.shift(601);
    oauth_error(program.poll(&late).await, "expired_token");
    person.navigate(&late.page).await.is(400).says("No program waits");
    world.finish().await;
}

/// RFC 8628 3.1, 3.4: a code is for the program that it was given to, and not every program may ask for one.
#[tokio::test]
async fn a_code_is_for_one_program_and_one_that_may_ask() {
    let world = world().await;
    let (cli, other) = (Program { world: &world, client_id: "cli" }, Program { world: &world, client_id: "other" });
    let waiting = cli.begin().await;
    cli.allow(&waiting, "alice").await.is(200);
    oauth_error(other.poll(&waiting).await, "invalid_grant");
    let made_up = Waiting { device_code: "made-up".to_owned(), ..cli.begin().await };
    oauth_error(cli.poll(&made_up).await, "invalid_grant");
    cli.poll(&waiting).await.is(200);
    let begin = |form: &'static [(&str, &str)]| cli.post(Endpoint::DeviceAuthorization, form);
    oauth_error(begin(&[("client_id", "page")]).await, "unauthorized_client");
    oauth_error(begin(&[("client_id", "cli"), ("client_id", "cli")]).await, "invalid_request");
    for unknown in [&[("client_id", "nobody")][..], &[], &[("client_id", "web")]] {
        let answer = cli.post(Endpoint::DeviceAuthorization, unknown).await.is(401);
        assert_eq!(answer.json()["error"], "invalid_client");
    }
    world.finish().await;
}

/// DV-6: the token of a program that this route is not for is good for nobody: its audience is another.
#[tokio::test]
async fn dv_5_a_token_for_another_api_does_not_pass() {
    let builder = with_programs(super::device::builder(true));
    let world = builder.provider(|options| options.audience = "another-api".to_owned()).start_cli().await;
    let tokens = Program { world: &world, client_id: "cli" }.log_in("alice").await;
    let refused = call_at_cli(&world, text(&tokens, "access_token")).await.refused(401, "invalid_token");
    assert!(super::challenge(&refused).contains("error=\"invalid_token\""), "{}", refused.describe());
    assert_eq!(world.upstream.recorded().len(), 0);
    world.finish().await;
}

/// The interval that a provider asks for is its own.
#[tokio::test]
async fn a_provider_that_is_asked_often_by_its_own_wish() {
    let builder = with_programs(super::device::builder(true));
    let world = builder.provider(|options| options.device_interval = Duration::ZERO).start_cli().await;
    let program = Program { world: &world, client_id: "cli" };
    let waiting = program.begin().await;
    assert_eq!(waiting.seconds, 0);
    for _ in 0..3 {
        oauth_error(program.poll(&waiting).await, "authorization_pending");
    }
    world.finish().await;
}

/// A member of a token answer.
fn text<'a>(tokens: &'a Value, name: &str) -> &'a str {
    tokens[name].as_str().unwrap_or_else(|| panic!("no {name}"))
}
