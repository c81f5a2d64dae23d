//! What the file store promises beyond the others: that sessions survive a restart and a crash, and that nothing that
//! is done to the file becomes a session.

mod board;
mod damage;

use std::path::Path;

use tempfile::TempDir;

use super::*;
use crate::config::Secret;
use crate::session::tests::{IDLE, at, renewal, session};
use crate::session::{Begin, Selector, Sessions};

/// A store file in a directory of its own.
struct Place {
    directory: TempDir,
    keys: Arc<KeyRing>,
}

fn ring(keys: &[&str]) -> Arc<KeyRing> {
    let secrets: Vec<Secret> = keys.iter().map(|key| Secret::new(key.repeat(40))).collect();
    Arc::new(KeyRing::new(&secrets).unwrap())
}

impl Place {
    fn new() -> Self {
        Self { directory: tempfile::tempdir().unwrap(), keys: ring(&["a"]) }
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join("sessions.redb")
    }

    fn open(&self) -> Sessions {
        self.open_for(1_000_000)
    }

    fn open_for(&self, capacity: usize) -> Sessions {
        let options = FileOptions { path: self.path(), capacity, keys: Arc::clone(&self.keys) };
        Sessions::in_file(options, Vec::new(), Arc::new(Metrics::new()))
    }

    /// The file as a power cut would leave it now.
    fn crashed(&self) -> Self {
        let copy = Self { directory: tempfile::tempdir().unwrap(), keys: Arc::clone(&self.keys) };
        std::fs::copy(self.path(), copy.path()).unwrap();
        copy
    }
}

