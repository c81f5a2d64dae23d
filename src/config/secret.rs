//! Secrets: where they are read from, what cannot be one, and the type that never shows them.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use toml::de::DeValue;
use zeroize::Zeroizing;

use super::environment::Unreadable;
use super::report::{At, Wrong, quote};
use super::section::{Context, Section};

/// A secret read from a file, an environment variable, a systemd credential or the config itself. `Debug` prints a
/// mask, there is no `Display`, and the bytes are wiped when the last clone goes.
#[derive(Clone)]
pub struct Secret(Arc<Zeroizing<String>>);

impl Secret {
    /// Wraps `text`.
    #[must_use]
    pub fn new(text: String) -> Self {
        Self(Arc::new(Zeroizing::new(text)))
    }

    /// The secret itself. Grep for this name to audit who reads secrets.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("[secret]")
    }
}

impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        // Compared only between two configs of ours, never with input, so time tells nobody anything.
        self.0.as_str() == other.0.as_str()
    }
}

impl Eq for Secret {}

/// Keys for sealing are no shorter: 256 bits.
const SHORTEST_KEY: usize = 32;

/// Texts from examples and manuals, that somebody forgot to replace; the last one shipped as another agent's default.
const EXAMPLES: &[&str] = &[
    "secret",
    "client_secret",
    "client-secret",
    "my-secret",
    "mysecret",
    "my-client-secret",
    "your-client-secret",
    "your_client_secret",
    "password",
    "changeme",
    "change-me",
    "change_me",
    "change me",
    "replace-me",
    "replaceme",
    "example",
    "default",
    "test",
    "todo",
    "xxx",
    "...",
    "…",
    "p2s5v8y/b?e(h+mbqethwmzq4t7w!z%c",
];

impl Section<'_> {
    /// A secret; `Some(None)` when it is absent.
    pub(super) fn secret(&self, name: &str) -> Option<Option<Secret>> {
        self.optional(name, |section, name| section.items(name, |value, at| read(section.cx, value, at)))
            .map(|secrets| secrets.and_then(|secrets| secrets.into_iter().next()))
    }

    /// A URL that may hold a password; `Some(None)` when it is absent.
    pub(super) fn secret_url(&self, name: &str) -> Option<Option<Secret>> {
        let plain = self.value(name, |value, _| value.as_str().filter(|url| !url.contains('@')).map(str::to_owned));
        match plain {
            // Without a password it is none, and may stand anywhere.
            Some(url) if !url.is_empty() => Some(Some(Secret::new(url))),
            Some(_) | None => self.secret(name),
        }
    }

    /// Secrets that serve as keys for sealing; none when they are absent.
    pub(super) fn sealing_keys(&self, name: &str) -> Option<Vec<Secret>> {
        let keys = self.optional(name, |section, name| {
            section.items(name, |value, at| long_enough(section.cx, read(section.cx, value, at)?, ("this key", at)))
        });
        keys.map(Option::unwrap_or_default)
    }

    /// A token that callers must know, as hard to guess as a key; `Some(None)` when it is absent.
    pub(super) fn token(&self, name: &str) -> Option<Option<Secret>> {
        let Some(token) = self.secret(name)? else { return Some(None) };
        long_enough(self.cx, token, ("this token", &self.at(name))).map(Some)
    }

    /// The key for sealing in the file at `path`, which nobody named but `name` implies; `Some(None)` when there is no
    /// such file.
    pub(super) fn sealing_key_at(&self, path: &Path, name: &str) -> Option<Option<Secret>> {
        if self.cx.read(path).is_err_and(|why| why == Unreadable::Missing) {
            return Some(None);
        }
        let at = self.at(name);
        let key = from_file(self.cx, path, &at, true)
            .and_then(judge)
            .map_err(|wrong| self.cx.error(&at, wrong))
            .ok()?;
        long_enough(self.cx, key, (&format!("the key in `{}`", path.display()), &at)).map(Some)
    }
}

fn long_enough(cx: &Context<'_>, key: Secret, (which, at): (&str, &At)) -> Option<Secret> {
    if key.expose().len() < SHORTEST_KEY {
        let wrong = Wrong::new(format!("{which} is shorter than {SHORTEST_KEY} bytes"));
        cx.error(at, wrong.hint("`openssl rand -base64 48` makes a good one"));
        return None;
    }
    Some(key)
}

/// The secret that `value` points to, or is; whatever is to be said about it has been said.
pub(super) fn quietly(cx: &Context<'_>, value: &DeValue<'_>) -> Option<Secret> {
    read(cx, value, &At::default())
}

