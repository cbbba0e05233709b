//! The location of an option or a value in the file.

use std::borrow::Cow;
use std::fmt;
use std::rc::Rc;

use super::quote::quote_segment;
use super::source::SourceSpan;

/// The location of an option or a value. Its line and its key path are computed
/// only for a message: ten thousand keys have a hundred thousand locations, and
/// hardly ever a mistake.
#[derive(Debug, Clone)]
pub(crate) struct Location {
    /// Where the file has it; a missing option has the place of its table.
    pub(crate) source: Option<SourceSpan>,
    parent: ParentPath,
    /// The last segment of its key path; `None` for the whole file.
    segment: Option<PathSegment>,
}

/// The key path of a table or a list, the last segment first; `None` for the
/// whole file.
type ParentPath = Option<Rc<PathNode>>;

#[derive(Debug)]
struct PathNode {
    parent: ParentPath,
    segment: PathSegment,
}

#[derive(Debug, Clone)]
enum PathSegment {
    /// An option of a table.
    Name(OptionName),
    /// The index in a list, from 0.
    Index(usize),
}

/// The name of an option. Known names need no allocation.
type OptionName = Cow<'static, str>;

/// The scope of a table's options or of a list's items, which share its path.
#[derive(Debug, Clone)]
pub(crate) struct OptionScope(ParentPath);

impl Location {
    /// Returns the location of the whole file.
    pub(crate) const fn whole_file() -> Self {
        Self {
            source: None,
            parent: None,
            segment: None,
        }
    }

    /// Returns the scope of the table or the list at this location.
    pub(crate) fn scope(&self) -> OptionScope {
        OptionScope(self.segment.as_ref().map(|segment| {
            Rc::new(PathNode {
                parent: self.parent.clone(),
                segment: segment.clone(),
            })
        }))
    }

    /// Returns the location of an option that its table lacks: that of the
    /// table.
    pub(crate) fn option(&self, name: &'static str) -> Self {
        self.scope().option(name, self.source.clone())
    }

    /// Returns this location's line with the key path of `other`.
    pub(crate) fn reported_at(&self, other: &Self) -> Self {
        Self {
            source: self.source.clone(),
            ..other.clone()
        }
    }

    /// Whether it is the location of the whole file.
    pub(crate) const fn is_whole_file(&self) -> bool {
        self.segment.is_none()
    }

    /// Whether it is the location of an option `name`.
    pub(crate) fn is_option(&self, name: &str) -> bool {
        matches!(&self.segment, Some(PathSegment::Name(own)) if own == name)
    }
}

impl OptionScope {
    /// Returns the location of an option of the table.
    pub(crate) fn option(
        &self,
        name: impl Into<OptionName>,
        source: Option<SourceSpan>,
    ) -> Location {
        self.segment(PathSegment::Name(name.into()), source)
    }

    /// Returns the location of an item of the list.
    pub(crate) fn item(&self, number: usize, source: SourceSpan) -> Location {
        self.segment(PathSegment::Index(number), Some(source))
    }

    fn segment(&self, segment: PathSegment, source: Option<SourceSpan>) -> Location {
        Location {
            source,
            parent: self.0.clone(),
            segment: Some(segment),
        }
    }
}

/// Formats the key path, such as `key.billing.sink[0]`; empty for the whole
/// file.
impl fmt::Display for Location {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.segment {
            Some(segment) => write_path(self.parent.as_deref(), segment, formatter),
            None => Ok(()),
        }
    }
}

fn write_path(
    parent: Option<&PathNode>,
    segment: &PathSegment,
    formatter: &mut fmt::Formatter<'_>,
) -> fmt::Result {
    if let Some(node) = parent {
        write_path(node.parent.as_deref(), &node.segment, formatter)?;
    }
    match segment {
        PathSegment::Index(number) => write!(formatter, "[{number}]"),
        PathSegment::Name(name) if parent.is_some() => {
            write!(formatter, ".{}", quote_segment(name))
        }
        PathSegment::Name(name) => formatter.write_str(&quote_segment(name)),
    }
}
