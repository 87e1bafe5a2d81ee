//! What is asked: a model and a step, read from the configuration of a pipeline.

use advect_operators::transformer::{Activation, Context, Norm, Positions, Role, Strategy, Zero};
use serde::Deserialize;

use super::memory::{self, Memory};
use super::model::Gpt;
use super::recipes::{PUBLISHED, Published};
use super::run::{Axes, Axis, Keys, Policy, Precision, Recompute, Run, Schedule, TENSOR_FIRST};
use crate::config::{Config, Origin};
use crate::error::{PipelineError, Result};
use crate::language::settings::{Alphabet, Regather};

/// Sequences of a step at most: a schedule is simulated micro-batch by micro-batch.
const MOST_SAMPLES: usize = 1 << 16;
/// Workers at most: every mesh of them is tried.
pub const MOST_WORKERS: usize = 1 << 20;
/// Bytes of what a device may touch at most: what is larger is a slip of the finger.
const MOST: f64 = 1e18;

#[derive(Debug, Deserialize)]
struct Text {
    alphabet: Alphabet,
}

#[derive(Debug, Deserialize)]
struct Model {
    context: usize,
    layers: usize,
    width: usize,
    heads: usize,
    groups: usize,
    hidden: usize,
    activation: Activation,
    norm: Norm,
    positions: Positions,
    biases: bool,
    tied: bool,
    precision: Precision,
}

#[derive(Debug, Deserialize)]
struct Layout {
    mesh: String,
    #[serde(default)]
    recompute: bool,
    #[serde(default)]
    regather: Regather,
}

#[derive(Debug, Deserialize)]
struct Samples {
    step: usize,
    micro: usize,
}

/// A model, a step of its training, and a mesh if one was asked for.
#[derive(Debug, Clone, PartialEq)]
pub struct Job {
    /// The model.
    pub gpt: Gpt,
    /// B, sequences of a step.
    pub batch: usize,
    /// b, sequences of a micro-batch.
    pub micro: usize,
    /// Numbers.
    pub precision: Precision,
    /// How they are stored.
    pub policy: Policy,
    /// The configuration that was asked for, or was published with the model.
    pub given: Option<Run>,
    /// The mesh that was asked for, as it was written.
    pub mesh: Option<String>,
    /// What the plan of it leaves out.
    pub notes: Vec<String>,
}

impl Job {
    /// Reads the model, the samples of a step and the mesh from the configuration of a pipeline. With the
    /// name of a published model, its extents, its numbers and its configuration stand for what nobody
    /// set.
    ///
    /// # Errors
    /// If the pipeline trains no transformer, or a value cannot be.
    pub fn read(config: &Config, model: Option<&str>) -> Result<Self> {
        let published = model.map(published).transpose()?;
        let keys = ["model.width", "layout.mesh", "samples.step"];
        if keys.iter().any(|key| config.get(key).is_none()) {
            return Err(PipelineError::Usage {
                what: "--machine".to_owned(),
                why: "this pipeline trains no transformer that could be planned".to_owned(),
                mend: "plan `language`".to_owned(),
            });
        }
        let (text, extents): (Text, Model) = (config.section("text")?, config.section("model")?);
        let (layout, samples): (Layout, Samples) =
            (config.section("layout")?, config.section("samples")?);
        let set = |key| {
            config
                .get(key)
                .is_some_and(|s| *s.origin() != Origin::Default)
        };
        let mut job = match published {
            None => Job {
                gpt: Gpt {
                    layers: extents.layers,
                    width: extents.width,
                    // a gate is half as many columns more, of weights and of activations
                    hidden: match extents.activation {
                        Activation::Swiglu => extents.hidden.saturating_add(extents.hidden / 2),
                        Activation::Gelu | Activation::Silu => extents.hidden,
                    },
                    heads: extents.heads,
                    groups: extents.groups,
                    sequence: extents.context,
                    vocabulary: text.alphabet.size(),
                    tied: extents.tied,
                },
                batch: samples.step,
                micro: samples.micro,
                precision: extents.precision,
                policy: Policy::Advect,
                given: None,
                mesh: None,
                notes: Vec::new(),
            },
            Some(Published { gpt, recipe, .. }) => {
                let (mut gpt, mut recipe) = (gpt(), recipe());
                for (key, from, to) in [
                    ("model.context", extents.context, &mut gpt.sequence),
                    ("model.layers", extents.layers, &mut gpt.layers),
                    ("samples.step", samples.step, &mut recipe.batch),
                    ("samples.micro", samples.micro, &mut recipe.micro),
                ] {
                    if set(key) {
                        *to = from;
                    }
                }
                Job {
                    gpt,
                    batch: recipe.batch,
                    micro: recipe.micro,
                    precision: recipe.precision,
                    policy: recipe.policy,
                    given: Some(recipe),
                    mesh: None,
                    notes: Vec::new(),
                }
            }
        };
        let plain = extents.norm == Norm::Layer
            && extents.positions == Positions::Learned
            && extents.biases;
        if published.is_none() && !plain {
            let note =
                "norms, positions and shifts are planned as those of a GPT-2 with these extents";
            job.notes.push(note.to_owned());
        }
        job.check(config)?;
        if layout.mesh != "auto" {
            let wrong = |why: String| config.wrong("layout.mesh", why);
            let strategy: Strategy = layout.mesh.parse().map_err(|e| wrong(format!("{e}")))?;
            let strategy = layout.regather.of(strategy);
            let recompute = match (layout.recompute, job.policy) {
                (false, Policy::Advect) => Recompute::None,
                _ => Recompute::Full,
            };
            job.given = Some(job.on(&strategy, recompute).map_err(wrong)?);
            job.mesh = Some(layout.mesh);
        }
        Ok(job)
    }

