//! Files with certificates to trust, in the forms in which people keep them:
//! PEM with or without line breaks, or one certificate in DER.

use std::io;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls_pki_types::CertificateDer;

use crate::core::os_error;

/// The largest file that is read, in bytes: all roots of a system fit.
const MAX_FILE_SIZE: u64 = 4 * 1024 * 1024;

/// The option that names a file with roots.
pub(super) const OPTION: &str = "ca-file";

/// The byte order mark that some editors put before a text.
const BYTE_ORDER_MARK: char = '\u{feff}';

/// The label of a certificate in PEM, and a former one.
const CERTIFICATE_LABELS: [&str; 2] = ["CERTIFICATE", "X509 CERTIFICATE"];

/// The reason why the certificates of a file cannot be trusted.
#[derive(Debug, thiserror::Error)]
pub enum CaFileError {
    /// The file cannot be read.
    #[error("cannot read {option} {}: {}", path.display(), os_error::describe(source))]
    Unreadable {
        /// The option that names it.
        option: &'static str,
        /// The file.
        path: PathBuf,
        /// The error of the system.
        source: io::Error,
    },
    /// The content is not usable.
    #[error("cannot use {option} {}: {problem}", path.display())]
    Unusable {
        /// The option that names it.
        option: &'static str,
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: CaProblem,
    },
}

/// A problem of the content of a file with certificates.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum CaProblem {
    /// The path is that of a folder, a device or a FIFO.
    #[error("it is not a regular file; hint: use a file with certificates in PEM format")]
    NotRegular,
    /// It is too long.
    #[error("it is longer than {} MiB; hint: use a file with nothing but certificates", MAX_FILE_SIZE / 1024 / 1024)]
    TooLong,
    /// It is not text, and not a certificate in DER.
    #[error("it is {0}; hint: save the certificates in PEM format, as UTF-8")]
    OtherEncoding(&'static str),
    /// It has no certificate.
    #[error(
        "it contains no certificate; hint: a certificate in PEM format begins with \
         -----BEGIN CERTIFICATE-----"
    )]
    Empty,
    /// It has something else than certificates.
    #[error("it contains {found}; hint: {command}")]
    OtherObject {
        /// What it has.
        found: &'static str,
        /// The command that makes certificates of it.
        command: &'static str,
    },
    /// A certificate does not end.
    #[error("certificate {number} in it has no -----END CERTIFICATE----- line")]
    NoEnd {
        /// The number of the certificate, from 1.
        number: usize,
    },
    /// A certificate is not base64.
    #[error("certificate {number} in it is damaged: {source}")]
    NotBase64 {
        /// The number of the certificate, from 1.
        number: usize,
        /// The error of the decoder.
        source: base64::DecodeError,
    },
    /// A certificate cannot be read.
    #[error(
        "certificate {number} in it cannot be used: {}; hint: `openssl x509 -in FILE -noout -text` \
         shows what it is",
        describe_certificate_problem(source)
    )]
    NotCertificate {
        /// The number of the certificate, from 1.
        number: usize,
        /// The error of the parser.
        source: webpki::Error,
    },
}

/// The object identifier of signed data in DER, with which PKCS #7 begins after its length.
const SIGNED_DATA: [u8; 11] = [
    0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x07, 0x02,
];

/// Returns whether a DER sequence is PKCS #7, as files with the ending `.p7b` have it.
fn is_pkcs7(der: &[u8]) -> bool {
    der.get(2..).is_some_and(|rest| {
        let mut starts = (0..=4).filter_map(|length| rest.get(length..));
        starts.any(|start| start.starts_with(&SIGNED_DATA))
    })
}

