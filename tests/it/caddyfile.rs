//! The Caddyfile that is written for a config, and the one that is shipped.

use std::path::Path;

use vestibule::config::{self, FrontEnd};

use crate::caddies;

/// What is written for the config `text`; its app is in `/srv/spa`.
fn written(text: &str) -> String {
    let loaded = config::load_text(Path::new("vestibule.toml"), text, &config::System);
    let loaded = loaded.unwrap_or_else(|report| panic!("{}", report.render(config::Severity::Error, false)));
    config::caddyfile(&loaded.config, &FrontEnd::parse("/srv/spa"))
}

const PROVIDER: &str = "
[providers.corp]
issuer = \"https://id.example.com\"
client_id = \"web\"
client_secret = \"not one that anybody uses\"
";

const WEB: &str = "
[routes.web]
mode = \"auth-code\"
public_url = \"https://app.example.com\"
upstream = \"http://127.0.0.1:8080\"
";

/// Asserts that every Caddy takes `text`.
#[track_caller]
fn accepted(text: &str) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("Caddyfile");
    std::fs::write(&path, text).unwrap();
    caddies::accept(&path);
}

#[test]
fn the_shipped_one_is_the_one_for_the_smallest_config() {
    let shipped = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("Caddyfile")).unwrap();
    let (_, shipped) = shipped.split_once("\n\n").unwrap();
    // `{$NAME:default}` stands for its default.
    let parts: Vec<&str> = shipped.split("{$").collect();
    let plain = parts[1..].iter().fold(parts[0].to_owned(), |text, part| {
        let (variable, rest) = part.split_once('}').unwrap();
        text + variable.split_once(':').unwrap().1 + rest
    });
    assert_eq!(plain, written(&format!("{PROVIDER}{WEB}")));
}

#[test]
fn an_app_behind_a_login_whole_leaves_nothing_to_files() {
    let wiki = "
[routes.wiki]
mode = \"auth-code\"
listen = \"unix:/run/vestibule/wiki.sock\"
public_url = [\"https://wiki.example.com\", \"https://wiki.example.net:8443\"]
base_path = \"/.vestibule\"
upstream = \"http://127.0.0.1:3000\"
[routes.wiki.paths]
\"/\" = { unauthenticated = \"login\" }
";
    let text = written(&format!("{PROVIDER}{WEB}{wiki}"));
    let sites: Vec<&str> = text.lines().filter(|line| line.ends_with(" {") && !line.starts_with(['\t', '('])).collect();
    assert_eq!(sites, ["app.example.com {", "wiki.example.com {", "https://wiki.example.net:8443 {"]);
    let (_, of_wiki) = text.split_once("\nwiki.example.com {\n").unwrap();
    let (of_wiki, _) = of_wiki.split_once("\n}\n").unwrap();
    assert!(of_wiki.contains("reverse_proxy unix//run/vestibule/wiki.sock {"), "{of_wiki}");
    assert!(!of_wiki.contains("file_server") && !of_wiki.contains("@vestibule"), "{of_wiki}");
    accepted(&text);
}

#[test]
fn two_listeners_of_one_site_each_get_what_is_theirs() {
    let admin = "
[routes.admin]
mode = \"auth-code\"
listen = \"0.0.0.0:9081\"
public_url = \"https://app.example.com\"
base_path = \"/admin/auth\"
upstream = \"http://127.0.0.1:8081\"
[routes.admin.paths]
\"/admin/api/\" = {}
";
    let text = written(&format!("[server]\ntrusted_proxies = [\"127.0.0.1/32\"]\n{PROVIDER}{WEB}{admin}"));
    assert_eq!(text.matches("app.example.com {").count(), 1, "{text}");
    assert!(text.contains("/admin/auth/session /admin/auth/refresh /admin/api /admin/api/*\n"), "{text}");
    assert!(text.contains("reverse_proxy 127.0.0.1:9081 {"), "{text}");
    assert!(text.contains("reverse_proxy 127.0.0.1:9080 {"), "{text}");
    accepted(&text);
}

#[test]
fn plain_http_stays_on_this_machine() {
    for (url, address) in [("http://localhost:8080", "127.0.0.1"), ("http://[::1]:8080", "[::1]")] {
        let text = written(&format!("{PROVIDER}{}", WEB.replace("https://app.example.com", url)));
        assert!(text.contains(&format!("\n{url} {{\n")), "{text}");
        assert!(text.contains(&format!("\tbind {address}\n")), "{text}");
        accepted(&text);
    }
}

#[test]
fn programs_and_browsers_share_paths_and_are_told_apart_by_name() {
    let cli = "
[routes.cli]
mode = \"device\"
listen = \"127.0.0.1:9082\"
client_id = \"cli\"
public_url = \"https://app.example.com\"
audiences = [\"api\"]
upstream = \"http://127.0.0.1:8080\"
";
    let text = written(&format!("{PROVIDER}{WEB}{cli}"));
    let (of_cli, of_web) = text.split_once("\t@vestibule path").unwrap();
    assert!(of_cli.contains("\t@cli-metadata path /.well-known/oauth-protected-resource\n"), "{text}");
    assert!(of_cli.contains("\t@cli {\n\t\tnot header User-Agent *Mozilla*\n\t\tpath /login/* "), "{text}");
    assert_eq!(of_cli.matches("reverse_proxy 127.0.0.1:9082 {").count(), 2, "{text}");
    assert_eq!(of_web.matches("reverse_proxy 127.0.0.1:9080 {").count(), 1, "{text}");
    accepted(&text);
}

#[test]
fn a_route_that_verifies_bearers_gets_its_paths_and_the_way_to_find_its_issuer() {
    let things = "
[routes.things]
mode = \"verify\"
public_url = \"https://app.example.com\"
audiences = [\"things\"]
resource = \"https://app.example.com/things\"
[routes.things.paths]
\"/things/\" = { upstream = \"http://127.0.0.1:8082\" }
\"/asked/\" = {}
";
    let text = written(&format!("[server]\nverdict_listen = \"127.0.0.1:9083\"\n{PROVIDER}{WEB}{things}"));
    let paths = text.lines().find(|line| line.contains("@vestibule path")).unwrap();
    assert!(
        paths.ends_with(
            "/.well-known/oauth-protected-resource/things /things /things/* /login/* /logout \
                             /logout/* /userinfo /user_info /claims /check_auth /session /refresh /api /api/*"
        ),
        "{paths}"
    );
    assert!(!text.contains("/asked"), "{text}");
    accepted(&text);
}
