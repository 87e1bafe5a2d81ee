//! What is known of a letter before the model: letters of its column, in all rows and in rows that are alike.
//!
//! With the visible letters $y_{kc}$ of all rows of the alignment, targets of the sample being hidden,
//!
//! $$ b_a = \frac{1 + \sum_{k, c} [y_{kc} = a]}{20 + \sum_{k, c, a} [y_{kc} = a]}, \qquad
//!    f_{ca} = \frac{b_a + \sum_k [y_{kc} = a]}{1 + \sum_{k, a} [y_{kc} = a]}, $$
//! $$ w_{rk} = e^{\tau (q_{rk} - \max_{j \ne r} q_{rj})}, \qquad
//!    p^\tau_{rca} \propto \sum_{k \ne r,\ w_{rk} \ge 10^{-4}} w_{rk} [y_{kc} = a] + \epsilon f_{ca}, $$
//!
//! where c are the columns of the sample, and $q_{rk}$ is the part of the visible residues of row r, in all columns of
//! the alignment, that row k shares. f is the predictor of column frequencies; p is its form in which rows near the
//! one in question count more, as the cluster profile of `AlphaFold` does with a hard choice (Jumper et al. 2021,
//! supplement 1.2.7); τ is an inverse temperature.

use super::alignment::{Alignment, GAP, LETTERS, RESIDUES};
use super::sample::{Extents, Sample};

/// Residues, as frequencies or their logarithms.
pub(crate) type Residues = [f64; RESIDUES];

/// τ of the neighbours that are nearest and of more of them. The first lies between those of least cross-entropy on
/// the two training alignments of the documentation, see `docs/fold.md`.
const NEAR: f64 = 25.0;
const WIDE: f64 = 12.0;
/// ε.
const COLUMN: f64 = 0.3;
/// What a letter that cannot be a target is expected with, as a logarithm.
const NEVER: f64 = -12.0;
/// Rows of less than this weight are left out.
const LITTLE: f64 = 1e-4;

/// Numbers beside each letter: logarithms of both profiles, the part of gaps in the column, and the letters that
/// are inserted before it.
pub(crate) const FEATURES: usize = 2 * RESIDUES + 2;

/// The profiles of a sample; rows of the sample that are not filled up.
#[derive(Debug)]
pub(crate) struct Profile {
    /// Frequencies of columns over the whole alignment, `[columns]`.
    pub(crate) whole: Vec<Residues>,
    /// Frequencies of columns over the rows of the sample, `[columns]`.
    pub(crate) sampled: Vec<Residues>,
    /// Frequencies over neighbours, `[rows, columns]`, of the nearest and of more of them.
    pub(crate) near: Vec<Residues>,
    wide: Vec<Residues>,
    /// Part of gaps, `[columns]`.
    gaps: Vec<f64>,
}

impl Profile {
    /// Of a sample of an alignment.
    pub(crate) fn new(alignment: &Alignment, sample: &Sample, extents: Extents) -> Self {
        let visible = Visible::new(alignment, sample, extents);
        let columns = sample.first..sample.first + sample.columns;
        let mut counts = vec![[0.0; RESIDUES]; sample.columns];
        let (mut few, mut gaps) = (counts.clone(), vec![0.0; sample.columns]);
        for row in 0..alignment.rows() {
            let letters = &visible.row(row)[columns.clone()];
            for ((count, gap), &letter) in counts.iter_mut().zip(&mut gaps).zip(letters) {
                match count.get_mut(usize::from(letter)) {
                    Some(count) => *count += 1.0,
                    None => *gap += f64::from(u8::from(letter == GAP)) / alignment.rows() as f64,
                }
            }
        }
        for &row in &sample.rows {
            let letters = &visible.row(row)[columns.clone()];
            for (count, &letter) in few.iter_mut().zip(letters) {
                if let Some(count) = count.get_mut(usize::from(letter)) {
                    *count += 1.0;
                }
            }
        }
        let whole = smoothed(&counts);
        let mut profile = Profile {
            sampled: smoothed(&few),
            near: Vec::new(),
            wide: Vec::new(),
            gaps,
            whole,
        };
        for &row in &sample.rows {
            let shared = visible.shared(row);
            let of = |tau| profile.neighbours(&visible, row, &shared, tau, columns.start);
            let (near, wide) = (of(NEAR), of(WIDE));
            profile.near.extend(near);
            profile.wide.extend(wide);
        }
        profile
    }

