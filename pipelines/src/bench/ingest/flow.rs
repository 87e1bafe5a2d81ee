//! The dataflow that is measured: records through quality control to hourly means.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::ops::AddAssign;
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};

use advect_operators::observations::{Quality, Report};
use timely::container::CapacityContainerBuilder;
use timely::dataflow::Scope;
use timely::dataflow::channels::pact::{Exchange, Pipeline};
use timely::dataflow::operators::generic::operator::{Operator, source};
use timely::dataflow::operators::probe::{Handle, Probe};
use timely::scheduling::SyncActivator;

/// Seconds of a window.
pub(super) const WINDOW: i64 = 3600;

/// What a feed has.
pub(super) enum Next {
    /// Reports of this window or later ones, and how many records were no reports. No report of
    /// an earlier window comes after it.
    Reports(u64, Vec<Report>, u64),
    /// Nothing now; the bell rings when there is.
    Nothing,
    /// Nothing any more.
    End,
}

/// Wakes the source of a worker from another thread.
#[derive(Clone, Default)]
pub(super) struct Bell(Arc<Mutex<Option<SyncActivator>>>);

impl Bell {
    /// Wakes the source, if it is there already; if not, it looks when it comes.
    pub(super) fn ring(&self) {
        let activator = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(activator) = activator.as_ref() {
            // a worker that has ended needs no waking
            let _ = activator.activate();
        }
    }
}

/// What came out: windows of a station and an hour, and records.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Outcome {
    /// Windows that were closed.
    pub(super) windows: u64,
    /// Records in them.
    pub(super) accepted: u64,
    /// Records that the decoder or quality control refused.
    pub(super) rejected: u64,
    /// Sum of the hourly means, each rounded to 10⁻³ of the unit.
    pub(super) means: i64,
}

impl AddAssign for Outcome {
    fn add_assign(&mut self, other: Self) {
        self.windows += other.windows;
        self.accepted += other.accepted;
        self.rejected += other.rejected;
        self.means += other.means;
    }
}

/// The limits of the measured filters.
pub(super) fn quality() -> Quality {
    Quality {
        range: (213.15, 323.15),
        domain: (20.0, 55.0, -130.0, -60.0),
        heights: (-100.0, 5000.0),
        block_list: ["BLOCKED".to_owned()].into(),
    }
}

/// The window of a time in seconds since 1970; windows before that are none.
pub(super) fn window(seconds: i64) -> u64 {
    u64::try_from(seconds.div_euclid(WINDOW)).unwrap_or(0)
}

/// Builds the dataflow; the outcome of this worker is whole when the probe is done.
pub(super) fn hourly_means<'s>(
    scope: Scope<'s, u64>,
    mut feed: impl FnMut() -> Next + 'static,
    bell: &Bell,
) -> (Handle<u64>, Rc<RefCell<Outcome>>) {
    type Out<T> = CapacityContainerBuilder<Vec<T>>;
    let outcome = Rc::new(RefCell::new(Outcome::default()));
    let (at_source, at_filter, at_end) = (outcome.clone(), outcome.clone(), outcome.clone());
    let bell = bell.clone();
    let reports = source::<_, Out<Report>, _, _>(scope, "Records", move |capability, info| {
        let again = scope.activator_for(info.address.clone());
        let ringer = scope.worker().sync_activator_for(info.address.to_vec());
        *bell.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(ringer);
        let mut capability = Some(capability);
        move |output| {
            let Some(cap) = capability.as_mut() else {
                return;
            };
            match feed() {
                Next::Reports(window, reports, refused) => {
                    at_source.borrow_mut().rejected += refused;
                    if window > *cap.time() {
                        cap.downgrade(&window);
                    }
                    output.session(&*cap).give_iterator(reports.into_iter());
                    again.activate();
                }
                Next::Nothing => (),
                Next::End => capability = None,
            }
        }
    });
    let quality = quality();
    let good = reports.unary::<Out<Report>, _, _, _>(Pipeline, "Quality", move |_, _| {
        move |input, output| {
            input.for_each(|cap, reports| {
                let before = reports.len();
                reports.retain(|r| quality.check(r).is_ok());
                at_filter.borrow_mut().rejected += (before - reports.len()) as u64;
                for time in cap.stamp().elements() {
                    output
                        .session(&cap.delayed(time, 0))
                        .give_iterator(reports.drain(..));
                }
            });
        }
    });
    let route = Exchange::new(|r: &Report| u64::from(crc32fast::hash(r.station.as_bytes())));
    let means = good.unary_frontier::<Out<(u64, String, i64)>, _, _, _>(
        route,
        "Hourly means",
        move |_, _| {
            let mut open = BTreeMap::new();
            move |(input, frontier), output| {
                input.for_each(|cap, reports| {
                    for report in reports.drain(..) {
                        let window = window(report.time);
                        let (_, sums) = open
                            .entry(window)
                            .or_insert_with(|| (cap.delayed(&window, 0), HashMap::new()));
                        let sum: &mut (i64, i64) = sums.entry(report.station).or_default();
                        *sum = (sum.0 + report.value, sum.1 + 1);
                    }
                });
                while let Some(first) = open.first_entry() {
                    if frontier.less_equal(first.key()) {
                        break;
                    }
                    let (window, (cap, sums)) = first.remove_entry();
                    let mut sums: Vec<(String, (i64, i64))> = sums.into_iter().collect();
                    sums.sort_unstable();
                    let mut outcome = at_end.borrow_mut();
                    for (station, (sum, count)) in sums {
                        let mean = (sum + count / 2).div_euclid(count);
                        outcome.windows += 1;
                        outcome.accepted += count as u64;
                        outcome.means += mean;
                        output.session(&cap).give((window, station, mean));
                    }
                }
            }
        },
    );
    let probe = Handle::new();
    means.probe_with(&probe);
    (probe, outcome)
}
