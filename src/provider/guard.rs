//! Which addresses the provider's metadata may send us to. Metadata come from outside: without a guard, whoever writes
//! them could have us call a cloud's metadata service or a machine behind the firewall (OWASP ASVS 13.2.4).
//!
//! The decision is made after name resolution and on the very addresses that are then dialled, so that a name that
//! changes its address in between gains nothing. Hosts that the operator wrote are the operator's business.

use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use hyper_util::client::legacy::connect::dns::Name;
use tokio::net::lookup_host;
use tower_service::Service;
use url::Url;

use crate::config;

/// An address that is not dialled.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("its address is one that provider metadata may not name")]
pub(super) struct Forbidden;

/// Resolves names for the provider's client, and drops addresses that are out of bounds.
#[derive(Clone, Debug)]
pub(super) struct Guard {
    /// Hosts of the issuer, the back channel and `jwks_uri`, lower case, without brackets.
    written_by_operator: Arc<[String]>,
}

/// How an address is to be treated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reach {
    /// Anybody's.
    Public,
    /// Of this machine or this network: allowed when the operator's own hosts are there, too.
    Private,
    /// Never a provider's: link-local, cloud metadata, multicast, unspecified.
    Never,
}

impl Guard {
    pub(super) fn new(provider: &config::Provider) -> Self {
        let urls = [Some(provider.issuer.as_str()), provider.backchannel.as_deref(), provider.jwks_uri.as_deref()];
        let hosts = urls.into_iter().flatten().filter_map(|text| Url::parse(text).ok());
        Self { written_by_operator: hosts.filter_map(|url| url.host_str().map(bare)).collect() }
    }

    /// Judges a host that is written as an address and so is never resolved.
    pub(super) async fn literal(&self, host: &str) -> Result<(), Forbidden> {
        let Ok(address) = bare(host).parse::<IpAddr>() else {
            return Ok(());
        };
        match self.bounded(host, vec![SocketAddr::new(address, 0)]).await.is_empty() {
            true => Err(Forbidden),
            false => Ok(()),
        }
    }

    /// The addresses of `host` that may be dialled.
    async fn bounded(&self, host: &str, addresses: Vec<SocketAddr>) -> Vec<SocketAddr> {
        let host = bare(host);
        if self.written_by_operator.contains(&host) {
            return addresses;
        }
        let within = match addresses.iter().any(|address| reach(address.ip()) == Reach::Private) {
            true if self.is_within_private_network().await => Reach::Private,
            _ => Reach::Public,
        };
        let allowed = |address: &SocketAddr| match reach(address.ip()) {
            Reach::Public => true,
            Reach::Private => within == Reach::Private,
            Reach::Never => false,
        };
        addresses.into_iter().filter(allowed).collect()
    }

    /// Whether the operator's own hosts are private.
    async fn is_within_private_network(&self) -> bool {
        for host in self.written_by_operator.iter() {
            let Ok(mut addresses) = lookup_host((host.as_str(), 0)).await else {
                continue;
            };
            if addresses.any(|address| reach(address.ip()) == Reach::Private) {
                return true;
            }
        }
        false
    }
}

impl Service<Name> for Guard {
    type Response = std::vec::IntoIter<SocketAddr>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let guard = self.clone();
        Box::pin(async move {
            let found = lookup_host((name.as_str(), 0)).await?.collect();
            let bounded = guard.bounded(name.as_str(), found).await;
            if bounded.is_empty() { Err(io::Error::other(Forbidden)) } else { Ok(bounded.into_iter()) }
        })
    }
}

/// A host in lower case and without the brackets of an IPv6 literal.
fn bare(host: &str) -> String {
    host.trim_start_matches('[').trim_end_matches(']').to_ascii_lowercase()
}