/// Returns what stands in the place of a certificate in DER, if that can be told.
fn describe_other_der(der: &[u8]) -> Option<CaProblem> {
    let start = *der_content(der)?.first_chunk::<4>()?;
    let inner = der_content(der).and_then(der_content);
    // The version of each is the integer that it begins with.
    let (found, command) = match start {
        [0x02, 0x01, 0x03, 0x30] => (
            "a key store in PKCS #12 format",
            "openssl pkcs12 -in FILE -nokeys -out NEW",
        ),
        [0x02, 0x01, 0x00 | 0x01, _] => (
            "a private key instead of a certificate",
            "use the certificate that belongs to it",
        ),
        // What it is encrypted with.
        [0x30, _, 0x06, _] => (
            "an encrypted private key instead of a certificate",
            "use the certificate that belongs to it",
        ),
        [0x30, ..] if inner.is_some_and(|inner| inner.starts_with(&[0x02, 0x01, 0x00, 0x30])) => (
            "a certificate request instead of a certificate",
            "use the certificate that the authority issued, not the request for one",
        ),
        _ => return None,
    };
    Some(CaProblem::OtherObject { found, command })
}

/// Returns what follows the tag and the length of a DER sequence.
fn der_content(der: &[u8]) -> Option<&[u8]> {
    let [0x30, length, rest @ ..] = der else {
        return None;
    };
    match length {
        0x00..=0x80 => Some(rest),
        0x81..=0x84 => rest.get(usize::from(length - 0x80)..),
        0x85..=0xff => None,
    }
}

/// Describes why a certificate cannot be trusted, without the terms of the parser.
const fn describe_certificate_problem(source: &webpki::Error) -> &'static str {
    use webpki::Error as E;
    if matches!(source, E::BadDer | E::BadDerTime | E::TrailingData(_)) {
        "it is damaged, or is no certificate"
    } else if matches!(source, E::UnsupportedCertVersion) {
        "it is older than version 3 of X.509"
    } else if matches!(source, E::UnsupportedCriticalExtension) {
        "it has a critical extension that rekeyd does not know"
    } else {
        "its form is not supported"
    }
}

/// Checks that a file has certificates to trust.
///
/// # Errors
/// [`CaFileError`].
pub fn check(path: &Path) -> Result<(), CaFileError> {
    read(OPTION, path).map(drop)
}

/// Reads the certificates of the file that an option names.
pub(super) fn read(
    option: &'static str,
    path: &Path,
) -> Result<Vec<CertificateDer<'static>>, CaFileError> {
    let unreadable = |source| CaFileError::Unreadable {
        option,
        path: path.to_owned(),
        source,
    };
    let unusable = |problem| CaFileError::Unusable {
        option,
        path: path.to_owned(),
        problem,
    };
    // Reading a FIFO would wait for a writer.
    let metadata = std::fs::metadata(path).map_err(unreadable)?;
    if !metadata.is_file() {
        return Err(unusable(CaProblem::NotRegular));
    }
    if metadata.len() > MAX_FILE_SIZE {
        return Err(unusable(CaProblem::TooLong));
    }
    let bytes = std::fs::read(path).map_err(unreadable)?;
    parse(&bytes).map_err(unusable)
}

fn parse(bytes: &[u8]) -> Result<Vec<CertificateDer<'static>>, CaProblem> {
    let certificates = match bytes {
        [0x30, 0x80..=0xff, ..] if is_pkcs7(bytes) => {
            return Err(CaProblem::OtherObject {
                found: "certificates in PKCS #7 format (DER)",
                command: "openssl pkcs7 -inform DER -in FILE -print_certs -out NEW",
            });
        }
        // A sequence in DER, which begins no text.
        [0x30, 0x80..=0xff, ..] => vec![CertificateDer::from(bytes.to_vec())],
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => return Err(CaProblem::OtherEncoding("UTF-16")),
        _ => {
            let text = std::str::from_utf8(bytes)
                .map_err(|_| CaProblem::OtherEncoding("not UTF-8 text"))?;
            parse_pem(text.trim_start_matches(BYTE_ORDER_MARK))?
        }
    };
    for (index, certificate) in certificates.iter().enumerate() {
        webpki::anchor_from_trusted_cert(certificate).map_err(|source| {
            describe_other_der(certificate).unwrap_or(CaProblem::NotCertificate {
                number: index + 1,
                source,
            })
        })?;
    }
    Ok(certificates)
}

