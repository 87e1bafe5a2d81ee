//! Very long sequences: memory of a worker and time of a step, by mode, number of workers and length, beside
//! attention that keeps its scores and Megatron's sequence parallelism.
//!
//! Every measurement is a process of its own, which trains blocks of a GPT on one sample: forward, back, and the
//! gradients of everything. Memory is what is resident in that process above what was there before any tensor, over
//! its workers.

mod part;

use self::part::{Case, Cost};
use super::{BenchError, Figure, Options, Report};
use crate::planner::calibrate::calibrate;
use crate::planner::memory;
use crate::planner::model;
use crate::planner::recipes;
use crate::planner::run::{Axes, Policy, Precision, Recompute, Run, Schedule};

const NAME: &str = "attention";

/// Ways to cut a sequence: what they are called, and the mesh on some workers.
const MODES: [(&str, &str, Option<bool>); 7] = [
    ("gather", "context-gather", Some(false)),
    ("gather, fetched again", "context-gather", Some(true)),
    ("chunks", "context-chunks", None),
    ("ring", "context-ring", None),
    ("zig-zag", "context-zig-zag", None),
    ("Ulysses", "context-heads", None),
    ("Megatron", "sequence", None),
];

fn case(mesh: String, positions: usize, regather: Option<bool>) -> Case {
    Case {
        mesh,
        positions,
        layers: 4,
        width: 128,
        heads: 4,
        flash: true,
        regather,
        recompute: false,
        steps: 1,
    }
}

/// Measures, and gives the figures to the report.
///
/// # Errors
/// If a process fails.
pub(super) fn run(options: &Options, report: &mut Report) -> Result<(), BenchError> {
    if let Some(case) = Case::of_this_process()? {
        return case.run(report);
    }
    law(options, report)?;
    baseline(options, report)?;
    match options.quick {
        true => Ok(()),
        false => longest(options, report),
    }
}

/// Memory against the number of workers and the length, beside what the graph says that it keeps; and its slope
/// between the longest two, beside the law: what a position takes on one worker over the number of workers, and what
/// is kept of other workers' positions.
fn law(options: &Options, report: &mut Report) -> Result<(), BenchError> {
    let (lengths, numbers): (&[usize], &[usize]) = match options.quick {
        true => (&[512, 1024], &[2]),
        false => (&[4096, 8192, 16384], &[2, 4]),
    };
    let mut by_length = Vec::new();
    for &positions in lengths {
        let alone = case("data 1".to_owned(), positions, None).measure(options)?;
        give(report, format!("1 worker, {positions} positions"), alone);
        let mut cut = Vec::new();
        for &n in numbers {
            for (name, role, regather) in MODES {
                let cost = case(format!("{role} {n}"), positions, regather).measure(options)?;
                give(report, format!("{name} {n}, {positions} positions"), cost);
                cut.push((name, n, cost));
            }
        }
        by_length.push((positions, alone, cut));
    }
    let [.., (short, alone_short, cut_short), (long, alone, cut)] = &by_length[..] else {
        return Ok(());
    };
    // megabytes of a thousand positions
    let slope = |[before, after]: [f64; 2]| (after - before) * 1e3 / (long - short) as f64;
    let of_one = slope([alone_short.memory, alone.memory]);
    let kept_by_one = slope([alone_short.kept, alone.kept]);
    for ((name, n, before), (_, _, after)) in cut_short.iter().zip(cut) {
        let workers = *n as f64;
        let of_others = (slope([before.kept, after.kept]) - kept_by_one / workers).max(0.0);
        let case = format!("{name} {n}: memory of 1,000 positions / by the law");
        let figure = Figure::new(NAME, case, slope([before.memory, after.memory]), "MB");
        report.give(figure.beside(of_one / workers + of_others));
    }
    Ok(())
}

fn give(report: &mut Report, case: String, cost: Cost) {
    let memory = Figure::new(
        NAME,
        format!("{case}: memory a worker / kept"),
        cost.memory,
        "MB",
    );
    // of blocks that are computed again, the graph itself keeps nothing
    report.give(match cost.kept > 0.0 {
        true => memory.beside(cost.kept),
        false => memory,
    });
    report.give(Figure::new(
        NAME,
        format!("{case}: step"),
        cost.seconds,
        "s",
    ));
}

/// Four workers beside Megatron's sequence parallelism with scores of all pairs, as it was before attention was
/// taken in blocks.
fn baseline(options: &Options, report: &mut Report) -> Result<(), BenchError> {
    let positions = if options.quick { 1024 } else { 8192 };
    let sized = |mesh: &str, flash| Case {
        layers: 1,
        heads: 8,
        flash,
        ..case(mesh.to_owned(), positions, None)
    };
    let megatron = sized("sequence 4", false).measure(options)?;
    for (name, mesh) in [
        ("zig-zag", "context-zig-zag 4"),
        ("gather", "context-gather 4"),
    ] {
        let ours = sized(mesh, true).measure(options)?;
        let with = format!("{name} 4, {positions} positions, 8 heads of 16");
        let than = "Megatron with scores";
        let figures = [
            ("memory", ours.memory, "MB", megatron.memory),
            ("step", ours.seconds, "s", megatron.seconds),
        ];
        for (what, value, unit, reference) in figures {
            let case = format!("{with}: {what} / {than}");
            report.give(Figure::new(NAME, case, value, unit).beside(reference));
        }
    }
    Ok(())
}

/// A quarter of a million positions on two workers, and what the planner says of the same with scores.
fn longest(options: &Options, report: &mut Report) -> Result<(), BenchError> {
    let positions = 1 << 18;
    let long = Case {
        layers: 1,
        width: 32,
        heads: 1,
        recompute: true,
        steps: 0,
        ..case("context-zig-zag 2".to_owned(), positions, None)
    };
    let cost = long.measure(options)?;
    let case = format!("zig-zag 2, {positions} positions, width 32");
    give(report, case, cost);
    let machine = calibrate().map_err(|e| BenchError::failed(NAME, e))?;
    let here = machine.usable() / 1e6;
    for (name, tensor) in [("dense on one worker", 1), ("Megatron with scores 2", 2)] {
        let gpt = model::Gpt {
            sequence: positions,
            ..planned(&long)
        };
        let run = Run {
            axes: Axes {
                tensor,
                pipeline: 1,
                data: 1,
                context: 1,
            },
            sequence: tensor > 1,
            schedule: Schedule::OneFOneB,
            split: None,
            zero: 0,
            micro: 1,
            batch: 1,
            precision: Precision::F32,
            recompute: Recompute::Full,
            flash: false,
            policy: Policy::Advect,
            ..recipes::recipe_22b()
        };
        let stages = memory::stages(&gpt, &run, None);
        let stages = stages.map_err(|e| BenchError::failed(NAME, e))?;
        let needs = memory::largest(&stages).1 as f64 * tensor as f64 / 1e6;
        let case = format!("{name}, {positions} positions: planned / this machine");
        report.give(Figure::new(NAME, case, needs, "MB").beside(here));
    }
    Ok(())
}

/// Extents as the planner has them.
fn planned(case: &Case) -> model::Gpt {
    model::Gpt {
        layers: case.layers,
        width: case.width,
        heads: case.heads,
        groups: case.heads,
        hidden: 4 * case.width,
        vocabulary: 256,
        sequence: case.positions,
        ..recipes::gpt_22b()
    }
}

fn engine(source: advect_engine::EngineError) -> BenchError {
    BenchError::Engine {
        bench: NAME,
        source,
    }
}
