//! All listeners of the process: new ones are bound before anything changes, old ones close after it has.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::task::TaskTracker;
use tracing::{info, warn};

use crate::config::Listen;
use crate::runtime::{Current, Lasting, Snapshot};
use crate::server::admin::Admin;
use crate::server::control::Control;
use crate::server::edge::Edge;
use crate::server::inherited::Inherited;
use crate::server::listener::{Bound, Running};
use crate::server::verdict::Verdicts;
use crate::web::RandomError;

/// How long a scrape may take that is under way when everything else is closed.
const WATCHED: Duration = Duration::from_secs(1);

/// The doors that are open, by the address as configured.
#[derive(Debug)]
pub struct Listeners {
    current: Current,
    lasting: Lasting,
    admin: Arc<Admin>,
    control: Arc<Control>,
    running: BTreeMap<Listen, (Role, Running)>,
    closing: TaskTracker,
    /// The connections of those that reloads have closed.
    former: Vec<TaskTracker>,
    inherited: Inherited,
}

/// What is served at an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    /// Routes, through the edge.
    Routes,
    /// Verdicts for Caddy's `forward_auth`.
    Verdicts,
    /// `/metrics`, `/livez`, `/readyz`.
    Admin,
    /// What operators do.
    Control,
}

impl Role {
    /// The mode of its unix socket. Owner and group where membership lets Caddy in; the owner alone where things are done.
    const fn mode(self) -> u32 {
        match self {
            Self::Routes | Self::Verdicts | Self::Admin => 0o660,
            Self::Control => 0o600,
        }
    }
}

/// A door that is bound, and opens with [`Listeners::commit`].
#[derive(Debug)]
struct Door {
    listen: Listen,
    bound: Bound,
    keeper: Keeper,
}

/// Who answers at a door.
#[derive(Debug)]
enum Keeper {
    Admin(Arc<Admin>),
    Control(Arc<Control>),
    Edge(Arc<Edge>),
    Verdicts(Arc<Verdicts>),
}

/// Everything that a snapshot needs and that was not open before; dropped, it closes again.
#[derive(Debug)]
pub struct Prepared {
    doors: Vec<Door>,
    needed: BTreeMap<Listen, Role>,
    drain: Duration,
}

impl Listeners {
    /// None yet.
    #[must_use]
    pub fn new(current: Current, lasting: Lasting, (admin, control): (Admin, Control), inherited: Inherited) -> Self {
        let (admin, control) = (Arc::new(admin), Arc::new(control));
        let (running, closing) = (BTreeMap::new(), TaskTracker::new());
        Self { current, lasting, admin, control, running, closing, former: Vec::new(), inherited }
    }

    /// Binds what `snapshot` needs and is not open yet. Serves nothing, closes nothing.
    ///
    /// # Errors
    /// The address that cannot be bound, and why.
    pub async fn prepare(&self, snapshot: &Snapshot) -> Result<Prepared, (Listen, io::Error)> {
        let server = &snapshot.config.server;
        let admin = server.metrics_listen.iter().map(|listen| (listen.clone(), Role::Admin));
        let verdicts = server.verdict_listen.iter().map(|listen| (listen.clone(), Role::Verdicts));
        let control = server.control.iter().map(|control| (control.listen.clone(), Role::Control));
        let routes = snapshot.listens().map(|listen| (listen.clone(), Role::Routes));
        let needed: BTreeMap<Listen, Role> = routes.chain(verdicts).chain(admin).chain(control).collect();
        let mut doors = Vec::new();
        for (listen, role) in &needed {
            let bound = match self.running.get(listen) {
                Some((running, _)) if running == role => continue,
                // It changes what it is for: the socket stays, and those in its queue meet the new keeper.
                Some((_, running)) => running.shared().ok_or_else(|| io::Error::other("its listener closes")),
                None => match Bound::prepare(listen, role.mode(), &self.inherited).await {
                    Err(error) if error.kind() == io::ErrorKind::AddrInUse => self.beside(listen, &needed, error),
                    bound => bound,
                },
            };
            let bound = bound.map_err(|error| (listen.clone(), error))?;
            let keeper = self.keeper(*role, listen).map_err(|error| (listen.clone(), io::Error::other(error)))?;
            doors.push(Door { listen: listen.clone(), bound, keeper });
        }
        // The last step, because it is seen from outside: nothing after it can fail.
        for Door { listen, bound, keeper } in &doors {
            bound.set_mode(keeper.role().mode()).map_err(|error| (listen.clone(), error))?;
        }
        Ok(Prepared { doors, needed, drain: server.drain_timeout })
    }

    /// Binds an address that is taken, if that is by sockets of our own that go.
    fn beside(&self, listen: &Listen, needed: &BTreeMap<Listen, Role>, error: io::Error) -> io::Result<Bound> {
        let Listen::Tcp(address) = listen else { return Err(error) };
        let is_in_the_way = |own: &Listen| matches!(own, Listen::Tcp(own) if own.port() == address.port());
        let own = self.running.iter().filter(|(_, (_, running))| is_in_the_way(running.address()));
        let own: Option<Vec<Bound>> = own
            .map(|(listen, (_, running))| running.shared().filter(|_| !needed.contains_key(listen)))
            .collect();
        match own {
            Some(own) if !own.is_empty() => Bound::prepare_beside(&own, *address),
            _ => Err(error),
        }
    }

