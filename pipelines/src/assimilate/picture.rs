//! The map of an analysis with its stations.

use advect_operators::observations::{Fault, Field};

use super::job::Shared;
use super::ledger::Closed;
use crate::error::Result;
use crate::plot::{Canvas, ColourMap, Grid, Map, Scale, Station};

/// Draws a closed cycle, temperatures in °C.
pub(crate) fn draw(shared: &Shared, closed: &Closed) -> Result<Canvas> {
    const ZERO: f64 = 273.15;
    let config = &shared.config;
    let grid = config.grid()?;
    let means = closed.mean.iter().map(|t| t - ZERO).collect();
    let field = on_plot(&Field::try_new(grid, means)?)?;
    let time = jiff::Timestamp::from_nanosecond(i128::from(config.time_of(closed.valid)))
        .map_or_else(
            |_| String::new(),
            |t| t.strftime("%-d %B %Y, %H:%M UTC").to_string(),
        );
    let stations: Vec<Station> = closed
        .verdicts
        .iter()
        .filter(|(_, fault, _)| matches!(fault, None | Some(Fault::Withheld)))
        .map(|(report, fault, _)| Station {
            latitude: report.latitude(),
            longitude: report.longitude(),
            value: report.value() - ZERO,
            withheld: fault.is_some(),
        })
        .collect();
    let used = stations.iter().filter(|s| !s.withheld).count();
    let mut map = Map::new(
        "Surface air temperature: analysis and stations",
        "Temperature (°C)",
        field,
    );
    map.subtitle = format!(
        "{time} · {used} stations assimilated, {} withheld",
        stations.len() - used
    );
    map.scale = Scale::of(map.field.values(), ColourMap::Turbo);
    map.relief = Some(on_plot(&shared.loaded.relief)?);
    map.land = Some(on_plot(&shared.loaded.land)?);
    map.legend = ("assimilated".to_owned(), "withheld".to_owned());
    map.stations = stations;
    Ok(map.draw())
}

fn on_plot(field: &Field) -> Result<Grid> {
    let g = field.grid();
    Grid::try_new(
        (g.latitude(0), g.longitude(0)),
        (g.step(), g.step()),
        (g.rows(), g.columns()),
        field.values().iter().map(|&v| v as f32).collect(),
    )
}