/// Reads the secret that `value` points to, or is.
fn read(cx: &Context<'_>, value: &DeValue<'_>, at: &At) -> Option<Secret> {
    let text = match value {
        DeValue::String(text) => {
            let hint = format!(
                "put it into a file of mode 0600, and write `{{ file = \"/etc/vestibule/{}\" }}`",
                file_name(at)
            );
            cx.warn(at, Wrong::new("a secret stands in the config file itself").hint(hint));
            Ok(Zeroizing::new(text.clone().into_owned()))
        }
        DeValue::Table(table) => {
            let mut ways =
                table.iter().filter_map(|(way, value)| Some((way.get_ref().as_ref(), value.get_ref().as_str()?)));
            match (ways.next(), ways.next()) {
                (Some((way, place)), None) => from(cx, way, place, at)?,
                (Some(_), Some(_)) => Err(Wrong::new("this secret is said to be in two places")
                    .hint("keep one of `file`, `env` and `credential`")),
                // The walk has said what is wrong with the table, unless it is empty.
                (None, _) if !table.is_empty() => return None,
                (None, _) => Err(Wrong::new("this says nowhere to read the secret from")
                    .hint("give one of `file`, `env` and `credential`")),
            }
        }
        _ => return None,
    };
    text.and_then(judge).map_err(|wrong| cx.error(at, wrong)).ok()
}

/// Reads from one of the three places. `None`: a way that the walk has refused.
fn from(cx: &Context<'_>, way: &str, place: &str, at: &At) -> Option<Result<Zeroizing<String>, Wrong>> {
    match way {
        "file" => Some(from_file(cx, Path::new(place), at, true)),
        "env" => Some(cx.environment.variable(place).map(Zeroizing::new).ok_or_else(|| {
            Wrong::new(format!("the environment variable {} is not set", quote(place)))
                .hint("set it for the service, and restart: a running process cannot see it change")
        })),
        "credential" => Some(from_credential(cx, place, at)),
        _ => None,
    }
}

fn from_credential(cx: &Context<'_>, name: &str, at: &At) -> Result<Zeroizing<String>, Wrong> {
    if name.is_empty() || name.contains('/') || name == ".." {
        return Err(Wrong::new(format!("{} is no name of a credential", quote(name))));
    }
    let directory = cx.environment.variable("CREDENTIALS_DIRECTORY").ok_or_else(|| {
        Wrong::new("there are no credentials: CREDENTIALS_DIRECTORY is not set")
            .hint(format!("add `LoadCredential={name}:/path` to the systemd unit, and let systemd start the service"))
    })?;
    // systemd keeps its directory to the service's user, whatever the modes within it say.
    from_file(cx, &Path::new(&directory).join(name), at, false)
}

fn from_file(cx: &Context<'_>, path: &Path, at: &At, private: bool) -> Result<Zeroizing<String>, Wrong> {
    let shown = path.display();
    let file = cx.read(path).map_err(|why| unreadable(path, &why))?;
    if file.mode & 0o002 != 0 {
        return Err(Wrong::new(format!("everybody may write to `{shown}` (mode {:04o})", file.mode & 0o7777))
            .hint(format!("`chmod 600 {shown}`, and change the secret: somebody else may know it")));
    }
    if private && file.mode & 0o077 != 0 {
        let wrong = Wrong::new(format!("others than its owner may read `{shown}` (mode {:04o})", file.mode & 0o7777));
        cx.warn(at, wrong.hint(format!("`chmod 600 {shown}`")));
    }
    let text = std::str::from_utf8(&file.bytes).map_err(|_| {
        Wrong::new(format!("`{shown}` is not text (UTF-8)")).hint("encode the secret, for example with base64")
    })?;
    // Editors and `echo` end a file with a newline that nobody means.
    let text = text.strip_suffix('\n').map_or(text, |text| text.strip_suffix('\r').unwrap_or(text));
    Ok(Zeroizing::new(text.to_owned()))
}

/// Why there is no file to read.
pub(super) fn unreadable(path: &Path, why: &Unreadable) -> Wrong {
    let wrong = Wrong::new(format!("cannot read `{}`: {why}", path.display()));
    match why {
        Unreadable::Denied => wrong.hint("make the service's user its owner"),
        Unreadable::NotRegular => wrong.hint("it must be a file, or a link to one: a pipe can be read only once"),
        Unreadable::Directory | Unreadable::Missing | Unreadable::Other(_) | Unreadable::TooLarge => wrong,
    }
}

fn judge(text: Zeroizing<String>) -> Result<Secret, Wrong> {
    if text.trim().is_empty() {
        return Err(Wrong::new("this secret is empty"));
    }
    if text.contains(['\0', '\n', '\r']) {
        return Err(
            Wrong::new("this secret has a NUL or a line break in it").hint("a file holds one secret and nothing else")
        );
    }
    let lower = Zeroizing::new(text.trim().to_lowercase());
    if EXAMPLES.contains(&lower.as_str()) || (lower.starts_with('<') && lower.ends_with('>')) {
        return Err(Wrong::new("this secret is an example that everybody knows").hint("put the real one there"));
    }
    Ok(Secret(Arc::new(text)))
}

/// A name for the file that an inline secret should move to.
fn file_name(at: &At) -> String {
    let mut parts = at.key.split('.').skip(1);
    match (parts.next(), parts.next()) {
        (Some(name), Some(_)) => format!("{name}.secret"),
        _ => "session.key".to_owned(),
    }
}
