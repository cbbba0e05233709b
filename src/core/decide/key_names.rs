//! Which keys of the ledger a configuration renames, by the option `was`.

use std::collections::{BTreeMap, BTreeSet};

use crate::core::ids::KeyName;

/// The names that the ledger knows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RecordedNames {
    /// The present names.
    pub present: BTreeSet<KeyName>,
    /// Those of them that ever had a rotation.
    pub used: BTreeSet<KeyName>,
    /// Each former name, with the present one.
    pub former_names: BTreeMap<KeyName, KeyName>,
}

/// A key to rename.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rename {
    /// Its present name in the ledger.
    pub from: KeyName,
    /// Its name in the configuration.
    pub to: KeyName,
}

/// Why the names of a configuration do not fit the ledger.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameProblem {
    /// The ledger knows neither the key nor the one that `was` names.
    #[error(
        "key.{key}.was: the ledger has no key {was}; hint: correct the name, or remove the line"
    )]
    UnknownName {
        /// The key.
        key: KeyName,
        /// The name.
        was: KeyName,
    },
    /// The key that `was` names has another name now.
    #[error(
        "key.{key}.was: {was} is a former name of {present}; hint: to rename that key, write was = \
         \"{present}\""
    )]
    RenamedAlready {
        /// The key.
        key: KeyName,
        /// The name.
        was: KeyName,
        /// The present name of that key.
        present: KeyName,
    },
    /// The key has rotations of its own.
    #[error(
        "key.{key}.was: {key} already has rotations of its own, so it cannot take the place of \
         {was}; hint: remove the line, and end the other key with `rekeyd retire {was}`"
    )]
    InUse {
        /// The key.
        key: KeyName,
        /// The name.
        was: KeyName,
    },
    /// A key without `was` has a name that is the former one of another key.
    #[error(
        "key.{key}: {key} is a former name of {present}, so it cannot be the name of another key; \
         hint: choose another name; to give {present} this name back, write was = \"{present}\" in \
         [key.{key}] and remove [key.{present}]"
    )]
    FormerName {
        /// The key.
        key: KeyName,
        /// The present name of the key that had the name.
        present: KeyName,
    },
}

/// Returns the keys to rename. `configured` are the configured keys, each with its `was`. A
/// `was` that was applied does nothing. Nor does one in a new ledger, which has never had the
/// former key: there the key begins under its present name, at the first start and later.
///
/// # Errors
/// Every problem.
pub fn plan_renames<'k>(
    configured: impl Iterator<Item = (&'k KeyName, Option<&'k KeyName>)>,
    recorded: &RecordedNames,
) -> Result<Vec<Rename>, Vec<NameProblem>> {
    let (mut renames, mut problems) = (Vec::new(), Vec::new());
    for (key, was) in configured {
        match plan_rename(key, was, recorded) {
            Ok(rename) => renames.extend(rename),
            Err(problem) => problems.push(problem),
        }
    }
    if problems.is_empty() {
        Ok(renames)
    } else {
        Err(problems)
    }
}

fn plan_rename(
    key: &KeyName,
    was: Option<&KeyName>,
    recorded: &RecordedNames,
) -> Result<Option<Rename>, NameProblem> {
    let key_of = |name: &KeyName| recorded.former_names.get(name);
    let Some(was) = was else {
        return match key_of(key) {
            Some(present) => Err(NameProblem::FormerName {
                key: key.clone(),
                present: present.clone(),
            }),
            None => Ok(None),
        };
    };
    let (key, was) = (key.clone(), was.clone());
    if key_of(&was) == Some(&key) || recorded.present.is_empty() {
        return Ok(None);
    }
    if let Some(present) = key_of(&was) {
        let present = present.clone();
        return Err(NameProblem::RenamedAlready { key, was, present });
    }
    if !recorded.present.contains(&was) {
        if recorded.present.contains(&key) {
            return Ok(None);
        }
        return Err(match key_of(&key) {
            Some(present) => NameProblem::FormerName {
                present: present.clone(),
                key,
            },
            None => NameProblem::UnknownName { key, was },
        });
    }
    match key_of(&key) {
        // It gets a name back.
        Some(present) if *present == was => {}
        Some(present) => {
            let present = present.clone();
            return Err(NameProblem::FormerName { key, present });
        }
        None if recorded.used.contains(&key) => return Err(NameProblem::InUse { key, was }),
        None => {}
    }
    Ok(Some(Rename { from: was, to: key }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> KeyName {
        KeyName::new(text).unwrap()
    }

    fn recorded() -> RecordedNames {
        let names = |names: &[&str]| names.iter().map(|text| name(text)).collect();
        RecordedNames {
            present: names(&["billing", "web", "unused"]),
            used: names(&["billing", "web"]),
            former_names: BTreeMap::from([(name("first"), name("web"))]),
        }
    }

    fn plan(key: &str, was: Option<&str>) -> Result<Vec<(String, String)>, Vec<String>> {
        let (key, was) = (name(key), was.map(name));
        let planned = plan_renames([(&key, was.as_ref())].into_iter(), &recorded());
        let planned = planned.map(|renames| {
            let pairs = renames.into_iter();
            pairs
                .map(|one| (one.from.to_string(), one.to.to_string()))
                .collect()
        });
        planned.map_err(|problems| problems.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn a_former_name_renames_a_key_once() {
        let renamed = |from: &str, to: &str| Ok(vec![(from.to_owned(), to.to_owned())]);
        assert_eq!(plan("billing", None), Ok(Vec::new()));
        assert_eq!(
            plan("invoices", Some("billing")),
            renamed("billing", "invoices")
        );
        // The key was loaded before it was rotated.
        assert_eq!(
            plan("unused", Some("billing")),
            renamed("billing", "unused")
        );
        // It gets its first name back.
        assert_eq!(plan("first", Some("web")), renamed("web", "first"));
        // It was applied.
        assert_eq!(plan("web", Some("first")), Ok(Vec::new()));
        // The ledger is newer than the rename.
        assert_eq!(plan("web", Some("gone")), Ok(Vec::new()));
        // The ledger is a new one.
        let (key, was) = (name("web"), name("gone"));
        let nothing = RecordedNames::default();
        assert_eq!(
            plan_renames([(&key, Some(&was))].into_iter(), &nothing),
            Ok(Vec::new())
        );
    }

    #[test]
    fn names_that_do_not_fit_are_refused() {
        for (key, was, expected) in [
            (
                "new",
                Some("gone"),
                "key.new.was: the ledger has no key gone;",
            ),
            (
                "new",
                Some("first"),
                "key.new.was: first is a former name of web;",
            ),
            (
                "web",
                Some("billing"),
                "key.web.was: web already has rotations of its own,",
            ),
            ("first", None, "key.first: first is a former name of web,"),
            (
                "first",
                Some("gone"),
                "key.first: first is a former name of web,",
            ),
            (
                "first",
                Some("billing"),
                "key.first: first is a former name of web,",
            ),
        ] {
            let problems = plan(key, was).unwrap_err();
            assert_eq!(problems.len(), 1, "{problems:?}");
            assert!(problems[0].starts_with(expected), "{problems:?}");
        }
    }
}
