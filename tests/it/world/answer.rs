//! What the browser got, with assertions that show all of it when they fail.

use http::{HeaderMap, StatusCode};
use serde_json::Value;
use url::Url;

use super::log;

/// One answer, the last of a chain of redirects when they were followed.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Its status.
    pub status: StatusCode,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body, whole.
    pub body: Vec<u8>,
    /// Where it came from.
    pub url: Url,
    /// The URLs asked before, in their order.
    pub hops: Vec<Url>,
    /// Where the log stood when the world began.
    pub log_position: usize,
}

impl Answer {
    /// Asserts the status.
    #[track_caller]
    pub fn is(self, status: u16) -> Self {
        assert!(self.status.as_u16() == status, "expected {status}, got {}", self.describe());
        self
    }

    /// Asserts the reason code of a refusal, wherever this kind of answer carries it.
    #[track_caller]
    pub fn refused(self, status: u16, code: &str) -> Self {
        let answer = self.is(status);
        let json: Option<Value> = serde_json::from_slice(&answer.body).ok();
        let in_body = json.as_ref().and_then(|value| value.get("code")).and_then(Value::as_str);
        let found = in_body.or_else(|| answer.header("vestibule-error")).map(str::to_owned);
        let on_page = answer.text().contains(&format!("<code>{code}</code>"));
        assert!(found.as_deref() == Some(code) || on_page, "expected the code {code}, got {}", answer.describe());
        answer
    }

    /// Asserts a header's only value.
    #[track_caller]
    pub fn has(self, name: &str, value: &str) -> Self {
        let all: Vec<&[u8]> = self.headers.get_all(name).iter().map(http::HeaderValue::as_bytes).collect();
        assert!(all == [value.as_bytes()], "expected {name}: {value}, got {}", self.describe());
        self
    }

    /// Asserts that the body contains `text`.
    #[track_caller]
    pub fn says(self, text: &str) -> Self {
        assert!(self.text().contains(text), "expected the text {text:?}, got {}", self.describe());
        self
    }

    /// Asserts where the chain of redirects ended.
    #[track_caller]
    pub fn at(self, url: &str) -> Self {
        assert!(self.url.as_str() == url, "expected to be at {url}, got {}", self.describe());
        self
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    #[track_caller]
    pub fn json(&self) -> Value {
        match serde_json::from_slice(&self.body) {
            Ok(value) => value,
            Err(error) => panic!("not JSON ({error}): {}", self.describe()),
        }
    }

    /// The only value of a header that is text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// All values of a header, in their order.
    pub fn all(&self, name: &str) -> Vec<String> {
        let values = self.headers.get_all(name).iter();
        values.map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned()).collect()
    }

    /// Asserts that a header is absent.
    #[track_caller]
    pub fn lacks(self, name: &str) -> Self {
        assert!(self.headers.get(name).is_none(), "unexpected {name}: {}", self.describe());
        self
    }

    /// Where a redirect points.
    #[track_caller]
    pub fn location(&self) -> Url {
        let Some(location) = self.header("location") else { panic!("no redirect: {}", self.describe()) };
        self.url.join(location).unwrap()
    }

    /// Everything, for a failure message.
    pub fn describe(&self) -> String {
        let hops: String = self.hops.iter().map(|url| format!("\n  via {url}")).collect();
        let headers: String = self
            .headers
            .iter()
            .map(|(name, value)| format!("\n  {name}: {}", String::from_utf8_lossy(value.as_bytes())))
            .collect();
        let text = self.text();
        let body: String = text.chars().take(2000).collect();
        let tail = log::tail(self.log_position, 20);
        format!("{}{hops}\n  from {}{headers}\n\n{body}\n\nlog:\n{tail}\n", self.status, self.url)
    }
}

/// The only value of a query parameter; two are a failure of the test.
#[track_caller]
pub fn parameter(url: &Url, name: &str) -> Option<String> {
    let all: Vec<String> =
        url.query_pairs().filter(|(key, _)| key == name).map(|(_, value)| value.into_owned()).collect();
    assert!(all.len() < 2, "{name} occurs {} times in {url}", all.len());
    all.into_iter().next()
}
