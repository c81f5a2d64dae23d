//! Who somebody is, is for Vestibule to say: no header of a client's gives an app an identity, and none takes one away.

use super::{Actor, Front, Seen, behind_each};
use crate::world::upstream::Recorded;

/// What apps behind proxies read an identity from.
const NAMES: [&str; 25] = [
    "X-Auth-Request-User",
    "X-Auth-Request-Email",
    "X-Auth-Request-Groups",
    "X-Auth-Request-Preferred-Username",
    "X-Auth-Request-Access-Token",
    "X-Remote-User",
    "X-Remote-Groups",
    "X-Webauth-User",
    "X-Authentik-Username",
    "X-Authenticated-User",
    "Remote-User",
    "Remote-Groups",
    "X-Forwarded-User",
    "X-Forwarded-Email",
    "X-Forwarded-Groups",
    "X-Forwarded-Preferred-Username",
    "X-Forwarded-Access-Token",
    "Vestibule-User",
    "Vestibule-Email",
    "Vestibule-Name",
    "Vestibule-Subject",
    "Vestibule-Groups",
    "Vestibule-Authorization",
    "Vestibule-Verdict",
    "Forwarded",
];

/// A header name in every spelling that somebody may read as the same.
fn spellings(name: &str) -> Vec<String> {
    let parts: Vec<&str> = name.split('-').collect();
    let mixed = parts.iter().enumerate().map(|(at, part)| {
        if at == 0 { (*part).to_owned() } else { format!("{}{part}", if at % 2 == 0 { "-" } else { "_" }) }
    });
    let mut all = vec![
        name.to_owned(),
        name.to_ascii_lowercase(),
        name.to_ascii_uppercase(),
        name.replace('-', "_"),
        name.replace('-', "."),
        name.to_ascii_lowercase().replace('-', "_"),
        mixed.collect(),
        name.replacen('-', "_", 1),
        name.replacen('-', ".", 1),
    ];
    all.sort();
    all.dedup();
    all
}

/// The identity that an app was told: normalised names, values; empty ones tell nothing.
fn told(request: &Recorded) -> Vec<(String, String)> {
    let plain = |name: &str| name.to_ascii_lowercase().replace(['_', '.'], "-");
    let names: Vec<String> = NAMES.iter().map(|name| plain(name)).collect();
    let lines = request.head.lines().skip(1).filter_map(|line| line.split_once(':'));
    let mut told: Vec<(String, String)> = lines
        .map(|(name, value)| (plain(name), value.trim().to_owned()))
        .filter(|(name, value)| names.contains(name) && name != "forwarded" && !value.is_empty())
        .collect();
    told.sort();
    told
}

/// What an app of the site is told without any lie; also that it is reached at all.
async fn truth(front: &Front, actor: &Actor, door: &str, seen: &mut Seen) -> Vec<(String, String)> {
    assert_eq!(front.send(&format!("GET {door}truth"), actor, "").await, 200, "{} at {door}", actor.name);
    let reached = front.reached(seen);
    assert_eq!(reached.len(), 1);
    told(&reached[0].1)
}

/// Sends `lies` in the head of a request, and asserts that the app is told the truth all the same, or is not reached.
async fn lie(
    front: &Front,
    (actor, door, truth): (&Actor, &str, Option<&Vec<(String, String)>>),
    lies: &str,
    seen: &mut Seen,
) {
    let status = front.send(&format!("GET {door}lie"), actor, lies).await;
    let reached = front.reached(seen);
    let who = actor.name;
    match truth {
        None => {
            assert!(reached.is_empty() && !(200..300).contains(&status), "{who} got to {door} with {lies:?}: {status}")
        }
        Some(truth) => {
            // What Caddy or we take for a malformed request reaches nobody.
            assert!(reached.len() == 1 || matches!(status, 400 | 502), "{who} at {door} with {lies:?}: {status}");
            for (_, request) in reached {
                assert_eq!(told(&request), *truth, "{who} at {door} with {lies:?}:\n{}", request.head);
                assert!(!request.head.contains("mallory"), "{who} at {door} with {lies:?}:\n{}", request.head);
            }
        }
    }
}

/// The doors of apps that are told who calls, and who may pass each.
async fn doors(front: &Front, seen: &mut Seen) -> Vec<(Actor, &'static str, Option<Vec<(String, String)>>)> {
    let mut doors = Vec::new();
    for door in ["/wiki/", "/reports/", "/things/"] {
        doors.push((Front::nobody(), door, None));
    }
    for (door, name) in [("/wiki/", "alice"), ("/reports/", "alice"), ("/reports/", "carol")] {
        let actor = front.somebody(name).await;
        let truth = truth(front, &actor, door, seen).await;
        assert!(!truth.is_empty());
        doors.push((actor, door, Some(truth)));
    }
    let bearer = front.with_bearer();
    let truth = truth(front, &bearer, "/things/", seen).await;
    assert!(truth.iter().any(|(name, value)| name == "vestibule-user" && value == "bob"), "{truth:?}");
    doors.push((bearer, "/things/", Some(truth)));
    doors.push((front.somebody("carol").await, "/wiki/", None));
    doors.push((front.somebody("alice").await, "/things/", None));
    doors
}

