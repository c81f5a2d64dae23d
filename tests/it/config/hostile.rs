//! What files and texts can do to a loader: arbitrary text, broken secrets, and the traps of a file system.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use proptest::prelude::*;
use vestibule::config::{self, Report, Severity, Sources, System};

use super::{SECRET, read};

/// Pieces that configs are made of, so that arbitrary text gets past the parser now and then.
const PIECES: &[&str] = &[
    "[server]\n",
    "[sessions]\n",
    "[providers.corp]\n",
    "[routes.web]\n",
    "[routes.web.paths]\n",
    "[[routes]]\n",
    "[upstreams.a]\n",
    "[log]\n",
    "issuer",
    "client_id",
    "client_secret",
    "keys",
    "listen",
    "public_url",
    "mode",
    "upstream",
    "url",
    "\"/api/\"",
    "\"/\"",
    "paths",
    "base_path",
    "redirect_uri",
    "providers",
    "identity_headers",
    "required_claims",
    "store",
    " = ",
    " = ",
    " = ",
    "\n",
    "\n",
    "\n",
    "{ ",
    " }",
    "[",
    "]",
    ", ",
    "\"",
    "'",
    "\"\"\"",
    "\"auth-code\"",
    "\"http://a\"",
    "\"https://ü.example:443/\"",
    "\"unix:/a\"",
    "\"127.0.0.1:1\"",
    "\"30s\"",
    "-1",
    "0x10",
    "1e400",
    "true",
    "{ file = \"/etc/vestibule/web.secret\" }",
    "1979-05-27",
    "ü",
    "\u{feff}",
    "\0",
    "\r\n",
    "#",
    ".",
];

/// A config with a secret in every place that one may be written into the file.
const SECRETIVE: &str = "[sessions]\nkeys = [\n  \"hunter2-a\",\n  'hunter2-b',\n]\nstore = { redis = \"redis://:hunter2@host\" }\n\
    [server]\ncontrol_token = \"hunter2\"\n\
    [providers.corp]\nissuer = \"https://user:hunter2@id.example.com\"\nclient_id = \"web\"\nclient_secret = \"\"\"hunter2\nhunter2\"\"\"\n\
    [providers.b]\nclient_secret = { value = \"hunter2\" }\n\
    [routes.web]\nmode = \"auth-code\"\nclient_secret = 'hunter2'\nupstream = \"http://:hunter2@127.0.0.1\"\n";

/// What a hand may type by mistake.
const SLIPS: &[&str] =
    &["", "\"", "'", "\n", "[", "]", "{", "}", "=", "#", " ", ":", ",", "\"\"\"", "'''", "\"#", "\r\n"];

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    /// CF-1 (CVE-2024-21493): no text makes the loader panic, and none is refused without a reason.
    #[test]
    fn arbitrary_text_never_panics(text in "\\PC{0,200}") {
        told(&text);
    }

    /// The same for texts that look like configs.
    #[test]
    fn arbitrary_pieces_never_panic(pieces in prop::collection::vec(prop::sample::select(PIECES), 0..40)) {
        told(&pieces.concat());
    }

    /// CF-6: wherever a config with secrets is broken by a slip of the keyboard, no report shows a secret.
    #[test]
    fn no_slip_shows_a_secret(at in 0..SECRETIVE.len(), slip in prop::sample::select(SLIPS), cut in 0_usize..3) {
        let end = (at + cut).min(SECRETIVE.len());
        let text = format!("{}{slip}{}", &SECRETIVE[..at], &SECRETIVE[end..]);
        // A slip within the secret or its key makes it another word, which nobody can know to be one.
        prop_assume!(text.matches(SECRET).count() == SECRETIVE.matches(SECRET).count());
        prop_assume!(["keys", "redis", "control_token"].iter().all(|key| text.contains(&format!("{key} = "))));
        prop_assume!(text.matches("client_secret = ").count() == 3 && text.matches("://").count() == 3);
        let shown = told(&text);
        prop_assert!(!shown.contains(SECRET), "{}\n---\n{}", text, shown);
    }
}

fn told(text: &str) -> String {
    match read(text) {
        Ok(loaded) => loaded.report.render(Severity::Weaker, false),
        Err(report) => {
            assert!(report.has_errors(), "refused without a reason:\n{text}");
            assert!(!report.render(Severity::Weaker, true).is_empty());
            report.render(Severity::Weaker, false)
        }
    }
}

