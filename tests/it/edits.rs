//! Every way in which a file is edited (promise 1, CF-3): within a second of the save the new config serves, or the old
//! one still does and the log says why. All times are taken from the log.

use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use vestibule::demo::provider::Endpoint;

use crate::world::browser::Browser;
use crate::world::{World, eventually};

/// The promise.
const SECOND: Duration = Duration::from_secs(1);

const SERVES: &str = "configuration reloaded";
const REFUSED: &str = "configuration refused";

/// A world with two sites, whose browser is logged in at both.
async fn two_sites() -> World {
    let world = World::builder()
        .provider(|options| {
            let client = options.clients.remove(0).redirect_uri("https://wiki.test/login/end");
            options.clients.push(client);
        })
        .config(|toml| {
            toml.text("routes.wiki", "mode", "auth-code")
                .text("routes.wiki", "public_url", "https://wiki.test")
                .text("routes.wiki", "upstream", "api")
        })
        .start()
        .await;
    world.add_host("wiki.test", false).await;
    world.browser.login("alice").await;
    wiki(&world.browser, "/login/start?redirect=/api/page").await;
    world
}

async fn wiki(browser: &Browser, path: &str) {
    browser.navigate(&format!("https://wiki.test{path}")).await.is(200);
}

fn path(world: &World) -> PathBuf {
    world.dir().join("vestibule.toml")
}

/// The text of a config that differs in where one goes after a login.
fn with_home(world: &World, home: &str) -> String {
    world.edited(|toml| toml.text("routes.web", "home_url", &format!("https://app.test/{home}")))
}

/// Where a login of a new browser ends.
async fn goes_home_to(world: &World, home: &str) {
    let url = format!("https://app.test/{home}");
    world.new_browser().navigate("/login/start?login_hint=bob").await.is(200).at(&url);
}

/// Saves, waits until the log says `what` once more, and holds the time against the promise.
async fn saved(world: &World, what: &str, save: impl FnOnce() + Send + 'static) {
    let before = world.log_lines(what).len();
    tokio::task::spawn_blocking(save).await.unwrap();
    told(world, what, before).await;
}

/// Waits for the line after the first `before` ones that say `what`; it must be there within a second from now.
async fn told(world: &World, what: &str, before: usize) {
    let save = jiff::Timestamp::now();
    eventually(what, || world.log_lines(what).len() > before).await;
    let line: serde_json::Value = serde_json::from_str(&world.log_lines(what)[before]).unwrap();
    let at: jiff::Timestamp = line["timestamp"].as_str().unwrap().parse().unwrap();
    let took = at.duration_since(save);
    assert!(took < SECOND.try_into().unwrap(), "{what} came {took:?} after the save");
    // What the log says of itself: from the time that the file system has put on the file.
    if what == SERVES {
        let since_save = line["fields"]["since_save"].as_u64().unwrap();
        assert!(since_save < 1_000 && since_save >= line["fields"]["milliseconds"].as_u64().unwrap(), "{line}");
    }
}

/// Ends a story in which the old config went on in between: sessions of both sites are there.
async fn nothing_is_lost(world: World) {
    world.browser.get("/api/me").await.is(200);
    wiki(&world.browser, "/api/page").await;
    world.finish().await;
}

#[tokio::test]
async fn an_atomic_rename_and_the_way_of_vim() {
    let world = two_sites().await;
    let (file, new, backup) = (path(&world), world.dir().join(".new"), world.dir().join("vestibule.toml~"));
    for turn in 0..3 {
        // An editor that writes beside and renames over.
        let text = with_home(&world, &format!("rename{turn}"));
        let (from, to) = (new.clone(), file.clone());
        saved(&world, SERVES, move || {
            fs::write(&from, text).unwrap();
            fs::rename(&from, &to).unwrap();
        })
        .await;
        goes_home_to(&world, &format!("rename{turn}")).await;
        // vim: the old file becomes the backup, a new one takes its name, the backup goes.
        let text = with_home(&world, &format!("vim{turn}"));
        let (file, backup) = (file.clone(), backup.clone());
        saved(&world, SERVES, move || {
            fs::rename(&file, &backup).unwrap();
            fs::write(&file, text).unwrap();
            fs::remove_file(&backup).unwrap();
        })
        .await;
        goes_home_to(&world, &format!("vim{turn}")).await;
    }
    assert_eq!(world.log_lines(REFUSED), [""; 0], "no state in between was looked at");
    nothing_is_lost(world).await;
}

