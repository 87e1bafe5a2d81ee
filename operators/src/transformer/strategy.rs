//! What every axis of a mesh does for a transformer.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use advect_engine::{Deal, Layout, Mesh, Placement, Result};

use crate::attention::Pieces;
use crate::network::rules::refuse;

/// How the keys of cut positions come to all queries.
///
/// | | known as | keys and values that a worker has | travels |
/// |---|---|---|---|
/// | `Gather` | LSS (Wang et al. 2023, *Ultra-long sequence distributed transformer*) | all | k‖v, once each way |
/// | `Chunks` | gather in chunks, each of which is worked on when it is there | all | k‖v from each worker to all others |
/// | `Ring` | ring attention (Liu et al. 2023) | two pieces | k‖v around the workers, (m, ℓ, o) stays |
/// | `Heads` | Ulysses (Jacobs et al. 2023, *DeepSpeed Ulysses*) | those of its heads | q, k, v and y |
///
/// `Gather`, `Chunks` and `Ring` may deal positions out so that the work of causal attention is even ([`Deal`]). In
/// canonical mode, where no sum may know of the mesh, the latter two gather.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Context {
    /// Keys and values are gathered, queries stay cut.
    Gather(Deal),
    /// Keys and values are sent to all, queries stay cut, and attention partials merge while later chunks are
    /// under way.
    Chunks(Deal),
    /// Keys and values go around, queries stay cut, and attention partials merge.
    Ring(Deal),
    /// Positions are exchanged for heads and back.
    Heads,
}

/// What workers that share samples out store a piece of: Rajbhandari et al. (2020), *ZeRO*.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Zero {
    /// Parameters and the state of their optimizer; gathered once a step, and gradients are summed
    /// whole: ZeRO-1.
    States,
    /// Gradients, too: they are reduced and scattered at every micro-batch: ZeRO-2.
    Gradients,
    /// And of parameters nothing else is held: they are gathered at every use: ZeRO-3.
    Parameters,
}

/// What an axis does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// Every worker has its samples and all parameters.
    Data,
    /// Every worker has its samples, and stores a piece of every parameter.
    Sharded(Zero),
    /// Heads, hidden columns and the vocabulary are cut: Shoeybi et al. (2019), *Megatron-LM*.
    Tensor,
    /// As [`Role::Tensor`], and positions are cut between: Korthikanti et al. (2022), *Reducing
    /// activation recomputation*.
    Sequence,
    /// Positions are cut everywhere but in attention.
    Context(Context),
    /// Layers are cut: each is at one place, with its parameters: Huang et al. (2019), *GPipe*.
    Stage,
}

const NAMES: [(&str, Role); 15] = [
    ("data", Role::Data),
    ("zero-1", Role::Sharded(Zero::States)),
    ("zero-2", Role::Sharded(Zero::Gradients)),
    ("zero-3", Role::Sharded(Zero::Parameters)),
    ("tensor", Role::Tensor),
    ("sequence", Role::Sequence),
    (
        "context-gather",
        Role::Context(Context::Gather(Deal::Blocks)),
    ),
    (
        "context-gather-zig-zag",
        Role::Context(Context::Gather(Deal::ZigZag)),
    ),
    (
        "context-chunks",
        Role::Context(Context::Chunks(Deal::Blocks)),
    ),
    (
        "context-chunks-zig-zag",
        Role::Context(Context::Chunks(Deal::ZigZag)),
    ),
    ("context-ring", Role::Context(Context::Ring(Deal::Blocks))),
    (
        "context-zig-zag",
        Role::Context(Context::Ring(Deal::ZigZag)),
    ),
    (
        "context-striped",
        Role::Context(Context::Ring(Deal::Striped)),
    ),
    ("context-heads", Role::Context(Context::Heads)),
    ("stage", Role::Stage),
];

impl Context {
    /// How positions are dealt out.
    pub fn deal(self) -> Deal {
        match self {
            Context::Gather(deal) | Context::Chunks(deal) | Context::Ring(deal) => deal,
            Context::Heads => Deal::Blocks,
        }
    }

    /// Whether keys and values go around, from worker to worker.
    pub fn around(self) -> bool {
        matches!(self, Context::Ring(_))
    }

