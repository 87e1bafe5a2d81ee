//! Cycling assimilation as one dataflow.
//!
//! ```text
//! reports ─► Screen ─► Observe ─► Contribute ─► LocalSums ─► Analyse ─► Hybrid ─► analyses
//!                        ▲         (checks)     (partials)      ▲                    │
//!                        │ halo                                 │                    ▼
//!                    Background ────────────────────────────────┘                Forecast
//!                        ▲                                                           │
//!                        └──────────────── next cycle (feedback) ◄───────────────────┘
//! ```
//!
//! The state is `Split` by rows of the grid; a relayout gives each worker the row north of its band,
//! so that reports between two bands can be interpolated. Reports travel to the band they lie in, and to
//! the bands within the radius of the buddy check. What crosses workers after that are partials:
//! exact sums of observation information ([`Sums`]), keyed by cell and held by differential dataflow.
//!
//! Time is [`Cycle`](advect_engine::Cycle)`(valid, known)`: at each `known` the loop runs over the cycles that late or
//! corrected reports can still change, from the first open one to the current one, and in each only
//! what has other bits is computed again. The result is a function of the reports that stand, not of
//! the order in which they came, nor of the number of workers, to the bit.

pub mod analyse;
pub mod background;
pub mod bands;
pub mod contribute;
pub mod hybrid;
pub mod observe;
pub mod points;
pub mod records;
pub mod resume;
pub mod screen;
pub mod settings;
pub mod sites;
pub mod sums;

mod wire;

pub use analyse::Work;
pub use bands::Bands;
pub use observe::ReportUpdate;
pub use records::{Departed, SiteAnalysis, Verdict};
pub use resume::{Resumed, kept};
pub use screen::Screen;
pub use settings::{Hybrid, Predictor, Settings, Site, Taper};
pub use sums::{Row, Sums};
pub use wire::{Cycled, assimilate};
