//! The ground of a map: field in bands of colour, hill shading, contours and coast lines.

use super::canvas::Canvas;
use super::colour::Rgb;
use super::grid::Grid;
use super::map::{Map, Panel};

/// Samples along each side of a pixel, so that the edges of bands are smooth.
const FINE: usize = 2;
/// Where the field does not reach: land and water.
const LAND: Rgb = Rgb::hex(0xdfdcd4);
const WATER: Rgb = Rgb::hex(0xe9eef2);
/// Where nothing is known.
const BLANK: Rgb = Rgb::hex(0xf6f6f4);
const COAST: Rgb = Rgb([25, 25, 28]);
const CONTOUR: Rgb = Rgb([20, 20, 24]);

/// A field at every pixel of the panel and one pixel around it; NaN where it is missing.
struct Layer {
    width: usize,
    values: Vec<f64>,
}

impl Layer {
    fn at(&self, x: usize, y: usize) -> f64 {
        self.values[(y + 1) * self.width + x + 1]
    }

    /// Change a pixel to the right and a pixel down.
    fn slope(&self, x: usize, y: usize) -> (f64, f64) {
        let at = (y + 1) * self.width + x + 1;
        let across = self.values[at + 1] - self.values[at - 1];
        let down = self.values[at + self.width] - self.values[at - self.width];
        (across / 2.0, down / 2.0)
    }

    /// How much of a pixel a line of a width covers where the field is `level`.
    fn line(&self, x: usize, y: usize, level: f64, width: f64) -> f64 {
        let (across, down) = self.slope(x, y);
        let steep = across.hypot(down);
        let away = (self.at(x, y) - level).abs() / steep;
        // flat or missing: no line
        if away.is_finite() {
            (width / 2.0 + 0.5 - away).clamp(0.0, 1.0)
        } else {
            0.0
        }
    }
}

/// Draws the ground onto the panel.
pub(crate) fn draw(canvas: &mut Canvas, map: &Map, panel: &Panel) {
    let (left, top) = (panel.low.0 as usize, panel.low.1 as usize);
    let width = (panel.high.0 as usize)
        .min(canvas.width())
        .saturating_sub(left);
    let height = (panel.high.1 as usize)
        .min(canvas.height())
        .saturating_sub(top);
    let mut places = Vec::with_capacity((width + 2) * (height + 2));
    for y in 0..height + 2 {
        for x in 0..width + 2 {
            places.push(panel.place((left + x) as f64 - 0.5, (top + y) as f64 - 0.5));
        }
    }
    let layer = |grid: &Grid| {
        let sample = |&(a, b): &(f64, f64)| grid.sample(a, b).unwrap_or(f64::NAN);
        let values = places.iter().map(sample).collect();
        let width = width + 2;
        Layer { width, values }
    };
    let field = map.contour.map(|_| layer(&map.field));
    let relief = map.relief.as_ref().map(&layer);
    let land = match (&map.land, &relief) {
        (Some(land), Some(_)) => Some(layer(&land.lakes())),
        (Some(land), None) => Some(layer(land)),
        (None, _) => None,
    };
    for y in 0..height {
        for x in 0..width {
            let shore = shore(relief.as_ref(), land.as_ref(), x, y);
            let ashore = shore.ashore;
            let known = relief.as_ref().or(land.as_ref());
            let bare = match known.map(|layer| layer.at(x, y).is_nan()) {
                Some(false) if ashore => LAND,
                Some(false) => WATER,
                _ => BLANK,
            };
            let (px, py) = ((left + x) as f64, (top + y) as f64);
            let mut colour = coloured(map, panel, (px, py), bare);
            if let Some(relief) = relief.as_ref().filter(|_| ashore) {
                colour = colour.shade(shade(relief.slope(x, y)));
            }
            canvas.blend(px as i64, py as i64, colour, 1.0);
            if let (Some(field), Some(every)) = (&field, map.contour) {
                let nearest = (field.at(x, y) / every).round() * every;
                let cover = field.line(x, y, nearest, 1.0);
                canvas.blend(px as i64, py as i64, CONTOUR, 0.45 * cover);
            }
            canvas.blend(px as i64, py as i64, COAST, 0.9 * shore.line);
        }
    }
}

/// Whether a pixel is land, and how much of it a coast line covers.
struct Shore {
    ashore: bool,
    line: f64,
}

/// The relief tells the sea and the share of land the lakes; each tells all without the other.
fn shore(relief: Option<&Layer>, land: Option<&Layer>, x: usize, y: usize) -> Shore {
    let from = |layer: Option<&Layer>, level: f64| match layer {
        // what is missing counts as land and has no line
        Some(layer) => {
            let value = layer.at(x, y);
            (
                value >= level || value.is_nan(),
                layer.line(x, y, level, 1.5),
            )
        }
        None => (true, 0.0),
    };
    let (sea, lake) = (from(relief, 0.0), from(land, 0.5));
    Shore {
        ashore: sea.0 && lake.0 && (relief.is_some() || land.is_some()),
        line: sea.1.max(lake.1),
    }
}

/// The mean colour of the field over a pixel.
fn coloured(map: &Map, panel: &Panel, (px, py): (f64, f64), bare: Rgb) -> Rgb {
    let mut sum = [0.0; 3];
    for j in 0..FINE {
        for i in 0..FINE {
            let inside = |i: usize| (i as f64 + 0.5) / FINE as f64;
            let (latitude, longitude) = panel.place(px + inside(i), py + inside(j));
            let value = map.field.sample(latitude, longitude);
            let colour = value.map_or(bare, |v| map.scale.colour(v));
            for (sum, c) in sum.iter_mut().zip(colour.0) {
                *sum += f64::from(c);
            }
        }
    }
    Rgb(sum.map(|c| (c / (FINE * FINE) as f64).round() as u8))
}

/// Light from the north-west: slopes in metres a pixel to a factor on the colour.
fn shade((across, down): (f64, f64)) -> f64 {
    // metres of height that make a slope of one; stronger than nature, as on every relief map
    const EXAGGERATION: f64 = 160.0;
    let lit = (across + down) / (EXAGGERATION * std::f64::consts::SQRT_2);
    if lit.is_nan() {
        1.0
    } else {
        1.0 + 0.24 * (lit / (1.0 + lit * lit).sqrt())
    }
}
