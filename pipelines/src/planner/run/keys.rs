//! How keys and values come to the queries of context ranks.

use std::fmt;
use std::str::FromStr;

use advect_engine::Deal;
use advect_operators::transformer::{Context, Role};
use serde::{Deserialize, Serialize};

/// How keys and values of cut positions come to all queries, and whether those of others are kept for the
/// adjoint.
///
/// ```
/// use advect_pipelines::planner::run::Keys;
/// assert_eq!("ring-kept".parse(), Ok(Keys::RING_KEPT));
/// assert_eq!(Keys::ZIG_ZAG.to_string(), "zig-zag");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Keys {
    /// What the axis does.
    pub come: Context,
    /// Whether keys and values of others are let go, and fetched again on the way back.
    pub again: bool,
}

impl Keys {
    /// LSS: gathered, and kept (Wang et al. 2023).
    pub const GATHER: Keys = Keys {
        come: Context::Gather(Deal::Blocks),
        again: false,
    };

    /// Gathered, and once more on the way back: the context parallelism of Megatron.
    pub const GATHER_AGAIN: Keys = Keys {
        again: true,
        ..Self::GATHER
    };

    /// Sent to all ranks, each piece worked on when it is there, and kept.
    pub const CHUNKS: Keys = Keys {
        come: Context::Chunks(Deal::Blocks),
        again: false,
    };

    /// Around the ranks, twice (Liu et al. 2023, *Ring attention*).
    pub const RING: Keys = Keys {
        come: Context::Ring(Deal::Blocks),
        again: true,
    };

    /// Around the ranks once, and kept.
    pub const RING_KEPT: Keys = Keys {
        again: false,
        ..Self::RING
    };

    /// Around the ranks twice, positions dealt so that work is even (Zhu 2024).
    pub const ZIG_ZAG: Keys = Keys {
        come: Context::Ring(Deal::ZigZag),
        again: true,
    };

    /// Ulysses: positions are exchanged for heads and back (Jacobs et al. 2023).
    pub const HEADS: Keys = Keys {
        come: Context::Heads,
        again: false,
    };

    /// All that are offered as neighbours of each other.
    pub const ALL: [Keys; 7] = [
        Self::GATHER,
        Self::GATHER_AGAIN,
        Self::CHUNKS,
        Self::RING,
        Self::RING_KEPT,
        Self::ZIG_ZAG,
        Self::HEADS,
    ];

    /// As a role has them if nothing is said: what goes around is fetched again, what was gathered is kept.
    pub fn of(come: Context) -> Self {
        let again = come.around();
        Keys { come, again }
    }

    /// How positions are dealt out.
    pub fn deal(self) -> Deal {
        self.come.deal()
    }

    /// Whether they go around.
    pub fn around(self) -> bool {
        self.come.around()
    }

    /// Whether the work of causal attention grows from rank to rank: queries of the last see all keys.
    pub fn uneven(self) -> bool {
        self.come != Context::Heads && self.deal() == Deal::Blocks
    }
}

impl fmt::Display for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let role = Role::Context(self.come).to_string();
        let name = role.trim_start_matches("context-");
        f.pad(&match (self.again, Keys::of(self.come).again) {
            (true, false) => format!("{name}-again"),
            (false, true) => format!("{name}-kept"),
            _ => name.to_owned(),
        })
    }
}

impl FromStr for Keys {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let (name, again) = match (text.strip_suffix("-again"), text.strip_suffix("-kept")) {
            (Some(name), _) => (name, Some(true)),
            (_, Some(name)) => (name, Some(false)),
            _ => (text, None),
        };
        match format!("context-{name}").parse() {
            Ok(Role::Context(come)) => Ok(Keys {
                again: again.unwrap_or(Keys::of(come).again),
                ..Keys::of(come)
            }),
            _ => Err(format!(
                "no way `{text}` of keys to queries; there are gather, gather-zig-zag, chunks, \
                 chunks-zig-zag, ring, zig-zag, striped, heads, and all but the last also with -again or -kept"
            )),
        }
    }
}

impl TryFrom<String> for Keys {
    type Error = String;
    fn try_from(name: String) -> Result<Self, String> {
        name.parse()
    }
}

impl From<Keys> for String {
    fn from(keys: Keys) -> Self {
        keys.to_string()
    }
}
