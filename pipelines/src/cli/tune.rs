//! `advect tune`: the fastest way to train a model on this machine, by real short runs.

use std::path::{Path, PathBuf};

use super::args::TuneArgs;
use super::{forecast, print_line, run, signals, usage};
use crate::config::Config;
use crate::error::{PipelineError, Result};
use crate::pipeline::{Stop, claim};
use crate::planner::Job;
use crate::planner::calibrate::to_toml;
use crate::planner::machine::{Machine, THIS};
use crate::tune::candidates::{Candidates, enumerate};
use crate::tune::journal::{ASKED, Record, TRIALS, fresh, keep};
use crate::tune::trial::Verdict;
use crate::tune::{Ask, Ended, Session, report};

/// Searches, and prints what was found.
pub(crate) fn tune(args: &TuneArgs) -> Result<()> {
    let (pipeline, config) = run::job(&args.job)?;
    let name = pipeline.name();
    if name != "language" {
        let why = "this pipeline trains no transformer that could be planned";
        return Err(usage(&format!("tune {name}"), why, "tune `language`"));
    }
    let ask = ask(args)?;
    let say = |line: &str| {
        if !args.quiet {
            print_line(line);
        }
    };
    // what no trial could run is told before the first
    pipeline.check(&config)?;
    let job = Job::read(&config, None)?;
    if let Some(mesh) = &job.mesh {
        say(&format!(
            "layout.mesh = {mesh:?} is left aside: meshes are what is searched"
        ));
    }
    let stop = Stop::default();
    signals::install(&stop)?;
    // a name or a file that is wrong leaves nothing behind
    let named = match ask.resume || ask.machine == THIS {
        true => None,
        false => Some(Machine::load(&ask.machine)?),
    };
    let _claim = claim(&ask.out, true)?;
    if !ask.resume && !ask.out.join(TRIALS).exists() {
        fresh(&ask.out)?;
    }
    let machine = match named {
        Some(machine) => machine,
        None => machine(&ask)?,
    };
    if machine.name == THIS {
        say(&forecast::describe(&machine));
    }
    if ask.workers > machine.devices() {
        let (name, devices) = (&machine.name, machine.devices());
        let why = format!("{name} has {devices} devices");
        let what = format!("--workers {}", ask.workers);
        return Err(usage(&what, &why, &format!("give at most {devices}")));
    }
    let candidates = enumerate(&job, &machine, ask.workers, ask.candidates)?;
    if candidates.tried.is_empty() {
        let why = format!(
            "no configuration can run: {} do not fit the memory, {} do not divide the batch, the layers or \
             the positions, or lack the precision",
            candidates.refused.len(),
            candidates.impossible
        );
        let mend = "give fewer workers, a samples.step that they divide, or a smaller model";
        return Err(usage(&format!("--workers {}", ask.workers), &why, mend));
    }
    let mut session = Session::open(&ask, name, &config, &job, &candidates)?;
    // kept once the search is known to be a new one, or the one that this belongs to
    keep(&ask.out.join(MACHINE), &described(&machine)?)?;
    say(&title(&ask, &candidates, &session));
    let ended = session.run(&stop, |record, all| say(&line(record, all)))?;
    conclude(args, &ask, &config, &candidates, &session.records, ended)
}

/// The file of the machine that was planned for: a search that goes on plans as it did.
const MACHINE: &str = "machine.toml";

fn ask(args: &TuneArgs) -> Result<Ask> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let (workers, parallel) = (args.workers.unwrap_or(cores), usize::from(args.parallel));
    let what = format!("--workers {workers}");
    if workers == 0 {
        return Err(usage(
            &what,
            "there is no core to run on",
            "give at least 1",
        ));
    }
    if workers > cores {
        let why = format!("a trial would share {cores} cores among them");
        return Err(usage(&what, &why, &format!("give at most {cores}")));
    }
    if workers * parallel > cores {
        let why =
            format!("trials of {workers} workers would slow each other down on {cores} cores");
        let mend = format!(
            "give at most --parallel {}, or fewer --workers",
            cores / workers
        );
        return Err(usage(&format!("--parallel {parallel}"), &why, &mend));
    }
    Ok(Ask {
        out: (args.out.clone()).unwrap_or_else(|| ["out", "tune"].iter().collect::<PathBuf>()),
        machine: args.machine.clone(),
        workers,
        trials: args.trials.into(),
        time_limit: args.time_limit,
        trial_limit: args.trial_limit,
        steps: args.steps.into(),
        parallel,
        candidates: args.candidates.into(),
        resume: args.resume,
        seed: args.seed,
    })
}

