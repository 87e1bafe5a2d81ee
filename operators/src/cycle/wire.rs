//! The wiring of a cycling assimilation.

use std::rc::Rc;

use advect_engine::{
    Batch, Cycle, DType, Edge, Layout, Mesh, Overlap, Placement, Relayout, Result, relayout,
};
use timely::dataflow::operators::{Concat, ConnectLoop, Feedback};
use timely::dataflow::{Stream, StreamVec};

use super::analyse::{Work, analyse, arrange};
use super::background::{background, forecast};
use super::bands::Bands;
use super::contribute::contribute;
use super::hybrid::{hybrid, to_all};
use super::observe::{ReportUpdate, observe};
use super::points::Points;
use super::records::{SiteAnalysis, Verdict};
use super::screen::{Screen, screen};
use super::settings::{Predictor, Settings};
use super::sites::{at_sites, summarize};

/// What a cycling assimilation gives.
pub struct Cycled<'s> {
    /// Analysis ensembles, one shard `[rows][columns][N]` per time and worker.
    pub analyses: Stream<'s, Cycle, Batch>,
    /// Background ensembles, likewise.
    pub backgrounds: Stream<'s, Cycle, Batch>,
    /// Forecasts from the analyses, likewise, each at the time of its analysis.
    pub forecasts: Stream<'s, Cycle, Batch>,
    /// Analyses at the sites.
    pub sites: StreamVec<'s, Cycle, SiteAnalysis>,
    /// Verdicts on reports; the last one on a report counts.
    pub verdicts: StreamVec<'s, Cycle, Verdict>,
    /// Points analysed on this worker.
    pub work: Work,
    /// How the rows lie over the workers.
    pub bands: Bands,
}

/// The relayout that gives each worker the row north of its band.
///
/// # Errors
///
/// If the layouts do not fit the grid.
fn widen(settings: &Settings, workers: usize) -> Result<(Relayout, Layout)> {
    let mesh = Mesh::line("space", workers);
    let split = Layout::new([Placement::Split { dim: 0 }]);
    let halo = Layout::new([Placement::Halo {
        dim: 0,
        width: 1,
        edge: Edge::Clamped,
        overlap: Overlap::Copies,
    }]);
    let shape = [
        settings.grid.rows(),
        settings.grid.columns(),
        settings.members,
    ];
    Ok((
        Relayout::plan(&mesh, &shape, DType::F64, &split, &halo)?,
        halo,
    ))
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
    screening: &Screen,
    predictor: &Rc<dyn Predictor>,
) -> Result<Cycled<'s>> {
    let scope = reports.scope();
    let (worker, workers) = (scope.worker().index(), scope.worker().peers());
    let bands = Bands::new(settings.grid, workers);
    let points = Points::new(settings, &bands);
    let (cells, sites) = (points.cells(worker), points.sites(worker));
    let (plan, halo) = widen(settings, workers)?;
    let mesh = Mesh::line("space", workers);
    let shape = [
        settings.grid.rows(),
        settings.grid.columns(),
        settings.members,
    ];
    let first_row = halo.indices(&mesh, &shape, worker)[0]
        .first()
        .copied()
        .unwrap_or(0);

    let (screened, turned_away) = screen(reports, settings, screening);
    let (handle, fed) = scope.feedback::<Batch>(Cycle::new(1, 0));
    let backgrounds = background(ticks, fed, settings, predictor, &bands);
    let wide = relayout(backgrounds.clone(), &plan);
    let site_backgrounds = at_sites(wide.clone(), settings, &sites, first_row);
    let departures = observe(screened, wide, settings, &bands, first_row);
    let (sums, verdicts) = contribute(departures, settings);
    let arranged = arrange(sums, &points);
    let known_to_all = to_all(verdicts.clone());

    let work = Work::default();
    let ensembles = analyse(
        arranged.clone(),
        backgrounds.clone(),
        settings,
        Rc::clone(&cells),
        &work,
    );
    let analyses = hybrid(
        ensembles,
        backgrounds.clone(),
        known_to_all.clone(),
        settings,
        &cells,
        false,
    );
    let at_them = analyse(
        arranged,
        site_backgrounds.clone(),
        settings,
        Rc::clone(&sites),
        &work,
    );
    let at_them = hybrid(
        at_them,
        site_backgrounds,
        known_to_all,
        settings,
        &sites,
        true,
    );
    let sites = summarize(at_them, &sites, settings.grid.cells());
    let forecasts = forecast(analyses.clone(), predictor, &bands);
    forecasts.clone().connect_loop(handle);
    let verdicts = verdicts.concat(turned_away);
    Ok(Cycled {
        analyses,
        backgrounds,
        forecasts,
        sites,
        verdicts,
        work,
        bands,
    })
}