    /// Frequencies over rows by what they share with one, in the columns from `first` on.
    fn neighbours(
        &self,
        visible: &Visible<'_>,
        of: usize,
        shared: &[f64],
        tau: f64,
        first: usize,
    ) -> Vec<Residues> {
        let most = shared.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let with = |f: &Residues| f.map(|f| COLUMN * f);
        let mut sums: Vec<Residues> = self.whole.iter().map(with).collect();
        for (row, shared) in shared.iter().enumerate() {
            let weight = (tau * (shared - most)).exp();
            if row == of || weight < LITTLE {
                continue;
            }
            let letters = &visible.row(row)[first..][..sums.len()];
            for (sum, &letter) in sums.iter_mut().zip(letters) {
                if let Some(sum) = sum.get_mut(usize::from(letter)) {
                    *sum += weight;
                }
            }
        }
        for sum in &mut sums {
            let total: f64 = sum.iter().sum();
            *sum = sum.map(|x| x / total);
        }
        sums
    }

    /// `features` `[s, l, f]` and `prior` `[s, l, letters]` of a sample: the logarithms of the profile of the
    /// nearest neighbours are what the model begins from.
    pub(crate) fn inputs(
        &self,
        alignment: &Alignment,
        sample: &Sample,
        extents: Extents,
    ) -> [Vec<f64>; 2] {
        let letters = extents.sequences * extents.length;
        let mut features = vec![0.0; letters * FEATURES];
        let mut prior = vec![0.0; letters * LETTERS];
        for (place, &row) in sample.rows.iter().enumerate() {
            for column in 0..sample.columns {
                let at = place * extents.length + column;
                let own = place * sample.columns + column;
                let feature = &mut features[at * FEATURES..][..FEATURES];
                let prior = &mut prior[at * LETTERS..][..LETTERS];
                for a in 0..RESIDUES {
                    let whole = self.whole[column][a].ln();
                    let near = self.near[own][a].ln();
                    prior[a] = near;
                    feature[a] = whole - near;
                    feature[RESIDUES + a] = self.wide[own][a].ln() - near;
                }
                prior[RESIDUES..].fill(NEVER);
                feature[2 * RESIDUES] = self.gaps[column];
                let place = row * alignment.columns + sample.first + column;
                let inserted = f64::from(alignment.inserted[place]);
                // from 0 to 1, as AlphaFold has it
                feature[2 * RESIDUES + 1] = (inserted / 3.0).atan() / std::f64::consts::FRAC_PI_2;
            }
        }
        [features, prior]
    }
}

/// Frequencies of counts, with one letter more of the frequencies of all columns.
fn smoothed(counts: &[Residues]) -> Vec<Residues> {
    let mut all = [1.0; RESIDUES];
    for count in counts {
        for (sum, x) in all.iter_mut().zip(count) {
            *sum += x;
        }
    }
    let total: f64 = all.iter().sum();
    let one = |count: &Residues| {
        let letters: f64 = count.iter().sum::<f64>() + 1.0;
        std::array::from_fn(|a| (count[a] + all[a] / total) / letters)
    };
    counts.iter().map(one).collect()
}

/// The letters of an alignment without the targets of a sample.
struct Visible<'a> {
    alignment: &'a Alignment,
    /// By row: which of the own rows it is.
    hidden: Vec<Option<usize>>,
    own: Vec<u8>,
}

/// Stands for a target: no letter, and no gap.
const HIDDEN: u8 = u8::MAX;

impl<'a> Visible<'a> {
    fn new(alignment: &'a Alignment, sample: &Sample, extents: Extents) -> Self {
        let mut hidden = vec![None; alignment.rows()];
        let mut own = Vec::with_capacity(sample.rows.len() * alignment.columns);
        for (place, &row) in sample.rows.iter().enumerate() {
            hidden[row] = Some(place);
            let begin = own.len() + sample.first;
            own.extend_from_slice(alignment.row(row));
            let targets = &sample.targets[place * extents.length..][..sample.columns];
            for (column, _) in targets.iter().enumerate().filter(|(_, t)| t.is_some()) {
                own[begin + column] = HIDDEN;
            }
        }
        Visible {
            alignment,
            hidden,
            own,
        }
    }

