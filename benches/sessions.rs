//! What a million sessions cost: memory for each, above its sealed tokens, in both stores; the time of a look at one;
//! and how soon a store file serves again after `kill -9`.
//!
//! `cargo bench --bench sessions`, or with another number of sessions: `cargo bench --bench sessions -- 100000`. A
//! regression here shows as more than 400 bytes a session, or as more than two seconds to open.
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a bench fails by panicking, talks to a terminal, and asks the system what it needs"
)]

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value, json};
use tokio::runtime::Runtime;
use tokio::task::JoinSet;
use vestibule::config::{Name, Secret};
use vestibule::metrics::Metrics;
use vestibule::provider::{AccessToken, IdToken, RefreshToken};
use vestibule::session::{Binding, FileOptions, Handle, Memory, Session, SessionId, Sessions, State, Tokens, Touch};
use vestibule::time::Timestamp;
use vestibule::web::KeyRing;

const IDLE: Duration = Duration::from_secs(1800);
/// Logins at once while a file is filled.
const AT_ONCE: usize = 512;
/// Sessions that are looked at.
const SAMPLE: usize = 2_000;
/// A seal adds version, key id, nonce and tag.
const SEAL: usize = 33;

fn now() -> Timestamp {
    Timestamp::from_unix(1_700_000_000)
}

/// A JWT with these claims and a signature of 256 bytes.
fn jwt(claims: &Map<String, Value>) -> String {
    let header = r#"{"alg":"RS256","typ":"JWT","kid":"FJ86GcF3jTbNLOco4NvZkUCIUmfYCqoqtOQeMfbhNlE"}"#;
    let signature: Vec<u8> = (0..8).flat_map(|_| vestibule::web::bytes::<32>().unwrap()).collect();
    let encode = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
    format!("{}.{}.{}", encode(header.as_bytes()), encode(&serde_json::to_vec(claims).unwrap()), encode(&signature))
}

fn uuid() -> String {
    let bytes = vestibule::web::bytes::<16>().unwrap();
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let parts = [(0, 8), (8, 12), (12, 16), (16, 20), (20, 32)];
    parts.map(|(from, to)| hex.get(from..to).unwrap().to_owned()).join("-")
}

/// A session as Keycloak makes them: three JWTs, a dozen claims, and userinfo that says some of them again.
fn session(number: usize) -> Session {
    let (subject, sid) = (uuid(), uuid());
    let claims = json!({
        "exp": 1_700_000_300, "iat": 1_700_000_000, "auth_time": 1_700_000_000, "jti": uuid(),
        "iss": "https://id.example.com/realms/corp", "aud": "web", "sub": subject, "typ": "ID", "azp": "web",
        "nonce": vestibule::web::token().unwrap(), "sid": sid, "at_hash": "Vx1qJbvOzTnXgmWcNRWo9g", "acr": "1",
        "email_verified": true, "name": format!("Person {number}"), "preferred_username": format!("person{number}"),
        "given_name": "Person", "family_name": number.to_string(), "email": format!("person{number}@example.com"),
        "groups": ["staff", "engineering", "vpn"],
    });
    let claims = claims.as_object().unwrap().clone();
    let mut access = claims.clone();
    access.insert("realm_access".to_owned(), json!({ "roles": ["offline_access", "uma_authorization", "default"] }));
    access.insert("scope".to_owned(), json!("openid profile email"));
    access.insert("allowed-origins".to_owned(), json!(["https://app.example.com"]));
    let refresh: Map<String, Value> =
        claims.iter().take(9).map(|(name, value)| (name.clone(), value.clone())).collect();
    let userinfo =
        ["sub", "email_verified", "name", "groups", "preferred_username", "given_name", "family_name", "email"];
    let userinfo = userinfo.iter().map(|name| ((*name).to_owned(), claims.get(*name).unwrap().clone())).collect();
    let name = |text| Name::parse(text).unwrap();
    Session {
        id: Handle::new().unwrap().id(),
        version: 0,
        binding: Arc::new(Binding {
            route: name("web"),
            provider: name("corp"),
            issuer: "https://id.example.com/realms/corp".to_owned(),
            client_id: "web".to_owned(),
        }),
        subject,
        sid: Some(sid),
        created_at: now(),
        expires_at: now().plus(Duration::from_secs(36_000)),
        userinfo,
        tokens: Tokens {
            access: AccessToken::from_stored(&jwt(&access)).unwrap(),
            access_expires_at: now().plus(Duration::from_secs(300)),
            obtained_at: now(),
            refresh: RefreshToken::from_stored(&jwt(&refresh)),
            id_token: IdToken::from_stored(&jwt(&claims)),
        },
        claims,
        profile: std::sync::OnceLock::new(),
    }
}

/// The bytes that the tokens of `session` stand for, sealed: what no store can do without.
fn sealed_tokens(session: &Session) -> usize {
    let tokens = &session.tokens;
    let refresh = tokens.refresh.as_ref().map_or("", |token| token.expose());
    let bytes = |jwt: &str| -> usize { jwt.split('.').map(|part| part.len() * 3 / 4).sum() };
    bytes(tokens.access.expose()) + bytes(refresh) + bytes(tokens.id_token.expose()) + SEAL
}

/// Memory of this process in bytes, without pages of files.
fn memory() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("RssAnon:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() * 1024
}

fn keys() -> Arc<KeyRing> {
    Arc::new(KeyRing::new(&[Secret::new("k".repeat(48))]).unwrap())
}

