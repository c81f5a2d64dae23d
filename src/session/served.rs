//! Which sessions somebody is there for: those of a route, issuer and client that the configuration has. The others are
//! unusable at once, as no route takes them; they are kept for a while, since an edit may be taken back.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{PoisonError, RwLock};
use std::time::{Duration, Instant};

use crate::config::Name;
use crate::session::sessions::Store;
use crate::session::{Binding, EndKind, Error, SessionId, Sessions};
use crate::time::Timestamp;

/// How long sessions wait for their route to be put back.
const KEPT: Duration = Duration::from_secs(600);
/// How many sessions are looked at before others get the thread.
const SLICE: usize = 256;

/// Whom sessions can belong to: a route, an issuer and a client.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Party {
    /// The route.
    pub route: Name,
    /// The issuer.
    pub issuer: String,
    /// The client.
    pub client_id: String,
}

impl From<&Binding> for Party {
    fn from(binding: &Binding) -> Self {
        let Binding { route, issuer, client_id, .. } = binding;
        Self { route: route.clone(), issuer: issuer.clone(), client_id: client_id.clone() }
    }
}

/// The parties of the configuration that serves, and those of earlier ones.
#[derive(Default)]
pub(super) struct Served(RwLock<State>);

#[derive(Default)]
struct State {
    /// `None` until the first configuration serves: then everybody is let be.
    parties: Option<BTreeSet<Party>>,
    /// When those went that were there before and whose sessions are here still.
    gone: BTreeMap<Party, Timestamp>,
    /// For sessions in a store that outlived a change of the configuration: when this process came.
    begun: Timestamp,
    /// Whether those have been looked for.
    looked: bool,
}

impl Served {
    fn serve(&self, parties: BTreeSet<Party>, now: Timestamp) {
        let mut state = self.0.write().unwrap_or_else(PoisonError::into_inner);
        match state.parties.take() {
            None => state.begun = now,
            Some(before) => state.gone.extend(before.difference(&parties).map(|party| (party.clone(), now))),
        }
        state.gone.retain(|party, _| !parties.contains(party));
        state.parties = Some(parties);
    }

    fn has(&self, binding: &Binding) -> bool {
        self.read(|state| state.parties.as_ref().is_none_or(|parties| parties.contains(&binding.into())))
    }

    /// All issuers whose sessions may be here.
    pub(super) fn issuers(&self) -> BTreeSet<String> {
        self.read(|state| {
            let serving = state.parties.iter().flatten();
            serving.chain(state.gone.keys()).map(|party| party.issuer.clone()).collect()
        })
    }

    /// Whether nobody has come back for sessions with this binding in time. In a store that is shared, only those are over
    /// that an edit here has taken away: of others this process knows nothing.
    fn is_over(&self, binding: &Binding, is_shared: bool, now: Timestamp) -> bool {
        let party = Party::from(binding);
        self.read(|state| {
            let has = state.parties.as_ref().is_none_or(|parties| parties.contains(&party));
            let since = state.gone.get(&party).or_else(|| (!is_shared).then_some(&state.begun));
            !has && since.is_some_and(|since| now >= since.plus(KEPT))
        })
    }

    /// Whether there may be such sessions.
    fn is_due(&self, is_shared: bool, now: Timestamp) -> bool {
        let is_due = |at: &Timestamp| now >= at.plus(KEPT);
        self.read(|state| {
            let unknown = !is_shared && state.parties.is_some() && !state.looked && is_due(&state.begun);
            unknown || state.gone.values().any(is_due)
        })
    }

    /// All sessions were looked through at `now`.
    fn looked(&self, now: Timestamp) {
        let mut state = self.0.write().unwrap_or_else(PoisonError::into_inner);
        state.looked |= now >= state.begun.plus(KEPT);
        state.gone.retain(|_, at| now < at.plus(KEPT));
    }

