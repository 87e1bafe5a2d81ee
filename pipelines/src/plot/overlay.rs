//! What lies over the ground of a map: graticule, stations, legend and colour bar.

use super::axis::{label, round_step, ticks};
use super::canvas::Canvas;
use super::colour::Rgb;
use super::font::Size;
use super::map::{Map, Panel};

/// Radius of a station in pixels.
const RADIUS: f64 = 5.0;

/// Meridians and parallels, labelled where they meet the lower and the left edge.
pub(crate) fn graticule(
    canvas: &mut Canvas,
    (south, west, north, east): (f64, f64, f64, f64),
    panel: &Panel,
) {
    let (rough_up, rough_across) = ((north - south) / 5.0, (east - west) / 7.0);
    // beyond the edges of the field as far as a conic can bend
    let (more, step_up) = (15.0, degrees(rough_up));
    let step_across = degrees(rough_across);
    for latitude in ticks((south - more).max(-85.0), (north + more).min(85.0), step_up) {
        let line: Vec<_> = (-100..=300)
            .map(|i| panel.pixel(latitude, west + (east - west) * f64::from(i) / 200.0))
            .collect();
        if let Some(y) = drawn(canvas, &line, panel, |(x0, y0), (x1, y1)| {
            crossing((x0, y0), (x1, y1), panel.low.0)
        }) {
            let text = if latitude == 0.0 {
                "0°".to_owned()
            } else {
                named(latitude, "N", "S")
            };
            canvas.text(
                &text,
                (panel.low.0 - 6.0, y),
                (1.0, 0.5),
                Size::Small,
                Rgb::INK,
            );
        }
    }
    for longitude in ticks(west - more, east + more, step_across) {
        let line: Vec<_> = (-100..=300)
            .map(|i| (south + (north - south) * f64::from(i) / 200.0).clamp(-89.0, 89.0))
            .map(|latitude| panel.pixel(latitude, longitude))
            .collect();
        if let Some(x) = drawn(canvas, &line, panel, |(x0, y0), (x1, y1)| {
            crossing((y0, x0), (y1, x1), panel.high.1)
        }) {
            let turned = (longitude + 180.0).rem_euclid(360.0) - 180.0;
            let text = if turned == 0.0 {
                "0°".to_owned()
            } else {
                named(turned, "E", "W")
            };
            canvas.text(
                &text,
                (x, panel.high.1 + 6.0),
                (0.5, 0.0),
                Size::Small,
                Rgb::INK,
            );
        }
    }
}

/// Degrees between lines: a divisor of the circle that people expect.
fn degrees(rough: f64) -> f64 {
    let steps = [1.0, 2.0, 5.0, 10.0, 15.0, 30.0, 60.0];
    let fits = steps.into_iter().find(|&s| s >= rough);
    if rough < 0.5 {
        round_step(rough)
    } else {
        fits.unwrap_or(60.0)
    }
}

fn named(degrees: f64, positive: &str, negative: &str) -> String {
    let side = if degrees > 0.0 { positive } else { negative };
    format!("{}°{side}", (degrees.abs() * 100.0).round() / 100.0)
}

/// Draws the part of a line within the panel; the last answer of `edge` for one of its pieces.
fn drawn(
    canvas: &mut Canvas,
    line: &[(f64, f64)],
    panel: &Panel,
    edge: impl Fn((f64, f64), (f64, f64)) -> Option<f64>,
) -> Option<f64> {
    let mut met = None;
    for pair in line.windows(2) {
        let (from, to) = (pair[0], pair[1]);
        // a jump is the seam of the earth, not a line
        if (to.0 - from.0).hypot(to.1 - from.1) > 200.0 {
            continue;
        }
        if panel.contains(from) && panel.contains(to) {
            faint(canvas, from, to);
        }
        if panel.contains(from) != panel.contains(to) {
            met = edge(from, to).or(met);
        }
    }
    met
}

/// A thin dark line that lets the ground through.
fn faint(canvas: &mut Canvas, from: (f64, f64), to: (f64, f64)) {
    let length = (to.0 - from.0).hypot(to.1 - from.1).max(1e-9);
    for i in 0..length.ceil() as usize {
        let t = i as f64 / length;
        let (x, y) = (from.0 + t * (to.0 - from.0), from.1 + t * (to.1 - from.1));
        // a line one pixel wide covers two pixels in parts
        let steep = (to.1 - from.1).abs() > (to.0 - from.0).abs();
        let (a, b) = if steep { (x, y) } else { (y, x) };
        let (whole, part) = ((a - 0.5).floor(), (a - 0.5) - (a - 0.5).floor());
        for (at, cover) in [(whole, 1.0 - part), (whole + 1.0, part)] {
            let (px, py) = if steep {
                (at, b.floor())
            } else {
                (b.floor(), at)
            };
            canvas.blend(px as i64, py as i64, Rgb::INK, 0.28 * cover);
        }
    }
}

