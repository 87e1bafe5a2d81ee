//! What every axis of a mesh does for a transformer.

use std::fmt;
use std::str::FromStr;

use advect_engine::{Layout, Mesh, Placement, Result};

use crate::network::rules::refuse;

/// How the keys of cut positions come to all queries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Context {
    /// Keys and values are gathered, queries stay cut.
    Gather,
    /// Positions are exchanged for heads and back: Jacobs et al. (2023), *DeepSpeed Ulysses*.
    Heads,
}

/// What an axis does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// Every worker has its samples and all parameters.
    Data,
    /// Every worker has its samples, and stores a piece of every parameter, its gradient and its
    /// optimizer state: Rajbhandari et al. (2020), *ZeRO*.
    Sharded,
    /// Heads, hidden columns and the vocabulary are cut: Shoeybi et al. (2019), *Megatron-LM*.
    Tensor,
    /// As [`Role::Tensor`], and positions are cut between: Korthikanti et al. (2022), *Reducing
    /// activation recomputation*.
    Sequence,
    /// Positions are cut everywhere but in attention.
    Context(Context),
}

const NAMES: [(&str, Role); 6] = [
    ("data", Role::Data),
    ("sharded", Role::Sharded),
    ("tensor", Role::Tensor),
    ("sequence", Role::Sequence),
    ("context-gather", Role::Context(Context::Gather)),
    ("context-heads", Role::Context(Context::Heads)),
];

impl Role {
    /// Whether heads, columns and vocabulary are cut.
    pub(crate) fn cuts_weights(self) -> bool {
        matches!(self, Role::Tensor | Role::Sequence)
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
/// ```
/// use advect_operators::transformer::{Role, Strategy};
/// let strategy = Strategy::new(&[(Role::Data, 2), (Role::Tensor, 3)])?;
/// assert_eq!(strategy.mesh().workers(), 6);
/// assert_eq!(strategy.to_string(), "data 2, tensor 3");
/// assert_eq!("data 2, tensor 3".parse::<Strategy>()?, strategy);
/// # Ok::<(), advect_engine::EngineError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Strategy {
    mesh: Mesh,
    roles: Vec<Role>,
}

impl Strategy {
    /// Axes with their roles and sizes, outermost first.
    ///
    /// # Errors
    /// If an axis has no worker.
    pub fn new(axes: &[(Role, usize)]) -> Result<Self> {
        let named = axes.iter().enumerate().map(|(i, (role, size))| {
            let before = axes[..i].iter().filter(|(r, _)| r == role).count();
            let name = match before {
                0 => role.to_string(),
                n => format!("{role} {}", n + 1),
            };
            (name, *size)
        });
        Ok(Strategy {
            mesh: Mesh::new(named)?,
            roles: axes.iter().map(|(role, _)| *role).collect(),
        })
    }

    /// One worker alone.
    pub fn alone() -> Self {
        Strategy {
            mesh: Mesh::line("data", 1),
            roles: vec![Role::Data],
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
        let cut = axes.filter(|(role, _)| matches!(role, Role::Data | Role::Sharded));
        cut.map(|(_, size)| size).product()
    }

    /// The layout with the placement that `of` gives each role.
    pub(crate) fn layout(&self, of: impl Fn(Role) -> Placement) -> Layout {
        Layout::new(self.roles.iter().map(|&role| of(role)).collect::<Vec<_>>())
    }
}

impl fmt::Display for Strategy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let axes = self.roles.iter().zip(self.mesh.sizes());
        let named: Vec<String> = axes.map(|(role, size)| format!("{role} {size}")).collect();
        f.write_str(&named.join(", "))
    }
}

impl FromStr for Strategy {
    type Err = advect_engine::EngineError;
    fn from_str(text: &str) -> Result<Self> {
        let axis = |part: &str| -> Result<(Role, usize)> {
            let words: Vec<&str> = part.split_whitespace().collect();
            match words.as_slice() {
                [role, size] if size.parse::<usize>().is_ok() => {
                    Ok((role.parse()?, size.parse().unwrap_or(1)))
                }
                _ => refuse(
                    "Strategy",
                    format!("'{part}' is no axis; write it as a role and a number, 'data 2'"),
                ),
            }
        };
        let axes: Result<Vec<_>> = text.split(',').map(axis).collect();
        Strategy::new(&axes?)
    }
}
