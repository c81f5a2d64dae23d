//! Config files as operators write them: `tests/fixtures/config/NAME.toml` is what they wrote, `NAME.out` what they get
//! to see. `UPDATE=1` rewrites the latter, and the two files in `config/` that are written from the schema.

mod hostile;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use vestibule::config::{self, Config, Environment, File, Loaded, Report, Severity, Unreadable};

/// No report may ever hold this word: every secret of the fixtures has it.
const SECRET: &str = "hunter2";

/// An environment of a map, so that no test depends on this machine.
#[derive(Default)]
struct Fake {
    variables: BTreeMap<&'static str, String>,
    files: BTreeMap<&'static str, Result<(Vec<u8>, u32), Unreadable>>,
}

impl Fake {
    /// The surroundings of all fixtures.
    fn usual() -> Self {
        let mut fake = Self::default();
        fake.variables.insert("WEB_SECRET", format!("{SECRET}-from-the-environment"));
        fake.variables.insert("CREDENTIALS_DIRECTORY", "/run/credentials/vestibule.service".to_owned());
        let long = format!("{SECRET}-and-more-than-32-bytes-of-it\n");
        fake.file("/etc/vestibule/web.secret", "hunter2-of-the-web\n", 0o600)
            .file("/etc/vestibule/session.key", &long, 0o600)
            .file("/srv/open/session.key", &long, 0o644)
            .file("/srv/writable/session.key", &long, 0o606)
            .file("/srv/short/session.key", "hunter2", 0o600)
            .file("/etc/vestibule/old.key", &format!("old-{long}"), 0o400)
            .file("/etc/vestibule/short.key", "hunter2", 0o600)
            .file("/etc/vestibule/group.secret", "hunter2-of-the-group", 0o640)
            .file("/etc/vestibule/world.secret", "hunter2-of-the-world", 0o602)
            .file("/etc/vestibule/empty.secret", " \n", 0o600)
            .file("/etc/vestibule/two-lines.secret", "hunter2\nhunter2\n", 0o600)
            .file("/etc/vestibule/example.secret", "ChangeMe\n", 0o600)
            .file("/etc/vestibule/no.pem", "hunter2 is no certificate", 0o644)
            .file("/etc/vestibule/broken.pem", "-----BEGIN CERTIFICATE-----\nhunter2\n", 0o644)
            .file("/run/credentials/vestibule.service/web", "hunter2-of-systemd", 0o440);
        fake.files.insert("/etc/vestibule/binary.secret", Ok((vec![0xff, 0xfe, 0], 0o600)));
        fake.files.insert("/etc/vestibule", Err(Unreadable::Directory));
        fake.files.insert("/etc/vestibule/fifo", Err(Unreadable::NotRegular));
        fake.files.insert("/etc/vestibule/huge", Err(Unreadable::TooLarge));
        fake.files.insert("/etc/vestibule/denied", Err(Unreadable::Denied));
        fake
    }

    fn file(&mut self, path: &'static str, text: &str, mode: u32) -> &mut Self {
        self.files.insert(path, Ok((text.as_bytes().to_vec(), mode)));
        self
    }
}

impl Environment for Fake {
    fn variable(&self, name: &str) -> Option<String> {
        self.variables.get(name).cloned()
    }

    fn read(&self, path: &Path) -> Result<File, Unreadable> {
        let file = self.files.get(path.to_str().unwrap()).cloned().unwrap_or(Err(Unreadable::Missing))?;
        Ok(File { bytes: file.0.into(), mode: file.1 })
    }
}

fn read(text: &str) -> Result<Loaded, Box<Report>> {
    config::load_text(Path::new("vestibule.toml"), text, &Fake::usual())
}

/// What an operator sees: everything that is to be said, and what to register. A fixture that begins with `# resolved`
/// shows its config as well.
fn shown(text: &str) -> String {
    let (mut out, config) = match read(text) {
        Err(report) => (report.render(Severity::Weaker, false), None),
        Ok(Loaded { config, report }) => (report.render(Severity::Weaker, false), Some(config)),
    };
    if let Some(config) = config {
        out.push_str(&format!("{}", config::registrations(&config)));
        if text.starts_with("# resolved") {
            out.push_str(&format!("\n{config:#?}\n"));
        }
    }
    out
}

fn repository() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Compares with the file at `path`, or writes it when `UPDATE=1`.
fn is_committed(path: &Path, text: &str) -> bool {
    if std::env::var_os("UPDATE").is_some() {
        fs::write(path, text).unwrap();
    }
    fs::read_to_string(path).unwrap_or_default() == text
}

