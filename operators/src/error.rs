//! The one error type of the operators: every message names the thing, the place and the mend.

use thiserror::Error;

/// What can go wrong when an operator is built or applied.
///
/// Data that is merely bad (a rejected observation) is not an error; see the quality-control
/// operators for that.
#[derive(Debug, Clone, PartialEq, Error)]
#[non_exhaustive]
pub enum OperatorError {
    // ---- shapes -------------------------------------------------------------------------------
    /// Two lengths that must agree do not.
    #[error("{place}: {what} has length {got}, expected {expected}; {mend}")]
    Shape {
        /// The operator that found the disagreement.
        place: &'static str,
        /// The quantity whose length is wrong.
        what: &'static str,
        /// The length that was found.
        got: usize,
        /// The length that is needed.
        expected: usize,
        /// What to change.
        mend: &'static str,
    },

    // ---- parameters ---------------------------------------------------------------------------
    /// A parameter lies outside the values for which the operator is defined.
    #[error("{place}: {name} = {got} is out of range; give {expected}")]
    Parameter {
        /// The operator or the section of the configuration that holds the parameter.
        place: &'static str,
        /// The name of the parameter.
        name: &'static str,
        /// The value that was given.
        got: String,
        /// The values that are accepted.
        expected: &'static str,
    },

    // ---- local functions ----------------------------------------------------------------------
    /// An operation on tensors was refused.
    #[error("{operation}: {why}")]
    Tensor {
        /// The operation.
        operation: &'static str,
        /// What does not fit.
        why: String,
    },
    /// A device is not there.
    #[error("device `{name}`: {why}")]
    Device {
        /// The name that was asked for.
        name: String,
        /// What is missing, or which devices there are.
        why: String,
    },
    /// A gradient would be zero only because nothing was computed from the input.
    #[error(
        "{input} has no gradient: no output depends on it; use it, do not ask for it, or ask for \
         gradients that may be absent"
    )]
    NoPath {
        /// The input.
        input: String,
    },

    // ---- numerics -----------------------------------------------------------------------------
    /// A dense factorization failed, which means that its input is not finite or not definite.
    #[error("{place}: the {size}x{size} matrix cannot be factorized; {mend}")]
    Factorization {
        /// The operator that needed the factorization.
        place: &'static str,
        /// The number of rows.
        size: usize,
        /// What to change.
        mend: &'static str,
    },
    /// A state of a twin experiment is no longer finite.
    #[error(
        "twin experiment `{experiment}`, seed {seed}: the state is not finite at cycle {cycle}; \
         shorten model.time_step, or raise method.inflation or method.members"
    )]
    Diverged {
        /// The name of the experiment.
        experiment: String,
        /// The seed of the run.
        seed: u64,
        /// The cycle, counted from 1, whose forecast or analysis is not finite.
        cycle: usize,
    },
}

impl OperatorError {
    /// `Ok` if `got == expected`, else [`OperatorError::Shape`].
    pub(crate) fn check_length(
        place: &'static str,
        what: &'static str,
        got: usize,
        expected: usize,
        mend: &'static str,
    ) -> Result<(), Self> {
        if got == expected {
            return Ok(());
        }
        Err(Self::Shape {
            place,
            what,
            got,
            expected,
            mend,
        })
    }

    /// [`OperatorError::Tensor`].
    pub(crate) fn tensor(operation: &'static str, why: String) -> Self {
        Self::Tensor { operation, why }
    }

    /// [`OperatorError::Parameter`] with the value printed.
    pub(crate) fn parameter(
        place: &'static str,
        name: &'static str,
        got: impl ToString,
        expected: &'static str,
    ) -> Self {
        Self::Parameter {
            place,
            name,
            got: got.to_string(),
            expected,
        }
    }
}

impl From<candle_core::Error> for OperatorError {
    fn from(why: candle_core::Error) -> Self {
        Self::tensor("a tensor", why.to_string())
    }
}
