//! The gateways that do the same work: how each is set up, started and asked.

use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use vestibule::demo::provider::Client;

use crate::load::{first_answer, header};
use crate::login::{self, HOST};
use crate::processes::free_address;
use crate::rows::{call, question};

/// The client of the others at the provider, and its secret.
const CLIENT: &str = "peer";
const SECRET: &str = "a secret that only the bench knows";

/// Where Apache and its modules are when Debian's packages `apache2-bin` and `libapache2-mod-auth-openidc` are installed.
const APACHE: &str = "/usr/sbin/apache2";
const APACHE_MODULES: &str = "/usr/lib/apache2/modules";

/// The registration of the others.
pub(crate) fn client() -> Client {
    let client = Client::confidential(CLIENT, SECRET);
    client
        .redirect_uri(&format!("https://{HOST}/oauth2/callback"))
        .redirect_uri(&format!("https://{HOST}/oidc/callback"))
}

/// What all are set up for.
pub(crate) struct Site<'a> {
    pub(crate) issuer: &'a str,
    pub(crate) upstream: SocketAddr,
    pub(crate) folder: &'a Path,
}

/// A gateway that runs, with somebody who is logged in; it ends with this.
pub(crate) struct Gateway {
    pub(crate) name: &'static str,
    child: Child,
    address: SocketAddr,
    verdicts: Option<(SocketAddr, &'static str)>,
    session: String,
}

impl Gateway {
    /// Vestibule as it is released.
    pub(crate) fn vestibule(site: &Site<'_>) -> Self {
        let [listen, verdicts, metrics] = std::array::from_fn(|_| free_address());
        let config = login::config(site.issuer, [listen, verdicts, metrics], site.upstream, site.folder);
        let mut command = Command::new(env!("CARGO_BIN_EXE_vestibule"));
        let command = command.arg("run").arg("--config").arg(config);
        Self::start("vestibule", command, listen, "/login/start", Some((verdicts, "/web")))
    }

    /// oauth2-proxy, if `OAUTH2_PROXY_BIN` names it. Its session is in its cookie, as it is unless told otherwise. The bearer
    /// that it hands on is the ID token.
    pub(crate) fn oauth2_proxy(site: &Site<'_>) -> Option<Self> {
        let program = PathBuf::from(std::env::var_os("OAUTH2_PROXY_BIN")?);
        let address = free_address();
        let mut command = Command::new(program);
        command.args([
            "--provider=oidc",
            &format!("--http-address={address}"),
            &format!("--oidc-issuer-url={}", site.issuer),
            &format!("--client-id={CLIENT}"),
            &format!("--client-secret={SECRET}"),
            &format!("--redirect-url=https://{HOST}/oauth2/callback"),
            &format!("--upstream=http://{}/", site.upstream),
            "--cookie-secret=0123456789abcdef0123456789abcdef",
            "--code-challenge-method=S256",
            "--email-domain=*",
            "--scope=openid profile email",
            "--skip-provider-button=true",
            "--reverse-proxy=true",
            "--trusted-proxy-ip=127.0.0.1",
            "--pass-authorization-header=true",
            "--set-authorization-header=true",
            "--set-xauthrequest=true",
            "--request-logging=false",
            "--auth-logging=false",
        ]);
        Some(Self::start("oauth2-proxy", &mut command, address, "/", Some((address, "/oauth2/auth"))))
    }

    /// mod_auth_openidc in Apache, if it is installed. Its sessions are in shared memory, as they are unless told otherwise.
    /// It answers no questions of a Caddy.
    pub(crate) fn mod_auth_openidc(site: &Site<'_>) -> Option<Self> {
        let installed = Path::new(APACHE).exists() && Path::new(APACHE_MODULES).join("mod_auth_openidc.so").exists();
        if !installed {
            return None;
        }
        let address = free_address();
        let config = site.folder.join("apache.conf");
        std::fs::write(&config, apache(site, address)).unwrap();
        let mut command = Command::new(APACHE);
        command.arg("-f").arg(config).arg("-DFOREGROUND");
        Some(Self::start("mod_auth_openidc", &mut command, address, "/", None))
    }

    fn start(
        name: &'static str,
        command: &mut Command,
        address: SocketAddr,
        login: &str,
        verdicts: Option<(SocketAddr, &'static str)>,
    ) -> Self {
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let mut gateway = Self { name, child, address, verdicts, session: String::new() };
        let begun = Instant::now();
        while TcpStream::connect(address).is_err() {
            assert!(begun.elapsed() < Duration::from_secs(30), "{name} does not listen");
            std::thread::sleep(Duration::from_millis(10));
        }
        gateway.session = login::log_in(address, login);
        let (_, request) = gateway.proxied();
        let answer = first_answer(&mut TcpStream::connect(address).unwrap(), request.as_bytes());
        let text = String::from_utf8(answer).unwrap();
        let bearer = header(&text, "x-bearer-size").map_or(0, |size| size.parse::<usize>().unwrap());
        assert!(bearer > 500, "{name} hands on no token: {text}");
        gateway
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Whom to ask, and what: a call of a page, cookie in and bearer out.
    pub(crate) fn proxied(&self) -> (SocketAddr, String) {
        (self.address, call("/api/items?page=2&sort=name", &self.session))
    }

    /// Whom to ask, and what: a verdict on such a call.
    pub(crate) fn verdict(&self) -> Option<(SocketAddr, String)> {
        self.verdicts.map(|(address, path)| (address, question(path, &self.session)))
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        // Not killed: Apache takes the processes along that it has begun.
        let _ = Command::new("kill").arg(self.child.id().to_string()).status();
        let _ = self.child.wait();
    }
}

/// As many threads as there are connections and more, none of which ends for want of work; connections are kept alive, and
/// no access is logged.
fn apache(site: &Site<'_>, address: SocketAddr) -> String {
    let modules =
        ["mpm_event", "authn_core", "authz_core", "authz_user", "headers", "proxy", "proxy_http", "auth_openidc"];
    let load: String = modules
        .iter()
        .map(|name| format!("LoadModule {name}_module {APACHE_MODULES}/mod_{name}.so\n"))
        .collect();
    let Site { issuer, upstream, folder } = site;
    let folder = folder.display();
    format!(
        "ServerRoot {folder}\nDefaultRuntimeDir {folder}\nPidFile {folder}/apache.pid\nErrorLog {folder}/apache.log\n\
         ServerName {HOST}\nListen {address}\n{load}User www-data\nGroup www-data\n\
         KeepAlive On\nMaxKeepAliveRequests 0\nKeepAliveTimeout 60\n\
         ServerLimit 2\nStartServers 2\nThreadLimit 64\nThreadsPerChild 64\nMaxRequestWorkers 128\n\
         MinSpareThreads 1\nMaxSpareThreads 128\n\
         OIDCProviderMetadataURL {issuer}/.well-known/openid-configuration\n\
         OIDCClientID {CLIENT}\nOIDCClientSecret \"{SECRET}\"\nOIDCRedirectURI https://{HOST}/oidc/callback\n\
         OIDCCryptoPassphrase 0123456789abcdef0123456789abcdef\nOIDCScope \"openid profile email\"\n\
         OIDCPKCEMethod S256\nOIDCXForwardedHeaders X-Forwarded-Host X-Forwarded-Proto\n\
         <Location />\nAuthType openid-connect\nRequire valid-user\n\
         RequestHeader set Authorization \"Bearer %{{OIDC_access_token}}e\"\n\
         ProxyPass http://{upstream}/\n</Location>\n"
    )
}