fn in_file(path: &Path) -> Sessions {
    let options = FileOptions { path: path.to_owned(), capacity: usize::MAX, keys: keys() };
    Sessions::in_file(options, Vec::new(), Arc::new(Metrics::new()))
}

/// Fills `sessions` with `count`, and says what each of them costs.
async fn fill(sessions: &Arc<Sessions>, count: usize) -> Vec<SessionId> {
    let before = memory();
    let begun = Instant::now();
    let (mut tokens, mut sample, mut logins) = (0, Vec::new(), JoinSet::new());
    for number in 0..count {
        let session = session(number);
        tokens += sealed_tokens(&session);
        if number % (count / SAMPLE).max(1) == 0 {
            sample.push(session.id);
        }
        let sessions = Arc::clone(sessions);
        logins.spawn(async move { sessions.insert(session, now()).await.map(drop) });
        if logins.len() == AT_ONCE {
            logins.join_next().await.unwrap().unwrap().unwrap();
        }
    }
    for login in logins.join_all().await {
        login.unwrap();
    }
    let (took, grown) = (begun.elapsed(), memory().saturating_sub(before));
    let (tokens, each) = (tokens / count, grown / count);
    println!("  {count} logins in {took:.1?}, {:.0} a second", count as f64 / took.as_secs_f64());
    println!(
        "  {each} bytes of memory each; their tokens sealed are {tokens}, so {} above them",
        each as i64 - tokens as i64
    );
    sample
}

/// Looks at each of `sample` once, when most of them are not held decoded, and then again and again.
async fn look(sessions: &Sessions, sample: &[SessionId]) {
    let look = async |ids: &[SessionId]| {
        let begun = Instant::now();
        for id in ids {
            assert!(sessions.load(*id, IDLE, Touch::Look, now()).await.unwrap().is_some());
        }
        begun.elapsed() / u32::try_from(ids.len()).unwrap()
    };
    let cold = look(sample).await;
    let few = sample.get(..100).unwrap_or(sample);
    look(few).await;
    println!("  a look: {:.1?} at a session in use, {cold:.1?} at any", look(few).await);
}

fn main() {
    let mut args = std::env::args().skip(1).filter(|arg| !arg.starts_with("--"));
    let runtime = Runtime::new().unwrap();
    match (args.next().as_deref(), args.next(), args.next()) {
        (Some("memory"), Some(count), None) => runtime.block_on(in_memory(count.parse().unwrap())),
        (Some("fill"), Some(count), Some(path)) => {
            runtime.block_on(fill_file(count.parse().unwrap(), Path::new(&path)))
        }
        (count, ..) => {
            let count = count.map_or(1_000_000, |count| count.parse().unwrap());
            println!("sessions in memory");
            assert!(myself().args(["memory", &count.to_string()]).status().unwrap().success());
            println!("sessions in a file");
            runtime.block_on(killed(count));
        }
    }
}

fn myself() -> Command {
    Command::new(std::env::current_exe().unwrap())
}

async fn in_memory(count: usize) {
    let sessions = Arc::new(Sessions::in_memory(Memory::new(usize::MAX), Vec::new(), Arc::new(Metrics::new())));
    let sample = fill(&sessions, count).await;
    look(&sessions, &sample).await;
    let begun = Instant::now();
    assert_eq!(sessions.sweep(IDLE, now()).await.unwrap(), 0);
    println!("  a sweep that finds nothing: {:.1?}", begun.elapsed());
}

/// Fills a file, and waits for its end.
async fn fill_file(count: usize, path: &Path) {
    let sessions = Arc::new(in_file(path));
    let sample = fill(&sessions, count).await;
    look(&sessions, &sample).await;
    let begun = Instant::now();
    assert_eq!(sessions.sweep(IDLE, now()).await.unwrap(), 0);
    println!("  a sweep that finds nothing: {:.1?}", begun.elapsed());
    let mut commits = Duration::ZERO;
    for number in 0..20 {
        let (begun, session) = (Instant::now(), session(number));
        sessions.insert(session, now()).await.unwrap();
        commits += begun.elapsed();
    }
    println!("  a login alone: {:.1?}", commits / 20);
    println!("filled");
    std::io::stdout().flush().unwrap();
    std::future::pending::<()>().await;
}

/// Has a file filled, kills whoever did it, and opens it.
async fn killed(count: usize) {
    let directory = tempfile::tempdir_in(std::env::current_dir().unwrap().join("target")).unwrap();
    let path: PathBuf = directory.path().join("sessions.redb");
    let mut child = myself().args(["fill", &count.to_string()]).arg(&path).stdout(Stdio::piped()).spawn().unwrap();
    for line in BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok) {
        if line == "filled" {
            break;
        }
        println!("{line}");
    }
    child.kill().unwrap();
    child.wait().unwrap();
    println!("  the file has {} MB", path.metadata().unwrap().len() / 1_000_000);

    let begun = Instant::now();
    let sessions = in_file(&path);
    let missing = Handle::new().unwrap().id();
    assert!(sessions.load(missing, IDLE, Touch::Look, now()).await.unwrap().is_none());
    let opened = begun.elapsed();
    assert_eq!(sessions.state(), ("file", State::Up));
    println!("  after kill -9 with {} sessions it answers after {opened:.1?}", sessions.count());
    let begun = Instant::now();
    sessions.close().await;
    println!("  it closes in {:.1?}", begun.elapsed());
}
