//! Paths, queries, hosts and methods that two readers may understand differently: whoever may not pass one door finds no
//! way round it.

use super::{Actor, Front, Seen, behind_each};

/// Prefixes of the site.
const PLACES: [&str; 4] = ["/wiki/", "/reports/", "/things/", "/api/"];

/// Targets that may lead to `place` for one reader and elsewhere for another, beginning at `other`.
fn targets(place: &str, other: &str) -> Vec<String> {
    let name = place.trim_matches('/');
    let upper = name.to_ascii_uppercase();
    let first = format!("%{:02x}{}", name.as_bytes()[0], &name[1..]);
    let mut targets = vec![
        format!("/{name}"),
        format!("/{name}/x"),
        format!("//{name}/x"),
        format!("/./{name}/x"),
        format!("/{upper}/x"),
        format!("/{first}/x"),
        format!("/{name}%2fx"),
        format!("/{name}%2Fx"),
        format!("/{name}%5cx"),
        format!("/{name};a=b/x"),
        format!("/{name}/;/x"),
        format!("/{name}%00/x"),
        format!("/{name}%20/x"),
        format!("/{name}./x"),
        format!("/{name}%3f/x"),
        format!("/{name}%23/x"),
        format!("/{name}%252fx"),
        format!("/{name}/x%0d%0aX-Remote-User:%20mallory"),
        format!("/?x=/{name}/x"),
        format!("/{name}?x=1"),
        format!("/{name}/x?access_token=mallory&route=web"),
        format!("http://app.test/{name}/x"),
        format!("http://other.test/{name}/x"),
        format!("https://app.test:443/{name}/x"),
        format!("/login/../{name}/x"),
        format!("/login/%2e%2e/{name}/x"),
        format!("/login/start/../../{name}/x"),
        format!("/.well-known/oauth-protected-resource/../../{name}/x"),
        format!("/.well-known/oauth-protected-resource/{name}/../../{name}/x"),
    ];
    for up in
        ["..", "%2e%2e", "%2E%2E", ".%2e", "%2e.", "..;", "..;a", "..%2f..", "..%5c", "%252e%252e", "\\..", "..\\"]
    {
        targets.push(format!("{other}{up}/{name}/x"));
        targets.push(format!("{other}x/{up}/{up}/{name}/x"));
        targets.push(format!("{other}{up}{place}{up}{other}x"));
        targets.push(format!("{place}{up}{other}x"));
    }
    targets
}

/// Sends a target as it stands, by whatever method.
async fn send(front: &Front, (method, target): (&str, &str), actor: &Actor, lines: &str) -> u16 {
    front.send(&format!("{method} {target}"), actor, lines).await
}

/// Who may reach which app at all.
async fn actors(front: &Front) -> Vec<(Actor, &'static [&'static str])> {
    vec![
        (Front::nobody(), &[]),
        // In no group.
        (front.somebody("carol").await, &["reports", "api"]),
        (front.with_bearer(), &["things"]),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a05_a14_a17_a25_fa_6_no_spelling_of_a_path_leads_round_a_door() {
    for front in behind_each().await {
        let mut seen = Seen::default();
        for (actor, allowed) in &actors(&front).await {
            let mut sent = 0;
            for place in PLACES {
                for other in PLACES.into_iter().filter(|other| *other != place) {
                    for target in targets(place, other) {
                        let status = send(&front, ("GET", &target), actor, "").await;
                        sent += 1;
                        for (app, request) in front.reached(&mut seen) {
                            let asked = request.target();
                            assert!(allowed.contains(&app), "{} got to {app} by {target:?}: {status}", actor.name);
                            // An app that is asked for one of its own paths, and for nothing above it.
                            assert!(!asked.contains(".."), "{} made {app} see {asked:?} by {target:?}", actor.name);
                        }
                    }
                }
            }
            assert!(sent > 900, "{sent}");
        }
        front.world.finish().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn h24_v07_v08_no_host_and_no_user_agent_leads_round_a_door() {
    let hosts = [
        "app.test",
        "APP.TEST",
        "app.test.",
        "app.test:80",
        "app.test:443",
        "app.test:99999",
        "other.test",
        "127.0.0.1",
        "",
        "app.test, other.test",
        "mallory@app.test",
        "app.test/x",
        "app.test\r\nHost: other.test",
        "app.test\t",
    ];
    let agents = [
        "",
        "Mozilla/5.0",
        "mozilla/5.0",
        "curl/8 Mozilla",
        "curl/8",
        "MOZILLA",
        "curl/8\r\nUser-Agent: Mozilla/5.0",
        "Mozilla/5.0\r\nUser-Agent: curl/8",
    ];
    for front in behind_each().await {
        let mut seen = Seen::default();
        for (actor, allowed) in &actors(&front).await {
            for host in hosts {
                for agent in agents {
                    for place in PLACES {
                        let agent = if agent.is_empty() { String::new() } else { format!("User-Agent: {agent}\r\n") };
                        let head = format!("GET {place}x HTTP/1.1\r\nHost: {host}\r\n{agent}{}\r\n", actor.lines);
                        let status = front.ask(&head).await;
                        for (app, _) in front.reached(&mut seen) {
                            assert!(
                                allowed.contains(&app),
                                "{} got to {app} as {agent:?} at {host:?}: {status}",
                                actor.name
                            );
                        }
                    }
                }
            }
        }
        front.world.finish().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fa_13_a16_a26_no_method_leads_round_a_door() {
    let methods = [
        "GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "CONNECT", "PROPFIND", "get", "GeT",
        "MALLORY", "M-SEARCH", "X",
    ];
    let lines = [
        "",
        "Origin: https://app.test\r\nAccess-Control-Request-Method: POST\r\n",
        "Origin: https://evil.test\r\nAccess-Control-Request-Method: POST\r\n",
        "Content-Length: 0\r\n",
        "Upgrade: websocket\r\nConnection: Upgrade\r\n",
    ];
    for front in behind_each().await {
        let mut seen = Seen::default();
        for (actor, allowed) in &actors(&front).await {
            for method in methods {
                for lines in lines {
                    for place in PLACES {
                        let status = send(&front, (method, &format!("{place}x")), actor, lines).await;
                        for (app, request) in front.reached(&mut seen) {
                            // A preflight brings no bearer, so the API of bearers answers it, and is told of nobody.
                            let preflight =
                                app == "things" && request.method() == "OPTIONS" && lines.contains("Access-Control");
                            let told = request.header("vestibule-user").is_some_and(|user| !user.is_empty());
                            let bare = preflight && !told && request.header("authorization").is_none_or(str::is_empty);
                            assert!(
                                allowed.contains(&app) || bare,
                                "{} got to {app} by {method} with {lines:?}: {status}\n{}",
                                actor.name,
                                request.head
                            );
                        }
                    }
                }
            }
        }
        front.world.finish().await;
    }
}