    /// Memory of every stage on the mesh of `strategy`.
    ///
    /// # Errors
    /// If such a mesh is not planned.
    pub fn memory(&self, strategy: &Strategy) -> Result<Vec<Memory>, String> {
        let recompute = match strategy.recomputes() {
            true => Recompute::Full,
            false => Recompute::None,
        };
        let run = self.on(strategy, recompute)?;
        memory::stages(&self.gpt, &run, None).map_err(|e| e.to_string())
    }

    /// Extents are those of a model, and numbers that follow from them are numbers.
    fn check(&self, config: &Config) -> Result<()> {
        let Gpt {
            layers,
            width,
            hidden,
            heads,
            groups,
            sequence,
            ..
        } = self.gpt;
        let positive = [
            ("model.layers", layers),
            ("model.context", sequence),
            ("model.width", width),
            ("model.heads", heads),
            ("model.groups", groups),
            ("model.hidden", hidden),
            ("samples.step", self.batch),
            ("samples.micro", self.micro),
        ];
        for (key, value) in positive {
            config.require(key, value > 0, "must be at least 1")?;
        }
        let whole = width.is_multiple_of(heads);
        config.require("model.heads", whole, "must divide model.width")?;
        let shared = heads.is_multiple_of(groups);
        config.require("model.groups", shared, "must divide model.heads")?;
        let few = self.batch <= MOST_SAMPLES;
        config.require(
            "samples.step",
            few,
            "is more than is planned; give 65536 or less",
        )?;
        let few = self.micro <= MOST_SAMPLES;
        config.require(
            "samples.micro",
            few,
            "is more than is planned; give 65536 or less",
        )?;
        let f = |n: usize| n as f64;
        let weights = f(width) * (4.0 * f(width) + 2.0 * f(hidden) + f(self.gpt.vocabulary));
        let small = 16.0 * f(layers) * weights < MOST && f(layers) < 1e5;
        config.require(
            "model.layers",
            small,
            "gives a model too large to plan; give less than 10^5 layers and 10^15 parameters",
        )?;
        let positions = f(sequence) * f(self.micro.max(8));
        let moment = f(layers) * (f(width) + f(hidden) + f(self.gpt.vocabulary));
        let small = 64.0 * positions * moment < MOST && positions * f(sequence) < MOST;
        let why = "with samples.micro is more than can be planned; give 10^6 or less";
        config.require("model.context", small, why)?;
        Ok(())
    }

