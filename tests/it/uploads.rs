//! Uploads: streamed, never buffered, answered early when the upstream wants no more, and never mistaken for requests.

use std::future::Future;
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::world::World;
use crate::world::live::cookie;

/// Longer than anything here takes, shorter than a person waits.
const PATIENCE: Duration = Duration::from_secs(10);

/// A request that must never be one.
const SMUGGLED: &str = "GET /api/smuggled HTTP/1.1\r\nHost: app.test\r\nSec-Fetch-Site: same-origin\r\n\r\n";

/// An upstream of which every connection runs `script`.
async fn scripted<F, Fut>(script: F) -> SocketAddr
where
    F: Fn(TcpStream) -> Fut + Send + 'static,
    Fut: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(script(stream));
        }
    });
    address
}

/// A world in front of `upstream`, with somebody logged in.
async fn world(upstream: SocketAddr) -> World {
    let world = World::builder()
        .config(move |toml| toml.text("upstreams.api", "url", &format!("http://{upstream}")))
        .start()
        .await;
    world.browser.login("alice").await;
    world
}

/// The head of an upload of `length` bytes.
fn head(world: &World, length: usize) -> String {
    let cookie = cookie(&world.browser);
    format!(
        "POST /api/upload HTTP/1.1\r\nHost: app.test\r\nCookie: {cookie}\r\nSec-Fetch-Site: same-origin\r\n\
         Content-Length: {length}\r\n\r\n"
    )
}

/// Reads `length` bytes and what came with them.
async fn read_at_least(stream: &mut TcpStream, length: usize) -> Vec<u8> {
    let mut seen = Vec::new();
    while seen.len() < length && stream.read_buf(&mut seen).await.unwrap_or(0) > 0 {}
    seen
}

/// A body full of requests.
fn body_of_requests(length: usize) -> Vec<u8> {
    let mut body = SMUGGLED.repeat(length / SMUGGLED.len() + 1).into_bytes();
    body.truncate(length);
    body
}

#[tokio::test]
async fn a_large_upload_without_a_session_is_refused_and_nothing_of_it_is_a_request() {
    let world = World::start().await;
    let body = body_of_requests(10_000_000);
    for _ in 0..5 {
        let mut raw = world.raw().await;
        raw.write(head(&world, body.len())).await;
        raw.write(&body).await;
        let seen = raw.read_all(PATIENCE).await.expect("closed");
        assert!(seen.starts_with("HTTP/1.1 401 ") && seen.contains("connection: close"), "{seen}");
        assert_eq!(seen.matches("HTTP/1.1 ").count(), 1, "{seen}");
    }
    assert_eq!(world.upstream.count(), 0);
    // What is small enough is read away, and the connection stays.
    let mut raw = world.raw().await;
    raw.write(head(&world, 500_000)).await;
    raw.write(&body_of_requests(500_000)).await;
    let refused = raw.read_answer().await;
    assert!(refused.starts_with("HTTP/1.1 401 ") && !refused.contains("connection: close"), "{refused}");
    raw.write("GET /check_auth HTTP/1.1\r\nHost: app.test\r\n\r\n").await;
    assert!(raw.read_answer().await.starts_with("HTTP/1.1 200 "));
    drop(raw);
    world.finish().await;
}

