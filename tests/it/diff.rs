//! `vestibule diff`: what an edit would change, for people and for scripts.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};

const OLD: &str = r#"
[providers.corp]
issuer = "https://id.example.com"
client_id = "web"
client_secret = { file = "web.secret" }

[sessions]
keys = [{ file = "one.key" }]

[routes.web]
mode = "auth-code"
public_url = "https://app.example.com"
upstream = "http://127.0.0.1:8080"

[routes.wiki]
mode = "auth-code"
public_url = "https://wiki.example.com"
upstream = "http://127.0.0.1:3000"
"#;

/// Every secret of these files holds this word.
const SECRET: &str = "hunter2";

fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let long = format!("{SECRET}-and-more-than-32-bytes-of-it");
    for (name, text) in [
        ("web.secret", "hunter2-of-the-web".to_owned()),
        ("same.secret", "hunter2-of-the-web\n".to_owned()),
        ("other.secret", "hunter2-of-another".to_owned()),
        ("one.key", long.clone()),
        ("two.key", format!("2{long}")),
    ] {
        fs::write(folder.path().join(name), text).unwrap();
        fs::set_permissions(folder.path().join(name), fs::Permissions::from_mode(0o600)).unwrap();
    }
    fs::write(folder.path().join("old.toml"), OLD).unwrap();
    folder
}

fn run(folder: &Path, arguments: &[&str], input: &str) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_vestibule"))
        .arg("diff")
        .args(arguments)
        .current_dir(folder)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // Whoever does not read it may be gone before it is written.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    let output = child.wait_with_output().unwrap();
    for said in [&output.stdout, &output.stderr] {
        assert!(!String::from_utf8_lossy(said).contains(SECRET), "{output:?}");
    }
    output
}

/// Exit code and what it says about `OLD` and `new`.
fn diff(new: &str) -> (i32, String) {
    let folder = folder();
    fs::write(folder.path().join("new.toml"), new).unwrap();
    let output = run(folder.path(), &["old.toml", "new.toml"], "");
    (output.status.code().unwrap(), String::from_utf8(output.stdout).unwrap())
}

#[track_caller]
fn says(new: &str, lines: &[&str]) {
    let (code, said) = diff(new);
    assert_eq!(code, 1, "{said}");
    for line in lines {
        assert!(said.lines().any(|found| found.trim() == *line), "{line:?} is not in\n{said}");
    }
}

#[test]
fn what_means_the_same_is_the_same() {
    let (code, said) = diff(OLD);
    assert_eq!((code, said.as_str()), (0, "Both mean the same.\n"));
    let spelled = OLD.replace("[sessions]", "# a comment\n[sessions]\nidle_timeout = \"1800s\"\nmax_lifetime='PT10H'");
    let spelled = spelled.replace("[routes.web]", "[server]\nlisten = \"127.0.0.1:9080\"\n[routes.web]");
    assert_eq!(diff(&spelled).0, 0, "{}", diff(&spelled).1);
}

#[test]
fn each_change_is_told_with_its_key() {
    let new = OLD.replace("127.0.0.1:3000\"", "127.0.0.1:3001\"\nhome_url = \"https://wiki.example.com/start\"");
    says(
        &new.replace("[sessions]", "[sessions]\nidle_timeout = \"20m\""),
        &[
            "~ routes.wiki.upstream = \"http://127.0.0.1:3000\" -> \"http://127.0.0.1:3001\"",
            "+ routes.wiki.home_url = \"https://wiki.example.com/start\"",
            "~ sessions.idle_timeout = \"30m\" (default) -> \"20m\"",
            "sessions.idle_timeout: sessions that were unused for so long are over at once",
            "upstreams.wiki-1: requests from now on use new connections; streams that are open go on",
        ],
    );
}

/// CF-11: it says whose sessions will end.
#[test]
fn a_route_that_goes_takes_its_sessions_with_it_and_a_new_client_too() {
    let without = OLD.split("[routes.wiki]").next().unwrap();
    let ends = "sessions are unusable and their streams end at once; they are deleted after ten minutes, unless it is put back";
    says(without, &["- routes.wiki.mode = \"auth-code\"", &format!("routes.wiki: its {ends}")]);
    let other = OLD.replace("client_id = \"web\"", "client_id = \"app\"");
    let of_client = ends.replacen("sessions", "sessions of client web at https://id.example.com", 1);
    says(
        &other,
        &[
            &format!("routes.web: {of_client}"),
            "providers.corp: first register the redirect URI https://app.example.com/login/end for client app",
        ],
    );
}

#[test]
fn listeners_that_move_and_addresses_to_register_are_told() {
    let new = OLD.replace("[sessions]", "[server]\nlisten = \"127.0.0.1:9081\"\n[sessions]");
    says(
        &new,
        &[
            "~ server.listen = \"127.0.0.1:9080\" (default) -> \"127.0.0.1:9081\"",
            "server: 127.0.0.1:9081 opens (routes)",
            "server: 127.0.0.1:9080 (routes) closes when its requests are done: first have nobody dial it",
        ],
    );
    let new = OLD.replace("https://wiki.example.com", "https://docs.example.com");
    says(
        &new,
        &[
            "providers.corp: first register the redirect URI https://docs.example.com/login/end for client web",
            "providers.corp: first register the post-logout redirect URI https://docs.example.com/logout/end for client web",
            "routes.wiki: nobody is logged in at wiki.example.com any more",
        ],
    );
}

