//! A real session: the development provider, Vestibule's config for it, and a browser's three requests.

use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::json;
use vestibule::demo::provider::{Client, DemoProvider, Endpoint, JwtMutation, Kind, Mutation, Options};

use crate::load::{first_answer, header};

/// Where the browser believes to be.
pub(crate) const HOST: &str = "app.example.com";

/// What other software leaves in a browser's cookies for the same host.
pub(crate) const OTHER_COOKIES: &str = "_ga=GA1.1.1380172938.1763970000; theme=dark; consent=necessary:true|stats:false; \
     _pk_id.1.1fff=4b1d8a2e5c7f9031.1763970000.; locale=en-GB";

/// Padding that makes the bearer the size of a large provider's: 1.4 kB.
const PADDING: usize = 330;

/// A provider whose tokens are large and live longer than the bench.
pub(crate) async fn provider() -> DemoProvider {
    let client = Client::public("web").redirect_uri(&format!("https://{HOST}/login/end"));
    let lifetime = Duration::from_secs(24 * 3600);
    let options = Options { clients: vec![client], access_token_lifetime: lifetime, ..Options::default() };
    let provider = DemoProvider::start(options).await.unwrap();
    let padding = JwtMutation::SetClaim("entitlements", json!("x".repeat(PADDING)));
    provider.mutate(Mutation::always(Endpoint::Token, Kind::AccessToken(padding)));
    provider
}

/// Writes the config file; with the log level and the store that are the defaults.
pub(crate) fn config(
    provider: &DemoProvider,
    [listen, verdicts, metrics]: [SocketAddr; 3],
    upstream: SocketAddr,
    directory: &Path,
) -> PathBuf {
    let issuer = provider.issuer();
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

/// Logs alice in and returns the session cookie as a browser would send it.
pub(crate) fn log_in(vestibule: SocketAddr) -> String {
    let (start, cookie) = navigate(vestibule, HOST, "/login/start", "");
    let authorize = url::Url::parse(&start).unwrap();
    let provider: SocketAddr =
        format!("{}:{}", authorize.host_str().unwrap(), authorize.port().unwrap()).parse().unwrap();
    let target = format!("{}?{}&login_hint=alice", authorize.path(), authorize.query().unwrap());
    let (end, _) = navigate(provider, &provider.to_string(), &target, "");
    let callback = url::Url::parse(&end).unwrap();
    let target = format!("{}?{}", callback.path(), callback.query().unwrap());
    let (_, session) = navigate(vestibule, HOST, &target, &cookie);
    session
}

/// Follows a link: where it leads, and the cookies that were set with a value, those of sessions and logins only.
fn navigate(address: SocketAddr, host: &str, target: &str, cookie: &str) -> (String, String) {
    let request = format!(
        "GET {target} HTTP/1.1\r\nHost: {host}\r\nAccept: text/html\r\nSec-Fetch-Mode: navigate\r\n\
         Sec-Fetch-Site: none\r\nSec-Fetch-Dest: document\r\nCookie: {cookie}\r\n\r\n"
    );
    let answer = first_answer(&mut TcpStream::connect(address).unwrap(), request.as_bytes());
    let text = String::from_utf8(answer).unwrap();
    let location = header(&text, "location").ok_or_else(|| format!("no redirect from {target}: {text}")).unwrap();
    let set = text.lines().filter_map(|line| line.strip_prefix("set-cookie: "));
    let pairs = set.filter_map(|value| value.split(';').next()).filter(|pair| !pair.ends_with('='));
    let known = |pair: &&str| pair.contains("vestibule-web=") || pair.contains("vestibule-web.login.");
    (location.to_owned(), pairs.filter(known).collect::<Vec<_>>().join("; "))
}