    fn row(&self, row: usize) -> &[u8] {
        let columns = self.alignment.columns;
        match self.hidden[row] {
            Some(place) => &self.own[place * columns..][..columns],
            None => self.alignment.row(row),
        }
    }

    /// The part of the visible residues of `row` that each row shares with it; that of itself is negative.
    fn shared(&self, row: usize) -> Vec<f64> {
        let mine = self.row(row);
        let residues = mine.iter().filter(|y| usize::from(**y) < RESIDUES).count();
        let share = |other: usize| {
            if other == row {
                return f64::NEG_INFINITY;
            }
            let pairs = mine.chunks(255).zip(self.row(other).chunks(255));
            let alike = |(a, b): (&[u8], &[u8])| {
                let both = a.iter().zip(b);
                both.map(|(x, y)| u8::from(x == y) & u8::from(*x < RESIDUES as u8))
                    .sum::<u8>()
            };
            let alike: usize = pairs.map(|pair| usize::from(alike(pair))).sum();
            alike as f64 / residues.max(1) as f64
        };
        (0..self.alignment.rows()).map(share).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::alignment::tests::alignment;
    use super::super::sample::Masking;
    use super::*;

    const EXTENTS: Extents = Extents {
        sequences: 3,
        length: 6,
    };

    fn drawn(alignment: &Alignment) -> Sample {
        let masking = Masking {
            part: 0.4,
            masked: 0.8,
            random: 0.1,
        };
        Sample::draw(std::slice::from_ref(alignment), EXTENTS, masking, 5, 3)
    }

    /// Nothing that is known depends on a target: other letters in their places leave every bit.
    #[test]
    fn targets_are_not_seen() {
        let rows: [&[u8]; 5] = [
            b"ACDEFGHI",
            b"ACDQFGHI",
            b"TCDEFG-I",
            b"LMNPQRST",
            b"ACNPFGHI",
        ];
        let first = alignment(&rows);
        let sample = drawn(&first);
        assert!(sample.targets.iter().any(Option::is_some));
        let mut second = first.clone();
        for (at, target) in sample.targets.iter().enumerate() {
            if let Some(target) = target {
                let row = sample.rows[at / EXTENTS.length];
                let place = row * first.columns + sample.first + at % EXTENTS.length;
                assert_eq!(second.letters[place], *target);
                second.letters[place] = (target + 7) % RESIDUES as u8;
            }
        }
        let inputs = |a: &Alignment| Profile::new(a, &sample, EXTENTS).inputs(a, &sample, EXTENTS);
        assert_eq!(inputs(&first), inputs(&second));
    }

    /// Frequencies are those that are counted, they add up to 1, and neighbours count more.
    #[test]
    fn frequencies_are_counted() {
        let rows: [&[u8]; 5] = [b"ACDEFG", b"ACDEFW", b"LMNPQW", b"LMNPQY", b"LMNPQY"];
        let made = alignment(&rows);
        let mut sample = drawn(&made);
        sample.rows = vec![0, 1, 2];
        sample.targets = vec![None; 18];
        // the last letter of the query
        sample.targets[5] = Some(5);
        let profile = Profile::new(&made, &sample, EXTENTS);
        for row in profile
            .whole
            .iter()
            .chain(&profile.sampled)
            .chain(&profile.near)
        {
            assert!((row.iter().sum::<f64>() - 1.0).abs() < 1e-12);
        }
        let (w, y) = (18, 19);
        let last = profile.whole[5];
        assert!(last[w] > 0.4 && last[y] > 0.4 && last[5] < 0.02, "{last:?}");
        assert!(profile.sampled[5][w] > 0.6);
        // the row that shares all others letters has W
        assert!(profile.near[5][w] > 0.8, "{:?}", profile.near[5]);
        assert!(profile.near[17][y] > 0.8, "{:?}", profile.near[17]);
    }
}