/// Also FA-2, FA-5, FA-9, FA-11: what a client says about itself, in every spelling, once and twice.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn h01_h02_h03_h04_a20_a21_v10_no_header_of_a_client_gives_an_identity() {
    for front in behind_each().await {
        let mut seen = Seen::default();
        for (actor, door, truth) in &doors(&front, &mut seen).await {
            for name in NAMES {
                for spelling in spellings(name) {
                    let lies = format!("{spelling}: mallory\r\n");
                    lie(&front, (actor, door, truth.as_ref()), &lies, &mut seen).await;
                }
                let lies = format!("{name}: mallory\r\n{}: mallory,admins\r\n{name}: \r\n", name.to_ascii_lowercase());
                lie(&front, (actor, door, truth.as_ref()), &lies, &mut seen).await;
                for value in ["mallory\r\n mallory", "\tmallory", "\"mallory\"", "mallory\u{a0}"] {
                    lie(&front, (actor, door, truth.as_ref()), &format!("{name}: {value}\r\n"), &mut seen).await;
                }
                lie(&front, (actor, door, truth.as_ref()), &format!("{name} : mallory\r\n"), &mut seen).await;
            }
        }
        front.world.finish().await;
    }
}

/// A client may name any header as one between it and Caddy, and Caddy takes those out of what it hands on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn h08_h09_a19_connection_takes_nothing_away() {
    for front in behind_each().await {
        let mut seen = Seen::default();
        let others = [
            "Cookie",
            "Authorization",
            "Host",
            "X-Forwarded-For",
            "X-Forwarded-Host",
            "X-Forwarded-Uri",
            "X-Forwarded-Method",
            "X-Forwarded-Proto",
        ];
        let names: Vec<&str> = NAMES.iter().chain(&others).copied().collect();
        for (actor, door, truth) in &doors(&front, &mut seen).await {
            for name in &names {
                for connection in
                    [(*name).to_owned(), format!("close, {name}"), format!("{}, keep-alive", name.to_ascii_lowercase())]
                {
                    let lies = format!("Connection: {connection}\r\n{name}: mallory\r\n");
                    let own = ["Cookie", "Authorization", "Host"].contains(name);
                    // With these in the head a second time it would be another request; so they are only named.
                    let lies = if own { format!("Connection: {connection}\r\n") } else { lies };
                    deny_or_tell(&front, (actor, door, truth.as_ref()), &lies, &mut seen).await;
                }
            }
            let all = format!("Connection: {}\r\n", names.join(", "));
            deny_or_tell(&front, (actor, door, truth.as_ref()), &all, &mut seen).await;
        }
        front.world.finish().await;
    }
}

/// Whoever takes their own cookie or bearer away is nobody, and that is all that they can do.
async fn deny_or_tell(
    front: &Front,
    (actor, door, truth): (&Actor, &str, Option<&Vec<(String, String)>>),
    lies: &str,
    seen: &mut Seen,
) {
    let status = front.send(&format!("GET {door}lie"), actor, lies).await;
    for (_, request) in front.reached(seen) {
        let Some(truth) = truth else { panic!("{} got to {door} with {lies:?}:\n{}", actor.name, request.head) };
        assert_eq!(told(&request), *truth, "{} at {door} with {lies:?} ({status}):\n{}", actor.name, request.head);
    }
    assert!(truth.is_some() || !(200..300).contains(&status), "{} at {door} with {lies:?}: {status}", actor.name);
}

/// What a client says about where it comes from and what it asks for.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn h07_h10_h23_a04_a10_a25_no_header_of_a_client_says_what_is_asked() {
    let lies = [
        "X-Forwarded-Host: other.test",
        "X-Forwarded-Host: app.test, other.test",
        "X-Forwarded-Uri: /",
        "X-Forwarded-Uri: /login/start",
        "X-Forwarded-Uri: /reports/../",
        "X-Forwarded-Method: OPTIONS",
        "X-Forwarded-Method: GET",
        "X-Forwarded-Proto: http",
        "X-Forwarded-Proto: https",
        "X-Forwarded-For: 127.0.0.1",
        "X-Forwarded-For: mallory",
        "X-Forwarded-Port: 443",
        "X-Forwarded-Prefix: /mallory",
        "X-Forwarded-Server: mallory",
        "X-Real-IP: 127.0.0.1",
        "Forwarded: for=127.0.0.1;host=other.test;proto=https",
        "X-Original-URL: /login/start",
        "X-Rewrite-URL: /login/start",
        "X-Original-URI: /login/start",
        "X-HTTP-Method-Override: DELETE",
        "X-Method-Override: DELETE",
        "X-Forwarded-Uri: /things/\r\nX-Forwarded-Uri: /",
        "Via: 1.1 Caddy",
        "Vestibule-Verdict: allow",
        "If-None-Match: *",
        "Range: bytes=0-0",
        "Expect: 100-continue",
        "Expect: 200-ok",
        "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        "Upgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: AAMAAABkAAQAAP__",
        "User-Agent: kube-probe/1.30",
        "User-Agent: GoogleHC/1.0",
        "User-Agent: ELB-HealthChecker/2.0",
        "Origin: https://app.test\r\nAccess-Control-Request-Method: GET",
        "Purpose: prefetch\r\nSec-Purpose: prefetch",
    ];
    for front in behind_each().await {
        let mut seen = Seen::default();
        for (actor, door, truth) in &doors(&front, &mut seen).await {
            for lies in lies {
                for spelling in [lies.to_owned(), lies.to_ascii_lowercase(), lies.to_ascii_uppercase()] {
                    deny_or_tell(&front, (actor, door, truth.as_ref()), &format!("{spelling}\r\n"), &mut seen).await;
                }
            }
        }
        front.world.finish().await;
    }
}
