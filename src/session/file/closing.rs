//! The orderly end of a store file: a farewell, so that the next run trusts what it reads, and its waste given back.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tracing::{info, warn};

use crate::session::file::book::{Book, Fault};
use crate::session::file::{guarded, milliseconds};

/// How long to wait for requests that are just reading.
const READERS: Duration = Duration::from_secs(2);
/// With more sessions than this, giving back what was wasted would hold up the shutdown.
const MAX_COMPACTED: usize = 50_000;

/// Closes the file. Whatever fails here costs no session: the file is as good as after a crash.
pub(super) fn close(path: &Path, mut book: Arc<Book>) {
    let begun = Instant::now();
    let book = loop {
        match Arc::try_unwrap(book) {
            Ok(book) => break book,
            Err(_) if begun.elapsed() > READERS => {
                warn!(path = %path.display(), "session store is still read; it is left as it is");
                return;
            }
            Err(shared) => book = shared,
        }
        std::thread::sleep(Duration::from_millis(2));
    };
    if let Err(why) = guarded(|| finish(path, book)) {
        warn!(path = %path.display(), why, "session store was not closed in order");
        return;
    }
    let milliseconds = milliseconds(begun);
    info!(path = %path.display(), milliseconds, "session store is closed");
}

fn finish(path: &Path, book: Book) -> Result<(), Fault> {
    book.farewell()?;
    let worth_it = book.len()? <= MAX_COMPACTED && is_mostly_waste(path, &book)?;
    let mut database = book.database;
    if worth_it {
        database.compact()?;
    }
    Ok(database.close()?)
}

/// Whether more than half of the file holds nothing. Walks all pages in use.
fn is_mostly_waste(path: &Path, book: &Book) -> Result<bool, Fault> {
    let transaction = book.database.begin_write()?;
    let stats = transaction.stats()?;
    transaction.abort()?;
    let used = stats.allocated_pages().saturating_mul(stats.page_size() as u64);
    Ok(std::fs::metadata(path)?.len() > used.saturating_mul(2))
}
