//! Who answers whom on one site: browsers get the web flow, programs get theirs, whoever brings a bearer is a program, and
//! how to log in is told to everybody. What somebody calls themselves opens no door.

use vestibule::demo::provider::JwtMutation;

use super::{Actor, BROWSER, Front, PATIENCE, Seen, behind_each};
use crate::world::raw::Raw;

/// Which route it was that answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Route {
    Web,
    Cli,
}

/// What clients call themselves, as header lines, and whom they are taken for. As documented: a browser is who has
/// `Mozilla` in one of the lines, spelt so.
const AGENTS: [(&str, Route); 14] = [
    ("", Route::Cli),
    ("User-Agent: \r\n", Route::Cli),
    ("User-Agent: curl/8.14.1\r\n", Route::Cli),
    ("User-Agent: Go-http-client/2.0\r\n", Route::Cli),
    ("User-Agent: node\r\n", Route::Cli),
    ("User-Agent: mozilla/5.0\r\n", Route::Cli),
    ("User-Agent: MOZILLA/5.0\r\n", Route::Cli),
    ("User-Agent: Moz illa/5.0\r\n", Route::Cli),
    ("X-User-Agent: Mozilla/5.0\r\nUser_Agent: Mozilla/5.0\r\n", Route::Cli),
    ("User-Agent: Mozilla/5.0 (X11; Linux x86_64) Gecko/20100101 Firefox/160.0\r\n", Route::Web),
    ("user-agent: Mozilla/5.0 (Macintosh) AppleWebKit/605.1.15 Safari/605.1.15\r\n", Route::Web),
    ("User-Agent: tool (like Mozilla)\r\n", Route::Web),
    ("User-Agent: curl/8\r\nUser-Agent: Mozilla/5.0\r\n", Route::Web),
    ("User-Agent: Mozilla/5.0\r\nUser-Agent: curl/8\r\n", Route::Web),
];

/// The whole answer to a request through Caddy.
async fn answer(front: &Front, line: &str, lines: &str) -> String {
    let mut raw = Raw::connect(front.address()).await;
    raw.write(format!("{line} HTTP/1.1\r\nHost: app.test\r\nConnection: close\r\n{lines}\r\n")).await;
    raw.read_all(PATIENCE).await.expect("an end in time")
}

/// A bearer for the API of the CLI.
fn cli_bearer(front: &Front) -> String {
    let audience = JwtMutation::SetClaim("aud", "api".into());
    front.world.provider.access_token(("bob", "cli"), &["openid"], &[audience]).unwrap()
}

