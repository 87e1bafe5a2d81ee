//! What a block of a transformer sends is the closed form of its strategy, to the byte, and is known
//! before anything runs. All-gather and reduce-scatter of M bytes over n workers send $(n-1) M$ in all,
//! an all-reduce both, an all-to-all $(n-1)/n\, M$.
//!
//! Sources: Korthikanti et al. (2022) for tensor and sequence parallelism, Rajbhandari et al. (2020) for
//! ZeRO, Jacobs et al. (2023) for Ulysses.

use advect_engine::{DType, Deal};
use advect_operators::transformer::{Activation, Context, Gpt, Role, Strategy, Style, Zero};

const SAMPLES: usize = 8;
const SIZE: usize = 8;

fn model(layers: usize, groups: usize) -> Gpt {
    Gpt {
        vocabulary: 64,
        context: 16,
        layers,
        width: 32,
        heads: 8,
        groups,
        head: 4,
        hidden: 64,
        activation: Activation::Gelu,
        style: Style::GPT2,
    }
}

/// Bytes that all workers send for one block more, on the way forward and on the way back.
fn of_a_block(axes: &[(Role, usize)], groups: usize) -> [usize; 2] {
    of_a_block_on(&Strategy::new(axes).expect("axes with workers"), groups)
}

fn of_a_block_on(strategy: &Strategy, groups: usize) -> [usize; 2] {
    let sent = |layers: usize| {
        let made = model(layers, groups).train(SAMPLES, DType::F64, strategy);
        let made = made.expect("the extents fit");
        let back = |w| {
            let gradients = made.gradient_bytes_sent(w).expect("parameters are stored");
            made.graph.bytes_sent_back(w) + gradients
        };
        let workers = 0..made.graph.mesh().workers();
        let there = workers
            .clone()
            .map(|w| made.graph.bytes_sent(w))
            .sum::<usize>();
        [there, workers.map(back).sum()]
    };
    let (one, two) = (sent(1), sent(2));
    [two[0] - one[0], two[1] - one[1]]
}

/// M: bytes of the residual stream of a micro-batch.
fn stream() -> usize {
    let model = model(1, 8);
    SAMPLES * model.context * model.width * SIZE
}

/// Bytes of the parameters of a block.
fn block(groups: usize) -> usize {
    (model(2, groups).parameters() - model(1, groups).parameters()) * SIZE
}

/// Bytes of what no worker cuts in tensor parallelism: two norms, and the shifts of two projections
/// back. Their cotangents are partial sums.
fn uncut() -> usize {
    6 * model(1, 8).width * SIZE
}

/// Data parallelism: an all-reduce of the gradient.
#[test]
fn data_is_one_all_reduce_of_the_gradient() {
    for n in [2, 4, 8] {
        assert_eq!(
            of_a_block(&[(Role::Data, n)], 8),
            [0, 2 * (n - 1) * block(8)]
        );
    }
}

/// ZeRO-1: parameters are gathered, gradients reduced and scattered; together what data parallelism
/// sends.
#[test]
fn sharded_is_a_gather_and_a_reduce_scatter() {
    for n in [2, 4, 8] {
        let part = (n - 1) * block(8);
        assert_eq!(
            of_a_block(&[(Role::Sharded(Zero::States), n)], 8),
            [part, part]
        );
    }
}

/// ZeRO-2 sends the same at one micro-batch, and ZeRO-3 gathers once more on the way back what the
/// adjoint needs: the matrices.
#[test]
fn sharded_further_gathers_again() {
    for n in [2, 4] {
        let part = (n - 1) * block(8);
        let two = of_a_block(&[(Role::Sharded(Zero::Gradients), n)], 8);
        assert_eq!(two, [part, part]);
        let model = model(1, 8);
        let (h, f) = (model.width, model.hidden);
        let again = (n - 1) * (4 * h * h + 2 * h * f) * SIZE;
        let three = of_a_block(&[(Role::Sharded(Zero::Parameters), n)], 8);
        assert_eq!(three, [part, part + again]);
    }
}

