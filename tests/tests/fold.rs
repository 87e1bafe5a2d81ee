//! The learning curve of `fold` is that of the alignments and the seed, not of the mesh. Four families:
//!
//! * `curve_*`: meshes of rows, columns, samples, heads and stages against one worker, with resumption.
//! * `learn_*`: masked residues of rows that it was not trained on are recovered as well as by frequencies, and better.
//! * `distances_*`: a structure beside an alignment is learned, too.
//! * `refuse_*`: what cannot run says which key, file or row, and why.

mod common;

use std::path::Path;

use advect_engine::Fabric;
use advect_operators::transformer::Strategy;
use advect_pipelines::fold::Fold;
use advect_pipelines::{PipelineError, Stop};
use advect_tests::{curve, overlay};
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

fn scores(out: &Path) -> Value {
    let text = std::fs::read_to_string(out.join("scores.json")).expect("there are scores");
    serde_json::from_str(&text).expect("they are JSON")
}

/// Six meshes have the curve of one worker, with pieces of rows, columns and samples that are uneven.
#[test]
fn curve_of_six_meshes() {
    let alone = on_mesh("data 1", &["samples.micro=4"]);
    assert_eq!(alone.len(), 8 + 3, "8 steps and 3 validations");
    for mesh in [
        "data 2",
        "context-heads 2",
        "context-gather 2",
        "context-heads 2, zero-1 2",
        "tensor 2",
        "stage 2",
    ] {
        overlay(mesh, &alone, &on_mesh(mesh, &[]), 1e-5);
    }
}

/// With canonical sums the bits are those of one worker.
#[test]
fn curve_bit_for_bit() {
    let canonical = "model.precision=\"canonical\"";
    let alone = on_mesh("data 1", &[canonical]);
    for mesh in ["data 2", "context-heads 2"] {
        overlay(mesh, &alone, &on_mesh(mesh, &[canonical]), 0.0);
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

/// As it comes, on the embedded alignment: rows that were kept are recovered better than by frequencies of columns.
#[test]
fn learn_what_comes_with_the_program() {
    let out = directory();
    start("data 1", out.path(), false, &[]).expect("it runs");
    let scores = scores(out.path());
    let references = &scores["references"];
    let recovered = |of: &Value| of["recovered"].as_f64().expect("a number");
    let nats = |of: &Value| of["nats"].as_f64().expect("a number");
    let (model, columns) = (&scores["model"], &references["whole_columns"]);
    assert!(references["targets"].as_u64() > Some(200), "{scores}");
    assert!(
        recovered(model) > recovered(columns) && nats(model) < nats(columns),
        "{scores}"
    );
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
        "training.steps=12",
    ];
    let alone = on_mesh("data 1", &set);
    overlay(
        "context-heads 2",
        &alone,
        &on_mesh("context-heads 2", &set),
        1e-5,
    );
    let letters = on_mesh("data 1", &[&train, "training.steps=12"]);
    let first = |lines: &[(String, u64, f64)]| {
        let steps: Vec<&(String, u64, f64)> = lines.iter().filter(|l| l.0 == "step").collect();
        steps[0].2
    };
    assert!(first(&alone) > first(&letters) + 0.1, "distances count");
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
    let empty = file("empty.a3m", b"");
    let out = directory();
    for (set, says) in [
        (headless.as_str(), "headless.a3m"),
        (&headless, "line 1 comes before the first '>'"),
        (&lonely, "give 2 at least"),
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
    small("data 1", out.path(), false, &[&train]);
    assert!(out.path().join("rejected.parquet").exists());
}