    /// The configuration of `strategy`.
    fn on(&self, strategy: &Strategy, recompute: Recompute) -> Result<Run, String> {
        let sizes = strategy.mesh().sizes().iter().map(|size| *size as f64);
        if sizes.product::<f64>() > MOST_WORKERS as f64 {
            return Err(format!(
                "has more workers than are planned; give at most {MOST_WORKERS}"
            ));
        }
        let mut axes = Axes {
            tensor: 1,
            pipeline: 1,
            data: 1,
            context: 1,
        };
        let (mut zero, mut sequence, mut keys, mut seen) = (None, None, None, Vec::new());
        let pairs = strategy.roles().iter().zip(strategy.mesh().sizes());
        for (role, &size) in pairs.filter(|(_, size)| **size > 1) {
            let differs = |value: &mut Option<u8>, now: u8| {
                value.replace(now).is_some_and(|before| before != now)
            };
            let (extent, axis) = match role {
                Role::Data => (&mut axes.data, Axis::Data),
                Role::Sharded(_) => (&mut axes.data, Axis::Data),
                Role::Tensor | Role::Sequence => (&mut axes.tensor, Axis::Tensor),
                Role::Context(come) => {
                    // sums that have no order are not cut into turns
                    let come = match self.precision {
                        Precision::Canonical if come.in_pieces() => Context::Gather(come.deal()),
                        _ => *come,
                    };
                    let again = strategy.regathers(come.around());
                    let now = Keys { come, again };
                    if keys.replace(now).is_some_and(|before| before != now) {
                        return Err(format!(
                            "has `{role}` beside another role of its kind, which is not planned; make both \
                             axes `{role}`"
                        ));
                    }
                    (&mut axes.context, Axis::Context)
                }
                Role::Stage => (&mut axes.pipeline, Axis::Pipeline),
            };
            *extent = extent.saturating_mul(size);
            let mixed = match role {
                Role::Data => differs(&mut zero, 0),
                Role::Sharded(Zero::States) => differs(&mut zero, 1),
                Role::Sharded(Zero::Gradients) => differs(&mut zero, 2),
                Role::Sharded(Zero::Parameters) => differs(&mut zero, 3),
                Role::Tensor => differs(&mut sequence, 0),
                Role::Sequence => differs(&mut sequence, 1),
                _ => false,
            };
            if mixed {
                return Err(format!(
                    "has `{role}` beside another role of its kind, which is not planned; make both axes \
                     `{role}`"
                ));
            }
            if seen.last() != Some(&axis) {
                if seen.contains(&axis) {
                    return Err(format!(
                        "has `{role}` twice with another axis between; join them"
                    ));
                }
                seen.push(axis);
            }
        }
        // neighbours first; axes of one worker stand where they do not matter
        let order = match seen.iter().rev().is_sorted() {
            true => TENSOR_FIRST,
            false => {
                let mut order: Vec<Axis> = seen.into_iter().rev().collect();
                let missing = TENSOR_FIRST.into_iter().filter(|a| !order.contains(a));
                order.extend(missing.collect::<Vec<_>>());
                <[Axis; 4]>::try_from(order).unwrap_or(TENSOR_FIRST)
            }
        };
        let places = strategy
            .places(self.gpt.layers)
            .map_err(|e| e.to_string())?;
        let pieces: Vec<&[usize]> = places.chunk_by(|a, b| a == b).collect();
        let stages = axes.pipeline;
        let around = pieces
            .iter()
            .enumerate()
            .all(|(i, piece)| piece[0] == i % stages);
        if !around || !pieces.len().is_multiple_of(stages) {
            return Err(
                "has chunks without a layer, which are not planned; give each one".to_owned(),
            );
        }
        let split: Vec<usize> = pieces.iter().map(|piece| piece.len()).collect();
        let chunks = split.len() / stages;
        // the last micro-batch of a step is filled up, as the run does it
        let moment = self.micro.saturating_mul(axes.data).min(self.batch);
        let micro = moment.div_ceil(axes.data);
        let moment = micro.saturating_mul(axes.data);
        let mut run = Run {
            axes,
            order,
            sequence: sequence == Some(1),
            keys: keys.unwrap_or(Keys::GATHER),
            schedule: match chunks {
                0 | 1 => Schedule::OneFOneB,
                _ if stages == 1 => Schedule::OneFOneB,
                chunks => Schedule::Interleaved(chunks),
            },
            split: None,
            zero: zero.unwrap_or(0),
            micro,
            batch: self.batch.div_ceil(moment).saturating_mul(moment),
            precision: self.precision,
            recompute,
            flash: true,
            policy: self.policy,
        };
        let even = (0..split.len()).all(|k| run.layers(&self.gpt, k) == split[k]);
        run.split = (stages > 1 && !even).then_some(split);
        Ok(run)
    }
}