/// Reads the certificates of a text. It may have line breaks anywhere or
/// nowhere, or the two characters `\n` in their place, as a variable of the
/// environment or a JSON file has them.
fn parse_pem(text: &str) -> Result<Vec<CertificateDer<'static>>, CaProblem> {
    let mut certificates = Vec::new();
    let mut other_object = None;
    let mut rest = text;
    while let Some((_, after)) = rest.split_once("-----BEGIN ") {
        let Some((label, body)) = after.split_once("-----") else {
            break;
        };
        let end = format!("-----END {label}-----");
        let number = certificates.len() + 1;
        if CERTIFICATE_LABELS.contains(&label) {
            let Some((encoded, after)) = body.split_once(&end) else {
                return Err(CaProblem::NoEnd { number });
            };
            certificates.push(decode(number, encoded)?);
            rest = after;
        } else {
            other_object = other_object.or_else(|| describe_object(label));
            rest = body.split_once(&end).map_or(body, |(_, after)| after);
        }
    }
    match (certificates.is_empty(), other_object) {
        (false, _) => Ok(certificates),
        (true, Some(problem)) => Err(problem),
        (true, None) => Err(CaProblem::Empty),
    }
}

fn decode(number: usize, encoded: &str) -> Result<CertificateDer<'static>, CaProblem> {
    let encoded = encoded.replace("\\n", "").replace("\\r", "");
    let encoded: String = encoded.split_whitespace().collect();
    let der = STANDARD.decode(encoded);
    der.map(CertificateDer::from)
        .map_err(|source| CaProblem::NotBase64 { number, source })
}

