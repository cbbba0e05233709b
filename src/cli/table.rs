//! Tables that fit the terminal.
//!
//! Where a table is wider than the terminal, its columns give way in the order that they
//! name: some are left out, and one that must stay whole, such as an id, moves to a line of
//! its own below its row. With `--verbose` no column is left out: each moves to such a line.
//! In a file or a pipe nothing gives way.

use crate::cli::screen::{Screen, TimeStyle};

/// The cell of what is not known. On a line of its own it would say nothing.
pub(crate) const NOTHING: &str = "-";

/// The space between two columns.
const GAP: usize = 2;

/// The space before a line below a row, and before what continues it.
const INDENTS: (&str, usize) = ("  ", 4);

/// What a column does where the table is too wide. The greatest gives way first, and of those
/// with one number the last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Fit {
    /// It stays: the first column, which names the row.
    Stays,
    /// It moves to a line of its own below each row, once no column can be left out.
    Folds(u8),
    /// It stands on a line of its own below each row of a terminal: sentences.
    Below,
    /// It is left out, or folds with `--verbose`.
    LeftOut(u8),
}

/// A column: its title and how it fits.
pub(crate) type Column = (&'static str, Fit);

/// The meaning of a cell, which a terminal shows as a colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Tone {
    /// No colour.
    #[default]
    Plain,
    /// All is well.
    Good,
    /// Something may need attention.
    Warning,
    /// Something needs a person.
    Bad,
    /// Less important.
    Dim,
}

/// A cell of a table.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Cell {
    text: String,
    tone: Tone,
}

impl Cell {
    /// Returns a cell of this tone. On a terminal its text begins with the tone's symbol, so
    /// that it does not depend on colours.
    pub(crate) fn with_symbol(text: &str, tone: Tone, screen: &Screen) -> Self {
        let symbol = match tone {
            Tone::Good => "●",
            Tone::Warning => "▲",
            Tone::Bad => "✗",
            Tone::Plain | Tone::Dim => "○",
        };
        Self {
            text: if screen.width.is_some() {
                format!("{symbol} {text}")
            } else {
                text.to_owned()
            },
            tone,
        }
    }

    fn width(&self) -> usize {
        self.text.chars().count()
    }
}

impl From<String> for Cell {
    fn from(text: String) -> Self {
        Self {
            text,
            tone: Tone::Plain,
        }
    }
}

impl From<&str> for Cell {
    fn from(text: &str) -> Self {
        text.to_owned().into()
    }
}

/// The widths of a table's columns, for rows that need not all be in memory.
pub(crate) struct Table<'c> {
    columns: &'c [Column],
    widths: Vec<usize>,
    has_content: Vec<bool>,
    screen: Screen,
}

/// The columns that are shown, and those that are folded.
struct Layout {
    shown: Vec<usize>,
    folded: Vec<usize>,
}

impl<'c> Table<'c> {
    /// Returns a table with these columns and no row yet.
    pub(crate) fn new(columns: &'c [Column], screen: Screen) -> Self {
        Self {
            columns,
            widths: columns
                .iter()
                .map(|(title, _)| title.chars().count())
                .collect(),
            has_content: vec![false; columns.len()],
            screen,
        }
    }

    /// Widens the columns to the cells of a row.
    pub(crate) fn measure(&mut self, row: &[Cell]) {
        for (index, cell) in row.iter().enumerate() {
            self.widths[index] = self.widths[index].max(cell.width());
            self.has_content[index] |= !cell.text.is_empty();
        }
    }

    /// Formats the titles.
    pub(crate) fn head(&self) -> String {
        let titles: Vec<_> = self
            .columns
            .iter()
            .map(|(title, _)| Cell::from(*title))
            .collect();
        let layout = self.layout();
        let line = self.line(&titles, &layout.shown);
        if self.screen.has_color {
            format!("\u{1b}[1m{}\u{1b}[0m\n", line.trim_end())
        } else {
            line
        }
    }

