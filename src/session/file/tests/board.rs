//! What is noted beside sessions: it survives a restart and a crash, has a time, and leaves nothing behind.

use redb::{ReadableDatabase as _, ReadableTableMetadata as _};

use super::*;

const MINUTE: Duration = Duration::from_secs(60);

/// How many notes the closed file at `path` has.
fn count(path: &Path) -> u64 {
    let table = redb::TableDefinition::<&str, (i64, &[u8])>::new("notes");
    let database = redb::Database::open(path).unwrap();
    database.begin_read().unwrap().open_table(table).unwrap().len().unwrap()
}

async fn noted(store: &Sessions, seconds: i64) -> Vec<Option<Vec<u8>>> {
    let names = ["used:a", "gone:b", "none"].map(str::to_owned);
    store.noted(&names, at(seconds)).await.unwrap()
}

#[tokio::test]
async fn bc_5_bc_8_what_is_noted_survives_and_is_forgotten_in_time() {
    let place = Place::new();
    let store = place.open();
    store.note("used:a", b"", (MINUTE, at(0))).await.unwrap();
    store.note("gone:b", b"1", (MINUTE, at(0))).await.unwrap();
    store.note("gone:b", b"2", (MINUTE * 2, at(0))).await.unwrap();
    for store in [&store, &place.crashed().open()] {
        assert_eq!(noted(store, 59).await, [Some(Vec::new()), Some(b"2".to_vec()), None]);
        assert_eq!(noted(store, 60).await, [None, Some(b"2".to_vec()), None]);
        assert_eq!(noted(store, 120).await, [None, None, None]);
    }
    store.sweep(IDLE, at(60)).await.unwrap();
    store.close().await;
    assert_eq!(count(&place.path()), 1);
    let store = place.open();
    assert_eq!(noted(&store, 119).await, [None, Some(b"2".to_vec()), None]);
    store.sweep(IDLE, at(120)).await.unwrap();
    store.close().await;
    assert_eq!(count(&place.path()), 0);
}
