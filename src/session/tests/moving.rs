//! Moving to another store: nobody is lost, nobody comes back, and a move that fails is none.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use tempfile::TempDir;

use super::*;

/// A folder for store files, and their keys.
pub(super) struct Places {
    directory: TempDir,
    keys: Arc<KeyRing>,
}

impl Places {
    pub(super) fn new() -> Self {
        Self { directory: tempfile::tempdir().unwrap(), keys: Arc::new(KeyRing::new(&[]).unwrap()) }
    }

    pub(super) fn file(&self, name: &str) -> FileOptions {
        FileOptions { path: self.directory.path().join(name), capacity: 1_000_000, keys: Arc::clone(&self.keys) }
    }

    pub(super) fn memory(&self) -> Sessions {
        assert!(self.directory.path().is_dir());
        Sessions::in_memory(Memory::new(1_000_000), Vec::new(), Arc::new(Metrics::new()))
    }

    fn open(&self, name: &str) -> Sessions {
        Sessions::in_file(self.file(name), Vec::new(), Arc::new(Metrics::new()))
    }
}

pub(super) async fn moved(sessions: &Sessions, to: Destination) {
    let moving = sessions.begin_move(to).await.unwrap().expect("another place");
    let left = sessions.finish_move(moving).await.unwrap();
    sessions.forget(left).await;
}

async fn login(sessions: &Sessions, subject: &str, now: Timestamp) -> Arc<Session> {
    sessions.insert(session(subject, Some(subject), now).1, now).await.unwrap()
}

async fn load(sessions: &Sessions, id: SessionId) -> Option<Found> {
    sessions.load(id, Duration::MAX, Touch::Look, at(0)).await.unwrap()
}

#[tokio::test]
async fn whoever_is_there_moves_with_version_use_and_index_and_nobody_stays_behind() {
    let places = Places::new();
    let sessions = places.memory();
    let mut all = Vec::new();
    for number in 0..3_000 {
        let session = login(&sessions, &format!("user{}", number % 1_000), at(number)).await;
        all.push(session);
    }
    let renewed = Arc::new(all[7].renewed(renewal("new", at(50)), at(50)));
    sessions.replace(renewed, None).await.unwrap();
    sessions.load(all[8].id, IDLE, Touch::Use, at(99)).await.unwrap().unwrap();
    let stops = [
        Destination::File(places.file("one")),
        Destination::File(places.file("two")),
        Destination::Memory(10_000),
        Destination::File(places.file("one")),
        Destination::File(places.file("one.again")),
    ];
    for to in stops {
        let place = to.to_string();
        moved(&sessions, to).await;
        assert_eq!(sessions.count(), 3_000, "{place}");
        for (number, session) in all.iter().enumerate() {
            let found = load(&sessions, session.id).await.unwrap();
            assert_eq!(found.session.version, u64::from(number == 7), "{place}");
            let used_at = if number == 8 { 99 } else { i64::try_from(number).unwrap() };
            assert_eq!(found.last_used_at, at(used_at), "{place}, session {number}");
            assert_eq!(found.session.binding.client_id, "web");
        }
    }
    let issuer = "https://id.example";
    let ended = sessions.end(Selector::Subject { issuer, subject: "user7" }, EndKind::Local).await.unwrap();
    assert_eq!(ended.len(), 3, "the index has moved, too");
    assert_eq!(sessions.sweep(IDLE, at(2_500)).await.unwrap(), 700, "and so have the limits");
    sessions.close().await;
    for left in ["one", "two"] {
        let left = places.open(left);
        left.insert(session("new", None, at(0)).1, at(0)).await.unwrap();
        assert_eq!(left.count(), 1, "what was left is empty");
    }
}