    /// Formats a row that was measured.
    pub(crate) fn row(&self, row: &[Cell]) -> String {
        let layout = self.layout();
        let mut text = self.line(row, &layout.shown);
        for index in layout.folded {
            let title = self.columns[index].0.to_lowercase();
            let (space, indent) = INDENTS;
            let text_below = Some(row[index].text.as_str()).filter(|text| *text != NOTHING);
            for line in text_below.unwrap_or_default().lines() {
                let start = format!("{space}{title}: ");
                let line = self.screen.wrap(&format!("{start}{line}"), indent);
                // A long word begins on the next line.
                let start = line.strip_prefix(&start).map_or("", |_| start.as_str());
                let cell = self.colored(&row[index], line[start.len()..].to_owned());
                text.push_str(&format!("{start}{cell}\n"));
            }
        }
        text
    }

    /// Formats a whole table.
    pub(crate) fn format(columns: &'c [Column], rows: &[Vec<Cell>], screen: Screen) -> String {
        let mut table = Self::new(columns, screen);
        for row in rows {
            table.measure(row);
        }
        let mut text = table.head();
        for row in rows {
            text.push_str(&table.row(row));
        }
        text
    }

    /// Formats a cell that stands outside of a table.
    pub(crate) fn styled(cell: &Cell, screen: Screen) -> String {
        Self::new(&[], screen).colored(cell, cell.text.clone())
    }

    fn layout(&self) -> Layout {
        let mut layout = Layout {
            shown: (0..self.columns.len()).collect(),
            folded: Vec::new(),
        };
        let Some(width) = self.screen.width else {
            return layout;
        };
        // A column without any content says nothing.
        layout.shown.retain(|index| {
            let fit = self.columns[*index].1;
            fit == Fit::Stays || (self.has_content[*index] && fit != Fit::Below)
        });
        let below = (0..self.columns.len()).filter(|index| self.columns[*index].1 == Fit::Below);
        layout.folded = below.collect();
        while self.total_width(&layout.shown) > width {
            let fits = layout
                .shown
                .iter()
                .map(|index| (self.columns[*index].1, *index));
            let Some((fit, index)) = fits.max().filter(|(fit, _)| *fit != Fit::Stays) else {
                break;
            };
            layout.shown.retain(|shown| *shown != index);
            let is_verbose = self.screen.times == TimeStyle::Both;
            if is_verbose || matches!(fit, Fit::Folds(_)) {
                layout.folded.push(index);
            }
        }
        layout.folded.sort_unstable();
        layout
    }

    fn total_width(&self, shown: &[usize]) -> usize {
        let widths: usize = shown.iter().map(|index| self.widths[*index]).sum();
        widths + GAP * shown.len().saturating_sub(1)
    }

    fn line(&self, row: &[Cell], shown: &[usize]) -> String {
        let mut line = String::new();
        for (position, index) in shown.iter().enumerate() {
            let cell = &row[*index];
            line.push_str(&self.colored(cell, cell.text.clone()));
            // Nothing stands behind the last cell that has text.
            let is_last = shown[position + 1..]
                .iter()
                .all(|next| row[*next].text.is_empty());
            if is_last {
                break;
            }
            line.push_str(&" ".repeat(self.widths[*index] - cell.width() + GAP));
        }
        line.push('\n');
        line
    }

