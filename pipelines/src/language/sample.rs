//! Text from a trained model: a token at a time, drawn from what it expects.

use std::collections::BTreeMap;

use advect_engine::{DType, EngineError, Shard};
use advect_operators::training::Trainable;
use advect_operators::transformer::{Gpt, Strategy};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// A model with whole parameters on one worker.
pub(crate) struct Writer {
    model: Gpt,
    trainable: Trainable,
    parameters: BTreeMap<String, Vec<Shard>>,
}

impl Writer {
    /// A model with these parameters.
    ///
    /// # Errors
    /// If the extents do not fit each other.
    pub(crate) fn new(
        model: &Gpt,
        dtype: DType,
        parameters: BTreeMap<String, Shard>,
    ) -> Result<Self, EngineError> {
        let one = parameters
            .into_iter()
            .map(|(name, shard)| (name, vec![shard]));
        Ok(Writer {
            model: model.clone(),
            trainable: model.infer(1, dtype, &Strategy::alone())?,
            parameters: one.collect(),
        })
    }

    /// `count` tokens after `prompt`. Temperature 0 takes the likeliest token each time.
    ///
    /// # Errors
    /// If an operator fails.
    pub(crate) fn go_on(
        &self,
        prompt: &[u8],
        count: usize,
        temperature: f64,
        seed: u64,
    ) -> Result<Vec<u8>, EngineError> {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let mut text: Vec<u8> = prompt.to_vec();
        if text.is_empty() {
            text.push(0);
        }
        for _ in 0..count {
            let seen = &text[text.len().saturating_sub(self.model.context)..];
            let logits = self.logits(seen)?;
            text.push(draw(&logits, temperature, &mut random) as u8);
        }
        Ok(text.split_off(prompt.len()))
    }

    /// What the model expects after the last of `seen`.
    fn logits(&self, seen: &[u8]) -> Result<Vec<f64>, EngineError> {
        let (context, vocabulary) = (self.model.context, self.model.vocabulary);
        // later positions do not reach back
        let mut tokens: Vec<i64> = seen.iter().map(|t| i64::from(*t)).collect();
        tokens.resize(context, 0);
        let mut sources = self.parameters.clone();
        let tokens = Shard::new(0, vec![1, context], tokens.into());
        sources.insert(super::load::TOKENS.to_owned(), vec![tokens]);
        let graph = &self.trainable.graph;
        let now = graph.rehearse(&sources, [0, 0], 0)?;
        let logits = graph
            .outputs()
            .next()
            .map(|(_, value)| now.value(value)[0].data().clone());
        let from = (seen.len() - 1) * vocabulary;
        let mut logits = logits.and_then(|all| all.doubles()).unwrap_or_default();
        logits.truncate(from + vocabulary);
        Ok(logits.split_off(from.min(logits.len())))
    }
}

/// A token by the softmax of logits over the temperature.
fn draw(logits: &[f64], temperature: f64, random: &mut ChaCha8Rng) -> usize {
    let likeliest = (0..logits.len()).max_by(|&a, &b| logits[a].total_cmp(&logits[b]));
    let likeliest = likeliest.unwrap_or(0);
    if temperature == 0.0 {
        return likeliest;
    }
    let weight = |x: &f64| ((x - logits[likeliest]) / temperature).exp();
    let mut rest = random.random::<f64>() * logits.iter().map(weight).sum::<f64>();
    for (token, x) in logits.iter().enumerate() {
        rest -= weight(x);
        if rest <= 0.0 {
            return token;
        }
    }
    likeliest
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Frequencies follow the softmax; a low temperature sharpens it, none takes the likeliest.
    #[test]
    fn draws_follow_the_softmax() {
        let logits = [0.0, 2f64.ln(), f64::NEG_INFINITY, 5f64.ln()];
        let mut random = ChaCha8Rng::seed_from_u64(1);
        let mut counts = [0.0f64; 4];
        for _ in 0..40_000 {
            counts[draw(&logits, 1.0, &mut random)] += 1.0 / 40_000.0;
        }
        for (got, want) in counts.iter().zip([0.125, 0.25, 0.0, 0.625]) {
            assert!((got - want).abs() < 0.01, "{counts:?}");
        }
        assert_eq!(counts[2], 0.0);
        assert!((0..100).all(|_| draw(&logits, 0.0, &mut random) == 3));
        assert!((0..100).all(|_| draw(&logits, 1e-3, &mut random) == 3));
    }
}
