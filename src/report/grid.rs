//! Tables of a report: no borders but a line under the head, so that they can be cut and pasted.

use comfy_table::{
    CellAlignment, ColumnConstraint, ContentArrangement, ContentLineStyle, LineStyle, Table, TableStyle,
};

use crate::report::text::{Page, escape};

const STYLE: TableStyle = TableStyle::new()
    .header_lines(ContentLineStyle::none().junction(' '))
    .header_separator(LineStyle::none().fill('─').junction('─'))
    .content_lines(ContentLineStyle::none().junction(' '));

/// Lays out rows under a head. A column whose head begins with `>` is set to the right. The first column
/// gives way when the page is too narrow. Cells are escaped here.
pub(super) fn grid(page: Page, head: &[&str], rows: &[Vec<String>]) -> String {
    let mut table = Table::new();
    table.load_style(STYLE).set_content_arrangement(ContentArrangement::Dynamic).set_width(page.width);
    table.set_header(head.iter().map(|title| title.trim_start_matches('>')).collect::<Vec<_>>());
    table.add_rows(rows.iter().map(|row| row.iter().map(|cell| escape(cell)).collect::<Vec<_>>()));
    for (column, title) in table.column_iter_mut().zip(head) {
        column.set_padding((0, 1));
        if title.starts_with('>') {
            column.set_cell_alignment(CellAlignment::Right);
        }
        if *title != head[0] {
            column.set_constraint(ColumnConstraint::ContentWidth);
        }
    }
    table.trim_fmt() + "\n"
}
