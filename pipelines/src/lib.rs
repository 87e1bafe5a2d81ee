//! Pipelines of advect, and everything the `advect` command is made of.
//!
//! A pipeline is a value of [`Pipeline`]: a name, a documented default configuration, and how to
//! check, plan and run it. It is written once and knows neither the fabric nor the command line;
//! [`registry`] lists all of them.
//!
//! | module | what it holds |
//! |---|---|
//! | [`assimilate`](mod@assimilate) | the main job |
//! | [`fold`] | an Evoformer learns masked letters of sequence alignments |
//! | [`language`] | a transformer learns the next token of a text |
//! | [`twin`] | published scores of filters, reproduced |
//! | [`registry`] | the table of pipelines |
//! | [`config`] | layered TOML with the place every value came from |
//! | [`cli`] | the `advect` command |
//! | [`mod@bench`] | figures beside a reference |
//! | [`data`] | data sets: origin, digest, licence |
//! | [`planner`] | time and memory of distributed training before it runs |
//! | [`tune`] | real short runs find the best configuration |
//! | [`plot`] | maps and diagrams as PNG |

pub mod assimilate;
pub mod bench;
mod checkpoints;
pub mod cli;
pub mod config;
pub mod data;
mod error;
pub mod fold;
pub mod language;
mod pipeline;
mod plan;
pub mod planner;
pub mod plot;
mod progress;
pub mod registry;
mod tensorboard;
mod training;
pub mod tune;
pub mod twin;

pub use config::{Config, ConfigError};
pub use error::{PipelineError, Result};
pub use pipeline::{Choice, Pipeline, Preset, Run, Stop};
pub use plan::{Edge, Node, Plan};
pub use progress::Progress;

/// The example of the README is a test.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;
