//! Tables for people: columns as wide as they need, a dim header on a terminal, the last column cut
//! at the edge of the screen.

use std::io::Write;

/// Rows under a header.
pub(crate) struct Table {
    header: Vec<&'static str>,
    rows: Vec<Vec<String>>,
}

impl Table {
    pub(crate) fn new(header: &[&'static str]) -> Self {
        Self {
            header: header.to_vec(),
            rows: Vec::new(),
        }
    }

    pub(crate) fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(cells.into_iter().collect());
    }

    /// Text of the table; `width` is that of the terminal, if it is one.
    fn render(&self, width: Option<usize>) -> String {
        let count = |text: &str| text.chars().count();
        let mut widths: Vec<usize> = self.header.iter().map(|h| count(h)).collect();
        for row in &self.rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(count(cell));
            }
        }
        let mut text = String::new();
        let header: Vec<String> = self.header.iter().map(|h| (*h).to_owned()).collect();
        for (index, row) in std::iter::once(&header).chain(&self.rows).enumerate() {
            let mut line = String::new();
            for (cell, width) in row.iter().zip(&widths) {
                line.push_str(cell);
                line.extend(std::iter::repeat_n(' ', width - count(cell) + 2));
            }
            let line = line.trim_end();
            let line: String = line.chars().take(width.unwrap_or(usize::MAX)).collect();
            match (index, width) {
                (0, Some(_)) => text.push_str(&format!("\x1b[2m{line}\x1b[0m\n")),
                _ => text.push_str(&format!("{line}\n")),
            }
        }
        text
    }

    /// Prints it; colours and cutting only on a terminal.
    pub(crate) fn print(&self) {
        let width = terminal_size::terminal_size().map(|(width, _)| usize::from(width.0));
        let _ = write!(anstream::stdout(), "{}", self.render(width));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_and_lines_are_cut_only_on_a_terminal() {
        let mut table = Table::new(&["ID", "NAME"]);
        table.row(["a-long-id".into(), "n".into()]);
        assert_eq!(table.render(None), "ID         NAME\na-long-id  n\n");
        assert_eq!(table.render(Some(6)), "\x1b[2mID    \x1b[0m\na-long\n");
    }
}
