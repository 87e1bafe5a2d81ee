//! cargo run --release --example energy_and_forces
//! last line: step 299: force error 0.0246
//!
//! A potential of pairs as a small network, trained on forces F = −∂E/∂x. Nobody writes an adjoint: the
//! function is recorded, and the loss is swept through the sweep that gave the forces.

use std::error::Error;
use std::sync::Arc;

use advect_engine::graph::{Site, Streams};
use advect_engine::source::tensors;
use advect_engine::{
    DType, Data, EngineError, Fabric, Graph, Layout, Mesh, Placement, Result, Spec, Tick,
};
use advect_operators::OperatorError;
use advect_operators::local::{Cut, Device, Function, Handle, Local, RowLayouts, Tape, Tensor};
use advect_operators::training::{
    Control, Initial, Method, Parameter, Recipe, Schedule, Trainable,
};
use timely::dataflow::operators::{Inspect, Probe};

type Made<T> = std::result::Result<T, OperatorError>;

const MOLECULES: usize = 64;
const ATOMS: usize = 5;
const STEPS: u64 = 300;

/// Forces at positions x, both `[molecules, atoms, 3]`, of the energy ½ Σ φ(r²) over all pairs of a molecule.
/// An atom and itself are a pair that has an energy and no force.
fn forces(
    tape: &mut Tape,
    x: Handle,
    phi: impl Fn(&mut Tape, Handle) -> Made<Handle>,
) -> Made<Handle> {
    let rows = tape.shape(x)?[0];
    let from = tape.reshape(x, &[rows, ATOMS, 1, 3])?;
    let to = tape.reshape(x, &[rows, 1, ATOMS, 3])?;
    let apart = tape.sub(to, from)?;
    let square = tape.sqr(apart)?;
    let square = tape.sum_keepdim(square, &[3])?;
    let pairs = phi(tape, square)?;
    let energy = tape.sum_all(pairs)?;
    let minus_half = tape.ones_like(energy)?;
    let minus_half = tape.affine(minus_half, -0.5, 0.0)?;
    Ok(tape.gradients(&[energy], &[minus_half], &[x])?[0]) // on the tape, to be swept again
}

/// φ as it is learned: W and v on Gaussians of the distance, `[…, 1]` to `[…, 1]`.
fn network(tape: &mut Tape, square: Handle, w: Handle, v: Handle) -> Made<Handle> {
    let mut radial = Vec::new();
    for n in 0..8 {
        let scaled = tape.affine(square, -4.0 * 0.6_f64.powi(n), 0.0)?;
        radial.push(tape.exp(scaled)?);
    }
    let radial = tape.concat(&radial, 3)?;
    let hidden = tape.matmul(radial, w)?;
    let hidden = tape.silu(hidden)?;
    tape.matmul(hidden, v)
}

/// Positions and forces F₀ `[molecules, atoms, 3]`, W `[8, hidden]` and v `[hidden, 1]` to the sum of
/// (F − F₀)² and the number of its terms, both `[]`. Molecules may be cut.
#[derive(Debug)]
struct ForceLoss;

impl Function for ForceLoss {
    fn inputs(&self) -> usize {
        4
    }

    fn infer(&self, _: &Mesh, inputs: &[Spec]) -> Result<Vec<Spec>> {
        let cuts = [Cut::Rows(0), Cut::Rows(0), Cut::Whole, Cut::Whole];
        let layouts = RowLayouts::try_new("ForceLoss", inputs, &cuts)?;
        let sum = Spec::new([], inputs[0].dtype, layouts.sum());
        Ok(vec![sum.clone(), sum])
    }

    fn record(&self, _: &Site, tape: &mut Tape, inputs: &[Handle]) -> Made<Vec<Handle>> {
        let &[x, expected, w, v] = inputs else {
            unreachable!("infer has counted the inputs");
        };
        let found = forces(tape, x, |tape, square| network(tape, square, w, v))?;
        let apart = tape.sub(found, expected)?;
        let square = tape.sqr(apart)?;
        let count = Tensor::new(tape.value(x)?.elem_count() as f64, tape.device(x)?)?;
        Ok(vec![tape.sum_all(square)?, tape.constant(&count)])
    }
}

