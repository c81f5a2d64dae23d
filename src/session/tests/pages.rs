//! Pages of all sessions: each is on one of them, in order, however few of those that are looked at are meant.

use std::collections::BTreeSet;

use super::moving::{Places, moved};
use super::*;

/// More than one look brings, whatever the page.
const MANY: usize = 2_500;

fn filter(change: impl FnOnce(&mut Filter)) -> Filter {
    let mut filter = Filter::default();
    change(&mut filter);
    filter
}

/// The ids on all pages of `limit`, one after the other; every page but the last is full.
async fn pages(sessions: &Sessions, filter: &Filter, limit: usize) -> Vec<SessionId> {
    let (mut ids, mut after) = (Vec::new(), None);
    loop {
        let page = sessions.page(filter, (after, limit), (IDLE, at(10))).await.unwrap();
        ids.extend(page.sessions.iter().map(|found| found.session.id));
        after = page.next;
        if after.is_none() {
            return ids;
        }
        assert_eq!((page.sessions.len(), ids.last()), (limit, after.as_ref()));
    }
}

/// Fills a store, and tells `story` of it in each store that it moves to.
async fn in_each_store(fill: impl Fn(usize, &mut Session), story: impl AsyncFn(&Sessions)) {
    let places = Places::new();
    let sessions = places.memory();
    for number in 0..MANY {
        let (_, mut session) = session("alice", None, at(0));
        fill(number, &mut session);
        sessions.insert(session, at(0)).await.unwrap();
    }
    story(&sessions).await;
    moved(&sessions, Destination::File(places.file("sessions.redb"))).await;
    story(&sessions).await;
    if server::is_here() {
        let server = server::RedisServer::with(&[]);
        moved(&sessions, Destination::Redis(redis_options(&server, 1_000_000))).await;
        story(&sessions).await;
    }
}

#[tokio::test]
async fn sc_6_every_session_is_on_one_page_in_order() {
    let (all, few) = (Mutex::new(BTreeSet::new()), Mutex::new(BTreeSet::new()));
    let fill = |number: usize, session: &mut Session| {
        if number % 500 == 7 {
            session.created_at = at(-100);
            few.lock().unwrap().insert(session.id);
        }
        if number % 100 == 3 {
            session.expires_at = at(5);
        } else {
            all.lock().unwrap().insert(session.id);
        }
    };
    let ids = |set: &Mutex<BTreeSet<SessionId>>| set.lock().unwrap().iter().copied().collect::<Vec<_>>();
    in_each_store(fill, async |sessions| {
        for limit in [60, 256, 1_000] {
            assert_eq!(pages(sessions, &Filter::default(), limit).await, ids(&all), "{limit}");
        }
        let old = filter(|filter| filter.older_than = Some(Duration::from_secs(100)));
        for limit in [1, 2, 5, 100] {
            assert_eq!(pages(sessions, &old, limit).await, ids(&few), "{limit}");
        }
        let nobody = filter(|filter| filter.route = Some("other".to_owned()));
        assert!(pages(sessions, &nobody, 10).await.is_empty());
    })
    .await;
}

#[tokio::test]
async fn sc_6_the_beginning_of_an_id_means_those_that_begin_with_it() {
    in_each_store(
        |_, _| {},
        async |sessions| {
            let all = pages(sessions, &Filter::default(), 1_000).await;
            let one = all[all.len() / 2].hex();
            for beginning in ["0", "f", "a7", "A7", one.get(..5).unwrap(), one.as_str(), "", "00000000", "ffffffff"] {
                let begins = |id: &&SessionId| id.hex().starts_with(&beginning.to_ascii_lowercase());
                let meant: Vec<SessionId> = all.iter().filter(begins).copied().collect();
                let filter = filter(|filter| filter.id = Some(beginning.to_owned()));
                for limit in [40, 1_000] {
                    assert_eq!(pages(sessions, &filter, limit).await, meant, "{beginning}");
                }
            }
            // Behind the last that begins with it there is nothing.
            let digit = all[0].hex().get(..1).unwrap().to_owned();
            let first = filter(|filter| filter.id = Some(digit.clone()));
            let page = sessions.page(&first, (all.last().copied(), 10), (IDLE, at(10))).await.unwrap();
            assert!(page.sessions.is_empty() && page.next.is_none());
            let meant = all.iter().filter(|id| id.hex().starts_with(&digit)).count();
            assert_eq!(sessions.end_by_hand(&first, at(10)).await.unwrap(), meant);
            assert_eq!(sessions.count(), all.len() - meant);
        },
    )
    .await;
}
