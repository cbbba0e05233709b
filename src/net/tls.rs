//! TLS: rustls with ring, and the roots that this host trusts.

use std::path::Path;
use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use rustls_platform_verifier::Verifier;

/// Returns a configuration that trusts the host's roots and those of `ca_file`,
/// as they are now: a change takes effect with the next configuration.
pub(super) fn client_config(ca_file: Option<&Path>) -> Result<ClientConfig, String> {
    let extra_roots = match ca_file {
        Some(path) => read_roots(path)?,
        None => Vec::new(),
    };
    let provider = crypto_provider();
    let verifier =
        Verifier::new_with_extra_roots(extra_roots, Arc::clone(&provider)).map_err(|error| {
            format!(
                "cannot load the certificates to trust: {error}; \
                 install the system's (ca-certificates) or name some with ca-file"
            )
        })?;
    Ok(config_builder(provider)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth())
}

/// Returns a configuration that trusts no server, for plain http on loopback.
/// It saves the time of loading the host's roots.
pub(super) fn client_config_without_roots() -> Result<ClientConfig, String> {
    Ok(config_builder(crypto_provider())?
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth())
}

fn crypto_provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn config_builder(
    provider: Arc<CryptoProvider>,
) -> Result<rustls::ConfigBuilder<ClientConfig, rustls::WantsVerifier>, String> {
    ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| format!("cannot set TLS up: {error}"))
}

fn read_roots(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let pem = std::fs::read(path)
        .map_err(|error| format!("cannot read ca-file {}: {error}", path.display()))?;
    let roots = CertificateDer::pem_slice_iter(&pem)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| format!("cannot read ca-file {} as PEM: {error}", path.display()))?;
    if roots.is_empty() {
        return Err(format!(
            "ca-file {} has no certificate; it must be PEM with at least one \
             -----BEGIN CERTIFICATE-----",
            path.display()
        ));
    }
    Ok(roots)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ca_file_without_certificates_is_rejected() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "nothing\n").unwrap();
        let error = client_config(Some(file.path())).unwrap_err();
        assert!(error.contains("no certificate"), "{error}");
        let error = client_config(Some(Path::new("/nowhere/ca.pem"))).unwrap_err();
        assert!(
            error.contains("cannot read ca-file /nowhere/ca.pem"),
            "{error}"
        );
    }
}
