//! Promise 1 under load, through a real Caddy: a hundred and more reloads of every kind, good and broken, while people
//! call, ask for verdicts, log in and out, and keep WebSockets and event streams. Nobody notices.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::{Method, StatusCode};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;

use crate::caddies;
use crate::caddy;
use crate::client::{self, Handle};
use crate::streams;
use crate::traffic::{Tally, Traffic};
use crate::world::World;
use crate::world::caddy::Caddy;
use crate::world::live::SocketUpstream;
use crate::world::toml::Toml;

const REQUESTS: u64 = 100_000;
/// What is asked before the reloads begin, to compare with.
const BEFORE: u64 = 20_000;
const RELOADS: usize = 120;
/// Sessions that are there from the beginning to the end.
const SESSIONS: usize = 8;

/// A world as it stands behind a Caddy: an API and WebSockets that are proxied, and an app that Caddy asks about. Not a
/// process yet.
pub async fn world(api: std::net::SocketAddr, sockets: String) -> World {
    let world = World::builder()
        .config(move |toml| {
            toml.text("upstreams.api", "url", &format!("http://{api}"))
                .unset("routes.web", "upstream")
                .set("routes.web.paths", "\"/api/\"", "{ upstream = \"api\" }")
                .set("routes.web.paths", "\"/api/socket/\"", &format!("{{ upstream = \"{sockets}\" }}"))
        })
        .provider(|options| options.access_token_lifetime = Duration::from_secs(20))
        .start()
        .await;
    world.clock.run();
    let dir = world.dir().to_owned();
    for name in ["one.key", "two.key"] {
        std::fs::write(dir.join(name), name.repeat(8)).unwrap();
        std::fs::set_permissions(dir.join(name), PermissionsExt::from_mode(0o600)).unwrap();
    }
    let unix = |name: &str| format!("unix:{}", dir.join(name).display());
    world.edited(|toml| {
        toml.text("server", "verdict_listen", &unix("verdict.sock"))
            .text("server", "control", &unix("control.sock"))
            .set("sessions", "keys", "[{ file = \"one.key\" }]")
            .set("routes.web.paths", "\"/app/\"", "{}")
    });
    world
}

/// A Caddy before it.
pub async fn caddy(world: &World, api: std::net::SocketAddr, binary: &std::path::Path) -> Caddy {
    let text = caddy::caddyfile(world).await;
    assert!(text.contains("{$WEB_APP}"), "{text}");
    Caddy::start(binary, &world.dir().join("caddy"), &text.replace("{$WEB_APP}", &api.to_string()), &[]).await
}

/// A change that takes nothing from anybody, the `turn`-th of its kind.
type Change = fn(&mut Toml, usize);

const CHANGES: &[(&str, Change)] = &[
    ("a route's home", |toml, turn| {
        toml.text("routes.web", "home_url", &format!("https://app.test/{turn}"));
    }),
    ("the log", |toml, turn| {
        toml.text("log", "level", ["info", "warn,vestibule=info"][turn % 2]);
    }),
    ("another route, which comes and goes", |toml, turn| {
        if turn % 2 == 0 {
            toml.text("routes.extra", "mode", "auth-code")
                .text("routes.extra", "public_url", "https://extra.test")
                .text("routes.extra", "upstream", "api");
        } else {
            toml.remove("routes.extra");
        }
    }),
    ("the pool of the API", |toml, turn| {
        toml.text("upstreams.api", "response_timeout", &format!("{}s", 50 + turn));
    }),
    ("the provider, whose keys are fetched anew", |toml, turn| {
        toml.text("providers.corp", "clock_skew", &format!("{}s", 60 + turn));
    }),
    ("the limits of sessions", |toml, turn| {
        toml.text("sessions", "idle_timeout", ["29m", "30m"][turn % 2]);
    }),
    ("a new key in front", |toml, turn| {
        let keys =
            ["[{ file = \"two.key\" }, { file = \"one.key\" }]", "[{ file = \"one.key\" }, { file = \"two.key\" }]"];
        toml.set("sessions", "keys", keys[turn % 2]);
    }),
    ("the store", |toml, turn| {
        let stores = ["{ file = \"a.redb\" }", "{ file = \"b.redb\" }", "\"memory\""];
        toml.set("sessions", "store", stores[turn % 3]);
    }),
    ("the proxies", |toml, turn| {
        let lists = ["[\"127.0.0.0/8\"]", "[\"127.0.0.0/8\", \"::1/128\", \"10.0.0.0/8\"]"];
        toml.set("server", "trusted_proxies", lists[turn % 2]);
    }),
    ("a listener, which opens and closes", |toml, turn| {
        toml.text("routes.more", "mode", "device")
            .text("routes.more", "client_id", "web")
            .text("routes.more", "public_url", "https://more.test")
            .text("routes.more", "upstream", "api")
            .set("routes.more", "verify", "false")
            .text("routes.more", "listen", ["127.0.0.5:0", "127.0.0.6:0"][turn % 2]);
    }),
    ("a rule", |toml, turn| {
        let rules = ["{ upstream = \"api\", max_body = \"1MiB\" }", "{ upstream = \"api\" }"];
        toml.set("routes.web.paths", "\"/api/\"", rules[turn % 2]);
    }),
];

