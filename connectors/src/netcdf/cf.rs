//! The CF conventions on reading: packed numbers, missing values, times.
//!
//! CF-1.10 sections 2.5.1 (missing data), 8.1 (packed data) and 4.4 (time coordinate).

use super::model::{NumberType, Values, Variable};
use crate::error::{ConnectorError, Result};
use crate::time::CfTime;

/// How stored numbers become physical ones: `physical = scale · stored + offset`.
#[derive(Debug, Clone, PartialEq)]
pub struct Packing {
    /// `scale_factor`, 1 if absent.
    pub scale: f64,
    /// `add_offset`, 0 if absent.
    pub offset: f64,
    /// Stored numbers that mean "missing": `_FillValue` and `missing_value`.
    pub missing: Vec<f64>,
}

impl Packing {
    /// The packing that the attributes of a variable declare.
    pub fn of(variable: &Variable) -> Self {
        let number = |name: &str| variable.attributes.get(name).and_then(|a| a.number());
        let mut missing: Vec<f64> = ["_FillValue", "missing_value"]
            .iter()
            .filter_map(|name| variable.attributes.get(*name))
            .flat_map(|a| a.numbers())
            .filter(|x| !x.is_nan())
            .collect();
        if variable.number_type == NumberType::F32 {
            // A missing value of type double is compared as the float it stands for.
            missing.iter_mut().for_each(|m| *m = f64::from(*m as f32));
        }
        let scale = number("scale_factor").unwrap_or(1.0);
        Self {
            scale,
            offset: number("add_offset").unwrap_or(0.0),
            missing,
        }
    }

    fn is_plain(&self) -> bool {
        self.scale == 1.0 && self.offset == 0.0
    }

    /// Physical numbers in double precision; missing ones are NaN.
    pub fn unpack_f64(&self, stored: Values) -> Vec<f64> {
        let mut v = stored.into_f64();
        for x in &mut v {
            *x = if self.missing.contains(x) {
                f64::NAN
            } else {
                self.scale * *x + self.offset
            };
        }
        v
    }

    /// Physical numbers in single precision; missing ones are NaN. Packed integers are unpacked
    /// in double precision and rounded once.
    pub fn unpack_f32(&self, stored: Values) -> Vec<f32> {
        match stored {
            Values::F32(mut v) if self.is_plain() => {
                let missing: Vec<f32> = self.missing.iter().map(|&m| m as f32).collect();
                if !missing.is_empty() {
                    v.iter_mut()
                        .filter(|x| missing.contains(x))
                        .for_each(|x| *x = f32::NAN);
                }
                v
            }
            other => self
                .unpack_f64(other)
                .into_iter()
                .map(|x| x as f32)
                .collect(),
        }
    }
}

/// The instants of a time coordinate in nanoseconds since 1970.
///
/// Errors if its units are no CF time, or a value is missing or out of range.
pub(crate) fn instants(variable: &Variable, stored: Values, place: &str) -> Result<Vec<i64>> {
    let what = format!("time variable `{}`", variable.name);
    let units = variable.text("units").unwrap_or("");
    let axis = CfTime::parse(units, variable.text("calendar"))
        .map_err(|e| ConnectorError::invalid(place, &*what, e, "`<unit> since <date>`"))?;
    let beyond = |x: &dyn std::fmt::Display| {
        ConnectorError::invalid(place, &*what, x, "an instant between 1677 and 2262")
    };
    match stored {
        Values::I64(v) => v
            .into_iter()
            .map(|x| axis.instant(x).ok_or_else(|| beyond(&x)))
            .collect(),
        other => Packing::of(variable)
            .unpack_f64(other)
            .into_iter()
            .map(|x| axis.instant_f64(x).ok_or_else(|| beyond(&x)))
            .collect(),
    }
}
