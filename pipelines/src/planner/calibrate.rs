//! This machine, measured: a second of arithmetic, memory and messages.
//!
//! A device is a core with a worker on it, and all cores work while one is measured, as they do in a
//! run. The peak is what the product of the linear map reaches, κ what a block of the transformer with
//! its adjoint reaches of that, α and β what an all-reduce of two workers shows,
//! dispatch what operators take that have next to nothing to do.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use advect_engine::{DType, Data, Graph, Layout, Mesh, Shard, Spec};
use advect_operators::network::Linear;
use advect_operators::transformer::{Activation, Gpt as Transformer, Strategy, Style};

use super::error::Result;
use super::machine::{Hbm, Level, Machine, Peak, THIS};
use super::model::Gpt;
use super::{dispatch, link};

/// How long each of four things is measured, at least.
const LONG: Duration = Duration::from_millis(120);
/// Rows and columns of the product.
const SIDE: usize = 384;
/// Numbers of each of three vectors that are streamed through memory: larger than caches.
const STREAM: usize = 4 << 20;
/// Bytes of a core where the system does not say.
const ASSUMED: f64 = 2e9;

/// Measures this machine.
///
/// # Errors
/// If a worker cannot be started.
pub fn calibrate() -> Result<Machine> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let single = together(cores, || product(DType::F32))?;
    let double = together(cores, || product(DType::F64))?;
    let streamed = together(cores, || Ok(stream()))?;
    let block = together(cores, block)?;
    let link = link::measure()?;
    let dispatch = dispatch::measure()?;
    Ok(Machine {
        name: THIS.to_owned(),
        kernel_efficiency: (block / single).clamp(1e-3, 1.0),
        // β is that of an all-reduce: nothing is lost beyond it
        link_efficiency: 1.0,
        jitter: 0.0,
        dispatch,
        peak: Peak {
            fp16: 0.0,
            // arithmetic between halves is single precision
            bf16: single,
            f32: single,
            f64: double,
        },
        memory: Hbm {
            bytes: (memory().unwrap_or(ASSUMED * cores as f64) / cores as f64).floor(),
            bandwidth: streamed,
            reserve: 0.1,
        },
        levels: vec![Level {
            name: "threads".to_owned(),
            size: cores,
            latency: link.latency,
            bandwidth: link.bandwidth,
            shared_by: 1,
            rails: 1,
        }],
    })
}

/// The description as a file to keep, to edit, and to give to `--machine`.
///
/// # Errors
/// Never, for a machine that was checked.
pub fn to_toml(machine: &Machine) -> Result<String, toml::ser::Error> {
    let head = "# Measured by `advect plan --machine this --calibrate`: a device is a core with one worker.\n\
                # Peaks in FLOP/s and bandwidths in B/s while all cores work; memory.reserve is assumed.\n\
                # Add [[level]] tables for nodes and the network between them to plan beyond this machine.\n";
    Ok(head.to_owned() + &toml::to_string(machine)?)
}

/// The mean over threads that measure at the same time.
fn together(cores: usize, measure: impl Fn() -> Result<f64> + Sync) -> Result<f64> {
    let all = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..cores).map(|_| scope.spawn(&measure)).collect();
        let ended = threads.into_iter().map(|thread| thread.join());
        // a thread that panicked measured nothing
        ended.flatten().collect::<Result<Vec<f64>>>()
    })?;
    Ok(all.iter().sum::<f64>() / all.len().max(1) as f64)
}

/// What `once` does a second at its best, in its own unit: other programs only ever slow it down.
fn rate(amount: f64, mut once: impl FnMut() -> Result<()>) -> Result<f64> {
    once()?;
    let begun = Instant::now();
    let mut best = f64::INFINITY;
    while best.is_infinite() || begun.elapsed() < LONG {
        let turn = Instant::now();
        once()?;
        best = best.min(turn.elapsed().as_secs_f64());
    }
    Ok(amount / best.max(1e-9))
}