/// What breaks a config, all in its own way.
const BREAKS: &[fn(&str) -> Vec<u8>] = &[
    |text| format!("{text}\n[routes").into(),
    |text| text.replace("mode = \"auth-code\"", "mode = \"magic\"").into(),
    |text| text.replace("[providers.corp]", "[providers.corp]\nisuer = \"x\"").into(),
    |text| [text.as_bytes(), b"\0"].concat(),
    |_| Vec::new(),
    |text| {
        let route = "mode = \"auth-code\"\npublic_url = \"https://bad.test\"\nupstream = \"api\"";
        format!("{text}\n[routes.bad]\n{route}\nlisten = \"203.0.113.9:9\"\n").into()
    },
    |text| text.replace("client_secret = { file", "client_secret = { file = \"gone\", filee").into(),
    |text| text.replace("[sessions]", "[sessions]\nstore_ = 1").into(),
    |_| b"\xff\xfe".repeat(1 << 18),
];

/// What came of a reload that was asked for.
async fn ask_to_reload(socket: &PathBuf) -> u16 {
    let mut stream = UnixStream::connect(socket).await.unwrap();
    stream.write_all(b"POST /-/reload HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await.unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    text.split(' ').nth(1).unwrap().parse().unwrap()
}

/// Edits the file in the way whose turn it is, and has it read in the way whose turn it is.
async fn save(world: &World, turn: usize, bytes: &[u8]) -> u16 {
    let path = world.dir().join("vestibule.toml");
    if turn % 3 == 0 {
        std::fs::write(&path, bytes).unwrap();
    } else {
        let new = path.with_extension("new");
        std::fs::write(&new, bytes).unwrap();
        std::fs::rename(&new, &path).unwrap();
    }
    match turn % 4 {
        // It is noticed all by itself, and there is nothing left to do when somebody asks.
        0 => tokio::time::sleep(Duration::from_millis(900)).await,
        1 => world.process().signal("HUP"),
        _ => {}
    }
    ask_to_reload(&world.dir().join("control.sock")).await
}

async fn reload(world: &World, turn: usize) {
    let (what, change) = CHANGES[turn % CHANGES.len()];
    if turn % 3 == 2 {
        let good = world.edited(|toml| toml);
        let broken = BREAKS[turn / 3 % BREAKS.len()](&good);
        assert_eq!(save(world, turn, &broken).await, 422, "turn {turn} breaks the config");
        assert_eq!(save(world, turn, good.as_bytes()).await, 200, "turn {turn} takes it back");
    }
    let text = world.edited(|toml| {
        change(toml, turn / CHANGES.len());
        toml
    });
    assert_eq!(save(world, turn, text.as_bytes()).await, 200, "turn {turn}: {what}");
}

pub fn told(what: &str, tally: &Tally) {
    println!(
        "{what}: {} requests, {} logins, {} beats, p50 {:.1?}, p99 {:.1?}",
        tally.requests(),
        tally.logins,
        tally.beats,
        tally.within(0.5),
        tally.within(0.99)
    );
    assert!(
        tally.wrong.is_empty(),
        "{} went wrong, such as {:#?}",
        tally.wrong.len(),
        &tally.wrong[..tally.wrong.len().min(9)]
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a29_a_hundred_reloads_under_load_and_nobody_notices() {
    let api = streams::api(Arc::default()).await;
    let sockets = SocketUpstream::start().await;
    let mut world = world(api, sockets.url()).await;
    world.become_process().await;
    let binary = caddies::all().into_iter().next().expect("there is no Caddy to test with; tests/run fetches two");
    let caddy = caddy(&world, api, &binary).await;
    let mut handles: Vec<Handle> = Vec::new();
    for number in 0..SESSIONS {
        handles.push(client::login(caddy.address, ["alice", "bob", "carol"][number % 3]).await.unwrap());
    }
    let before = Traffic::begin(caddy.address, &handles);
    before.reach(BEFORE).await;
    told("without reloads", &before.end().await);

    let begun = Instant::now();
    let during = Traffic::begin(caddy.address, &handles).with_streams(caddy.address, &handles[..4]).await;
    let mut reloads = 0;
    while reloads < RELOADS || during.answered() < REQUESTS {
        reload(&world, reloads).await;
        reloads += 1;
        // Evenly over the whole run.
        during.reach(REQUESTS * reloads as u64 / RELOADS as u64).await;
    }
    let served = world.log_lines("configuration reloaded").len();
    let refused = world.log_lines("configuration refused").len();
    println!("{served} reloads that served and {refused} that were refused in {:.0?}", begun.elapsed());
    told("with reloads", &during.end().await);
    assert!(served >= RELOADS - CHANGES.len() && refused >= RELOADS / 4, "{served} served, {refused} refused");
    for handle in &handles {
        let status = client::fetch(caddy.address, Method::GET, "/api/me", handle).await.unwrap();
        assert_eq!(status, StatusCode::OK, "a session was lost");
    }
    assert_eq!(world.provider.reuses(), 0);
    let slow: Vec<String> = world.log_lines("configuration reloaded");
    let longest = slow
        .iter()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok()?["since_save"].as_u64());
    println!("from a save to serving: {} ms at the most", longest.max().unwrap_or_default());
    world.finish().await;
}