/// Waits until the store is what it should be.
async fn becomes(sessions: &Sessions, state: State) {
    let begun = Instant::now();
    while sessions.state().1 != state {
        assert!(begun.elapsed() < Duration::from_secs(10), "it is {:?} still", sessions.state());
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

async fn login(sessions: &Sessions, subject: &str, now: Timestamp) -> Arc<Session> {
    sessions.insert(session(subject, Some("sid"), now).1, now).await.unwrap()
}

async fn load(sessions: &Sessions, id: SessionId, seconds: i64) -> Option<Found> {
    sessions.load(id, IDLE, Touch::Look, at(seconds)).await.unwrap()
}

#[tokio::test]
async fn a_restart_keeps_sessions_their_last_use_and_their_index() {
    let place = Place::new();
    let store = place.open();
    let (alice, bob) = (login(&store, "alice", at(0)).await, login(&store, "bob", at(0)).await);
    store.load(alice.id, IDLE, Touch::Use, at(1_000)).await.unwrap().unwrap();
    store.close().await;

    let store = place.open();
    let found = load(&store, alice.id, 2_799).await.unwrap();
    assert_eq!(found.last_used_at, at(1_000));
    assert_eq!(found.session.tokens.access.expose(), "access");
    assert!(load(&store, alice.id, 2_800).await.is_none());
    assert!(load(&store, bob.id, 1_799).await.is_some());
    assert!(load(&store, bob.id, 1_800).await.is_none());
    assert_eq!(store.count(), 2);
    let issuer = "https://id.example";
    let ended = store.end(Selector::Subject { issuer, subject: "bob" }, EndKind::Local).await.unwrap();
    assert_eq!(ended.iter().map(|session| session.id).collect::<Vec<_>>(), [bob.id]);
    store.close().await;

    let store = place.open();
    assert!(load(&store, bob.id, 1).await.is_none(), "an end survives a restart");
    assert!(load(&store, alice.id, 1).await.is_some());
}

#[tokio::test]
async fn a_crash_keeps_what_was_answered_and_ends_nobody_early() {
    let place = Place::new();
    let store = place.open();
    let (alice, bob) = (login(&store, "alice", at(0)).await, login(&store, "bob", at(0)).await);
    let swap = store.replace(Arc::new(alice.renewed(renewal("new", at(5)), at(5))), None).await.unwrap();
    assert!(matches!(swap, Swap::Done(_)));
    store.end(Selector::Id(bob.id), EndKind::Local).await.unwrap();

    let copy = place.crashed();
    let store = copy.open();
    assert!(load(&store, bob.id, 6).await.is_none());
    let found = load(&store, alice.id, 1_859).await.unwrap();
    assert_eq!((found.session.version, found.session.tokens.access.expose()), (1, "new"));
    assert!(load(&store, alice.id, 1_860).await.is_none(), "the allowance is for uses that were not written down yet");
}

#[tokio::test]
async fn the_allowance_after_a_crash_goes_with_the_next_use() {
    let place = Place::new();
    let store = place.open();
    let alice = login(&store, "alice", at(0)).await;
    let place = place.crashed();
    let store = place.open();
    store.load(alice.id, IDLE, Touch::Use, at(100)).await.unwrap().unwrap();
    store.close().await;
    let store = place.open();
    assert!(load(&store, alice.id, 1_899).await.is_some());
    assert!(load(&store, alice.id, 1_900).await.is_none());
}

async fn journal(store: &Sessions, session: &Session) -> Option<Journal> {
    match store.begin_refresh(session).await.unwrap() {
        Begin::Begun(lease) => Some(lease.journal),
        Begin::Gone => None,
        Begin::Elsewhere => panic!("there is no other process"),
    }
}

#[tokio::test]
async fn px_17_the_journal_tells_a_refresh_that_a_crash_interrupted() {
    let place = Place::new();
    let store = place.open();
    let alice = login(&store, "alice", at(0)).await;
    let bob = login(&store, "bob", at(0)).await;
    assert_eq!(journal(&store, &alice).await, Some(Journal::Begun));
    assert_eq!(journal(&store, &alice).await, Some(Journal::Begun), "this process knows what it does");
    let Begin::Begun(lease) = store.begin_refresh(&bob).await.unwrap() else { panic!("bob is logged in") };
    store.end_refresh(bob.id, &lease).await;
    // Committed together with, or after, what nobody waits for.
    login(&store, "carol", at(0)).await;

    let place = place.crashed();
    let store = place.open();
    assert_eq!(journal(&store, &bob).await, Some(Journal::Begun));
    assert_eq!(journal(&store, &alice).await, Some(Journal::Interrupted));
    let Swap::Done(renewed) = store.replace(Arc::new(alice.renewed(renewal("new", at(5)), at(5))), None).await.unwrap()
    else {
        panic!("nobody else renewed it")
    };
    let copy = place.crashed();
    let store = copy.open();
    assert_eq!(journal(&store, &renewed).await, Some(Journal::Begun));
    store.end(Selector::Id(alice.id), EndKind::Local).await.unwrap();
    assert_eq!(journal(&store, &renewed).await, None);
}

#[tokio::test]
async fn sc_12_a_key_that_is_gone_opens_nothing_and_breaks_nothing() {
    let mut place = Place::new();
    let store = place.open();
    let (alice, bob) = (login(&store, "alice", at(0)).await, login(&store, "bob", at(0)).await);
    store.close().await;

    place.keys = ring(&["b", "a"]);
    let store = place.open();
    let found = load(&store, alice.id, 1).await.unwrap();
    // A new version is sealed with the first key.
    store.replace(Arc::new(found.session.renewed(renewal("new", at(1)), at(1))), None).await.unwrap();
    store.close().await;

    place.keys = ring(&["b"]);
    let store = place.open();
    assert!(load(&store, alice.id, 2).await.is_some());
    assert!(load(&store, bob.id, 2).await.is_none());
    // A logout by the provider must not be undone by putting the old key back.
    let issuer = "https://id.example";
    store.end(Selector::Subject { issuer, subject: "bob" }, EndKind::Local).await.unwrap();
    store.adopt(ring(&["b", "a"]), 10);
    assert!(load(&store, bob.id, 2).await.is_none());
    assert_eq!(store.count(), 1);
}

#[tokio::test]
async fn sc_12_keys_change_while_the_store_is_open() {
    let place = Place::new();
    let store = place.open();
    let alice = login(&store, "alice", at(0)).await;
    store.adopt(ring(&["b", "a"]), 10);
    login(&store, "bob", at(0)).await;
    let mut copy = place.crashed();
    copy.keys = ring(&["a"]);
    let copy = copy.open();
    assert!(load(&copy, alice.id, 1).await.is_some());
    assert_eq!(copy.count(), 2);
    let issuer = "https://id.example";
    let ended = copy.end(Selector::Subject { issuer, subject: "bob" }, EndKind::Local).await.unwrap();
    assert!(ended.is_empty() && copy.count() == 1, "it was sealed with the new key, so it is ended without being read");
}

#[tokio::test]
async fn a_second_process_is_refused_and_takes_over_when_the_first_has_gone() {
    let place = Place::new();
    let first = place.open();
    let alice = login(&first, "alice", at(0)).await;
    let second = place.open();
    becomes(&second, State::Down).await;
    assert!(matches!(second.load(alice.id, IDLE, Touch::Use, at(0)).await, Err(Error::Failed)));
    let why = opening::open(&place.path()).err().unwrap();
    assert!(why.contains("another process has") && why.contains("stop it"), "{why}");
    first.close().await;
    becomes(&second, State::Up).await;
    assert!(load(&second, alice.id, 1).await.is_some());
    assert!(matches!(first.insert(session("bob", None, at(0)).1, at(0)).await, Err(Error::Failed)));
}

#[tokio::test]
async fn the_file_and_its_directory_are_for_their_owner_only() {
    use std::os::unix::fs::PermissionsExt as _;
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("state/sessions.redb");
    let options = FileOptions { path: path.clone(), capacity: 10, keys: ring(&["a"]) };
    let store = Sessions::in_file(options, Vec::new(), Arc::new(Metrics::new()));
    becomes(&store, State::Up).await;
    let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&path), mode(path.parent().unwrap())), (0o600, 0o700));
}

