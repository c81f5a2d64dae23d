//! Connections that leave HTTP behind: neither read, nor timed, nor forgotten any more.

use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;

use super::*;

const SWITCH: &[u8] = b"GET /switch HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n";

/// Says again what it hears until the other side is done.
pub(super) async fn echo(upgrade: OnUpgrade) {
    let mut side = TokioIo::new(upgrade.await.unwrap());
    let mut heard = [0; 1024];
    while let Ok(length @ 1..) = side.read(&mut heard).await {
        side.write_all(&heard[..length]).await.unwrap();
    }
}

async fn switched(listening: &Listening) -> TcpStream {
    let mut stream = TcpStream::connect(listening.address).await.unwrap();
    stream.write_all(SWITCH).await.unwrap();
    assert!(until(&mut stream, "\r\n\r\n").await.starts_with("HTTP/1.1 101 "));
    stream
}

#[tokio::test]
async fn f18_after_101_nothing_is_read_as_http_and_nothing_is_timed() {
    let listening = listening(hasty()).await;
    let mut stream = switched(&listening).await;
    for said in ["GET / HTTP/1.1\n\n", "a\nb\r\n\r\n", "\n"] {
        // Longer than a head or an idle connection may take.
        tokio::time::sleep(Duration::from_millis(700)).await;
        stream.write_all(said.as_bytes()).await.unwrap();
        let mut heard = vec![0; said.len()];
        tokio::time::timeout(PATIENCE, stream.read_exact(&mut heard)).await.expect("in time").unwrap();
        assert_eq!(String::from_utf8_lossy(&heard), said);
    }
}

#[tokio::test]
async fn l06_a_connection_keeps_its_seat_when_it_leaves_http() {
    let listening = listening(Manners { max_connections: 2, ..hasty() }).await;
    let (first, _second) = (switched(&listening).await, switched(&listening).await);
    let mut waiting = TcpStream::connect(listening.address).await.unwrap();
    waiting.write_all(b"GET /x HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    let served = tokio::time::timeout(Duration::from_millis(300), waiting.read_u8()).await;
    assert!(served.is_err(), "there was no seat left");
    drop(first);
    assert!(until(&mut waiting, ">").await.ends_with("<GET /x >"));
}

#[tokio::test]
async fn f18_who_asked_to_leave_http_and_may_not_is_not_listened_to_any_longer() {
    let listening = listening(hasty()).await;
    let early = "GET /early HTTP/1.1\r\nHost: a\r\n\r\n";
    let asked = format!("GET /x HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: other\r\n\r\n{early}");
    let seen = talk(listening.address, asked.as_bytes()).await;
    assert!(seen.contains("connection: close") && seen.ends_with("<GET /x >"), "{seen}");
}