/// A report for a thousand problems in a megabyte is bounded, in length and in time.
#[test]
fn a_flood_of_problems_is_cut_short() {
    let text: String = (0..20_000).map(|number| format!("nonsense-{number} = \"{}\"\n", "x".repeat(20))).collect();
    let begun = Instant::now();
    let shown = told(&text);
    assert!(shown.len() < 100_000, "{} bytes", shown.len());
    assert!(
        shown.ends_with("20002 errors, 1 warning, only the first 100 are shown\n"),
        "{}",
        &shown[shown.len() - 200..]
    );
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
}

/// A directory with a config in it, on a real file system.
struct Home(tempfile::TempDir);

impl Home {
    /// A config whose secret is the file `secret` beside it.
    fn new() -> Self {
        let home = Self(tempfile::tempdir().unwrap());
        home.write("vestibule.toml", config_with("secret").as_bytes(), 0o600);
        home.write("secret", b"a real secret\n", 0o600);
        home
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, bytes: &[u8], mode: u32) {
        fs::write(self.path(name), bytes).unwrap();
        fs::set_permissions(self.path(name), fs::Permissions::from_mode(mode)).unwrap();
    }

    fn load(&self) -> Result<Sources, Box<Report>> {
        config::load(&self.path("vestibule.toml"), &System).map(|loaded| loaded.report.sources().clone())
    }

    /// The first thing that is said about the config.
    fn complaint(&self) -> String {
        self.load().unwrap_err().problems()[0].message().replace(&self.0.path().display().to_string(), "…")
    }
}

fn config_with(secret: &str) -> String {
    format!(
        "[providers.corp]\nissuer = \"https://id.example.com\"\nclient_id = \"web\"\nclient_secret = {{ file = {secret:?} }}\n\
         [routes.web]\nmode = \"auth-code\"\npublic_url = \"https://app.example.com\"\nupstream = \"http://127.0.0.1:1\"\n"
    )
}

/// CF-3: relative paths begin beside the config; the secret is among the files to watch, and its change alone is seen
/// (CF-5), as is its absence.
#[test]
fn the_fingerprint_follows_every_file() {
    let home = Home::new();
    let first = home.load().unwrap();
    assert_eq!(first.files.iter().collect::<Vec<_>>(), [&home.path("secret")]);
    assert_eq!(home.load().unwrap(), first);
    home.write("secret", b"another secret\n", 0o600);
    let second = home.load().unwrap();
    assert_ne!(second.fingerprint, first.fingerprint);
    home.write("vestibule.toml", format!("{}\n", config_with("secret")).as_bytes(), 0o600);
    assert_ne!(home.load().unwrap().fingerprint, second.fingerprint);
    fs::remove_file(home.path("secret")).unwrap();
    let report = home.load().unwrap_err();
    assert_eq!(report.sources().files, first.files, "a missing file is watched too");
    home.write("secret", b"a real secret\n", 0o600);
    assert!(home.load().is_ok());
}

/// CF-3, M06–M08: a secret that is no file of one line. None of them hangs, none of them is read for ever.
#[test]
fn a_secret_file_may_be_anything() {
    let home = Home::new();
    let remove = || fs::remove_file(home.path("secret")).unwrap();
    remove();
    assert!(home.complaint().ends_with("there is no such file"), "{}", home.complaint());
    fs::create_dir(home.path("secret")).unwrap();
    assert!(home.complaint().ends_with("it is a directory"), "{}", home.complaint());
    fs::remove_dir(home.path("secret")).unwrap();
    assert!(Command::new("mkfifo").arg(home.path("secret")).status().unwrap().success());
    assert!(home.complaint().ends_with("it is no regular file"), "{}", home.complaint());
    remove();
    symlink("secret", home.path("secret")).unwrap();
    assert!(
        home.complaint().starts_with("cannot read `…/secret`") || home.complaint().starts_with("cannot read `secret`")
    );
    remove();
    symlink("/dev/zero", home.path("secret")).unwrap();
    assert!(home.complaint().ends_with("it is no regular file"), "{}", home.complaint());
    remove();
    home.write("secret", &vec![b'x'; 1024 * 1024 + 1], 0o600);
    assert!(home.complaint().ends_with("it has more than 1 MiB"), "{}", home.complaint());
    home.write("secret", b"\xff\xfe", 0o600);
    assert!(home.complaint().ends_with("is not text (UTF-8)"), "{}", home.complaint());
    home.write("secret", b"a\0b", 0o600);
    assert!(home.complaint().contains("NUL"), "{}", home.complaint());
}