#[tokio::test]
async fn an_upstream_that_wants_no_more_is_heard_however_it_hangs_up() {
    const REFUSAL: &[u8] = b"HTTP/1.1 413 Too Large\r\nContent-Length: 8\r\nX-App: 1\r\n\r\nno room\n";
    // Closes over unread bytes, so that a reset follows the answer; or stays open and reads no more; or reads on.
    for manner in ["reset", "still", "reads on"] {
        let upstream = scripted(move |mut stream| async move {
            read_at_least(&mut stream, 70_000).await;
            stream.write_all(REFUSAL).await.unwrap();
            match manner {
                "still" => tokio::time::sleep(PATIENCE).await,
                "reads on" => drop(tokio::io::copy(&mut stream, &mut tokio::io::sink()).await),
                _ => {}
            }
        });
        let world = world(upstream.await).await;
        for _ in 0..10 {
            let began = Instant::now();
            let mut raw = world.raw().await;
            raw.write(head(&world, 10_000_000)).await;
            raw.write(&body_of_requests(10_000_000)).await;
            let seen = raw.read_all(PATIENCE).await.expect("closed");
            assert!(seen.starts_with("HTTP/1.1 413 ") && seen.ends_with("no room\n"), "{manner}: {seen}");
            assert!(seen.contains("x-app: 1") && seen.contains("connection: close"), "{manner}: {seen}");
            assert_eq!(seen.matches("HTTP/1.1 ").count(), 1, "{manner}: {seen}");
            assert!(began.elapsed() < PATIENCE / 2, "{manner}: {:?}", began.elapsed());
        }
        // A rest that is small enough is read away before the answer, and the connection stays.
        let mut raw = world.raw().await;
        raw.write(head(&world, 700_000)).await;
        raw.write(&body_of_requests(700_000)).await;
        let refused = raw.read_answer().await;
        assert!(refused.starts_with("HTTP/1.1 413 ") && !refused.contains("connection: close"), "{manner}: {refused}");
        raw.write("GET /check_auth HTTP/1.1\r\nHost: app.test\r\n\r\n").await;
        assert!(raw.read_answer().await.starts_with("HTTP/1.1 200 "), "{manner}");
        drop(raw);
        world.finish().await;
    }
}

#[tokio::test]
async fn an_upstream_that_answers_gladly_may_read_on() {
    let upstream = scripted(|mut stream| async move {
        let mut seen = read_at_least(&mut stream, 70_000).await;
        stream
            .write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nbegun\r\n")
            .await
            .unwrap();
        let start = seen.windows(4).position(|window| window == b"\r\n\r\n").unwrap() + 4;
        while seen.len() < start + 5_000_000 && stream.read_buf(&mut seen).await.unwrap() > 0 {}
        let told = format!("{:x}", seen.len() - start);
        let chunk = format!("{:x}\r\n{told}\r\n0\r\n\r\n", told.len());
        stream.write_all(chunk.as_bytes()).await.unwrap();
    });
    let world = world(upstream.await).await;
    let mut raw = world.raw().await;
    raw.write(head(&world, 5_000_000)).await;
    raw.write(&vec![b'x'; 100_000]).await;
    // The answer begins while the upload goes on.
    raw.read_until("begun").await;
    raw.write(&vec![b'x'; 4_900_000]).await;
    raw.read_until("4c4b40").await;
    drop(raw);
    world.finish().await;
}

#[tokio::test]
async fn z15_too_large_a_body_is_cut_on_its_way_and_never_whole_upstream() {
    let rule = "{ upstream = \"api\", max_body = \"1MiB\" }";
    let world = World::builder().config(move |toml| toml.set("routes.web.paths", "\"/api/\"", rule)).start().await;
    world.browser.login("alice").await;
    let mut announced = world.raw().await;
    announced.write(head(&world, 20_000_000)).await;
    announced.write(&body_of_requests(20_000_000)).await;
    let seen = announced.read_all(PATIENCE).await.expect("closed");
    assert!(seen.starts_with("HTTP/1.1 413 ") && seen.contains("body_too_large"), "{seen}");
    assert_eq!(world.upstream.count(), 0);
    drop(announced);
    let mut chunked = world.raw().await;
    chunked.write(head(&world, 0).replace("Content-Length: 0", "Transfer-Encoding: chunked")).await;
    for _ in 0..100 {
        chunked.write("30d40\r\n").await;
        chunked.write(&body_of_requests(200_000)).await;
        chunked.write("\r\n").await;
    }
    let seen = chunked.read_all(PATIENCE).await.expect("closed");
    assert!(seen.starts_with("HTTP/1.1 413 ") && seen.contains("body_too_large"), "{seen}");
    assert_eq!(seen.matches("HTTP/1.1 ").count(), 1, "{seen}");
    drop(chunked);
    world.upstream.wait_for(1).await;
    assert!(world.upstream.recorded().iter().all(|request| !request.complete));
    world.finish().await;
}

