//! The folder of one demo: everything that Vestibule and Caddy read, in files that a person may open and edit.

use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::config::{self, FrontEnd, Severity};
use crate::web;

/// The client's name at the provider.
pub(super) const CLIENT: &str = "demo";

const PAGE: &str = include_str!("front/index.html");
const STYLE: &str = include_str!("front/style.css");
const SCRIPT: &str = include_str!("front/app.js");

/// A folder that only its owner can look into. It goes when the handle is dropped.
pub(super) struct Folder(TempDir);

/// What is known before anything is written.
pub(super) struct Plan {
    /// `http://localhost:8080`.
    pub(super) origin: String,
    /// The port of Vestibule.
    pub(super) port: u16,
    /// The port of its metrics.
    pub(super) metrics_port: u16,
    /// The provider's issuer.
    pub(super) issuer: String,
    /// The client's secret there.
    pub(super) secret: String,
    /// Where `/api/` goes.
    pub(super) api: String,
    /// A person's own front end.
    pub(super) front: Option<String>,
}

impl Folder {
    /// Makes the folder; it is empty.
    ///
    /// # Errors
    /// The system's.
    pub(super) fn new() -> io::Result<Self> {
        tempfile::Builder::new().prefix("vestibule-demo-").tempdir().map(Self)
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        self.0.path()
    }

    /// The config of Vestibule.
    pub(super) fn config(&self) -> PathBuf {
        self.path().join("vestibule.toml")
    }

    /// The config of Caddy.
    pub(super) fn caddyfile(&self) -> PathBuf {
        self.path().join("Caddyfile")
    }

    /// Writes everything but the Caddyfile, which follows from what Vestibule made of its config.
    ///
    /// # Errors
    /// The system's.
    pub(super) fn write(&self, plan: &Plan) -> io::Result<()> {
        self.secret("client.secret", &plan.secret)?;
        self.secret("session.key", &web::token().map_err(io::Error::other)?)?;
        std::fs::write(self.config(), plan.config())?;
        if plan.front.is_none() {
            let front = self.path().join("front");
            std::fs::create_dir(&front)?;
            std::fs::write(front.join("index.html"), plan.page(&self.config()))?;
            std::fs::write(front.join("style.css"), STYLE)?;
            std::fs::write(front.join("app.js"), SCRIPT)?;
        }
        Ok(())
    }

    /// Writes the Caddyfile for the config that is here.
    ///
    /// # Errors
    /// The system's, and the config's, which somebody may have changed.
    pub(super) fn write_caddyfile(&self, plan: &Plan) -> io::Result<()> {
        let loaded = config::load(&self.config(), &config::System)
            .map_err(|report| io::Error::other(report.render(Severity::Error, false)))?;
        let front = match &plan.front {
            Some(url) => FrontEnd::Server(url.clone()),
            None => FrontEnd::Folder(self.path().join("front")),
        };
        // No port beside ours: neither that of Caddy's administration nor those of HTTPS.
        let options = "{\n\tadmin off\n\tauto_https off\n}\n\n";
        std::fs::write(self.caddyfile(), format!("{options}{}", config::caddyfile(&loaded.config, &front)))
    }

    fn secret(&self, name: &str, text: &str) -> io::Result<()> {
        use std::io::Write as _;
        let path = self.path().join(name);
        std::fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path)?
            .write_all(text.as_bytes())
    }

    /// Removes it.
    ///
    /// # Errors
    /// The system's.
    pub(super) fn remove(self) -> io::Result<()> {
        self.0.close()
    }
}

impl Plan {
    fn config(&self) -> String {
        let Self { origin, port, metrics_port, issuer, api, .. } = self;
        format!(
            r#"# The demo's configuration. Change it and save: within a second Vestibule serves what you wrote and says so in the
# terminal of the demo. If something is wrong, it goes on with what it has, and says where and why.

[server]
listen         = "127.0.0.1:{port}" # where Caddy finds Vestibule; see the Caddyfile beside this file
metrics_listen = "127.0.0.1:{metrics_port}"

[sessions]
keys         = [{{ file = "session.key" }}]
idle_timeout = "30m" # try "2m", and watch the countdown in the browser

[providers.demo]
issuer        = "{issuer}"
client_id     = "{CLIENT}"
client_secret = {{ file = "client.secret" }}

[routes.web]
mode       = "auth-code"
public_url = "{origin}"
upstream   = "{api}"

# Try this: only the group `admins` may call the API. Alice is in it, Bob and Carol are not.
# [routes.web.paths]
# "/api/" = {{ allowed_groups = ["admins"] }}
"#
        )
    }

    fn page(&self, config: &Path) -> String {
        PAGE.replace("{{origin}}", &self.origin)
            .replace("{{config}}", &config.display().to_string())
            .replace("{{metrics}}", &format!("http://127.0.0.1:{}/metrics", self.metrics_port))
    }
}
