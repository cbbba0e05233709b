//! Where something stands in the file.

use std::borrow::Cow;
use std::fmt;
use std::rc::Rc;

use super::quote::segment;

/// Where something stands. Its line is counted and its key path put together
/// only when they are told: ten thousand keys have a hundred thousand places,
/// and hardly ever a mistake.
#[derive(Debug, Clone)]
pub(super) struct Place {
    /// How many bytes of the file stand before it.
    pub(super) offset: Option<usize>,
    above: KeyPath,
    /// The last part of its key path; none is the file as a whole.
    part: Option<Part>,
}

/// The way to something from the top of the file, the last part first; none is
/// the file as a whole.
type KeyPath = Option<Rc<Step>>;

#[derive(Debug)]
struct Step {
    above: KeyPath,
    part: Part,
}

#[derive(Debug, Clone)]
enum Part {
    /// An option of a table.
    Name(Name),
    /// One of a list, counted from 0.
    Number(usize),
}

/// What an option is called: one that is known needs no memory.
type Name = Cow<'static, str>;

/// What is in a table or in a list, which share the way to it.
#[derive(Debug, Clone)]
pub(super) struct Within(KeyPath);

impl Place {
    /// The file as a whole.
    pub(super) const fn file() -> Self {
        Self::in_file(None)
    }

    /// A place of which it is not known what it says.
    pub(super) const fn in_file(offset: Option<usize>) -> Self {
        Self {
            offset,
            above: None,
            part: None,
        }
    }

    /// What is in the table or in the list here.
    pub(super) fn within(&self) -> Within {
        Within(self.part.as_ref().map(|part| {
            Rc::new(Step {
                above: self.above.clone(),
                part: part.clone(),
            })
        }))
    }

    /// An option that is not there, at its table.
    pub(super) fn option(&self, name: &'static str) -> Self {
        self.within().option(name, self.offset)
    }

    /// The same place, told as another option.
    pub(super) fn told_as(&self, other: &Self) -> Self {
        Self {
            offset: self.offset,
            ..other.clone()
        }
    }

    /// Whether it is an option of that name.
    pub(super) fn is_option(&self, name: &str) -> bool {
        matches!(&self.part, Some(Part::Name(own)) if own == name)
    }
}

impl Within {
    /// An option of the table.
    pub(super) fn option(&self, name: impl Into<Name>, offset: Option<usize>) -> Place {
        self.part(Part::Name(name.into()), offset)
    }

    /// One of the list.
    pub(super) fn item(&self, number: usize, offset: Option<usize>) -> Place {
        self.part(Part::Number(number), offset)
    }

    fn part(&self, part: Part, offset: Option<usize>) -> Place {
        Place {
            offset,
            above: self.0.clone(),
            part: Some(part),
        }
    }
}

/// The key path, such as `key.billing.sink[0]`; empty for the file.
impl fmt::Display for Place {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.part {
            Some(part) => tell(self.above.as_deref(), part, formatter),
            None => Ok(()),
        }
    }
}

fn tell(above: Option<&Step>, part: &Part, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
    if let Some(step) = above {
        tell(step.above.as_deref(), &step.part, formatter)?;
    }
    match part {
        Part::Number(number) => write!(formatter, "[{number}]"),
        Part::Name(name) if above.is_some() => write!(formatter, ".{}", segment(name)),
        Part::Name(name) => formatter.write_str(&segment(name)),
    }
}
