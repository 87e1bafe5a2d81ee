//! Texts: strips of ready-made glyphs in three sizes.
//!
//! The strips were drawn from DejaVu Sans (Bitstream Vera licence, free to use and embed). Beside
//! each stands a table: first line the height, the ascent and the width of a space, then for every
//! glyph its sign, its width in the strip, how far it starts right of the pen, and how far the pen
//! moves, all in pixels.

use std::collections::BTreeMap;
use std::sync::LazyLock;

/// How large a text is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Size {
    /// 14 pixels: ticks and notes.
    Small,
    /// 17 pixels: labels.
    Medium,
    /// 24 pixels, bold: titles.
    Large,
}

/// A glyph of the strip.
#[derive(Debug)]
struct Glyph {
    at: usize,
    width: usize,
    bearing: f64,
    advance: f64,
}

/// A font of one size.
#[derive(Debug)]
pub(crate) struct Font {
    strip: Vec<u8>,
    strip_width: usize,
    height: usize,
    space: f64,
    glyphs: BTreeMap<char, Glyph>,
}

static FONTS: LazyLock<[Font; 3]> = LazyLock::new(|| {
    [
        Font::read(
            include_bytes!("font/small.png"),
            include_str!("font/small.txt"),
        ),
        Font::read(
            include_bytes!("font/medium.png"),
            include_str!("font/medium.txt"),
        ),
        Font::read(
            include_bytes!("font/large.png"),
            include_str!("font/large.txt"),
        ),
    ]
});

impl Font {
    pub(crate) fn of(size: Size) -> &'static Font {
        &FONTS[size as usize]
    }

    /// Reads an embedded strip and its table; what cannot be read leaves glyphs out.
    fn read(png: &[u8], table: &str) -> Font {
        let mut lines = table.lines();
        let head = lines.next().unwrap_or("");
        let head: Vec<f64> = head.split(' ').filter_map(|w| w.parse().ok()).collect();
        let mut at = 0;
        let glyphs = lines.filter_map(|line| {
            let mut words = line.split(' ');
            let sign = words.next()?.chars().next()?;
            let (width, bearing) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
            let advance = words.next()?.parse().ok()?;
            let glyph = Glyph {
                at,
                width,
                bearing,
                advance,
            };
            at += width;
            Some((sign, glyph))
        });
        let glyphs = glyphs.collect();
        let (strip, strip_width) = decode(png).unwrap_or_default();
        Font {
            strip,
            strip_width,
            height: head.first().map_or(0, |&h| h as usize),
            space: head.get(2).copied().unwrap_or(0.0),
            glyphs,
        }
    }

    pub(crate) fn height(&self) -> f64 {
        self.height as f64
    }

    pub(crate) fn width(&self, text: &str) -> f64 {
        text.chars()
            .map(|c| self.glyphs.get(&c).map_or(self.space, |g| g.advance))
            .sum()
    }

    /// Calls `pixel(x, y, cover)` for every inked pixel of a text whose upper left is (0, 0).
    pub(crate) fn each_pixel(&self, text: &str, mut pixel: impl FnMut(i64, i64, f64)) {
        let mut pen = 0.0;
        for sign in text.chars() {
            let Some(glyph) = self.glyphs.get(&sign) else {
                pen += self.space;
                continue;
            };
            let left = (pen + glyph.bearing).round() as i64;
            for y in 0..self.height {
                let row = y * self.strip_width + glyph.at;
                let inked = self.strip.get(row..row + glyph.width).unwrap_or(&[]);
                for (x, &ink) in inked.iter().enumerate().filter(|(_, ink)| **ink > 0) {
                    pixel(left + x as i64, y as i64, f64::from(ink) / 255.0);
                }
            }
            pen += glyph.advance;
        }
    }
}

/// The grey values of a PNG file and its width.
fn decode(png: &[u8]) -> Option<(Vec<u8>, usize)> {
    let mut decoder = png::Decoder::new(std::io::Cursor::new(png));
    decoder.set_transformations(png::Transformations::EXPAND);
    let mut reader = decoder.read_info().ok()?;
    let mut pixels = vec![0; reader.output_buffer_size()?];
    let info = reader.next_frame(&mut pixels).ok()?;
    (info.color_type == png::ColorType::Grayscale).then_some((pixels, info.width as usize))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_strip_has_the_signs_of_figures_and_labels() {
        for size in [Size::Small, Size::Medium, Size::Large] {
            let font = Font::of(size);
            for sign in ('!'..='~').chain("°±−µ²·–≤≥Δσ".chars()) {
                let mut ink = 0.0;
                font.each_pixel(&sign.to_string(), |_, _, cover| ink += cover);
                assert!(ink > 1.0, "{sign} has no ink in {size:?}");
            }
            let strip: usize = font.glyphs.values().map(|g| g.width).sum();
            assert_eq!(strip, font.strip_width);
            assert_eq!(font.width("  "), 2.0 * font.space);
        }
    }
}
