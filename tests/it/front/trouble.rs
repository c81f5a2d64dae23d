//! When there is no verdict, there is no app: Vestibule is away, says nothing, says something else, or says no.

use std::future::Future;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::{Front, PATIENCE, Seen};
use crate::caddies;
use crate::world::port;
use crate::world::raw::Raw;
use crate::world::upstream::Reply;

/// Tells `story` of each Caddy, of all at once: what they wait for takes seconds.
async fn of_each<F: Future<Output = ()> + Send + 'static>(story: fn(std::path::PathBuf) -> F) {
    let caddies = caddies::all();
    assert!(!caddies.is_empty(), "there is no Caddy to test with; tests/run fetches two");
    for told in caddies.into_iter().map(|binary| tokio::spawn(story(binary))).collect::<Vec<_>>() {
        told.await.unwrap();
    }
}

/// Asks both doors that stand behind a verdict, and asserts that they stay shut.
async fn stay_shut(front: &Front, expected: &[u16]) {
    let mut seen = Seen::default();
    let actors = [Front::nobody(), front.somebody("alice").await, front.with_bearer()];
    // At once: Caddy asks again for three seconds.
    let asks = actors.iter().flat_map(|actor| ["/reports/x", "/things/x"].map(|door| (actor, door)));
    let asks = asks.map(|(actor, door)| async move {
        let status = front.send(&format!("GET {door}"), actor, "").await;
        assert!(expected.contains(&status), "{} at {door}: {status}", actor.name);
    });
    futures_util::future::join_all(asks).await;
    assert!(front.reached(&mut seen).is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a23_without_vestibule_an_app_stays_shut() {
    of_each(|binary| async move {
        let front = Front::with(&binary, Some(port::free())).await;
        stay_shut(&front, &[502]).await;
        front.world.finish().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a23_a_silent_vestibule_is_a_no_after_twelve_seconds() {
    of_each(|binary| async move {
        let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let front = Front::with(&binary, Some(silent.local_addr().unwrap())).await;
        let alice = front.somebody("alice").await;
        let mut seen = Seen::default();
        assert_eq!(front.send("GET /reports/x", &alice, "").await, 504);
        assert!(front.reached(&mut seen).is_empty());
        front.world.finish().await;
    })
    .await;
}

/// Answers every connection with `answer`, after the head of its request has come.
async fn speaking(answer: &'static str) -> (std::net::SocketAddr, tokio::task::JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let speaks = move |mut stream: TcpStream| async move {
        let mut head = [0; 16 << 10];
        let _ = stream.read(&mut head).await;
        let _ = stream.write_all(answer.as_bytes()).await;
    };
    let task = tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(speaks(stream));
        }
    });
    (address, task)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fa_1_nothing_but_the_marked_204_is_a_yes() {
    of_each(|binary| async move {
        for answer in [
            "HTTP/1.1 200 OK\r\nVestibule-Verdict: allow\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
            "HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n",
            "HTTP/1.1 204 No Content\r\nVestibule-Verdict: deny\r\nConnection: close\r\n\r\n",
            "HTTP/1.1 204 No Content\r\nX-Vestibule-Verdict: allow\r\nConnection: close\r\n\r\n",
            "HTTP/1.1 299 Odd\r\nVestibule-Verdict: allow\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
            "HTTP/1.1 304 Not Modified\r\nVestibule-Verdict: allow\r\nConnection: close\r\n\r\n",
            "HTTP/1.1 500 No\r\nVestibule-Verdict: allow\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
            "HTTP/1.1 103 Early Hints\r\nVestibule-Verdict: allow\r\n\r\nHTTP/1.1 403 No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
            "no HTTP at all\r\n\r\n",
            "",
        ] {
            let (address, task) = speaking(answer).await;
            let front = Front::with(&binary, Some(address)).await;
            // Early hints are passed on to the client as they come.
            stay_shut(&front, &[103, 403, 500, 502]).await;
            front.world.finish().await;
            task.abort();
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a24_a_no_shows_nothing_of_the_app() {
    of_each(|binary| async move {
        let front = Front::behind(&binary).await;
        let secret = "what only members may read";
        for app in [&front.world.upstream, &front.wiki, &front.reports, &front.things] {
            app.on("/", Reply::text(secret));
        }
        let (carol, nobody) = (front.somebody("carol").await, Front::nobody());
        for (door, actor) in [
            ("/wiki/x", &carol),
            ("/things/x", &carol),
            ("/api/x", &nobody),
            ("/wiki/x", &nobody),
            ("/reports/x", &nobody),
            ("/things/x", &nobody),
        ] {
            let mut raw = Raw::connect(front.caddy.address).await;
            raw.write(format!("GET {door} HTTP/1.1\r\nHost: app.test\r\nConnection: close\r\n{}\r\n", actor.lines))
                .await;
            let answer = raw.read_all(PATIENCE).await.expect("an end in time");
            assert!(answer.starts_with("HTTP/1.1 4") && !answer.contains(secret), "{} at {door}: {answer}", actor.name);
        }
        front.world.finish().await;
    })
    .await;
}
