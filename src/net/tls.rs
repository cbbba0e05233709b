//! TLS: rustls with ring, and the roots that this host trusts.

use std::path::Path;
use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::sign::SingleCertAndKey;
use rustls::{ClientConfig, RootCertStore};
use rustls_platform_verifier::Verifier;

use crate::net::ca_file::{self, CaFileError};
use crate::net::client_identity::ClientIdentity;

/// The reason why there is no TLS configuration.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The file with further roots is not usable.
    #[error(transparent)]
    CaFile(#[from] CaFileError),
    /// There are no roots to trust, or one of them is unusable.
    #[error(
        "cannot load the trusted root certificates: {source}; hint: install the package \
         ca-certificates, or set ca-file"
    )]
    Roots {
        /// The error of the verifier.
        source: rustls::Error,
    },
    /// The cryptography offers no version of TLS.
    #[error("cannot set up TLS: {source}")]
    Setup {
        /// The error of the library.
        source: rustls::Error,
    },
}

/// Returns a configuration that trusts the host's roots and those of `ca_file`,
/// as they are now: a change takes effect with the next configuration. It shows a server
/// that asks for it the certificate of `identity`.
pub(super) fn client_config(
    ca_file: Option<&Path>,
    identity: Option<&ClientIdentity>,
) -> Result<ClientConfig, TlsError> {
    let extra_roots = match ca_file {
        Some(path) => ca_file::read(ca_file::OPTION, path)?,
        None => Vec::new(),
    };
    let provider = crypto_provider();
    let verifier = Verifier::new_with_extra_roots(extra_roots, Arc::clone(&provider))
        .map_err(|source| TlsError::Roots { source })?;
    let builder = config_builder(provider)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier));
    Ok(match identity {
        Some(identity) => {
            let certified = SingleCertAndKey::from(identity.certified_key());
            builder.with_client_cert_resolver(Arc::new(certified))
        }
        None => builder.with_no_client_auth(),
    })
}

/// Returns a configuration that trusts no server, for plain http on loopback.
/// It saves the time of loading the host's roots.
pub(super) fn client_config_without_roots() -> Result<ClientConfig, TlsError> {
    Ok(config_builder(crypto_provider())?
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth())
}

fn crypto_provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn config_builder(
    provider: Arc<CryptoProvider>,
) -> Result<rustls::ConfigBuilder<ClientConfig, rustls::WantsVerifier>, TlsError> {
    ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|source| TlsError::Setup { source })
}
