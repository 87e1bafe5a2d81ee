//! Series over an axis: lines or points, with error bars.

use super::axis::{label, round_step, ticks};
use super::canvas::Canvas;
use super::colour::Rgb;
use super::font::{Font, Size};

/// How a series is drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mark {
    /// A line through all points.
    Line,
    /// Points only.
    Points,
    /// A line with a point at each value.
    Both,
}

/// A series of a diagram.
#[derive(Debug, Clone, PartialEq)]
pub struct Series {
    /// Its name in the legend.
    pub name: String,
    /// Its colour.
    pub colour: Rgb,
    /// How it is drawn.
    pub mark: Mark,
    /// (x, y, half the length of the error bar or 0). A y that is not finite leaves a gap.
    pub points: Vec<(f64, f64, f64)>,
}

/// Series over an axis; [`draw`](Diagram::draw) gives the picture.
#[derive(Debug, Clone, PartialEq)]
pub struct Diagram {
    /// The heading.
    pub title: String,
    /// A line below the heading.
    pub subtitle: String,
    /// What is to the right, with units.
    pub x_label: String,
    /// What is up, with units.
    pub y_label: String,
    /// Whether the axis upwards begins at zero.
    pub from_zero: bool,
    /// The series, later ones over earlier ones.
    pub series: Vec<Series>,
    /// Width and height of the picture in pixels.
    pub size: (usize, usize),
}

/// Colours that differ for most kinds of colour vision (Okabe and Ito 2008).
const COLOURS: [u32; 7] = [
    0x0072b2, 0xd55e00, 0x009e73, 0xcc79a7, 0x56b4e9, 0xe69f00, 0x555555,
];
const MARGIN: (f64, f64, f64, f64) = (84.0, 84.0, 30.0, 70.0);
const FAINT: Rgb = Rgb::hex(0xe2e3e6);

impl Diagram {
    /// A diagram without series, 1100 x 620 pixels.
    pub fn new(title: &str, x_label: &str, y_label: &str) -> Self {
        Self {
            title: title.to_owned(),
            subtitle: String::new(),
            x_label: x_label.to_owned(),
            y_label: y_label.to_owned(),
            from_zero: true,
            series: Vec::new(),
            size: (1100, 620),
        }
    }

    /// Adds a series in the next colour.
    #[must_use]
    pub fn with(mut self, name: &str, mark: Mark, points: Vec<(f64, f64, f64)>) -> Self {
        let colour = Rgb::hex(COLOURS[self.series.len() % COLOURS.len()]);
        let name = name.to_owned();
        self.series.push(Series {
            name,
            colour,
            mark,
            points,
        });
        self
    }

    /// Draws the diagram.
    pub fn draw(&self) -> Canvas {
        let mut canvas = Canvas::new(self.size.0, self.size.1, Rgb::WHITE);
        let points = || self.series.iter().flat_map(|s| &s.points);
        let x = Axis::of(points().map(|p| p.0), false, 12.0);
        let y = Axis::of(
            points().flat_map(|p| [p.1 - p.2, p.1 + p.2]),
            self.from_zero,
            8.0,
        );
        let low = (MARGIN.0, MARGIN.1);
        let high = (self.size.0 as f64 - MARGIN.2, self.size.1 as f64 - MARGIN.3);
        let place = |a: f64, b: f64| {
            (
                low.0 + x.share(a) * (high.0 - low.0),
                high.1 - y.share(b) * (high.1 - low.1),
            )
        };
        for v in ticks(y.low, y.high, y.step) {
            let at = place(x.low, v).1.round();
            canvas.rectangle((low.0, at), (high.0, at + 1.0), FAINT);
            let end = (low.0 - 8.0, at);
            canvas.text(&label(v, y.step), end, (1.0, 0.5), Size::Small, Rgb::INK);
        }
        for v in ticks(x.low, x.high, x.step) {
            let at = place(v, y.low).0.round();
            canvas.rectangle((at, low.1), (at + 1.0, high.1), FAINT);
            let end = (at, high.1 + 8.0);
            canvas.text(&label(v, x.step), end, (0.5, 0.0), Size::Small, Rgb::INK);
        }
        for series in &self.series {
            series.draw(&mut canvas, &place);
        }
        canvas.frame(low, high, Rgb::INK);
        self.texts(&mut canvas, low, high);
        canvas
    }

