//! The shape of the repository: who may depend on whom, and how long a file may be.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// What each member may use of the others, outside tests.
const MAY_USE: [(&str, &[&str]); 6] = [
    ("engine", &[]),
    ("operators", &["advect-engine"]),
    ("connectors", &["advect-engine"]),
    (
        "pipelines",
        &["advect-engine", "advect-operators", "advect-connectors"],
    ),
    ("tests", &[]),
    ("examples", &[]),
];

/// Lines that a file of Rust or of kernels may have.
const LONGEST: usize = 500;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// Members of advect that a manifest names in the tables that are built for users.
fn used(manifest: &str) -> Vec<String> {
    let mut table = "";
    let mut used = Vec::new();
    for line in manifest.lines() {
        if line.starts_with('[') {
            table = line;
        } else if table.ends_with("dependencies]") && !table.contains("dev-dependencies") {
            let name = line.split(['=', '.', ' ']).next().unwrap_or_default();
            if name.starts_with("advect-") {
                used.push(name.to_owned());
            }
        }
    }
    used
}

#[test]
fn members_use_only_what_is_below_them() {
    let workspace = read(&root().join("Cargo.toml"));
    let members = workspace.lines().find(|l| l.starts_with("members"));
    let members = members.expect("the workspace lists its members");
    for (member, may) in MAY_USE {
        assert!(members.contains(&format!("\"{member}\"")), "{member}");
        for name in used(&read(&root().join(member).join("Cargo.toml"))) {
            assert!(may.contains(&name.as_str()), "{member} uses {name}");
        }
    }
    let listed = members.matches('"').count() / 2;
    assert_eq!(listed, MAY_USE.len(), "a member has no rule here");
}

/// Files of Rust and of kernels below a directory.
fn sources(directory: &Path, found: &mut BTreeMap<PathBuf, usize>) {
    let entries = std::fs::read_dir(directory).expect("the member is there");
    for path in entries.map(|e| e.expect("it can be listed").path()) {
        if path.is_dir() {
            sources(&path, found);
        } else if path
            .extension()
            .is_some_and(|e| e == "rs" || e == "cu" || e == "cuh")
        {
            let lines = read(&path).lines().count();
            found.insert(path, lines);
        }
    }
}

#[test]
fn files_stay_short() {
    let mut found = BTreeMap::new();
    for (member, _) in MAY_USE {
        sources(&root().join(member), &mut found);
    }
    assert!(found.len() > 100, "only {} files were found", found.len());
    for (path, lines) in found {
        assert!(lines <= LONGEST, "{}: {lines} lines", path.display());
    }
}