/// What people do while their sessions move: log in, refresh, work, log out.
async fn live(sessions: Arc<Sessions>, over: Arc<AtomicBool>) -> Vec<(SessionId, Option<(u64, Timestamp)>)> {
    let mut known = Vec::new();
    let mut turn = 0;
    while !over.load(Ordering::Relaxed) {
        turn += 1;
        let mut session = login(&sessions, "alice", at(0)).await;
        let used_at = at(turn);
        for _ in 0..turn % 3 {
            let next = Arc::new(session.renewed(renewal("next", at(1)), at(1)));
            assert!(matches!(sessions.begin_refresh(&session).await.unwrap(), Begin::Begun(_)), "it has not ended");
            let Swap::Done(swapped) = sessions.replace(next, None).await.unwrap() else { panic!("a version was lost") };
            session = swapped;
        }
        assert!(sessions.load(session.id, Duration::MAX, Touch::Use, used_at).await.unwrap().is_some());
        if turn % 5 == 0 {
            let ended = sessions.end(Selector::Id(session.id), EndKind::Local).await.unwrap();
            assert_eq!(ended.len(), 1);
            known.push((session.id, None));
        } else {
            known.push((session.id, Some((session.version, used_at))));
        }
        // Somebody from before, too.
        if let Some((id, Some((version, used_at)))) = known.get(usize::try_from(turn).unwrap() / 2) {
            let found = sessions.load(*id, Duration::MAX, Touch::Look, at(0)).await.unwrap().expect("still there");
            assert!(found.session.version == *version && found.last_used_at >= *used_at);
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    known
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_that_is_written_during_a_move_is_lost_and_no_end_is_undone() {
    let places = Places::new();
    let sessions = Arc::new(places.memory());
    for _ in 0..2_000 {
        login(&sessions, "before", at(0)).await;
    }
    let over = Arc::new(AtomicBool::new(false));
    let lives: Vec<_> = (0..4).map(|_| tokio::spawn(live(Arc::clone(&sessions), Arc::clone(&over)))).collect();
    for round in 0..3 {
        for to in [
            Destination::File(places.file(&format!("one{round}"))),
            Destination::File(places.file(&format!("two{round}"))),
            Destination::Memory(1_000_000),
        ] {
            moved(&sessions, to).await;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    over.store(true, Ordering::Relaxed);
    let (mut count, mut all) = (2_000, 0);
    for life in lives {
        for (id, expected) in life.await.unwrap() {
            let found = load(&sessions, id).await.map(|found| (found.session.version, found.last_used_at));
            assert_eq!(found, expected);
            (count, all) = (count + usize::from(expected.is_some()), all + 1);
        }
    }
    assert!(all > 50, "only {all} logins");
    assert_eq!(sessions.count(), count);
}

#[tokio::test]
async fn a_move_that_fails_changes_nothing_and_says_why() {
    let places = Places::new();
    let sessions = places.memory();
    let alice = login(&sessions, "alice", at(0)).await;
    let garbage = places.file("garbage");
    std::fs::write(&garbage.path, "no database").unwrap();
    let other = places.open("other");
    login(&other, "bob", at(0)).await;
    let mistyped = FileOptions { path: Path::new("/no/such/place/at/all").to_owned(), ..places.file("x") };
    let held = places.file("held");
    {
        let held = places.open("held");
        login(&held, "carol", at(0)).await;
        held.close().await;
    }
    for (to, words) in [
        (garbage, "is no session store"),
        (places.file("other"), "another process has"),
        (mistyped, "/no/such/place"),
        (held, "it holds 1 of an earlier time: restart"),
    ] {
        let why = sessions.begin_move(Destination::File(to)).await.unwrap_err();
        assert!(why.starts_with("sessions cannot move to /") && why.contains(words), "{why}");
        assert_eq!(sessions.state(), ("memory", State::Up));
        assert!(load(&sessions, alice.id).await.is_some());
    }
    // One that was begun and given up leaves nobody in the file.
    let moving = sessions.begin_move(Destination::File(places.file("later"))).await.unwrap().unwrap();
    sessions.abandon_move(moving).await;
    assert_eq!(sessions.sweep(IDLE, at(0)).await.unwrap(), 0);
    moved(&sessions, Destination::File(places.file("later"))).await;
    assert!(load(&sessions, alice.id).await.is_some());
    let held = places.open("held");
    assert_eq!(
        held.end(Selector::Sid { issuer: "https://id.example", sid: "carol" }, EndKind::Local)
            .await
            .unwrap()
            .len(),
        1
    );
}

/// A store that does not answer is not left: what is in it would be.
#[tokio::test]
async fn a_store_that_is_down_is_not_left() {
    let places = Places::new();
    let sessions = places.open("one");
    let alice = login(&sessions, "alice", at(0)).await;
    sessions.close().await;
    let why = sessions.begin_move(Destination::Memory(10)).await.unwrap_err();
    assert!(why.starts_with("sessions cannot move to memory: the session store failed; the store that"), "{why}");
    assert_eq!(sessions.state(), ("file", State::Down));
    assert!(load(&places.open("one"), alice.id).await.is_some());
}