#[tokio::test]
async fn a_sweep_ends_what_is_over_in_the_file_and_nothing_that_is_used() {
    let place = Place::new();
    let store = place.open();
    let mut ids = Vec::new();
    for number in 0..300 {
        ids.push(login(&store, &format!("user {number}"), at(0)).await.id);
    }
    store.close().await;
    let store = place.open();
    let used: Vec<SessionId> = ids.iter().copied().step_by(3).collect();
    for id in &used {
        store.load(*id, IDLE, Touch::Use, at(1_000)).await.unwrap().unwrap();
    }
    assert_eq!(store.sweep(IDLE, at(1_800)).await.unwrap(), 200);
    assert_eq!(store.count(), 100);
    for id in ids {
        assert_eq!(load(&store, id, 1_801).await.is_some(), used.contains(&id));
    }
    assert_eq!(store.sweep(IDLE, at(36_000)).await.unwrap(), 100);
}

#[tokio::test]
async fn sc_11_a_full_file_lets_the_longest_unused_go_although_its_uses_are_not_written_down() {
    let place = Place::new();
    let store = place.open_for(50);
    let mut ids = Vec::new();
    for number in 0..50 {
        ids.push(login(&store, &format!("user {number}"), at(number)).await.id);
    }
    store.load(ids[0], IDLE, Touch::Use, at(60)).await.unwrap().unwrap();
    let late = login(&store, "late", at(61)).await;
    assert_eq!(store.count(), 50);
    assert!(load(&store, ids[0], 62).await.is_some());
    assert!(load(&store, ids[1], 62).await.is_none());
    assert!(load(&store, late.id, 62).await.is_some());
    // A smaller limit is reached with the next logins.
    store.adopt(Arc::clone(&place.keys), 10);
    login(&store, "later", at(63)).await;
    assert_eq!(store.count(), 10);
    assert!(load(&store, ids[0], 64).await.is_some());
}

