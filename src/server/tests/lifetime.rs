//! How long connections and listeners live: patience, panics, limits, and endings.

use std::os::unix::fs::PermissionsExt as _;
use std::time::Instant;

use tokio::net::{UnixListener, UnixStream};

use super::*;

const GET: &[u8] = b"GET /x HTTP/1.1\r\nHost: a\r\n\r\n";

async fn connect(listening: &Listening) -> TcpStream {
    TcpStream::connect(listening.address).await.unwrap()
}

#[tokio::test]
async fn l01_in_1_a_silent_connection_is_closed() {
    let listening = listening(hasty()).await;
    assert_eq!(until_closed(&mut connect(&listening).await).await, "");
}

#[tokio::test]
async fn in_1_a_head_that_trickles_in_is_cut_whatever_came_before() {
    let listening = listening(hasty()).await;
    for kept_alive in [false, true] {
        let mut stream = connect(&listening).await;
        if kept_alive {
            stream.write_all(GET).await.unwrap();
            until(&mut stream, ">").await;
        }
        let begun = Instant::now();
        let (mut reading, mut writing) = stream.into_split();
        let trickle = tokio::spawn(async move {
            while writing.write_all(b"G").await.is_ok() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        });
        let mut rest = Vec::new();
        let _ = tokio::time::timeout(PATIENCE, reading.read_to_end(&mut rest)).await.expect("closed in time");
        assert!(begun.elapsed() < Duration::from_millis(550), "sooner than an idle connection: {:?}", begun.elapsed());
        trickle.abort();
    }
}

