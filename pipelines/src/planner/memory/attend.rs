//! Attention of context ranks: what it keeps of the keys and values of others, and what it works with.

use advect_operators::transformer::Context;

use super::{keys, residual};
use crate::planner::model::Gpt;
use crate::planner::run::{Recompute, Run};

/// Queries and keys of a tile of scores, at most; as the kernels of attention have them.
const TILE: [usize; 2] = [128, 384];

/// Turns of a ring whose cotangents are under way at once, at most: of pieces, and of queries. More were not seen on
/// 2, 4 and 8 workers.
const TURNS: [usize; 2] = [6, 3];

/// What a layer keeps for its adjoint beside queries, keys, values and outputs of its own positions, bytes.
///
/// | keys and values | beside |
/// |---|---|
/// | gathered | those of all positions, in place of its own |
/// | gathered again | nothing |
/// | around, kept | the pieces of all others |
/// | around, fetched again | nothing |
/// | of its heads | outputs twice: where they are made, and where their positions are |
pub(super) fn fetched(gpt: &Gpt, run: &Run) -> u64 {
    let (all, c) = (keys(gpt, run), run.axes.context as u64);
    match run.keys.come {
        _ if c == 1 => 0,
        Context::Heads => {
            let [q, kv] = of_heads(gpt, run, [queries(gpt, run), all / c]);
            let own = queries(gpt, run) + all / c;
            (2 * q + kv).saturating_sub(own)
        }
        _ if fetches(run) => 0,
        _ => all - all / c,
    }
}

/// Whether the adjoint fetches keys and values again: what is recomputed has them from there.
fn fetches(run: &Run) -> bool {
    run.keys.again && run.recompute == Recompute::None
}

/// What its adjoint works with beside what was kept, bytes: the cotangent of the residual stream beside it; those
/// of outputs and queries; those of all keys and values that it has, and these themselves if they were fetched; and
/// a tile of scores and of their cotangents, with keys, values and theirs of one group.
pub(super) fn attend(gpt: &Gpt, run: &Run) -> u64 {
    let (all, c) = (keys(gpt, run), run.axes.context as u64);
    if c == 1 {
        return 0;
    }
    let (stream, q, piece) = (residual(gpt, run), queries(gpt, run), all / c);
    let turns = TURNS.map(|most| most.min(run.axes.context) as u64);
    let bytes = match run.keys.come {
        Context::Gather(_) => 2 * q + all + if fetches(run) { all } else { 0 },
        // outputs come from where their positions are, and queries go back there
        Context::Heads => {
            let [there, keys] = of_heads(gpt, run, [q, piece]);
            q + 2 * there + keys + if fetches(run) { keys } else { 0 }
        }
        Context::Chunks(_) | Context::Ring(_) => {
            // rows (m, l, o) of cotangents; two pieces, and what turns gave
            let heads = gpt.heads.div_ceil(run.axes.tensor) as u64;
            let rows = q + 2 * run.precision.learned() * run.tokens(gpt) as u64 * heads;
            let here = if fetches(run) { 2 * piece } else { 0 };
            rows + (turns[1] + 1) * q + here + turns[0] * piece
        }
    };
    stream + bytes + tile(gpt, run)
}

/// Bytes of the heads of the fullest rank, for those of its positions: where ranks are no divisor of the groups, some
/// have more of these.
fn of_heads(gpt: &Gpt, run: &Run, own: [u64; 2]) -> [u64; 2] {
    let [groups, most] = run.groups_of_ranks(gpt).map(|n| n as u64);
    own.map(|bytes| bytes * run.axes.context as u64 * most / groups)
}

/// Queries of a micro-batch on one worker, bytes.
fn queries(gpt: &Gpt, run: &Run) -> u64 {
    let [q, _] = gpt.columns(run.axes.tensor);
    run.precision.bytes() * (run.tokens(gpt) * q) as u64
}

fn tile(gpt: &Gpt, run: &Run) -> u64 {
    let own = gpt.sequence / run.axes.context;
    let [n, t] = match run.keys.come {
        Context::Gather(_) => [own, gpt.sequence],
        Context::Chunks(_) | Context::Ring(_) => [own, own],
        Context::Heads => [gpt.sequence; 2],
    };
    let scores = n.min(TILE[0]) * t.min(TILE[1]);
    run.precision.learned() * (2 * scores + 4 * t * gpt.head()) as u64
}