#[tokio::test]
async fn an_upload_that_falls_silent_is_told_so() {
    let world = World::builder().config(|toml| toml.text("upstreams.api", "idle_timeout", "300ms")).start().await;
    world.browser.login("alice").await;
    let mut raw = world.raw().await;
    let began = Instant::now();
    raw.write(head(&world, 1000) + "half").await;
    let seen = raw.read_answer().await;
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    assert!(seen.contains("connection: close"), "{seen}");
    drop(raw);
    assert!(seen.starts_with("HTTP/1.1 408 ") && seen.contains("request_timeout"), "{seen}");
    world.upstream.wait_for(1).await;
    assert!(!world.upstream.last().complete);
    world.finish().await;
}

/// A program that is killed when the test is over.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The most memory that a process ever had, in MiB.
fn peak(process: &Child) -> usize {
    let status = std::fs::read_to_string(format!("/proc/{}/status", process.id())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() / 1024
}

/// How much goes up and down: 200 MB, or as many as `BODY_MEGABYTES` says.
fn size() -> usize {
    std::env::var_os("BODY_MEGABYTES").map_or(200, |megabytes| megabytes.to_str().unwrap().parse().unwrap()) * 1_000_000
}

/// Large bodies up and down through the program itself, in the memory that it needs anyway.
#[tokio::test]
async fn z15_bodies_of_any_size_pass_in_flat_memory() {
    let upstream = scripted(|mut stream| async move {
        let mut seen = Vec::new();
        while !seen.windows(4).any(|window| window == b"\r\n\r\n") {
            stream.read_buf(&mut seen).await.unwrap();
        }
        let uploads = seen.starts_with(b"POST");
        let start = seen.windows(4).position(|window| window == b"\r\n\r\n").unwrap() + 4;
        if uploads {
            let rest = (size() - (seen.len() - start)) as u64;
            let mut rest = (&mut stream).take(rest);
            assert_eq!(
                tokio::io::copy(&mut rest, &mut tokio::io::sink()).await.unwrap() as usize + seen.len() - start,
                size()
            );
            stream.write_all(b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n").await.unwrap();
        } else {
            stream.write_all(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n").await.unwrap();
            let block = vec![b'x'; 1_000_000];
            for _ in 0..size() / block.len() {
                stream.write_all(&block).await.unwrap();
            }
        }
    });
    let (upstream, dir) = (upstream.await, tempfile::tempdir().unwrap());
    let (socket, config) = (dir.path().join("web.sock"), dir.path().join("vestibule.toml"));
    let text = format!(
        "[server]\nlisten = \"unix:{}\"\nmetrics_listen = \"off\"\n[providers.corp]\nissuer = \"http://127.0.0.1:1\"\n\
         client_id = \"web\"\n[routes.web]\nmode = \"auth-code\"\npublic_url = \"https://app.test\"\n[routes.web.paths]\n\
         \"/api/\" = {{ upstream = \"http://{upstream}\", unauthenticated = \"pass\" }}\n",
        socket.display()
    );
    std::fs::write(&config, text).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_vestibule"));
    command.arg("run").arg("--config").arg(&config).stdout(Stdio::null()).stderr(Stdio::null());
    let process = Killed(command.spawn().unwrap());
    crate::world::eventually("the socket", || std::os::unix::net::UnixStream::connect(&socket).is_ok()).await;
    let ask = |line: &str, length: usize| {
        format!("{line} HTTP/1.1\r\nHost: app.test\r\nSec-Fetch-Site: same-origin\r\nContent-Length: {length}\r\n\r\n")
    };

    let mut stream = tokio::net::UnixStream::connect(&socket).await.unwrap();
    stream.write_all(ask("POST /api/upload", size()).as_bytes()).await.unwrap();
    let block = vec![b'x'; 1_000_000];
    for _ in 0..size() / block.len() {
        stream.write_all(&block).await.unwrap();
    }
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 204");

    let mut stream = tokio::net::UnixStream::connect(&socket).await.unwrap();
    stream.write_all(ask("GET /api/download", 0).as_bytes()).await.unwrap();
    let mut read = 0;
    let mut buffer = vec![0; 1 << 20];
    while read < size() {
        let length = stream.read(&mut buffer).await.unwrap();
        assert!(length > 0, "only {read} bytes came");
        read += length;
    }
    let peak = peak(&process.0);
    assert!(peak < 64, "{peak} MiB at most");
}