/// Atoms spread over a box, and the forces of φ(s) = (1 − exp(1 − s))², Morse's potential of s = r².
fn molecules() -> Made<[Data; 2]> {
    let spread = |i: usize| 2.0 * (i as f64 * 0.618_033_988_75).fract().powi(2);
    let x: Vec<f64> = (0..MOLECULES * ATOMS * 3).map(spread).collect();
    let mut tape = Tape::new();
    let at = Tensor::from_slice(&x, (MOLECULES, ATOMS, 3), &Device::Cpu)?;
    let at = tape.input("positions", &at);
    let made = forces(&mut tape, at, |tape, s| {
        let inside = tape.affine(s, -1.0, 1.0)?;
        let fall = tape.exp(inside)?;
        let rest = tape.affine(fall, -1.0, 1.0)?;
        tape.sqr(rest)
    })?;
    let made: Vec<f64> = tape.value(made)?.flatten_all()?.to_vec1()?;
    Ok([x.into(), made.into()])
}

fn main() -> std::result::Result<(), Box<dyn Error>> {
    let mesh = Mesh::line("molecules", 2);
    let mut graph = Graph::new(mesh.clone());
    let cut = Layout::new([Placement::Split { dim: 0 }]);
    let cut = Spec::new([MOLECULES, ATOMS, 3], DType::F64, cut);
    let whole = |shape| Spec::new(shape, DType::F64, Layout::same(&mesh));
    let inputs = [
        graph.input("positions", cut.clone())?,
        graph.input("forces", cut.clone())?,
        graph.parameter("w", whole([8, 16]))?,
        graph.parameter("v", whole([16, 1]))?,
    ];
    let made = graph.apply_all("force loss", Arc::new(Local::new(ForceLoss)), &inputs)?;
    graph.output("loss", made[0])?;
    graph.output("count", made[1])?;
    print!("{graph}");

    let parameters = ["w", "v"].map(|name| Parameter {
        name: name.to_owned(),
        initial: Initial::Normal { deviation: 0.5 },
        decays: false,
    });
    let trainable = Trainable {
        graph,
        parameters: parameters.to_vec(),
    };
    let recipe = Recipe {
        method: Method::ADAMW,
        schedule: Schedule::constant(0.02),
        decay: 0.0,
        clip: None,
        seed: 1,
        average: None,
    };
    let [x, f] = molecules()?;
    let pieces = [
        ("positions", cut.cut(&mesh, 0, &x)?),
        ("forces", cut.cut(&mesh, 0, &f)?),
    ];
    let said = Fabric::Threads(2).run(move |worker, context| {
        let first = context.index == 0;
        let probe = worker.dataflow::<Tick, _, _>(|scope| {
            let mut inputs = Streams::new();
            for (name, pieces) in &pieces {
                let piece = &pieces[context.index];
                let all = (0..STEPS).map(|step| (Tick::new(step, 0), piece.clone()));
                inputs.insert((*name).to_owned(), tensors(scope, name, all.collect()));
            }
            let trained = trainable.wire(scope, inputs, &recipe, Control::default())?;
            let seen = trained.reports.inspect(move |report| {
                let (step, error) = (report.step, report.loss.sqrt());
                if first && (step % 100 == 0 || step + 1 == STEPS) {
                    println!("step {step:3}: force error {error:.4}");
                }
            });
            Ok::<_, EngineError>(seen.probe().0)
        });
        let probe = probe.map_err(|e| e.to_string())?;
        context.drive(worker, || !probe.done());
        Ok::<_, String>(())
    })?;
    Ok(said.into_iter().collect::<std::result::Result<_, _>>()?)
}
