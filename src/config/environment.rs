//! Everything outside the config's text that it may refer to: environment variables and files. Tests bring their own.

use std::fs;
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use zeroize::Zeroizing;

/// No config, secret or certificate is larger; what is has been named by mistake.
const LARGEST_FILE: u64 = 1024 * 1024;

/// What a config may ask the surroundings for.
pub trait Environment {
    /// The value of an environment variable; `None` when it is not set or not UTF-8.
    fn variable(&self, name: &str) -> Option<String>;

    /// Reads a whole file. Must not wait for a writer.
    ///
    /// # Errors
    /// [`Unreadable`] says why there is nothing to read.
    fn read(&self, path: &Path) -> Result<File, Unreadable>;
}

/// A file that was read.
#[derive(Clone)]
pub struct File {
    /// What is in it; wiped when dropped, for it may be a secret.
    pub bytes: Zeroizing<Vec<u8>>,
    /// Its Unix permission bits.
    pub mode: u32,
}

/// Why a file could not be read.
#[derive(Clone, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Unreadable {
    /// This process may not read it.
    #[error("this process may not read it")]
    Denied,
    /// It is a directory.
    #[error("it is a directory")]
    Directory,
    /// It does not exist.
    #[error("there is no such file")]
    Missing,
    /// It is a pipe, a socket or a device.
    #[error("it is no regular file")]
    NotRegular,
    /// Anything else, in the words of the operating system.
    #[error("{0}")]
    Other(String),
    /// It has more than 1 MiB.
    #[error("it has more than 1 MiB")]
    TooLarge,
}

/// The environment of this process.
#[derive(Clone, Copy, Debug)]
pub struct System;

impl Environment for System {
    fn variable(&self, name: &str) -> Option<String> {
        #[expect(clippy::disallowed_methods, reason = "this is the one place that reads the environment")]
        std::env::var(name).ok()
    }

    fn read(&self, path: &Path) -> Result<File, Unreadable> {
        // Asked before it is opened: opening a FIFO waits for its writer, perhaps for ever.
        judge(&fs::metadata(path)?)?;
        let file = fs::File::open(path)?;
        let metadata = file.metadata()?;
        judge(&metadata)?;
        let mut bytes = Zeroizing::new(Vec::with_capacity(usize::try_from(metadata.len()).unwrap_or(0)));
        // The file may have grown since.
        file.take(LARGEST_FILE + 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > LARGEST_FILE {
            return Err(Unreadable::TooLarge);
        }
        Ok(File { bytes, mode: metadata.permissions().mode() })
    }
}

fn judge(metadata: &fs::Metadata) -> Result<(), Unreadable> {
    match metadata {
        metadata if metadata.is_dir() => Err(Unreadable::Directory),
        metadata if !metadata.is_file() => Err(Unreadable::NotRegular),
        metadata if metadata.len() > LARGEST_FILE => Err(Unreadable::TooLarge),
        _ => Ok(()),
    }
}

impl From<io::Error> for Unreadable {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::NotFound => Self::Missing,
            io::ErrorKind::PermissionDenied => Self::Denied,
            _ => Self::Other(error.to_string()),
        }
    }
}