    /// Whether attention works on them in pieces.
    pub fn in_pieces(self) -> bool {
        matches!(self, Context::Chunks(_) | Context::Ring(_))
    }
}

impl Role {
    /// Whether heads, columns and vocabulary are cut.
    pub(crate) fn cuts_weights(self) -> bool {
        matches!(self, Role::Tensor | Role::Sequence)
    }

    /// How positions are dealt out, if the axis cuts them.
    fn deal(self) -> Deal {
        match self {
            Role::Context(come) => come.deal(),
            _ => Deal::Blocks,
        }
    }

    /// Whether positions are contiguous where the axis cuts them.
    pub(crate) fn cuts_positions(self) -> bool {
        matches!(self, Role::Sequence | Role::Context(_)) && self.deal() == Deal::Blocks
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = NAMES.iter().find(|(_, role)| role == self);
        f.write_str(name.map_or("", |(name, _)| name))
    }
}

impl FromStr for Role {
    type Err = advect_engine::EngineError;
    fn from_str(name: &str) -> Result<Self> {
        match NAMES.iter().find(|(n, _)| *n == name) {
            Some((_, role)) => Ok(*role),
            None => {
                let known = NAMES.map(|(name, _)| name).join(", ");
                refuse("Strategy", format!("no role '{name}'; there are {known}"))
            }
        }
    }
}

/// A mesh, and what its axes do.
///
/// Layers are cut into chunks, which go around the stages: as many chunks as stages, as even as they
/// come, unless their layers are given, chunk by chunk. More chunks than stages are the interleaved
/// schedule of Narayanan et al. (2021), *Efficient large-scale language model training*.
///
/// ```
/// use advect_operators::transformer::{Role, Strategy};
/// let strategy = Strategy::new(&[(Role::Data, 2), (Role::Tensor, 3)])?;
/// assert_eq!(strategy.mesh().workers(), 6);
/// assert_eq!(strategy.to_string(), "data 2, tensor 3");
/// assert_eq!("data 2, tensor 3".parse::<Strategy>()?, strategy);
/// // five layers on two stages: 1 and 2 on the first, then 1 and 1 on the second
/// let staged: Strategy = "stage 2 (1 1 2 1)".parse()?;
/// assert_eq!(staged.places(5)?, [0, 1, 0, 0, 1]);
/// assert_eq!("stage 2".parse::<Strategy>()?.places(5)?, [0, 0, 1, 1, 1]);
/// # Ok::<(), advect_engine::EngineError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Strategy {
    mesh: Mesh,
    roles: Vec<Role>,
    /// Layers of each chunk, if they are given.
    pub(super) chunks: Option<Vec<usize>>,
    recompute: bool,
    regather: Option<bool>,
    offload: Option<PathBuf>,
    /// The device that blocks run on, by name, if it is not the kernels of this crate.
    device: Option<String>,
}

impl Strategy {
    /// Axes with their roles and sizes, outermost first.
    ///
    /// # Errors
    /// If an axis has no worker, two axes cut the layers, or keys go around two.
    pub fn new(axes: &[(Role, usize)]) -> Result<Self> {
        let named = axes.iter().enumerate().map(|(i, (role, size))| {
            let before = axes[..i].iter().filter(|(r, _)| r == role).count();
            let name = match before {
                0 => role.to_string(),
                n => format!("{role} {}", n + 1),
            };
            (name, *size)
        });
        let pieces = axes
            .iter()
            .filter(|(role, _)| matches!(role, Role::Context(come) if come.in_pieces()));
        if pieces.count() > 1 {
            return refuse(
                "Strategy",
                "keys come in pieces along two axes; make them one",
            );
        }
        if axes.iter().filter(|(role, _)| *role == Role::Stage).count() > 1 {
            return refuse("Strategy", "two axes cut the layers; make them one 'stage'");
        }
        let deals = axes.iter().map(|(role, _)| role.deal()).enumerate();
        let mesh = deals.fold(Mesh::new(named)?, |mesh, (axis, deal)| {
            mesh.dealing(axis, deal)
        });
        Ok(Strategy {
            mesh,
            roles: axes.iter().map(|(role, _)| *role).collect(),
            chunks: None,
            recompute: false,
            regather: None,
            offload: None,
            device: None,
        })
    }

