//! Schedules against their closed forms and their tables.

use super::*;

const UNIT: Cost = Cost {
    forward: 1,
    backward: 1,
    weight: 1,
};

fn outcome(schedule: Schedule, p: usize, m: usize, cost: Cost) -> Outcome {
    let done = Pipeline::even(schedule, p, m, cost).simulate();
    done.unwrap_or_else(|e| panic!("{schedule} p{p} m{m}: {e}"))
}

/// Two fractions are the same rational.
fn same((a, b): (u64, u64), (c, d): (usize, usize)) -> bool {
    a * d as u64 == c as u64 * b
}

const MICRO: [usize; 9] = [1, 2, 3, 4, 5, 7, 8, 16, 25];

/// A step of 1F1B and of GPipe idles for exactly (p - 1) / (m + p - 1), also with fewer
/// micro-batches than stages, whatever a forward and a backward cost.
#[test]
fn bubble_of_1f1b_and_gpipe_is_the_closed_form() {
    for schedule in [Schedule::OneFOneB, Schedule::Gpipe] {
        for p in 1..=8 {
            for m in MICRO {
                for (forward, backward) in [(1, 1), (1, 2), (3, 5), (2, 1)] {
                    let cost = Cost {
                        forward,
                        backward,
                        weight: 0,
                    };
                    let outcome = outcome(schedule, p, m, cost);
                    assert!(
                        same(outcome.bubble(false), (p - 1, m + p - 1)),
                        "{schedule} {p} {m}"
                    );
                }
            }
        }
    }
}

/// Rank i of 1F1B holds min(p - i, m) moments, one of GPipe all m.
#[test]
fn moments_in_flight_are_the_closed_form() {
    for p in 1..=8 {
        for m in MICRO {
            let moments = outcome(Schedule::OneFOneB, p, m, UNIT).moments;
            assert_eq!(moments, (0..p).map(|i| (p - i).min(m)).collect::<Vec<_>>());
            assert_eq!(outcome(Schedule::Gpipe, p, m, UNIT).moments, vec![m; p]);
        }
    }
}

/// What DeepSpeed's `TrainSchedule` does on stage `i` in its steps, in order.
fn table(p: usize, i: usize, m: usize) -> Vec<(Kind, usize)> {
    let (p, i, m) = (p as i64, i as i64, m as i64);
    let step = |k: i64| match (k % 2 == 0, i % 2 == 0) {
        (true, true) => (Kind::Forward, k / 2 - i / 2),
        (false, false) => (Kind::Forward, (k - 1) / 2 - i / 2),
        (true, false) => (Kind::Backward, k / 2 - p + (i + 1) / 2),
        (false, true) => (Kind::Backward, (k - 1) / 2 - p + 1 + i / 2),
    };
    let steps = (0..2 * (m + p - 1)).map(step);
    steps
        .filter(|(_, id)| (0..m).contains(id))
        .map(|(kind, id)| (kind, id as usize))
        .collect()
}

fn actions(pipeline: &Pipeline, i: usize) -> Vec<(Kind, usize)> {
    let (_, actions) = pipeline.trace().unwrap();
    let own = actions.into_iter().filter(|a| a.rank == i);
    own.map(|a| (a.kind, a.micro)).collect()
}

/// On even stages every rank does what the table of 1F1B says, in its order.
#[test]
fn order_of_1f1b_is_that_of_the_table() {
    for p in 1..=8 {
        for m in [1, 2, 3, p, 2 * p, 3 * p + 1] {
            let pipeline = Pipeline::even(Schedule::OneFOneB, p, m, UNIT);
            for i in 0..p {
                assert_eq!(actions(&pipeline, i), table(p, i, m), "p{p} m{m} rank {i}");
            }
        }
    }
}

