//! Every key of the reference takes effect by reload, and none needs a restart: each is changed in a running process, and
//! what is seen from outside is another thing afterwards, and the old one when the edit is taken back.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use vestibule::config::{self, Listen, Log, LogFormat};
use vestibule::demo::provider::{Client, Endpoint, JwtMutation, Kind, Mutation};
use vestibule::reload::{Managed, Options, Sidecar};
use vestibule::time::Clock;

use crate::world::observe::{differences, observe};
use crate::world::toml::Toml;
use crate::world::upstream::EchoUpstream;
use crate::world::{World, eventually};

const TOKEN: &str = "a control token of more than 32 bytes, for tests";

/// How a key is changed; the path is that of the config's folder.
pub type Change = fn(&mut Toml, &Path);

/// The rule of the base with something more.
fn rule(toml: &mut Toml, more: &str) {
    toml.set("routes.web.paths", "\"/api/\"", &format!("{{ identity_headers = \"oauth2-proxy\", {more} }}"));
}

macro_rules! set {
    ($table:literal, $key:literal, $raw:literal) => {
        (concat!($table, ".", $key), |toml, _| {
            toml.set($table, $key, $raw);
        })
    };
    ($name:literal: $table:literal, $key:literal, $raw:literal) => {
        ($name, |toml, _| {
            toml.set($table, $key, $raw);
        })
    };
}

macro_rules! rule {
    ($key:literal, $raw:literal) => {
        (concat!("routes.web.paths.\"/api/\".", $key), |toml, _| rule(toml, concat!($key, " = ", $raw)))
    };
}