fn reach(address: IpAddr) -> Reach {
    match address.to_canonical() {
        IpAddr::V4(address) => match address.octets() {
            // 100.100.100.200 and 192.0.0.192 are metadata services of clouds that do not use a link-local address.
            [0, ..] | [169, 254, ..] | [224..=255, ..] | [100, 100, 100, 200] | [192, 0, 0, _] => Reach::Never,
            [10 | 127, ..] | [172, 16..=31, ..] | [192, 168, ..] | [100, 64..=127, ..] | [198, 18..=19, ..] => {
                Reach::Private
            }
            _ => Reach::Public,
        },
        IpAddr::V6(address) => reach_v6(address),
    }
}

fn reach_v6(address: Ipv6Addr) -> Reach {
    match address.segments() {
        [0, 0, 0, 0, 0, 0, 0, 1] => Reach::Private,
        // fd00:ec2::254 is the metadata service of a cloud within the private range.
        [0, 0, 0, 0, 0, 0, ..] | [0xfe80..=0xfebf, ..] | [0xff00..=0xffff, ..] | [0xfd00, 0xec2, ..] => Reach::Never,
        // RFC 6052: the address in an address that a translator would dial.
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] => {
            let [a, b] = high.to_be_bytes();
            let [c, d] = low.to_be_bytes();
            reach(IpAddr::from([a, b, c, d]))
        }
        [0xfc00..=0xfdff, ..] | [0xfec0..=0xfeff, ..] => Reach::Private,
        _ => Reach::Public,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provider::testing::provider;

    #[test]
    fn og_6_addresses_are_told_apart() {
        let table = [
            ("8.8.8.8", Reach::Public),
            ("2606:4700::1111", Reach::Public),
            ("127.0.0.1", Reach::Private),
            ("10.1.2.3", Reach::Private),
            ("172.31.0.1", Reach::Private),
            ("172.32.0.1", Reach::Public),
            ("192.168.1.1", Reach::Private),
            ("100.64.0.1", Reach::Private),
            ("::1", Reach::Private),
            ("fd12::1", Reach::Private),
            ("::ffff:10.0.0.1", Reach::Private),
            ("64:ff9b::a00:1", Reach::Private),
            ("169.254.169.254", Reach::Never),
            ("::ffff:169.254.169.254", Reach::Never),
            ("64:ff9b::a9fe:a9fe", Reach::Never),
            ("fe80::1", Reach::Never),
            ("fd00:ec2::254", Reach::Never),
            ("100.100.100.200", Reach::Never),
            ("0.0.0.0", Reach::Never),
            ("::", Reach::Never),
            ("224.0.0.1", Reach::Never),
        ];
        for (text, expected) in table {
            assert_eq!(text.parse().map(reach), Ok(expected), "{text}");
        }
    }

    #[tokio::test]
    async fn og_6_private_addresses_only_where_the_operator_is() {
        let public = Guard::new(&provider("https://203.0.113.7/realm"));
        let private = Guard::new(&provider("http://127.0.0.1:1234/realm"));
        for (host, by_public, by_private) in [
            ("8.8.8.8", true, true),
            ("10.0.0.1", false, true),
            ("[::1]", false, true),
            ("169.254.169.254", false, false),
            ("[fe80::1]", false, false),
            ("id.example.com", true, true),
        ] {
            assert_eq!(public.literal(host).await.is_ok(), by_public, "{host}");
            assert_eq!(private.literal(host).await.is_ok(), by_private, "{host}");
        }
        assert!(public.literal("203.0.113.7").await.is_ok());
    }

    #[tokio::test]
    async fn og_6_l17_names_are_judged_by_what_they_resolve_to() {
        let mut public = Guard::new(&provider("https://203.0.113.7/realm"));
        let mut private = Guard::new(&provider("http://127.0.0.1:1234/realm"));
        let name = || "localhost".parse::<Name>().unwrap_or_else(|_| panic!("a name"));
        assert!(public.call(name()).await.is_err());
        assert!(private.call(name()).await.is_ok_and(|mut found| found.next().is_some()));
    }
}
