//! What somebody starts with: the smallest config that works, a session key, a place for the client's secret, and the
//! Caddyfile that fits.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::environment::{Environment, File, Unreadable};
use super::{FrontEnd, Loaded, Report, caddyfile, load_text};

/// The answers that a first config needs.
#[derive(Clone, Debug)]
pub struct Starter {
    /// The provider's issuer.
    pub issuer: String,
    /// Our client there.
    pub client_id: String,
    /// What browsers come to.
    pub public_url: String,
    /// Where `/api/` goes.
    pub upstream: String,
}

/// A file that is not there yet.
#[derive(Clone)]
pub struct NewFile {
    /// Its name within the folder.
    pub name: &'static str,
    /// What will be in it; wiped when dropped, for it may be a secret.
    pub text: Zeroizing<String>,
    /// Its Unix permission bits.
    pub mode: u32,
}

/// Why nothing was written.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// These are there already, and what is in them may be worth something.
    #[error("already there: {}", list(.0))]
    Exists(Vec<PathBuf>),
    /// The system refused.
    #[error("cannot write {}: {why}", .path.display())]
    Refused {
        /// What was to be written.
        path: PathBuf,
        /// The system's words.
        why: io::Error,
    },
}

fn list(paths: &[PathBuf]) -> String {
    paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ")
}

impl Starter {
    /// The config as text.
    #[must_use]
    pub fn config(&self) -> String {
        format!(
            "# Vestibule's configuration. Save it while Vestibule runs: within a second it serves what you wrote, or goes on\n\
             # with what it has and says why. `vestibule check` tells beforehand.\n\
             \n\
             # Where people log in, and who we are there.\n\
             [providers.corp]\n\
             issuer        = {issuer}\n\
             client_id     = {client_id}\n\
             # A file beside this one, with the secret that the provider gave you and nothing else in it.\n\
             client_secret = {{ file = \"web.secret\" }}\n\
             \n\
             # What browsers come to, and where their calls to /api/ go, with the person's access token.\n\
             [routes.web]\n\
             mode       = \"auth-code\"\n\
             public_url = {public_url}\n\
             upstream   = {upstream}\n\
             \n\
             [sessions]\n\
             # Seals what browsers hold. Keep it: whoever has another cannot read what this one sealed.\n\
             keys = [{{ file = \"session.key\" }}]\n",
            issuer = string(&self.issuer),
            client_id = string(&self.client_id),
            public_url = string(&self.public_url),
            upstream = string(&self.upstream),
        )
    }

    /// Judges the answers as they would stand in `path`, as if its secrets were there already.
    ///
    /// # Errors
    /// A [`Report`] of all that is wrong with them.
    pub fn judge(&self, path: &Path) -> Result<Loaded, Box<Report>> {
        load_text(path, &self.config(), &NotYet)
    }

    /// Everything to write, once `loaded` has come of [`judge`](Self::judge). The secret's file is empty, because no
    /// secret is right for everybody.
    #[must_use]
    pub fn files(&self, loaded: &Loaded, front_end: &FrontEnd, session_key: Zeroizing<String>) -> [NewFile; 4] {
        let file = |name, text, mode| NewFile { name, text, mode };
        [
            file("vestibule.toml", self.config().into(), 0o644),
            file("web.secret", String::new().into(), 0o600),
            file("session.key", session_key, 0o600),
            file("Caddyfile", caddyfile(&loaded.config, front_end).into(), 0o644),
        ]
    }
}

impl NewFile {
    /// Writes all of `files` into `folder`, which is made if need be, or none of them.
    ///
    /// # Errors
    /// [`WriteError`]; whatever was there before stays as it was.
    pub fn write_all(files: &[Self], folder: &Path) -> Result<(), WriteError> {
        let taken: Vec<PathBuf> = files
            .iter()
            .map(|file| folder.join(file.name))
            .filter(|path| path.symlink_metadata().is_ok())
            .collect();
        if !taken.is_empty() {
            return Err(WriteError::Exists(taken));
        }
        fs::create_dir_all(folder).map_err(|why| WriteError::Refused { path: folder.to_owned(), why })?;
        for (done, file) in files.iter().enumerate() {
            if let Err(error) = file.write(&folder.join(file.name)) {
                // Half a start is worse than none: the next try would find files in its way.
                for file in files.iter().take(done) {
                    let _ = fs::remove_file(folder.join(file.name));
                }
                return Err(error);
            }
        }
        Ok(())
    }

    /// Writes the file to `path`, where nothing may be yet.
    ///
    /// # Errors
    /// [`WriteError`].
    pub fn write(&self, path: &Path) -> Result<(), WriteError> {
        let opened = OpenOptions::new().write(true).create_new(true).mode(self.mode).open(path);
        opened.and_then(|mut file| file.write_all(self.text.as_bytes())).map_err(|why| match why.kind() {
            io::ErrorKind::AlreadyExists => WriteError::Exists(vec![path.to_owned()]),
            _ => WriteError::Refused { path: path.to_owned(), why },
        })
    }
}

/// A TOML string. JSON's strings are TOML's basic strings, escapes included.
fn string(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// Surroundings in which every file holds something, because the real ones are written only when all else is right.
struct NotYet;

impl Environment for NotYet {
    fn variable(&self, _: &str) -> Option<String> {
        None
    }

    fn read(&self, _: &Path) -> Result<File, Unreadable> {
        Ok(File { bytes: b"what this file will hold is not known yet".to_vec().into(), mode: 0o600 })
    }
}
