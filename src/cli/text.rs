//! Text tables.

/// Formats rows in columns as wide as their widest cell, two spaces apart.
pub(crate) fn format_table(head: &[&str], rows: &[Vec<String>]) -> String {
    let mut layout = TableLayout::new(head);
    for row in rows {
        layout.fit(row);
    }
    let mut text = layout.format_row(head);
    for row in rows {
        text.push_str(&layout.format_row(row));
    }
    text
}

/// The widths of a table's columns, for rows that are not all in memory.
pub(crate) struct TableLayout {
    widths: Vec<usize>,
}

impl TableLayout {
    pub(crate) fn new(head: &[&str]) -> Self {
        Self {
            widths: head.iter().map(|cell| cell.chars().count()).collect(),
        }
    }

    /// Widens the columns to the cells of a row.
    pub(crate) fn fit(&mut self, row: &[String]) {
        for (width, cell) in self.widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }

    /// Formats a row as a line.
    pub(crate) fn format_row(&self, row: &[impl AsRef<str>]) -> String {
        let cells = row.iter().map(AsRef::as_ref).zip(&self.widths);
        let cells: Vec<_> = cells
            .map(|(cell, width)| format!("{cell:<width$}"))
            .collect();
        format!("{}\n", cells.join("  ").trim_end())
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn columns_are_aligned_without_trailing_spaces() {
        let rows = vec![
            vec!["a".to_owned(), "b".to_owned()],
            vec!["äöü".to_owned(), String::new()],
        ];
        assert_eq!(
            super::format_table(&["k", "value"], &rows),
            "k    value\na    b\näöü\n"
        );
    }
}