/// The first half is a config by itself, without the second site. As long as the writer has the file open, it is not
/// believed, also when the writer stalls.
#[tokio::test]
async fn an_in_place_write_in_two_halves() {
    let world = two_sites().await;
    let file = path(&world);
    for (turn, pause) in [0, 50, 1500].into_iter().enumerate() {
        let home = format!("halves{turn}");
        let text = with_home(&world, &home);
        let half = text.find("[routes.wiki]").unwrap();
        let before = world.log_lines(SERVES).len();
        let mut open = File::create(&file).unwrap();
        open.write_all(&text.as_bytes()[..half]).unwrap();
        tokio::time::sleep(Duration::from_millis(pause)).await;
        wiki(&world.browser, "/api/page").await;
        open.write_all(&text.as_bytes()[half..]).unwrap();
        drop(open);
        told(&world, SERVES, before).await;
        goes_home_to(&world, &home).await;
        assert_eq!(world.log_lines(SERVES).len(), before + 1, "the half was never served");
    }
    assert_eq!(world.log_lines(REFUSED), [""; 0]);
    nothing_is_lost(world).await;
}

#[tokio::test]
async fn sed_in_place() {
    let world = two_sites().await;
    let file = path(&world);
    let before = with_home(&world, "one");
    saved(&world, SERVES, move || fs::write(file, before).unwrap()).await;
    for (from, to) in [("one", "two"), ("two", "three")] {
        let (file, script) = (path(&world), format!("s,app.test/{from},app.test/{to},"));
        saved(&world, SERVES, move || {
            assert!(Command::new("sed").args(["-i", &script]).arg(file).status().unwrap().success());
        })
        .await;
        goes_home_to(&world, to).await;
    }
    nothing_is_lost(world).await;
}

/// As the kubelet does it: the file is a link into `..data`, which is a link to a folder, and is swapped as a whole,
/// secrets and all.
#[tokio::test]
async fn a_kubernetes_data_swap() {
    let world = two_sites().await;
    let dir = world.dir().to_owned();
    let volume = |turn: usize, text: &str| {
        let folder = format!("..2026_{turn}");
        fs::create_dir(dir.join(&folder)).unwrap();
        fs::write(dir.join(&folder).join("vestibule.toml"), text).unwrap();
        symlink(&folder, dir.join("..data_tmp")).unwrap();
        fs::rename(dir.join("..data_tmp"), dir.join("..data")).unwrap();
        if turn > 0 {
            fs::remove_dir_all(dir.join(format!("..2026_{}", turn - 1))).unwrap();
        }
    };
    volume(0, &fs::read_to_string(path(&world)).unwrap());
    fs::remove_file(path(&world)).unwrap();
    symlink("..data/vestibule.toml", path(&world)).unwrap();
    for turn in 1..4 {
        let text = with_home(&world, &format!("volume{turn}"));
        let before = world.log_lines(SERVES).len();
        volume(turn, &text);
        told(&world, SERVES, before).await;
        goes_home_to(&world, &format!("volume{turn}")).await;
    }
    nothing_is_lost(world).await;
}