    fn read<T>(&self, read: impl FnOnce(&State) -> T) -> T {
        read(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Sessions {
    /// From now on, somebody is there for sessions of `parties`, and for no others.
    pub fn serve(&self, parties: BTreeSet<Party>, now: Timestamp) {
        self.served.serve(parties, now);
    }

    /// Whether anybody is there for sessions with this binding.
    #[must_use]
    pub fn is_served(&self, binding: &Binding) -> bool {
        self.served.has(binding)
    }

    /// Ends all sessions that nobody has been there for in ten minutes; called by a background loop. Where other processes
    /// share them, one of those may be there.
    ///
    /// # Errors
    /// [`Error`] when the store does not answer; the next call tries again.
    pub async fn end_unserved(&self, now: Timestamp) -> Result<usize, Error> {
        let is_shared = self.is_shared();
        if !self.served.is_due(is_shared, now) {
            return Ok(0);
        }
        let Ok(_round) = self.rounds.try_lock() else { return Ok(0) };
        let (begun, store) = (Instant::now(), self.store.load_full());
        if store.others().await? > 0 {
            return Ok(0);
        }
        let mut ended = 0;
        for slice in store.ids().await?.chunks(SLICE) {
            let sessions = store.fetch(slice.to_vec()).await?.into_iter().map(|found| found.session);
            let over = sessions.filter(|session| self.served.is_over(&session.binding, is_shared, now));
            ended += self.end_these(&store, over.map(|session| session.id).collect(), EndKind::Unserved).await?;
        }
        self.served.looked(now);
        self.done(&store, "sweep", begun);
        Ok(ended)
    }

    /// Ends these sessions; answers how many of them there were still.
    pub(super) async fn end_these(&self, store: &Store, ids: Vec<SessionId>, kind: EndKind) -> Result<usize, Error> {
        if ids.is_empty() {
            return Ok(0);
        }
        match store {
            Store::Memory(memory) => {
                let ended = ids.into_iter().filter_map(|id| memory.take(id)).collect::<Vec<_>>();
                self.ended(&ended, kind);
                Ok(ended.len())
            }
            Store::File(file) => file.end_these(ids, kind).await,
            Store::Redis(redis) => redis.end_these(ids, kind).await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn binding(route: &str, client: &str) -> Binding {
        let name = |text| Name::parse(text).unwrap();
        let issuer = "https://id.example".to_owned();
        Binding { route: name(route), provider: name("corp"), issuer, client_id: client.to_owned() }
    }

    fn parties(names: &[&str]) -> BTreeSet<Party> {
        names.iter().map(|name| Party::from(&binding(name, "web"))).collect()
    }

    const fn at(seconds: i64) -> Timestamp {
        Timestamp::from_unix(1_700_000_000 + seconds)
    }

    #[test]
    fn cf_11_a_party_that_comes_back_in_time_was_never_away() {
        let served = Served::default();
        served.serve(parties(&["web", "wiki"]), at(0));
        served.serve(parties(&["web"]), at(100));
        assert!(served.has(&binding("web", "web")) && !served.has(&binding("wiki", "web")));
        assert!(!served.has(&binding("web", "other")), "a new client is somebody else");
        assert!(
            !served.is_over(&binding("wiki", "web"), false, at(699))
                && served.is_over(&binding("wiki", "web"), false, at(700))
        );
        served.serve(parties(&["web", "wiki"]), at(699));
        served.serve(parties(&["web"]), at(800));
        assert!(!served.is_over(&binding("wiki", "web"), false, at(1_399)), "the ten minutes begin anew");
        assert!(served.is_over(&binding("wiki", "web"), false, at(1_400)));
    }

    #[test]
    fn cf_11_sessions_are_looked_through_only_when_somebody_has_gone() {
        let served = Served::default();
        assert!(!served.is_due(false, at(9_999)) && !served.is_over(&binding("wiki", "web"), false, at(9_999)));
        served.serve(parties(&["web"]), at(0));
        assert!(!served.is_due(false, at(599)));
        assert!(served.is_due(false, at(600)), "a store may have sessions of an earlier time");
        assert!(served.is_over(&binding("wiki", "web"), false, at(600)));
        served.looked(at(600));
        assert!(!served.is_due(false, at(9_999)));
        served.serve(parties(&["wiki"]), at(1_000));
        served.serve(parties(&["wiki"]), at(1_300));
        assert!(!served.is_due(false, at(1_599)) && served.is_due(false, at(1_600)), "another reload delays nothing");
        served.looked(at(1_600));
        assert!(!served.is_due(false, at(9_999)));
    }
}