/// A store file brings its key along: the file beside it, or the path where one will be made.
#[test]
fn a_store_file_has_its_key_beside_it() {
    let sessions = |store: &str, keys: &str| {
        let rest = fs::read_to_string(repository().join("tests/fixtures/config/smallest.toml")).unwrap();
        let text = format!("{rest}\n[sessions]\nstore = {{ file = \"{store}\" }}\n{keys}");
        let Loaded { config, report } = read(&text).unwrap();
        assert!(report.problems().is_empty(), "{:?}", report.problems());
        (config.sessions, config.files)
    };
    let (found, files) = sessions("/etc/vestibule/sessions.redb", "");
    assert_eq!(found.store, config::Store::File("/etc/vestibule/sessions.redb".into()));
    assert_eq!((found.keys.len(), found.missing_key), (1, None));
    assert!(files.contains(Path::new("/etc/vestibule/session.key")), "its key is watched");

    let (found, files) = sessions("state/sessions.redb", "");
    assert_eq!((found.keys.len(), found.missing_key), (0, Some("state/session.key".into())));
    assert!(files.contains(Path::new("state/session.key")), "the key that will be made is watched");

    let (found, files) = sessions("state/sessions.redb", "keys = [{ file = \"/etc/vestibule/old.key\" }]");
    assert_eq!((found.keys.len(), found.missing_key), (1, None));
    assert!(!files.contains(Path::new("state/session.key")), "keys that are named are the only ones");
}

/// CF-1, CF-4, CF-5, CF-6, CF-7, CF-9, CF-10, CF-12, M01–M08, M11, M25, M26: each fixture shows one way to be wrong, or
/// to be right, and what is said about it.
#[test]
fn every_fixture_is_told_what_its_out_file_says() {
    let mut paths: Vec<PathBuf> = fs::read_dir(repository().join("tests/fixtures/config"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "toml"));
    paths.sort();
    assert!(!paths.is_empty(), "only {} fixtures were found", paths.len());
    let stale: Vec<&PathBuf> = paths
        .iter()
        .filter(|path| {
            let out = shown(&fs::read_to_string(path).unwrap());
            assert!(!out.contains(SECRET), "{} shows a secret:\n{out}", path.display());
            !is_committed(&path.with_extension("out"), &out)
        })
        .collect();
    assert!(stale.is_empty(), "{stale:?}");
}

/// The reference is written from the table of keys, and is a config in which every default is written out: it must mean
/// the same as one that leaves them all out.
#[test]
fn the_reference_is_current_and_equals_the_defaults() {
    assert!(is_committed(&repository().join("config/reference.toml"), &config::reference()));
    let smallest = r#"
        [providers.corp]
        issuer = "https://id.example.com/realms/corp"
        client_id = "web"
        [upstreams.api]
        url = "http://127.0.0.1:8080"
        [routes.web]
        mode = "auth-code"
        public_url = "https://app.example.com"
        upstream = "api"
    "#;
    assert_eq!(loads(&config::reference()), loads(smallest));
}

/// Every key that the reference comments out has an example; each of them is understood when it is put in.
#[test]
fn every_example_of_the_reference_is_understood() {
    let examples: String = config::reference()
        .lines()
        .map(|line| {
            match line.strip_prefix("# ").filter(|line| line.split_once(" = ").is_some_and(|(key, _)| is_key(key))) {
                Some(example) => format!("{example}\n"),
                None => format!("{line}\n"),
            }
        })
        .collect();
    let report = read(&examples).unwrap_err();
    let unknown: Vec<&str> = report
        .problems()
        .iter()
        .map(|problem| problem.message())
        .filter(|message| message.contains("no key"))
        .collect();
    assert_eq!(unknown, Vec::<&str>::new());
    let wrong_type = report.problems().iter().any(|problem| problem.message().starts_with("this must be"));
    assert!(!wrong_type, "{report}");
}

#[test]
fn the_json_schema_is_current_and_the_configs_name_it() {
    assert!(is_committed(&repository().join("config/vestibule.schema.json"), &config::json_schema()));
    for file in ["vestibule.toml", "one-site.toml", "reference.toml"] {
        let text = fs::read_to_string(repository().join("config").join(file)).unwrap();
        assert!(text.starts_with("#:schema ./vestibule.schema.json\n"), "{file} does not name the schema");
    }
}

