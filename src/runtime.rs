//! What is running: an immutable snapshot of everything that the configuration says, and the things that outlive it.
//!
//! [`Snapshot::build`] does no network I/O and takes over from its predecessor whatever has an equal configuration:
//! providers with their keys, upstreams with their connections. So a provider that is down blocks neither a start nor a
//! reload, and an edit of one route costs the others nothing.

mod table;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use arc_swap::ArcSwap;
use http::HeaderName;
use tokio_util::task::TaskTracker;
use tracing::info;

use crate::config::{self, Config, Listen, Mode};
use crate::handoff::Upstream;
use crate::metrics::{Metrics, Names};
use crate::mode::auth_code::{AuthCode, Departures, Limits, Logins, Revoker, Shared};
use crate::mode::{Bearer, Route, Rule};
use crate::provider::{Client, Clocks, Issuer, Provider, Surroundings, Verifier};
use crate::session::{
    Destination, EndHook, EndKind, FileOptions, Memory, News, Party, RedisOptions, Refresher, Sessions, Streams,
};
use crate::time::Clock;
use crate::web::KeyRing;

pub use table::{Match, Table};

/// Everything that outlives a snapshot, by name; nothing else is shared between two configurations.
#[derive(Clone, Debug)]
pub struct Lasting {
    /// The clock of the edge and of background loops.
    pub clock: Clock,
    /// All metric families.
    pub metrics: Arc<Metrics>,
    /// Work that a shutdown waits for.
    pub tasks: TaskTracker,
    /// Sessions, refreshes, logins and logouts in flight.
    pub shared: Shared,
    /// The clocks of the providers, old and new.
    pub clocks: Arc<Clocks>,
    /// The key ring for this process, for configurations that name no keys.
    pub own_keys: Arc<KeyRing>,
}

impl Lasting {
    /// The lasting things of a process whose first configuration is `config`.
    ///
    /// # Errors
    /// A text for the operator when the system gives no random bytes.
    pub fn new(config: &Config, clock: Clock) -> Result<Self, String> {
        let metrics = Arc::new(Metrics::new());
        let tasks = TaskTracker::new();
        let streams = Streams::new(TaskTracker::new());
        let revoker = Arc::new(Revoker::new());
        let hook: EndHook = {
            let (metrics, streams, revoker) = (Arc::clone(&metrics), Arc::clone(&streams), Arc::clone(&revoker));
            Arc::new(move |session, kind| {
                streams.cut(session.id);
                if kind == EndKind::Operator {
                    revoker.revoke(session);
                }
                let provider = &session.binding.provider;
                metrics.logout(provider.as_str(), kind.label());
                // Whoever ended it on somebody's behalf has told of it, and knows on whose.
                if kind.is_told() {
                    return;
                }
                info!(session = %session.id, route = %session.binding.route, %provider, kind = kind.label(), "session ended");
            })
        };
        let own_keys = Arc::new(KeyRing::new(&[]).map_err(|error| error.to_string())?);
        let capacity = config.sessions.max_sessions;
        let sessions = Arc::new(match &config.sessions.store {
            config::Store::Memory => Sessions::in_memory(Memory::new(capacity), vec![hook], Arc::clone(&metrics)),
            config::Store::File(path) => {
                // The first snapshot brings the keys; until then nobody asks.
                let options = FileOptions { path: path.clone(), capacity, keys: Arc::clone(&own_keys) };
                Sessions::in_file(options, vec![hook], Arc::clone(&metrics))
            }
            config::Store::Redis(server) => {
                let options = RedisOptions { server: Arc::clone(server), capacity, keys: Arc::clone(&own_keys) };
                Sessions::in_redis(options, vec![hook], Arc::clone(&metrics))
            }
        });
        let hears = Arc::clone(&streams);
        sessions.tell_news(Arc::new(move |news| match news {
            News::Ended(session) => hears.cut(session),
            News::Changed(_) => {}
            News::Unknown => hears.look_again(),
        }));
        let refresher = Refresher::new(Arc::clone(&sessions), tasks.clone(), Arc::clone(&metrics), clock.clone());
        let shared = Shared {
            sessions,
            refresher: Arc::new(refresher),
            logins: Arc::new(Logins::default()),
            departures: Arc::new(Departures::default()),
            farewells: Arc::default(),
            revoker,
            streams,
            tasks: tasks.clone(),
            metrics: Arc::clone(&metrics),
        };
        Ok(Self { clock, metrics, tasks, shared, clocks: Arc::default(), own_keys })
    }

