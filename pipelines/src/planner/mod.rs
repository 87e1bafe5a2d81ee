//! The planner of distributed training: memory, time, bytes and utilisation of a configuration
//! before it runs.
//!
//! A [`Machine`](machine::Machine), a [`Gpt`](model::Gpt) and a [`Run`](run::Run) give an
//! [`Estimate`](time::Estimate) or a [`Rejection`](rejection::Rejection). Memory is a formula that
//! a public log confirms; time is a simulation of the pipeline with α-β costs of what is sent. A [`Job`] is
//! read from the configuration of a pipeline.
//!
//! ```
//! use advect_pipelines::planner::machine::Machine;
//! use advect_pipelines::planner::recipes::{gpt_175b, recipe_175b};
//! use advect_pipelines::planner::search::{Planner, Space};
//! let (frontier, gpt) = (Machine::built_in("frontier")?, gpt_175b());
//! let mut planner = Planner::new(&frontier, &gpt, Space::deepspeed(640));
//! let ranking = planner.rank(128)?;
//! // what ran on Frontier takes 214.5 s a step; 210.6 and 210.8 s are of two that fill 45 GB and more
//! // of a device, where this fills 35
//! assert_eq!(ranking.place(&recipe_175b()), Some(3));
//! # Ok::<(), advect_pipelines::planner::error::PlannerError>(())
//! ```
//!
//! | module | holds |
//! |---|---|
//! | [`machine`] | what a device computes, holds and sends: five built in, others from TOML |
//! | [`calibrate`](mod@calibrate) | the machine this runs on, measured |
//! | [`model`] | parameters of a stage, FLOPs of a step |
//! | [`run`] | a configuration |
//! | [`rejection`] | why one cannot run |
//! | [`memory`] | bytes of every stage |
//! | [`longest`] | the longest sequence that fits |
//! | [`network`] | rings and hops on the levels that an axis spans |
//! | [`simulate`] | a pipeline schedule in virtual time |
//! | [`time`] | a step: parts, utilisation, bytes sent |
//! | [`sensitivity`] | what axes and levels of the network are worth |
//! | [`search`] | all configurations of a number of workers, ranked |
//! | [`neighbours`] | why not the ones beside the best |
//! | [`report`] | tables of text |
//! | [`recipes`] | published models and configurations |
//! | [`validate`] | predictions against published numbers |

mod ask;
pub mod calibrate;
mod context;
mod dispatch;
pub mod error;
mod link;
pub mod longest;
pub mod machine;
pub mod memory;
pub mod model;
pub mod neighbours;
pub mod network;
mod pass;
pub mod recipes;
pub mod rejection;
pub mod report;
pub mod run;
pub mod search;
pub mod sensitivity;
pub mod simulate;
pub mod time;
pub mod validate;

pub use ask::{Job, MOST_WORKERS};
pub use pass::Wire;
