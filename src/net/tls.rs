//! TLS: rustls with ring, and the roots that this host trusts.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::{self, PemObject};
use rustls_platform_verifier::Verifier;

/// The reason why there is no TLS configuration.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The file with further roots cannot be read.
    #[error("cannot read ca-file {}: {source}", path.display())]
    UnreadableCaFile {
        /// The file.
        path: PathBuf,
        /// The error of the system.
        source: io::Error,
    },
    /// The file with further roots is not PEM.
    #[error("cannot read ca-file {} as PEM: {source}", path.display())]
    InvalidCaFile {
        /// The file.
        path: PathBuf,
        /// The error of the parser.
        source: pem::Error,
    },
    /// The file with further roots has none.
    #[error(
        "ca-file {} has no certificate; it must be PEM with at least one \
         -----BEGIN CERTIFICATE-----",
        path.display()
    )]
    EmptyCaFile {
        /// The file.
        path: PathBuf,
    },
    /// There are no roots to trust, or one of them is unusable.
    #[error(
        "cannot load the certificates to trust: {source}; install the system's \
         (ca-certificates) or name some with ca-file"
    )]
    Roots {
        /// The error of the verifier.
        source: rustls::Error,
    },
    /// The cryptography offers no version of TLS.
    #[error("cannot set TLS up: {source}")]
    Setup {
        /// The error of the library.
        source: rustls::Error,
    },
}

/// Returns a configuration that trusts the host's roots and those of `ca_file`,
/// as they are now: a change takes effect with the next configuration.
pub(super) fn client_config(ca_file: Option<&Path>) -> Result<ClientConfig, TlsError> {
    let extra_roots = match ca_file {
        Some(path) => read_roots(path)?,
        None => Vec::new(),
    };
    let provider = crypto_provider();
    let verifier = Verifier::new_with_extra_roots(extra_roots, Arc::clone(&provider))
        .map_err(|source| TlsError::Roots { source })?;
    Ok(config_builder(provider)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth())
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

fn read_roots(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let pem = std::fs::read(path).map_err(|source| TlsError::UnreadableCaFile {
        path: path.to_owned(),
        source,
    })?;
    let roots = CertificateDer::pem_slice_iter(&pem)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|source| TlsError::InvalidCaFile {
            path: path.to_owned(),
            source,
        })?;
    if roots.is_empty() {
        return Err(TlsError::EmptyCaFile {
            path: path.to_owned(),
        });
    }
    Ok(roots)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ca_file_without_certificates_is_rejected() {
        let temp_file = tempfile::NamedTempFile::new().unwrap();
        let file = temp_file.path();
        let shown = file.display();
        for (text, expected) in [
            (
                "nothing\n",
                format!(
                    "ca-file {shown} has no certificate; it must be PEM with at least one \
                     -----BEGIN CERTIFICATE-----"
                ),
            ),
            (
                "-----BEGIN CERTIFICATE-----\n",
                format!("cannot read ca-file {shown} as PEM: "),
            ),
        ] {
            std::fs::write(file, text).unwrap();
            let error = client_config(Some(file)).unwrap_err().to_string();
            assert!(error.starts_with(&expected), "{error}");
        }
        let error = client_config(Some(Path::new("/nowhere/ca.pem"))).unwrap_err();
        assert_eq!(
            error.to_string(),
            "cannot read ca-file /nowhere/ca.pem: No such file or directory (os error 2)"
        );
    }
}
