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

/// One of several charts that stand side by side: for each group the value of each series.
pub(crate) struct Panel {
    pub(crate) title: &'static str,
    pub(crate) values: Vec<Vec<f64>>,
}

/// Four panels of bars in groups, the series in colours.
pub(crate) fn bars(
    path: &Path,
    title: &str,
    groups: &[&str],
    series: &[String],
    panels: &[Panel; 4],
) -> Result<(), Box<dyn Error>> {
    let failed = |error: &dyn std::fmt::Display| format!("cannot draw {}: {error}", path.display());
    let area = SVGBackend::new(path, (1000, 720)).into_drawing_area();
    area.fill(&WHITE).map_err(|error| failed(&error))?;
    let area = area.titled(title, ("sans-serif", 22)).map_err(|error| failed(&error))?;
    let (legend, area) = area.split_vertically(28);
    for (i, name) in series.iter().enumerate() {
        let (left, colour) = (280 + 100 * i as i32, Palette99::pick(i).to_rgba());
        legend
            .draw(&Rectangle::new([(left, 6), (left + 12, 18)], colour.filled()))
            .map_err(|error| failed(&error))?;
        let style = ("sans-serif", 14).into_text_style(&legend);
        legend.draw_text(name, &style, (left + 18, 5)).map_err(|error| failed(&error))?;
    }
    let width = series.len() as f64 + 1.0;
    for (panel, area) in panels.iter().zip(area.split_evenly((2, 2))) {
        let most = panel.values.iter().flatten().fold(0.0, |most, value| value.max(most));
        let mut chart = ChartBuilder::on(&area)
            .margin(12)
            .caption(panel.title, ("sans-serif", 17))
            .x_label_area_size(28)
            .y_label_area_size(56)
            .build_cartesian_2d(0.0..width * groups.len() as f64, 0.0..most * 1.05)
            .map_err(|error| failed(&error))?;
        chart.configure_mesh().disable_x_mesh().x_labels(0).draw().map_err(|error| failed(&error))?;
        for i in 0..series.len() {
            let colour = Palette99::pick(i).to_rgba();
            let bar = |(group, values): (usize, &Vec<f64>)| {
                let left = group as f64 * width + i as f64 + 0.5;
                Rectangle::new([(left, 0.0), (left + 1.0, values[i])], colour.filled())
            };
            chart.draw_series(panel.values.iter().enumerate().map(bar)).map_err(|error| failed(&error))?;
        }
        for (group, name) in groups.iter().enumerate() {
            let at = chart.backend_coord(&((group as f64 + 0.5) * width, 0.0));
            let style = ("sans-serif", 14).into_text_style(&area).pos(text_anchor());
            let (left, top) = area.get_base_pixel();
            area.draw_text(name, &style, (at.0 - left, at.1 - top + 6)).map_err(|error| failed(&error))?;
        }
    }
    area.present().map_err(|error| failed(&error))?;
    Ok(())
}

/// In the middle below the point.
fn text_anchor() -> plotters::style::text_anchor::Pos {
    use plotters::style::text_anchor::{HPos, Pos, VPos};
    Pos::new(HPos::Center, VPos::Top)
}

/// Series of points over two axes that begin at 0, a colour for each.
pub(crate) struct Chart<'a> {
    pub(crate) title: &'a str,
    pub(crate) x: &'a str,
    pub(crate) y: &'a str,
    pub(crate) series: &'a [(String, &'a [(f64, f64)])],
    /// Whether the points stand alone; otherwise lines join them.
    pub(crate) scattered: bool,
}

/// Lines from 0 to 1, a colour for each series.
pub(crate) fn lines(
    path: &Path,
    title: &str,
    x: &str,
    series: &[(String, &[(f64, f64)])],
) -> Result<(), Box<dyn Error>> {
    let area = SVGBackend::new(path, (800, 480)).into_drawing_area();
    let chart = Chart { title, x, y: "", series, scattered: false };
    let drawn = area.fill(&WHITE).map_err(Into::into).and_then(|()| draw(&area, &chart, 1.0));
    let drawn = drawn.and_then(|()| Ok(area.present()?));
    drawn.map_err(|error| format!("cannot draw {}: {error}", path.display()).into())
}

/// Four charts, two by two.
pub(crate) fn charts(path: &Path, title: &str, charts: &[Chart<'_>; 4]) -> Result<(), Box<dyn Error>> {
    let area = SVGBackend::new(path, (1200, 840)).into_drawing_area();
    let drawn = || {
        area.fill(&WHITE)?;
        let areas = area.titled(title, ("sans-serif", 22))?.split_evenly((2, 2));
        for (chart, area) in charts.iter().zip(areas) {
            let values = chart.series.iter().flat_map(|(_, points)| points.iter().map(|(_, y)| *y));
            draw(&area, chart, values.fold(0.0, f64::max))?;
        }
        Ok(area.present()?)
    };
    drawn().map_err(|error: Box<dyn Error>| format!("cannot draw {}: {error}", path.display()).into())
}

type Area<'a> = DrawingArea<SVGBackend<'a>, plotters::coord::Shift>;

/// One chart, whose axis y goes to `most`.
fn draw(area: &Area<'_>, chart: &Chart<'_>, most: f64) -> Result<(), Box<dyn Error>> {
    let xs = chart.series.iter().flat_map(|(_, points)| points.iter().map(|(x, _)| *x));
    let mut axes = ChartBuilder::on(area)
        .margin(16)
        .caption(chart.title, ("sans-serif", 20))
        .x_label_area_size(36)
        .y_label_area_size(64)
        .build_cartesian_2d(0.0..xs.fold(1.0, f64::max), 0.0..most * 1.05)?;
    axes.configure_mesh().x_desc(chart.x).y_desc(chart.y).draw()?;
    for (i, (name, points)) in chart.series.iter().enumerate() {
        let colour = Palette99::pick(i).to_rgba();
        let series = match chart.scattered {
            true => axes.draw_series(points.iter().map(|at| Circle::new(*at, 3, colour.filled())))?,
            false => axes.draw_series(LineSeries::new(points.iter().copied(), colour.stroke_width(2)))?,
        };
        let key = move |(x, y)| Rectangle::new([(x, y - 4), (x + 12, y + 4)], colour.filled());
        series.label(name.clone()).legend(key);
    }
    axes.configure_series_labels()
        .position(SeriesLabelPosition::LowerRight)
        .border_style(BLACK)
        .background_style(WHITE.filled())
        .draw()?;
    Ok(())
}
