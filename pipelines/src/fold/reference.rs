//! Predictors without a model, which see the same visible letters.

use serde::Serialize;

use super::alignment::Alignment;
use super::profile::{Profile, Residues};
use super::sample::{Extents, Sample};

/// How many masked residues are the likeliest, and what the right ones are expected with.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub(crate) struct Score {
    /// Part of the targets, 0 to 1.
    pub(crate) recovered: f64,
    /// Cross-entropy, nats a target.
    pub(crate) nats: f64,
}

/// The scores of all predictors on some samples.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub(crate) struct References {
    /// Masked residues.
    pub(crate) targets: u64,
    /// Of each predictor; none if there is no masked residue.
    #[serde(flatten)]
    pub(crate) scores: Option<Scores>,
}

/// The scores of predictors.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(crate) struct Scores {
    /// Column frequencies of the visible letters in the rows of the sample.
    pub(crate) sampled_columns: Score,
    /// Column frequencies of the visible letters in all rows of the alignment.
    pub(crate) whole_columns: Score,
    /// The same with rows near the one in question counting more.
    pub(crate) neighbours: Score,
}

impl References {
    /// Of these samples.
    pub(crate) fn of(alignments: &[Alignment], samples: &[Sample], extents: Extents) -> Self {
        let (mut sums, mut targets) = ([Score::default(); 3], 0u64);
        for sample in samples {
            let profile = Profile::new(&alignments[sample.alignment], sample, extents);
            for (at, target) in sample.targets.iter().enumerate() {
                let Some(target) = target else { continue };
                let (row, column) = (at / extents.length, at % extents.length);
                let expected = [
                    &profile.sampled[column],
                    &profile.whole[column],
                    &profile.near[row * sample.columns + column],
                ];
                targets += 1;
                for (sum, expected) in sums.iter_mut().zip(expected) {
                    let target = usize::from(*target);
                    sum.recovered += f64::from(u8::from(likeliest(expected) == target));
                    sum.nats -= expected[target].ln();
                }
            }
        }
        let mean = |sum: Score| Score {
            recovered: sum.recovered / targets as f64,
            nats: sum.nats / targets as f64,
        };
        let [sampled_columns, whole_columns, neighbours] = sums.map(mean);
        let scores = Scores {
            sampled_columns,
            whole_columns,
            neighbours,
        };
        References {
            targets,
            scores: (targets > 0).then_some(scores),
        }
    }
}

fn likeliest(expected: &Residues) -> usize {
    let better = |best: usize, a: usize| {
        if expected[a] > expected[best] {
            a
        } else {
            best
        }
    };
    (1..expected.len()).fold(0, better)
}

#[cfg(test)]
mod tests {
    use super::super::alignment::tests::alignment;
    use super::super::sample::Masking;
    use super::*;

    /// A column of one letter is recovered by all, and costs little; gaps are no targets.
    #[test]
    fn conserved_columns_are_recovered() {
        let rows: [&[u8]; 4] = [b"AWWA-", b"AWWA-", b"AWWA-", b"AWWAC"];
        let made = [alignment(&rows)];
        let extents = Extents {
            sequences: 4,
            length: 5,
        };
        let masking = Masking {
            part: 0.2,
            masked: 1.0,
            random: 0.0,
        };
        let samples: Vec<Sample> = (0..20)
            .map(|n| Sample::draw(&made, extents, masking, 1, n))
            .collect();
        let found = References::of(&made, &samples, extents);
        assert!(found.targets > 20);
        let scores = found.scores.expect("there are targets");
        for score in [
            scores.sampled_columns,
            scores.whole_columns,
            scores.neighbours,
        ] {
            assert!(score.recovered > 0.8, "{found:?}");
            assert!(score.nats > 0.0 && score.nats < 0.8, "{found:?}");
        }
        let none = References::of(&made, &[], extents);
        let text = serde_json::to_string(&none).expect("it is written");
        assert_eq!(text, "{\"targets\":0}");
    }
}
