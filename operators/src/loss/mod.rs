//! Losses: from predictions to one number that is differentiated.

mod mean_square;

pub use mean_square::MeanSquare;
