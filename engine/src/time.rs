//! Timestamps: small partial orders, and how they advance around loops.

use serde::{Deserialize, Serialize};
use timely::order::PartialOrder;
use timely::progress::Timestamp;
use timely::progress::timestamp::{PathSummary, Refines};

/// Defines a pair of counters under the product order, as a timestamp.
macro_rules! pair {
    ($(#[$doc:meta])* $name:ident { $(#[$a_doc:meta])* $a:ident, $(#[$b_doc:meta])* $b:ident }) => {
        $(#[$doc])*
        #[derive(
            Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize,
            Deserialize,
        )]
        pub struct $name {
            $(#[$a_doc])*
            pub $a: u64,
            $(#[$b_doc])*
            pub $b: u64,
        }

        impl $name {
            /// The time with these coordinates.
            pub fn new($a: u64, $b: u64) -> Self {
                Self { $a, $b }
            }

            /// The earliest time at or after both: the lattice join.
            pub fn join(self, other: Self) -> Self {
                Self { $a: self.$a.max(other.$a), $b: self.$b.max(other.$b) }
            }
        }

        impl PartialOrder for $name {
            fn less_equal(&self, other: &Self) -> bool {
                self.$a <= other.$a && self.$b <= other.$b
            }
        }

        impl Timestamp for $name {
            type Summary = Self;
            fn minimum() -> Self {
                Self::default()
            }
        }

        impl PathSummary<$name> for $name {
            fn results_in(&self, src: &Self) -> Option<Self> {
                Some(Self { $a: src.$a.checked_add(self.$a)?, $b: src.$b.checked_add(self.$b)? })
            }
            fn followed_by(&self, other: &Self) -> Option<Self> {
                other.results_in(self)
            }
        }

        /// A dataflow may run in these times directly.
        impl Refines<()> for $name {
            fn to_inner((): ()) -> Self {
                Self::default()
            }
            fn to_outer(self) {}
            fn summarize(_: Self) {}
        }

        impl differential_dataflow::lattice::Lattice for $name {
            fn join(&self, other: &Self) -> Self {
                (*self).join(*other)
            }
            fn meet(&self, other: &Self) -> Self {
                Self { $a: self.$a.min(other.$a), $b: self.$b.min(other.$b) }
            }
        }
    };
}

pair! {
    /// A moment of training: a micro-batch of a step.
    Tick {
        /// Optimizer step.
        step,
        /// Micro-batch within the step.
        micro
    }
}

pair! {
    /// A moment of assimilation: a valid time as known at a later time.
    ///
    /// "12Z as known at 15Z" is one point; a late report is an update at a later `known`, not an
    /// error. Both are counted in cycles from the start of the job. The order is the product
    /// order: what is known of an earlier cycle, earlier, can influence this one.
    ///
    /// ```
    /// use advect_engine::Cycle;
    /// use timely::order::PartialOrder;
    /// let noon = Cycle::new(12, 12);
    /// let noon_revised = Cycle::new(12, 15);
    /// assert!(noon.less_equal(&noon_revised));
    /// assert!(!Cycle::new(13, 13).less_equal(&noon_revised));
    /// assert_eq!(Cycle::new(13, 13).join(noon_revised), Cycle::new(13, 15));
    /// ```
    Cycle {
        /// Cycle for which the state is valid.
        valid,
        /// Cycle until which reports are taken into account.
        known
    }
}
