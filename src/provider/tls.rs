//! TLS towards providers and upstreams: 1.2 or later, the system's trust anchors or else Mozilla's, and those of `ca_file`.
//! There is no way to switch verification off.

use std::sync::Arc;

use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;

/// Builds the client side. Reads the system's anchors from disk, so it belongs on a thread that may block.
///
/// # Errors
/// `ca` has no certificate that can be read: connecting without it would fail anyway, and confusingly.
pub fn client_config(ca: Option<&[u8]>) -> Result<ClientConfig, String> {
    let mut roots = RootCertStore::empty();
    let system = rustls_native_certs::load_native_certs();
    let (added, _) = roots.add_parsable_certificates(system.certs);
    if added == 0 {
        // Images that hold nothing but a binary have no anchors of their own.
        roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    }
    if let Some(pem) = ca {
        let mut found = false;
        for certificate in CertificateDer::pem_slice_iter(pem) {
            let certificate = certificate.map_err(|_| "ca_file is not PEM")?;
            roots.add(certificate).map_err(|error| format!("ca_file has an unusable certificate: {error}"))?;
            found = true;
        }
        if !found {
            return Err("ca_file has no certificate".to_owned());
        }
    }
    let crypto = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(crypto)
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
        .map_err(|error| error.to_string())?;
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}

#[cfg(test)]
mod tests;