/// FLOP/s of a product.
fn product(dtype: DType) -> Result<f64> {
    let mesh = Mesh::line("one", 1);
    let mut graph = Graph::new(mesh.clone());
    let spec = Spec::new([SIDE, SIDE], dtype, Layout::same(&mesh));
    let x = graph.input("x", spec.clone())?;
    let w = graph.parameter("w", spec)?;
    let y = graph.apply("product", Linear::LAST, &[x, w])?;
    graph.output("y", y)?;
    let of = |name: &str| {
        let numbers = match dtype {
            DType::F64 => Data::from(vec![0.5f64; SIDE * SIDE]),
            _ => Data::from(vec![0.5f32; SIDE * SIDE]),
        };
        let shard = Shard::new(0, vec![SIDE, SIDE], numbers);
        (name.to_owned(), vec![shard])
    };
    let sources = BTreeMap::from(["x", "w"].map(of));
    rate(2.0 * (SIDE as f64).powi(3), || {
        graph.rehearse(&sources, [0, 0], 0)?;
        Ok(())
    })
}

/// FLOP/s of the loss of a small transformer and its adjoint, counted as a plan counts them.
fn block() -> Result<f64> {
    let (samples, width, context) = (2, 256, 128);
    let small = Transformer {
        vocabulary: 256,
        context,
        layers: 2,
        width,
        heads: 4,
        groups: 4,
        head: width / 4,
        hidden: 4 * width,
        activation: Activation::Gelu,
        style: Style::GPT2,
    };
    let trainable = small.train(samples, DType::F32, &Strategy::alone())?;
    let graph = &trainable.graph;
    let source = |(name, value)| {
        let spec: &Spec = graph.spec(value);
        let numbers = match spec.dtype {
            DType::I64 => Data::zeros(DType::I64, spec.shape.iter().product()),
            _ => Data::from(vec![0.01f32; spec.shape.iter().product()]),
        };
        let shard = Shard::new(0, spec.shape.clone(), numbers);
        (str::to_owned(name), vec![shard])
    };
    let sources = graph.sources().map(source).collect();
    let wanted: Vec<_> = graph.parameters().map(|(_, value)| value).collect();
    let loss = graph.outputs().find(|(name, _)| *name == "loss");
    let counted = Gpt::plain(2, width, 4, context, 256).model_flops(samples);
    rate(counted, || {
        let now = graph.rehearse(&sources, [0, 0], 0)?;
        if let Some((_, loss)) = loss {
            let mut one = now.value(loss)[0].clone();
            one = Shard::new(0, one.shape.clone(), Data::from(vec![1f32; one.len()]));
            now.adjoint(&BTreeMap::from([(loss, vec![one])]), &wanted)?;
        }
        Ok(())
    })
}

/// B/s of a sum of two vectors into a third.
fn stream() -> f64 {
    let (a, b) = (vec![1f64; STREAM], vec![2f64; STREAM]);
    let mut c = vec![0f64; STREAM];
    let mut best = 0.0f64;
    let begun = Instant::now();
    while best == 0.0 || begun.elapsed() < LONG {
        let pass = Instant::now();
        for ((c, a), b) in c.iter_mut().zip(&a).zip(&b) {
            *c = a + 3.0 * b;
        }
        std::hint::black_box(&mut c);
        let bytes = 3 * STREAM * size_of::<f64>();
        best = best.max(bytes as f64 / pass.elapsed().as_secs_f64());
    }
    best
}

/// Bytes of memory that this process may have: of the machine, or of its control group; `None` where the
/// system does not say.
pub fn memory() -> Option<f64> {
    let all = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = all.lines().find_map(|l| l.strip_prefix("MemTotal:"))?;
    let kib: f64 = line.trim().trim_end_matches(" kB").parse().ok()?;
    let limit = std::fs::read_to_string("/sys/fs/cgroup/memory.max").ok();
    let limit = limit.and_then(|text| text.trim().parse::<f64>().ok());
    Some((1024.0 * kib).min(limit.unwrap_or(f64::INFINITY)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is measured is a machine: it survives its file, and nothing is faster than it can be.
    #[test]
    fn this_machine_survives_its_file() {
        let machine = calibrate().unwrap();
        let text = to_toml(&machine).unwrap();
        assert_eq!(
            Machine::parse("this.toml", &text).unwrap(),
            machine,
            "{text}"
        );
        assert!(machine.peak.f32 > 1e8 && machine.peak.f32 < 1e13, "{text}");
        assert!(machine.memory.bandwidth > 1e8, "{text}");
        assert!(machine.levels[0].latency < 0.1, "{text}");
        assert!(machine.dispatch > 1e-7 && machine.dispatch < 1e-2, "{text}");
    }
}