    /// The same mesh with the layers cut into chunks of so many, one after the other.
    ///
    /// # Errors
    /// If the number of chunks is no multiple of that of the stages.
    pub fn with_chunks(self, layers: &[usize]) -> Result<Self> {
        let stages = self.stages();
        if layers.is_empty() || !layers.len().is_multiple_of(stages) {
            let why = format!(
                "{} chunks on {stages} stages; give each stage the same number of chunks",
                layers.len()
            );
            return refuse("Strategy", why);
        }
        Ok(Strategy {
            chunks: Some(layers.to_vec()),
            ..self
        })
    }

    /// The same, with the activations inside of blocks made again on the way back: Chen et al. (2016),
    /// *Training deep nets with sublinear memory cost*.
    #[must_use]
    pub fn recomputing(self, recompute: bool) -> Self {
        Strategy { recompute, ..self }
    }

    /// The same, where keys and values of other workers are let go, and fetched again on the way back, or are
    /// kept; if nothing is said, those that go around are fetched again, and those that were gathered kept.
    #[must_use]
    pub fn regathering(self, regather: bool) -> Self {
        Strategy {
            regather: Some(regather),
            ..self
        }
    }

    /// The same, where what blocks keep for the adjoint waits in files in `directory`: of blocks that are computed
    /// again their inputs, of others all that operators name.
    #[must_use]
    pub fn offloading(self, directory: impl Into<PathBuf>) -> Self {
        Strategy {
            offload: Some(directory.into()),
            ..self
        }
    }

    /// Whether what blocks keep waits in files.
    pub fn offloads(&self) -> bool {
        self.offload.is_some()
    }

    /// Where they are.
    pub(crate) fn offloaded_to(&self) -> Option<&Path> {
        self.offload.as_deref()
    }

    /// Whether keys and values of other workers are fetched again, for keys that go around or do not.
    pub fn regathers(&self, around: bool) -> bool {
        self.regather.unwrap_or(around)
    }

    /// How pieces of keys and values come, and along which axis, if they do.
    pub(crate) fn pieces(&self) -> Option<Pieces> {
        let roles = self.roles.iter().zip(self.mesh.sizes()).enumerate();
        let mut found = roles.filter(|(_, (_, size))| **size > 1);
        found.find_map(|(axis, (role, _))| match role {
            Role::Context(Context::Ring(_)) => Some(Pieces::Around(axis)),
            Role::Context(Context::Chunks(_)) => Some(Pieces::Direct(axis)),
            _ => None,
        })
    }

    /// Whether activations are made again.
    pub fn recomputes(&self) -> bool {
        self.recompute
    }

    /// The same, with the operators of blocks and of the head as functions on a device, by its name
    /// ([`local::device`](crate::local::device())): norms, linear maps, rotary positions, attention. Those between
    /// two relayouts are one function, which works on what its worker has of the stream, and on the parameters of
    /// a version, which are brought once. Embeddings, shifts of branches, dropout, sums of residuals and losses
    /// stay where they are.
    ///
    /// A function keeps its tape on the device until its cotangent comes. With [`Zero::Parameters`], and with
    /// [`Strategy::regathering`] where keys are gathered, it keeps what goes in instead, so that what was gathered
    /// is let go, and is computed twice; with [`Strategy::recomputing`] a block is computed twice anyway, and keeps
    /// the tapes of one block. Keys that go around are attended to by the kernels.
    #[must_use]
    pub fn on(self, device: impl Into<String>) -> Self {
        Strategy {
            device: Some(device.into()),
            ..self
        }
    }

    /// The name of the device that blocks run on, if it is not the kernels of this crate.
    pub fn device(&self) -> Option<&str> {
        self.device.as_deref()
    }

    /// One worker alone.
    pub fn alone() -> Self {
        Strategy {
            mesh: Mesh::line("data", 1),
            roles: vec![Role::Data],
            chunks: None,
            recompute: false,
            regather: None,
            offload: None,
            device: None,
        }
    }

    /// The mesh.
    pub fn mesh(&self) -> &Mesh {
        &self.mesh
    }

    /// The role of each axis.
    pub fn roles(&self) -> &[Role] {
        &self.roles
    }

