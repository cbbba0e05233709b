//! The identity of a ledger: the provider and organization whose credentials it records,
//! and the host that writes it.

use std::path::{Path, PathBuf};

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension as _, params};

use crate::core::scope::Scope;
use crate::ledger::error::LedgerError;
use crate::ledger::rows::SqlTimestamp;
use crate::ledger::version::LedgerVersion;

/// The provider and organization whose credentials a ledger records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LedgerIdentity {
    /// The provider's base URL.
    pub provider: String,
    /// The organization, empty if none is configured.
    pub organization: String,
}

impl std::fmt::Display for LedgerIdentity {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.organization.as_str() {
            "" => write!(formatter, "{} (no organization)", self.provider),
            organization => write!(formatter, "{} (organization {organization})", self.provider),
        }
    }
}

/// The host that a ledger is opened on.
#[derive(Debug, Clone, Default)]
pub struct HostIdentity {
    /// Its id; a host without one is not checked.
    pub id: Option<String>,
    /// Whether it may take over a ledger that another host wrote last.
    pub can_take_over: bool,
}

/// The configuration with which a ledger is opened.
#[derive(Debug, Clone, Default)]
pub struct ConfigurationIdentity {
    /// Its file; without one, nothing is compared or recorded.
    pub file: Option<PathBuf>,
    /// Whether it, the service manager or the command names the ledger. The default ledger
    /// may be that of another organization.
    pub names_ledger: bool,
}

/// Rejects a ledger that was last written with another configuration than one that names no
/// ledger. A file that is gone was renamed, and is not missed.
///
/// # Errors
/// [`LedgerError::OtherConfiguration`], or SQLite's.
pub(super) fn check_configuration(
    connection: &Connection,
    path: &Path,
    version: LedgerVersion,
    configuration: &ConfigurationIdentity,
) -> Result<(), LedgerError> {
    let Some(file) = configuration
        .file
        .as_ref()
        .filter(|_| !configuration.names_ledger)
    else {
        return Ok(());
    };
    match read_configuration(connection, version)? {
        Some(recorded) => match (recorded.canonicalize(), file.canonicalize()) {
            (Ok(own), Ok(other)) if own != other => Err(LedgerError::OtherConfiguration {
                path: path.to_owned(),
                recorded,
                configured: file.clone(),
            }),
            (_, _) => Ok(()),
        },
        None => Ok(()),
    }
}

/// Rejects a ledger in which a scope has another identity than `configured`. A scope
/// without rotations can change its identity.
///
/// # Errors
/// [`LedgerError::IdentityMismatch`], or SQLite's.
pub(super) fn check_identity(
    connection: &Connection,
    path: &Path,
    version: LedgerVersion,
    configured: &LedgerIdentity,
) -> Result<(), LedgerError> {
    for (scope, recorded) in read_identities(connection, version)? {
        if recorded != *configured && has_rotations(connection, version, &scope)? {
            return Err(LedgerError::IdentityMismatch {
                path: path.to_owned(),
                recorded: recorded.to_string(),
                configured: configured.to_string(),
            });
        }
    }
    Ok(())
}

/// Rejects a ledger that another host than `host` wrote last. Without either id, nothing
/// is compared.
///
/// # Errors
/// [`LedgerError::OtherHost`], or SQLite's.
pub(super) fn check_host(
    connection: &Connection,
    path: &Path,
    version: LedgerVersion,
    host: Option<&str>,
) -> Result<(), LedgerError> {
    match (read_host(connection, version)?, host) {
        (Some(recorded), Some(host)) if recorded != host => Err(LedgerError::OtherHost {
            path: path.to_owned(),
        }),
        _ => Ok(()),
    }
}