/// CF-6: secrets are compared, and only where they are read from is shown.
#[test]
fn cf_6_secrets_are_compared_and_never_shown() {
    let moved = OLD.replace("\"web.secret\"", "\"same.secret\"");
    says(
        &moved,
        &["~ providers.corp.client_secret = { file = \"web.secret\" } -> { file = \"same.secret\" } (the same secret)"],
    );
    let other = OLD.replace("\"web.secret\"", "\"other.secret\"");
    says(&other, &["~ providers.corp.client_secret = { file = \"web.secret\" } -> { file = \"other.secret\" }"]);
    let inline = OLD.replace("{ file = \"web.secret\" }", "\"hunter2-of-the-web\"");
    says(&inline, &["~ providers.corp.client_secret = { file = \"web.secret\" } -> *** (the same secret)"]);
    let params = OLD.replace("[sessions]", "authorization_params = { api_token = \"hunter2\", a = \"b\" }\n[sessions]");
    says(&params, &["~ providers.corp.authorization_params = {} (default) -> { a = \"b\", api_token = *** }"]);
    let (_, said) = diff(&OLD.replace("{ file = \"one.key\" }", "{ file = \"two.key\" }, { file = \"one.key\" }"));
    assert!(!said.contains("cannot be opened"), "both keys open: {said}");
    says(
        &OLD.replace("one.key", "two.key"),
        &[
            "~ sessions.keys[0] = { file = \"one.key\" } -> { file = \"two.key\" }",
            "sessions.keys: what a key sealed that is gone cannot be opened any more: logins on their way begin anew, and \
         sessions that are read from a store again are not found",
        ],
    );
}

#[test]
fn scripts_get_json_and_an_exit_code() {
    let folder = folder();
    fs::write(folder.path().join("new.toml"), OLD.replace("[sessions]", "[sessions]\nmax_sessions = 5")).unwrap();
    let output = run(folder.path(), &["--json", "old.toml", "new.toml"], "");
    assert_eq!(output.status.code(), Some(1));
    let said: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(said["same"], false);
    let change = serde_json::json!({ "key": "sessions.max_sessions", "old": "1000000 (default)", "new": "5", "same_secret": false });
    assert_eq!(said["changes"], serde_json::json!([change]));
    assert_eq!(said["effects"][0]["about"], "sessions.max_sessions");
    let output = run(folder.path(), &["--json", "old.toml", "old.toml"], "");
    assert_eq!(output.status.code(), Some(0));
    let same = serde_json::json!({ "same": true, "changes": [], "effects": [] });
    assert_eq!(serde_json::from_slice::<serde_json::Value>(&output.stdout).unwrap(), same);

    // What a version control keeps comes through a pipe, and stands where the file does.
    let output = run(folder.path(), &["-", "new.toml"], OLD);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert_eq!(run(folder.path(), &["-", "-"], OLD).status.code(), Some(2));

    for (old, new) in [("old.toml", "broken.toml"), ("broken.toml", "old.toml"), ("old.toml", "nowhere.toml")] {
        fs::write(folder.path().join("broken.toml"), OLD.replace("mode", "mood")).unwrap();
        let output = run(folder.path(), &["--json", old, new], "");
        assert_eq!((output.status.code(), output.stdout.len()), (Some(2), 0), "{output:?}");
        assert!(String::from_utf8_lossy(&output.stderr).contains("error"), "{output:?}");
    }
    let help = run(folder.path(), &["--help"], "");
    let text = String::from_utf8(help.stdout).unwrap();
    assert!(text.contains("0 when both mean the same, 1 when they differ, 2 when one of them is broken"), "{text}");
}

/// What becomes of sessions is said of where they go and of what they leave.
#[test]
fn another_store_is_told_by_both_its_ends() {
    let with = |store: &str| OLD.replace("[sessions]", &format!("[sessions]\nstore = {store}"));
    let [memory, file] = ["\"memory\"", "{ file = \"sessions.redb\" }"].map(with);
    let [redis, other, again] = ["redis://one.test/0", "redis://two.test/0", "redis://:hunter2@one.test/0"]
        .map(|url| with(&format!("{{ redis = \"{url}\" }}")));
    let refused = "refused while other processes are connected";
    for (old, new, said, may_be_refused) in [
        (&memory, &file, "sessions move there, and nobody is logged out", false),
        (&file, &redis, "beside those that it holds already", false),
        (&redis, &other, "beside those that it holds already", true),
        (&redis, &memory, "from then on end with it", true),
        (&redis, &again, "sessions stay where they are", false),
    ] {
        let folder = folder();
        fs::write(folder.path().join("new.toml"), new).unwrap();
        let output = run(folder.path(), &["-", "new.toml"], old);
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(text.contains(said), "{said:?} is not in\n{text}{}", String::from_utf8_lossy(&output.stderr));
        assert_eq!(text.contains(refused), may_be_refused, "{text}");
    }
}
