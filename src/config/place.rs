//! Where something stands in the file.

use std::fmt;
use std::rc::Rc;

use super::quote::segment;

/// Where something stands. Its key path is put together only when it is told:
/// ten thousand keys have a hundred thousand places, and hardly ever a mistake.
#[derive(Debug, Clone)]
pub(super) struct Place {
    /// The line, counted from 1.
    pub(super) line: Option<usize>,
    path: KeyPath,
}

/// The way to it from the top of the file, the last part first; none is the
/// file as a whole.
type KeyPath = Option<Rc<Step>>;

#[derive(Debug)]
struct Step {
    above: KeyPath,
    part: Part,
}

#[derive(Debug)]
enum Part {
    /// An option of a table.
    Name(Box<str>),
    /// One of a list, counted from 0.
    Number(usize),
}

impl Place {
    /// The file as a whole.
    pub(super) const fn file() -> Self {
        Self::line_of_file(None)
    }

    /// A line of which it is not known what it says.
    pub(super) const fn line_of_file(line: Option<usize>) -> Self {
        Self { line, path: None }
    }

    /// An option that is not there, in the line of its table.
    pub(super) fn option(&self, name: &str) -> Self {
        self.below(name, self.line)
    }

    /// An option of the table here.
    pub(super) fn below(&self, name: &str, line: Option<usize>) -> Self {
        self.further(Part::Name(name.into()), line)
    }

    /// One of the list here.
    pub(super) fn item(&self, number: usize, line: Option<usize>) -> Self {
        self.further(Part::Number(number), line)
    }

    fn further(&self, part: Part, line: Option<usize>) -> Self {
        let above = self.path.clone();
        Self {
            line,
            path: Some(Rc::new(Step { above, part })),
        }
    }

    /// The same line, told as another option.
    pub(super) fn told_as(&self, other: &Self) -> Self {
        Self {
            line: self.line,
            path: other.path.clone(),
        }
    }

    /// Whether it is an option of that name.
    pub(super) fn is_option(&self, name: &str) -> bool {
        let part = self.path.as_ref().map(|step| &step.part);
        matches!(part, Some(Part::Name(own)) if **own == *name)
    }
}

/// The key path, such as `key.billing.sink[0]`; empty for the file.
impl fmt::Display for Place {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.path {
            Some(step) => step.fmt(formatter),
            None => Ok(()),
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(above) = &self.above {
            above.fmt(formatter)?;
        }
        match &self.part {
            Part::Number(number) => write!(formatter, "[{number}]"),
            Part::Name(name) if self.above.is_some() => write!(formatter, ".{}", segment(name)),
            Part::Name(name) => formatter.write_str(&segment(name)),
        }
    }
}
