//! Listeners that move by reload (M23): the new one is there before the old one goes, what was begun on the old one comes
//! to its end, and an address that cannot be had changes nothing.

use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UnixStream};

use crate::world::upstream::Reply;
use crate::world::{Edit, World, eventually, port};

/// A route that hands on what anybody brings.
async fn world() -> World {
    let world = World::builder()
        .config(|toml| {
            toml.text("routes.cli", "mode", "device")
                .text("routes.cli", "client_id", "cli")
                .text("routes.cli", "public_url", "https://cli.test")
                .set("routes.cli", "verify", "false")
                .text("routes.cli", "upstream", "api")
        })
        .start()
        .await;
    world.upstream.on("/api/slow", Reply::text("at last").after(Duration::from_millis(700)));
    world
}

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nhost: cli.test\r\nauthorization: Bearer x\r\n\r\n")
}

/// Everything up to the end of the connection.
async fn rest(mut stream: impl tokio::io::AsyncRead + Unpin) -> String {
    let mut text = Vec::new();
    let read = tokio::time::timeout(Duration::from_secs(20), stream.read_to_end(&mut text)).await;
    read.expect("an end in time").unwrap();
    String::from_utf8(text).unwrap()
}

#[tokio::test]
async fn routes_move_from_tcp_to_a_unix_socket_and_back() {
    let world = world().await;
    let old = world.address().await;
    let mut slow = TcpStream::connect(old).await.unwrap();
    slow.write_all(get("/api/slow").as_bytes()).await.unwrap();
    eventually("the request to be on its way", || world.upstream.count() == 1).await;

    let path = world.dir().join("routes.sock");
    let unix = format!("unix:{}", path.display());
    assert_eq!(world.edit(|toml| toml.text("server", "listen", &unix)).await, Edit::Served);
    let mut new = UnixStream::connect(&path).await.unwrap();
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o660);
    new.write_all(get("/api/quick").replace("\r\n\r\n", "\r\nconnection: close\r\n\r\n").as_bytes())
        .await
        .unwrap();
    assert!(rest(new).await.starts_with("HTTP/1.1 200 "));
    assert!(TcpStream::connect(old).await.is_err(), "nobody listens at the old address");
    let slow = rest(slow).await;
    assert!(slow.starts_with("HTTP/1.1 200 ") && slow.contains("connection: close"), "{slow}");
    assert!(slow.ends_with("at last"), "{slow}");

    let back = format!("127.0.0.1:{}", old.port());
    assert_eq!(world.edit(|toml| toml.text("server", "listen", &back)).await, Edit::Served);
    eventually("the socket to go", || !path.exists()).await;
    assert!(TcpStream::connect(old).await.is_ok());
    world.finish().await;
}

#[tokio::test]
async fn m23_an_address_that_is_taken_changes_nothing_and_a_route_alone_may_move() {
    let world = world().await;
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let old = world.address().await;
    let refused = world.edit(|toml| {
        toml.text("routes.cli", "listen", &address).text("routes.web", "home_url", "https://app.test/new")
    });
    assert_eq!(refused.await, Edit::Refused);
    assert!(world.log().contains(&format!("cannot listen on {address}")), "{}", world.log());
    let mut stream = TcpStream::connect(old).await.unwrap();
    stream.write_all(get("/api/quick").as_bytes()).await.unwrap();
    let mut head = [0; 12];
    stream.read_exact(&mut head).await.unwrap();
    assert_eq!(&head, b"HTTP/1.1 200");
    drop(taken);
    let served = world.edit(|toml| toml.text("routes.web", "home_url", "https://app.test/newer"));
    assert_eq!(served.await, Edit::Served);
    stream.write_all(get("/api/quick").as_bytes()).await.unwrap();
    // The old listener is there for the other route; there, this one is nobody.
    let mut text = String::new();
    while !text.contains("host_mismatch") {
        let mut bytes = [0; 1024];
        let length = stream.read(&mut bytes).await.unwrap();
        assert!(length > 0, "{text}");
        text.push_str(&String::from_utf8_lossy(&bytes[..length]));
    }
    world.finish().await;
}

/// From loopback to all addresses and back, which are one port: what is kept anyway may be in the way, what goes is not.
#[tokio::test]
async fn m23_a_listener_moves_to_all_addresses_of_its_port_and_back() {
    let world = world().await;
    let port = port::free().port();
    let loopback = std::net::SocketAddr::from(([127, 0, 0, 1], port));
    let answers = async || {
        let mut stream = TcpStream::connect(loopback).await.unwrap();
        let ask = get("/api/quick").replace("\r\n\r\n", "\r\nconnection: close\r\n\r\n");
        stream.write_all(ask.as_bytes()).await.unwrap();
        assert!(rest(stream).await.starts_with("HTTP/1.1 200 "));
    };
    let trusted = world.edit(|toml| toml.set("server", "trusted_proxies", "[\"127.0.0.0/8\"]"));
    assert_eq!(trusted.await, Edit::Served);
    for host in ["127.0.0.1", "0.0.0.0", "127.0.0.1", "[::]", "0.0.0.0", "127.0.0.1"] {
        let listen = format!("{host}:{port}");
        assert_eq!(
            world.edit(|toml| toml.text("server", "listen", &listen)).await,
            Edit::Served,
            "{listen}\n{}",
            world.log()
        );
        answers().await;
    }
    // Both at once are what a start would refuse, too.
    let all = format!("0.0.0.0:{port}");
    assert_eq!(world.edit(|toml| toml.text("routes.cli", "listen", &all)).await, Edit::Refused);
    answers().await;
    world.finish().await;
}
