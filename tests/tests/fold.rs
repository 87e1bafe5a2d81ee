//! The learning curve of `fold` is that of the alignments and the seed, not of the mesh. Five families:
//!
//! * `curve_*`: meshes of rows, columns, samples, heads and stages against one worker, with resumption.
//! * `learn_*`: masked residues of rows that it was not trained on are recovered as well as by frequencies, and better.
//! * `distances_*`: a structure beside an alignment is learned, too.
//! * `model_*`: what was learned is kept, the same from every mesh.
//! * `refuse_*`: what cannot run says which key, file or row, and why.

mod common;

use std::path::Path;

use advect_connectors::parquet::ParquetSource;
use advect_engine::Fabric;
use advect_operators::transformer::Strategy;
use advect_pipelines::config::{Sources, resolve};
use advect_pipelines::fold::Fold;
use advect_pipelines::{Pipeline, PipelineError, Stop};
use advect_tests::{curve, overlay};
use arrow_array::cast::AsArray;
use serde_json::Value;

/// A model that learns in a second.
const SMALL: [&str; 18] = [
    "model.sequences=7",
    "model.length=11",
    "model.blocks=2",
    "model.alignment=12",
    "model.pairs=8",
    "model.alignment_heads=2",
    "model.pair_heads=2",
    "model.head=4",
    "model.outer=4",
    "model.triangle=6",
    "samples.step=4",
    "samples.micro=1",
    "training.steps=8",
    "training.warm_up=2",
    "validation.every=4",
    "validation.samples=3",
    "checkpoint.every=4",
    "checkpoint.keep=9",
];

/// Nats that the model learns at least as it comes.
const LEARNED: f64 = 0.01;

fn start(mesh: &str, out: &Path, resume: bool, set: &[&str]) -> Result<(), PipelineError> {
    let workers = mesh.parse::<Strategy>()?.mesh().workers();
    let mesh = format!("layout.mesh=\"{mesh}\"");
    let set = set.iter().map(|s| s.to_string()).chain([mesh]);
    let fabric = Fabric::Threads(workers);
    common::run(&Fold, fabric, (out, resume), set, Stop::default())
}

fn small(mesh: &str, out: &Path, resume: bool, set: &[&str]) {
    let set: Vec<&str> = SMALL.iter().chain(set).copied().collect();
    start(mesh, out, resume, &set).unwrap_or_else(|e| panic!("{mesh}: {e}"));
}

fn directory() -> tempfile::TempDir {
    tempfile::tempdir().expect("a directory can be made")
}

fn on_mesh(mesh: &str, set: &[&str]) -> Vec<(String, u64, f64)> {
    let out = directory();
    small(mesh, out.path(), false, set);
    curve(out.path())
}

/// The lines of the metrics that are `what`, in the order of the steps.
fn lines(out: &Path, what: &str) -> Vec<Value> {
    let text = std::fs::read_to_string(out.join("metrics.jsonl")).expect("there are metrics");
    let all = text.lines().map(serde_json::from_str);
    let all = all.map(|line: Result<Value, _>| line.expect("a line is JSON"));
    let mut some: Vec<Value> = all.filter(|line| line["what"] == what).collect();
    some.sort_by_key(|line| line["step"].as_u64());
    some
}

fn numbers(lines: &[Value], key: &str) -> Vec<f64> {
    let number = |line: &Value| line[key].as_f64();
    lines
        .iter()
        .map(|line| number(line).unwrap_or_else(|| panic!("{line} has no {key}")))
        .collect()
}

/// Holds what is counted in a run against another: targets of steps and validations, and residues that are recovered,
/// of which `but` may differ.
fn counted(place: &str, a: &Path, b: &Path, but: f64) {
    for what in ["step", "validation"] {
        let [a, b] = [a, b].map(|out| numbers(&lines(out, what), "targets"));
        assert!(!a.is_empty() && a == b, "{place}: targets of each {what}");
    }
    let [a, b] = [a, b].map(|out| lines(out, "validation"));
    let targets = numbers(&a, "targets");
    let recovered = numbers(&a, "recovered")
        .into_iter()
        .zip(numbers(&b, "recovered"));
    for ((a, b), targets) in recovered.zip(targets) {
        assert!(
            ((a - b) * targets).abs() <= but + 1e-6,
            "{place}: {a} and {b} of {targets}"
        );
    }
}

fn scores(out: &Path) -> Value {
    let text = std::fs::read_to_string(out.join("scores.json")).expect("there are scores");
    serde_json::from_str(&text).expect("they are JSON")
}