    fn texts(&self, canvas: &mut Canvas, low: (f64, f64), high: (f64, f64)) {
        canvas.text(
            &self.title,
            (low.0, 18.0),
            (0.0, 0.0),
            Size::Large,
            Rgb::INK,
        );
        let at = (low.0, 50.0);
        canvas.text(&self.subtitle, at, (0.0, 0.0), Size::Medium, Rgb::GREY);
        let below = ((low.0 + high.0) / 2.0, high.1 + 36.0);
        canvas.text(&self.x_label, below, (0.5, 0.0), Size::Medium, Rgb::INK);
        let beside = (low.0 - 62.0, (low.1 + high.1) / 2.0);
        canvas.text_upwards(&self.y_label, beside, Size::Medium, Rgb::INK);
        let mut right = high.0;
        for series in self.series.iter().rev() {
            let at = (right, low.1 - 14.0);
            canvas.text(&series.name, at, (1.0, 0.5), Size::Small, Rgb::INK);
            right -= Font::of(Size::Small).width(&series.name) + 6.0;
            let y = low.1 - 13.0;
            canvas.line((right - 22.0, y), (right - 2.0, y), 2.5, series.colour);
            right -= 22.0 + 20.0;
        }
    }
}

impl Series {
    fn draw(&self, canvas: &mut Canvas, place: &dyn Fn(f64, f64) -> (f64, f64)) {
        let fine = |p: &&(f64, f64, f64)| p.0.is_finite() && p.1.is_finite();
        for &(x, y, bar) in self.points.iter().filter(fine) {
            if bar > 0.0 && bar.is_finite() {
                let (top, bottom) = (place(x, y + bar), place(x, y - bar));
                let pale = self.colour.mix(Rgb::WHITE, 0.45);
                canvas.line(top, bottom, 1.5, pale);
                for end in [top, bottom] {
                    canvas.line((end.0 - 4.0, end.1), (end.0 + 4.0, end.1), 1.5, pale);
                }
            }
        }
        if self.mark != Mark::Points {
            for pair in self.points.windows(2) {
                if pair.iter().all(|p| fine(&p)) {
                    let ends = (place(pair[0].0, pair[0].1), place(pair[1].0, pair[1].1));
                    canvas.line(ends.0, ends.1, 2.2, self.colour);
                }
            }
        }
        if self.mark != Mark::Line {
            for &(x, y, _) in self.points.iter().filter(fine) {
                canvas.disc(place(x, y), 4.0, self.colour);
            }
        }
    }
}

/// An axis with round ends.
struct Axis {
    low: f64,
    high: f64,
    step: f64,
}

impl Axis {
    fn of(values: impl Iterator<Item = f64>, from_zero: bool, steps: f64) -> Self {
        let (mut low, mut high) = if from_zero {
            (0.0f64, 0.0f64)
        } else {
            (f64::INFINITY, f64::NEG_INFINITY)
        };
        for v in values.filter(|v| v.is_finite()) {
            (low, high) = (low.min(v), high.max(v));
        }
        if low > high {
            (low, high) = (0.0, 1.0);
        }
        let step = round_step(((high - low) / steps).max(1e-9 * high.abs()).max(1e-12));
        let (low, high) = ((low / step).floor() * step, (high / step).ceil() * step);
        Self {
            low,
            high: if high > low { high } else { low + step },
            step,
        }
    }

    fn share(&self, value: f64) -> f64 {
        (value - self.low) / (self.high - self.low)
    }
}
