//! Layers lie over each other in order, each value keeps its place, and errors name the mend.

use std::io::Write;

use serde::Deserialize;

use super::{Config, ConfigError, Origin, Sources, resolve};
use crate::error::Result;
use crate::pipeline::{Choice, Pipeline, Preset, Run};
use crate::plan::Plan;

/// A pipeline with every kind of value.
pub(super) struct Sample;

pub(super) const DEFAULT: &str = r#"
data = "small"
seeds = [1, 2]
[filter]
members = 20         # of the ensemble
inflation = 1.5
[method.letkf]
radius = 4.0
[input]
files = [{ path = "a.nc", weight = 0.5 }]
quick = false
"#;

impl Pipeline for Sample {
    fn name(&self) -> &'static str {
        "sample"
    }
    fn about(&self) -> &'static str {
        "every kind of value"
    }
    fn default_config(&self) -> &'static str {
        DEFAULT
    }
    fn presets(&self) -> &'static [Preset] {
        &[
            Preset {
                name: "small",
                about: "little",
                text: "",
            },
            Preset {
                name: "large",
                about: "much",
                text: "[filter]\nmembers = 80\n[method.oi]\nlength = 2",
            },
        ]
    }
    fn choices(&self) -> &'static [Choice] {
        &["method"]
    }
    fn check(&self, _: &Config) -> Result<Vec<String>> {
        Ok(Vec::new())
    }
    fn plan(&self, _: &Config, _: &advect_engine::Fabric) -> Result<Plan> {
        Ok(Plan::new("sample"))
    }
    fn run(&self, _: &Run) -> Result<()> {
        Ok(())
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Filter {
    members: u16,
    inflation: f64,
}

fn set(arguments: &[&str]) -> Result<Config, ConfigError> {
    let set = arguments.iter().map(ToString::to_string).collect();
    resolve(
        &Sample,
        &Sources {
            set,
            ..Sources::default()
        },
    )
}

fn file(text: &[u8], more: Sources) -> (Result<Config, ConfigError>, String) {
    let mut file = tempfile::Builder::new().suffix(".toml").tempfile().unwrap();
    file.write_all(text).unwrap();
    let path = file.path().to_path_buf();
    let sources = Sources {
        file: Some(path.clone()),
        ..more
    };
    (resolve(&Sample, &sources), path.display().to_string())
}

fn message(text: &str) -> String {
    let (config, path) = file(text.as_bytes(), Sources::default());
    config.unwrap_err().to_string().replace(&path, "my.toml")
}

fn value(config: &Config, key: &str) -> (String, String) {
    let setting = config.get(key).unwrap();
    (setting.text(), setting.origin().to_string())
}

#[test]
fn later_layers_win_and_each_value_keeps_its_place() {
    let more = Sources {
        environment: vec![
            ("ADVECT_FILTER__INFLATION".into(), "2".into()),
            ("ADVECT_DATA".into(), "/data".into()),
        ],
        set: vec!["input.quick=true".into()],
        ..Sources::default()
    };
    let (config, path) = file(
        b"data = 'large'\n\n[filter]\ninflation = 3\n[input]\nquick = false",
        more,
    );
    let config = config.unwrap();
    let from = |key: &str| value(&config, key);
    assert_eq!(from("seeds"), ("[1, 2]".into(), "default".into()));
    assert_eq!(from("filter.members"), ("80".into(), "preset large".into()));
    assert_eq!(from("data"), ("\"large\"".into(), format!("{path}:1")));
    let inflation = (
        "2".into(),
        "environment ADVECT_FILTER__INFLATION".to_owned(),
    );
    assert_eq!(from("filter.inflation"), inflation);
    let quick = ("true".into(), "--set input.quick=true".to_owned());
    assert_eq!(from("input.quick"), quick);
    let filter: Filter = config.section("filter").unwrap();
    assert_eq!((filter.members, filter.inflation), (80, 2.0));
}

#[test]
fn the_printed_configuration_gives_itself_again() {
    let config = set(&["data=large", "filter.members=7"]).unwrap();
    let (again, _) = file(config.to_toml().as_bytes(), Sources::default());
    assert_eq!(again.unwrap().to_toml(), config.to_toml());
}

#[test]
fn an_alternative_takes_the_others_away() {
    let config = set(&["method.oi.length=3"]).unwrap();
    assert!(config.get("method.letkf.radius").is_none());
    assert_eq!(value(&config, "method.oi.length").0, "3");
    let config = set(&["data=large"]).unwrap();
    assert!(config.get("method.letkf.radius").is_none());
}

#[test]
fn an_unknown_key_names_its_place_and_the_nearest_key() {
    assert_eq!(
        message("seeds = [3]\n[filter]\n  menbers = 3"),
        "my.toml:3:3: unknown key `filter.menbers`; did you mean `filter.members`?"
    );
    assert_eq!(
        message("members = 3"),
        "my.toml:1:1: unknown key `members`; did you mean `filter.members`?"
    );
    assert_eq!(
        message("filter.wavelength = 3"),
        "my.toml:1:8: unknown key `filter.wavelength`; \
         `filter` has filter.inflation, filter.members"
    );
    let unknown = set(&["filtre.members=1"]).unwrap_err().to_string();
    assert_eq!(
        unknown,
        "--set filtre.members=1: unknown key `filtre.members`; did you mean `filter.members`?"
    );
}

#[test]
fn a_wrong_type_says_what_it_must_be() {
    assert_eq!(
        message("filter.members = 'many'"),
        "my.toml:1:8: `filter.members` is a string; it must be an integer"
    );
    assert_eq!(
        message("filter = 3"),
        "my.toml:1:1: `filter` is an integer; it must be a table"
    );
    assert_eq!(
        message("[seeds]\nx = 1"),
        "my.toml:2:1: `seeds` is a table; it must be an array"
    );
    let wrong = set(&["filter.members=many"]).unwrap_err().to_string();
    assert_eq!(
        wrong,
        "--set filter.members=many: `filter.members` is `many`; it must be an integer"
    );
    assert_eq!(
        message("seeds = [1, 'two']"),
        "my.toml:1:1: `seeds` is an array with a string; it must be an array, each an integer"
    );
}

#[test]
fn a_value_out_of_range_names_where_it_came_from() {
    let config = set(&["filter.members=-1"]).unwrap();
    let e = config.section::<Filter>("filter").unwrap_err().to_string();
    let begin = "--set filter.members=-1: `filter.members` = -1: invalid value";
    assert!(e.starts_with(begin), "{e}");
    let (config, path) = file(b"filter.inflation = 0.5", Sources::default());
    let wrong = config
        .unwrap()
        .wrong("filter.inflation", "must be at least 1");
    assert_eq!(
        wrong.to_string(),
        format!("{path}:1:8: `filter.inflation` = 0.5: must be at least 1")
    );
}

#[test]
fn presets_arguments_and_files_that_are_none() {
    let e = set(&["data=larg"]).unwrap_err().to_string();
    assert_eq!(
        e,
        "--set data=larg: `data` = \"larg\" is no preset; did you mean `large`?"
    );
    assert!(matches!(set(&["members"]), Err(ConfigError::Set { .. })));
    let sources = Sources {
        file: Some("/no/such.toml".into()),
        ..Sources::default()
    };
    let missing = resolve(&Sample, &sources);
    assert!(matches!(missing, Err(ConfigError::Read { .. })));
    let (endless, _) = file(&vec![b'#'; (1 << 20) + 1], Sources::default());
    assert!(matches!(endless, Err(ConfigError::TooLarge { .. })));
    assert!(message("a = 1\na = 2").contains("my.toml:2:1: not TOML: duplicate key"));
    assert!(message("a = [1,\n 2").starts_with("my.toml:2:"));
}

#[test]
fn the_place_of_a_default_is_the_default() {
    let config = set(&[]).unwrap();
    assert!(
        config
            .settings()
            .all(|(_, s)| *s.origin() == Origin::Default)
    );
    let keys: Vec<&str> = config.settings().map(|(key, _)| key).collect();
    assert_eq!(keys[..3], ["data", "seeds", "filter.members"]);
}