/// Six meshes have the curve of one worker, with pieces of rows, columns and samples that are uneven.
#[test]
fn curve_of_six_meshes() {
    let first = directory();
    small("data 1", first.path(), false, &["samples.micro=4"]);
    let alone = curve(first.path());
    assert_eq!(alone.len(), 8 + 3, "8 steps and 3 validations");
    for mesh in [
        "data 2",
        "context-heads 2",
        "context-gather 2",
        "context-heads 2, zero-1 2",
        "tensor 2",
        "stage 2",
    ] {
        let out = directory();
        small(mesh, out.path(), false, &[]);
        overlay(mesh, &alone, &curve(out.path()), 1e-5);
        counted(mesh, first.path(), out.path(), 1.0);
    }
}

/// What is left out of branches is the same on a mesh.
#[test]
fn curve_with_dropout() {
    let dropout = "model.dropout=0.15";
    let alone = on_mesh("data 1", &[dropout]);
    overlay(
        "dropout",
        &alone,
        &on_mesh("context-heads 2", &[dropout]),
        1e-5,
    );
    let (with, without) = (&alone[0], &on_mesh("data 1", &[])[0]);
    assert!(
        with.0 == "step" && with.2 != without.2,
        "{with:?} and {without:?}"
    );
}

/// With canonical sums the bits are those of one worker.
#[test]
fn curve_bit_for_bit() {
    let canonical = "model.precision=\"canonical\"";
    let first = directory();
    small("data 1", first.path(), false, &[canonical]);
    let alone = curve(first.path());
    for mesh in ["data 2", "context-heads 2"] {
        let out = directory();
        small(mesh, out.path(), false, &[canonical]);
        overlay(mesh, &alone, &curve(out.path()), 0.0);
        counted(mesh, first.path(), out.path(), 0.0);
    }
}

/// A run that goes on from a checkpoint, on its mesh or another, has the curve of one that was not interrupted.
#[test]
fn curve_goes_on() {
    let whole = directory();
    small("context-heads 2", whole.path(), false, &[]);
    let want = curve(whole.path());
    let cut = directory();
    let copy = |name: &str| {
        let from = whole.path().join("checkpoints/step-000000004").join(name);
        let to = cut.path().join("checkpoints/step-000000004");
        std::fs::create_dir_all(&to).expect("it can be made");
        std::fs::copy(from, to.join(name)).expect("it is copied");
    };
    let step = whole.path().join("checkpoints/step-000000004");
    for entry in std::fs::read_dir(step).expect("it is there") {
        let name = entry.expect("it is there").file_name();
        copy(&name.to_string_lossy());
    }
    let lines = std::fs::read_to_string(whole.path().join("metrics.jsonl")).expect("it is there");
    std::fs::write(cut.path().join("metrics.jsonl"), lines).expect("written");
    small("context-heads 2", cut.path(), true, &[]);
    overlay("resumed", &want, &curve(cut.path()), 0.0);
    let from = whole.path().join("checkpoints/step-000000004");
    let from = format!("checkpoint.from={from:?}");
    let other = directory();
    small("data 2", other.path(), false, &[&from]);
    let rest: Vec<_> = want.iter().filter(|line| line.1 >= 4).cloned().collect();
    overlay("another mesh", &rest, &curve(other.path()), 1e-5);
}

/// As it comes, on the embedded alignment: rows that were kept are recovered better than by frequencies of columns,
/// than by neighbours, from which the model begins, and than before it has learned.
#[test]
fn learn_what_comes_with_the_program() {
    let out = directory();
    start("data 1", out.path(), false, &[]).expect("it runs");
    let scores = scores(out.path());
    let references = &scores["references"];
    let recovered = |of: &Value| of["recovered"].as_f64().expect("a number");
    let nats = |of: &Value| of["nats"].as_f64().expect("a number");
    let (model, columns) = (&scores["model"], &references["whole_columns"]);
    let neighbours = &references["neighbours"];
    assert!(references["targets"].as_u64() > Some(200), "{scores}");
    assert!(
        recovered(model) > recovered(columns) && nats(model) < nats(columns),
        "{scores}"
    );
    let validations = lines(out.path(), "validation");
    let losses = numbers(&validations, "loss");
    let (first, last) = (losses[0], losses[losses.len() - 1]);
    assert_eq!(validations[0]["step"], 0);
    assert!((first - nats(neighbours)).abs() < 0.05, "{first}, {scores}");
    assert_eq!(last, nats(model));
    assert!(last < first - LEARNED, "{first} to {last}");
    assert!(last < nats(neighbours) - LEARNED, "{last}, {scores}");
    let parts = numbers(&validations, "recovered");
    assert!(parts[parts.len() - 1] > parts[0], "{parts:?}");
    for file in ["curve.png", "config.toml", "metrics.jsonl"] {
        assert!(out.path().join(file).exists(), "{file}");
    }
}

