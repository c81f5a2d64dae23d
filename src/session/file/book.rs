//! The tables of a store file, and what is done with them within one transaction.
//!
//! A record is read only for its own session. What a sweep, an index and a compare-and-swap need stands in rows of some
//! eighty bytes, so that a million sessions are looked through in a fraction of a second.

use redb::{
    Database, ReadableDatabase as _, ReadableTable as _, ReadableTableMetadata as _, Table, TableDefinition,
    WriteTransaction,
};

use crate::session::SessionId;
use crate::session::file::SLACK;
use crate::session::index::IndexKey;
use crate::session::span::Span;
use crate::time::Timestamp;

pub(super) type Fault = redb::Error;

type Id = &'static [u8; 32];
/// Version, end, last use, the run that noted it, and the two index keys, 0 for none.
type Fields = (u64, i64, i64, u64, u64, u64);

const RECORDS: TableDefinition<'_, Id, &'static [u8]> = TableDefinition::new("records");
const ROWS: TableDefinition<'_, Id, Fields> = TableDefinition::new("rows");
const INDEX: TableDefinition<'_, (u64, Id), ()> = TableDefinition::new("index");
/// Refreshes on the wire: the version whose token was sent, and the run that sent it.
const REFRESHES: TableDefinition<'_, Id, (u64, u64)> = TableDefinition::new("refreshes");
/// What is known beside sessions, and until when.
const NOTES: TableDefinition<'_, &'static str, (i64, &'static [u8])> = TableDefinition::new("notes");
const ABOUT: TableDefinition<'_, &'static str, u64> = TableDefinition::new("about");

/// The layout of these tables; a new one takes a new number.
const LAYOUT: u64 = 1;

/// What is known of a session without opening its record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Row {
    pub(super) version: u64,
    pub(super) expires_at: Timestamp,
    pub(super) last_used_at: Timestamp,
    /// The run of this store that wrote `last_used_at`.
    pub(super) run: u64,
    pub(super) keys: (IndexKey, Option<IndexKey>),
}

impl Row {
    fn from_fields((version, expires_at, last_used_at, run, subject, sid): Fields) -> Self {
        Self {
            version,
            expires_at: Timestamp::from_unix(expires_at),
            last_used_at: Timestamp::from_unix(last_used_at),
            run,
            keys: (subject, Some(sid).filter(|sid| *sid != 0)),
        }
    }

    fn fields(self) -> Fields {
        let (subject, sid) = self.keys;
        (self.version, self.expires_at.unix(), self.last_used_at.unix(), self.run, subject, sid.unwrap_or(0))
    }

    fn index_keys(self) -> impl Iterator<Item = IndexKey> {
        std::iter::once(self.keys.0).chain(self.keys.1)
    }
}

/// An open store file.
pub(super) struct Book {
    pub(super) database: Database,
    /// Counts up each time the file is opened.
    pub(super) run: u64,
    /// Last uses that an earlier run noted may be too old: one of them ended without a farewell.
    slack_before: u64,
}

impl Book {
    /// Begins a new run. Committed at once, so that whatever comes after it can be told from what came before.
    pub(super) fn begin(database: Database) -> Result<Result<Self, u64>, Fault> {
        let mut transaction = database.begin_write()?;
        transaction.set_quick_repair(true);
        let (run, slack_before) = {
            // Opened for writing once, so that readers find every table.
            Tables::open(&transaction, 0)?;
            let mut about = transaction.open_table(ABOUT)?;
            let known = |name: &str| about.get(name).map(|value| value.map(|value| value.value()));
            let layout = known("layout")?.unwrap_or(LAYOUT);
            if layout != LAYOUT {
                return Ok(Err(layout));
            }
            let run = known("run")?.unwrap_or(0).saturating_add(1);
            let clean = known("clean")?.unwrap_or(1) == 1;
            let slack_before = if clean { known("slack_before")?.unwrap_or(0) } else { run };
            for (name, value) in [("layout", LAYOUT), ("run", run), ("clean", 0), ("slack_before", slack_before)] {
                about.insert(name, value)?;
            }
            (run, slack_before)
        };
        transaction.commit()?;
        Ok(Ok(Self { database, run, slack_before }))
    }

