//! From the earth to the plane and back (Snyder 1987, USGS Professional Paper 1395).

/// How the earth is laid flat. Degrees on the earth, earth radii on the plane, y to the north.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Projection {
    /// Equidistant cylindrical (Snyder eq. 12-1), true along the parallel `latitude`.
    PlateCarree {
        /// The parallel along which lengths are true.
        latitude: f64,
        /// The meridian in the middle.
        longitude: f64,
    },
    /// Lambert conformal conic (Snyder eq. 15-1 to 15-4) with one standard parallel.
    Lambert {
        /// The standard parallel; not the equator.
        latitude: f64,
        /// The meridian in the middle.
        longitude: f64,
    },
}

impl Projection {
    /// A projection for a box of degrees: conic at middle latitudes where the box is not too wide,
    /// else plate carrée.
    pub fn for_box((south, west, north, east): (f64, f64, f64, f64)) -> Self {
        let (latitude, longitude) = ((south + north) / 2.0, (west + east) / 2.0);
        let conic = latitude.abs() > 20.0 && east - west <= 120.0 && south * north > 0.0;
        if conic && north < 85.0 && south > -85.0 {
            Self::Lambert {
                latitude,
                longitude,
            }
        } else {
            Self::PlateCarree {
                latitude,
                longitude,
            }
        }
    }

    /// The place on the plane of a latitude and longitude.
    pub fn forward(&self, latitude: f64, longitude: f64) -> (f64, f64) {
        match *self {
            Self::PlateCarree {
                latitude: true_at,
                longitude: middle,
            } => {
                let across = from_middle(longitude, middle).to_radians();
                (across * true_at.to_radians().cos(), latitude.to_radians())
            }
            Self::Lambert {
                latitude: standard,
                longitude: middle,
            } => {
                let (n, f, rho0) = cone(standard);
                let rho = f / half_angle(latitude).powf(n);
                let theta = n * from_middle(longitude, middle).to_radians();
                (rho * theta.sin(), rho0 - rho * theta.cos())
            }
        }
    }

    /// The latitude and longitude of a place on the plane; the inverse of
    /// [`forward`](Self::forward) within 180° of the middle meridian.
    pub fn inverse(&self, x: f64, y: f64) -> (f64, f64) {
        match *self {
            Self::PlateCarree {
                latitude: true_at,
                longitude: middle,
            } => {
                let across = (x / true_at.to_radians().cos()).to_degrees();
                (y.to_degrees(), middle + across)
            }
            Self::Lambert {
                latitude: standard,
                longitude: middle,
            } => {
                let (n, f, rho0) = cone(standard);
                let (x, y) = (x * n.signum(), (rho0 - y) * n.signum());
                let rho = x.hypot(y) * n.signum();
                let latitude = 2.0 * (f / rho).powf(1.0 / n).atan() - std::f64::consts::FRAC_PI_2;
                (
                    latitude.to_degrees(),
                    middle + (x.atan2(y) / n).to_degrees(),
                )
            }
        }
    }
}

/// Degrees east of the middle meridian, −180 to 180.
fn from_middle(longitude: f64, middle: f64) -> f64 {
    (longitude - middle + 180.0).rem_euclid(360.0) - 180.0
}

/// tan(π/4 + φ/2).
fn half_angle(latitude: f64) -> f64 {
    (std::f64::consts::FRAC_PI_4 + latitude.to_radians() / 2.0).tan()
}

/// Constant of the cone, F, and the radius of the standard parallel.
fn cone(standard: f64) -> (f64, f64, f64) {
    let n = standard.to_radians().sin();
    let f = standard.to_radians().cos() * half_angle(standard).powf(n) / n;
    (n, f, f / half_angle(standard).powf(n))
}

#[cfg(test)]
mod tests {
    use super::*;

    const EARTH: [Projection; 3] = [
        Projection::PlateCarree {
            latitude: 38.0,
            longitude: -96.0,
        },
        Projection::Lambert {
            latitude: 38.0,
            longitude: -96.0,
        },
        Projection::Lambert {
            latitude: -35.0,
            longitude: 150.0,
        },
    ];

    #[test]
    fn the_inverse_gives_the_place_back() {
        for projection in EARTH {
            for (latitude, across) in [(38.0, 0.0), (24.0, -32.0), (52.0, 31.0), (60.0, 70.0)] {
                let (sign, middle) = match projection {
                    Projection::PlateCarree { longitude, .. } => (1.0, longitude),
                    Projection::Lambert {
                        latitude,
                        longitude,
                    } => (latitude.signum(), longitude),
                };
                let place = (sign * latitude, middle + across);
                let (x, y) = projection.forward(place.0, place.1);
                let back = projection.inverse(x, y);
                let off = (back.0 - place.0).abs() + (back.1 - place.1).abs();
                assert!(off < 1e-9, "{projection:?} {place:?} {back:?}");
            }
        }
    }

    #[test]
    fn lambert_is_conformal_and_true_on_its_parallel() {
        for projection in EARTH {
            let Projection::Lambert {
                latitude,
                longitude,
            } = projection
            else {
                continue;
            };
            let at = |a: f64, b: f64| projection.forward(latitude + a, longitude + b);
            let h = 1e-4f64;
            let (north, east, here) = (at(h, 0.0), at(0.0, h), at(0.0, 0.0));
            let up = (north.1 - here.1).hypot(north.0 - here.0) / h.to_radians();
            let wide = (east.0 - here.0) / (h.to_radians() * latitude.to_radians().cos());
            assert!(
                (up - 1.0).abs() < 1e-5 && (wide - 1.0).abs() < 1e-5,
                "{up} {wide}"
            );
        }
    }

    #[test]
    fn the_pole_lies_at_the_tip_of_the_cone() {
        // the cone touches at 45 degrees: its tip is cot 45 = 1 away
        let projection = Projection::Lambert {
            latitude: 45.0,
            longitude: 0.0,
        };
        let (x, y) = projection.forward(89.9999, 10.0);
        assert!(x.abs() < 1e-3 && (y - 1.0).abs() < 1e-3, "{x} {y}");
    }
}
