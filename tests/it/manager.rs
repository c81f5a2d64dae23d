//! Under a service manager: it holds the sockets over a restart, hears of every phase, and is heard when it says stop.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::world::process::Process;

/// What the manager holds: two sockets, and the one that it listens at.
struct Manager {
    dir: TempDir,
    web: TcpListener,
    control: UnixListener,
    notify: UnixDatagram,
}

impl Manager {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let web = TcpListener::bind("127.0.0.1:0").unwrap();
        let path = dir.path().join("control.sock");
        let control = UnixListener::bind(&path).unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).unwrap();
        let notify = UnixDatagram::bind(dir.path().join("notify")).unwrap();
        notify.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let manager = Self { dir, web, control, notify };
        manager.write("");
        manager
    }

    fn config(&self) -> PathBuf {
        self.dir.path().join("vestibule.toml")
    }

    /// Writes a config that listens at both sockets.
    fn write(&self, more: &str) {
        let text = format!(
            "[server]\nlisten = \"{}\"\nmetrics_listen = \"off\"\ncontrol = \"unix:{}/control.sock\"\n[log]\nformat = \
             \"json\"\n[providers.corp]\nissuer = \"https://id.example\"\nclient_id = \"web\"\n[routes.web]\nmode = \
             \"auth-code\"\npublic_url = \"https://app.test\"\nupstream = \"http://127.0.0.1:9\"\n{more}",
            self.web.local_addr().unwrap(),
            self.dir.path().display()
        );
        let new = self.config().with_extension("new");
        std::fs::write(&new, text).unwrap();
        std::fs::rename(new, self.config()).unwrap();
    }

    fn start(&self) -> Process {
        let sockets = [self.web.try_clone().unwrap().into(), self.control.try_clone().unwrap().into()];
        Process::start_managed(&self.config(), sockets, Some(&self.dir.path().join("notify")))
    }

    /// What the manager is told next, but for signs of life.
    fn hears(&self) -> String {
        loop {
            let mut buffer = [0; 4096];
            let length = self.notify.recv(&mut buffer).expect("the manager is told something");
            let told = String::from_utf8(buffer[..length].to_vec()).unwrap();
            if told != "WATCHDOG=1\n" {
                return told;
            }
        }
    }

    /// Sends a request, which waits in the socket's queue when nobody serves.
    fn ask(&self) -> TcpStream {
        let mut stream = TcpStream::connect(self.web.local_addr().unwrap()).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream
            .write_all(b"GET /check_auth HTTP/1.1\r\nhost: app.test\r\nconnection: close\r\n\r\n")
            .unwrap();
        stream
    }
}

fn answer(mut stream: TcpStream) -> String {
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text
}

#[test]
fn a_restart_leaves_the_sockets_open_and_who_comes_meanwhile_is_served() {
    let manager = Manager::new();
    let process = manager.start();
    let ready = manager.hears();
    assert!(ready.starts_with("READY=1\nSTATUS=serving config version "), "{ready}");
    assert!(answer(manager.ask()).starts_with("HTTP/1.1 200 "));
    let mut waiting = Vec::new();
    let (status, log) = process.stop();
    assert!(status.success(), "{log}");
    assert!(manager.hears().starts_with("STOPPING=1\n"));
    for _ in 0..20 {
        waiting.push(manager.ask());
    }
    assert!(manager.dir.path().join("control.sock").exists(), "the file is not ours to remove");
    let process = manager.start();
    for stream in waiting {
        assert!(answer(stream).starts_with("HTTP/1.1 200 "));
    }
    // The other socket serves, too.
    let mut control = UnixStream::connect(manager.dir.path().join("control.sock")).unwrap();
    control.write_all(b"GET /-/config HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").unwrap();
    let mut text = String::new();
    control.read_to_string(&mut text).unwrap();
    assert!(text.starts_with("HTTP/1.1 200 ") && text.contains("[routes.web]"), "{text}");
    assert!(process.stop().0.success());
}

