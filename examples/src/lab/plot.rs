//! Pictures of what was measured, as SVG.

use std::error::Error;
use std::path::Path;

use plotters::prelude::*;

/// Bars: how often each value was counted.
pub(crate) fn histogram(path: &Path, title: &str, counts: &[(u64, u64)]) -> Result<(), Box<dyn Error>> {
    let last = counts.last().map_or(0, |&(value, _)| value) as u32;
    let most = counts.iter().map(|&(_, n)| n).max().unwrap_or(1);
    let area = SVGBackend::new(path, (800, 480)).into_drawing_area();
    let failed = |error: &dyn std::fmt::Display| format!("cannot draw {}: {error}", path.display());
    area.fill(&WHITE).map_err(|error| failed(&error))?;
    let mut chart = ChartBuilder::on(&area)
        .margin(16)
        .caption(title, ("sans-serif", 22))
        .x_label_area_size(36)
        .y_label_area_size(64)
        .build_cartesian_2d((0..last + 1).into_segmented(), 0..most + most / 20 + 1)
        .map_err(|error| failed(&error))?;
    chart
        .configure_mesh()
        .disable_x_mesh()
        .x_desc("hops")
        .y_desc("lookups")
        .draw()
        .map_err(|error| failed(&error))?;
    let bars = Histogram::vertical(&chart)
        .style(BLUE.mix(0.6).filled())
        .margin(4)
        .data(counts.iter().map(|&(value, n)| (value as u32, n)));
    chart.draw_series(bars).map_err(|error| failed(&error))?;
    area.present().map_err(|error| failed(&error))?;
    Ok(())
}