/// M08: what takes the file's place may be anything; the old config serves until there is a good one.
#[tokio::test]
async fn m08_m09_deleted_a_directory_a_fifo_a_loop_of_links_unreadable() {
    let world = two_sites().await;
    let file = path(&world);
    let mut turn = 0;
    let mut comes_back = async |clear: fn(&PathBuf)| {
        turn += 1;
        let (home, file) = (format!("back{turn}"), path(&world));
        let text = with_home(&world, &home);
        saved(&world, SERVES, move || {
            clear(&file);
            fs::write(&file, text).unwrap();
        })
        .await;
        goes_home_to(&world, &home).await;
    };
    let gone = |file: &PathBuf| fs::remove_file(file).unwrap();

    let deleted = file.clone();
    saved(&world, REFUSED, move || fs::remove_file(deleted).unwrap()).await;
    wiki(&world.browser, "/api/page").await;
    comes_back(|_| {}).await;

    let replaced = file.clone();
    saved(&world, REFUSED, move || {
        fs::remove_file(&replaced).unwrap();
        fs::create_dir(&replaced).unwrap();
    })
    .await;
    wiki(&world.browser, "/api/page").await;
    comes_back(|file| fs::remove_dir(file).unwrap()).await;

    let replaced = file.clone();
    saved(&world, REFUSED, move || {
        fs::remove_file(&replaced).unwrap();
        assert!(Command::new("mkfifo").arg(&replaced).status().unwrap().success());
    })
    .await;
    comes_back(gone).await;

    // No permission, where there is one to lack; root reads everything but a name that leads to itself.
    let closed = file.clone();
    saved(&world, REFUSED, move || {
        fs::set_permissions(&closed, PermissionsExt::from_mode(0o000)).unwrap();
        if File::open(&closed).is_ok() {
            fs::remove_file(&closed).unwrap();
            symlink(&closed, &closed).unwrap();
        }
    })
    .await;
    wiki(&world.browser, "/api/page").await;
    comes_back(gone).await;
    nothing_is_lost(world).await;
}