#[test]
fn the_manager_hears_of_each_reload_and_signs_of_life_until_the_end() {
    let manager = Manager::new();
    let process = manager.start();
    assert!(manager.hears().starts_with("READY=1\n"));
    // An edit that serves, one that does not, and a signal without an edit.
    manager.write("home_url = \"https://app.test/x\"\n");
    let reloading = manager.hears();
    assert!(reloading.starts_with("RELOADING=1\nMONOTONIC_USEC="), "{reloading}");
    let ready = manager.hears();
    assert!(ready.starts_with("READY=1\n") && ready.contains("generation 2") && !ready.contains("refused"), "{ready}");
    let before = Instant::now();
    process.signal("HUP");
    assert!(manager.hears().starts_with("RELOADING=1\n"));
    assert!(manager.hears().starts_with("READY=1\n"));
    assert!(before.elapsed() < Duration::from_secs(10));
    // Signs of life come twice in the time that the manager waits.
    let mut buffer = [0; 64];
    for _ in 0..3 {
        let length = manager.notify.recv(&mut buffer).unwrap();
        assert_eq!(&buffer[..length], b"WATCHDOG=1\n");
    }
    assert!(process.stop().0.success());
    assert!(manager.hears().starts_with("STOPPING=1\n"));
}

/// A request that the upstream never answers holds the first SIGTERM up; the second one does not wait.
#[test]
fn a_second_sigterm_ends_at_once() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let manager = Manager::new();
    manager.write(&format!(
        "[routes.api]\nmode = \"device\"\nclient_id = \"cli\"\npublic_url = \"https://api.test\"\nverify = false\nupstream = \
         \"http://{}\"\n",
        silent.local_addr().unwrap()
    ));
    let process = manager.start();
    let mut stream = TcpStream::connect(manager.web.local_addr().unwrap()).unwrap();
    stream
        .write_all(b"GET /api/x HTTP/1.1\r\nhost: api.test\r\nauthorization: Bearer x\r\n\r\n")
        .unwrap();
    let (_held, _) = silent.accept().unwrap();
    process.signal("TERM");
    process.says("shutting down");
    let begun = Instant::now();
    process.signal("TERM");
    let (status, log) = process.ended();
    assert!(!status.success() && log.contains("second signal"), "{log}");
    assert!(begun.elapsed() < Duration::from_secs(5), "it took {:?}", begun.elapsed());
}

/// Fail closed: what should be for its owner alone is not served to others because the manager's unit forgot the mode.
#[test]
fn ad_1_a_control_socket_that_others_can_open_is_refused() {
    let manager = Manager::new();
    std::fs::set_permissions(manager.dir.path().join("control.sock"), PermissionsExt::from_mode(0o666)).unwrap();
    let started = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| manager.start()));
    let why = *started.err().expect("it does not start").downcast::<String>().unwrap();
    assert!(why.contains("mode 666; set SocketMode=0600"), "{why}");
}

#[test]
fn a_socket_that_nothing_listens_at_is_told() {
    let manager = Manager::new();
    let process = manager.start();
    assert!(!process.log().contains("nothing in the configuration listens there"));
    let text = std::fs::read_to_string(manager.config()).unwrap();
    let text: Vec<&str> = text.lines().filter(|line| !line.starts_with("control")).collect();
    std::fs::write(manager.config(), text.join("\n")).unwrap();
    process.says("nothing in the configuration listens there");
    // It comes back by reload although nobody could bind its path anew.
    manager.write("");
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(20) && process.log().matches("configuration reloaded").count() < 2 {
        std::thread::sleep(Duration::from_millis(10));
    }
    let mut control = UnixStream::connect(manager.dir.path().join("control.sock")).unwrap();
    control.write_all(b"GET /-/config HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").unwrap();
    let mut text = String::new();
    control.read_to_string(&mut text).unwrap();
    assert!(text.starts_with("HTTP/1.1 200 "), "{text}");
    assert!(process.stop().0.success());
}

/// The units that ship are right by systemd's own judgement, where it is here to ask.
#[test]
fn the_units_are_well_formed() {
    let dir = tempfile::tempdir().unwrap();
    let units = ["vestibule.service", "vestibule.socket"];
    for unit in units {
        let text = std::fs::read_to_string(format!("{}/config/systemd/{unit}", env!("CARGO_MANIFEST_DIR"))).unwrap();
        assert!(text.contains("/usr/local/bin/vestibule run") || unit.ends_with("socket"));
        std::fs::write(dir.path().join(unit), text.replace("/usr/local/bin/vestibule", "/bin/true")).unwrap();
    }
    let verify = std::process::Command::new("systemd-analyze")
        .args(["verify", "--man=no"])
        .args(units.map(|unit| dir.path().join(unit)))
        .output();
    let Ok(verify) = verify else { return };
    let said = String::from_utf8_lossy(&verify.stderr).into_owned();
    assert!(verify.status.success() && !said.contains("vestibule"), "{said}");
}