pub const CHANGES: &[(&str, Change)] = &[
    set!("server", "listen", "\"127.0.0.3:0\""),
    set!("server", "verdict_listen", "\"127.0.0.4:0\""),
    set!("server", "metrics_listen", "\"127.0.0.5:0\""),
    set!("server", "metrics_hosts", "[\"vestibule.example.net\"]"),
    ("server.control", |toml, dir| {
        toml.text("server", "control", &unix(dir, "other.sock"));
    }),
    set!("server", "control_token", "{ file = \"control.token\" }"),
    set!("server", "trusted_proxies", "[\"10.0.0.0/8\"]"),
    set!("server", "drain_timeout", "\"7s\""),
    set!("server", "stream_close_delay", "\"3s\""),
    set!("sessions", "store", "{ file = \"state/sessions.redb\" }"),
    set!("sessions", "keys", "[{ file = \"two.key\" }]"),
    set!("sessions", "idle_timeout", "\"20m\""),
    set!("sessions", "max_lifetime", "\"5h\""),
    set!("sessions", "max_sessions", "1"),
    set!("log", "level", "\"debug\""),
    set!("log", "format", "\"human\""),
    set!("providers.corp", "issuer", "\"http://127.0.0.1:1/realms/corp\""),
    set!("providers.corp", "backchannel", "\"http://127.0.0.1:1/realms/corp\""),
    set!("providers.corp.jwks_uri": "providers.extra", "jwks_uri", "\"http://127.0.0.1:1/others\""),
    set!("providers.corp", "introspection", "true"),
    set!("providers.corp", "clock_skew", "\"5s\""),
    set!("providers.corp", "ca_file", "\"ca.pem\""),
    set!("providers.corp", "signing_algs", "[\"ES256\"]"),
    set!("providers.corp", "max_stale", "\"1h\""),
    set!("providers.corp", "required_for_ready", "true"),
    set!("providers.corp", "client_id", "\"second\""),
    set!("providers.corp", "client_secret", "{ file = \"wrong.secret\" }"),
    set!("providers.corp", "token_endpoint_auth_method", "\"client_secret_post\""),
    set!("providers.corp", "scopes", "[\"openid\", \"email\"]"),
    set!("providers.corp", "authorization_params", "{ audience = \"x\" }"),
    set!("providers.corp", "forwarded_params", "{ kc_idp_hint = [\"github\"] }"),
    set!("providers.corp", "userinfo", "\"off\""),
    set!("providers.corp", "additional_audiences", "[\"z\"]"),
    set!("providers.corp", "require_at_hash", "true"),
    set!("providers.corp", "id_token_hint", "false"),
    ("upstreams.api.url", |toml, dir| {
        let second = std::fs::read_to_string(dir.join("second.url")).unwrap();
        toml.text("upstreams.api", "url", &second);
    }),
    set!("upstreams.api", "host", "\"upstream\""),
    set!("upstreams.api", "ca_file", "\"ca.pem\""),
    set!("upstreams.api", "connect_timeout", "\"1s\""),
    set!("upstreams.api", "response_timeout", "\"7s\""),
    set!("upstreams.api", "idle_timeout", "\"7s\""),
    ("routes.web.mode", |toml, _| {
        toml.text("routes.cli", "mode", "verify").unset("routes.cli", "client_id");
    }),
    set!("routes.web", "listen", "\"127.0.0.6:0\""),
    set!("routes.web.provider": "routes.things", "provider", "\"extra\""),
    ("routes.web.providers", |toml, _| {
        toml.unset("routes.things", "provider").set("routes.things", "providers", "[\"extra\"]");
    }),
    set!("routes.web", "public_url", "[\"https://app.test\", \"https://other.test\"]"),
    set!("routes.web", "base_path", "\"/auth\""),
    set!("routes.web", "redirect_uri", "\"https://app.test/\""),
    set!("routes.web", "home_url", "\"https://app.test/api/home\""),
    set!("routes.web", "allowed_origins", "[\"https://www2.test\"]"),
    set!("routes.web", "expose_headers", "[\"X-Total-Count\"]"),
    set!("routes.web", "allowed_redirects", "[\"https://app.test/only/\"]"),
    set!("routes.web", "groups_claim", "\"realm_access.roles\""),
    set!("routes.web", "claims_source", "\"access_token\""),
    set!("routes.web", "claims", "\"all\""),
    set!("routes.web.audiences": "routes.things", "audiences", "[\"other\"]"),
    ("routes.web.verify", |toml, _| {
        toml.set("routes.cli", "verify", "false").unset("routes.cli", "audiences");
    }),
    set!("routes.web.authorized_parties": "routes.things", "authorized_parties", "[\"nobody\"]"),
    set!("routes.web.required_scopes": "routes.things", "required_scopes", "[\"admin\"]"),
    set!("routes.web.token_profile": "routes.things", "token_profile", "\"rfc9068\""),
    set!("routes.web.resource": "routes.things", "resource", "\"https://things.test/api\""),
    set!("routes.web", "upstream", "\"second\""),
    ("routes.web.client_id", |toml, _| {
        toml.text("routes.web", "client_id", "second")
            .set("routes.web", "client_secret", "{ file = \"web.secret\" }");
    }),
    rule!("upstream", "\"second\""),
    rule!("strip_prefix", "\"/api\""),
    rule!("unauthenticated", "\"login\""),
    rule!("methods", "[\"GET\"]"),
    rule!("allowed_groups", "[\"nobody\"]"),
    rule!("allowed_email_domains", "[\"other.test\"]"),
    rule!("required_claims", "{ department = [\"it\"] }"),
    rule!("acr_values", "[\"urn:example:mfa\"]"),
    rule!("max_age", "\"15m\""),
    ("routes.web.paths.\"/api/\".identity_headers", |toml, _| {
        toml.set("routes.web.paths", "\"/api/\"", "{ identity_headers = \"authelia\" }");
    }),
    rule!("authorization", "\"remove\""),
    rule!("csrf_header", "\"X-CSRF\""),
    rule!("max_body", "\"1KiB\""),
];