/// Pipelines of 2 to 5 ranks, one of them slow.
fn uneven() -> impl Iterator<Item = Pipeline> {
    let extents = (2..=5).flat_map(|p| [1, 3, 6, 11].map(|m| (p, m)));
    extents.flat_map(|(p, m)| {
        (0..p).map(move |slow| {
            let mut pipeline = Pipeline::even(Schedule::OneFOneB, p, m, UNIT);
            pipeline.costs[slow] = Cost {
                forward: 2,
                backward: 3,
                weight: 1,
            };
            pipeline
        })
    })
}

/// On uneven stages the order differs from the table only where a rank would wait for a forward
/// that is not there while a backward is: it does the backward. The step is never slower than the
/// table's.
#[test]
fn order_on_uneven_stages_differs_from_the_table_only_to_work_instead_of_waiting() {
    let mut differ = 0;
    for pipeline in uneven() {
        let (p, m) = (pipeline.ranks, pipeline.micro);
        let tables: Vec<_> = (0..p).map(|i| table(p, i, m)).collect();
        let makespan = pipeline.simulate().unwrap().makespan;
        assert!(makespan <= replay(&pipeline, &tables), "{pipeline:?}");
        for (i, table) in tables.iter().enumerate() {
            let own = actions(&pipeline, i);
            let first = own.iter().zip(table).find(|(a, b)| a != b);
            if let Some((did, planned)) = first {
                assert_eq!((did.0, planned.0), (Kind::Backward, Kind::Forward));
                differ += 1;
            }
        }
    }
    assert!(differ > 0);
}

/// Backward first is the table of 1F1B on even stages, but on uneven ones it can be slower than the
/// table: a slow rank that takes two backwards in a row leaves the ranks after it without work.
#[test]
fn backward_first_starves_the_ranks_that_follow() {
    for p in 1..=8 {
        for m in [1, 2, 3, p, 2 * p, 3 * p + 1] {
            let mut pipeline = Pipeline::even(Schedule::OneFOneB, p, m, UNIT);
            pipeline.priority = Priority::Backward;
            for i in 0..p {
                assert_eq!(actions(&pipeline, i), table(p, i, m));
            }
        }
    }
    let mut slower = 0;
    for mut pipeline in uneven() {
        let forward = pipeline.simulate().unwrap().makespan;
        pipeline.priority = Priority::Backward;
        let backward = pipeline.simulate().unwrap().makespan;
        assert!(backward >= forward, "{pipeline:?}");
        slower += usize::from(backward > forward);
    }
    assert!(slower > 0);
}

/// Makespan of a table, executed as soon as what it waits for is there.
fn replay(pipeline: &Pipeline, tables: &[Vec<(Kind, usize)>]) -> u64 {
    let (p, m) = (pipeline.ranks, pipeline.micro);
    let mut done = vec![vec![[None::<u64>; 2]; m]; p];
    let (mut next, mut free) = (vec![0; p], vec![0u64; p]);
    while (0..p).any(|i| next[i] < tables[i].len()) {
        for i in 0..p {
            let Some((kind, id)) = tables[i].get(next[i]).copied() else {
                continue;
            };
            let cost = pipeline.costs[i];
            let (ready, time) = match kind {
                Kind::Forward if i == 0 => (Some(0), cost.forward),
                Kind::Forward => (done[i - 1][id][0], cost.forward),
                _ if i + 1 == p => (done[i][id][0], cost.backward + cost.weight),
                _ => (done[i + 1][id][1], cost.backward + cost.weight),
            };
            if let Some(ready) = ready {
                free[i] = free[i].max(ready) + time;
                done[i][id][usize::from(kind == Kind::Backward)] = Some(free[i]);
                next[i] += 1;
            }
        }
    }
    free.into_iter().max().unwrap_or(0)
}

/// A slow stage sets the pace: the step takes one pass over all stages and m - 1 slots of the
/// slowest, if that is the last.
#[test]
fn slowest_stage_sets_the_pace() {
    for p in 1..=6 {
        for m in [p, 2 * p, 3 * p + 1] {
            let mut pipeline = Pipeline::even(Schedule::OneFOneB, p, m, UNIT);
            pipeline.costs[p - 1].forward = 4;
            let makespan = pipeline.simulate().unwrap().makespan;
            assert_eq!(makespan as usize, 3 * (p - 1) + 6 * m);
        }
    }
}

