//! Where state lives: a directory and files that are ours alone, made before they are used.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

/// Random bytes in a key: more than a key is derived to.
const KEY_LEN: usize = 48;

/// Makes the key file at `path`, for its owner only, and the directory around it. One that is there already stays.
///
/// # Errors
/// The system's words, with the path.
pub fn make_key(path: &Path) -> Result<(), String> {
    let said = |error: io::Error| format!("cannot make the key file {}: {error}", path.display());
    make_directory(path)?;
    let random = Zeroizing::new(crate::web::bytes::<KEY_LEN>().map_err(|error| error.to_string())?);
    let text = Zeroizing::new(STANDARD.encode(random.as_slice()) + "\n");
    // Written beside and linked into place, so that a crash leaves a whole key or none.
    let beside = path.with_extension(format!("key.{}", std::process::id()));
    let made = new_file(&beside)
        .and_then(|mut file| file.write_all(text.as_bytes()).and_then(|()| file.sync_all()))
        .and_then(|()| match std::fs::hard_link(&beside, path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            linked => linked,
        });
    let cleared = std::fs::remove_file(&beside);
    made.and(cleared).and_then(|()| keep_names(path)).map_err(said)
}

/// Makes an empty file at `path` for its owner only, and the directory around it; true when there was none.
pub(super) fn make_file(path: &Path) -> Result<bool, String> {
    make_directory(path)?;
    match new_file(path) {
        Ok(_) => keep_names(path).map(|()| true),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(error),
    }
    .map_err(|error| format!("cannot make {}: {error}", path.display()))
}

fn new_file(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)
}

/// Makes the directory of `path`, but not what is above it: a path that is mistyped should not be filled with life.
fn make_directory(path: &Path) -> Result<(), String> {
    let Some(directory) = path.parent().filter(|directory| !directory.as_os_str().is_empty()) else { return Ok(()) };
    match DirBuilder::new().mode(0o700).create(directory) {
        Ok(()) => Ok(()),
        Err(_) if directory.is_dir() => Ok(()),
        Err(error) => Err(format!("cannot make the directory {}: {error}", directory.display())),
    }
}

/// A new name in a directory is durable when the directory is.
fn keep_names(path: &Path) -> io::Result<()> {
    match path.parent().filter(|directory| !directory.as_os_str().is_empty()) {
        Some(directory) => File::open(directory)?.sync_all(),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn mode(path: &Path) -> u32 {
        path.metadata().unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn a_key_is_made_once_and_for_its_owner_only() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("state/session.key");
        make_key(&path).unwrap();
        let first = std::fs::read_to_string(&path).unwrap();
        assert_eq!(first.trim_end().len(), 64);
        make_key(&path).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), first);
        assert_eq!((mode(&path), mode(path.parent().unwrap())), (0o600, 0o700));
        assert_eq!(path.parent().unwrap().read_dir().unwrap().count(), 1, "nothing is left beside it");
    }

    #[test]
    fn a_mistyped_path_is_told_and_not_made() {
        let directory = tempfile::tempdir().unwrap();
        let error = make_key(&directory.path().join("no/such/session.key")).unwrap_err();
        assert!(error.contains("no/such"), "{error}");
        assert!(!directory.path().join("no").exists());
        assert!(make_file(&directory.path().join("sessions.redb")).unwrap());
        assert!(!make_file(&directory.path().join("sessions.redb")).unwrap());
    }
}