/// The machine to plan for: of a search that goes on the one that it was begun with.
fn machine(ask: &Ask) -> Result<Machine> {
    let kept = ask.out.join(MACHINE);
    match ask.resume && ask.out.join(ASKED).exists() {
        true => Ok(Machine::load(&kept.display().to_string())?),
        false => Ok(crate::planner::calibrate::calibrate()?),
    }
}

fn described(machine: &Machine) -> Result<String> {
    to_toml(machine).map_err(|e| usage("--machine", &e.to_string(), "give another"))
}

fn title(ask: &Ask, all: &Candidates, session: &Session<'_>) -> String {
    let mut text = format!(
        "{} configurations of {} cores are searched, {} more are predicted to be slower, {} do not fit, {} \
         cannot be",
        all.tried.len(),
        ask.workers,
        all.beyond,
        all.refused.len(),
        all.impossible
    );
    if session.torn > 0 {
        text += &format!(
            "\n{} bytes of a trial that was cut are put aside in trials.jsonl.torn",
            session.torn
        );
    }
    if ask.resume {
        text += &format!("\ngoes on after {} trials", session.records.len());
    }
    text
}

/// A trial that ended, beside the best until now.
fn line(record: &Record, all: &[Record]) -> String {
    let (n, name) = (record.trial, &record.configuration);
    match &record.outcome {
        Verdict::Failed { why } => format!("trial {n:>3}: {name}: failed: {why}"),
        Verdict::Measured(m) => {
            let best = report::measured(all)
                .first()
                .map_or(m.step, |(_, m)| m.step);
            format!(
                "trial {n:>3}: {name}: {:.1} ms a step, predicted {:.1}, best {:.1}",
                1e3 * m.step,
                1e3 * record.predicted,
                1e3 * best
            )
        }
    }
}

/// Prints and keeps what was found.
fn conclude(
    args: &TuneArgs,
    ask: &Ask,
    config: &Config,
    candidates: &Candidates,
    records: &[Record],
    ended: Ended,
) -> Result<()> {
    let (out, name) = (&ask.out, args.job.pipeline.as_str());
    let mut text = format!("ended after {} trials: {ended}\n", records.len());
    let go_on = "go on with the same command and --resume";
    let best = report::measured(records).into_iter().next();
    if !records.is_empty() {
        text += &format!("\n{}\n", report::table(records, candidates));
    }
    if let Some((best, measured)) = &best {
        if let Some(verdict) = report::verdict(records, candidates) {
            text += &format!("{verdict}\n");
        }
        let file = out.join("best.toml");
        let command = report::command(name, best, &file);
        keep(&file, &report::best_toml(config, best, measured, &command))?;
        report::pictures(records, out)?;
        text += &format!("\n{command}\n");
    }
    if matches!(ended, Ended::Stopped | Ended::Time | Ended::Trials) {
        let more = match ended {
            Ended::Trials => ", and more --trials",
            _ => "",
        };
        text += &format!("{go_on}{more}\n");
    }
    keep(&out.join("report.txt"), &text)?;
    if !args.quiet {
        print_line(&format!("\n{}", text.trim_end()));
    }
    match (best, ended) {
        (None, Ended::Trials | Ended::All | Ended::Gain(_)) => Err(none(out, records)),
        _ => Ok(()),
    }
}

/// That no trial reached its end, and why the last did not.
fn none(out: &Path, records: &[Record]) -> PipelineError {
    let last = records.iter().rev().find_map(|r| match &r.outcome {
        Verdict::Failed { why } => Some(why.as_str()),
        Verdict::Measured(_) => None,
    });
    PipelineError::Failed {
        pipeline: "tune".to_owned(),
        why: format!(
            "none of {} trials reached its end, the last since {}; see {}, and give more --trial-limit or \
             a smaller model",
            records.len(),
            last.unwrap_or("there was none"),
            out.join("trials").display()
        ),
    }
}
