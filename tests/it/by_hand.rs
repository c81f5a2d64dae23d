//! `vestibule sessions`: what an operator types to see who is logged in, and to end it.

use std::process::{Command, Output};

use crate::world::{Edit, World};

/// The program's answer, asked about the config of `world`.
async fn sessions(world: &World, arguments: &[&str]) -> Output {
    let config = world.dir().join("vestibule.toml");
    let arguments: Vec<String> = arguments.iter().map(|&argument| argument.to_owned()).collect();
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

/// Has `world` take orders on a socket, with a token for good measure.
async fn take_orders(world: &World) {
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
}

#[tokio::test]
async fn who_is_logged_in_is_listed_and_ended() {
    let world = World::start().await;
    let (done, text) = said(&sessions(&world, &["list"]).await);
    assert!(!done && text.contains("`server.control` is not set"), "{text}");
    take_orders(&world).await;
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

/// Providers make up names in base64url, so that one in 64 begins as an option does.
#[tokio::test]
async fn a_name_may_begin_with_a_hyphen() {
    let world = World::start().await;
    take_orders(&world).await;
    for arguments in [["--sid", "-6kX2"], ["--sub", "-6kX2"], ["--sub", "--all"]] {
        assert_eq!(said(&sessions(&world, &[&["list"], &arguments[..]].concat()).await), (true, "nobody\n".to_owned()));
        let ended = said(&sessions(&world, &[&["end"], &arguments[..]].concat()).await);
        assert_eq!(ended, (true, "0 sessions ended\n".to_owned()), "{arguments:?}");
    }
    world.finish().await;
}

/// What the log keeps of an order is which filters it had, not whom it was about.
#[tokio::test]
async fn the_log_names_no_person_whose_sessions_end_by_hand() {
    let world = World::start().await;
    take_orders(&world).await;
    let carol = world.new_browser();
    world.browser.login("alice").await;
    carol.login("carol").await;
    let (_, text) = said(&sessions(&world, &["list", "--sub", "carol-0001", "--json"]).await);
    let session: serde_json::Value = serde_json::from_str(text.trim()).unwrap();
    let sid = session["sid"].as_str().unwrap();
    let id = &session["id"].as_str().unwrap()[..16];
    let orders = [
        (vec!["--sub", "carol-0001", "--sid", sid, "--route", "other"], "sub, sid, route=other"),
        (vec!["--id", id, "--sub", "carol-0001", "--older-than", "8h"], &format!("id={id}, sub, older_than=28800s")),
        (vec!["--provider", "corp", "--idle-for", "30m"], "provider=corp, idle_for=1800s"),
        (vec!["--sub", "someone\nelse"], "sub"),
        (vec!["--sid", sid], "sid"),
        (vec!["--all"], "all"),
    ];
    for (arguments, which) in orders {
        let before = world.log();
        let (done, text) = said(&sessions(&world, &[&["end"], &*arguments].concat()).await);
        assert!(done, "{arguments:?}: {text}");
        let log = world.log().split_off(before.len());
        let own: Vec<&str> = log.lines().filter(|line| line.contains("\"target\":\"vestibule")).collect();
        // Other worlds give orders, too; none of them says these.
        let ends: Vec<&&str> = own.iter().filter(|line| line.contains("control: sessions ended")).collect();
        let told = |line: &str| serde_json::from_str::<serde_json::Value>(line).unwrap()["fields"]["which"] == which;
        assert!(ends.iter().any(|line| told(line)), "{which} is not in {ends:?}");
        assert!(!ends.iter().any(|line| line.contains("carol-0001") || line.contains("someone")), "{ends:?}");
        assert!(!own.iter().any(|line| line.contains(sid)), "{sid} is in\n{}", own.join("\n"));
    }
    for browser in [&world.browser, &carol] {
        browser.get("/api/me").await.refused(401, "login_required");
    }
    world.finish().await;
}
