//! The certificate by which rekeyd shows a server who it is, and its key.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::InconsistentKeys;
use rustls::sign::CertifiedKey;
use rustls_pki_types::PrivateKeyDer;
use rustls_pki_types::pem::PemObject as _;

use crate::core::secret::Secret;
use crate::net::ca_file::{self, CaFileError};

/// The option with the certificate.
const CERTIFICATE_OPTION: &str = "client-certificate";

/// The files of `client-certificate` and `client-key`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientIdentityFiles {
    /// The file with the certificate, and those that lead from it to its root.
    pub certificate: PathBuf,
    /// The file with its key.
    pub key: PathBuf,
}

/// The reason why a client certificate cannot be used. Never shows the key.
#[derive(Debug, thiserror::Error)]
pub enum ClientIdentityError {
    /// The file with the certificate is not usable.
    #[error(transparent)]
    Certificate(#[from] CaFileError),
    /// The file with the key cannot be read. The text names it.
    #[error("{0}")]
    KeyFile(String),
    /// The file has no key that could be used.
    #[error("cannot use client-key {}: {problem}", path.display())]
    Key {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: KeyProblem,
    },
    /// The key is another certificate's.
    #[error(
        "client-key {} is not the key of client-certificate {}; hint: use the two files that belong \
         together, with the client's own certificate first",
        files.key.display(),
        files.certificate.display()
    )]
    OtherKey {
        /// The files.
        files: ClientIdentityFiles,
    },
}

/// A problem of the content of a file with a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyProblem {
    /// A passphrase protects it.
    #[error("it is encrypted; hint: write it without a passphrase: openssl pkey -in FILE -out NEW")]
    Encrypted,
    /// It has no key.
    #[error("it contains no private key in PEM format; hint: openssl pkey -in FILE -out NEW")]
    Missing,
    /// Its kind is not supported, or it is damaged.
    #[error("it is damaged, or its kind is not supported; hint: use an RSA, ECDSA or Ed25519 key")]
    Unsupported,
}

/// A certificate with its key.
#[derive(Clone)]
pub struct ClientIdentity(Arc<CertifiedKey>);

impl fmt::Debug for ClientIdentity {
    // Not derived, since that form may show the key.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("ClientIdentity(…)")
    }
}

impl ClientIdentityFiles {
    /// Reads both files, that of the key with `read_key`, which checks who else may read it.
    /// Blocks.
    ///
    /// # Errors
    /// [`ClientIdentityError`].
    pub fn read(
        &self,
        read_key: impl FnOnce(&Path) -> Result<Secret, String>,
    ) -> Result<ClientIdentity, ClientIdentityError> {
        let certificates = ca_file::read(CERTIFICATE_OPTION, &self.certificate)?;
        let text = read_key(&self.key).map_err(ClientIdentityError::KeyFile)?;
        let refuse = |problem| ClientIdentityError::Key {
            path: self.key.clone(),
            problem,
        };
        let key = parse_key(text.expose()).map_err(refuse)?;
        let provider = rustls::crypto::ring::default_provider();
        match CertifiedKey::from_der(certificates, key, &provider) {
            Ok(certified) => Ok(ClientIdentity(Arc::new(certified))),
            Err(rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch)) => {
                Err(ClientIdentityError::OtherKey {
                    files: self.clone(),
                })
            }
            Err(_) => Err(refuse(KeyProblem::Unsupported)),
        }
    }
}

impl ClientIdentity {
    /// Returns the certificate and the key as TLS takes them.
    pub(super) fn certified_key(&self) -> Arc<CertifiedKey> {
        Arc::clone(&self.0)
    }
}

/// Returns the first key of a text in PEM format, whatever else it has.
fn parse_key(text: &str) -> Result<PrivateKeyDer<'static>, KeyProblem> {
    let is_encrypted =
        text.contains("BEGIN ENCRYPTED PRIVATE KEY") || text.contains("Proc-Type: 4,ENCRYPTED");
    match PrivateKeyDer::from_pem_slice(text.as_bytes()) {
        _ if is_encrypted => Err(KeyProblem::Encrypted),
        Ok(key) => Ok(key),
        Err(_) => Err(KeyProblem::Missing),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(certificate: &str, key: &str) -> Result<ClientIdentity, ClientIdentityError> {
        let folder = tempfile::tempdir().unwrap();
        let files = ClientIdentityFiles {
            certificate: folder.path().join("client.pem"),
            key: folder.path().join("client.key"),
        };
        std::fs::write(&files.certificate, certificate).unwrap();
        std::fs::write(&files.key, key).unwrap();
        files.read(|path| {
            let text = std::fs::read_to_string(path).map_err(|error| error.to_string())?;
            Ok(Secret::new(text))
        })
    }

    #[test]
    fn only_a_certificate_with_its_own_key_is_taken() {
        let made = || rcgen::generate_simple_self_signed(vec!["client".to_owned()]).unwrap();
        let (own, other) = (made(), made());
        let (certificate, key) = (own.cert.pem(), own.signing_key.serialize_pem());
        // One file may hold both.
        let both = format!("{certificate}{key}");
        for (certificate, key) in [(&certificate, &key), (&both, &both)] {
            let read = read(certificate, key).unwrap();
            assert_eq!(format!("{read:?}"), "ClientIdentity(…)");
        }
        let encrypted = key.replace("PRIVATE KEY", "ENCRYPTED PRIVATE KEY");
        for (certificate, key, expected) in [
            (
                &certificate,
                other.signing_key.serialize_pem(),
                "is not the key of client-certificate",
            ),
            (&certificate, encrypted, "it is encrypted; hint: "),
            (&certificate, "x".to_owned(), "it contains no private key"),
            (&certificate, own.cert.pem(), "it contains no private key"),
            (
                &certificate,
                "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n".to_owned(),
                "it is damaged, or its kind is not supported",
            ),
            (
                &String::new(),
                key.clone(),
                "it contains no certificate; hint:",
            ),
        ] {
            let error = read(certificate, &key).unwrap_err().to_string();
            assert!(error.contains(expected), "{expected}: {error}");
            assert!(!error.contains("AAAA"), "{error}");
        }
    }
}
