//! Whatever is done to the file while nobody has it open: the right session, none, or an error in words.

use redb::{ReadableDatabase as _, ReadableTable as _};

use super::*;

/// Changes the records of the closed file at `path`.
fn tamper(path: &Path, change: impl Fn(&mut Vec<Vec<u8>>)) {
    let table = redb::TableDefinition::<&[u8; 32], &[u8]>::new("records");
    let database = redb::Database::open(path).unwrap();
    let (ids, mut records): (Vec<[u8; 32]>, Vec<Vec<u8>>) = {
        let records = database.begin_read().unwrap().open_table(table).unwrap();
        let entries = records.iter().unwrap().map(Result::unwrap);
        entries.map(|(id, record)| (*id.value(), record.value().to_vec())).unzip()
    };
    change(&mut records);
    let transaction = database.begin_write().unwrap();
    for (id, record) in ids.iter().zip(&records) {
        transaction.open_table(table).unwrap().insert(id, record.as_slice()).unwrap();
    }
    transaction.commit().unwrap();
}

#[tokio::test]
async fn sc_12_a_record_that_was_changed_or_moved_to_another_id_is_no_session() {
    let changes: [fn(&mut Vec<Vec<u8>>); 4] = [
        |records| records.iter_mut().for_each(|record| *record.last_mut().unwrap() ^= 1),
        |records| records.iter_mut().for_each(|record| record.truncate(40)),
        |records| records.iter_mut().for_each(Vec::clear),
        |records| records.swap(0, 1),
    ];
    for change in changes {
        let place = Place::new();
        let store = place.open();
        let (alice, bob) = (login(&store, "alice", at(0)).await, login(&store, "bob", at(0)).await);
        store.close().await;
        tamper(&place.path(), change);
        let store = place.open();
        for id in [alice.id, bob.id] {
            assert!(load(&store, id, 1).await.is_none());
        }
        store.close().await;
    }
}

/// Whatever byte of the file is changed: the right session, no session or an error, and never a panic that gets out.
#[tokio::test]
async fn sc_7_a_damaged_file_gives_nobody_another_session() {
    let place = Place::new();
    let store = place.open();
    let alice = login(&store, "alice", at(0)).await;
    for number in 0..20 {
        login(&store, &format!("user {number}"), at(0)).await;
    }
    store.close().await;
    let len = usize::try_from(place.path().metadata().unwrap().len()).unwrap();
    for number in 0..40 {
        let damaged = place.crashed();
        let mut bytes = std::fs::read(damaged.path()).unwrap();
        let at_byte = len / 40 * number + 7 * number % 60;
        bytes[at_byte] ^= 0xff;
        std::fs::write(damaged.path(), bytes).unwrap();
        let store = damaged.open();
        if let Ok(Some(found)) = store.load(alice.id, IDLE, Touch::Look, at(1)).await {
            assert_eq!(found.session.subject, "alice");
        }
        let _ = store.insert(session("late", None, at(1)).1, at(1)).await;
    }
}

#[tokio::test]
async fn a_file_that_is_something_else_is_told_and_left_alone() {
    let place = Place::new();
    std::fs::write(place.path(), "the only copy of a novel").unwrap();
    let store = place.open();
    becomes(&store, State::Down).await;
    assert!(matches!(
        store.load(session("alice", None, at(0)).1.id, IDLE, Touch::Use, at(0)).await,
        Err(Error::Failed)
    ));
    assert!(matches!(store.insert(session("alice", None, at(0)).1, at(0)).await, Err(Error::Failed)));
    assert_eq!(std::fs::read_to_string(place.path()).unwrap(), "the only copy of a novel");
    let why = opening::open(&place.path()).err().unwrap();
    assert!(why.contains("is no session store") && why.contains("move it away"), "{why}");

    // Once it is out of the way, nobody has to restart anything.
    std::fs::remove_file(place.path()).unwrap();
    becomes(&store, State::Up).await;
    login(&store, "alice", at(0)).await;
}
