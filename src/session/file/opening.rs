//! Opening the store file, and saying in an operator's words why it cannot be opened.

use std::io;
use std::path::Path;

use redb::{Builder, DatabaseError, StorageError};

use crate::session::file::book::Book;
use crate::session::file::guarded;
use crate::session::place;

/// Pages that the database holds in memory; the system's own cache stands behind it.
const PAGE_CACHE: usize = 32 * 1024 * 1024;

/// Opens the file at `path`; makes an empty one when there is none.
///
/// # Errors
/// What is wrong and what to do.
pub(super) fn open(path: &Path) -> Result<Book, String> {
    place::make_file(path)?;
    let database = guarded(|| Ok(Builder::new().set_cache_size(PAGE_CACHE).create(path)))
        .map_err(|_| damaged(path))?
        .map_err(|error| reason(path, error))?;
    let book = guarded(|| Book::begin(database)).map_err(|error| format!("cannot use {}: {error}", path.display()))?;
    book.map_err(|layout| {
        format!(
            "{} has layout {layout}, which a newer version wrote: run that version, or move it away",
            path.display()
        )
    })
}

fn reason(path: &Path, error: DatabaseError) -> String {
    let shown = path.display();
    match error {
        DatabaseError::DatabaseAlreadyOpen | DatabaseError::LockProtocolMismatch => format!(
            "another process has {shown} open: stop it, or give each its own `sessions.store`; one file serves one process"
        ),
        DatabaseError::UpgradeRequired(format) => {
            format!("{shown} is a database of the older format {format}: move it away")
        }
        DatabaseError::Storage(StorageError::Io(error)) if error.kind() == io::ErrorKind::InvalidData => {
            format!("{shown} is no session store ({error}): move it away, or name another file")
        }
        DatabaseError::Storage(StorageError::Corrupted(_)) | DatabaseError::RepairAborted => damaged(path),
        DatabaseError::Storage(StorageError::Io(error)) if error.kind() == io::ErrorKind::PermissionDenied => {
            format!("this process may not open {shown}: make its user the owner of the file")
        }
        error => format!("cannot open {shown}: {error}"),
    }
}

fn damaged(path: &Path) -> String {
    format!("{} is damaged: move it away, and everybody logs in again", path.display())
}
