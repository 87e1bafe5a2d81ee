//! The wiring of a cycling assimilation.

use std::rc::Rc;

use advect_engine::{
    Batch, Cycle, DType, Edge, Layout, Mesh, Overlap, Placement, Relayout, Result, relayout,
};
use timely::dataflow::operators::{ConnectLoop, Feedback};
use timely::dataflow::{Stream, StreamVec};

use super::analyse::{Work, analyse, arrange};
use super::background::{background, forecast};
use super::bands::Bands;
use super::contribute::contribute;
use super::observe::{ReportUpdate, observe};
use super::records::Verdict;
use super::settings::{Model, Settings};

/// What a cycling assimilation gives.
pub struct Cycled<'s> {
    /// Analysis ensembles, one shard `[rows][columns][N]` per time and worker.
    pub analyses: Stream<'s, Cycle, Batch>,
    /// Background ensembles, likewise.
    pub backgrounds: Stream<'s, Cycle, Batch>,
    /// Verdicts on reports; the last one on a report counts.
    pub verdicts: StreamVec<'s, Cycle, Verdict>,
    /// Cells analysed on this worker.
    pub work: Work,
    /// How the rows lie over the workers.
    pub bands: Bands,
}

/// Wires the loop. `reports` are updates of the collection of reports, each at
/// (its cycle, when it was known); `ticks` holds one record per worker at (first open cycle, known)
/// for every `known`, in order.
///
/// # Errors
///
/// If the layouts do not fit the grid.
pub fn assimilate<'s>(
    reports: StreamVec<'s, Cycle, ReportUpdate>,
    ticks: StreamVec<'s, Cycle, ()>,
    settings: &Rc<Settings>,
    model: &Rc<dyn Model>,
) -> Result<Cycled<'s>> {
    let scope = reports.scope();
    let workers = scope.worker().peers();
    let mesh = Mesh::line("space", workers);
    let bands = Bands::new(settings.grid, workers);
    let split = Layout::new([Placement::Split { dim: 0 }]);
    let halo = Layout::new([Placement::Halo {
        dim: 0,
        width: 1,
        edge: Edge::Clamped,
        overlap: Overlap::Copies,
    }]);
    let shape = [settings.grid.rows(), settings.grid.columns(), settings.members];
    let widen = Relayout::plan(&mesh, &shape, DType::F64, &split, &halo)?;

    let (handle, fed) = scope.feedback::<Batch>(Cycle::new(1, 0));
    let backgrounds = background(ticks, fed, settings, model, &bands);
    let wide = relayout(backgrounds.clone(), &widen);
    let departures = observe(reports, wide, settings, &bands, &halo);
    let (sums, verdicts) = contribute(departures, settings);
    let work = Work::default();
    let arranged = arrange(sums, &bands);
    let analyses = analyse(arranged, backgrounds.clone(), settings, &bands, &work);
    forecast(analyses.clone(), model, &bands).connect_loop(handle);
    Ok(Cycled { analyses, backgrounds, verdicts, work, bands })
}
