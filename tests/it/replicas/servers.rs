//! The servers that sessions may be in: with users and passwords, with TLS, at a socket, behind Sentinels; and the same
//! server reached in another way.

use std::path::Path;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};

use super::shares;
use crate::world::redis::{self, RedisServer};
use crate::world::toml::Toml;
use crate::world::{Edit, World, eventually};

/// The user that the README tells of.
fn acl(password: &str) -> String {
    let readme = include_str!("../../../README.md");
    let start = readme.find("`user vestibule on").expect("the README tells of a user") + 1;
    let line = readme[start..].split('`').next().unwrap().split_whitespace().collect::<Vec<_>>().join(" ");
    line.replace("PASSWORD", password)
}

fn pem(label: &str, der: &[u8]) -> String {
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", STANDARD.encode(der))
}

/// Makes an authority, and a certificate of its for `name`, in `folder`; the lines that have a server use them.
fn certify(folder: &Path, name: &str) -> Vec<String> {
    let path = |name: &str| folder.join(name).display().to_string();
    let key = KeyPair::generate().unwrap();
    let mut authority = CertificateParams::new(Vec::new()).unwrap();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let root = authority.self_signed(&key).unwrap();
    let own = KeyPair::generate().unwrap();
    let leaf = CertificateParams::new(vec![name.to_owned()]).unwrap();
    let leaf = leaf.signed_by(&own, &Issuer::from_params(&authority, &key)).unwrap();
    std::fs::write(path("ca.pem"), pem("CERTIFICATE", root.der())).unwrap();
    std::fs::write(path("server.pem"), pem("CERTIFICATE", leaf.der())).unwrap();
    std::fs::write(path("server.key"), pem("PRIVATE KEY", &own.serialize_der())).unwrap();
    vec![
        format!("tls-cert-file {}", path("server.pem")),
        format!("tls-key-file {}", path("server.key")),
        format!("tls-ca-cert-file {}", path("ca.pem")),
        "tls-auth-clients no".to_owned(),
    ]
}

async fn world_with(adjust: impl FnOnce(&mut Toml) + Send + 'static) -> World {
    let world = World::builder().config(move |toml| {
        adjust(toml);
        toml
    });
    world.start().await
}

/// Logs in, refreshes, looks and logs out: all that a server is asked for.
async fn serves(world: &World) {
    world.browser.login("alice").await;
    world.clock.shift(301);
    world.browser.get("/api/me").await.is(200);
    let sessions = &world.sidecar().lasting().shared.sessions;
    sessions.sweep(Duration::from_secs(1800), world.clock.now()).await.unwrap();
    let id = sessions.page(&Default::default(), (None, 1), (Duration::MAX, world.clock.now())).await.unwrap();
    assert_eq!(id.sessions.len(), 1);
    world.browser.post("/logout").header("x-vestibule-csrf", "1").await.is(200);
    world.browser.get("/api/me").await.refused(401, "login_required");
}

