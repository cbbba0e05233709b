//! The location of an option or a value in the file.

use std::borrow::Cow;
use std::fmt;
use std::rc::Rc;

use super::quote::quote_segment;

/// The location of an option or a value. Its line is counted and its key path put
/// together only for a message: ten thousand keys have a hundred thousand
/// locations, and hardly ever a mistake.
#[derive(Debug, Clone)]
pub(crate) struct Location {
    /// The number of bytes of the file before it.
    pub(crate) offset: Option<usize>,
    parent: ParentPath,
    /// The last part of its key path; none is the file as a whole.
    segment: Option<PathSegment>,
}

/// The way to something from the top of the file, the last part first; none is
/// the file as a whole.
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
    /// One of a list, counted from 0.
    Index(usize),
}

/// What an option is called: one that is known needs no memory.
type OptionName = Cow<'static, str>;

/// What is in a table or in a list, which share the way to it.
#[derive(Debug, Clone)]
pub(crate) struct OptionScope(ParentPath);

impl Location {
    /// The file as a whole.
    pub(crate) const fn whole_file() -> Self {
        Self::at_offset(None)
    }

    /// A location without a key path.
    pub(crate) const fn at_offset(offset: Option<usize>) -> Self {
        Self {
            offset,
            parent: None,
            segment: None,
        }
    }

    /// What is in the table or in the list here.
    pub(crate) fn scope(&self) -> OptionScope {
        OptionScope(self.segment.as_ref().map(|part| {
            Rc::new(PathNode {
                parent: self.parent.clone(),
                segment: part.clone(),
            })
        }))
    }

    /// An option that is not there, at its table.
    pub(crate) fn option(&self, name: &'static str) -> Self {
        self.scope().option(name, self.offset)
    }

    /// The same line, reported as another option.
    pub(crate) fn reported_at(&self, other: &Self) -> Self {
        Self {
            offset: self.offset,
            ..other.clone()
        }
    }

    /// Whether it is an option of that name.
    pub(crate) fn is_option(&self, name: &str) -> bool {
        matches!(&self.segment, Some(PathSegment::Name(own)) if own == name)
    }
}

impl OptionScope {
    /// An option of the table.
    pub(crate) fn option(&self, name: impl Into<OptionName>, offset: Option<usize>) -> Location {
        self.segment(PathSegment::Name(name.into()), offset)
    }

    /// One of the list.
    pub(crate) fn item(&self, number: usize, offset: Option<usize>) -> Location {
        self.segment(PathSegment::Index(number), offset)
    }

    fn segment(&self, part: PathSegment, offset: Option<usize>) -> Location {
        Location {
            offset,
            parent: self.0.clone(),
            segment: Some(part),
        }
    }
}

/// The key path, such as `key.billing.sink[0]`; empty for the file.
impl fmt::Display for Location {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.segment {
            Some(part) => write_path(self.parent.as_deref(), part, formatter),
            None => Ok(()),
        }
    }
}

fn write_path(
    above: Option<&PathNode>,
    part: &PathSegment,
    formatter: &mut fmt::Formatter<'_>,
) -> fmt::Result {
    if let Some(step) = above {
        write_path(step.parent.as_deref(), &step.segment, formatter)?;
    }
    match part {
        PathSegment::Index(number) => write!(formatter, "[{number}]"),
        PathSegment::Name(name) if above.is_some() => write!(formatter, ".{}", quote_segment(name)),
        PathSegment::Name(name) => formatter.write_str(&quote_segment(name)),
    }
}
