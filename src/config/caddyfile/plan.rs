//! Which of a site's requests go where, and in which order Caddy has to look: whatever is more specific comes first.

use std::sync::Arc;

use crate::config::path_rule::ENDPOINTS;
use crate::config::{Authorization, Listen, Mode, PathRule, Route, resource_metadata_path};

/// Who answers.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Target<'a> {
    /// A listener of Vestibule's.
    Listener(&'a Listen),
    /// The app itself, once this route has given its verdict.
    App {
        route: &'a Route,
        /// What becomes of `Authorization`, which Caddy must know.
        authorization: Authorization,
    },
}

/// How much of a path is meant.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Reach {
    Itself,
    Below,
    Both,
}

/// Requests under one path, and who answers them.
struct Place<'a> {
    path: String,
    reach: Reach,
    target: Target<'a>,
    route: &'a Route,
    /// Whether only those are meant who are no browser, or bring a bearer.
    programs: bool,
    metadata: bool,
}

/// Requests that Caddy can tell in one go.
pub(super) struct Group<'a> {
    pub(super) target: Target<'a>,
    /// Those who ask for these, in the order of their names.
    pub(super) routes: Vec<&'a Route>,
    /// Caddy's patterns; empty: everything.
    pub(super) patterns: Vec<String>,
    pub(super) programs: bool,
    /// Whether this is where clients find out about a resource, and nothing else.
    pub(super) metadata: bool,
}

/// All requests of one site.
pub(super) struct Plan<'a> {
    /// In the order in which Caddy must try them.
    pub(super) groups: Vec<Group<'a>>,
    /// Routes that want the same as another, which comes first, and nothing tells them apart.
    pub(super) hidden: Vec<(&'a Route, &'a Route)>,
}

impl Plan<'_> {
    /// Whether nothing of the site is left over.
    pub(super) fn is_whole(&self) -> bool {
        self.groups.iter().any(|group| group.patterns.is_empty() && !group.programs)
    }
}

/// Plans the site of `routes`.
pub(super) fn plan<'a>(routes: &[&'a Arc<Route>]) -> Plan<'a> {
    let mut places: Vec<Place<'a>> = routes.iter().flat_map(|route| places(route)).collect();
    for index in 0..places.len() {
        let shared = places.get(index).is_some_and(|place| is_shared(place, &places));
        if let Some(place) = places.get_mut(index) {
            place.programs = shared;
        }
    }
    // How to log in is for clients of every name, so it stands apart from what is told apart by name.
    let shared: Vec<Target<'_>> = places.iter().filter(|place| place.programs).map(|place| place.target).collect();
    for place in &mut places {
        place.metadata &= shared.contains(&place.target);
    }
    let hidden = drop_hidden(&mut places);
    drop_needless(&mut places);
    places.sort_by_key(|place| (!place.metadata, !place.programs));
    Plan { groups: grouped(places), hidden }
}

/// Everything that a route answers. Caddy compares more loosely than Vestibule does (decoded, in any case), so it sends
/// rather too much than too little.
fn places(route: &Route) -> Vec<Place<'_>> {
    let place = |path: String, reach, target| Place { path, reach, target, route, programs: false, metadata: false };
    let listener = Target::Listener(&route.listen);
    let endpoints: &[&str] = match route.mode {
        Mode::AuthCode(_) => ENDPOINTS,
        Mode::Device(_) => &["login"],
        Mode::Verify(_) => &[],
    };
    let endpoints = endpoints.iter().map(|name| {
        let reach = match *name {
            "login" => Reach::Below,
            "logout" => Reach::Both,
            _ => Reach::Itself,
        };
        place(format!("{}/{name}", route.base_path), reach, listener)
    });
    let metadata = route
        .mode
        .resource()
        .map(|resource| Place { metadata: true, ..place(resource_metadata_path(resource), Reach::Itself, listener) });
    // Longest first in the config; people read them the other way round.
    let rules = route.paths.iter().rev().map(|rule: &Arc<PathRule>| {
        let target = match rule.upstream {
            Some(_) => listener,
            None => Target::App { route, authorization: rule.authorization },
        };
        place(rule.prefix.trim_end_matches('/').to_owned(), Reach::Both, target)
    });
    endpoints.chain(metadata).chain(rules).collect()
}

/// Whether browsers, too, have a right to the requests of a place for bearers. An API of its own below a path of theirs
/// is not shared; a CLI's paths always are, because nobody else logs in there.
fn is_shared(place: &Place<'_>, places: &[Place<'_>]) -> bool {
    let cli = match place.route.mode {
        Mode::AuthCode(_) => return false,
        Mode::Device(_) => true,
        Mode::Verify(_) => false,
    };
    let of_browsers =
        |other: &&Place<'_>| matches!(other.route.mode, Mode::AuthCode(_)) && other.target != place.target;
    !place.metadata
        && places.iter().filter(of_browsers).any(|other| equals(other, place) || cli && contains(other, place))
}

