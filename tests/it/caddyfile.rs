//! The Caddyfile that is written for a config, and the one that is shipped. `tests/fixtures/caddyfile/NAME.toml` is what
//! an operator wrote, `NAME.Caddyfile` what `vestibule caddyfile` prints for it; `UPDATE=1` rewrites the latter.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

use crate::caddies;

fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The program's own answer.
fn run(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_vestibule"));
    command.arg("caddyfile").args(arguments).env_remove("VESTIBULE_CONFIG").output().unwrap()
}

/// What it prints for the config at `path`.
#[track_caller]
fn printed(path: &Path, arguments: &[&str]) -> String {
    let output = run(&[&["--config", path.to_str().unwrap()], arguments].concat());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// A copy of a config from `config/`, with secrets that are there.
fn with_secrets(folder: &Path, name: &str) -> PathBuf {
    for secret in ["session.key", "web.secret"] {
        let path = folder.join(secret);
        fs::write(&path, "nobody has any use for this one, which is long enough").unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
    }
    let text = fs::read_to_string(repository().join("config").join(name)).unwrap();
    let path = folder.join(name);
    fs::write(&path, text.replace("/etc/vestibule", folder.to_str().unwrap())).unwrap();
    path
}

fn fixtures() -> Vec<PathBuf> {
    let folder = fs::read_dir(repository().join("tests/fixtures/caddyfile")).unwrap();
    let mut found: Vec<PathBuf> = folder.map(|entry| entry.unwrap().path()).collect();
    found.retain(|path| path.extension().is_some_and(|extension| extension == "toml"));
    found.sort();
    assert!(found.len() > 9, "{found:?}");
    found
}

#[test]
fn each_config_gets_its_caddyfile_and_every_caddy_takes_it() {
    for path in fixtures() {
        let golden = path.with_extension("Caddyfile");
        let text = printed(&path, &[]);
        if std::env::var_os("UPDATE").is_some() {
            fs::write(&golden, &text).unwrap();
        }
        let known = fs::read_to_string(&golden).unwrap_or_default();
        assert_eq!(known, text, "{} is out of date: UPDATE=1", golden.display());
        caddies::accept(&golden);
    }
}

/// Caddy sorts what it reads; where it would move a `handle`, another one would get its requests.
#[test]
fn caddy_tries_the_handles_in_the_order_in_which_they_are_written() {
    for path in fixtures() {
        let golden = path.with_extension("Caddyfile");
        let text = fs::read_to_string(&golden).unwrap();
        let sites = text.split("\n}\n").filter(|site| site.contains("\n\thandle"));
        let written: Vec<usize> = sites.map(|site| site.matches("\n\thandle ").count()).collect();
        for caddy in caddies::all() {
            let mut seen = Vec::new();
            let adapted = caddies::adapt(&caddy, &golden);
            for server in adapted["apps"]["http"]["servers"].as_object().unwrap().values() {
                for site in server["routes"].as_array().unwrap() {
                    seen.push(in_order(&text, site));
                }
            }
            let mut written = written.clone();
            // One alone is no choice, and Caddy writes it differently.
            seen.retain(|count| *count > 1);
            written.retain(|count| *count > 1);
            seen.sort_unstable();
            written.sort_unstable();
            assert_eq!(seen, written, "{} by {}", golden.display(), caddy.display());
        }
    }
}

/// Asserts that the path matchers of a site come in the order of `text`, and counts its handles.
fn in_order(text: &str, site: &Value) -> usize {
    let routes = site["handle"][0]["routes"].as_array().unwrap();
    let handles = routes.iter().filter(|route| route["group"].is_string());
    let mut place = 0;
    let mut count = 0;
    for handle in handles {
        count += 1;
        let Some(paths) = handle["match"][0]["path"].as_array() else { continue };
        let paths: Vec<&str> = paths.iter().map(|path| path.as_str().unwrap()).collect();
        // Caddy keeps its patterns in small letters.
        let line = format!("path {}\n", paths.join(" ")).to_ascii_lowercase();
        let found = text.to_ascii_lowercase().match_indices(&line).map(|(at, _)| at).find(|at| *at >= place);
        place = found.unwrap_or_else(|| panic!("{line} comes too early"));
    }
    count
}

#[test]
fn the_shipped_one_is_the_one_for_the_shipped_config() {
    let folder = tempfile::tempdir().unwrap();
    let text = printed(&with_secrets(folder.path(), "one-site.toml"), &[]);
    let (_, text) = text.split_once("\n\n").unwrap();
    let shipped = repository().join("Caddyfile");
    let (_, shipped_text) = fs::read_to_string(&shipped)
        .unwrap()
        .split_once("\n\n")
        .map(|(a, b)| (a.to_owned(), b.to_owned()))
        .unwrap();
    // `{$NAME:default}` stands for its default; `{$NAME}` has none in either.
    let parts: Vec<&str> = shipped_text.split("{$").collect();
    let plain = parts[1..].iter().fold(parts[0].to_owned(), |text, part| {
        let (variable, rest) = part.split_once('}').unwrap();
        match variable.split_once(':') {
            Some((_, default)) => text + default + rest,
            None => text + "{$" + part,
        }
    });
    assert_eq!(plain, text);
    caddies::accept(&shipped);
}

#[test]
fn every_site_of_the_running_example_gets_what_is_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let text = printed(&with_secrets(folder.path(), "vestibule.toml"), &["--front-end", "http://localhost:5173"]);
    let (_, of_app) = text.split_once("\napp.example.com {\n").unwrap();
    let (of_app, of_wiki) = of_app.split_once("\nwiki.example.com {\n").unwrap();
    assert!(of_app.contains("\treverse_proxy http://localhost:5173\n"), "{of_app}");
    assert!(
        of_wiki.contains("\thandle {\n\t\treverse_proxy 127.0.0.1:9080 {\n") && !of_wiki.contains("5173"),
        "{of_wiki}"
    );
    let written = folder.path().join("Caddyfile");
    fs::write(&written, text).unwrap();
    caddies::accept(&written);
}

#[test]
fn a_config_that_is_wrong_is_told_about_and_nothing_is_printed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("vestibule.toml");
    fs::write(&path, "[server]\nlisten = \"nowhere\"\n").unwrap();
    let output = run(&["--config", path.to_str().unwrap()]);
    assert_eq!((output.status.code(), output.stdout.len()), (Some(1), 0));
    assert!(String::from_utf8_lossy(&output.stderr).contains("listen = \"nowhere\""));
}
