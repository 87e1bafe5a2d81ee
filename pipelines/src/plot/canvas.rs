//! Pixels, and shapes with smooth edges on them.

use std::path::Path;

use super::colour::Rgb;
use super::font::{Font, Size};
use crate::error::{PipelineError, Result};

/// A picture of 8-bit red, green and blue; (0, 0) is the upper left corner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Canvas {
    width: usize,
    height: usize,
    pixels: Vec<Rgb>,
}

impl Canvas {
    /// A picture of one colour.
    pub fn new(width: usize, height: usize, colour: Rgb) -> Self {
        Self {
            width,
            height,
            pixels: vec![colour; width * height],
        }
    }

    /// Width in pixels.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Height in pixels.
    pub fn height(&self) -> usize {
        self.height
    }

    /// The colour of a pixel, if it lies on the picture.
    pub fn pixel(&self, x: usize, y: usize) -> Option<Rgb> {
        (x < self.width).then(|| self.pixels.get(y * self.width + x).copied())?
    }

    /// Mixes `colour` into a pixel; `cover` 1 replaces it, 0 leaves it. Off the picture: nothing.
    pub(crate) fn blend(&mut self, x: i64, y: i64, colour: Rgb, cover: f64) {
        let (Ok(x), Ok(y)) = (usize::try_from(x), usize::try_from(y)) else {
            return;
        };
        if x < self.width && y < self.height {
            let pixel = &mut self.pixels[y * self.width + x];
            *pixel = pixel.mix(colour, cover.clamp(0.0, 1.0));
        }
    }

    /// Covers every pixel near a box by what `cover` says of its centre.
    fn shape(
        &mut self,
        (left, top): (f64, f64),
        (right, bottom): (f64, f64),
        colour: Rgb,
        cover: impl Fn(f64, f64) -> f64,
    ) {
        let within = |v: f64, most: usize| v.clamp(-2.0, most as f64 + 2.0) as i64;
        for y in within(top - 1.0, self.height)..=within(bottom + 1.0, self.height) {
            for x in within(left - 1.0, self.width)..=within(right + 1.0, self.width) {
                let c = cover(x as f64 + 0.5, y as f64 + 0.5);
                if c > 0.0 {
                    self.blend(x, y, colour, c);
                }
            }
        }
    }

    /// A straight line of a width, with round ends.
    pub(crate) fn line(&mut self, from: (f64, f64), to: (f64, f64), width: f64, colour: Rgb) {
        let half = width / 2.0;
        let (dx, dy) = (to.0 - from.0, to.1 - from.1);
        let square = (dx * dx + dy * dy).max(1e-12);
        let low = (from.0.min(to.0) - half, from.1.min(to.1) - half);
        let high = (from.0.max(to.0) + half, from.1.max(to.1) + half);
        self.shape(low, high, colour, |x, y| {
            let t = ((x - from.0) * dx + (y - from.1) * dy) / square;
            let t = t.clamp(0.0, 1.0);
            half + 0.5 - (x - from.0 - t * dx).hypot(y - from.1 - t * dy)
        });
    }

    /// A filled disc.
    pub(crate) fn disc(&mut self, centre: (f64, f64), radius: f64, colour: Rgb) {
        let low = (centre.0 - radius, centre.1 - radius);
        let high = (centre.0 + radius, centre.1 + radius);
        self.shape(low, high, colour, |x, y| {
            radius + 0.5 - (x - centre.0).hypot(y - centre.1)
        });
    }

    /// A filled rectangle between two corners, its edges smooth where they cut a pixel.
    pub(crate) fn rectangle(&mut self, low: (f64, f64), high: (f64, f64), colour: Rgb) {
        self.shape(low, high, colour, |x, y| {
            let along = |v: f64, low: f64, high: f64| {
                ((v + 0.5).min(high) - (v - 0.5).max(low)).clamp(0.0, 1.0)
            };
            along(x, low.0, high.0) * along(y, low.1, high.1)
        });
    }

    /// The outline of a rectangle, one pixel wide, on whole pixels.
    pub(crate) fn frame(&mut self, low: (f64, f64), high: (f64, f64), colour: Rgb) {
        let (l, t, r, b) = (low.0.floor(), low.1.floor(), high.0.ceil(), high.1.ceil());
        self.rectangle((l, t), (r, t + 1.0), colour);
        self.rectangle((l, b - 1.0), (r, b), colour);
        self.rectangle((l, t), (l + 1.0, b), colour);
        self.rectangle((r - 1.0, t), (r, b), colour);
    }

    /// A text; `anchor` says which part of it lies at `at`: (0, 0) its upper left, (1, 1) its lower
    /// right corner. A sign that the font lacks is left out.
    pub(crate) fn text(
        &mut self,
        text: &str,
        at: (f64, f64),
        anchor: (f64, f64),
        size: Size,
        colour: Rgb,
    ) {
        let font = Font::of(size);
        let x = (at.0 - anchor.0 * font.width(text)).round();
        let y = (at.1 - anchor.1 * font.height()).round();
        font.each_pixel(text, |dx, dy, cover| {
            self.blend(x as i64 + dx, y as i64 + dy, colour, cover);
        });
    }

    /// A text that reads from bottom to top; `at` is its centre.
    pub(crate) fn text_upwards(&mut self, text: &str, at: (f64, f64), size: Size, colour: Rgb) {
        let font = Font::of(size);
        let x = (at.0 - font.height() / 2.0).round();
        let y = (at.1 + font.width(text) / 2.0).round();
        font.each_pixel(text, |dx, dy, cover| {
            self.blend(x as i64 + dy, y as i64 - dx, colour, cover);
        });
    }

    /// The picture as a PNG file in memory.
    ///
    /// # Errors
    /// If the picture has no pixels.
    pub fn to_png(&self) -> Result<Vec<u8>> {
        let failed = |e: png::EncodingError| PipelineError::Failed {
            pipeline: "plot".to_owned(),
            why: format!("a picture of {} x {}: {e}", self.width, self.height),
        };
        let mut out = Vec::new();
        let (width, height) = (self.width as u32, self.height as u32);
        let mut encoder = png::Encoder::new(&mut out, width, height);
        encoder.set_color(png::ColorType::Rgb);
        encoder.set_depth(png::BitDepth::Eight);
        let mut writer = encoder.write_header().map_err(failed)?;
        let bytes: Vec<u8> = self.pixels.iter().flat_map(|p| p.0).collect();
        writer.write_image_data(&bytes).map_err(failed)?;
        writer.finish().map_err(failed)?;
        Ok(out)
    }

    /// Writes the picture as a PNG file.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn save(&self, path: &Path) -> Result<()> {
        let mend = "choose another directory with --out";
        std::fs::write(path, self.to_png()?).map_err(PipelineError::file("write", path, mend))
    }
}
