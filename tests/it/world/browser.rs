//! A browser as far as logins can tell: what a person and a page's script can do with it. How its requests are made is
//! in `ask`.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode};
use url::Url;
use vestibule::time::Clock;

use super::answer::Answer;
use super::ask::{Ask, Mode, authority};
use super::canary::Transcript;
use super::jar::Jar;

/// Where the hosts of the world are.
#[derive(Clone, Debug, Default)]
pub struct Hosts(Arc<Mutex<HashMap<String, Destination>>>);

/// Where a host is.
#[derive(Clone, Copy, Debug)]
pub enum Destination {
    /// A server without anything in front.
    Direct(SocketAddr),
    /// The sidecar behind Caddy; `front_end` says whether Caddy serves a front end beside it.
    Caddy { sidecar: SocketAddr, front_end: bool },
    /// The sidecar behind Caddy, which serves a front end beside it, and before that a balancer that ends TLS and does not
    /// tell.
    Balancer { sidecar: SocketAddr },
}

impl Hosts {
    /// Puts a host (with its port, when it has one) on the map.
    pub fn put(&self, host: &str, destination: Destination) {
        self.0.lock().unwrap().insert(host.to_owned(), destination);
    }

    /// Where an URL is served.
    pub fn find(&self, url: &Url) -> Option<Destination> {
        let host = authority(url);
        self.0.lock().unwrap().get(&host).copied()
    }
}

/// What browsers of one world share.
#[derive(Clone)]
pub struct Surroundings {
    pub hosts: Hosts,
    pub clock: Clock,
    pub transcript: Transcript,
    pub log_position: usize,
    /// The origin that relative URLs belong to.
    pub home: Url,
    /// The jars of all browsers, for the oracle.
    pub jars: Arc<Mutex<Vec<Arc<Mutex<Jar>>>>>,
}

/// One browser: one jar. Clones are tabs of the same one.
#[derive(Clone)]
pub struct Browser {
    pub(super) around: Surroundings,
    pub(super) jar: Arc<Mutex<Jar>>,
}

impl Browser {
    /// A fresh browser.
    pub fn new(around: Surroundings) -> Self {
        Self::holding(around, Jar::default())
    }

    /// The user types an address; redirects are followed.
    pub fn navigate(&self, url: &str) -> Ask {
        Ask { mode: Mode::Navigate, from: None, follow: Some(None), ..self.ask(Method::GET, url) }
    }

    /// The user clicks a link on a page of `from`; redirects are followed.
    pub fn click(&self, from: &str, url: &str) -> Ask {
        Ask { from: Some(self.resolve(from)), ..self.navigate(url) }
    }

    /// A form of `page` is sent, with the button that was pressed.
    pub fn submit(&self, page: &Answer, fields: &[(&str, &str)]) -> Ask {
        let text = page.text();
        let Some(action) = text.split("action=\"").nth(1).and_then(|rest| rest.split('"').next()) else {
            panic!("no form: {}", page.describe())
        };
        let url = page.url.join(&action.replace("&amp;", "&")).unwrap();
        let body = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish();
        let ask = Ask { method: Method::POST, from: Some(page.url.clone()), ..self.navigate(url.as_str()) };
        ask.header("content-type", "application/x-www-form-urlencoded").body(body)
    }

    /// A script of the app fetches; redirects are shown, not followed.
    pub fn fetch(&self, method: Method, url: &str) -> Ask {
        self.ask(method, url)
    }

    /// A script of another origin fetches, with credentials.
    pub fn fetch_from(&self, from: &str, method: Method, url: &str) -> Ask {
        Ask { from: Some(self.resolve(from)), ..self.ask(method, url) }
    }

    /// A script of the app fetches by GET.
    pub fn get(&self, url: &str) -> Ask {
        self.ask(Method::GET, url)
    }

    /// A script of the app fetches by POST.
    pub fn post(&self, url: &str) -> Ask {
        self.ask(Method::POST, url)
    }

    /// Begins a login and stops at the provider's picker.
    pub async fn begin_login(&self) -> Answer {
        self.navigate("/login/start").await.is(200).says("Who are you?")
    }

    /// Chooses a user on the picker and follows wherever that leads.
    pub async fn choose(&self, picker: &Answer, user: &str) -> Answer {
        self.submit(picker, &[("user", user)]).await
    }

    /// Chooses a user on the picker and stops before the callback; gives its URL.
    pub async fn callback_for(&self, picker: &Answer, user: &str) -> Url {
        self.submit(picker, &[("user", user)]).stop_before("/login/end").await.location()
    }

    /// Follows a callback that comes from `issuer`'s site.
    pub async fn call_back(&self, from: &str, url: &Url) -> Answer {
        self.click(from, url.as_str()).await
    }

    /// Logs in from the first click to the front end.
    pub async fn login(&self, user: &str) -> Answer {
        let picker = self.begin_login().await;
        let answer = self.choose(&picker, user).await;
        assert!(answer.status == StatusCode::OK && answer.url.path() == "/", "no login: {}", answer.describe());
        answer
    }

    /// The cookies of the app's host.
    pub fn cookies(&self) -> Vec<super::jar::Cookie> {
        self.cookies_of(self.around.home.host_str().unwrap())
    }

    /// The same of another host.
    pub fn cookies_of(&self, host: &str) -> Vec<super::jar::Cookie> {
        self.jar.lock().unwrap().of(host, self.now())
    }

    /// Puts a cookie into the jar as if the app's host had set it.
    pub fn plant(&self, line: &str) {
        self.jar.lock().unwrap().plant(&self.around.home, line, self.now());
    }

    /// Where this browser finds its hosts.
    pub fn hosts(&self) -> &Hosts {
        &self.around.hosts
    }

    /// Forgets all cookies.
    pub fn forget(&self) {
        self.jar.lock().unwrap().clear();
    }

    /// Another browser that holds a copy of all cookies: a thief.
    pub fn copy(&self) -> Self {
        let jar = self.jar.lock().unwrap().clone();
        Self::holding(self.around.clone(), jar)
    }

    fn holding(around: Surroundings, jar: Jar) -> Self {
        let jar = Arc::new(Mutex::new(jar));
        around.jars.lock().unwrap().push(Arc::clone(&jar));
        Self { around, jar }
    }

    /// Cookies that were not taken, and why.
    pub fn rejected(&self) -> Vec<String> {
        self.jar.lock().unwrap().rejected().to_vec()
    }

    /// Seconds since the epoch, by the clock of the world.
    pub(super) fn now(&self) -> i64 {
        self.around.clock.now().unix()
    }

    fn resolve(&self, url: &str) -> Url {
        self.around.home.join(url).unwrap()
    }

    fn ask(&self, method: Method, url: &str) -> Ask {
        Ask {
            browser: self.clone(),
            method,
            url: self.resolve(url),
            headers: HeaderMap::new(),
            body: Bytes::new(),
            mode: Mode::Fetch,
            from: Some(self.around.home.clone()),
            follow: None,
            metadata: true,
        }
    }
}
