//! A real session: the development provider, Vestibule's config for it, and a browser's way through a login.

use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::json;
use url::Url;
use vestibule::demo::provider::{Client, DemoProvider, Endpoint, JwtMutation, KeySet, Kind, Mutation, Options};

use crate::load::{first_answer, header};

/// Where the browser believes to be.
pub(crate) const HOST: &str = "app.example.com";

/// What other software leaves in a browser's cookies for the same host.
pub(crate) const OTHER_COOKIES: &str = "_ga=GA1.1.1380172938.1763970000; theme=dark; consent=necessary:true|stats:false; \
     _pk_id.1.1fff=4b1d8a2e5c7f9031.1763970000.; locale=en-GB";

/// Padding that makes the bearer the size of a large provider's: 1.4 kB.
const PADDING: usize = 330;

/// A provider whose tokens are large and live longer than the bench.
pub(crate) async fn provider(others: Vec<Client>) -> DemoProvider {
    let client = Client::public("web").redirect_uri(&format!("https://{HOST}/login/end"));
    let lifetime = Duration::from_secs(24 * 3600);
    let clients = [vec![client], others].concat();
    // Keys of unknown curves are more than oauth2-proxy takes.
    let keys = KeySet::Usual;
    let options = Options { clients, keys, access_token_lifetime: lifetime, ..Options::default() };
    let provider = DemoProvider::start(options).await.unwrap();
    let padding = JwtMutation::SetClaim("entitlements", json!("x".repeat(PADDING)));
    provider.mutate(Mutation::always(Endpoint::Token, Kind::AccessToken(padding)));
    provider
}

/// Writes the config file; with the log level and the store that are the defaults.
pub(crate) fn config(
    issuer: &str,
    [listen, verdicts, metrics]: [SocketAddr; 3],
    upstream: SocketAddr,
    directory: &Path,
) -> PathBuf {
    let text = format!(
        "[server]\nlisten = \"{listen}\"\nverdict_listen = \"{verdicts}\"\nmetrics_listen = \"{metrics}\"\n\n\
         [providers.corp]\nissuer = \"{issuer}\"\nclient_id = \"web\"\n\n\
         [routes.web]\nmode = \"auth-code\"\npublic_url = \"https://{HOST}\"\nupstream = \"http://{upstream}\"\n\n\
         [routes.things]\nmode = \"verify\"\npublic_url = \"https://things.example.com\"\naudiences = [\"api\"]\n"
    );
    let path = directory.join("vestibule.toml");
    std::fs::write(&path, text).unwrap();
    path
}

/// A new bearer for the API, of the size of the one in a session and of all others.
pub(crate) fn token(provider: &DemoProvider, number: usize) -> String {
    let padding = JwtMutation::SetClaim("entitlements", json!("x".repeat(PADDING)));
    let id = JwtMutation::SetClaim("jti", json!(format!("{number:064}")));
    provider.access_token(("alice", "web"), &["openid", "profile"], &[padding, id]).unwrap()
}

/// Logs alice in at a gateway whose login begins at `start`; returns its cookies as a browser would send them.
pub(crate) fn log_in(gateway: SocketAddr, start: &str) -> String {
    let mut cookies: Vec<(String, String)> = Vec::new();
    let mut page = Url::parse(&format!("https://{HOST}{start}")).unwrap();
    let (mut hops, mut was_at_provider) = (0, false);
    loop {
        hops += 1;
        assert!(hops < 8, "the login at {start} does not end");
        let text = if page.host_str() == Some(HOST) {
            let text = navigate(gateway, HOST, &page, &pairs(&cookies));
            take(&mut cookies, &text);
            if was_at_provider {
                assert!(text.starts_with("HTTP/1.1 30"), "no login: {text}");
                return pairs(&cookies);
            }
            text
        } else {
            was_at_provider = true;
            page.query_pairs_mut().append_pair("login_hint", "alice");
            let address = format!("{}:{}", page.host_str().unwrap(), page.port().unwrap());
            navigate(address.parse().unwrap(), &address, &page, "")
        };
        let location = header(&text, "location").ok_or_else(|| format!("no redirect from {page}: {text}")).unwrap();
        page = page.join(location).unwrap();
    }
}

fn pairs(cookies: &[(String, String)]) -> String {
    cookies.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join("; ")
}

/// Keeps the cookies of an answer, and drops those that it takes away.
fn take(cookies: &mut Vec<(String, String)>, answer: &str) {
    let lines = answer.lines().filter_map(|line| line.split_once(": "));
    for (_, value) in lines.filter(|(name, _)| name.eq_ignore_ascii_case("set-cookie")) {
        let (name, value) = value.split(';').next().and_then(|pair| pair.split_once('=')).unwrap();
        cookies.retain(|(known, _)| known != name);
        if !value.is_empty() {
            cookies.push((name.to_owned(), value.to_owned()));
        }
    }
}

/// Follows a link.
fn navigate(address: SocketAddr, host: &str, page: &Url, cookie: &str) -> String {
    let target = page.query().map_or_else(|| page.path().to_owned(), |query| format!("{}?{query}", page.path()));
    let request = format!(
        "GET {target} HTTP/1.1\r\nHost: {host}\r\nAccept: text/html\r\nSec-Fetch-Mode: navigate\r\n\
         Sec-Fetch-Site: none\r\nSec-Fetch-Dest: document\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: {host}\r\n\
         Cookie: {cookie}\r\n\r\n"
    );
    String::from_utf8_lossy(&first_answer(&mut TcpStream::connect(address).unwrap(), request.as_bytes())).into_owned()
}
