//! `advect plan --machine`: memory, time and the best meshes on a machine that need not be here.

use std::path::Path;

use super::args::{PlanArgs, SpaceKind};
use super::{print_line, usage};
use crate::config::Config;
use crate::error::{PipelineError, Result};
use crate::planner::calibrate::{calibrate, to_toml};
use crate::planner::error::PlannerError;
use crate::planner::longest::{grain, longest, modes, ways};
use crate::planner::machine::{Machine, THIS};
use crate::planner::rejection::Rejection;
use crate::planner::run::{Policy, Precision, Run};
use crate::planner::search::{Planner, Ranking, Space};
use crate::planner::{Job, MOST_WORKERS, report};

/// Prints what is known of the mesh that was asked for, the best ones, and why not their neighbours.
pub(crate) fn forecast(args: &PlanArgs, name: &str, config: &Config) -> Result<()> {
    for (flag, given) in [
        ("--fabric", args.fabric.fabric.is_some()),
        ("--hosts", args.fabric.hosts.is_some()),
        ("--process", args.fabric.process.is_some()),
    ] {
        if given {
            let why = "a plan for a machine connects no workers";
            return Err(usage(flag, why, "leave it out"));
        }
    }
    let mut job = Job::read(config, args.model.as_deref())?;
    let machine = machine(name, args.calibrate.as_deref())?;
    let workers = workers(args.fabric.workers, &job, &machine)?;
    if let Some(given) = &job.given
        && given.axes.workers() != workers
    {
        if job.mesh.is_some() {
            let own = given.axes.workers();
            let why = format!("has {own} workers, not {workers}; give -w {own} or change an axis");
            return Err(config.wrong("layout.mesh", why).into());
        }
        // what was published ran on another number
        job.given = None;
    }
    let space = space(args.space, &job);
    print_line(&title(&job, &machine, workers, &space));
    let mut planner = Planner::new(&machine, &job.gpt, space);
    let ranking = planner.rank(workers)?;
    if args.longest {
        return sequences(&job, &machine, &ranking, workers);
    }
    if let Some(given) = &job.given {
        let whose = match &job.mesh {
            Some(mesh) => format!("layout.mesh = {mesh:?}"),
            None => "as published".to_owned(),
        };
        print_line(&format!("\n{whose}"));
        match report::configuration(&machine, &job.gpt, given) {
            Ok(text) => print_line(text.trim_end()),
            Err(e @ PlannerError::Rejected { .. }) => print_line(&e.to_string()),
            Err(e) => return Err(e.into()),
        }
        for note in &job.notes {
            print_line(note);
        }
    }
    let Some(best) = ranking.ranked.first() else {
        return Err(nothing(&machine, workers, &ranking).into());
    };
    print_line("\nbest configurations");
    print_line(report::ranking(&ranking, args.top.into()).trim_end());
    if let Some(place) = job.given.as_ref().and_then(|given| ranking.place(given)) {
        let slower = 100.0 * (ranking.ranked[place - 1].step / best.step - 1.0);
        print_line(&format!(
            "the one above is at place {place}, {slower:.1} % slower than the first"
        ));
    }
    if job.given.as_ref() != Some(&best.run) {
        print_line("\nthe first of them");
        print_line(report::configuration(&machine, &job.gpt, &best.run)?.trim_end());
    }
    print_line("\nwhy not another: one thing changed in the first");
    let neighbours = planner.neighbours(best)?;
    print_line(report::neighbours(best, &neighbours).trim_end());
    Ok(())
}

/// The machine that is described, or this one as it is measured.
fn machine(name: &str, keep: Option<&Path>) -> Result<Machine> {
    if name != THIS {
        return match keep {
            None => Ok(Machine::load(name)?),
            Some(_) => Err(usage(
                "--calibrate",
                "only this machine can be measured",
                "give --machine this",
            )),
        };
    }
    let machine = calibrate().map_err(PipelineError::from)?;
    print_line(&describe(&machine));
    if let Some(path) = keep {
        let text =
            to_toml(&machine).map_err(|e| usage("--calibrate", &e.to_string(), "leave it out"))?;
        let mend = "choose another file with --calibrate";
        std::fs::write(path, text).map_err(PipelineError::file("write", path, mend))?;
        print_line(&format!("written to {}", path.display()));
    }
    Ok(machine)
}

/// A machine on a line.
pub(crate) fn describe(machine: &Machine) -> String {
    let [single, double] = [machine.peak.f32, machine.peak.f64].map(|peak| peak / 1e9);
    let (memory, level) = (&machine.memory, &machine.levels[0]);
    format!(
        "{}: {} cores, each {single:.1} GFLOP/s in f32 and {double:.1} in f64, {:.0} % of it in a \
         transformer; {:.1} GB at {:.1} GB/s; messages {:.0} us and {:.2} GB/s; an operator {:.1} us",
        machine.name,
        level.size,
        100.0 * machine.kernel_efficiency,
        memory.bytes / 1e9,
        memory.bandwidth / 1e9,
        1e6 * level.latency,
        level.bandwidth / 1e9,
        1e6 * machine.dispatch,
    )
}