#[tokio::test]
async fn l05_an_idle_connection_outlives_the_patience_for_heads_and_then_ends() {
    let listening = listening(hasty()).await;
    let mut stream = connect(&listening).await;
    for _ in 0..2 {
        stream.write_all(GET).await.unwrap();
        assert!(until(&mut stream, ">").await.ends_with("<GET /x >"));
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    let idle = Instant::now();
    assert_eq!(until_closed(&mut stream).await, "");
    assert!(idle.elapsed() > Duration::from_millis(150));
}

#[tokio::test]
async fn a_request_that_is_being_served_has_no_clock_here() {
    let listening = listening(hasty()).await;
    let mut stream = connect(&listening).await;
    stream.write_all(b"GET /wait HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    tokio::time::sleep(Duration::from_millis(800)).await;
    listening.gate.notify_one();
    assert!(until(&mut stream, ">").await.ends_with("<GET /wait >"));
}

#[tokio::test]
async fn a_refused_upload_is_read_away_so_that_no_reset_overtakes_the_answer() {
    let listening = listening(Manners::default()).await;
    let mut stream = connect(&listening).await;
    let body = vec![b'x'; 16 << 20];
    let head = format!("POST /refuse HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n", body.len());
    stream.write_all(head.as_bytes()).await.unwrap();
    tokio::time::timeout(PATIENCE, stream.write_all(&body)).await.expect("in time").expect("no reset");
    assert!(until_closed(&mut stream).await.ends_with("\r\n\r\nno"));
}

#[tokio::test]
async fn a_refused_upload_that_never_ends_is_cut() {
    let listening = listening(hasty()).await;
    let mut stream = connect(&listening).await;
    stream
        .write_all(b"POST /refuse HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999\r\n\r\n")
        .await
        .unwrap();
    let upload = async { while stream.write_all(&[b'x'; 4096]).await.is_ok() {} };
    tokio::time::timeout(PATIENCE, upload).await.expect("cut in time");
}

#[tokio::test]
async fn l04_a_client_that_reads_nothing_is_cut() {
    let listening = listening(hasty()).await;
    let mut stream = connect(&listening).await;
    stream.write_all(b"GET /large HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    tokio::time::sleep(Duration::from_millis(500)).await;
    let mut seen = Vec::new();
    let _ = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut seen)).await.expect("closed in time");
    assert!(seen.len() < 64 << 20, "{} bytes", seen.len());
}

#[tokio::test]
async fn a_panic_becomes_a_500_and_ends_nothing_else() {
    let listening = listening(hasty()).await;
    let mut waiting = connect(&listening).await;
    waiting.write_all(b"GET /wait HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    let seen = talk(listening.address, b"GET /panic HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert!(seen.starts_with("HTTP/1.1 500 ") && seen.contains("vestibule-error: internal_error"), "{seen}");
    listening.gate.notify_one();
    assert!(until(&mut waiting, ">").await.ends_with("<GET /wait >"));
}

#[tokio::test]
async fn l06_beyond_the_limit_new_connections_wait_until_silent_ones_are_closed() {
    let manners = Manners { max_connections: 4, ..hasty() };
    let listening = listening(manners).await;
    let mut silent = Vec::new();
    for _ in 0..8 {
        silent.push(connect(&listening).await);
    }
    let mut stream = connect(&listening).await;
    stream.write_all(GET).await.unwrap();
    assert!(until(&mut stream, ">").await.ends_with("<GET /x >"));
}

#[tokio::test]
async fn l15_closing_finishes_what_was_begun_and_closes_what_is_idle() {
    let listening = listening(Manners::default()).await;
    let mut idle = connect(&listening).await;
    idle.write_all(GET).await.unwrap();
    until(&mut idle, ">").await;
    let mut fresh = connect(&listening).await;
    let mut busy = connect(&listening).await;
    busy.write_all(b"GET /wait HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    // The request is on its way to the service when a later one on another connection has been answered.
    let mut other = connect(&listening).await;
    other.write_all(GET).await.unwrap();
    until(&mut other, ">").await;

    let address = listening.address;
    let closing = tokio::spawn(listening.running.close(PATIENCE));
    assert_eq!(until_closed(&mut idle).await, "");
    assert_eq!(until_closed(&mut fresh).await, "");
    assert!(TcpStream::connect(address).await.is_err());
    assert!(!closing.is_finished());
    listening.gate.notify_one();
    assert!(until_closed(&mut busy).await.ends_with("<GET /wait >"));
    tokio::time::timeout(PATIENCE, closing).await.unwrap().unwrap();
}

/// A client that picked a kept connection just before it would be closed: its request may be one that must not be sent
/// twice, so it has to be answered.
#[tokio::test]
async fn l15_a_request_that_crosses_the_end_of_an_idle_connection_is_answered() {
    let listening = listening(Manners::default()).await;
    let mut kept = connect(&listening).await;
    kept.write_all(GET).await.unwrap();
    until(&mut kept, ">").await;
    let closing = tokio::spawn(listening.running.close(PATIENCE));
    while TcpStream::connect(listening.address).await.is_ok() {
        tokio::task::yield_now().await;
    }
    kept.write_all(b"POST /once HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi").await.unwrap();
    let answer = until_closed(&mut kept).await;
    assert!(answer.contains("connection: close") && answer.ends_with("<POST /once hi>"), "{answer}");
    tokio::time::timeout(PATIENCE, closing).await.unwrap().unwrap();
}

#[tokio::test]
async fn l15_closing_cuts_what_does_not_finish() {
    let listening = listening(Manners::default()).await;
    let mut busy = connect(&listening).await;
    busy.write_all(b"GET /wait HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    let mut other = connect(&listening).await;
    other.write_all(GET).await.unwrap();
    until(&mut other, ">").await;
    tokio::time::timeout(PATIENCE, listening.running.close(Duration::from_millis(50))).await.unwrap();
    assert_eq!(until_closed(&mut busy).await, "");
}

async fn unix(path: &std::path::Path) -> std::io::Result<Running> {
    let bound = Bound::prepare(&Listen::Unix(path.to_owned()), 0o660, &crate::server::Inherited::default()).await?;
    let gate = Gate::default();
    Ok(bound.commit(move |request, peer| {
        assert_eq!(peer, Peer::Unix);
        service(Arc::clone(&gate), request, peer)
    }))
}

async fn asks(path: &std::path::Path) -> String {
    let mut stream = UnixStream::connect(path).await.unwrap();
    stream.write_all(b"GET /x HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await.unwrap();
    let mut seen = String::new();
    stream.read_to_string(&mut seen).await.unwrap();
    seen
}

#[tokio::test]
async fn a_unix_socket_is_for_owner_and_group_and_goes_with_its_listener() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("app.sock");
    let running = unix(&path).await.unwrap();
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o660);
    assert!(asks(&path).await.ends_with("<GET /x >"));
    running.close(PATIENCE).await;
    assert!(!path.exists());
}

#[tokio::test]
async fn a_stale_unix_socket_is_replaced_and_a_living_one_is_not() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("app.sock");
    drop(UnixListener::bind(&path).unwrap());
    assert!(path.exists());
    let running = unix(&path).await.unwrap();
    assert_eq!(unix(&path).await.unwrap_err().kind(), std::io::ErrorKind::AddrInUse);
    assert!(asks(&path).await.ends_with("<GET /x >"));

    // A successor that took the path over keeps it when the first one ends.
    std::fs::remove_file(&path).unwrap();
    let successor = unix(&path).await.unwrap();
    running.close(PATIENCE).await;
    assert!(asks(&path).await.ends_with("<GET /x >"));
    successor.close(PATIENCE).await;
}

#[tokio::test]
async fn what_is_no_socket_stays_where_it_is() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("precious");
    std::fs::write(&path, "data").unwrap();
    assert!(unix(&path).await.is_err());
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "data");
}
