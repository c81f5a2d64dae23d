//! Property: however a configuration came about, by whatever edits from whatever start, the process that was edited cannot
//! be told from one that was started with it.

use std::collections::BTreeSet;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use vestibule::config::Listen;
use vestibule::demo::provider::{Endpoint, JwtMutation, Kind, Mutation};
use vestibule::reload::{Managed, Options, Sidecar};

use crate::every_key::{CHANGES, base, reload};
use crate::world::World;
use crate::world::observe::{Seen, differences, names, observe};
use crate::world::toml::Toml;
use crate::world::upstream::EchoUpstream;

/// How many sequences are tried, and how long each is.
const SEQUENCES: u32 = 24;
const STEPS: usize = 6;

/// A config is the base with these changes, in this order; some of them may not go together.
type Recipe = Vec<usize>;

fn recipe() -> impl Strategy<Value = Recipe> {
    prop::collection::vec(0..CHANGES.len(), 0..4)
}

/// The config that a recipe makes, in which the control socket stays where it is.
fn cook(world: &World, recipe: &Recipe) -> Toml {
    let mut toml = Toml::default();
    world.edited(|whole| {
        toml = whole.clone();
        whole
    });
    for index in recipe {
        let (key, change) = CHANGES[*index];
        // These two keep the file's readers apart, or the provider out of reach, and tell nothing more here.
        if key != "server.control" && key != "server.listen" {
            change(&mut toml, world.dir());
        }
    }
    toml
}

/// What a process sees like that is started with `toml`.
async fn fresh(world: &World, toml: &Toml) -> Seen {
    let dir = tempfile::tempdir_in(world.dir()).unwrap();
    for name in ["control.token", "one.key", "two.key", "wrong.secret", "web.secret", "ca.pem"] {
        let (from, to) = (world.dir().join(name), dir.path().join(name));
        std::fs::copy(from, to).unwrap();
    }
    // One socket has one process.
    let mut toml = toml.clone();
    toml.text("server", "control", &format!("unix:{}", dir.path().join("control.sock").display()));
    let config_path = dir.path().join("vestibule.toml");
    std::fs::write(&config_path, toml.render()).unwrap();
    let options =
        Options { config_path, clock: world.clock.clone(), apply_log: Box::new(|_| {}), managed: Managed::default() };
    let sidecar = Sidecar::start(options).await.unwrap_or_else(|error| panic!("{error}"));
    // The first look makes the series, and fetches what providers publish.
    observe(world, &sidecar).await;
    let mut seen = observe(world, &sidecar).await;
    sidecar.shutdown().await;
    forget_what_may_differ(&mut seen);
    seen
}

/// The control socket is another one, and names that were asked for before have series that a fresh start makes later.
fn forget_what_may_differ(seen: &mut Seen) {
    seen.remove("listeners");
    seen.remove("series");
}

/// No name has a series that is not in the config.
fn series_are_of_names_that_are_there(world: &World) {
    let sidecar = world.sidecar();
    let (known, text) = (sidecar.snapshot().names(), sidecar.lasting().metrics.render());
    let store = [sidecar.lasting().shared.sessions.state().0.to_owned()].into();
    for (label, known) in
        [("route", &known.routes), ("provider", &known.providers), ("upstream", &known.upstreams), ("store", &store)]
    {
        let shown = names(&text, label);
        let strange: Vec<_> = shown.iter().filter(|name| !name.is_empty() && !known.contains(*name)).collect();
        assert!(strange.is_empty(), "{label}: {strange:?} are not in the config");
    }
}

/// Every address in the config.
fn configured(world: &World) -> BTreeSet<String> {
    let config = &world.sidecar().snapshot().config;
    let control = config.server.control.as_ref().map(|control| &control.listen);
    let server = [config.server.verdict_listen.as_ref(), config.server.metrics_listen.as_ref(), control];
    let routes = config.routes.values().map(|route| &route.listen);
    server.into_iter().flatten().chain(routes).map(Listen::to_string).collect()
}

/// Applies all of `recipes`, and looks at what came of it.
async fn edited(world: &World, recipes: &[Recipe]) -> Option<(Toml, Seen)> {
    let mut last = None;
    for recipe in recipes {
        let toml = cook(world, recipe);
        let answer = reload(world, &toml.render()).await;
        if answer.starts_with("HTTP/1.1 200 ") {
            last = Some(toml);
        } else {
            // What does not go together changes nothing.
            assert!(answer.starts_with("HTTP/1.1 422 "), "{answer}");
        }
    }
    let toml = last?;
    observe(world, world.sidecar()).await;
    let mut seen = observe(world, world.sidecar()).await;
    series_are_of_names_that_are_there(world);
    let listens: BTreeSet<String> = world.sidecar().addresses().await.keys().map(Listen::to_string).collect();
    assert_eq!(listens, configured(world), "who listens where");
    forget_what_may_differ(&mut seen);
    Some((toml, seen))
}

#[test]
fn any_sequence_of_edits_ends_like_a_fresh_start_with_the_last_one() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let (world, _second) = runtime.block_on(async {
        let second = EchoUpstream::start().await;
        let world = base(&second).await;
        let remove = Kind::IdToken(JwtMutation::RemoveClaim("jti"));
        world.provider.mutate(Mutation::always(Endpoint::Token, remove));
        (world, second)
    });
    let config = Config { cases: SEQUENCES, max_shrink_iters: 20, failure_persistence: None, ..Config::default() };
    let mut runner = TestRunner::new(config);
    let tried = std::cell::Cell::new(0);
    let outcome = runner.run(&prop::collection::vec(recipe(), 1..=STEPS), |recipes| {
        let left = runtime.block_on(async {
            let (toml, seen) = edited(&world, &recipes).await?;
            tried.set(tried.get() + 1);
            Some(differences(&seen, &fresh(&world, &toml).await))
        });
        let left = left.unwrap_or_default();
        let names: Vec<Vec<&str>> =
            recipes.iter().map(|recipe| recipe.iter().map(|index| CHANGES[*index].0).collect()).collect();
        prop_assert!(left.is_empty(), "after {names:#?} this is not as in a fresh start: {left:#?}");
        Ok(())
    });
    outcome.unwrap_or_else(|error| panic!("{error}"));
    assert!(tried.get() > 4, "hardly any sequence was tried");
    runtime.block_on(async {
        // The last edit may have moved what the end of a story looks at.
        let answer = reload(&world, &cook(&world, &Recipe::default()).render()).await;
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        world.finish().await;
    });
}