/// Devices that are planned for: as many as are asked for, or as the mesh has.
fn workers(asked: Option<usize>, job: &Job, machine: &Machine) -> Result<usize> {
    let own = job.given.as_ref().map(|given| given.axes.workers());
    let whole = (machine.name == THIS).then(|| machine.devices());
    let Some(workers) = asked.or(own).or(whole) else {
        let why = "how many devices to plan for is not known";
        return Err(usage(
            "--machine",
            why,
            "give --workers N, or a mesh with --set layout.mesh",
        ));
    };
    let what = format!("--workers {workers}");
    let most = machine.devices().min(MOST_WORKERS);
    if workers == 0 {
        return Err(usage(
            &what,
            "there is no device to plan for",
            "give at least 1",
        ));
    }
    if workers > most {
        let why = match machine.devices() > MOST_WORKERS {
            true => "every mesh of them is tried".to_owned(),
            false => format!("{} has {most} devices", machine.name),
        };
        return Err(usage(&what, &why, &format!("give at most {most}")));
    }
    Ok(workers)
}

fn space(asked: Option<SpaceKind>, job: &Job) -> Space {
    let half = match job.precision {
        Precision::Bf16 => Precision::Bf16,
        _ => Precision::Fp16,
    };
    let kind = asked.unwrap_or(match job.policy {
        Policy::Advect => SpaceKind::Advect,
        _ => SpaceKind::Deepspeed,
    });
    let mut space = match kind {
        SpaceKind::Advect => Space::advect(job.batch, job.precision),
        SpaceKind::Deepspeed => Space {
            precision: half,
            ..Space::deepspeed(job.batch)
        },
        SpaceKind::Wide => Space::wide(job.batch, half, Policy::Deepspeed),
    };
    if !space.micro.contains(&job.micro) {
        space.micro.push(job.micro);
    }
    space
}

fn title(job: &Job, machine: &Machine, workers: usize, space: &Space) -> String {
    let gpt = &job.gpt;
    format!(
        "{} parameters, {} layers of {}, on {workers} of the {} devices of {}: {} sequences of {} a step \
         in {}",
        gpt.total(),
        gpt.layers,
        gpt.width,
        machine.devices(),
        machine.name,
        job.batch,
        gpt.sequence,
        space.precision,
    )
}

/// Prints the longest sequences on the mesh that was asked for, on the best one, or on the one that
/// lacks least.
fn sequences(job: &Job, machine: &Machine, ranking: &Ranking, workers: usize) -> Result<()> {
    let best = ranking.ranked.first().map(|e| &e.run);
    let nearest = ranking.nearest().map(|(run, _)| run);
    let Some(run) = job.given.as_ref().or(best).or(nearest) else {
        return Err(nothing(machine, workers, ranking).into());
    };
    // none where the batch or the layers do not allow it
    let of = |run: &Run| match longest(machine, &job.gpt, run, grain(run)) {
        Ok(positions) => Ok(Some(positions)),
        Err(PlannerError::Rejected { .. }) => Ok(None),
        Err(e) => Err(PipelineError::from(e)),
    };
    let mut all = Vec::new();
    for mode in modes(run) {
        if let Some(positions) = of(&mode.run)? {
            all.push((mode, positions));
        }
    }
    print_line("\nlongest sequences that fit");
    print_line(report::longest(&all).trim_end());
    let mut shared = Vec::new();
    for way in ways(run) {
        let [kept, again] = &way.runs;
        if let (Some(kept), Some(again)) = (of(kept)?, of(again)?) {
            shared.push((way, [kept, again]));
        }
    }
    if !shared.is_empty() {
        print_line(&format!("\none sequence among {} replicas", run.replicas()));
        print_line(report::ways(&shared).trim_end());
    }
    Ok(())
}

/// Why there is no plan: what came nearest, and what would help.
fn nothing(machine: &Machine, workers: usize, ranking: &Ranking) -> PlannerError {
    let none = (String::new(), Rejection::Extent("nothing was tried"));
    let (run, why) = match ranking.nearest() {
        Some((run, why)) => (Run::to_string(run), why.clone()),
        None => none,
    };
    let mend = match why {
        Rejection::Memory { .. } => "give more workers, a shorter context or a smaller model",
        Rejection::Accumulation { .. } => {
            "give more samples.step, a multiple of the replicas, or fewer workers"
        }
        Rejection::Precision { .. } => "give a precision that it has, or --space",
        _ => "give another number of workers, or a batch and extents that they divide",
    };
    PlannerError::Nothing {
        machine: machine.name.clone(),
        workers,
        run,
        why: Box::new(why),
        mend,
    }
}