/// v pieces a rank divide the bubble by v, exactly: (p - 1) / (v m + p - 1).
#[test]
fn bubble_of_interleaved_is_the_closed_form() {
    for p in 2..=6 {
        for v in 2..=4 {
            for m in [p, 2 * p, 3 * p, 5 * p] {
                for (forward, backward) in [(1, 1), (1, 2), (2, 3)] {
                    let cost = Cost {
                        forward,
                        backward,
                        weight: 0,
                    };
                    let outcome = outcome(Schedule::Interleaved(v), p, m, cost);
                    let told = outcome.bubble(false);
                    assert!(
                        same(told, (p - 1, v * m + p - 1)),
                        "p{p} v{v} m{m} F{forward} B{backward}: {told:?}"
                    );
                }
            }
        }
    }
}

/// What Megatron does on rank `i` with v pieces: forwards to warm up, then one forward and one
/// backward by turns, then the backwards that are left.
fn interleaved_table(p: usize, v: usize, i: usize, m: usize) -> Vec<(Kind, usize, usize)> {
    let micro = |k: usize| k / (p * v) * p + k % p;
    let piece = |k: usize| k % (p * v) / p;
    let forward = |k: usize| (Kind::Forward, piece(k), micro(k));
    let backward = |k: usize| (Kind::Backward, v - 1 - piece(k), micro(k));
    let warm = (2 * (p - i - 1) + (v - 1) * p).min(m * v);
    let mut all: Vec<_> = (0..warm).map(forward).collect();
    for k in 0..m * v - warm {
        all.extend([forward(k + warm), backward(k)]);
    }
    all.extend((m * v - warm..m * v).map(backward));
    all
}

/// With micro-batches in whole groups, every rank interleaves in the order of Megatron's table, but
/// where the table would wait for a forward that is not there while a backward is: the rank works
/// instead.
#[test]
fn order_of_interleaved_differs_from_the_table_only_to_work_instead_of_waiting() {
    let (mut differ, mut ranks) = (0, 0);
    for (p, v, groups) in [
        (2, 2, 1),
        (2, 4, 3),
        (3, 2, 2),
        (4, 3, 2),
        (5, 2, 2),
        (6, 3, 5),
    ] {
        let m = groups * p;
        for backward in [1, 2] {
            let cost = Cost {
                backward,
                weight: 0,
                ..UNIT
            };
            let pipeline = Pipeline::even(Schedule::Interleaved(v), p, m, cost);
            let (_, actions) = pipeline.trace().unwrap();
            ranks += p;
            for i in 0..p {
                let own = actions.iter().filter(|a| a.rank == i);
                let own = own.map(|a| (a.kind, a.chunk, a.micro));
                let mut both = own.zip(interleaved_table(p, v, i, m));
                if let Some((did, planned)) = both.find(|(a, b)| a != b) {
                    assert_eq!((did.0, planned.0), (Kind::Backward, Kind::Forward));
                    differ += 1;
                }
            }
        }
    }
    assert!(0 < differ && differ < ranks);
}

/// Interleaving holds 1 + (p - 1) / (p v) times the layers of 1F1B on the first rank.
#[test]
fn interleaving_holds_more() {
    for p in 2..=6 {
        for v in 2..=4 {
            let moments = outcome(Schedule::Interleaved(v), p, 4 * p, UNIT).moments;
            assert_eq!(moments[0], p * v + p - 1);
        }
    }
}

/// With F = B = W and p micro-batches or more, ZB-H1 idles for a third of 1F1B, (p - 1) / (3 m + p
/// - 1), and holds no more than the first rank of 1F1B.
#[test]
fn bubble_of_zb_h1_is_the_closed_form() {
    for p in 1..=8 {
        for m in p..=5 * p {
            let outcome = outcome(Schedule::ZbH1, p, m, UNIT);
            let told = outcome.bubble(false);
            assert!(same(told, (p - 1, 3 * m + p - 1)), "p{p} m{m}: {told:?}");
            assert!(outcome.moments.iter().all(|n| *n <= p), "p{p} m{m}");
        }
    }
}

