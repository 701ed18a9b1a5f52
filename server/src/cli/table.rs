//! Tables of text: columns as wide as their widest cell, numbers to the right.

/// Rows under a header.
pub(crate) struct Table {
    header: Vec<&'static str>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with these columns; a name that starts with `>` is of a column of numbers.
    pub(crate) fn new(header: &[&'static str]) -> Self {
        Self {
            header: header.to_vec(),
            rows: Vec::new(),
        }
    }

    /// Adds a row, with one cell per column.
    pub(crate) fn row(&mut self, cells: Vec<String>) {
        self.rows.push(cells);
    }

    /// The table as lines.
    pub(crate) fn render(&self) -> String {
        let names: Vec<String> = self
            .header
            .iter()
            .map(|h| h.trim_start_matches('>').to_owned())
            .collect();
        let width = |column: usize| {
            std::iter::once(&names)
                .chain(&self.rows)
                .filter_map(|row| row.get(column))
                .map(|cell| cell.chars().count())
                .max()
                .unwrap_or(0)
        };
        let widths: Vec<usize> = (0..names.len()).map(width).collect();
        let mut text = String::new();
        for row in std::iter::once(&names).chain(&self.rows) {
            let mut line = String::new();
            for ((cell, &width), header) in row.iter().zip(&widths).zip(&self.header) {
                let cell = if header.starts_with('>') {
                    format!("{cell:>width$}")
                } else {
                    format!("{cell:<width$}")
                };
                line.push_str(&cell);
                line.push_str("  ");
            }
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_and_numbers_are_to_the_right() {
        let mut table = Table::new(&["NAME", ">SIZE", "STATE"]);
        table.row(vec!["a".into(), "1.0 MiB".into(), "live".into()]);
        table.row(vec!["longer".into(), "9 B".into(), "lost".into()]);
        assert_eq!(
            table.render(),
            "NAME       SIZE  STATE\na       1.0 MiB  live\nlonger      9 B  lost\n"
        );
    }
}