/// Without profiles the letters alone are learned from.
#[test]
fn learn_without_profiles() {
    let steps = [
        "model.profile=false",
        "training.steps=40",
        "training.rate=1e-2",
    ];
    let lines = on_mesh("data 1", &steps);
    let validated: Vec<f64> = lines
        .iter()
        .filter(|line| line.0 == "validation")
        .map(|line| line.2)
        .collect();
    let (first, last) = (validated[0], validated[validated.len() - 1]);
    assert!(last < first - 0.05, "{first} to {last}");
}

/// An alignment of `rows`, and a helix that is its query.
fn helix(folder: &Path) -> [String; 2] {
    const NAMES: [(&str, &str); 4] = [("A", "ALA"), ("L", "LEU"), ("K", "LYS"), ("E", "GLU")];
    let (mut alignment, mut structure) = (String::new(), String::new());
    for row in 0..12 {
        let letter = |c: usize| NAMES[(c * 7 + row * (c % 3)) % 4].0;
        let letters: String = (0..20).map(letter).collect();
        alignment += &format!(">row {row}\n{letters}\n");
    }
    for c in 0..20 {
        // 100 degrees and 1.5 Å a residue, radius 2.3 Å
        let angle = c as f64 * 100f64.to_radians();
        structure += &format!(
            "ATOM  {:>5}  CA  {} A{:>4}    {:>8.3}{:>8.3}{:>8.3}  1.00  0.00           C\n",
            c + 1,
            NAMES[(c * 7) % 4].1,
            c + 1,
            2.3 * angle.cos(),
            2.3 * angle.sin(),
            1.5 * c as f64
        );
    }
    [("helix.a3m", alignment), ("helix.pdb", structure)].map(|(name, text)| {
        let path = folder.join(name);
        std::fs::write(&path, text).expect("written");
        path.display().to_string()
    })
}

/// Distances of a structure take part in the loss, the same on a mesh; that of another sequence is refused.
#[test]
fn distances_of_a_structure() {
    let folder = directory();
    let [alignment, structure] = helix(folder.path());
    let train = format!("alignments.train=[{alignment:?}]");
    let structures = format!("alignments.structures=[{structure:?}]");
    let set = [
        train.as_str(),
        &structures,
        "model.bins=8",
        "model.distances_weight=1.0",
        "training.steps=40",
        "training.rate=1e-2",
        "checkpoint.every=0",
    ];
    let whole = [&set[..], &["samples.micro=4"]].concat();
    let first = directory();
    small("data 1", first.path(), false, &whole);
    let alone = curve(first.path());
    // samples of other micro-batches, and cut in two
    for mesh in ["data 2", "context-heads 2"] {
        overlay(mesh, &alone, &on_mesh(mesh, &set), 1e-4);
    }
    let steps = lines(first.path(), "step");
    let [loss, nats, distances] = ["loss", "nats", "distances"].map(|key| numbers(&steps, key));
    for i in 0..steps.len() {
        assert!((nats[i] + distances[i] - loss[i]).abs() < 1e-9, "step {i}");
    }
    let chance = 8f64.ln();
    assert!(
        (distances[0] - chance).abs() < 0.2,
        "{} of 8 bins",
        distances[0]
    );
    let last = distances[distances.len() - 1];
    assert!(last < 0.7 * chance, "{chance} to {last}");
    let letters = directory();
    small("data 1", letters.path(), false, &[&train]);
    let letters = numbers(&lines(letters.path(), "step"), "loss");
    assert!(
        (nats[0] - letters[0]).abs() < 1e-5,
        "letters are told alone"
    );
    let other = ["alignments.train=[]", &structures, "model.bins=8"];
    let error = start("data 1", folder.path(), false, &other).expect_err("another protein");
    let error = error.to_string();
    assert!(
        error.contains("alignments.structures") && error.contains("residue 1"),
        "{error}"
    );
}