/// Where a piece from (a0, b0) to (a1, b1) crosses `a = edge`: its b.
fn crossing((a0, b0): (f64, f64), (a1, b1): (f64, f64), edge: f64) -> Option<f64> {
    let t = (edge - a0) / (a1 - a0);
    (0.0..=1.0).contains(&t).then_some(b0 + t * (b1 - b0))
}

/// Stations in the colours of the field; withheld ones last, as squares.
pub(crate) fn stations(canvas: &mut Canvas, map: &Map, panel: &Panel) {
    for withheld in [false, true] {
        for (at, value) in shown(map, panel, withheld) {
            mark(canvas, at, withheld, map.scale.colour(value));
        }
    }
}

/// Pixel and value of the stations of a kind that lie on the panel.
fn shown(map: &Map, panel: &Panel, withheld: bool) -> impl Iterator<Item = ((f64, f64), f64)> {
    let kind = map.stations.iter().filter(move |s| s.withheld == withheld);
    kind.map(|s| (panel.pixel(s.latitude, s.longitude), s.value))
        .filter(|(at, value)| panel.contains(*at) && value.is_finite())
}

fn mark(canvas: &mut Canvas, at: (f64, f64), withheld: bool, colour: Rgb) {
    let around = |r: f64| ((at.0 - r, at.1 - r), (at.0 + r, at.1 + r));
    if withheld {
        let (low, high) = around(RADIUS + 2.0);
        canvas.rectangle(low, high, Rgb::WHITE);
        let (low, high) = around(RADIUS + 1.0);
        canvas.rectangle(low, high, Rgb::INK);
        let (low, high) = around(RADIUS - 0.5);
        canvas.rectangle(low, high, colour);
    } else {
        canvas.disc(at, RADIUS, Rgb::INK);
        canvas.disc(at, RADIUS - 1.2, colour);
    }
}

/// What circles and squares mean, below the panel.
pub(crate) fn legend(canvas: &mut Canvas, map: &Map, panel: &Panel) {
    let y = panel.high.1 + 40.0;
    let mut x = panel.low.0 + 8.0;
    for (withheld, name) in [(false, &map.legend.0), (true, &map.legend.1)] {
        let count = shown(map, panel, withheld).count();
        if count == 0 {
            continue;
        }
        mark(canvas, (x, y), withheld, Rgb::WHITE);
        let text = format!("{name} ({count})");
        canvas.text(&text, (x + 14.0, y), (0.0, 0.5), Size::Small, Rgb::INK);
        x += 14.0 + super::font::Font::of(Size::Small).width(&text) + 28.0;
    }
}

/// The bands of the scale with their values, right of the panel.
pub(crate) fn colour_bar(canvas: &mut Canvas, map: &Map, panel: &Panel) {
    let (left, right) = (panel.high.0 + 22.0, panel.high.0 + 42.0);
    let (top, bottom) = (panel.low.1, panel.high.1);
    let scale = &map.scale;
    let share = |v: f64| (v - scale.low) / (scale.high - scale.low);
    let place = |v: f64| (bottom - share(v) * (bottom - top)).round();
    for band in 0..scale.bands() {
        let low = scale.low + band as f64 * scale.step;
        let colour = scale.colour(low + scale.step / 2.0);
        canvas.rectangle((left, place(low + scale.step)), (right, place(low)), colour);
    }
    canvas.frame((left, top), (right, bottom), Rgb::INK);
    let labels = scale.labels(((bottom - top) / 28.0) as usize);
    let step = labels
        .get(1)
        .zip(labels.first())
        .map_or(scale.step, |(b, a)| b - a);
    for value in labels {
        let y = place(value);
        canvas.line((right, y), (right + 4.0, y), 1.0, Rgb::INK);
        let text = label(value, step);
        canvas.text(&text, (right + 8.0, y), (0.0, 0.5), Size::Small, Rgb::INK);
    }
    let at = (right + 62.0, (top + bottom) / 2.0);
    canvas.text_upwards(&map.label, at, Size::Medium, Rgb::INK);
}
