//! `vestibule init` and `vestibule keygen`: from an empty folder to a Vestibule that may start.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use crate::caddies;

const ANSWERS: [&str; 8] = [
    "--issuer",
    "https://id.example.com/realms/corp",
    "--client-id",
    "web",
    "--public-url",
    "https://app.example.com",
    "--upstream",
    "http://127.0.0.1:8080",
];

/// Runs the program in `folder`, without a terminal.
fn vestibule(folder: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_vestibule"))
        .args(arguments)
        .current_dir(folder)
        .env_remove("VESTIBULE_CONFIG")
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

fn init(folder: &Path, more: &[&str]) -> Output {
    vestibule(folder, &[&["init"], &ANSWERS[..], more].concat())
}

fn out(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn err(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn four_files_and_a_secret_make_a_configuration_that_check_accepts() {
    let folder = tempfile::tempdir().unwrap();
    let said = init(folder.path(), &["--out", "here"]);
    assert!(said.status.success(), "{}", err(&said));
    let here = folder.path().join("here");
    assert_eq!(names(&here), ["Caddyfile", "session.key", "vestibule.toml", "web.secret"]);
    let told = out(&said);
    for words in [
        "https://app.example.com/login/end",
        "https://app.example.com/logout/end",
        "vestibule run --config here/vestibule.toml",
        "caddy run --config here/Caddyfile",
        "here/web.secret",
    ] {
        assert!(told.contains(words), "it does not say {words}:\n{told}");
    }

    // There is no secret yet, and none is made up.
    let config = here.join("vestibule.toml");
    let check = |strict: bool| {
        let arguments = ["check", "--config", config.to_str().unwrap(), "--strict"];
        vestibule(folder.path(), &arguments[..if strict { 4 } else { 3 }])
    };
    assert_eq!(fs::read(here.join("web.secret")).unwrap(), b"");
    let refused = check(false);
    assert!(!refused.status.success() && err(&refused).contains("this secret is empty"), "{}", err(&refused));

    fs::write(here.join("web.secret"), "the secret of this client\n").unwrap();
    let accepted = check(true);
    assert!(accepted.status.success(), "{}", err(&accepted));
    caddies::accept(&here.join("Caddyfile"));
}

#[test]
fn nobody_else_may_read_the_key_and_the_secret() {
    let folder = tempfile::tempdir().unwrap();
    init(folder.path(), &[]);
    assert_eq!(mode(&folder.path().join("session.key")), 0o600);
    assert_eq!(mode(&folder.path().join("web.secret")), 0o600);
}

#[test]
fn what_is_there_already_is_never_overwritten() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("session.key"), "the key of running sessions").unwrap();
    let said = init(folder.path(), &[]);
    assert_eq!(said.status.code(), Some(1));
    assert!(err(&said).contains("already there: ./session.key"), "{}", err(&said));
    assert_eq!(names(folder.path()), ["session.key"], "half a configuration was left behind");
    assert_eq!(fs::read_to_string(folder.path().join("session.key")).unwrap(), "the key of running sessions");
}

#[test]
fn without_a_terminal_the_missing_flags_are_named_and_nothing_is_asked() {
    let folder = tempfile::tempdir().unwrap();
    let said = vestibule(folder.path(), &["init", "--client-id", "web", "--upstream", "http://127.0.0.1:8080"]);
    assert_eq!(said.status.code(), Some(2));
    let told = err(&said);
    assert!(told.contains("--issuer is missing") && told.contains("--public-url is missing"), "{told}");
    assert!(!told.contains("--client-id is missing"), "{told}");
    assert!(names(folder.path()).is_empty());
}

#[test]
fn a_wrong_answer_is_shown_where_it_would_stand_and_nothing_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let arguments = ["init", "--issuer", "http://id.example.com", "--client-id", "web", "--public-url"];
    let said =
        vestibule(folder.path(), &[&arguments[..], &["app.example.com", "--upstream", "http://127.0.0.1:1"]].concat());
    assert_eq!(said.status.code(), Some(1));
    let told = err(&said);
    assert!(told.contains("plain http is for loopback only"), "{told}");
    assert!(told.contains("public_url = \"app.example.com\""), "{told}");
    assert!(names(folder.path()).is_empty());
}

#[test]
fn answers_with_quotes_stay_what_they_are() {
    let folder = tempfile::tempdir().unwrap();
    let arguments = ["init", "--issuer", "https://id.example.com", "--public-url", "https://app.example.com"];
    let odd = ["--upstream", "http://127.0.0.1:1", "--client-id", "a\"b\\c", "--front-end", "/srv/my \"spa\""];
    let said = vestibule(folder.path(), &[&arguments[..], &odd].concat());
    assert!(said.status.success(), "{}", err(&said));
    assert!(out(&said).contains("client a\"b\\c at corp"), "{}", out(&said));
    caddies::accept(&folder.path().join("Caddyfile"));
}

#[test]
fn a_key_is_new_each_time_private_and_never_overwritten() {
    let folder = tempfile::tempdir().unwrap();
    let print = || out(&vestibule(folder.path(), &["keygen"])).trim().to_owned();
    let (first, second) = (print(), print());
    assert_ne!(first, second);
    // 256 bits in URL-safe base64.
    assert_eq!((first.len(), second.len()), (43, 43));

    let write = || vestibule(folder.path(), &["keygen", "--out", "k"]);
    let said = write();
    assert!(said.status.success() && !out(&said).contains(&fs::read_to_string(folder.path().join("k")).unwrap()));
    assert_eq!(mode(&folder.path().join("k")), 0o600);
    let written = fs::read(folder.path().join("k")).unwrap();
    assert_eq!(written.len(), 43);
    assert_eq!(write().status.code(), Some(1));
    assert_eq!(fs::read(folder.path().join("k")).unwrap(), written);
}
