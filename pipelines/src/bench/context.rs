//! Whether a longer context helps: bits a byte of an encyclopedia at three lengths of context and equal numbers of
//! tokens.
//!
//! One Llama of 0.9 M parameters learns at the shortest context, where a step is cheap, and then at the longest, whose
//! angles it has to learn. From those weights three runs go on, each at its own length: what they differ in is the
//! length of their windows alone. Positions are turned (rotary), so that weights do not know the length. Every step of
//! every run has the same number of tokens and the three the same schedule; the longest windows are cut over the
//! workers.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde::Deserialize;

use super::{BenchError, Figure, Options, Report, peer};
use crate::plot::{Diagram, Mark};

const NAME: &str = "context";
/// Positions of a window.
const LENGTHS: [usize; 3] = [256, 1024, 4096];
/// The base of the angles that positions are turned by, at first and from then on. Sixteen times the length has
/// 16^(d / (d − 2)) times the base with heads of d = 32, so that the slowest angles are those that were learned
/// (NTK-aware scaling; Rozière et al. 2023, *Code Llama*, do so, too).
const BASES: [f64; 2] = [1e4, 192e3];
/// Tokens of a step.
const TOKENS: usize = 8192;
/// Tokens that are validated.
const VALIDATED: usize = 131_072;
const OUT: &str = "out/context";

/// A line of `metrics.jsonl`.
#[derive(Debug, Deserialize)]
struct Line {
    what: String,
    step: u64,
    bits: f64,
}

/// Measures, and gives the figures to the report; draws `out/context/context.png`.
///
/// # Errors
/// If a run fails: without the data sets, above all.
pub(super) fn run(options: &Options, report: &mut Report) -> Result<(), BenchError> {
    let out = Path::new(OUT);
    let [short, long, more] = match options.quick {
        true => [20, 10, 10],
        false => [1500, 1200, 300],
    };
    let begin = Arm {
        context: LENGTHS[0],
        base: BASES[0],
        steps: short,
        rate: 2e-3,
        weights: None,
        out: out.join("begin"),
    };
    begin.learn(options)?;
    let longer = Arm {
        context: LENGTHS[2],
        base: BASES[1],
        steps: long,
        rate: 1e-3,
        weights: Some(turned(&begin.out.join("model"), BASES[1])?),
        out: out.join("longer"),
    };
    longer.learn(options)?;
    let weights = longer.out.join("model/model.safetensors");
    let mut diagram = Diagram::new(
        "language: longer contexts at equal numbers of tokens",
        "millions of tokens after what they share",
        "validation, bits a byte",
    );
    let mut tests = Vec::new();
    let mut shortest = None;
    for context in LENGTHS {
        let arm = Arm {
            context,
            base: BASES[1],
            steps: more,
            rate: 5e-4,
            weights: Some(weights.clone()),
            out: out.join(context.to_string()),
        };
        let lines = arm.learn(options)?;
        let test = lines.iter().find(|line| line.what == "test");
        let test = test.ok_or_else(|| BenchError::failed(NAME, "a run has no test"))?;
        let tokens = (short + long + more) as usize * TOKENS;
        let case = format!("context {context}, {:.1} M tokens", tokens as f64 / 1e6);
        let figure = Figure::new(NAME, case, test.bits, "bits/byte");
        report.give(figure.beside(*shortest.get_or_insert(test.bits)));
        tests.push(format!("{context}: {:.3}", test.bits));
        let validated = lines.iter().filter(|line| line.what == "validation");
        let points = validated.map(|l| ((l.step as usize * TOKENS) as f64 / 1e6, l.bits, 0.0));
        diagram = diagram.with(&format!("{context}"), Mark::Both, points.collect());
    }
    diagram.from_zero = false;
    diagram.subtitle = format!("test part, bits a byte: {}", tests.join(", "));
    let drawn = diagram.draw().save(&out.join("context.png"));
    drawn.map_err(|e| BenchError::failed(NAME, e))
}

/// The weights in `model` as they are for another base: a copy that says so.
fn turned(model: &Path, base: f64) -> Result<PathBuf, BenchError> {
    let failed = |e: std::io::Error| BenchError::failed(NAME, format!("{}: {e}", model.display()));
    let copy = model.with_file_name("model-turned");
    let text = std::fs::read_to_string(model.join("config.json")).map_err(failed)?;
    let mut config: serde_json::Value =
        serde_json::from_str(&text).map_err(|e| BenchError::failed(NAME, e))?;
    config["rope_theta"] = base.into();
    std::fs::create_dir_all(&copy).map_err(failed)?;
    std::fs::write(copy.join("config.json"), config.to_string()).map_err(failed)?;
    let weights = copy.join("model.safetensors");
    std::fs::copy(model.join("model.safetensors"), &weights).map_err(failed)?;
    Ok(weights)
}

/// One run.
struct Arm {
    context: usize,
    base: f64,
    steps: u64,
    rate: f64,
    weights: Option<PathBuf>,
    out: PathBuf,
}

impl Arm {
    /// What is measured in a run of its own process, with all results in its directory.
    fn learn(&self, options: &Options) -> Result<Vec<Line>, BenchError> {
        let Arm { context, base, .. } = *self;
        let samples = TOKENS / context;
        // one window is cut, more are given out
        let (mesh, own) = match samples {
            0..4 => ("context-zig-zag 2", samples),
            _ => ("data 2", samples / 2),
        };
        let mut settings = vec![
            "data=enwiki".to_owned(),
            // a Llama
            "model.positions=rotary".to_owned(),
            format!("model.rotary_base={base:.1}"),
            "model.norm=rms".to_owned(),
            "model.activation=swiglu".to_owned(),
            "model.biases=false".to_owned(),
            "model.tied=false".to_owned(),
            "model.layers=4".to_owned(),
            "model.width=128".to_owned(),
            "model.heads=4".to_owned(),
            "model.groups=4".to_owned(),
            "model.hidden=344".to_owned(),
            format!("model.context={context}"),
            format!("samples.step={samples}"),
            format!("samples.micro={}", own.min(4096 / context).max(1)),
            format!("layout.mesh={mesh}"),
            format!("training.steps={}", self.steps),
            format!("training.rate={}", self.rate),
            "training.warm_up=50".to_owned(),
            format!("validation.every={}", (self.steps / 10).max(1)),
            format!("validation.samples={}", VALIDATED / context),
            "checkpoint.every=0".to_owned(),
        ];
        if let Some(weights) = &self.weights {
            settings.push(format!("model.weights={}", weights.display()));
        }
        let program = std::env::current_exe().map_err(|e| BenchError::failed(NAME, e))?;
        let mut command = Command::new(program);
        command.args(["run", "language", "--quiet", "--workers", "2"]);
        command.arg("--out").arg(&self.out);
        for set in &settings {
            command.args(["--set", set]);
        }
        let run = || format!("the run with {context} positions");
        let failed = |why: String| BenchError::failed(NAME, format!("{}: {why}", run()));
        peer::finish(command, 12 * options.patience).map_err(failed)?;
        let path = self.out.join("metrics.jsonl");
        let text = std::fs::read_to_string(&path);
        let text = text.map_err(|e| failed(format!("{}: {e}", path.display())))?;
        let lines = text.lines();
        Ok(lines.filter_map(|l| serde_json::from_str(l).ok()).collect())
    }
}