/// Drops what comes second: the same path for another target, and no condition between the two.
fn drop_hidden<'a>(places: &mut Vec<Place<'a>>) -> Vec<(&'a Route, &'a Route)> {
    let mut hidden: Vec<(&Route, &Route)> = Vec::new();
    let mut kept: Vec<Place<'_>> = Vec::new();
    for place in places.drain(..) {
        let first = kept
            .iter()
            .find(|first| equals(first, &place) && first.programs == place.programs && first.target != place.target);
        match first.map(|first| (place.route, first.route)) {
            Some(pair) if !hidden.iter().any(|known| known.0.name == pair.0.name && known.1.name == pair.1.name) => {
                hidden.push(pair);
            }
            Some(_) => {}
            None => kept.push(place),
        }
    }
    *places = kept;
    hidden
}

/// Drops what goes to the same target without being named: below a path whose requests go there anyway.
fn drop_needless(places: &mut Vec<Place<'_>>) {
    let needless = |place: &Place<'_>| {
        let above = places.iter().filter(|above| !above.programs && contains(above, place));
        let nearest = above.max_by_key(|above| above.path.len());
        nearest.is_some_and(|nearest| {
            let between = |other: &Place<'_>| {
                other.programs && (contains(other, place) || equals(other, place)) && !contains(other, nearest)
            };
            // What is taken from browsers' paths is taken first in any case.
            nearest.target == place.target && (place.is_for_browsers() || !places.iter().any(between))
        })
    };
    let keep: Vec<bool> = places.iter().map(|place| place.programs || !needless(place)).collect();
    let mut keep = keep.into_iter();
    places.retain(|_| keep.next().unwrap_or(true));
}

/// Whether `first` must be tried before `place`: it is more specific, or it takes from browsers' paths what is for others.
fn goes_first(first: &Place<'_>, place: &Place<'_>) -> bool {
    let takes = |programs: &Place<'_>, others: &Place<'_>| {
        programs.programs && others.is_for_browsers() && (equals(programs, others) || contains(programs, others))
    };
    takes(first, place) || contains(place, first) && !takes(place, first)
}

/// Puts together what goes the same way, as far as nothing more specific has to come between.
fn grouped(mut left: Vec<Place<'_>>) -> Vec<Group<'_>> {
    let mut groups = Vec::new();
    while !left.is_empty() {
        let is_alike = |one: &Place<'_>, other: &Place<'_>| {
            one.target == other.target && one.programs == other.programs && one.metadata == other.metadata
        };
        let is_ready =
            |place: &Place<'_>| !left.iter().any(|other| goes_first(other, place) && !is_alike(place, other));
        let ready: Vec<bool> = left.iter().map(is_ready).collect();
        // Whoever can go as a whole goes first; what is longest is always ready.
        let whole = left
            .iter()
            .position(|place| left.iter().zip(&ready).all(|(other, ready)| *ready || !is_alike(place, other)));
        let first = whole.or_else(|| ready.iter().position(|ready| *ready)).unwrap_or_default();
        let Some(leader) = left.get(first) else { break };
        let takes: Vec<bool> =
            left.iter().zip(&ready).map(|(place, ready)| *ready && is_alike(leader, place)).collect();
        let mut takes = takes.into_iter();
        let (taken, rest): (Vec<_>, Vec<_>) = left.into_iter().partition(|_| takes.next().unwrap_or(true));
        groups.extend(group(&taken));
        left = rest;
    }
    groups
}

fn group<'a>(places: &[Place<'a>]) -> Option<Group<'a>> {
    let first = places.first()?;
    let mut routes: Vec<&Route> = Vec::new();
    let mut patterns: Vec<String> = Vec::new();
    for place in places {
        if !routes.iter().any(|route| route.name == place.route.name) {
            routes.push(place.route);
        }
        for pattern in place.patterns() {
            if !patterns.contains(&pattern) {
                patterns.push(pattern);
            }
        }
    }
    if places.iter().any(|place| place.path.is_empty()) {
        patterns.clear();
    }
    Some(Group { target: first.target, routes, patterns, programs: first.programs, metadata: first.metadata })
}

impl Place<'_> {
    const fn is_for_browsers(&self) -> bool {
        matches!(self.route.mode, Mode::AuthCode(_))
    }

    fn patterns(&self) -> Vec<String> {
        let below = || format!("{}/*", self.path);
        match self.reach {
            Reach::Itself => vec![self.path.clone()],
            Reach::Below => vec![below()],
            Reach::Both => vec![self.path.clone(), below()],
        }
    }
}

/// Whether both mean some of the same requests, and neither more closely than the other. Caddy ignores case.
fn equals(one: &Place<'_>, other: &Place<'_>) -> bool {
    let apart = matches!((one.reach, other.reach), (Reach::Itself, Reach::Below) | (Reach::Below, Reach::Itself));
    one.path.eq_ignore_ascii_case(&other.path) && !apart
}

/// Whether `inner` is below `outer`, and so means its requests more closely.
fn contains(outer: &Place<'_>, inner: &Place<'_>) -> bool {
    let (outer_path, inner_path) = (outer.path.to_ascii_lowercase(), inner.path.to_ascii_lowercase());
    outer.reach != Reach::Itself && inner_path.strip_prefix(&outer_path).is_some_and(|rest| rest.starts_with('/'))
}