    /// Where sessions have to move before `snapshot` can take the place of one with `before`; `None`: they stay.
    #[must_use]
    pub fn destination(&self, before: &config::Sessions, snapshot: &Snapshot) -> Option<Destination> {
        let after = &snapshot.config.sessions;
        let capacity = after.max_sessions;
        (!before.store.is_same_place(&after.store)).then(|| match &after.store {
            config::Store::Memory => Destination::Memory(capacity),
            config::Store::File(path) => {
                let keys = Arc::clone(&snapshot.keys);
                Destination::File(FileOptions { path: path.clone(), capacity, keys })
            }
            config::Store::Redis(server) => {
                let (server, keys) = (Arc::clone(server), Arc::clone(&snapshot.keys));
                Destination::Redis(RedisOptions { server, capacity, keys })
            }
        })
    }

    /// Has the lasting things follow `snapshot`, just before requests meet it.
    pub fn adopt(&self, snapshot: &Snapshot) {
        let Shared { sessions, streams, revoker, .. } = &self.shared;
        sessions.adopt(Arc::clone(&snapshot.keys), snapshot.config.sessions.max_sessions);
        if let config::Store::Redis(server) = &snapshot.config.sessions.store {
            sessions.reach(server);
        }
        sessions.serve(snapshot.parties.keys().cloned().collect(), self.clock.now());
        revoker.adopt(snapshot.parties.clone());
        streams.cut_unserved(sessions, snapshot.config.routes.values().map(|route| route.key()).collect());
    }
}

/// The pointer that a reload swaps: a request loads it once.
#[derive(Clone, Debug)]
pub struct Current(Arc<ArcSwap<Snapshot>>);

impl Current {
    /// Points to the first snapshot.
    #[must_use]
    pub fn new(snapshot: Snapshot) -> Self {
        Self(Arc::new(ArcSwap::from_pointee(snapshot)))
    }

    /// The snapshot of this moment.
    #[must_use]
    pub fn load(&self) -> Arc<Snapshot> {
        self.0.load_full()
    }

    /// From now on, requests meet `snapshot`; the old one goes with the last request that holds it.
    pub fn publish(&self, snapshot: Snapshot) -> Arc<Snapshot> {
        self.0.swap(Arc::new(snapshot))
    }
}

/// One configuration, running. Immutable; a request keeps the one it began with.
#[derive(Debug)]
pub struct Snapshot {
    /// What it was built from.
    pub config: Arc<Config>,
    /// The routes of each listener.
    tables: HashMap<Listen, Table>,
    /// Each route by itself, for verdicts.
    verdicts: HashMap<config::Name, Table>,
    /// What seals for these routes.
    keys: Arc<KeyRing>,
    /// Whom sessions can belong to, and the client of each.
    parties: BTreeMap<Party, Client>,
    providers: Vec<Arc<Provider>>,
    upstreams: Vec<Arc<Upstream>>,
}

