//! Tables of a report: no borders but a line under the head, so that they can be cut and pasted.

use comfy_table::{
    CellAlignment, ColumnConstraint, ContentArrangement, ContentLineStyle, LineStyle, Table, TableStyle,
    Width,
};

use crate::report::text::{Page, escape};

const STYLE: TableStyle = TableStyle::new()
    .header_lines(ContentLineStyle::none().junction(' '))
    .header_separator(LineStyle::none().fill('─').junction('─'))
    .content_lines(ContentLineStyle::none().junction(' '));

/// What is left to a first column on a narrow page; a table wider than that runs over the edge.
const NARROWEST_NAME: u16 = 24;

/// Lays out rows under a head. A column whose head begins with `>` is set to the right; one without any cell
/// is left out. The first column gives way when the page is too narrow. Cells are escaped here.
pub(super) fn grid(page: Page, head: &[&str], rows: &[Vec<String>]) -> String {
    let is_kept = |column: &usize| rows.iter().any(|row| !row[*column].is_empty());
    let kept: Vec<usize> = (0..head.len()).filter(is_kept).collect();
    let mut table = Table::new();
    table.load_style(STYLE).set_content_arrangement(ContentArrangement::Dynamic).set_width(page.width);
    table.set_header(kept.iter().map(|&column| head[column].trim_start_matches('>')).collect::<Vec<_>>());
    table
        .add_rows(rows.iter().map(|row| kept.iter().map(|&column| escape(&row[column])).collect::<Vec<_>>()));
    let name = table.column_max_content_widths().first().copied().unwrap_or_default();
    for (column, &original) in table.column_iter_mut().zip(&kept) {
        column.set_padding((0, 1));
        if head[original].starts_with('>') {
            column.set_cell_alignment(CellAlignment::Right);
        }
        column.set_constraint(if original == 0 && name > NARROWEST_NAME {
            ColumnConstraint::LowerBoundary(Width::Fixed(NARROWEST_NAME))
        } else {
            ColumnConstraint::ContentWidth
        });
    }
    table.trim_fmt() + "\n"
}
