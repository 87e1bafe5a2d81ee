//! Losses: from predictions to one number that is differentiated.

mod balanced;
mod count;
mod count_each;
mod counted;
mod cross_entropy;
mod hits;
mod mean_square;
mod square_error;
mod vocabulary;

pub use balanced::BalancedCrossEntropy;
pub use count::Count;
pub use count_each::CountEach;
pub use cross_entropy::CrossEntropy;
pub use hits::Hits;
pub use mean_square::MeanSquare;
pub use square_error::SquareError;
pub use vocabulary::VocabularyPartial;
