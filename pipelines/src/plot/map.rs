//! A field on a map, with relief, coast lines, stations, graticule and colour bar.

use super::canvas::Canvas;
use super::colour::{Rgb, Scale};
use super::font::Size;
use super::grid::Grid;
use super::projection::Projection;
use super::{ground, overlay};

/// A measurement at a place.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Station {
    /// Degrees north.
    pub latitude: f64,
    /// Degrees east.
    pub longitude: f64,
    /// In the units of the field.
    pub value: f64,
    /// Not used by the analysis, only to verify it: drawn as a square.
    pub withheld: bool,
}

/// A map; [`draw`](Map::draw) gives the picture.
#[derive(Debug, Clone)]
pub struct Map {
    /// The heading.
    pub title: String,
    /// A line below the heading: what, when, where from.
    pub subtitle: String,
    /// What the colours show, with units, at the colour bar: `"2 m temperature (°C)"`.
    pub label: String,
    /// The field.
    pub field: Grid,
    /// Colours of the field and of the stations.
    pub scale: Scale,
    /// Draw a line each time so many units of the field.
    pub contour: Option<f64>,
    /// Height of the ground in metres: hill shading, and the coast line at 0 m.
    pub relief: Option<Grid>,
    /// Share of land, 0 to 1. With a relief it adds the shores of lakes above the sea, without
    /// one it gives the coast line, at one half.
    pub land: Option<Grid>,
    /// Measurements, drawn in the colours of the field.
    pub stations: Vec<Station>,
    /// What the two kinds of stations are called in the legend: used, withheld.
    pub legend: (String, String),
    /// How the earth is laid flat.
    pub projection: Projection,
    /// Width and greatest height of the picture in pixels; what the map does not need of the
    /// height is left off.
    pub size: (usize, usize),
}

/// Where the map lies on the picture.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Panel {
    pub(crate) low: (f64, f64),
    pub(crate) high: (f64, f64),
    projection: Projection,
    /// Pixels an earth radius.
    zoom: f64,
    /// Place on the plane of the middle of the panel.
    middle: (f64, f64),
}

impl Panel {
    /// The pixel of a place on the earth.
    pub(crate) fn pixel(&self, latitude: f64, longitude: f64) -> (f64, f64) {
        let (x, y) = self.projection.forward(latitude, longitude);
        let centre = self.centre();
        (
            centre.0 + (x - self.middle.0) * self.zoom,
            centre.1 - (y - self.middle.1) * self.zoom,
        )
    }

    /// The place on the earth of a pixel.
    pub(crate) fn place(&self, x: f64, y: f64) -> (f64, f64) {
        let centre = self.centre();
        let across = self.middle.0 + (x - centre.0) / self.zoom;
        let up = self.middle.1 - (y - centre.1) / self.zoom;
        self.projection.inverse(across, up)
    }

    pub(crate) fn contains(&self, (x, y): (f64, f64)) -> bool {
        x >= self.low.0 && x <= self.high.0 && y >= self.low.1 && y <= self.high.1
    }

    fn centre(&self) -> (f64, f64) {
        (
            (self.low.0 + self.high.0) / 2.0,
            (self.low.1 + self.high.1) / 2.0,
        )
    }
}

/// Pixels around the panel: left, top, right, bottom.
const MARGIN: (f64, f64, f64, f64) = (62.0, 84.0, 128.0, 64.0);

impl Map {
    /// A map of a field with colours of its range, 1400 x 900 pixels, without anything else.
    pub fn new(title: &str, label: &str, field: Grid) -> Self {
        let scale = Scale::of(field.values(), super::ColourMap::Thermal);
        let projection = Projection::for_box(field.edges());
        Self {
            title: title.to_owned(),
            subtitle: String::new(),
            label: label.to_owned(),
            field,
            scale,
            contour: None,
            relief: None,
            land: None,
            stations: Vec::new(),
            legend: ("station".to_owned(), "withheld station".to_owned()),
            projection,
            size: (1400, 900),
        }
    }

    /// Draws the map. A picture too small for its margins shows what fits.
    pub fn draw(&self) -> Canvas {
        let panel = self.panel();
        let height = ((panel.high.1 + MARGIN.3) as usize).min(self.size.1);
        let mut canvas = Canvas::new(self.size.0, height, Rgb::WHITE);
        ground::draw(&mut canvas, self, &panel);
        overlay::graticule(&mut canvas, self.field.edges(), &panel);
        overlay::stations(&mut canvas, self, &panel);
        canvas.frame(panel.low, panel.high, Rgb::INK);
        overlay::colour_bar(&mut canvas, self, &panel);
        overlay::legend(&mut canvas, self, &panel);
        let left = panel.low.0;
        canvas.text(&self.title, (left, 18.0), (0.0, 0.0), Size::Large, Rgb::INK);
        let at = (left, 50.0);
        canvas.text(&self.subtitle, at, (0.0, 0.0), Size::Medium, Rgb::GREY);
        canvas
    }

    /// The largest panel that holds the whole field within the margins, in true proportions.
    fn panel(&self) -> Panel {
        let (left, top, right, bottom) = MARGIN;
        let room = (
            (self.size.0 as f64 - left - right).max(1.0),
            (self.size.1 as f64 - top - bottom).max(1.0),
        );
        let (south, west, north, east) = self.field.edges();
        let (mut low, mut high) = ((f64::MAX, f64::MAX), (f64::MIN, f64::MIN));
        let along = |a: f64, b: f64, i: usize| a + (b - a) * i as f64 / 64.0;
        for i in 0..=64 {
            let (latitude, longitude) = (along(south, north, i), along(west, east, i));
            let edge = [
                (latitude, west),
                (latitude, east),
                (south, longitude),
                (north, longitude),
            ];
            for (latitude, longitude) in edge {
                // the edges of a field that goes all around are one meridian on both sides
                let inside = longitude.clamp(west + 1e-6, west + 360.0 - 1e-6);
                let (x, y) = self.projection.forward(latitude, inside);
                low = (low.0.min(x), low.1.min(y));
                high = (high.0.max(x), high.1.max(y));
            }
        }
        let wide = (high.0 - low.0).max(1e-9);
        let tall = (high.1 - low.1).max(1e-9);
        let zoom = (room.0 / wide).min(room.1 / tall);
        let size = ((wide * zoom).round(), (tall * zoom).round());
        let corner = (left + ((room.0 - size.0) / 2.0).floor(), top);
        Panel {
            low: corner,
            high: (corner.0 + size.0, corner.1 + size.1),
            projection: self.projection,
            zoom,
            middle: ((low.0 + high.0) / 2.0, (low.1 + high.1) / 2.0),
        }
    }
}