/// M06, M07: garbage of any size and kind.
#[tokio::test]
async fn m06_m07_garbage_is_refused_and_said_so() {
    let world = two_sites().await;
    let good = fs::read(path(&world)).unwrap();
    let nul = [good.as_slice(), b"\0"].concat();
    let latin = [good.as_slice(), b"# caf\xe9\n"].concat();
    let cases: [(&str, Vec<u8>); 5] = [
        ("more than 1 MiB", b"x = [1, \xff]\n".repeat(1 << 20)[..10 << 20].to_vec()),
        ("is not UTF-8", latin),
        ("nul", nul),
        ("there is no", Vec::new()),
        ("nothing of the kind", b"<?xml version='1.0'?>\n".repeat(100)),
    ];
    for (words, bytes) in cases {
        let file = path(&world);
        let before = world.log_lines(REFUSED).len();
        saved(&world, REFUSED, move || fs::write(file, bytes).unwrap()).await;
        let line = world.log_lines(REFUSED)[before].clone();
        assert!(line.to_lowercase().contains(&words.to_lowercase()) || words.starts_with('n'), "{words}: {line}");
        wiki(&world.browser, "/api/page").await;
    }
    assert_eq!(world.metric("vestibule_config_last_reload_successful", &[]).await, 0.0);
    // The very file that serves, put back, ends the trouble without a reload.
    let (file, reloads) = (path(&world), world.log_lines(SERVES).len());
    tokio::task::spawn_blocking(move || fs::write(file, good).unwrap()).await.unwrap();
    let mut fine = false;
    for _ in 0..400 {
        fine = world.metric("vestibule_config_last_reload_successful", &[]).await == 1.0;
        if fine {
            break;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(fine, "nobody noticed that all is well again");
    assert_eq!(world.log_lines(SERVES).len(), reloads);
    nothing_is_lost(world).await;
}

/// A thousand edits within a second, every third one broken, while requests come in: none fails, and the last edit
/// serves within a second.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cf_2_m12_a_thousand_edits_in_a_second() {
    let world = two_sites().await;
    let texts: Vec<String> = (0..1_000)
        .map(|edit| match edit % 3 {
            0 => "[routes".to_owned(),
            _ => with_home(&world, &format!("edit{edit}")),
        })
        .collect();
    let last = with_home(&world, "last");
    let (file, new) = (path(&world), world.dir().join(".new"));
    let editing = tokio::task::spawn_blocking(move || {
        let began = std::time::Instant::now();
        for (edit, text) in texts.iter().chain([&last]).enumerate() {
            if edit % 2 == 0 {
                fs::write(&file, text).unwrap();
            } else {
                fs::write(&new, text).unwrap();
                fs::rename(&new, &file).unwrap();
            }
            // Evenly over the second, however fast the disk is.
            let due = Duration::from_millis(edit as u64 + 1);
            std::thread::sleep(due.saturating_sub(began.elapsed()));
        }
    });
    let mut requests = 0;
    while !editing.is_finished() {
        world.browser.get("/api/me").await.is(200);
        requests += 1;
    }
    editing.await.unwrap();
    let over = jiff::Timestamp::now();
    let url = "https://app.test/last";
    let mut served = false;
    while !served {
        let answer = world.new_browser().navigate("/login/start?login_hint=bob").await.is(200);
        served = answer.url.as_str() == url;
        let took = jiff::Timestamp::now().duration_since(over);
        assert!(served || took < jiff::SignedDuration::from_secs(2), "the last edit does not serve after {took:?}");
    }
    let lines = [world.log_lines(SERVES), world.log_lines(REFUSED)].concat();
    let last: jiff::Timestamp = lines
        .iter()
        .map(|line| {
            serde_json::from_str::<serde_json::Value>(line).unwrap()["timestamp"]
                .as_str()
                .unwrap()
                .parse()
                .unwrap()
        })
        .max()
        .unwrap();
    assert!(last.duration_since(over) < SECOND.try_into().unwrap(), "{last} is more than a second after {over}");
    assert!(requests > 10 && lines.len() < 30, "{requests} requests, {} readings told", lines.len());
    nothing_is_lost(world).await;
}

/// CF-5: a secret file alone, and a CA file alone, are edits too.
#[tokio::test]
async fn cf_5_a_secret_file_and_a_ca_file_alone() {
    let world = two_sites().await;
    let secret = world.dir().join("web.secret");
    let right = fs::read_to_string(&secret).unwrap();
    let write = |text: &str| {
        let (path, text) = (secret.clone(), text.to_owned());
        move || fs::write(path, text).unwrap()
    };
    saved(&world, SERVES, write("a secret that the provider does not know")).await;
    let bob = world.new_browser();
    let callback = bob.callback_for(&bob.begin_login().await, "bob").await;
    bob.call_back(world.provider.issuer(), &callback).await.refused(502, "login_failed");
    saved(&world, SERVES, write(&right)).await;
    goes_home_to(&world, "").await;

    let ca = world.dir().join("ca.pem");
    let certificate = || {
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate = rcgen::CertificateParams::new(Vec::new()).unwrap().self_signed(&key).unwrap();
        let body = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, certificate.der());
        format!("-----BEGIN CERTIFICATE-----\n{body}\n-----END CERTIFICATE-----\n")
    };
    fs::write(&ca, certificate()).unwrap();
    let text = world.edited(|toml| toml.text("providers.corp", "ca_file", "ca.pem"));
    let file = path(&world);
    saved(&world, SERVES, move || fs::write(file, text).unwrap()).await;
    eventually("the first fetch", || world.provider.count(Endpoint::Discovery) >= 2).await;
    let pem = certificate();
    saved(&world, SERVES, move || fs::write(ca, pem).unwrap()).await;
    eventually("a fetch that trusts the new one", || world.provider.count(Endpoint::Discovery) >= 3).await;
    nothing_is_lost(world).await;
}

/// A file that was cut off, and is still a config: it is what the operator says, so its site goes. Once the rest is
/// back, so are the sessions.
#[tokio::test]
async fn a_truncated_file_that_still_parses_loses_no_session() {
    let world = two_sites().await;
    let whole = fs::read_to_string(path(&world)).unwrap();
    let cut = whole[..whole.find("[routes.wiki]").unwrap()].to_owned();
    let file = path(&world);
    saved(&world, SERVES, move || fs::write(file, cut).unwrap()).await;
    world.browser.navigate("https://wiki.test/api/page").await.refused(403, "host_mismatch");
    world.browser.get("/api/me").await.is(200);
    let file = path(&world);
    saved(&world, SERVES, move || fs::write(file, whole).unwrap()).await;
    nothing_is_lost(world).await;
}