/// Records the identity of a ledger of the present version, unless it is recorded already;
/// [`check_identity`] has rejected any other. Records the host that writes it from now on.
pub(super) fn bind(
    connection: &Connection,
    now: Timestamp,
    configured: &LedgerIdentity,
    host: Option<&str>,
    configuration: &ConfigurationIdentity,
) -> Result<(), LedgerError> {
    let version = LedgerVersion::CURRENT;
    let recorded = read_identities(connection, version)?;
    if recorded.is_empty() || recorded.iter().any(|(_, identity)| identity != configured) {
        // The reconciliation with another provider does not count for this one.
        connection.execute(
            "UPDATE scope SET provider = ?1, organization = ?2, reconciled_at = NULL
             WHERE provider <> ?1 OR organization <> ?2",
            params![configured.provider, configured.organization],
        )?;
        connection.execute(
            "INSERT INTO scope (scope, provider, organization) VALUES (?1, ?2, ?3)
             ON CONFLICT (scope) DO NOTHING",
            params![
                Scope::AdminKeys.to_string(),
                configured.provider,
                configured.organization
            ],
        )?;
        connection.execute(
            "INSERT INTO ledger_identity (id, created_at) VALUES (1, ?1) ON CONFLICT DO NOTHING",
            [SqlTimestamp(now)],
        )?;
    }
    if host.is_some() && read_host(connection, version)?.as_deref() != host {
        connection.execute("UPDATE ledger_identity SET host = ?1", [host])?;
    }
    let file = configuration.file.as_deref();
    if file.is_some() && read_configuration(connection, version)?.as_deref() != file {
        let file = file.map(|file| file.to_string_lossy());
        connection.execute("UPDATE ledger_identity SET configuration = ?1", [file])?;
    }
    Ok(())
}

/// Forgets when the scopes were compared with the provider: the ledger may lack what was
/// created since.
///
/// # Errors
/// SQLite's.
pub(super) fn forget_reconciliations(connection: &Connection) -> Result<(), LedgerError> {
    connection.execute(
        "UPDATE scope SET reconciled_at = NULL WHERE reconciled_at IS NOT NULL",
        [],
    )?;
    Ok(())
}

/// Returns whose credentials each scope of a ledger records, by the scope's text.
fn read_identities(
    connection: &Connection,
    version: LedgerVersion,
) -> Result<Vec<(String, LedgerIdentity)>, LedgerError> {
    let sql = match version {
        LedgerVersion::Empty => return Ok(Vec::new()),
        LedgerVersion::FirstRelease(_) => {
            "SELECT 'admin-keys', provider, organization FROM identity"
        }
        LedgerVersion::Supported(_) => {
            "SELECT scope, provider, organization FROM scope ORDER BY scope"
        }
    };
    let mut statement = connection.prepare(sql)?;
    let found = statement.query_map([], |row| {
        let identity = LedgerIdentity {
            provider: row.get(1)?,
            organization: row.get(2)?,
        };
        Ok((row.get(0)?, identity))
    })?;
    Ok(found.collect::<rusqlite::Result<_>>()?)
}

fn read_host(
    connection: &Connection,
    version: LedgerVersion,
) -> Result<Option<String>, LedgerError> {
    let sql = match version {
        LedgerVersion::Empty => return Ok(None),
        LedgerVersion::FirstRelease(_) => "SELECT machine FROM identity",
        LedgerVersion::Supported(_) => "SELECT host FROM ledger_identity",
    };
    let found = connection.query_row(sql, [], |row| row.get(0)).optional()?;
    Ok(found.flatten())
}

/// Returns the configuration file of the latest writer.
pub(super) fn read_configuration(
    connection: &Connection,
    version: LedgerVersion,
) -> Result<Option<PathBuf>, LedgerError> {
    if !matches!(version, LedgerVersion::Supported(_)) {
        return Ok(None);
    }
    let sql = "SELECT configuration FROM ledger_identity";
    let found = connection.query_row(sql, [], |row| row.get::<_, Option<String>>(0));
    Ok(found.optional()?.flatten().map(PathBuf::from))
}

fn has_rotations(
    connection: &Connection,
    version: LedgerVersion,
    scope: &str,
) -> Result<bool, LedgerError> {
    let found = match version {
        LedgerVersion::Empty => return Ok(false),
        LedgerVersion::FirstRelease(_) => {
            let sql = "SELECT EXISTS (SELECT 1 FROM rotation)";
            connection.query_row(sql, [], |row| row.get(0))
        }
        LedgerVersion::Supported(_) => {
            let sql = "SELECT EXISTS (SELECT 1 FROM rotation WHERE scope = ?1)";
            connection.query_row(sql, [scope], |row| row.get(0))
        }
    };
    Ok(found?)
}
