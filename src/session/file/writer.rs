//! The one thread that writes. Whatever waits for it while it commits goes into the next commit together, so that a
//! thousand logins cost about as many disk flushes as ten.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;
use tracing::{error, info, warn};

use crate::session::SessionId;
use crate::session::file::book::{Book, Fault, Tables};
use crate::session::file::{FLUSH, Gate, Shared, closing, guarded, milliseconds, opening};
use crate::time::Timestamp;

/// Work for the next commit. What it answers is run once that has succeeded, and dropped otherwise.
pub(super) type Job = Box<dyn FnOnce(&mut Tables<'_>) -> Result<After, Fault> + Send>;
pub(super) type After = Box<dyn FnOnce() + Send>;

pub(super) enum Message {
    Job(Job),
    /// Write down what is not, and let go of the file; then tell.
    Close(oneshot::Sender<()>),
}

/// Most jobs of one commit: above, the first would wait longer for the others than it gains.
const MAX_BATCH: usize = 512;
/// How long to wait before the file is tried again.
const RETRY: Duration = Duration::from_millis(500);

/// Why serving ended.
enum End {
    /// It was closed, or nobody is left who could send anything.
    Closed(Option<oneshot::Sender<()>>),
    Failed(String),
}

/// Opens the file, serves until it is closed; opens it anew after a failure.
pub(super) fn run(shared: &Arc<Shared>, inbox: &Receiver<Message>) {
    let mut complained = String::new();
    loop {
        let begun = Instant::now();
        match opening::open(&shared.path).and_then(|book| Ok((guarded(|| book.len())?, book))) {
            Ok((sessions, book)) => {
                complained.clear();
                let (book, milliseconds) = (Arc::new(book), milliseconds(begun));
                info!(path = %shared.path.display(), sessions, milliseconds, "session store is open");
                shared.counted(sessions);
                shared.gate.send_replace(Gate::Open(Arc::clone(&book)));
                match serve(shared, inbox, &book) {
                    End::Closed(reply) => {
                        shared.gate.send_replace(Gate::Down("it was closed".into()));
                        closing::close(&shared.path, book);
                        return drop(reply);
                    }
                    End::Failed(why) => {
                        error!(path = %shared.path.display(), why, "session store failed");
                        shared.gate.send_replace(Gate::Down(why.into()));
                    }
                }
            }
            Err(why) => {
                if complained != why {
                    error!(why, "session store cannot be opened; it is tried again");
                }
                shared.gate.send_replace(Gate::Down(why.as_str().into()));
                complained = why;
            }
        }
        shared.cache.clear();
        if refuse(inbox) {
            return;
        }
    }
}

fn serve(shared: &Shared, inbox: &Receiver<Message>, book: &Book) -> End {
    let mut flushed = Instant::now();
    loop {
        let (batch, close) = gather(inbox, FLUSH.saturating_sub(flushed.elapsed()));
        let is_due = close.is_some() || flushed.elapsed() >= FLUSH;
        let last_uses = if is_due { shared.cache.all_unnoted() } else { Vec::new() };
        if is_due {
            flushed = Instant::now();
        }
        if !(batch.is_empty() && last_uses.is_empty())
            && let Err(why) = commit(shared, book, batch, &last_uses)
        {
            return End::Failed(why);
        }
        if let Some(reply) = close {
            return End::Closed(reply);
        }
    }
}

/// What waits already, or else whatever comes first within `patience`; and whether that is the end.
fn gather(inbox: &Receiver<Message>, patience: Duration) -> (Vec<Job>, Option<Option<oneshot::Sender<()>>>) {
    let mut batch = Vec::new();
    let mut next = inbox.recv_timeout(patience);
    loop {
        match next {
            Ok(Message::Job(job)) => batch.push(job),
            Ok(Message::Close(reply)) => return (batch, Some(Some(reply))),
            Err(RecvTimeoutError::Timeout) => return (batch, None),
            Err(RecvTimeoutError::Disconnected) => return (batch, Some(None)),
        }
        if batch.len() == MAX_BATCH {
            return (batch, None);
        }
        next = inbox.recv_timeout(Duration::ZERO);
    }
}

fn commit(shared: &Shared, book: &Book, batch: Vec<Job>, last_uses: &[(SessionId, Timestamp)]) -> Result<(), String> {
    let begun = Instant::now();
    let (count, afters) = guarded(|| {
        book.write(|tables| {
            let afters: Result<Vec<After>, Fault> = batch.into_iter().map(|job| job(tables)).collect();
            let afters = afters?;
            last_uses.iter().try_for_each(|(id, used_at)| tables.touch(*id, *used_at))?;
            Ok((tables.len()?, afters))
        })
    })?;
    shared.committed(count, begun);
    shared.cache.noted(last_uses);
    for after in afters {
        // What is told to others must not end the thread that everybody waits for.
        let told = guarded(|| {
            after();
            Ok(())
        });
        if told.is_err() {
            warn!("a listener to the end of a session panicked");
        }
    }
    Ok(())
}

/// Drops what comes in, which tells those who wait; true when that is over for good.
fn refuse(inbox: &Receiver<Message>) -> bool {
    let begun = Instant::now();
    loop {
        match inbox.recv_timeout(RETRY.saturating_sub(begun.elapsed())) {
            Ok(Message::Job(_)) => {}
            Ok(Message::Close(_)) | Err(RecvTimeoutError::Disconnected) => return true,
            Err(RecvTimeoutError::Timeout) => return false,
        }
    }
}
