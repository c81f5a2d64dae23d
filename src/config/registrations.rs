//! What must be registered at each provider, so that nobody has to guess a URI.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::{AuthCode, Client, Config, Mode, Name, Route};

/// The URIs of one client.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Registration {
    /// The issuer at which the client is registered.
    pub issuer: String,
    /// Where the provider sends the browser with the code (RFC 6749 3.1.2).
    pub redirect_uris: BTreeSet<String>,
    /// Where it sends the browser after a logout (OpenID Connect RP-Initiated Logout 3.1).
    pub post_logout_redirect_uris: BTreeSet<String>,
    /// Where it says, from server to server, that a user has logged out (OpenID Connect Back-Channel Logout 2.2).
    pub backchannel_logout_uris: BTreeSet<String>,
    /// Whether it is a CLI's: a public client that may use the device authorization grant (RFC 8628 3.4).
    pub device_flow: bool,
}

/// Every client by provider and `client_id`. `Display` prints what an operator has to type in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Registrations(pub BTreeMap<(Name, String), Registration>);

/// What `config` needs to be registered.
#[must_use]
pub fn registrations(config: &Config) -> Registrations {
    let mut all = Registrations::default();
    for route in config.routes.values() {
        match &route.mode {
            Mode::AuthCode(auth_code) => {
                for client in &auth_code.clients {
                    all.of(client).add_browsers(route, auth_code, client);
                }
            }
            Mode::Device(device) => all.of(&device.client).device_flow = true,
            Mode::Verify(_) => {}
        }
    }
    all
}

impl Registrations {
    fn of(&mut self, client: &Client) -> &mut Registration {
        let registration = self.0.entry((client.provider.name.clone(), client.client_id.clone())).or_default();
        registration.issuer.clone_from(&client.provider.issuer);
        registration
    }
}

impl Registration {
    /// What a client needs at whose provider the browsers of `route` log in.
    fn add_browsers(&mut self, route: &Route, auth_code: &AuthCode, client: &Client) {
        for site in 0..route.public_urls.len() {
            self.redirect_uris.extend(redirect_uri(route, auth_code, client, site));
        }
        let own = route.public_urls.iter().map(|url| format!("{}{}/logout/end", url.text, route.base_path));
        self.post_logout_redirect_uris.extend(own);
        let own = route.public_urls.iter().map(|url| format!("{}{}/logout/backchannel", url.text, route.base_path));
        self.backchannel_logout_uris.extend(own);
    }
}

/// The redirect URI of a login with `client` that began at the `site`th public URL of `route`.
#[must_use]
pub fn redirect_uri(route: &Route, auth_code: &AuthCode, client: &Client, site: usize) -> Option<String> {
    if let Some(uris) = &auth_code.redirect_uris {
        return uris.get(site).cloned();
    }
    let end = format!("{}{}/login/end", route.public_urls.get(site)?.text, route.base_path);
    // RFC 9700 4.4.2: with several providers, each has its own, so that none can pass off its code as another's.
    Some(if auth_code.clients.len() > 1 { format!("{end}/{}", client.provider.name) } else { end })
}

impl fmt::Display for Registrations {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, ((provider, client_id), registration)) in self.0.iter().enumerate() {
            if index > 0 {
                writeln!(formatter)?;
            }
            writeln!(formatter, "Register for client {client_id} at {provider} ({}):", registration.issuer)?;
            if registration.device_flow {
                writeln!(formatter, "  {:<26}device authorization (RFC 8628), public client", "grant")?;
            }
            list(formatter, "redirect URI", &registration.redirect_uris)?;
            list(formatter, "post-logout redirect URI", &registration.post_logout_redirect_uris)?;
            list(formatter, "back-channel logout URI", &registration.backchannel_logout_uris)?;
        }
        Ok(())
    }
}

fn list(formatter: &mut fmt::Formatter<'_>, what: &str, uris: &BTreeSet<String>) -> fmt::Result {
    uris.iter().try_for_each(|uri| writeln!(formatter, "  {what:<26}{uri}"))
}