/// The published model of this name.
fn published(name: &str) -> Result<Published> {
    let mut all = PUBLISHED.into_iter();
    all.find(|p| p.name.eq_ignore_ascii_case(name))
        .ok_or_else(|| {
            PipelineError::unknown("published model", name, PUBLISHED.iter().map(|p| p.name))
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Sources, resolve};
    use crate::language::Language;
    use crate::planner::recipes::recipe_175b;

    fn job(model: Option<&str>, set: &[&str]) -> Result<Job> {
        let sources = Sources {
            set: set.iter().map(|s| (*s).to_owned()).collect(),
            ..Sources::default()
        };
        Job::read(&resolve(&Language, &sources)?, model)
    }

    fn given(mesh: &str, set: &[&str]) -> Run {
        let mesh = format!("layout.mesh=\"{mesh}\"");
        let job = job(None, &[&[mesh.as_str()], set].concat()).unwrap();
        job.given.unwrap()
    }

    /// Every role lands on its axis, neighbours first, and says what it shards or cuts.
    #[test]
    fn roles_become_axes() {
        let run = given("stage 3, zero-3 4, sequence 2", &[]);
        assert_eq!(run.to_string(), "t2 p3 d4 zero-3 b4 1f1b keep sp");
        let run = given("tensor 2, data 3", &["samples.step=10"]);
        assert_eq!(run.to_string(), "t2 p1 d3 zero-0 b4 1f1b keep order-dtcp");
        // ten samples in micro-batches of twelve: two places are empty
        assert_eq!((run.micro, run.batch), (4, 12));
        let run = given("data 2, context-gather 2, stage 1", &[]);
        assert_eq!((run.axes.context, run.order), (2, TENSOR_FIRST));
        assert_eq!(run.keys, Keys::GATHER);
        for (role, regather, keys) in [
            ("gather", "always", "gather-again"),
            ("ring", "auto", "ring"),
            ("zig-zag", "never", "zig-zag-kept"),
            ("heads", "auto", "heads"),
        ] {
            let mesh = format!("context-{role} 2");
            let run = given(&mesh, &[&format!("layout.regather=\"{regather}\"")]);
            assert_eq!(run.keys.to_string(), keys);
            assert!(
                run.to_string().starts_with(&format!("t1 p1 d1 c2 {keys} ")),
                "{run}"
            );
        }
    }

    /// Chunks of layers that go around are pieces of the interleaved schedule, uneven ones a split.
    #[test]
    fn chunks_become_a_schedule() {
        let run = given("stage 2 (1 1 2 1)", &["model.layers=5"]);
        assert_eq!(run.schedule, Schedule::Interleaved(2));
        assert_eq!(run.split, Some(vec![1, 1, 2, 1]));
        let run = given("stage 2", &["model.layers=4"]);
        assert_eq!((run.schedule, run.split), (Schedule::OneFOneB, None));
        // the run gives later stages more, the planner earlier ones
        let run = given("stage 2", &["model.layers=5"]);
        assert_eq!(run.split, Some(vec![2, 3]));
    }

    /// Models have as many parameters as the graph that is trained.
    #[test]
    fn parameters_are_those_of_the_run() {
        let gpt = job(None, &["model.groups=2"]).unwrap().gpt;
        let trained = advect_operators::transformer::Gpt {
            vocabulary: 256,
            context: 128,
            layers: 3,
            width: 128,
            heads: 4,
            groups: 2,
            head: 32,
            hidden: 512,
            activation: Activation::Gelu,
            style: advect_operators::transformer::Style::GPT2,
        };
        assert_eq!(gpt.total(), trained.parameters() as u64);
    }

    /// A published model comes with its configuration; what was set stands over it.
    #[test]
    fn what_was_set_stands() {
        let plain = job(Some("175B"), &[]).unwrap();
        assert_eq!(plain.given, Some(recipe_175b()));
        let longer = job(Some("175b"), &["model.context=4096", "samples.step=64"]).unwrap();
        assert_eq!((longer.gpt.sequence, longer.batch), (4096, 64));
        assert_eq!(longer.given.unwrap().batch, 64);
    }

    /// What cannot be planned is refused by the name of its setting.
    #[test]
    fn refuse_by_name() {
        for (set, said) in [
            (
                "layout.mesh=\"data 2, zero-1 2\"",
                "`zero-1` beside another role",
            ),
            (
                "layout.mesh=\"context-ring 2, context-heads 2\"",
                "`context-heads` beside another role",
            ),
            ("layout.mesh=\"data 2, tensor 2, data 2\"", "`data` twice"),
            (
                "layout.mesh=\"stage 2 (0 2 1 0)\"",
                "chunks without a layer",
            ),
            (
                "layout.mesh=\"data 9999999, data 99999999\"",
                "more workers",
            ),
            ("layout.mesh=\"stage 9999999999\"", "more workers"),
            ("layout.mesh=\"stage 4\"", "chunks without a layer"),
            ("model.layers=99999999999", "model.layers"),
            ("model.hidden=999999999999999", "model.layers"),
            ("model.context=99999999999", "model.context"),
            ("model.heads=3", "must divide model.width"),
            ("samples.micro=0", "samples.micro"),
            ("samples.step=65537", "65536 or less"),
        ] {
            let error = job(None, &[set]).unwrap_err().to_string();
            assert!(error.contains(said), "{set}: {error}");
        }
    }
}
