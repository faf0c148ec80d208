//! How large a contact sheet is, and where its cells are.

/// Pixels between cells, and around all of them.
const GAP: u64 = 8;
/// Height of the line below a cell that has its label, in pixels.
const LABEL: u64 = 12;

/// A grid of square cells, filled row by row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    columns: u64,
    rows: u64,
    size: u64,
    label: u64,
}

impl Layout {
    /// The layout of `count` cells of `size` × `size` pixels, in at most `columns` columns: no column is empty.
    pub fn new(count: usize, columns: u32, size: u32, has_labels: bool) -> Self {
        let columns = u64::from(columns).min(count as u64).max(1);
        let label = if has_labels { LABEL } else { 0 };
        Layout { columns, rows: (count as u64).div_ceil(columns), size: u64::from(size), label }
    }

    /// Width of the sheet in pixels.
    pub fn width(&self) -> u64 {
        GAP + self.columns * (self.size + GAP)
    }

    /// Height of the sheet in pixels.
    pub fn height(&self) -> u64 {
        GAP + self.rows * (self.size + self.label + GAP)
    }

    /// Pixels of the sheet.
    pub fn pixels(&self) -> u64 {
        self.width() * self.height()
    }

    /// Width and height of a cell in pixels.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Left and top of a cell in pixels. Cells count from 0.
    pub fn place(&self, cell: usize) -> (u64, u64) {
        let (column, row) = (cell as u64 % self.columns, cell as u64 / self.columns);
        (GAP + column * (self.size + GAP), GAP + row * (self.size + self.label + GAP))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_are_in_rows() {
        let layout = Layout::new(5, 2, 100, true);
        assert_eq!((layout.width(), layout.height()), (224, 368));
        assert_eq!(layout.pixels(), 224 * 368);
        assert_eq!([0, 1, 2, 4].map(|cell| layout.place(cell)), [(8, 8), (116, 8), (8, 128), (8, 248)]);
    }

    #[test]
    fn no_column_is_empty() {
        let layout = Layout::new(3, 8, 16, false);
        assert_eq!((layout.width(), layout.height()), (80, 32));
    }
}
