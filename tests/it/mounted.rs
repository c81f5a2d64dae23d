//! A single file that is mounted into a container: what is written in place outside is seen inside, and a rename outside,
//! which cannot be, takes nothing away. Only where mounts may be made.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::world::{World, eventually};

const SERVES: &str = "configuration reloaded";

/// A file mounted over another one, until it is dropped.
struct Mount(PathBuf);

impl Mount {
    fn over(file: &Path, source: &Path) -> Option<Self> {
        let mounted = Command::new("mount").arg("--bind").args([source, file]).output().ok()?;
        mounted.status.success().then(|| Self(file.to_owned()))
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}

#[tokio::test]
#[expect(clippy::print_stderr, reason = "whoever reads of a skipped story should know why")]
async fn a_single_mounted_file_is_followed_where_it_is_written_in_place() {
    let world = World::start().await;
    let file = world.dir().join("vestibule.toml");
    let outside = tempfile::tempdir().unwrap();
    let source = outside.path().join("vestibule.toml");
    fs::copy(&file, &source).unwrap();
    let Some(mount) = Mount::over(&file, &source) else {
        eprintln!("skipped: this process may not mount");
        return world.finish().await;
    };
    world.browser.login("alice").await;
    // The mount itself is no event; from the next look on, which comes every ten seconds, the new file is the one watched.
    let text =
        |home: &str| world.edited(|toml| toml.text("routes.web", "home_url", &format!("https://app.test/{home}")));
    for (turn, home) in ["one", "two"].into_iter().enumerate() {
        fs::write(&source, text(home)).unwrap();
        let begun = std::time::Instant::now();
        while world.log_lines(SERVES).len() <= turn {
            assert!(begun.elapsed() < Duration::from_secs(30), "nobody saw {home}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        // Once it is watched, a second is enough.
        assert!(turn == 0 || begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
        let at = format!("https://app.test/{home}");
        world.new_browser().navigate("/login/start?login_hint=bob").await.is(200).at(&at);
    }
    let beside = outside.path().join("new");
    fs::write(&beside, text("three")).unwrap();
    fs::rename(&beside, &source).unwrap();
    tokio::time::sleep(Duration::from_millis(500)).await;
    world.browser.get("/api/me").await.is(200);
    assert_eq!(world.log_lines(SERVES).len(), 2, "the container has the old file");
    drop(mount);
    // With the mount gone, the folder's own file is there again.
    fs::write(&file, text("four")).unwrap();
    eventually("the folder's own file", || world.log_lines(SERVES).len() == 3).await;
    world.finish().await;
}