/// Each value that the schema offers for a key is one that a config may have.
#[test]
fn every_choice_of_the_schema_is_understood() {
    let schema: serde_json::Value = serde_json::from_str(&config::json_schema()).unwrap();
    let mut choices = Vec::new();
    collect_choices(&schema, &mut Vec::new(), &mut choices);
    assert!(choices.len() > 15, "{choices:?}");
    for (path, value) in choices {
        // What else the value needs is not the matter here.
        let secret = match value.as_str() {
            "none" | "device" => "",
            _ => "client_secret = { file = \"/etc/vestibule/web.secret\" }\n",
        };
        let table = |name: &str| if path.0 == name { format!("{} = {value:?}\n", path.1) } else { String::new() };
        let mode = match (path.1.as_str(), value.as_str()) {
            ("mode", "auth-code") => "",
            ("mode", _) => "audiences = [\"api\"]\n",
            ("token_profile", _) => "mode = \"verify\"\naudiences = [\"api\"]\n",
            _ => "mode = \"auth-code\"\n",
        };
        let text = format!(
            "[sessions]\n{}[log]\n{}[providers.corp]\nissuer = \"https://id.example.com\"\nclient_id = \"web\"\n{}{}\
             [upstreams.api]\nurl = \"http://127.0.0.1:1\"\n{}[routes.web]\n{mode}public_url = \"https://a.example\"\n\
             upstream = \"api\"\n{}[routes.web.paths.\"/api/\"]\n{}",
            table("sessions"),
            table("log"),
            secret,
            table("providers"),
            table("upstreams"),
            table("routes"),
            table("paths"),
        );
        // A client's keys are written for the provider; those of a route would need a client_id.
        if path.0 == "routes"
            && schema
                .pointer(&format!("/properties/providers/additionalProperties/properties/{}", path.1))
                .is_some()
        {
            continue;
        }
        assert!(read(&text).is_ok(), "{text}\n{}", read(&text).unwrap_err());
    }
}

#[test]
fn the_examples_work() {
    for (name, routes) in [("vestibule.toml", 2), ("one-site.toml", 3)] {
        let text = fs::read_to_string(repository().join("config").join(name)).unwrap();
        let loaded = read(&text).unwrap();
        assert_eq!(loaded.report.to_string(), "");
        assert_eq!(loaded.config.routes.len(), routes);
    }
}

/// CF-6: neither a config nor its report shows a secret when it is printed for debugging.
#[test]
fn debug_output_holds_no_secret() {
    let text = fs::read_to_string(repository().join("tests/fixtures/config/secret-inline.toml")).unwrap();
    assert!(text.contains(SECRET));
    let loaded = read(&text).unwrap();
    assert!(!format!("{loaded:?}").contains(SECRET));
    let client = match &loaded.config.routes.values().next().unwrap().mode {
        config::Mode::AuthCode(auth_code) => &auth_code.clients[0],
        other => panic!("{other:?}"),
    };
    assert_eq!(client.client_secret.as_ref().unwrap().expose(), "hunter2");
}

#[test]
fn a_coloured_report_says_the_same() {
    let text = fs::read_to_string(repository().join("tests/fixtures/config/unknown-keys.toml")).unwrap();
    let report = read(&text).unwrap_err();
    let coloured = report.render(Severity::Warning, true);
    assert!(coloured.contains("\u{1b}["));
    assert_eq!(anstream::adapter::strip_str(&coloured).to_string(), report.to_string());
}

fn loads(text: &str) -> Config {
    read(text).map_err(|report| report.to_string()).unwrap().config
}

fn is_key(text: &str) -> bool {
    text.chars().all(|char| char.is_ascii_lowercase() || char == '_')
}

/// Every string that an `enum` of the schema has, with the table and the key it is for.
fn collect_choices(schema: &serde_json::Value, path: &mut Vec<String>, out: &mut Vec<((String, String), String)>) {
    match schema {
        serde_json::Value::Object(object) => {
            for (name, inner) in object {
                if name == "enum" {
                    let keys: Vec<&String> = path
                        .iter()
                        .filter(|name| !["properties", "additionalProperties", "anyOf"].contains(&name.as_str()))
                        .collect();
                    let (key, table) = (keys[keys.len() - 1], keys[keys.len() - 2]);
                    let values = inner.as_array().unwrap().iter().map(|value| value.as_str().unwrap().to_owned());
                    out.extend(values.map(|value| ((table.clone(), key.clone()), value)));
                }
                path.push(name.clone());
                collect_choices(inner, path, out);
                path.pop();
            }
        }
        serde_json::Value::Array(items) => items.iter().for_each(|item| collect_choices(item, path, out)),
        _ => {}
    }
}
