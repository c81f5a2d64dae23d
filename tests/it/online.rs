//! `vestibule check --online`: what it finds out about a provider before anybody depends on it.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use vestibule::demo::provider::Client;

use crate::world::World;
use crate::world::toml::Toml;

/// A world with a CLI's route, and one where opaque tokens are looked up.
async fn world() -> World {
    let world = World::builder()
        .provider(|options| options.clients.push(Client::public("cli").with_device_flow()))
        .config(|toml| {
            toml.text("routes.cli", "mode", "device")
                .text("routes.cli", "public_url", "https://cli.test")
                .text("routes.cli", "client_id", "cli")
                .text("routes.cli", "upstream", "api")
                .set("routes.cli", "audiences", "[\"api\"]");
            toml.set("providers.corp", "introspection", "true")
                .text("routes.things", "mode", "verify")
                .text("routes.things", "public_url", "https://api.test")
                .text("routes.things", "upstream", "api")
                .set("routes.things", "audiences", "[\"api\"]")
        });
    world.start().await
}

/// Whether `check --online` is content with the config of `world`, changed by `edit`, and all that it says.
async fn check(world: &World, edit: impl FnOnce(&mut Toml) -> &mut Toml) -> (bool, String) {
    let file = world.dir().join("online.toml");
    fs::write(&file, world.edited(edit)).unwrap();
    let output = tokio::task::block_in_place(|| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_vestibule"));
        command.args(["check", "--online", "--config"]).arg(&file).output().unwrap()
    });
    (output.status.success(), String::from_utf8([output.stdout, output.stderr].concat()).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_that_fits_is_told_of_line_by_line() {
    let world = world().await;
    let (content, said) = check(&world, |toml| toml).await;
    assert!(content, "{said}");
    for line in [
        "ok       metadata      token endpoint http",
        "ok       keys          2",
        "ok       clock         ",
        "ok       client        web is known with its secret",
        "ok       device flow   http",
        "ok       introspection as client web",
    ] {
        assert!(said.contains(line), "{line}: {said}");
    }
    assert!(!said.contains("error"), "{said}");
    assert_eq!(said.matches("introspection").count(), 1, "each is asked once: {said}");
    // It left nothing behind: people log in as before.
    world.browser.login("alice").await;
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_secret_is_found_before_anybody_logs_in() {
    let world = world().await;
    let wrong = world.dir().join("wrong.secret");
    fs::write(&wrong, "this-is-another-secret").unwrap();
    fs::set_permissions(&wrong, Permissions::from_mode(0o600)).unwrap();
    let file = format!("{{ file = \"{}\" }}", wrong.display());
    let (content, said) = check(&world, |toml| toml.set("providers.corp", "client_secret", &file)).await;
    assert!(!content, "{said}");
    for line in [
        "error    client        web is not known with its secret: the provider answers invalid_client",
        "error    introspection as client web",
        "ok       metadata",
    ] {
        assert!(said.contains(line), "{line}: {said}");
    }
    assert!(!said.contains("this-is-another"), "{said}");
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_that_does_not_answer_or_is_another_is_an_error() {
    let world = world().await;
    let elsewhere = format!("{}/elsewhere", world.provider.issuer());
    let (content, said) = check(&world, |toml| toml.text("providers.corp", "issuer", &elsewhere)).await;
    assert!(!content && said.contains("error    metadata      "), "{said}");
    assert!(!said.contains("client web is"), "what needs metadata is not asked: {said}");

    world.provider.go_down().await.unwrap();
    let (content, said) = check(&world, |toml| toml).await;
    assert!(!content && said.contains("cannot be reached"), "{said}");
    // Without being told to, nobody is asked.
    let file = world.dir().join("online.toml");
    let quiet = Command::new(env!("CARGO_BIN_EXE_vestibule"))
        .args(["check", "--config"])
        .arg(&file)
        .output()
        .unwrap();
    assert!(quiet.status.success());
    world.provider.come_up().unwrap();
    world.finish().await;
}