    /// One durable transaction: all of `work`, or nothing. With it goes what makes the next opening quick, also after a
    /// crash.
    pub(super) fn write<T>(&self, work: impl FnOnce(&mut Tables<'_>) -> Result<T, Fault>) -> Result<T, Fault> {
        let mut transaction = self.database.begin_write()?;
        transaction.set_quick_repair(true);
        let value = work(&mut Tables::open(&transaction, self.run)?)?;
        transaction.commit()?;
        Ok(value)
    }

    /// Notes that this run ended in order: all last uses are written down, no refresh is on the wire.
    pub(super) fn farewell(&self) -> Result<(), Fault> {
        let mut transaction = self.database.begin_write()?;
        transaction.set_quick_repair(true);
        transaction.open_table(ABOUT)?.insert("clean", 1)?;
        transaction.commit()?;
        Ok(())
    }

    /// The row and the record of `id`, handed to `read` without a copy.
    pub(super) fn read<T>(&self, id: SessionId, read: impl FnOnce(Row, &[u8]) -> T) -> Result<Option<T>, Fault> {
        let transaction = self.database.begin_read()?;
        let Some(row) = transaction.open_table(ROWS)?.get(&id.0)?.map(|row| Row::from_fields(row.value())) else {
            return Ok(None);
        };
        let records = transaction.open_table(RECORDS)?;
        Ok(records.get(&id.0)?.map(|record| read(row, record.value())))
    }

    /// Looks at the first `limit` rows of `span`, in the order of their ids; answers the rest, if there may be more.
    pub(super) fn rows(
        &self,
        span: Span,
        limit: usize,
        mut look: impl FnMut(SessionId, Row),
    ) -> Result<Option<Span>, Fault> {
        let rows = self.database.begin_read()?.open_table(ROWS)?;
        let mut rest = Some(span);
        for (number, entry) in rows.range::<&[u8; 32]>(&span.first.0..=&span.last.0)?.enumerate() {
            if number == limit {
                return Ok(rest);
            }
            let (id, row) = entry?;
            let id = SessionId(*id.value());
            look(id, Row::from_fields(row.value()));
            rest = span.behind(id);
        }
        Ok(None)
    }

    /// What is noted under `names`, in their order.
    pub(super) fn noted(&self, names: &[String], now: Timestamp) -> Result<Vec<Option<Vec<u8>>>, Fault> {
        let notes = self.database.begin_read()?.open_table(NOTES)?;
        let noted = |name: &String| Ok(notes.get(name.as_str())?.and_then(|note| still(note.value(), now)));
        names.iter().map(noted).collect()
    }

    /// Whether something is noted whose time is over.
    pub(super) fn has_old_notes(&self, now: Timestamp) -> Result<bool, Fault> {
        for entry in self.database.begin_read()?.open_table(NOTES)?.iter()? {
            if entry?.1.value().0 <= now.unix() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// How many sessions there are.
    pub(super) fn len(&self) -> Result<usize, Fault> {
        let rows = self.database.begin_read()?.open_table(ROWS)?;
        Ok(usize::try_from(rows.len()?).unwrap_or(usize::MAX))
    }

    /// When the session of `row` was used last. A run that was killed may have taken the latest uses with it; nobody
    /// loses a session for that.
    pub(super) fn last_used_at(&self, row: Row) -> Timestamp {
        if row.run < self.slack_before { row.last_used_at.plus(SLACK) } else { row.last_used_at }
    }
}

/// A note whose time is not over.
fn still((over_at, value): (i64, &[u8]), now: Timestamp) -> Option<Vec<u8>> {
    (now.unix() < over_at).then(|| value.to_vec())
}

/// The tables within a write transaction.
pub(super) struct Tables<'txn> {
    records: Table<'txn, Id, &'static [u8]>,
    rows: Table<'txn, Id, Fields>,
    index: Table<'txn, (u64, Id), ()>,
    refreshes: Table<'txn, Id, (u64, u64)>,
    notes: Table<'txn, &'static str, (i64, &'static [u8])>,
    run: u64,
}

impl<'txn> Tables<'txn> {
    fn open(transaction: &'txn WriteTransaction, run: u64) -> Result<Self, Fault> {
        Ok(Self {
            records: transaction.open_table(RECORDS)?,
            rows: transaction.open_table(ROWS)?,
            index: transaction.open_table(INDEX)?,
            refreshes: transaction.open_table(REFRESHES)?,
            notes: transaction.open_table(NOTES)?,
            run,
        })
    }

    /// This run.
    pub(super) const fn run(&self) -> u64 {
        self.run
    }

    pub(super) fn len(&self) -> Result<usize, Fault> {
        Ok(usize::try_from(self.rows.len()?).unwrap_or(usize::MAX))
    }

    pub(super) fn row(&self, id: SessionId) -> Result<Option<Row>, Fault> {
        Ok(self.rows.get(&id.0)?.map(|row| Row::from_fields(row.value())))
    }

    pub(super) fn record(&self, id: SessionId) -> Result<Option<Vec<u8>>, Fault> {
        Ok(self.records.get(&id.0)?.map(|record| record.value().to_vec()))
    }

    /// Looks at every row.
    pub(super) fn each_row(&self, mut look: impl FnMut(SessionId, Row)) -> Result<(), Fault> {
        for entry in self.rows.iter()? {
            let (id, row) = entry?;
            look(SessionId(*id.value()), Row::from_fields(row.value()));
        }
        Ok(())
    }

    /// The sessions that the index has under `key`.
    pub(super) fn indexed(&self, key: IndexKey) -> Result<Vec<SessionId>, Fault> {
        let range = self.index.range((key, &[0; 32])..=(key, &[0xff; 32]))?;
        range.map(|entry| Ok(SessionId(*entry?.0.value().1))).collect()
    }

    /// Puts a session in, or a new version in the place of the old one; a refresh of the old one is over with that.
    pub(super) fn put(&mut self, id: SessionId, row: Row, record: &[u8]) -> Result<(), Fault> {
        let before = self.rows.insert(&id.0, row.fields())?.map(|row| Row::from_fields(row.value()));
        if before.is_none_or(|before| before.keys != row.keys) {
            for key in before.into_iter().flat_map(Row::index_keys) {
                self.index.remove((key, &id.0))?;
            }
            for key in row.index_keys() {
                self.index.insert((key, &id.0), ())?;
            }
        }
        self.records.insert(&id.0, record)?;
        self.refreshes.remove(&id.0)?;
        Ok(())
    }

    /// Takes a session out; answers its record.
    pub(super) fn take(&mut self, id: SessionId) -> Result<Option<Vec<u8>>, Fault> {
        let Some(row) = self.rows.remove(&id.0)?.map(|row| Row::from_fields(row.value())) else { return Ok(None) };
        for key in row.index_keys() {
            self.index.remove((key, &id.0))?;
        }
        self.refreshes.remove(&id.0)?;
        Ok(self.records.remove(&id.0)?.map(|record| record.value().to_vec()))
    }

    /// Takes everything out.
    pub(super) fn empty(&mut self) -> Result<(), Fault> {
        self.records.retain(|_, _| false)?;
        self.rows.retain(|_, _| false)?;
        self.index.retain(|_, ()| false)?;
        self.refreshes.retain(|_, _| false)?;
        self.notes.retain(|_, _| false)?;
        Ok(())
    }

    /// Notes `value` under `name`, whatever was there.
    pub(super) fn note(&mut self, name: &str, value: &[u8], over_at: Timestamp) -> Result<(), Fault> {
        self.notes.insert(name, (over_at.unix(), value))?;
        Ok(())
    }

    /// Forgets what is over.
    pub(super) fn drop_old_notes(&mut self, now: Timestamp) -> Result<(), Fault> {
        self.notes.retain(|_, (over_at, _)| now.unix() < over_at)?;
        Ok(())
    }

    /// Notes a use. Of a session that has ended, nothing is noted.
    pub(super) fn touch(&mut self, id: SessionId, used_at: Timestamp) -> Result<(), Fault> {
        if let Some(mut row) = self.row(id)? {
            row.last_used_at = row.last_used_at.max(used_at);
            row.run = self.run;
            self.rows.insert(&id.0, row.fields())?;
        }
        Ok(())
    }

    /// Notes that the refresh token of `version` is about to be sent; answers the run that noted the same before and
    /// never learnt what came of it.
    pub(super) fn begin_refresh(&mut self, id: SessionId, version: u64) -> Result<Option<u64>, Fault> {
        let before = self.refreshes.insert(&id.0, (version, self.run))?.map(|before| before.value());
        Ok(before.filter(|(before, _)| *before == version).map(|(_, run)| run))
    }

    /// Notes that it is known what came of it.
    pub(super) fn end_refresh(&mut self, id: SessionId) -> Result<(), Fault> {
        self.refreshes.remove(&id.0)?;
        Ok(())
    }
}
