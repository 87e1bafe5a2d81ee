//! A configuration of the planner as the settings with which `language` runs it.

use advect_operators::transformer::Role;

use crate::planner::model::Gpt;
use crate::planner::run::{Keys, Recompute, Run, Schedule};

/// A key of the configuration and its value in TOML.
pub type Setting = (&'static str, String);

/// Settings with which `language` runs `run`: the mesh, the order of work, the micro-batch, and what is
/// recomputed. The batch of a step stays what it is.
pub fn settings(run: &Run, gpt: &Gpt) -> Vec<Setting> {
    let regather = match run.keys {
        keys if keys == Keys::of(keys.come) => "auto",
        Keys { again: true, .. } => "always",
        Keys { again: false, .. } => "never",
    };
    vec![
        ("layout.mesh", format!("\"{}\"", mesh(run, gpt))),
        ("layout.in_flight", in_flight(run).to_string()),
        (
            "layout.zero_bubble",
            (run.schedule == Schedule::ZbH1).to_string(),
        ),
        (
            "layout.recompute",
            (run.recompute == Recompute::Full).to_string(),
        ),
        ("layout.regather", format!("\"{regather}\"")),
        ("samples.micro", run.micro.to_string()),
    ]
}

/// The mesh, outermost axis first: workers that are neighbours share the tensor axis.
fn mesh(run: &Run, gpt: &Gpt) -> String {
    let axes = run.axes;
    let data = match run.zero {
        0 => "data".to_owned(),
        stage => format!("zero-{stage}"),
    };
    let tensor = match run.sequence {
        true => "sequence",
        false => "tensor",
    };
    let context = format!("{} {}", Role::Context(run.keys.come), axes.context);
    let named = [
        (stages(run, gpt), axes.pipeline),
        (format!("{data} {}", axes.data), axes.data),
        (context, axes.context),
        (format!("{tensor} {}", axes.tensor), axes.tensor),
    ];
    let cut = named.into_iter().filter(|(_, size)| *size > 1);
    let names: Vec<String> = cut.map(|(name, _)| name).collect();
    match names.is_empty() {
        true => "data 1".to_owned(),
        false => names.join(", "),
    }
}

/// The axis of stages, with the layers of its chunks where they are not what a run would choose.
fn stages(run: &Run, gpt: &Gpt) -> String {
    let (p, chunks) = (run.axes.pipeline, run.stages());
    if chunks == p && gpt.layers.is_multiple_of(p) {
        return format!("stage {p}");
    }
    let layers: Vec<String> = (0..chunks)
        .map(|k| run.layers(gpt, k).to_string())
        .collect();
    format!("stage {p} ({})", layers.join(" "))
}

/// Micro-batches in work at once on the last stage, which has one less than the stage before it.
fn in_flight(run: &Run) -> usize {
    match run.schedule {
        Schedule::Gpipe if run.axes.pipeline > 1 => run.accumulation().unwrap_or(1),
        _ => 1,
    }
}