    fn colored(&self, cell: &Cell, text: String) -> String {
        let code = match cell.tone {
            Tone::Plain => return text,
            Tone::Good => 32,
            Tone::Warning => 33,
            Tone::Bad => 31,
            Tone::Dim => 2,
        };
        if self.screen.has_color && !text.is_empty() {
            format!("\u{1b}[{code}m{text}\u{1b}[0m")
        } else {
            text
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::golden::assert_fits;

    const COLUMNS: [Column; 5] = [
        ("KEY", Fit::Stays),
        ("STATE", Fit::Stays),
        ("AGE", Fit::LeftOut(1)),
        ("CREDENTIAL", Fit::Folds(1)),
        ("ERROR", Fit::Below),
    ];

    fn rows() -> Vec<Vec<Cell>> {
        let row = |cells: [&str; 5]| cells.map(Cell::from).to_vec();
        vec![
            row(["billing", "healthy", "3 d", "key_0123456789", ""]),
            row(["äöü", "", "", "", "a b"]),
        ]
    }

    fn screen(width: Option<usize>) -> Screen {
        Screen {
            width,
            has_color: false,
            times: TimeStyle::Exact,
        }
    }

    #[test]
    fn columns_give_way_in_their_order() {
        for (width, expected) in [
            (
                None,
                "KEY      STATE    AGE  CREDENTIAL      ERROR\nbilling  healthy  3 d  key_0123456789\n\
                 äöü                                    a b\n",
            ),
            (
                Some(37),
                "KEY      STATE    AGE  CREDENTIAL\nbilling  healthy  3 d  key_0123456789\näöü\n  error: a b\n",
            ),
            (
                Some(36),
                "KEY      STATE    CREDENTIAL\nbilling  healthy  key_0123456789\näöü\n  error: a b\n",
            ),
            (
                Some(28),
                "KEY      STATE\nbilling  healthy\n  credential: key_0123456789\näöü\n  error: a b\n",
            ),
            (
                Some(20),
                "KEY      STATE\nbilling  healthy\n  credential:\n    key_0123456789\näöü\n  error: a b\n",
            ),
        ] {
            assert_eq!(
                Table::format(&COLUMNS, &rows(), screen(width)),
                expected,
                "{width:?}"
            );
        }
    }

    /// At any width: with `--verbose` all is shown that is shown without it, no line is too
    /// wide, and no word is cut.
    #[test]
    fn verbose_table_leaves_nothing_out() {
        const COLUMNS: [Column; 5] = [
            ("KEY", Fit::Stays),
            ("STATE", Fit::Folds(1)),
            ("CREDENTIAL", Fit::Folds(2)),
            ("CREATED", Fit::LeftOut(1)),
            ("OWNER", Fit::LeftOut(2)),
        ];
        for name in [1, 16, 48] {
            let name = "k".repeat(name);
            let created = "2026-11-23T02:00:00Z (1 d 10 h ago)";
            let cells = [
                &name,
                "● healthy",
                "key_AbCdEfGhIjKlMnOpQrStUv01",
                created,
                "Ops",
            ];
            let rows = vec![cells.map(Cell::from).to_vec()];
            for width in 40..200 {
                let screen = Screen {
                    times: TimeStyle::Both,
                    ..screen(Some(width))
                };
                let text = Table::format(&COLUMNS, &rows, screen);
                assert_fits(&text, screen);
                for word in cells.iter().flat_map(|cell| cell.split(' ')) {
                    let mut words = text.split_whitespace();
                    assert!(words.any(|shown| shown == word), "{width} {word}: {text}");
                }
            }
        }
    }

    #[test]
    fn a_column_without_content_is_not_shown_on_a_terminal() {
        let rows = vec![["a", "b", "", "", ""].map(Cell::from).to_vec()];
        let shown = Table::format(&COLUMNS, &rows, screen(Some(80)));
        assert_eq!(shown, "KEY  STATE\na    b\n");
        let shown = Table::format(&COLUMNS, &rows, screen(None));
        assert_eq!(shown, "KEY  STATE  AGE  CREDENTIAL  ERROR\na    b\n");
    }

    #[test]
    fn tones_are_colors_and_symbols_of_a_terminal() {
        let terminal = Screen {
            has_color: true,
            ..screen(Some(80))
        };
        let columns = [("STATE", Fit::Stays), ("KEY", Fit::Stays)];
        let rows = |screen: &Screen| {
            vec![vec![
                Cell::with_symbol("failing", Tone::Bad, screen),
                Cell::from("a"),
            ]]
        };
        let shown = Table::format(&columns, &rows(&terminal), terminal);
        assert_eq!(
            shown,
            "\u{1b}[1mSTATE      KEY\u{1b}[0m\n\u{1b}[31m✗ failing\u{1b}[0m  a\n"
        );
        let file = screen(None);
        let shown = Table::format(&columns, &rows(&file), file);
        assert_eq!(shown, "STATE    KEY\nfailing  a\n");
    }
}
