//! A real Caddy before a world, with the Caddyfile that `vestibule caddyfile` prints for it.

use std::fs::File;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tokio::net::TcpStream;

use crate::world::World;

/// A running Caddy. Killed when it is dropped.
pub struct Caddy {
    child: Child,
    /// Where it serves the site `app.test`, without TLS.
    pub address: SocketAddr,
    log: PathBuf,
}

impl Caddy {
    /// Starts the program at `binary` in front of the process of `world`, and waits until it listens.
    pub async fn before(world: &World, binary: &Path) -> Self {
        let caddyfile = Self::caddyfile(world).await;
        Self::start(binary, &world.dir().join("caddy"), &caddyfile).await
    }

    /// What `vestibule caddyfile` prints, for the address that was bound. Its site has no name beyond this machine, so it
    /// is served without TLS at a port of its own, `{port}`.
    pub async fn caddyfile(world: &World) -> String {
        let config = world.dir().join("vestibule.toml");
        let printed = Command::new(env!("CARGO_BIN_EXE_vestibule"))
            .args(["caddyfile", "--config"])
            .arg(config)
            .output()
            .unwrap();
        assert!(printed.status.success(), "{}", String::from_utf8_lossy(&printed.stderr));
        let text = String::from_utf8(printed.stdout).unwrap();
        let bound = world.address().await.to_string();
        assert!(text.contains("\napp.test {") && (text.contains("127.0.0.1:0") || text.contains(&bound)), "{text}");
        text.replace("127.0.0.1:0", &bound).replace("\napp.test {", "\nhttp://app.test:{port} {")
    }

    /// Starts Caddy in `directory` with `caddyfile`, in which `{port}` stands for the port that is found for it.
    pub async fn start(binary: &Path, directory: &Path, caddyfile: &str) -> Self {
        std::fs::create_dir_all(directory).unwrap();
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let text = caddyfile.replace("{port}", &address.port().to_string());
        let (file, log) = (directory.join("Caddyfile"), directory.join("caddy.log"));
        std::fs::write(&file, format!("{{\n\tadmin off\n\tauto_https off\n}}\n{text}")).unwrap();
        let child = Command::new(binary)
            .args(["run", "--adapter", "caddyfile", "--config"])
            .arg(&file)
            // Whatever it keeps, it keeps here.
            .env("XDG_DATA_HOME", directory)
            .env("XDG_CONFIG_HOME", directory)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(&log).unwrap())
            .spawn()
            .unwrap();
        let caddy = Self { child, address, log };
        let begun = Instant::now();
        while TcpStream::connect(address).await.is_err() {
            assert!(begun.elapsed() < Duration::from_secs(60), "Caddy does not listen:\n{}", caddy.log());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        caddy
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
