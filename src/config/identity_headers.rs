//! The headers that tell an upstream who calls.

use http::header::HeaderName;

use super::path_rule::header_name;
use super::report::Wrong;
use super::section::Section;

/// One identity header and the claim it shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdentityHeader {
    /// The header.
    pub name: HeaderName,
    /// The claim; dots descend into objects. Lists are joined with commas.
    pub claim: String,
}

/// What applications behind oauth2-proxy read. The claim `groups` stands for the route's `groups_claim`.
const OAUTH2_PROXY: &[(&str, &str)] = &[
    ("x-forwarded-user", "sub"),
    ("x-forwarded-email", "email"),
    ("x-forwarded-preferred-username", "preferred_username"),
    ("x-forwarded-groups", "groups"),
];

/// What applications behind Authelia read.
const AUTHELIA: &[(&str, &str)] = &[
    ("remote-user", "preferred_username"),
    ("remote-email", "email"),
    ("remote-name", "name"),
    ("remote-groups", "groups"),
];

/// Headers that mean something else: how a request is framed, where it goes, which way it came, or a credential.
const NEVER: &[&str] = &[
    "authorization",
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "cookie",
    "expect",
    "forwarded",
    "host",
    "keep-alive",
    "origin",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "via",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-port",
    "x-forwarded-proto",
];

/// `identity_headers` of a path rule: a preset, or a table header = claim.
pub(super) fn resolve(section: &Section<'_>, groups_claim: &str) -> Option<Vec<IdentityHeader>> {
    let preset = section.optional("identity_headers", |section, name| {
        section.choice(name, |text| match text {
            "oauth2-proxy" => Some(OAUTH2_PROXY),
            "authelia" => Some(AUTHELIA),
            _ => None,
        })
    });
    if let Some(Some(preset)) = preset {
        let header = |(name, claim): &(&'static str, &str)| IdentityHeader {
            name: HeaderName::from_static(name),
            claim: if *claim == "groups" { groups_claim.to_owned() } else { (*claim).to_owned() },
        };
        return Some(preset.iter().map(header).collect());
    }
    let mut headers: Vec<IdentityHeader> = Vec::new();
    let mut legal = true;
    for (name, at, claim) in section.entries("identity_headers") {
        let header = judge(&name, claim.as_str()?).and_then(|header| {
            let twice = headers.iter().any(|other| other.name == header.name);
            if twice {
                Err(Wrong::new(format!("the header {name} is named twice: case does not matter")))
            } else {
                Ok(header)
            }
        });
        match header {
            Ok(header) => headers.push(header),
            Err(wrong) => {
                section.cx.error(&at, wrong);
                legal = false;
            }
        }
    }
    legal.then_some(headers)
}

fn judge(name: &str, claim: &str) -> Result<IdentityHeader, Wrong> {
    let header = header_name(name)?;
    if NEVER.contains(&header.as_str()) || header.as_str().starts_with("proxy-") {
        return Err(Wrong::new(format!("{name} cannot carry a claim: it means something else"))
            .hint("choose a name such as `X-User`"));
    }
    if claim.is_empty() {
        return Err(Wrong::new("this names no claim").hint("such as `\"sub\"` or `\"email\"`"));
    }
    Ok(IdentityHeader { name: header, claim: claim.to_owned() })
}
