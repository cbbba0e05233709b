//! The objects of one type, and the pages that a list has of them.

use std::collections::HashMap;

/// An object of the API that belongs to the organization or to one project.
pub(crate) trait Record: Clone {
    /// Its id, unique among the objects of its type.
    fn id(&self) -> &str;
    /// Its project; `None` if it belongs to the organization.
    fn project(&self) -> Option<&str>;
    /// Whether it is neither deleted nor expired at `now`.
    fn is_live(&self, now: i64) -> bool;
}

/// An object that can be deleted.
pub(crate) trait Deletable: Record {
    /// Marks it as deleted at `now`.
    fn delete(&mut self, now: i64);
}

/// All objects of one type that were ever created, oldest first. Deleted ones stay: their
/// ids remain valid cursors, and secrets of deleted keys are refused.
pub(crate) struct Collection<T> {
    items: Vec<T>,
    /// The content of stale lists, by project. What has none was not changed since the start.
    previous: HashMap<Option<String>, PreviousList>,
}

/// A list before the last change in its project, represented by the difference.
struct PreviousList {
    /// The number of objects then, from the oldest.
    count: usize,
    /// The indexes of those that were not deleted then.
    not_yet_deleted: Vec<usize>,
}

/// A page of a list.
pub(crate) struct Page<T> {
    pub(crate) items: Vec<T>,
    pub(crate) has_more: bool,
}

/// The query of a list.
pub(crate) struct PageQuery {
    /// The id of the last object of the page before.
    pub(crate) after: Option<String>,
    pub(crate) limit: usize,
    pub(crate) descending: bool,
    /// Whether the list is the one from before the last change.
    pub(crate) is_stale: bool,
}

/// The error of a cursor that names no object of the list.
pub(crate) struct UnknownCursor;

impl PreviousList {
    fn includes<T: Record>(&self, index: usize, item: &T, now: i64) -> bool {
        index < self.count && (self.not_yet_deleted.contains(&index) || item.is_live(now))
    }
}

impl<T> Default for Collection<T> {
    fn default() -> Self {
        Self {
            items: Vec::new(),
            previous: HashMap::new(),
        }
    }
}

impl<T> From<Vec<T>> for Collection<T> {
    fn from(items: Vec<T>) -> Self {
        Self {
            items,
            ..Self::default()
        }
    }
}

impl<T: Record> Collection<T> {
    /// Returns every object, oldest first, deleted ones as well.
    pub(crate) fn all(&self) -> &[T] {
        &self.items
    }

    /// Returns every object for a change that no list shows as one.
    pub(crate) fn all_mut(&mut self) -> &mut [T] {
        &mut self.items
    }

    /// Returns the live objects of a project, or of the organization, oldest first.
    pub(crate) fn live<'a>(
        &'a self,
        project: Option<&'a str>,
        now: i64,
    ) -> impl Iterator<Item = &'a T> {
        let items = self.items.iter();
        items.filter(move |item| item.project() == project && item.is_live(now))
    }

    /// Returns a live object of a project, or of the organization.
    pub(crate) fn find(&self, project: Option<&str>, id: &str, now: i64) -> Option<&T> {
        self.items
            .iter()
            .find(|item| item.id() == id && item.project() == project && item.is_live(now))
    }

    /// Returns a live object for a change that no list shows as one.
    pub(crate) fn find_mut(&mut self, project: Option<&str>, id: &str, now: i64) -> Option<&mut T> {
        self.items
            .iter_mut()
            .find(|item| item.id() == id && item.project() == project && item.is_live(now))
    }

    /// Adds an object, as the newest.
    pub(crate) fn add(&mut self, item: T) {
        let previous = PreviousList {
            count: self.items.len(),
            not_yet_deleted: Vec::new(),
        };
        let project = item.project().map(str::to_owned);
        self.previous.insert(project, previous);
        self.items.push(item);
    }

    /// Returns a page of the live objects of a project, or of the organization, that
    /// `is_listed` selects.
    pub(crate) fn page(
        &self,
        project: Option<&str>,
        query: &PageQuery,
        now: i64,
        is_listed: impl Fn(&T) -> bool,
    ) -> Result<Page<T>, UnknownCursor> {
        let items = self.items.iter().enumerate();
        let mut ordered: Vec<(usize, &T)> = items
            .filter(|(_, item)| item.project() == project)
            .collect();
        if query.descending {
            ordered.reverse();
        }
        let start = match &query.after {
            None => 0,
            Some(id) => ordered
                .iter()
                .position(|(_, item)| item.id() == id)
                .map(|at| at + 1)
                .ok_or(UnknownCursor)?,
        };
        let previous = self.previous.get(&project.map(str::to_owned));
        let previous = previous.filter(|_| query.is_stale);
        let is_there = |index: usize, item: &T| match previous {
            Some(previous) => previous.includes(index, item, now),
            None => item.is_live(now),
        };
        let mut items: Vec<T> = ordered[start..]
            .iter()
            .filter(|(index, item)| is_there(*index, item) && is_listed(item))
            .take(query.limit + 1)
            .map(|(_, item)| (*item).clone())
            .collect();
        let has_more = items.len() > query.limit;
        items.truncate(query.limit);
        Ok(Page { items, has_more })
    }
}

impl<T: Deletable> Collection<T> {
    /// Deletes the live objects of a project, or of the organization, that `is_meant`
    /// selects. Returns whether there was one.
    pub(crate) fn delete(
        &mut self,
        project: Option<&str>,
        now: i64,
        is_meant: impl Fn(&T) -> bool,
    ) -> bool {
        let mut deleted = Vec::new();
        for (index, item) in self.items.iter_mut().enumerate() {
            if item.project() == project && item.is_live(now) && is_meant(item) {
                item.delete(now);
                deleted.push(index);
            }
        }
        if deleted.is_empty() {
            return false;
        }
        let previous = PreviousList {
            count: self.items.len(),
            not_yet_deleted: deleted,
        };
        self.previous.insert(project.map(str::to_owned), previous);
        true
    }
}