/// Keys whose change shows only when something fails or takes its time; that it is in the running config is seen all the
/// same, and other stories tell of the effect: of times, certificates, keys and the log.
const UNSEEN: &[&str] = &[
    "log.format",
    "log.level",
    "providers.corp.additional_audiences",
    "providers.corp.ca_file",
    "providers.corp.introspection",
    "providers.corp.jwks_uri",
    "providers.corp.max_stale",
    "providers.corp.require_at_hash",
    "server.drain_timeout",
    "server.stream_close_delay",
    "sessions.keys",
    "upstreams.api.ca_file",
    "upstreams.api.connect_timeout",
    "upstreams.api.idle_timeout",
    "upstreams.api.response_timeout",
];

/// The keys of the reference, by table.
fn reference() -> BTreeSet<String> {
    let (mut keys, mut table) = (BTreeSet::new(), String::new());
    for line in config::reference().lines() {
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            name.clone_into(&mut table);
        }
        let line = line.strip_prefix("# ").unwrap_or(line);
        if let Some((key, _)) = line.split_once(" = ")
            && key.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_')
        {
            keys.insert(format!("{table}.{key}"));
        }
    }
    keys
}

fn unix(dir: &Path, name: &str) -> String {
    format!("unix:{}", dir.join(name).display())
}

pub async fn base(second: &EchoUpstream) -> World {
    let world = World::builder()
        .provider(|options| {
            let mut client = options.clients.remove(0);
            for uri in ["https://app.test/", "https://app.test/auth/login/end", "https://other.test/login/end"] {
                client = client.redirect_uri(uri);
            }
            let mut second = client.clone();
            second.id = "second".to_owned();
            options.clients.extend([client, second, Client::public("cli").with_device_flow()]);
        })
        .start()
        .await;
    let dir = world.dir().to_owned();
    let key = rcgen::KeyPair::generate().unwrap();
    let ca = rcgen::CertificateParams::new(Vec::new()).unwrap().self_signed(&key).unwrap();
    let pem = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, ca.der());
    let pem = format!("-----BEGIN CERTIFICATE-----\n{pem}\n-----END CERTIFICATE-----\n");
    for (name, text) in [
        ("control.token", TOKEN),
        ("one.key", "one key of more than 32 bytes, for tests only"),
        ("two.key", "two key of more than 32 bytes, for tests only"),
        ("wrong.secret", "a secret that the provider does not know"),
        ("second.url", &second.url()),
        ("ca.pem", &pem),
    ] {
        std::fs::write(dir.join(name), text).unwrap();
        std::fs::set_permissions(dir.join(name), std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    }
    let served = world.edit(|toml| {
        toml.text("server", "control", &unix(&dir, "control.sock"))
            .set("sessions", "keys", "[{ file = \"one.key\" }]")
            .text("providers.extra", "issuer", "https://keys.example")
            .text("providers.extra", "jwks_uri", "http://127.0.0.1:1/keys")
            .text("upstreams.second", "url", &second.url())
            .text("routes.web", "provider", "corp")
            .set("routes.web", "allowed_origins", "[\"https://www.test\"]")
            .text("routes.cli", "mode", "device")
            .text("routes.cli", "provider", "corp")
            .text("routes.cli", "client_id", "cli")
            .text("routes.cli", "public_url", "https://cli.test")
            .set("routes.cli", "audiences", "[\"api\"]")
            .text("routes.cli", "upstream", "api")
            .text("routes.things", "mode", "verify")
            .text("routes.things", "provider", "corp")
            .text("routes.things", "public_url", "https://things.test")
            .set("routes.things", "audiences", "[\"api\"]")
            .text("routes.things", "upstream", "api");
        rule(toml, "");
        toml
    });
    assert_eq!(served.await, crate::world::Edit::Served, "{}", world.log());
    world
}

/// Writes `text` and has it read.
pub async fn reload(world: &World, text: &str) -> String {
    let path = world.dir().join("vestibule.toml");
    std::fs::write(path.with_extension("new"), text).unwrap();
    std::fs::rename(path.with_extension("new"), path).unwrap();
    let began = std::time::Instant::now();
    loop {
        // The file may have been noticed already, and what serves then may leave the very socket that is asked.
        match ask(world).await {
            Ok(answer) => return answer,
            Err(error) => assert!(began.elapsed() < std::time::Duration::from_secs(10), "{error}"),
        }
    }
}