    /// d, workers that have samples of their own.
    pub fn data(&self) -> usize {
        let axes = self.roles.iter().zip(self.mesh.sizes());
        let cut = axes.filter(|(role, _)| matches!(role, Role::Data | Role::Sharded(_)));
        cut.map(|(_, size)| size).product()
    }

    /// What is stored in pieces, at most, on any axis.
    pub(crate) fn zero(&self) -> Option<Zero> {
        let stored = self.roles.iter().filter_map(|role| match role {
            Role::Sharded(zero) => Some(*zero),
            _ => None,
        });
        stored.max()
    }

    /// p, places that layers are cut among.
    pub fn stages(&self) -> usize {
        let axes = self.roles.iter().zip(self.mesh.sizes());
        let mut cut = axes.filter(|(role, _)| **role == Role::Stage);
        cut.next().map_or(1, |(_, size)| *size)
    }

    /// The stage of `worker`.
    pub fn stage(&self, worker: usize) -> usize {
        let axes = self.roles.iter().zip(self.mesh.coordinates(worker));
        let mut cut = axes.filter(|(role, _)| **role == Role::Stage);
        cut.next().map_or(0, |(_, at)| at)
    }

    /// The stage of each of `layers` layers.
    ///
    /// # Errors
    /// If the chunks that were given have another number of layers.
    pub fn places(&self, layers: usize) -> Result<Vec<usize>> {
        let stages = self.stages();
        let even: Vec<usize> = (0..stages)
            .map(|i| (i + 1) * layers / stages - i * layers / stages)
            .collect();
        let chunks = self.chunks.as_ref().unwrap_or(&even);
        let all = chunks.iter().try_fold(0usize, |all, &n| all.checked_add(n));
        if all != Some(layers) {
            let why = format!(
                "chunks of {chunks:?} layers for {layers} layers; make them add up to the model's"
            );
            return refuse("Strategy", why);
        }
        let numbered = chunks.iter().enumerate();
        Ok(numbered
            .flat_map(|(i, &n)| std::iter::repeat_n(i % stages, n))
            .collect())
    }

    /// The layout with the placement that `of` gives each role.
    pub(crate) fn layout(&self, of: impl Fn(Role) -> Placement) -> Layout {
        Layout::new(self.roles.iter().map(|&role| of(role)).collect::<Vec<_>>())
    }
}

impl fmt::Display for Strategy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let axes = self.roles.iter().zip(self.mesh.sizes());
        let named: Vec<String> = axes
            .map(|(role, size)| match (&self.chunks, role) {
                (Some(chunks), Role::Stage) => {
                    let layers: Vec<String> = chunks.iter().map(usize::to_string).collect();
                    format!("{role} {size} ({})", layers.join(" "))
                }
                _ => format!("{role} {size}"),
            })
            .collect();
        f.write_str(&named.join(", "))
    }
}

impl FromStr for Strategy {
    type Err = advect_engine::EngineError;
    fn from_str(text: &str) -> Result<Self> {
        let (mut axes, mut chunks) = (Vec::new(), None);
        for part in text.split(',') {
            let (axis, layers) = match part.trim().strip_suffix(')') {
                Some(open) => open.split_once('(').unwrap_or((part, "")),
                None => (part, ""),
            };
            let axis: Vec<&str> = axis.split_whitespace().collect();
            let layers: Option<Vec<usize>> =
                layers.split_whitespace().map(|n| n.parse().ok()).collect();
            match (axis.as_slice(), layers) {
                ([role, size], Some(layers)) if size.parse::<usize>().is_ok() => {
                    let role: Role = role.parse()?;
                    axes.push((role, size.parse().unwrap_or(1)));
                    if role == Role::Stage && !layers.is_empty() {
                        chunks = Some(layers);
                    } else if !layers.is_empty() {
                        return refuse("Strategy", format!("'{role}' has no layers of its own"));
                    }
                }
                _ => {
                    let why = format!(
                        "'{part}' is no axis; write it as a role and a number, 'data 2', and layers \
                         of stages, if they are uneven, as 'stage 2 (3 1)'"
                    );
                    return refuse("Strategy", why);
                }
            }
        }
        let strategy = Strategy::new(&axes)?;
        match chunks {
            Some(layers) => strategy.with_chunks(&layers),
            None => Ok(strategy),
        }
    }
}