/// Returns the problem of an object that may be in the place of certificates.
fn describe_object(label: &str) -> Option<CaProblem> {
    let (found, command) = match label {
        "TRUSTED CERTIFICATE" => (
            "a certificate in OpenSSL's own format",
            "openssl x509 -in FILE -out NEW",
        ),
        "PKCS7" | "CMS" => (
            "certificates in PKCS #7 format",
            "openssl pkcs7 -in FILE -print_certs -out NEW",
        ),
        "CERTIFICATE REQUEST" | "NEW CERTIFICATE REQUEST" => (
            "a certificate request instead of a certificate",
            "use the certificate that the authority issued, not the request for one",
        ),
        _ if label.ends_with("PRIVATE KEY") => (
            "a private key instead of a certificate",
            "openssl req -x509 -key FILE -out NEW -addext basicConstraints=critical,CA:FALSE",
        ),
        _ => return None,
    };
    Some(CaProblem::OtherObject { found, command })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns a certificate in PEM and in DER.
    fn certificate() -> (String, Vec<u8>) {
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        (made.cert.pem(), made.cert.der().to_vec())
    }

    #[test]
    fn certificates_are_taken_in_every_form() {
        let ((pem, der), (second, second_der)) = (certificate(), certificate());
        let one_line = pem.lines().collect::<String>();
        let escaped = pem.replace('\n', "\\n").replace('\r', "\\r");
        let key = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
        for (bytes, count) in [
            (pem.clone().into_bytes(), 1),
            (pem.replace('\n', "\r\n").into_bytes(), 1),
            (one_line.clone().into_bytes(), 1),
            (escaped.into_bytes(), 1),
            (pem.replace('\n', " ").into_bytes(), 1),
            (format!("\u{feff}{pem}").into_bytes(), 1),
            (format!("Subject: x\n{pem}\n# end\n").into_bytes(), 1),
            (format!("{pem}{second}").into_bytes(), 2),
            (format!("{one_line}{one_line}").into_bytes(), 2),
            (format!("{key}{pem}{key}").into_bytes(), 1),
            (
                pem.replace("CERTIFICATE", "X509 CERTIFICATE").into_bytes(),
                1,
            ),
            (der.clone(), 1),
        ] {
            let found = parse(&bytes).unwrap();
            assert_eq!(found.len(), count, "{}", String::from_utf8_lossy(&bytes));
            assert_eq!(&*found[0], &der[..]);
        }
        let chain = parse(format!("{pem}{second}").as_bytes()).unwrap();
        assert_eq!(&*chain[1], &second_der[..]);
    }

    #[test]
    fn other_content_is_refused_in_words() {
        let (pem, der) = certificate();
        let key = rcgen::KeyPair::generate().unwrap();
        let request = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        let request = request.serialize_request(&key).unwrap();
        let object = |label: &str| pem.replace("CERTIFICATE", label).into_bytes();
        let utf16: Vec<u8> = "\u{feff}x"
            .encode_utf16()
            .flat_map(u16::to_le_bytes)
            .collect();
        for (bytes, expected) in [
            (Vec::new(), "it contains no certificate; hint:"),
            (b"nothing\n".to_vec(), "it contains no certificate; hint:"),
            (
                b"-----BEGIN CERTIFICATE".to_vec(),
                "it contains no certificate; hint:",
            ),
            (
                object("TRUSTED CERTIFICATE"),
                "OpenSSL's own format; hint: openssl x509",
            ),
            (object("PKCS7"), "PKCS #7 format; hint: openssl pkcs7"),
            (
                object("RSA PRIVATE KEY"),
                "a private key instead of a certificate; hint: openssl",
            ),
            (
                object("CERTIFICATE REQUEST"),
                "a certificate request instead of a certificate; hint: use the certificate",
            ),
            (
                [&[0x30, 0x82, 0x01, 0x00][..], &SIGNED_DATA, &[0; 200]].concat(),
                "PKCS #7 format (DER); hint: openssl pkcs7 -inform DER",
            ),
            (
                [&[0x30, 0x80][..], &SIGNED_DATA, &[0; 20]].concat(),
                "PKCS #7 format (DER); hint: openssl pkcs7 -inform DER",
            ),
            (
                pem.as_bytes()[..200].to_vec(),
                "certificate 1 in it has no -----END",
            ),
            (
                pem.replacen("M", "*", 1).into_bytes(),
                "certificate 1 in it is damaged",
            ),
            (
                der[..100].to_vec(),
                "certificate 1 in it cannot be used: it is damaged, or is no certificate; hint: \
                 `openssl x509",
            ),
            (
                [&der[..], b"x"].concat(),
                "certificate 1 in it cannot be used: ",
            ),
            (
                b"\x30\x82\x09\x41\x02\x01\x03\x30\x82\x09\x07\x06".to_vec(),
                "it contains a key store in PKCS #12 format; hint: openssl pkcs12",
            ),
            (
                b"\x30\x80\x02\x01\x03\x30\x80\x06".to_vec(),
                "it contains a key store in PKCS #12 format; hint: openssl pkcs12",
            ),
            (
                key.serialize_der(),
                "it contains a private key instead of a certificate; hint: use the certificate",
            ),
            (
                b"\x30\x81\xec\x30\x57\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x05\x0d".to_vec(),
                "it contains an encrypted private key",
            ),
            (
                request.der().to_vec(),
                "it contains a certificate request instead of a certificate",
            ),
            (
                b"\x30\x83\x01\x02\x03garbage".to_vec(),
                "certificate 1 in it cannot be used: it is damaged, or is no certificate",
            ),
            (utf16, "it is UTF-16; hint: save"),
            (b"\xe4".to_vec(), "it is not UTF-8 text"),
        ] {
            let error = parse(&bytes).unwrap_err().to_string();
            assert!(error.contains(expected), "{expected}: {error}");
        }
        let folder = tempfile::tempdir().unwrap();
        let error = check(folder.path()).unwrap_err().to_string();
        assert!(error.contains("it is not a regular file"), "{error}");
        let error = check(Path::new("/nowhere/ca.pem")).unwrap_err().to_string();
        assert_eq!(
            error,
            "cannot read ca-file /nowhere/ca.pem: no such file or directory"
        );
    }
}
