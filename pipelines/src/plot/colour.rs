//! Colours, colour maps of even perception, and the levels that a field is cut into.

use super::axis::ticks;

/// Red, green and blue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rgb(pub [u8; 3]);

impl Rgb {
    /// White.
    pub const WHITE: Rgb = Rgb([255; 3]);
    /// A black that is easy on the eye.
    pub const INK: Rgb = Rgb([30, 30, 34]);
    /// A middle grey.
    pub const GREY: Rgb = Rgb([120, 122, 126]);

    /// From `0xrrggbb`.
    pub const fn hex(code: u32) -> Rgb {
        Rgb([(code >> 16) as u8, (code >> 8) as u8, code as u8])
    }

    /// `self` at 0, `other` at 1.
    pub fn mix(self, other: Rgb, share: f64) -> Rgb {
        let mix = |a: u8, b: u8| (f64::from(a) + (f64::from(b) - f64::from(a)) * share).round();
        Rgb(std::array::from_fn(|i| mix(self.0[i], other.0[i]) as u8))
    }

    /// Lighter (above 1) or darker (below 1).
    pub fn shade(self, factor: f64) -> Rgb {
        Rgb(self
            .0
            .map(|c| (f64::from(c) * factor).clamp(0.0, 255.0).round() as u8))
    }

    /// How light it looks, 0 to 1 (Rec. 709 weights).
    pub fn lightness(self) -> f64 {
        let [r, g, b] = self.0.map(f64::from);
        (0.2126 * r + 0.7152 * g + 0.0722 * b) / 255.0
    }
}

/// A colour map, of even perception but for Turbo, at 17 places from the lowest to the highest value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ColourMap {
    /// For temperature: dark blue, violet, orange, yellow (cmocean, Thyng et al. 2016,
    /// doi:10.5670/oceanog.2016.66).
    Thermal,
    /// For temperature as forecasters know it: blue, green, yellow, red; smooth, but lightest in
    /// the middle (Turbo, Mikhailov 2019).
    Turbo,
    /// For differences: blue, white, red, even to both sides of the middle (cmocean).
    Balance,
    /// For amounts that are never negative: violet, green, yellow (matplotlib).
    Viridis,
}

const THERMAL: [u32; 17] = [
    0x042333, 0x082e54, 0x19337c, 0x39339e, 0x563b9c, 0x6d4694, 0x83508f, 0x995889, 0xb15f82,
    0xc96775, 0xdf7064, 0xf07f50, 0xf99341, 0xfcac3c, 0xf9c641, 0xf2e14d, 0xe8fa5b,
];
const TURBO: [u32; 17] = [
    0x30123b, 0x4040a2, 0x466be3, 0x4294ff, 0x28bceb, 0x18ddc2, 0x32f298, 0x6dfe62, 0xa4fc3c,
    0xcdec34, 0xeecf3a, 0xfdac34, 0xfb7e21, 0xeb500e, 0xd02f05, 0xa91601, 0x7a0403,
];
const BALANCE: [u32; 17] = [
    0x181c43, 0x263276, 0x2548b0, 0x0f6abd, 0x3888ba, 0x65a2bc, 0x98bac5, 0xc7d2d7, 0xf1eceb,
    0xe2c7be, 0xd7a290, 0xcc7d63, 0xbf573a, 0xae2e24, 0x8d1029, 0x630e23, 0x3c0912,
];
const VIRIDIS: [u32; 17] = [
    0x440154, 0x48186a, 0x472d7b, 0x424086, 0x3b528b, 0x33638d, 0x2c728e, 0x26828e, 0x21918c,
    0x1fa088, 0x28ae80, 0x3fbc73, 0x5ec962, 0x84d44b, 0xaddc30, 0xd8e219, 0xfde725,
];

impl ColourMap {
    /// The colour at a place between 0 and 1; places outside take the ends.
    pub fn at(self, place: f64) -> Rgb {
        let table = match self {
            Self::Thermal => &THERMAL,
            Self::Turbo => &TURBO,
            Self::Balance => &BALANCE,
            Self::Viridis => &VIRIDIS,
        };
        let along = place.clamp(0.0, 1.0) * (table.len() - 1) as f64;
        let low = (along as usize).min(table.len() - 2);
        Rgb::hex(table[low]).mix(Rgb::hex(table[low + 1]), along - low as f64)
    }
}

/// Which colour a value has: bands of equal width between a lowest and a highest value.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Scale {
    /// The colours.
    pub colours: ColourMap,
    /// Lower end of the lowest band.
    pub low: f64,
    /// Upper end of the highest band.
    pub high: f64,
    /// Width of a band, in the units of the field.
    pub step: f64,
}

impl Scale {
    /// Ten to some thirty bands with round ends that hold all `values`; missing ones (NaN) are passed over.
    pub fn of(values: impl Iterator<Item = f64>, colours: ColourMap) -> Self {
        let (mut low, mut high) = (f64::INFINITY, f64::NEG_INFINITY);
        for v in values.filter(|v| v.is_finite()) {
            (low, high) = (low.min(v), high.max(v));
        }
        if low > high {
            (low, high) = (0.0, 1.0);
        }
        if colours == ColourMap::Balance {
            (low, high) = (-low.abs().max(high.abs()), low.abs().max(high.abs()));
        }
        let step = super::axis::round_step((high - low).max(1e-6) / 30.0);
        let (low, high) = ((low / step).floor() * step, (high / step).ceil() * step);
        let high = if high > low { high } else { low + step };
        Self {
            colours,
            low,
            high,
            step,
        }
    }

    /// Number of bands.
    pub fn bands(&self) -> usize {
        (((self.high - self.low) / self.step).round() as usize).max(1)
    }

    /// The colour of a value.
    pub fn colour(&self, value: f64) -> Rgb {
        let bands = self.bands() as f64;
        let band = ((value - self.low) / self.step)
            .floor()
            .clamp(0.0, bands - 1.0);
        self.colours.at((band + 0.5) / bands)
    }

    /// Values that are labelled on a colour bar with room for `most` labels.
    pub fn labels(&self, most: usize) -> Vec<f64> {
        let every = self.bands().div_ceil(most.max(1)).max(1);
        ticks(self.low, self.high, self.step * every as f64)
    }
}
