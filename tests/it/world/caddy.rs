//! A real Caddy as a process of its own.

use std::fs::File;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tokio::net::TcpStream;

/// A running Caddy. Killed when it is dropped.
pub struct Caddy {
    child: Child,
    /// Where it serves, without TLS.
    pub address: SocketAddr,
    log: PathBuf,
}

impl Caddy {
    /// Starts the program at `binary` in `directory`, and waits until it listens. In `caddyfile` and in the values of
    /// `environment`, `{port}` stands for the port that is found for it. It speaks HTTP/1.1, and HTTP/2 without TLS.
    pub async fn start(binary: &Path, directory: &Path, caddyfile: &str, environment: &[(&str, String)]) -> Self {
        std::fs::create_dir_all(directory).unwrap();
        for _ in 0..5 {
            let mut caddy = Self::spawn(binary, directory, caddyfile, environment);
            if caddy.listens().await {
                return caddy;
            }
        }
        let log = std::fs::read_to_string(directory.join("caddy.log")).unwrap();
        panic!("Caddy does not start:\n{log}");
    }

    fn spawn(binary: &Path, directory: &Path, caddyfile: &str, environment: &[(&str, String)]) -> Self {
        let address = super::port::free();
        let fill = |text: &str| text.replace("{port}", &address.port().to_string());
        let (file, log) = (directory.join("Caddyfile"), directory.join("caddy.log"));
        let options = "{\n\tadmin off\n\tauto_https off\n\tservers {\n\t\tprotocols h1 h2c\n\t}\n}\n";
        std::fs::write(&file, format!("{options}{}", fill(caddyfile))).unwrap();
        let child = Command::new(binary)
            .args(["run", "--adapter", "caddyfile", "--config"])
            .arg(&file)
            .envs(environment.iter().map(|(name, value)| (*name, fill(value))))
            // Whatever it keeps, it keeps here.
            .env("XDG_DATA_HOME", directory)
            .env("XDG_CONFIG_HOME", directory)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(&log).unwrap())
            .spawn()
            .unwrap();
        Self { child, address, log }
    }

    /// Waits until it listens; false when it ended instead, since somebody else took its port meanwhile.
    async fn listens(&mut self) -> bool {
        let begun = Instant::now();
        while !self.log().contains("serving initial configuration") || TcpStream::connect(self.address).await.is_err() {
            if self.child.try_wait().unwrap().is_some() {
                return false;
            }
            assert!(begun.elapsed() < Duration::from_secs(60), "Caddy does not listen:\n{}", self.log());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        true
    }

    /// What it said.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Drop for Caddy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