/// Asks for a reload at the control socket that there is now.
async fn ask(world: &World) -> std::io::Result<String> {
    let addresses = world.sidecar().addresses().await;
    let control = addresses.keys().find_map(|listen| match listen {
        Listen::Unix(path) => Some(path.clone()),
        Listen::Tcp(_) => None,
    });
    let mut stream = tokio::net::UnixStream::connect(control.unwrap()).await?;
    let request =
        format!("POST /-/reload HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {TOKEN}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    if answer.is_empty() { Err(std::io::ErrorKind::UnexpectedEof.into()) } else { Ok(answer) }
}

/// Whether what was written serves: by this reload, or because the file was noticed a moment before it.
fn serves(answer: &str) -> bool {
    answer.starts_with("HTTP/1.1 200 ") && (answer.contains("reloaded") || answer.contains("nothing has changed"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_key_changes_by_reload_and_the_change_is_seen() {
    let told: BTreeSet<String> = CHANGES.iter().map(|(key, _)| (*key).to_owned()).collect();
    assert_eq!(reference(), told, "a key of the reference without its line here, or the other way round");
    let second = EchoUpstream::start().await;
    let world = base(&second).await;
    // The provider marks its `jti` as the secrets that must not show, which it is not.
    let remove = Kind::IdToken(JwtMutation::RemoveClaim("jti"));
    world.provider.mutate(Mutation::always(Endpoint::Token, remove));
    let original = world.edited(|toml| toml);
    // The first look makes the series that all others see.
    observe(&world, world.sidecar()).await;
    let before = observe(&world, world.sidecar()).await;
    let mut unseen = BTreeSet::new();
    for (key, change) in CHANGES {
        let mut toml = Toml::default();
        world.edited(|whole| {
            toml = whole.clone();
            whole
        });
        change(&mut toml, world.dir());
        let answer = reload(&world, &toml.render()).await;
        assert!(serves(&answer), "{key}: {answer}");
        let running = world.sidecar().snapshot();
        let written = config::load(&world.dir().join("vestibule.toml"), &config::System).unwrap().config;
        assert!(*running.config == written, "{key} is not what runs");
        let after = observe(&world, world.sidecar()).await;
        if after == before {
            unseen.insert(*key);
        }
        let answer = reload(&world, &original).await;
        assert!(serves(&answer), "{key}, taken back: {answer}");
        // A provider that was not there for a moment is asked anew by whoever needs it next.
        let mut again = observe(&world, world.sidecar()).await;
        for _ in 0..100 {
            if again == before {
                break;
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            again = observe(&world, world.sidecar()).await;
        }
        let left = differences(&before, &again);
        assert!(left.is_empty(), "{key}, taken back, leaves something behind: {left:#?}");
    }
    assert_eq!(unseen.into_iter().collect::<Vec<_>>(), UNSEEN, "what only these may hide");
    world.finish().await;
}

/// `[log]`, which the program applies and the kit does not.
#[tokio::test]
async fn the_log_follows_its_keys() {
    let world = World::start().await;
    let applied = Arc::new(Mutex::new(Vec::<Log>::new()));
    let noted = Arc::clone(&applied);
    let options = Options {
        config_path: world.dir().join("vestibule.toml"),
        clock: Clock::default(),
        apply_log: Box::new(move |log| noted.lock().unwrap().push(log.clone())),
        managed: Managed::default(),
    };
    let second = Sidecar::start(options).await.unwrap_or_else(|error| panic!("{error}"));
    world
        .edit(|toml| toml.text("log", "level", "vestibule::reload=trace").text("log", "format", "json"))
        .await;
    eventually("the log's new keys", || applied.lock().unwrap().len() == 2).await;
    let last = applied.lock().unwrap().pop().unwrap();
    assert!(last.level == "vestibule::reload=trace" && last.format == LogFormat::Json, "{last:?}");
    second.shutdown().await;
    world.finish().await;
}