#[tokio::test]
async fn the_user_of_the_readme_may_do_what_is_needed_and_its_password_may_change() {
    if !redis::is_here() {
        return;
    }
    let redis = RedisServer::with(&["user default off", &acl("first >second"), "appendonly yes"]);
    let url = redis.url();
    let secret = |url: &str, password: &str| url.replace("redis://", &format!("redis://vestibule:{password}@"));
    let first = secret(&url, "first");
    let world = world_with(move |toml| shares(toml, &first)).await;
    serves(&world).await;
    world.browser.navigate("/login/start").await.is(200);
    // A password is changed with both good for a while; sessions stay where they are.
    let hello = redis.raw("AUTH vestibule first\r\nACL SETUSER vestibule >second");
    assert!(hello.contains("NOPERM"), "the user is no administrator: {hello}");
    let wrong = secret(&url, "wrong");
    // One that the server does not know is not taken for one that works.
    for (password, outcome) in [(wrong, Edit::Refused), (secret(&url, "second"), Edit::Served)] {
        let edit = world.edit(move |toml| {
            shares(toml, &password);
            toml
        });
        assert_eq!(edit.await, outcome);
        let begun = Instant::now();
        while world.browser.get("/api/me").await.status != 200 {
            assert!(outcome == Edit::Served, "the connection that worked is gone");
            assert!(begun.elapsed() < Duration::from_secs(10), "it does not come back");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
    assert!(world.log().contains("cannot be reached"), "{}", world.log());
    assert!(!world.log().contains(":wrong@"), "the log has the password");
    world.finish().await;
}

#[tokio::test]
async fn a_server_is_believed_by_its_certificate_alone() {
    if !redis::is_here() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let tls = certify(folder.path(), "localhost");
    let redis = RedisServer::with_tls(&tls);
    let (port, ca) = (redis.port(), path("ca.pem"));
    let store = |host: &str, with: &str| format!("{{ redis = \"rediss://{host}:{port}/0\"{with} }}");
    let good = store("localhost", &format!(", ca_file = \"{ca}\""));
    let world = world_with(move |toml| {
        shares(toml, "redis://unused");
        toml.set("sessions", "store", &good);
    })
    .await;
    serves(&world).await;
    world.finish().await;
    // Another name, or an authority that nobody named.
    for bad in [store("127.0.0.1", &format!(", ca_file = \"{ca}\"")), store("localhost", "")] {
        let world = world_with(move |toml| {
            shares(toml, "redis://unused");
            toml.set("sessions", "store", &bad);
        })
        .await;
        eventually("the log", || world.log().contains("no connection to the session store")).await;
        world.finish().await;
    }
}

#[tokio::test]
async fn a_server_may_be_at_a_socket() {
    if !redis::is_here() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("redis.sock").display().to_string();
    let _redis = RedisServer::with(&[&format!("unixsocket {socket}")]);
    let url = format!("redis+unix://{socket}");
    let world = world_with(move |toml| shares(toml, &url)).await;
    serves(&world).await;
    world.finish().await;
}

/// The master dies; the Sentinels make its copy the master, and nobody notices but by a pause.
#[tokio::test]
async fn a_failover_of_sentinel_logs_nobody_out() {
    if !redis::is_here() {
        return;
    }
    let mut master = RedisServer::start();
    let copy = RedisServer::with(&[&format!("replicaof 127.0.0.1 {}", master.port())]);
    eventually("the copy", || copy.raw("INFO replication").contains("master_link_status:up")).await;
    let watch = [
        format!("sentinel monitor mymaster 127.0.0.1 {} 2", master.port()),
        "sentinel down-after-milliseconds mymaster 500".to_owned(),
        "sentinel failover-timeout mymaster 3000".to_owned(),
    ];
    let watch: Vec<&str> = watch.iter().map(String::as_str).collect();
    let sentinels: Vec<RedisServer> = (0..3).map(|_| RedisServer::with(&watch)).collect();
    let knows = |sentinel: &RedisServer| {
        let said = sentinel.raw("INFO sentinel");
        said.contains("slaves=1") && said.contains("sentinels=3")
    };
    eventually("the Sentinels", || sentinels.iter().all(knows)).await;
    let hosts: Vec<String> = sentinels.iter().map(|sentinel| format!("127.0.0.1:{}", sentinel.port())).collect();
    let url = format!("redis+sentinel://{}/mymaster/0", hosts.join(","));
    let world = world_with(move |toml| shares(toml, &url)).await;
    world.browser.login("alice").await;
    world.browser.get("/api/me").await.is(200);
    eventually("a copy of it", || copy.raw("ZCARD vestibule:used").starts_with(":1")).await;
    master.kill();
    let begun = Instant::now();
    loop {
        let answer = world.browser.get("/api/me").await;
        if answer.status == 200 && begun.elapsed() > Duration::from_secs(1) {
            break;
        }
        assert!(matches!(answer.status.as_u16(), 200 | 503), "{}", answer.describe());
        assert!(begun.elapsed() < Duration::from_secs(20), "no failover: {}", sentinels[0].raw("INFO sentinel"));
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(copy.raw("ROLE").contains("master"));
    world.browser.post("/logout").header("x-vestibule-csrf", "1").await.is(200);
    world.finish().await;
}

/// With TLS, a Sentinel has to give the master by the name in its certificate (`resolve-hostnames`, `announce-hostnames`).
#[tokio::test]
async fn sentinels_and_their_master_are_believed_by_their_certificates_too() {
    if !redis::is_here() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let tls = certify(folder.path(), "localhost");
    let master = RedisServer::with_tls(&tls);
    let watch = [
        "sentinel resolve-hostnames yes".to_owned(),
        "sentinel announce-hostnames yes".to_owned(),
        "tls-replication yes".to_owned(),
        format!("sentinel monitor mymaster localhost {} 1", master.port()),
    ];
    let sentinel = RedisServer::with_tls(&[tls.as_slice(), &watch].concat());
    let url = format!("rediss+sentinel://localhost:{}/mymaster/0", sentinel.port());
    let ca = folder.path().join("ca.pem").display().to_string();
    let good = format!("{{ redis = \"{url}\", ca_file = \"{ca}\" }}");
    let world = world_with(move |toml| {
        shares(toml, "redis://unused");
        toml.set("sessions", "store", &good);
    })
    .await;
    serves(&world).await;
    world.finish().await;
    // An authority that nobody named.
    let bad = format!("{{ redis = \"{url}\" }}");
    let world = world_with(move |toml| {
        shares(toml, "redis://unused");
        toml.set("sessions", "store", &bad);
    })
    .await;
    eventually("the log", || world.log().contains("no connection to the session store")).await;
    world.finish().await;
}