/// Settings and files that do not fit name their key, file, line and the mend; bad rows are kept with their reasons.
#[test]
fn refuse_by_name() {
    let folder = directory();
    let file = |name: &str, text: &[u8]| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).expect("written");
        format!("alignments.train=[{:?}]", path.display().to_string())
    };
    let headless = file("headless.a3m", b"ACDE\n");
    let lonely = file("lonely.a3m", b">q\nACDE\n");
    let alone = lonely.replace("train=[", "held_out=").replace(']', "");
    let gaps = file("gaps.a3m", ">gap\n--X-\n".repeat(10).as_bytes());
    let empty = file("empty.a3m", b"");
    let out = directory();
    for (set, says) in [
        (headless.as_str(), "headless.a3m"),
        (&headless, "line 1 comes before the first '>'"),
        (
            &lonely,
            "1 rows every 5th cannot be kept for validation; give 10 at least",
        ),
        (&alone, "give 2 at least"),
        (&gaps, "its first row has no residue"),
        (&empty, "no line that begins with '>'"),
        ("alignments.train=[\"/no/such/file\"]", "/no/such/file"),
        ("alignments.structures=[\"a\", \"b\"]", "model.bins"),
        ("alignments.rows=1", "from 2 to"),
        ("model.length=0", "from 1 to 65536"),
        ("model.bins=4", "alignments.structures"),
        ("model.width=3", "model.width"),
        ("masking.part=0.0", "above 0"),
        ("masking.random=0.3", "with masking.masked at most 1"),
        ("layout.mesh=\"data 3\"", "start it with -w 3"),
        ("model.sequence=3", "did you mean `model.sequences`"),
        ("model.length=60000", "layout.recompute"),
    ] {
        let (place, set_to) = ((out.path(), false), [set.to_owned()]);
        let run = common::run(&Fold, Fabric::Threads(1), place, set_to, Stop::default());
        let error = run
            .err()
            .unwrap_or_else(|| panic!("{set} runs"))
            .to_string();
        assert!(error.contains(says), "{set}: {error}");
    }
    assert!(!out.path().join("metrics.jsonl").exists());
    let mut text = Vec::new();
    for row in 0..12 {
        text.extend(format!(">row {row}\nACDEFGHIKLMNPQRST{}\n", ["VW", "WY"][row % 2]).bytes());
    }
    text.extend(b">short\nACD\n>binary\n\xff\0\n");
    let train = file("rows.a3m", &text);
    small("data 1", out.path(), false, &[&train, "alignments.rows=11"]);
    let sources = Sources {
        set: vec![train, "alignments.rows=11".to_owned()],
        ..Sources::default()
    };
    let found = Fold.check(&resolve(&Fold, &sources).expect("it fits"));
    let found = found.expect("it reads").join("\n");
    for says in [
        "2 rows of",
        "rejected",
        "1 rows of",
        "left out, beyond alignments.rows",
    ] {
        assert!(found.contains(says), "{says}: {found}");
    }
    let file = ParquetSource::open(out.path().join("rejected.parquet")).expect("it is there");
    let mut rows = Vec::new();
    for batch in file.read().expect("it reads") {
        let batch = batch.expect("it reads");
        let [reasons, details] =
            ["reason", "detail"].map(|name| batch[name].as_string::<i32>().clone());
        let pairs = reasons.iter().zip(&details);
        rows.extend(pairs.map(|(a, b)| (a.map(str::to_owned), b.map(str::to_owned))));
    }
    let says = |row: usize, reason: &str, detail: &str| {
        let (found, why) = &rows[row];
        let why = why.as_deref().unwrap_or_default();
        assert!(
            found.as_deref() == Some(reason) && why.contains(detail),
            "{rows:?}"
        );
    };
    assert_eq!(rows.len(), 3);
    says(0, "schema", "3 columns and the query 19");
    says(1, "malformed", "line 28 holds '\\xff'");
    says(
        2,
        "limit",
        "1 rows of the alignment, beyond alignments.rows = 11",
    );
}

/// The files of the model are those of one worker, whatever the mesh, and as many as it has parameters.
#[test]
fn model_is_kept() {
    let canonical = "model.precision=\"canonical\"";
    let kept = |mesh: &str| {
        let out = directory();
        small(mesh, out.path(), false, &[canonical, "training.steps=2"]);
        let read = |name| std::fs::read(out.path().join("model").join(name)).expect("it is kept");
        (
            read("model.safetensors"),
            read("config.json"),
            scores(out.path()),
        )
    };
    let (tensors, config, scores) = kept("data 1");
    let (cut, same, _) = kept("context-heads 2");
    assert!(tensors == cut && config == same);
    let header = u64::from_le_bytes(tensors[..8].try_into().expect("eight bytes")) as usize;
    let known: Value = serde_json::from_slice(&tensors[8..8 + header]).expect("it is JSON");
    assert!(
        known["block 1.row-attention.query.weight"].is_object(),
        "{known}"
    );
    let parameters = scores["parameters"].as_u64().expect("a number") as usize;
    assert_eq!(tensors.len(), 8 + header + 4 * parameters);
    let config: Value = serde_json::from_slice(&config).expect("it is JSON");
    assert_eq!(
        (&config["sequences"], &config["blocks"]),
        (&7.into(), &2.into())
    );
}
