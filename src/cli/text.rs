//! Tables for people.

/// Rows in columns as wide as their widest cell, two spaces apart.
pub(crate) fn format_table(head: &[&str], rows: &[Vec<String>]) -> String {
    let mut widths: Vec<usize> = head.iter().map(|cell| cell.chars().count()).collect();
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let head: Vec<String> = head.iter().map(|cell| (*cell).to_owned()).collect();
    let mut text = String::new();
    for row in std::iter::once(&head).chain(rows) {
        let cells: Vec<_> = row
            .iter()
            .zip(&widths)
            .map(|(cell, width)| format!("{cell:<width$}"))
            .collect();
        text.push_str(cells.join("  ").trim_end());
        text.push('\n');
    }
    text
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
