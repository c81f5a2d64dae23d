//! The Caddys that are there to test with. `tests/run` brings those that must be.

use std::path::{Path, PathBuf};
use std::process::Command;

/// Every Caddy at hand: those that the environment names, those beside the build, and the one of this machine.
pub fn all() -> Vec<PathBuf> {
    let named = ["CADDY_BIN", "CADDY_2_6_BIN"].into_iter().filter_map(std::env::var_os).map(PathBuf::from);
    let tools = Path::new(env!("CARGO_BIN_EXE_vestibule")).ancestors().nth(2).unwrap().join("tools");
    let fetched = ["caddy", "caddy-2.6"].map(|name| tools.join(name));
    let mut found: Vec<PathBuf> = Vec::new();
    for path in named.chain(fetched).chain([PathBuf::from("caddy")]) {
        let works = Command::new(&path).arg("version").output().is_ok_and(|output| output.status.success());
        if works && !found.contains(&path) {
            found.push(path);
        }
    }
    found
}

/// Asserts that every Caddy takes the Caddyfile at `path`, and finds it well formatted.
#[track_caller]
pub fn accept(path: &Path) {
    for caddy in all() {
        let ask = |arguments: &[&str]| {
            let output = Command::new(&caddy).args(arguments).arg(path).output().unwrap();
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            (output.status.success(), output.stdout, said)
        };
        let (valid, _, said) = ask(&["validate", "--adapter", "caddyfile", "--config"]);
        assert!(valid && !said.contains("\"warn\""), "{} does not like it:\n{said}", caddy.display());
        let (_, formatted, _) = ask(&["fmt"]);
        assert_eq!(String::from_utf8(formatted).unwrap(), std::fs::read_to_string(path).unwrap());
    }
}

/// The JSON that a Caddy makes of the Caddyfile at `path`.
#[track_caller]
pub fn adapt(caddy: &Path, path: &Path) -> serde_json::Value {
    let output = Command::new(caddy)
        .args(["adapt", "--adapter", "caddyfile", "--config"])
        .arg(path)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}
