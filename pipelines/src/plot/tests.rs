//! Pictures show what they are given: colours, places, texts.

use super::*;

fn field() -> Grid {
    // temperature falls to the north by one degree a degree, from 0 at 24 N
    let values = (0..29 * 65).map(|i| -((i / 65) as f32)).collect();
    Grid::try_new((24.0, -128.0), (1.0, 1.0), (29, 65), values).unwrap()
}

fn count(canvas: &Canvas, colour: Rgb) -> usize {
    let all = (0..canvas.height()).flat_map(|y| (0..canvas.width()).map(move |x| (x, y)));
    all.filter(|&(x, y)| canvas.pixel(x, y) == Some(colour))
        .count()
}

#[test]
fn every_band_of_the_scale_is_on_the_map_and_the_size_is_as_asked() {
    let map = Map::new("title", "label", field());
    let canvas = map.draw();
    assert!(canvas.width() == 1400 && (700..=900).contains(&canvas.height()));
    for band in 0..map.scale.bands() {
        let middle = map.scale.low + (band as f64 + 0.5) * map.scale.step;
        // a bar alone has 20 pixels across a band
        let pixels = count(&canvas, map.scale.colour(middle));
        assert!(pixels > 4000, "band {band}: {pixels} pixels");
    }
}

#[test]
fn a_station_is_drawn_in_its_colour_where_it_lies() {
    let plain = Map::new("", "", field());
    let mut map = plain.clone();
    map.scale.high = 40.0;
    let hot = Station {
        latitude: 38.0,
        longitude: -96.0,
        value: 39.0,
        withheld: false,
    };
    map.stations = vec![
        hot,
        Station {
            longitude: -80.0,
            withheld: true,
            ..hot
        },
    ];
    let canvas = map.draw();
    let colour = map.scale.colour(39.0);
    let near = |x: usize, y: usize| canvas.pixel(x, y) == Some(colour);
    let bar = 1400 - 128;
    let found: Vec<_> = (0..canvas.height())
        .flat_map(|y| (0..bar).map(move |x| (x, y)))
        .filter(|&(x, y)| near(x, y))
        .collect();
    let (west, east) = found
        .iter()
        .copied()
        .partition::<Vec<(usize, usize)>, _>(|(x, _)| *x < 760);
    assert!(
        west.len() > 25 && east.len() > 60,
        "{} {}",
        west.len(),
        east.len()
    );
    // the middle of the field lies in the middle of the panel
    let x = west.iter().map(|p| p.0).sum::<usize>() / west.len();
    assert!(x.abs_diff((62 + 1400 - 128) / 2) < 4, "{x}");
}

#[test]
fn the_same_map_gives_the_same_bytes_and_a_png() {
    let mut map = Map::new("title °C", "label", field());
    map.relief = Some(field());
    map.contour = Some(5.0);
    let png = map.draw().to_png().unwrap();
    assert_eq!(png[..8], *b"\x89PNG\r\n\x1a\n");
    assert_eq!(png, map.draw().to_png().unwrap());
}

#[test]
fn colour_maps_are_even_and_balance_is_symmetric() {
    let light = |map: ColourMap, i: i32| map.at(f64::from(i) / 100.0).lightness();
    for map in [ColourMap::Thermal, ColourMap::Viridis] {
        assert!(
            (0..100).all(|i| light(map, i + 1) > light(map, i) - 0.004),
            "{map:?}"
        );
    }
    let scale = Scale::of([-3.0, 7.5].into_iter(), ColourMap::Balance);
    assert_eq!(scale.low, -scale.high);
    assert_ne!(scale.colour(-0.1), scale.colour(-scale.step * 1.1));
}

#[test]
fn a_scale_of_nothing_or_of_one_value_still_has_a_band() {
    for values in [vec![], vec![f64::NAN], vec![3.0, 3.0]] {
        let scale = Scale::of(values.into_iter(), ColourMap::Viridis);
        assert!(scale.bands() >= 1 && scale.high > scale.low);
    }
}

#[test]
fn a_diagram_draws_its_series_and_leaves_gaps() {
    let line = |missing: f64| {
        let y = |i: i32| if i == 5 { missing } else { 1.0 };
        (0..10)
            .map(|i| (f64::from(i), y(i), 0.0))
            .collect::<Vec<_>>()
    };
    let draw = |missing: f64| {
        let diagram = Diagram::new("", "hour", "K")
            .with("a", Mark::Line, line(missing))
            .draw();
        count(&diagram, Rgb::hex(0x0072b2))
    };
    let (whole, broken) = (draw(1.0), draw(f64::NAN));
    assert!(
        broken > 0 && whole > broken + broken / 10,
        "{whole} {broken}"
    );
    let empty = Diagram::new("", "", "").draw();
    assert_eq!(count(&empty, Rgb::hex(0x0072b2)), 0);
}