/// A stage sends the residual stream to the next, and its cotangent back.
#[test]
fn stages_send_the_stream() {
    let sent = |mesh: &str| {
        let strategy: Strategy = mesh.parse().expect("a mesh");
        let made = model(4, 8).train(SAMPLES, DType::F64, &strategy);
        let graph = made.expect("the extents fit").graph;
        let workers = 0..graph.mesh().workers();
        let there: Vec<usize> = workers.clone().map(|w| graph.bytes_sent(w)).collect();
        (
            there,
            workers
                .map(|w| graph.bytes_sent_back(w))
                .collect::<Vec<_>>(),
        )
    };
    let (m, table) = (stream(), 64 * 32 * SIZE);
    // the table of tokens goes to the other end once a version, and its gradient comes back
    assert_eq!(sent("stage 2"), (vec![m + table, 0], vec![0, m + table]));
    assert_eq!(
        sent("stage 4"),
        (vec![m + table, m, m, 0], vec![0, m, m, m + table])
    );
    // interleaved chunks go around
    assert_eq!(
        sent("stage 2 (1 1 1 1)"),
        (vec![2 * m + table, m], vec![m, 2 * m + table])
    );
    // tensor parallel stages send what each of them has
    let (there, _) = sent("stage 2, sequence 2");
    let (alone, _) = sent("sequence 2");
    let more: usize = there.iter().sum::<usize>() - alone.iter().sum::<usize>();
    assert_eq!(more, m + table, "pieces of positions and of the vocabulary");
}

/// Hybrid sharding: gathered and scattered within a group, and the pieces all-reduced between groups.
#[test]
fn sharded_within_and_data_between() {
    let (within, between) = (4, 2);
    let part = between * (within - 1) * block(8);
    let reduced = 2 * (between - 1) * block(8);
    for axes in [
        [(Role::Data, between), (Role::Sharded(Zero::States), within)],
        [(Role::Sharded(Zero::States), within), (Role::Data, between)],
    ] {
        assert_eq!(of_a_block(&axes, 8), [part, part + reduced], "{axes:?}");
    }
}

/// Tensor parallelism: two all-reduces of the stream each way.
#[test]
fn tensor_is_two_all_reduces_each_way() {
    for n in [2, 4, 8] {
        let there = 2 * 2 * (n - 1) * stream();
        let back = there + 2 * (n - 1) * uncut();
        assert_eq!(of_a_block(&[(Role::Tensor, n)], 8), [there, back]);
    }
}

/// With positions cut between blocks: two gathers and two reduce-scatters each way, the same bytes.
#[test]
fn sequence_is_four_halves_each_way() {
    for n in [2, 4, 8] {
        let there = 4 * (n - 1) * stream();
        let back = there + 2 * (n - 1) * uncut();
        assert_eq!(of_a_block(&[(Role::Sequence, n)], 8), [there, back]);
    }
}

/// Ulysses: queries, keys, values and outputs change their cut once each way; fewer groups of keys
/// send less.
#[test]
fn heads_are_four_exchanges_each_way() {
    for groups in [8, 4] {
        for n in [2, 4] {
            let keys = stream() * groups / 8;
            let there = (2 * stream() + 2 * keys) * (n - 1) / n;
            let back = there + 2 * (n - 1) * block(groups);
            let role = Role::Context(Context::Heads);
            assert_eq!(of_a_block(&[(role, n)], groups), [there, back]);
        }
    }
}

/// Keys and values that come in pieces, around or each from its own worker: as many bytes as a gather, in n − 1
/// messages; their cotangents come home the same way, and what was not kept is fetched again.
#[test]
fn keys_come_in_pieces() {
    for groups in [8, 2] {
        for n in [2, 4, 8] {
            for deal in [Deal::Blocks, Deal::ZigZag, Deal::Striped] {
                let there = (n - 1) * 2 * stream() * groups / 8;
                let back = there + 2 * (n - 1) * block(groups);
                for come in [Context::Ring(deal), Context::Chunks(deal)] {
                    let strategy = Strategy::new(&[(Role::Context(come), n)]).expect("workers");
                    for (again, more) in [(true, there), (false, 0)] {
                        let strategy = strategy.clone().regathering(again);
                        assert_eq!(of_a_block_on(&strategy, groups), [there, back + more]);
                    }
                }
            }
        }
    }
}

