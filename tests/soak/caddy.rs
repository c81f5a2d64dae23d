//! A real Caddy before a world, with the Caddyfile that `vestibule caddyfile` prints for it.

use std::path::Path;
use std::process::Command;

use crate::world::World;
use crate::world::caddy::Caddy;

/// Starts the program at `binary` in front of the process of `world`.
pub async fn before(world: &World, binary: &Path) -> Caddy {
    Caddy::start(binary, &world.dir().join("caddy"), &caddyfile(world).await, &[]).await
}

/// What `vestibule caddyfile` prints, for the address that was bound. Its site has no name beyond this machine, so it is
/// served without TLS at a port of its own, `{port}`.
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