#[tokio::test]
async fn a_failure_of_the_disk_loses_nothing_that_was_answered() {
    let place = Place::new();
    let options = FileOptions { path: place.path(), capacity: 10, keys: Arc::clone(&place.keys) };
    let file = File::open(options, Hooks::new(Vec::new()), Arc::new(Metrics::new()));
    let alice = Arc::new(session("alice", None, at(0)).1);
    file.insert(Arc::clone(&alice), at(0)).await.unwrap();
    let failed = file.commit::<()>(|_| Err(Fault::Io(std::io::Error::other("no space left"))), |()| {}).await;
    assert_eq!(failed, Err(Error::Failed));
    let panicked = file.commit::<()>(|tables| panic!("{:?}", tables.len()), |()| {}).await;
    assert_eq!(panicked, Err(Error::Failed));
    let begun = Instant::now();
    let found = loop {
        match file.load(alice.id, IDLE, Touch::Use, at(1)).await {
            Ok(found) => break found,
            Err(_) => assert!(begun.elapsed() < Duration::from_secs(10), "it does not come back"),
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    };
    assert!(found.is_some());
    assert_eq!(file.end(Selector::Id(alice.id), EndKind::Local).await.unwrap().len(), 1);
}

#[tokio::test]
async fn sc_12_a_session_is_gone_with_the_key_that_sealed_it_although_it_was_in_use() {
    let place = Place::new();
    let store = place.open();
    let alice = login(&store, "alice", at(0)).await;
    store.load(alice.id, IDLE, Touch::Use, at(60)).await.unwrap().unwrap();
    store.adopt(ring(&["b", "a"]), 1_000_000);
    let bob = login(&store, "bob", at(60)).await;
    assert!(load(&store, alice.id, 61).await.is_some(), "an older key opens");

    store.adopt(ring(&["b"]), 1_000_000);
    assert!(load(&store, alice.id, 61).await.is_none(), "a key that was taken out opens nothing, at once");
    assert!(load(&store, bob.id, 61).await.is_some());

    store.adopt(ring(&["b", "a"]), 1_000_000);
    let found = load(&store, alice.id, 61).await.unwrap();
    assert_eq!(found.last_used_at, at(60), "with the key it is back, as it was");
}

#[tokio::test]
async fn what_was_wasted_is_given_back_when_the_store_closes() {
    let place = Place::new();
    let store = Arc::new(place.open());
    let mut logins = tokio::task::JoinSet::new();
    for number in 0..1_000 {
        let (store, mut session) = (Arc::clone(&store), session(&format!("user {}", number % 10), None, at(0)).1);
        session.userinfo.insert("picture".to_owned(), "x".repeat(4_000).into());
        logins.spawn(async move { store.insert(session, at(0)).await.unwrap().id });
    }
    let kept = logins.join_next().await.unwrap().unwrap();
    while logins.join_next().await.is_some() {}
    let kept_user = load(&store, kept, 1).await.unwrap().session.subject.clone();
    let full = place.path().metadata().unwrap().len();
    for number in 0..10 {
        let (issuer, subject) = ("https://id.example", format!("user {number}"));
        if subject != kept_user {
            store.end(Selector::Subject { issuer, subject: &subject }, EndKind::Local).await.unwrap();
        }
    }
    assert_eq!(store.count(), 100);
    store.close().await;
    let closed = place.path().metadata().unwrap().len();
    assert!(closed < full / 3, "{closed} of {full}");
    assert!(load(&place.open(), kept, 1).await.is_some());
}

/// Logins, uses and logouts from many tasks: what each was told last is what the file says after a crash.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_writers_at_once_each_keep_what_they_were_told() {
    let place = Place::new();
    let store = Arc::new(place.open());
    let mut tasks = tokio::task::JoinSet::new();
    for number in 0..64 {
        let store = Arc::clone(&store);
        tasks.spawn(async move {
            let mut session = login(&store, &format!("user {number}"), at(0)).await;
            for step in 0..number % 5 {
                let renewed = Arc::new(session.renewed(renewal(&format!("token-{step}"), at(1)), at(1)));
                let Swap::Done(renewed) = store.replace(renewed, None).await.unwrap() else {
                    panic!("nobody else writes")
                };
                session = renewed;
            }
            let stays = number % 3 != 0;
            if !stays {
                assert_eq!(store.end(Selector::Id(session.id), EndKind::Local).await.unwrap().len(), 1);
            }
            (session, stays)
        });
    }
    let told: Vec<(Arc<Session>, bool)> = tasks.join_all().await;
    let copy = place.crashed();
    let store = copy.open();
    for (session, stays) in told {
        let found = load(&store, session.id, 2).await;
        assert_eq!(found.map(|found| found.session.version), stays.then_some(session.version));
    }
}
