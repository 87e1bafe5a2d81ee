//! `docs/errors.md` names every error and every reason there is, in the section of its file.

use std::path::Path;

use advect_connectors::Reason;

/// Names of the variants of the error enum in a file.
fn variants(source: &str) -> Vec<String> {
    let errors = source.lines().skip_while(|l| !l.contains("Error)]"));
    let body = errors.take_while(|l| *l != "}");
    let names = body.filter_map(|line| {
        let rest = line.strip_prefix("    ")?;
        let end = rest.find([' ', '(', ','])?;
        let name = &rest[..end];
        let is_name = name.starts_with(|c: char| c.is_ascii_uppercase());
        let opens = rest[end..].trim_start().starts_with(['{', '(', ',']);
        (is_name && opens && name.chars().all(char::is_alphanumeric)).then(|| name.to_owned())
    });
    names.collect()
}

#[test]
fn every_error_and_reason_is_in_the_catalogue() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let read = |path: &str| std::fs::read_to_string(root.join(path)).expect(path);
    let catalogue = read("docs/errors.md");
    let files = [
        "engine/src/error.rs",
        "operators/src/error.rs",
        "connectors/src/error.rs",
        "pipelines/src/error.rs",
        "pipelines/src/config/error.rs",
        "pipelines/src/bench/mod.rs",
        "pipelines/src/planner/error.rs",
    ];
    for file in files {
        let section = catalogue
            .split("\n## ")
            .find(|s| s.contains(&format!("`{file}`")));
        let section = section.unwrap_or_else(|| panic!("docs/errors.md has no section of {file}"));
        let names = variants(&read(file));
        assert!(names.len() >= 3, "{file}: found only {names:?}");
        for name in names {
            let row = section
                .lines()
                .any(|l| l.starts_with("| `") && l.contains(&format!("`{name}`")));
            assert!(row, "docs/errors.md, section of {file}, lacks `{name}`");
        }
    }
    for reason in Reason::ALL {
        assert!(
            catalogue.contains(&format!("| `{reason}` |")),
            "lacks the reason {reason}"
        );
    }
}
