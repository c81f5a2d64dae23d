//! `vestibule sessions`: what an operator types to see who is logged in, and to end it.

use std::process::{Command, Output};

use crate::world::{Edit, World};

/// The program's answer, asked about the config of `world`.
async fn sessions(world: &World, arguments: &'static [&'static str]) -> Output {
    let config = world.dir().join("vestibule.toml");
    let run = move || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_vestibule"));
        command.arg("sessions").args(arguments).arg("--config").arg(config).output().unwrap()
    };
    tokio::task::spawn_blocking(run).await.unwrap()
}

fn said(output: &Output) -> (bool, String) {
    let text = [output.stdout.as_slice(), output.stderr.as_slice()].concat();
    (output.status.success(), String::from_utf8(text).unwrap())
}

#[tokio::test]
async fn who_is_logged_in_is_listed_and_ended() {
    let world = World::start().await;
    let (done, text) = said(&sessions(&world, &["list"]).await);
    assert!(!done && text.contains("`server.control` is not set"), "{text}");
    let token = world.dir().join("control.token");
    std::fs::write(&token, "a-token-of-more-than-thirty-two-bytes").unwrap();
    let place = format!("unix:{}", world.dir().join("control.sock").display());
    let edit = world.edit(|toml| {
        toml.text("server", "control", &place).set(
            "server",
            "control_token",
            &format!("{{ file = \"{}\" }}", token.display()),
        )
    });
    assert_eq!(edit.await, Edit::Served);
    assert_eq!(said(&sessions(&world, &["list"]).await), (true, "nobody\n".to_owned()));
    let bob = world.new_browser();
    world.browser.login("alice").await;
    bob.login("bob").await;
    let (done, text) = said(&sessions(&world, &["list"]).await);
    assert!(done && text.lines().count() == 3 && text.contains("alice (alice-0001)"), "{text}");
    let (done, text) = said(&sessions(&world, &["list", "--sub", "bob-0001", "--json"]).await);
    let session: serde_json::Value = serde_json::from_str(text.trim()).unwrap();
    assert!(done && session["sub"] == "bob-0001" && session["route"] == "web", "{text}");

    // Whoever says nothing, or something else, ends nobody.
    for arguments in [&["end"][..], &["end", "--older-than", "never"], &["end", "--all", "--sub", "bob-0001"]] {
        let (done, text) = said(&sessions(&world, arguments).await);
        assert!(!done && text.contains("answers 400"), "{arguments:?}: {text}");
    }
    assert_eq!(said(&sessions(&world, &["end", "--sub", "bob-0001"]).await), (true, "1 session ended\n".to_owned()));
    bob.get("/api/me").await.refused(401, "login_required");
    world.browser.get("/api/me").await.is(200);
    assert_eq!(said(&sessions(&world, &["end", "--all"]).await), (true, "1 session ended\n".to_owned()));
    world.browser.get("/api/me").await.refused(401, "login_required");
    world.finish().await;
}
