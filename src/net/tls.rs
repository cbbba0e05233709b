//! TLS: rustls with ring, the system's roots, and one more file of roots where
//! the configuration names one.

use std::path::Path;
use std::sync::Arc;

use rustls::ClientConfig;
use rustls::crypto::ring;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use rustls_platform_verifier::Verifier;

/// A client's side of TLS.
///
/// # Errors
/// The roots cannot be read, in words.
pub(crate) fn config(ca_file: Option<&Path>) -> Result<ClientConfig, String> {
    let provider = Arc::new(ring::default_provider());
    let extra = match ca_file {
        Some(path) => roots(path)?,
        None => Vec::new(),
    };
    let verifier = Verifier::new_with_extra_roots(extra, Arc::clone(&provider))
        .map_err(|error| format!("cannot use the system's root certificates: {error}"))?;
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| format!("cannot set up TLS: {error}"))?
        // The platform's verifier, given as itself so that it can have roots
        // of ours; it verifies like the default one.
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    Ok(config)
}

fn roots(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let cannot = |why: String| format!("cannot read the certificates in {}: {why}", path.display());
    let found = CertificateDer::pem_file_iter(path)
        .map_err(|error| cannot(error.to_string()))?
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| cannot(error.to_string()))?;
    if found.is_empty() {
        return Err(cannot(
            "there is none; it must hold certificates in PEM form".to_owned(),
        ));
    }
    Ok(found)
}

/// TLS that trusts nobody: for clients that speak plain http.
///
/// # Errors
/// TLS cannot be set up, in words.
pub(crate) fn rootless() -> Result<ClientConfig, String> {
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| format!("cannot set up TLS: {error}"))?
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth();
    Ok(config)
}