/// CF-5: what the whole machine may write to is no secret; what others may read is one, with a warning.
#[test]
fn permissions_of_a_secret_are_judged() {
    let home = Home::new();
    home.write("secret", b"a real secret", 0o666);
    assert!(home.complaint().starts_with("everybody may write to"), "{}", home.complaint());
    home.write("secret", b"a real secret", 0o640);
    let warned = |home: &Home| {
        let loaded = config::load(&home.path("vestibule.toml"), &System).unwrap();
        loaded.report.problems().iter().filter(|problem| problem.message().contains("may read")).count()
    };
    assert_eq!(warned(&home), 1);
    home.write("secret", b"a real secret", 0o600);
    assert_eq!(warned(&home), 0);
}

/// A Kubernetes secret is a link to a link, and works.
#[test]
fn links_are_followed() {
    let home = Home::new();
    fs::create_dir(home.path("..2026")).unwrap();
    home.write("..2026/secret", b"a real secret", 0o600);
    symlink("..2026", home.path("..data")).unwrap();
    fs::remove_file(home.path("secret")).unwrap();
    symlink("..data/secret", home.path("secret")).unwrap();
    assert!(home.load().is_ok());
}

/// CF-3, M01, M06–M08: the config file itself.
#[test]
fn the_config_file_may_be_anything() {
    let home = Home::new();
    home.write("vestibule.toml", b"a = 1\nb = \"\xff\"\n", 0o600);
    assert_eq!(home.complaint(), "the config is not text: line 2 is not UTF-8");
    home.write("vestibule.toml", b"a = \"\0\"\n", 0o600);
    assert!(home.load().is_err());
    home.write("vestibule.toml", &vec![b'#'; 10_000_000], 0o600);
    assert_eq!(home.complaint(), "cannot read the config: it has more than 1 MiB");
    fs::remove_file(home.path("vestibule.toml")).unwrap();
    assert_eq!(home.complaint(), "cannot read the config: there is no such file");
    assert!(Command::new("mkfifo").arg(home.path("vestibule.toml")).status().unwrap().success());
    assert_eq!(home.complaint(), "cannot read the config: it is no regular file");
    let directory = config::load(Path::new(home.0.path()), &System).unwrap_err();
    assert_eq!(directory.problems()[0].message(), "cannot read the config: it is a directory");
}

/// A private CA goes into the config as it is, for providers and upstreams.
#[test]
fn a_ca_file_is_read() {
    let home = Home::new();
    let pem = "-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n";
    home.write("ca.pem", pem.as_bytes(), 0o644);
    let text = config_with("secret").replace("[routes.web]", "ca_file = \"ca.pem\"\n[routes.web]");
    home.write("vestibule.toml", text.as_bytes(), 0o600);
    let loaded = config::load(&home.path("vestibule.toml"), &System).unwrap();
    let provider = loaded.config.providers.values().next().unwrap();
    assert_eq!(provider.ca.as_deref(), Some(pem.as_bytes()));
    assert!(loaded.config.files.contains(&home.path("ca.pem")));
}

/// CF-8: whoever is trusted without a certificate is named by a private CA; no key of any spelling believes everybody.
#[test]
fn cf_8_nothing_turns_the_verification_of_certificates_off() {
    const SPELLINGS: [&str; 8] = [
        "insecure",
        "insecure_tls",
        "insecure-tls",
        "insecure_skip_verify",
        "ssl_insecure_skip_verify",
        "skip_verify",
        "tls_verify",
        "verify_tls",
    ];
    for key in SPELLINGS {
        let home = Home::new();
        for (before, problem) in [
            ("[routes.web]", format!("providers.corp.{key}")),
            ("[providers.corp]", key.to_owned()),
            ("[end]", format!("upstreams.api.{key}")),
        ] {
            let text = config_with("secret") + "[upstreams.api]\nurl = \"https://api.test\"\n[end]\n";
            let text = text.replace(before, &format!("{key} = true\n{before}")).replace("[end]\n", "");
            home.write("vestibule.toml", text.as_bytes(), 0o600);
            let report = config::load(&home.path("vestibule.toml"), &System).unwrap_err();
            assert!(report.problems().iter().any(|told| told.key() == problem), "{problem}: {}", report.headline());
        }
    }
}