    fn keeper(&self, role: Role, listen: &Listen) -> Result<Keeper, RandomError> {
        let (current, lasting) = (self.current.clone(), self.lasting.clone());
        Ok(match role {
            Role::Admin => Keeper::Admin(Arc::clone(&self.admin)),
            Role::Control => Keeper::Control(Arc::clone(&self.control)),
            Role::Routes => Keeper::Edge(Arc::new(Edge::new(listen.clone(), current, lasting)?)),
            Role::Verdicts => Keeper::Verdicts(Arc::new(Verdicts::new(current, lasting)?)),
        })
    }

    /// Leaves everything as it was before it was prepared.
    pub fn abandon(&self, prepared: &Prepared) {
        for Door { listen, bound, .. } in &prepared.doors {
            if let Some((role, _)) = self.running.get(listen)
                && let Err(error) = bound.set_mode(role.mode())
            {
                warn!(%listen, %error, "the mode of this socket could not be set back");
            }
        }
    }

    /// Opens what was prepared, and closes what is not needed any more once its requests are done.
    pub fn commit(&mut self, prepared: Prepared) {
        let Prepared { doors, needed, drain } = prepared;
        for Door { listen, bound, keeper } in doors {
            info!(listen = %listen, bound = %bound.address(), "listening");
            // Whoever answered here before finishes what it has begun.
            if let Some(before) = self.running.insert(listen, keeper.open(bound)) {
                self.close(before, drain);
            }
        }
        let gone: Vec<Listen> = self.running.keys().filter(|listen| !needed.contains_key(*listen)).cloned().collect();
        for listen in gone {
            if let Some(before) = self.running.remove(&listen) {
                info!(%listen, "listener closes");
                self.warn_of_held(&listen);
                self.close(before, drain);
            }
        }
    }

    fn close(&mut self, (role, running): (Role, Running), drain: Duration) {
        self.former.retain(|connections| !connections.is_empty());
        if role != Role::Admin {
            self.former.push(running.connections());
        }
        self.closing.spawn(running.close(drain));
    }

    /// Says which sockets of the service manager nobody serves: whoever connects there waits in vain.
    pub fn warn_of_unserved(&self) {
        for listen in self.inherited.addresses().filter(|listen| !self.running.contains_key(listen)) {
            self.warn_of_held(&listen);
        }
    }

    fn warn_of_held(&self, listen: &Listen) {
        if self.inherited.addresses().any(|held| held == *listen) {
            warn!(%listen, "the service manager holds this socket open, and nothing in the configuration listens there");
        }
    }

    /// The bound address of each configured one.
    #[must_use]
    pub fn addresses(&self) -> BTreeMap<Listen, Listen> {
        self.running
            .iter()
            .map(|(listen, (_, running))| (listen.clone(), running.address().clone()))
            .collect()
    }

    /// The connections of all but the operators' listener, and those of listeners that a reload has closed.
    #[must_use]
    pub fn connections(&self) -> Connections {
        let running = self.running.values().filter(|(role, _)| *role != Role::Admin);
        let running = running.map(|(_, running)| running.connections());
        Connections(running.chain(self.former.iter().cloned()).collect())
    }

    /// Closes all; requests in flight may finish within `drain`. Operators can watch: their listener is the last.
    pub async fn shutdown(&mut self, drain: Duration) {
        let mut watched = Vec::new();
        for (role, running) in std::mem::take(&mut self.running).into_values() {
            match role {
                Role::Admin => watched.push(running),
                Role::Routes | Role::Verdicts | Role::Control => drop(self.closing.spawn(running.close(drain))),
            }
        }
        self.closing.close();
        self.closing.wait().await;
        for running in watched {
            running.close(drain.min(WATCHED)).await;
        }
    }
}

/// Connections that are counted while they close.
#[derive(Debug)]
pub struct Connections(Vec<TaskTracker>);

impl Connections {
    /// How many there are still.
    #[must_use]
    pub fn count(&self) -> usize {
        self.0.iter().map(TaskTracker::len).sum()
    }
}

impl Keeper {
    const fn role(&self) -> Role {
        match self {
            Self::Admin(_) => Role::Admin,
            Self::Control(_) => Role::Control,
            Self::Edge(_) => Role::Routes,
            Self::Verdicts(_) => Role::Verdicts,
        }
    }

    /// Answers at `bound` from now on.
    fn open(self, bound: Bound) -> (Role, Running) {
        let role = self.role();
        let running = match self {
            Self::Admin(admin) => {
                let serve = move |request, peer| {
                    let admin = Arc::clone(&admin);
                    async move { Ok::<_, Infallible>(admin.serve(request, peer).await) }
                };
                bound.commit(serve)
            }
            Self::Control(control) => {
                let serve = move |request, _| {
                    let control = Arc::clone(&control);
                    async move { Ok::<_, Infallible>(control.serve(request).await) }
                };
                bound.commit(serve)
            }
            Self::Edge(edge) => {
                let serve = move |request, peer| {
                    let edge = Arc::clone(&edge);
                    async move { Ok::<_, Infallible>(edge.serve(request, peer).await) }
                };
                bound.commit(serve)
            }
            Self::Verdicts(verdicts) => {
                let serve = move |request, peer| {
                    let verdicts = Arc::clone(&verdicts);
                    async move { Ok::<_, Infallible>(verdicts.serve(request, peer).await) }
                };
                bound.commit(serve)
            }
        };
        (role, running)
    }
}
