//! Whose credentials a ledger records, and which host writes it.

use std::path::Path;

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension as _, params};

use crate::ledger::error::LedgerError;
use crate::ledger::rows::SqlTimestamp;
use crate::ledger::version::LedgerVersion;

/// The scope of the organization's admin keys.
const ADMIN_KEYS_SCOPE: &str = "admin-keys";

/// Whose credentials a ledger records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LedgerIdentity {
    /// The provider's base URL.
    pub provider: String,
    /// The organization, empty where none is configured.
    pub organization: String,
}

impl std::fmt::Display for LedgerIdentity {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.organization.as_str() {
            "" => write!(formatter, "{} without an organization", self.provider),
            organization => write!(
                formatter,
                "{} with the organization {organization}",
                self.provider
            ),
        }
    }
}

/// The host that a ledger is opened on.
#[derive(Debug, Clone, Default)]
pub struct HostIdentity {
    /// Its id; a host without one is not compared.
    pub id: Option<String>,
    /// Whether it takes over a ledger that another host wrote last.
    pub can_take_over: bool,
}

/// Refuses a ledger that records other credentials than those of `ours`. One
/// without rotations can become anybody's.
///
/// # Errors
/// [`LedgerError::IdentityMismatch`], or SQLite's.
pub(super) fn check_identity(
    connection: &Connection,
    path: &Path,
    version: LedgerVersion,
    ours: &LedgerIdentity,
) -> Result<(), LedgerError> {
    match read_identity(connection, version)? {
        Some(theirs) if theirs != *ours && has_rotations(connection)? => {
            Err(LedgerError::IdentityMismatch {
                path: path.to_owned(),
                recorded: theirs.to_string(),
                configured: ours.to_string(),
            })
        }
        Some(_) | None => Ok(()),
    }
}

/// Refuses a ledger that another host than `ours` wrote last. Without either
/// id there is nothing to compare.
///
/// # Errors
/// [`LedgerError::OtherHost`], or SQLite's.
pub(super) fn check_host(
    connection: &Connection,
    path: &Path,
    version: LedgerVersion,
    ours: Option<&str>,
) -> Result<(), LedgerError> {
    match (read_host(connection, version)?, ours) {
        (Some(theirs), Some(ours)) if theirs != ours => Err(LedgerError::OtherHost {
            path: path.to_owned(),
        }),
        _ => Ok(()),
    }
}

/// Records whose credentials a ledger of today's version holds, where that is
/// not recorded yet; [`check_identity`] has refused any other's. Records the
/// host that writes it from now on.
pub(super) fn bind(
    connection: &Connection,
    now: Timestamp,
    ours: &LedgerIdentity,
    host: Option<&str>,
) -> Result<(), LedgerError> {
    let version = LedgerVersion::CURRENT;
    if read_identity(connection, version)?.as_ref() != Some(ours) {
        connection.execute(
            "INSERT INTO scope (scope, provider, organization) VALUES (?1, ?2, ?3)
             ON CONFLICT (scope) DO UPDATE SET provider = ?2, organization = ?3",
            params![ADMIN_KEYS_SCOPE, ours.provider, ours.organization],
        )?;
        connection.execute(
            "INSERT INTO ledger_identity (id, created_at) VALUES (1, ?1) ON CONFLICT DO NOTHING",
            [SqlTimestamp(now)],
        )?;
    }
    if host.is_some() && read_host(connection, version)?.as_deref() != host {
        connection.execute("UPDATE ledger_identity SET host = ?1", [host])?;
    }
    Ok(())
}

fn read_identity(
    connection: &Connection,
    version: LedgerVersion,
) -> Result<Option<LedgerIdentity>, LedgerError> {
    let sql = match version {
        LedgerVersion::Empty => return Ok(None),
        LedgerVersion::FirstRelease(_) => "SELECT provider, organization FROM identity",
        LedgerVersion::Supported(_) => {
            "SELECT provider, organization FROM scope WHERE scope = 'admin-keys'"
        }
    };
    let found = connection.query_row(sql, [], |row| {
        Ok(LedgerIdentity {
            provider: row.get(0)?,
            organization: row.get(1)?,
        })
    });
    Ok(found.optional()?)
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

fn has_rotations(connection: &Connection) -> Result<bool, LedgerError> {
    let sql = "SELECT EXISTS (SELECT 1 FROM rotation)";
    Ok(connection.query_row(sql, [], |row| row.get(0))?)
}