impl Snapshot {
    /// Builds what `config` says, taking over what is equal in `previous`.
    ///
    /// # Errors
    /// A text for the operator when a part cannot be built; nothing has changed then.
    pub fn build(config: Arc<Config>, previous: Option<&Self>, lasting: &Lasting) -> Result<Self, String> {
        if previous.is_some() {
            refuse_a_vanished_key(&config.sessions)?;
        }
        let mut parts = Parts {
            previous,
            lasting,
            config: &config,
            providers: Vec::new(),
            upstreams: Vec::new(),
            parties: BTreeMap::new(),
        };
        for provider in config.providers.values() {
            parts.provider(provider);
        }
        let keys = if config.sessions.keys.is_empty() {
            Arc::clone(&lasting.own_keys)
        } else {
            let keys = KeyRing::new(&config.sessions.keys).map_err(|error| error.to_string())?;
            // Logins on their way from a time without keys come back to this process, too.
            Arc::new(keys.opening(&lasting.own_keys))
        };
        let mut routes: HashMap<Listen, Vec<Route>> = HashMap::new();
        let mut verdicts = HashMap::new();
        for route in config.routes.values() {
            let running = parts.route(route, &keys)?;
            if config.server.verdict_listen.is_some() {
                verdicts.insert(route.name.clone(), Table::new(vec![running.clone()], &lasting.metrics));
            }
            routes.entry(route.listen.clone()).or_default().push(running);
        }
        let Parts { providers, upstreams, parties, .. } = parts;
        let metrics = &lasting.metrics;
        let tables = routes.into_iter().map(|(listen, routes)| (listen, Table::new(routes, metrics))).collect();
        Ok(Self { tables, verdicts, keys, parties, providers, upstreams, config })
    }

    /// The listeners that this configuration needs for its routes.
    pub fn listens(&self) -> impl Iterator<Item = &Listen> {
        self.tables.keys()
    }

    /// The routes of a listener; `None` after a reload that took it away.
    #[must_use]
    pub fn table(&self, listen: &Listen) -> Option<&Table> {
        self.tables.get(listen)
    }

    /// The route that gives verdicts under `name`.
    #[must_use]
    pub fn verdicts(&self, name: &str) -> Option<&Table> {
        self.verdicts.get(&config::Name::parse(name)?)
    }

    /// The names that series may have.
    #[must_use]
    pub fn names(&self) -> Names {
        let routes = || self.config.routes.values();
        Names {
            routes: routes().map(|route| route.name.to_string()).collect(),
            providers: self.providers.iter().map(|provider| provider.config().name.to_string()).collect(),
            upstreams: routes().flat_map(|route| route.upstreams()).map(|upstream| upstream.name.to_string()).collect(),
        }
    }

    /// The running providers.
    #[must_use]
    pub fn providers(&self) -> &[Arc<Provider>] {
        &self.providers
    }
}

/// A new key now would lock out every session without anybody having asked for that.
fn refuse_a_vanished_key(sessions: &config::Sessions) -> Result<(), String> {
    match &sessions.missing_key {
        None => Ok(()),
        Some(path) => Err(format!("the key file {} is gone: put it back, or restart to have one made", path.display())),
    }
}

/// A snapshot in the making.
struct Parts<'a> {
    previous: Option<&'a Snapshot>,
    lasting: &'a Lasting,
    config: &'a Config,
    providers: Vec<Arc<Provider>>,
    upstreams: Vec<Arc<Upstream>>,
    parties: BTreeMap<Party, Client>,
}