/// Collectives of a block, each way, of activations alone: LSS has one, where Megatron's sequence parallelism
/// has four of each, and Ulysses, whose keys and values travel together, three; a gather that is not kept is
/// one more on the way back.
#[test]
fn collectives_are_counted() {
    let of = |role: Role, n: usize, again: Option<bool>| {
        let strategy = Strategy::new(&[(role, n)]).expect("workers");
        let strategy = again.map_or(strategy.clone(), |again| strategy.regathering(again));
        let count = |layers: usize| {
            let made = model(layers, 8).train(SAMPLES, DType::F64, &strategy);
            let graph = made.expect("the extents fit").graph;
            let counts: Vec<_> = (0..n).map(|w| graph.collectives(w)).collect();
            assert!(counts.iter().all(|c| *c == counts[0]), "{role}: {counts:?}");
            counts[0]
        };
        let (one, two) = (count(1), count(2));
        [two[0] - one[0], two[1] - one[1]]
    };
    let gather = Role::Context(Context::Gather(Deal::Blocks));
    let ring = Role::Context(Context::Ring(Deal::ZigZag));
    let chunks = Role::Context(Context::Chunks(Deal::Blocks));
    for n in [2, 4, 8] {
        assert_eq!(of(gather, n, None), [1, 1], "LSS");
        assert_eq!(of(gather, n, Some(true)), [1, 2], "LSS, gathered again");
        assert_eq!(of(Role::Sequence, n, None), [4, 4], "Megatron");
        assert_eq!(
            of(Role::Context(Context::Heads), n, None),
            [3, 3],
            "Ulysses"
        );
        assert_eq!(of(ring, n, Some(false)), [n - 1, n - 1], "ring");
        assert_eq!(of(chunks, n, None), [n - 1, n - 1], "in chunks");
        assert_eq!(
            of(ring, n, None),
            [n - 1, 2 * (n - 1)],
            "ring, fetched again"
        );
    }
}

/// The two averagings of LSS are relayouts: gradients of a segment's positions are summed over the samples
/// alone, and all others over segments too.
#[test]
fn positions_are_summed_over_samples_alone() {
    let bytes = |segments: usize, data: usize| {
        let gather = Role::Context(Context::Gather(Deal::Blocks));
        let strategy = Strategy::new(&[(gather, segments), (Role::Data, data)]).expect("workers");
        let made = model(1, 8)
            .train(SAMPLES, DType::F64, &strategy)
            .expect("fits");
        let workers = 0..made.graph.mesh().workers();
        let sent = workers.map(|w| made.gradient_bytes_sent(w).expect("stored"));
        sent.sum::<usize>()
    };
    let model = model(1, 8);
    let positions = model.context * model.width * SIZE;
    let others = model.parameters() * SIZE - positions;
    assert_eq!(bytes(4, 1), 2 * 3 * others);
    assert_eq!(bytes(1, 2), 2 * (others + positions));
    // one all-reduce over 8 workers of what all have, and one over 2 of each of 4 segments
    assert_eq!(bytes(4, 2), 2 * 7 * others + 2 * positions);
}

/// Gathered keys and values: one collective each way.
#[test]
fn gathered_keys_are_one_collective_each_way() {
    for groups in [8, 2] {
        for n in [2, 4, 8] {
            let there = (n - 1) * 2 * stream() * groups / 8;
            let back = there + 2 * (n - 1) * block(groups);
            let role = Role::Context(Context::Gather(Deal::Blocks));
            assert_eq!(of_a_block(&[(role, n)], groups), [there, back]);
        }
    }
}
