//! HTTP/1.1 byte by byte, for heads that no client library would send.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// A connection on which the test writes what it likes.
pub struct Raw(TcpStream);

impl Raw {
    /// Connects.
    pub async fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Self(stream)
    }

    /// Writes these bytes; a peer that has hung up already is for [`Raw::read_all`] to tell.
    pub async fn write(&mut self, bytes: impl AsRef<[u8]>) {
        let _ = self.0.write_all(bytes.as_ref()).await;
    }

    /// Says that nothing more will come, and keeps reading.
    pub async fn half_close(&mut self) {
        let _ = self.0.shutdown().await;
    }

    /// Reads until the peer closes, at most `limit` long; `None` when it did not close in time.
    pub async fn read_all(&mut self, limit: Duration) -> Option<String> {
        let mut bytes = Vec::new();
        let read = timeout(limit, self.0.read_to_end(&mut bytes)).await;
        read.is_ok().then(|| String::from_utf8_lossy(&bytes).into_owned())
    }

    /// Reads one answer: its head, and the body that `Content-Length` announces.
    pub async fn read_answer(&mut self) -> String {
        let mut bytes = Vec::new();
        let done = timeout(Duration::from_secs(10), async {
            while !is_whole(&bytes) {
                let mut chunk = [0; 4096];
                match self.0.read(&mut chunk).await {
                    Ok(0) | Err(_) => break,
                    Ok(length) => bytes.extend_from_slice(&chunk[..length]),
                }
            }
        });
        assert!(done.await.is_ok(), "no answer in time, only: {}", String::from_utf8_lossy(&bytes));
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Reads until `text` has come; gives all that did.
    pub async fn read_until(&mut self, text: &str) -> String {
        let mut bytes = Vec::new();
        let reading = async {
            while !String::from_utf8_lossy(&bytes).contains(text) && self.0.read_buf(&mut bytes).await.unwrap_or(0) > 0
            {
            }
        };
        let in_time = timeout(Duration::from_secs(10), reading).await.is_ok();
        let seen = String::from_utf8_lossy(&bytes).into_owned();
        assert!(in_time && seen.contains(text), "{text:?} never came, only: {seen}");
        seen
    }

    /// Writes a request and gives the status of its answer; 0 when the peer closed without one.
    pub async fn status(address: SocketAddr, request: impl AsRef<[u8]>) -> u16 {
        let mut raw = Self::connect(address).await;
        raw.write(request).await;
        let answer = raw.read_answer().await;
        answer.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or(0)
    }
}

/// Whether `bytes` hold a head and all of the body that it announces.
fn is_whole(bytes: &[u8]) -> bool {
    let text = String::from_utf8_lossy(bytes);
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().ok())?
    });
    body.len() >= length.unwrap_or(0)
}