impl Parts<'_> {
    fn provider(&mut self, config: &Arc<config::Provider>) -> Arc<Provider> {
        let before = self.previous.map(|previous| previous.providers.iter()).into_iter().flatten();
        if let Some(equal) = self.providers.iter().chain(before).find(|provider| provider.config() == config) {
            let equal = Arc::clone(equal);
            if !self.providers.iter().any(|provider| Arc::ptr_eq(provider, &equal)) {
                self.providers.push(Arc::clone(&equal));
            }
            return equal;
        }
        let surroundings = Surroundings {
            clock: self.lasting.clock.clone(),
            metrics: Arc::clone(&self.lasting.metrics),
            tasks: self.lasting.tasks.clone(),
            clocks: Arc::clone(&self.lasting.clocks),
        };
        let provider = Provider::start(Arc::clone(config), surroundings);
        self.providers.push(Arc::clone(&provider));
        provider
    }

    fn upstream(&mut self, config: &Arc<config::Upstream>) -> Result<Arc<Upstream>, String> {
        let before = self.previous.map(|previous| previous.upstreams.iter()).into_iter().flatten();
        if let Some(equal) = self.upstreams.iter().chain(before).find(|upstream| upstream.config() == config) {
            let equal = Arc::clone(equal);
            if !self.upstreams.iter().any(|upstream| Arc::ptr_eq(upstream, &equal)) {
                self.upstreams.push(Arc::clone(&equal));
            }
            return Ok(equal);
        }
        let upstream = Upstream::build(Arc::clone(config), &self.lasting.metrics, &self.lasting.shared.streams)?;
        self.upstreams.push(Arc::clone(&upstream));
        Ok(upstream)
    }

    fn route(&mut self, config: &Arc<config::Route>, keys: &Arc<KeyRing>) -> Result<Route, String> {
        let mut rules = Vec::with_capacity(config.paths.len());
        for rule in &config.paths {
            let upstream = rule.upstream.as_ref().map(|upstream| self.upstream(upstream)).transpose()?;
            rules.push(Rule { config: Arc::clone(rule), upstream, owned: self.owned(rule) });
        }
        let (device, bearer) = match &config.mode {
            Mode::AuthCode(mode) => return Ok(Route::AuthCode(self.auth_code(config, mode, rules, keys))),
            Mode::Device(mode) => (Some(self.client(&mode.client)), mode.bearer.as_ref()),
            Mode::Verify(mode) => (None, Some(&mode.bearer)),
        };
        let verifier = bearer.map(|bearer| self.verifier(bearer));
        let metrics = self.lasting.metrics.route(config.name.as_str());
        Ok(Route::Bearer(Arc::new(Bearer::build(Arc::clone(config), (device, verifier), rules, metrics))))
    }

    fn auth_code(
        &mut self,
        config: &Arc<config::Route>,
        mode: &config::AuthCode,
        rules: Vec<Rule>,
        keys: &Arc<KeyRing>,
    ) -> Arc<AuthCode> {
        let clients: Vec<Client> = mode.clients.iter().map(|client| self.client(client)).collect();
        self.parties.extend(clients.iter().map(|client| {
            let (issuer, client_id) =
                (client.registration.provider.issuer.clone(), client.registration.client_id.clone());
            (Party { route: config.name.clone(), issuer, client_id }, client.clone())
        }));
        let limits =
            Limits { idle_timeout: self.config.sessions.idle_timeout, max_lifetime: self.config.sessions.max_lifetime };
        let (parts, limits) = ((Arc::clone(config), mode.clone()), (limits, Arc::clone(keys)));
        Arc::new(AuthCode::build(parts, clients, rules, limits, self.lasting.shared.clone()))
    }

    fn client(&mut self, registration: &Arc<config::Client>) -> Client {
        Client { provider: self.provider(&registration.provider), registration: Arc::clone(registration) }
    }

    fn verifier(&mut self, bearer: &config::Bearer) -> Verifier {
        let issuer = |issuer: &config::Issuer| Issuer {
            provider: self.provider(&issuer.provider),
            introspector: issuer.introspector.as_ref().map(|client| self.client(client)),
        };
        let issuers = bearer.issuers.iter().map(issuer).collect();
        Verifier::new(bearer.clone(), issuers)
    }

    /// The identity headers that the application behind `rule` believes: all that any rule has it told, since it reads
    /// them on every path alike.
    fn owned(&self, rule: &config::PathRule) -> Arc<[HeaderName]> {
        let target = |rule: &config::PathRule| rule.upstream.as_ref().map(|upstream| upstream.target.clone());
        let rules = self.config.routes.values().flat_map(|route| &route.paths);
        let beside = rules.filter(|other| target(other) == target(rule));
        let names: HashSet<HeaderName> =
            beside.flat_map(|other| &other.identity_headers).map(|header| header.name.clone()).collect();
        names.into_iter().collect()
    }
}