/// Asserts that `/login/start` is answered by this route: a way to the provider, or what a device flow begins with.
fn begins_at(route: Route, answer: &str, who: &str) {
    let (status, mark) = match route {
        Route::Web => ("HTTP/1.1 302 ", "code_challenge="),
        Route::Cli => ("HTTP/1.1 200 ", "device_authorization_endpoint"),
    };
    assert!(answer.starts_with(status) && answer.contains(mark), "{who:?} is not for {route:?}:\n{answer}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn v07_v08_browsers_get_the_web_flow_and_programs_theirs() {
    for front in behind_each().await {
        for (agent, route) in AGENTS {
            let navigation = format!("{agent}Accept: text/html\r\n");
            begins_at(route, &answer(&front, "GET /login/start", &navigation).await, agent);
            let refused = answer(&front, "GET /api/me", agent).await;
            let code = if route == Route::Web { "login_required" } else { "bearer_required" };
            assert!(refused.starts_with("HTTP/1.1 401 ") && refused.contains(code), "{agent:?}:\n{refused}");
        }
        let mut seen = Seen::default();
        assert!(front.reached(&mut seen).is_empty(), "nobody showed who they are");
        front.world.finish().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn v05_v07_whoever_brings_a_bearer_is_a_program_whatever_it_calls_itself() {
    for front in behind_each().await {
        let mut seen = Seen::default();
        let bearer = cli_bearer(&front);
        let alice = front.somebody("alice").await;
        for (agent, _) in AGENTS {
            for scheme in ["Bearer", "bearer", "BEARER"] {
                for cookies in ["", &alice.lines] {
                    let lines = format!("{agent}{cookies}Authorization: {scheme} {bearer}\r\n");
                    begins_at(Route::Cli, &answer(&front, "GET /login/start", &lines).await, &lines);
                    let served = answer(&front, "GET /api/me", &lines).await;
                    assert!(served.starts_with("HTTP/1.1 200 "), "{lines:?}:\n{served}");
                    let reached = front.reached(&mut seen);
                    let [("api", request)] = reached.as_slice() else { panic!("{lines:?} reached {reached:?}") };
                    // The bearer's own: the session beside it is not what speaks.
                    let passed = request.header("authorization").unwrap();
                    assert!(passed.ends_with(&bearer), "{lines:?}:\n{}", request.head);
                }
            }
            // A bearer that is none gets no session's rights, either.
            let lines = format!("{agent}{}Authorization: Bearer made.up.token\r\n", alice.lines);
            let refused = answer(&front, "GET /api/me", &lines).await;
            assert!(refused.starts_with("HTTP/1.1 401 ") && refused.contains("invalid_token"), "{lines:?}:\n{refused}");
            assert!(front.reached(&mut seen).is_empty());
        }
        front.world.finish().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn v08_everybody_is_told_how_to_log_in_for_a_resource() {
    for front in behind_each().await {
        for (agent, _) in AGENTS {
            for target in
                ["/.well-known/oauth-protected-resource/things", "/.well-known/oauth-protected-resource/things?x=/api/"]
            {
                for accept in ["", "Accept: text/html\r\n", "Accept: application/json\r\n"] {
                    let told = answer(&front, &format!("GET {target}"), &format!("{agent}{accept}")).await;
                    let resource = told.starts_with("HTTP/1.1 200 ") && told.contains("\"https://app.test/things\"");
                    let issuer = told.contains(front.world.provider.issuer());
                    assert!(resource && issuer, "{agent:?} at {target}:\n{told}");
                }
            }
            // What the refusal points to.
            let refused = answer(&front, "GET /things/x", agent).await;
            let named = "resource_metadata=\"https://app.test/.well-known/oauth-protected-resource/things\"";
            assert!(refused.starts_with("HTTP/1.1 401 ") && refused.contains(named), "{agent:?}:\n{refused}");
        }
        front.world.finish().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fa_8_a13_who_claims_to_check_our_health_is_nobody() {
    let probes = [
        "kube-probe/1.31",
        "GoogleHC/1.0",
        "GoogleStackdriverMonitoring-UptimeChecks(https://cloud.google.com/monitoring)",
        "ELB-HealthChecker/2.0",
        "Amazon-Route53-Health-Check-Service (ref x; report http://amzn.to/1vsZADi)",
        "Consul Health Check",
        "Prometheus/3.5.0",
        "Mozilla/5.0 kube-probe/1.31",
        BROWSER,
    ];
    for front in behind_each().await {
        let mut seen = Seen::default();
        let Actor { name, lines } = front.somebody("carol").await;
        for probe in probes {
            for door in ["/api/healthz", "/wiki/healthz", "/reports/healthz", "/things/healthz", "/wiki/", "/things/"] {
                for method in ["GET", "HEAD"] {
                    let ask = format!("{method} {door} HTTP/1.1\r\nHost: app.test\r\nUser-Agent: {probe}\r\n\r\n");
                    let status = front.ask(&ask).await;
                    assert!(matches!(status, 302 | 401), "{probe} at {door}: {status}");
                }
            }
            // Nor does it add anything to what somebody may see.
            let ask = format!("GET /wiki/ HTTP/1.1\r\nHost: app.test\r\nUser-Agent: {probe}\r\n{lines}\r\n");
            assert_eq!(front.ask(&ask).await, 403, "{name} as {probe}");
        }
        assert!(front.reached(&mut seen).is_empty());
        front.world.finish().await;
    }
}