/// With F = B = W and 2 p - 1 micro-batches or more, ZB-2P idles only between its first and last
/// step, and holds no more than 2 p - 1 moments.
#[test]
fn zb_2p_has_no_bubble() {
    for p in 1..=8 {
        for m in 2 * p - 1..=6 * p {
            let outcome = outcome(Schedule::Zb2p, p, m, UNIT);
            assert_eq!(outcome.bubble(true).0, 0, "p{p} m{m}: {outcome:?}");
            assert!(outcome.moments.iter().all(|n| *n < 2 * p), "p{p} m{m}");
        }
    }
}

/// Every schedule ends for any number of stages and micro-batches, with uneven stages and delays,
/// within its limit, and no rank works more or less than its costs.
#[test]
fn every_schedule_ends_within_its_limit() {
    let schedules = [
        Schedule::Gpipe,
        Schedule::OneFOneB,
        Schedule::Interleaved(2),
        Schedule::Interleaved(3),
        Schedule::ZbH1,
        Schedule::Zb2p,
    ];
    for schedule in schedules {
        for p in 1..=5 {
            for m in 1..=11 {
                let mut pipeline = Pipeline::even(schedule, p, m, UNIT);
                for (k, cost) in pipeline.costs.iter_mut().enumerate() {
                    cost.forward = 1 + (7 * k as u64 + 3) % 4;
                    cost.weight = (5 * k as u64) % 3;
                }
                pipeline.delays = (0..p as u64).map(|i| i % 3).collect();
                let outcome = pipeline.simulate();
                let outcome = outcome.unwrap_or_else(|e| panic!("{e}"));
                for i in 0..p {
                    assert!(outcome.moments[i] <= Limit::of(schedule, p, i, m).held);
                    let own = pipeline.costs.iter().skip(i).step_by(p);
                    let work: u64 = own.map(|c| c.forward + c.backward + c.weight).sum();
                    assert_eq!(outcome.busy[i], m as u64 * work);
                }
            }
        }
    }
}

/// Time that delays of `x` add to a step of `m` micro-batches, with `more` moments on rank i of 4.
fn lost(m: usize, x: u64, more: fn(usize) -> usize) -> u64 {
    let mut pipeline = Pipeline::even(Schedule::OneFOneB, 4, m, UNIT);
    let without = pipeline.simulate().unwrap().makespan;
    pipeline.delays = vec![x; 4];
    for (i, limit) in pipeline.limits.iter_mut().enumerate() {
        limit.awaited += more(i);
        limit.held += more(i);
    }
    pipeline.simulate().unwrap().makespan - without
}

/// A delay x between stages costs 2 x (p - 1) / p a slot under the limit of 1F1B: a moment waits
/// for its way there and back, and no other may take its place. Two moments more for every rank
/// that follows hide it: what is lost no longer grows with the micro-batches.
#[test]
fn delays_cost_a_round_trip_a_slot_unless_more_moments_hide_it() {
    assert_eq!(lost(128, 2, |_| 0) - lost(64, 2, |_| 0), 64 * 2 * 2 * 3 / 4);
    let more = |i: usize| 2 * (3 - i);
    assert_eq!(lost(128, 2, more), lost(64, 2, more));
}

/// A rank that may hold nothing stops the pipeline, and the error says how much is left.
#[test]
fn a_limit_of_nothing_is_a_deadlock_that_is_told() {
    let mut pipeline = Pipeline::even(Schedule::ZbH1, 2, 3, UNIT);
    pipeline.limits[1].held = 0;
    let said = pipeline.simulate().unwrap_err().to_string();
    assert!(
        said.contains("zb-h1 on 2 stages with 3 micro-batches stops"),
        "{said}"
    );
}
