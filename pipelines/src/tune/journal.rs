//! The journal: what was asked, and every trial that ended as a line of `trials.jsonl`.
//!
//! A line is written whole and brought to the disk before the next trial starts, so a search that is killed
//! loses only the trials in flight. A last line that was cut is put aside.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::trial::Verdict;
use crate::error::{PipelineError, Result};

const MEND: &str = "choose another directory with --out";
/// What was asked.
pub const ASKED: &str = "tune.toml";
/// Trials that ended.
pub const TRIALS: &str = "trials.jsonl";
const TORN: &str = "trials.jsonl.torn";

/// A trial that ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Record {
    /// Its number, from 1, and the name of its directory.
    pub trial: usize,
    /// What the planner calls the configuration.
    pub configuration: String,
    /// Workers.
    pub workers: usize,
    /// Threads of an operator of each.
    pub threads: usize,
    /// Arguments of `--set` that make it.
    pub set: Vec<String>,
    /// Seconds of a step, predicted.
    pub predicted: f64,
    /// Seconds that the trial took, start and end included.
    pub seconds: f64,
    /// How it ended.
    pub outcome: Verdict,
}

/// The files of a search.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    file: File,
}

/// What an earlier search left.
#[derive(Debug, Default, PartialEq)]
pub struct Earlier {
    /// Trials that ended, in the order in which they did.
    pub records: Vec<Record>,
    /// Bytes of a last line that was cut.
    pub torn: usize,
}

impl Journal {
    /// Begins in a directory that holds nothing, or goes on where a search with the same `asked` has stopped.
    ///
    /// # Errors
    /// If there is a search and `resume` is not set, or none and it is; if it was asked for something else;
    /// if a line is none, or the system refuses.
    pub fn open(out: &Path, asked: &str, resume: bool) -> Result<(Self, Earlier)> {
        let (before, path) = (out.join(ASKED), out.join(TRIALS));
        let usage = |what: &Path, why: &str, mend: &str| PipelineError::Usage {
            what: what.display().to_string(),
            why: why.to_owned(),
            mend: mend.to_owned(),
        };
        let mut earlier = Earlier::default();
        match (std::fs::read_to_string(&before), resume) {
            (Ok(text), true) => {
                same(&before, &text, asked)?;
                earlier = recover(out, &path)?;
            }
            (Ok(_), false) => {
                let mend = "go on with --resume, or choose another directory with --out";
                return Err(usage(out, "a search has left its trials there", mend));
            }
            (Err(e), true) if e.kind() == ErrorKind::NotFound => {
                let why = "there is no search to go on with";
                return Err(usage(
                    &before,
                    why,
                    "name its directory with --out, or leave out --resume",
                ));
            }
            (Err(e), false) if e.kind() == ErrorKind::NotFound => {
                fresh(out)?;
                keep(&before, asked)?;
            }
            (Err(e), _) => return Err(PipelineError::file("read", &before, MEND)(e)),
        }
        let opened = OpenOptions::new().create(true).append(true).open(&path);
        let file = opened.map_err(PipelineError::file("open", &path, MEND))?;
        Ok((Journal { path, file }, earlier))
    }

    /// Keeps a trial that ended.
    ///
    /// # Errors
    /// If the system refuses.
    pub fn append(&mut self, record: &Record) -> Result<()> {
        let line = serde_json::to_string(record).map_err(std::io::Error::from);
        let written = line.and_then(|line| {
            self.file.write_all(format!("{line}\n").as_bytes())?;
            self.file.sync_data()
        });
        written.map_err(PipelineError::file("write", &self.path, MEND))
    }
}

/// A refusal of a directory that holds anything but the claim of a search: nothing there is written over.
///
/// # Errors
/// If there is something, or the system refuses.
pub fn fresh(out: &Path) -> Result<()> {
    let found = std::fs::read_dir(out).map_err(PipelineError::file("read", out, MEND))?;
    let mut names = found.flatten().map(|entry| entry.file_name());
    match names.find(|name| name != ".lock") {
        None => Ok(()),
        Some(name) => Err(PipelineError::Usage {
            what: out.display().to_string(),
            why: format!(
                "it holds {}, and a search begins in a directory of its own",
                name.display()
            ),
            mend: "choose another directory with --out".to_owned(),
        }),
    }
}

/// Writes a file whole or not at all.
///
/// # Errors
/// If the system refuses.
pub fn keep(path: &Path, text: &str) -> Result<()> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(".new");
    let beside = PathBuf::from(beside);
    let written = File::create(&beside).and_then(|mut file| {
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        std::fs::rename(&beside, path)
    });
    written.map_err(PipelineError::file("write", path, MEND))
}

/// Reads the trials that ended, and puts a last line aside that was cut.
fn recover(out: &Path, path: &Path) -> Result<Earlier> {
    let mut bytes = match std::fs::read(path) {
        Ok(bytes) => bytes,
        Err(e) if e.kind() == ErrorKind::NotFound => Vec::new(),
        Err(e) => return Err(PipelineError::file("read", path, MEND)(e)),
    };
    let whole = bytes.iter().rposition(|b| *b == b'\n').map_or(0, |n| n + 1);
    let torn = bytes.split_off(whole);
    if !torn.is_empty() {
        let aside = out.join(TORN);
        std::fs::write(&aside, &torn).map_err(PipelineError::file("write", &aside, MEND))?;
        let file = OpenOptions::new().write(true).open(path);
        file.and_then(|file| file.set_len(whole as u64))
            .map_err(PipelineError::file("shorten", path, MEND))?;
    }
    let mut records = Vec::new();
    for (n, line) in bytes.split(|b| *b == b'\n').enumerate() {
        if line.is_empty() {
            continue;
        }
        let wrong = |why: String| PipelineError::Failed {
            pipeline: format!("{}:{}", path.display(), n + 1),
            why: format!("not a trial: {why}; take the line away, or choose another --out"),
        };
        let record: Record = serde_json::from_slice(line).map_err(|e| wrong(e.to_string()))?;
        if let Verdict::Measured(m) = record.outcome
            && !(m.step.is_finite() && m.step > 0.0)
        {
            return Err(wrong(format!("a step of {} s", m.step)));
        }
        records.push(record);
    }
    Ok(Earlier {
        records,
        torn: torn.len(),
    })
}

/// Whether what is asked is what was asked before.
fn same(path: &Path, before: &str, now: &str) -> Result<()> {
    let wrong = |why: String| PipelineError::Usage {
        what: path.display().to_string(),
        why,
        mend:
            "give --resume what the search was begun with, or choose another directory with --out"
                .to_owned(),
    };
    let read = |text: &str| {
        let table: toml::Table = text.parse().map_err(|e: toml::de::Error| {
            wrong(e.message().lines().collect::<Vec<_>>().join(", "))
        })?;
        let mut all = Vec::new();
        flatten("", &table, &mut all);
        Ok::<_, PipelineError>(all)
    };
    let (before, now) = (read(before)?, read(now)?);
    let value = |all: &[(String, String)], key: &str| {
        let found = all.iter().find(|(k, _)| k == key);
        found.map_or_else(|| "absent".to_owned(), |(_, v)| v.clone())
    };
    for (key, _) in now.iter().chain(&before) {
        let (was, is) = (value(&before, key), value(&now, key));
        if was != is {
            let key = key.strip_prefix("configuration.").unwrap_or(key);
            return Err(wrong(format!("{key} was {was} and is now {is}")));
        }
    }
    Ok(())
}

/// All values of a table by their dotted keys.
fn flatten(prefix: &str, table: &toml::Table, all: &mut Vec<(String, String)>) {
    for (key, value) in table {
        match value {
            toml::Value::Table(below) => flatten(&format!("{prefix}{key}."), below, all),
            value => all.push((format!("{prefix}{key}"), value.to_string())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::metrics::Measured;
    use super::*;

    const ASK: &str = "seed = 1\n[configuration]\nmodel.layers = 3\n";

    fn record(trial: usize, outcome: Verdict) -> Record {
        Record {
            trial,
            configuration: "t1 p2 d1".to_owned(),
            workers: 2,
            threads: 1,
            set: vec!["layout.mesh=\"stage 2\"".to_owned()],
            predicted: 0.1 + trial as f64 / 3.0,
            seconds: 1.5,
            outcome,
        }
    }

    fn both() -> [Record; 2] {
        let measured = Measured {
            step: 0.1,
            tokens: 1e4 / 3.0,
            spread: 0.02,
            memory: Some(7),
        };
        let why = "exit code 1: a \"quoted\"\nline".to_owned();
        [
            record(1, Verdict::Measured(measured)),
            record(2, Verdict::Failed { why }),
        ]
    }

    /// What was kept comes back bit for bit, also when the last line was cut anywhere, which is put aside.
    #[test]
    fn trials_come_back() {
        let here = tempfile::tempdir().unwrap();
        let (mut journal, earlier) = Journal::open(here.path(), ASK, false).unwrap();
        assert_eq!(earlier, Earlier::default());
        for record in both() {
            journal.append(&record).unwrap();
        }
        let path = here.path().join(TRIALS);
        let whole = std::fs::read(&path).unwrap();
        let first = whole.iter().position(|b| *b == b'\n').unwrap() + 1;
        for cut in [whole.len(), whole.len() - 1, first + 1, first] {
            std::fs::write(&path, &whole[..cut]).unwrap();
            let (_, earlier) = Journal::open(here.path(), ASK, true).unwrap();
            let kept = if cut == whole.len() { 2 } else { 1 };
            assert_eq!(earlier.records, both()[..kept]);
            assert_eq!(earlier.torn, if kept == 2 { 0 } else { cut - first });
            assert_eq!(
                std::fs::read(&path).unwrap().len(),
                if kept == 2 { cut } else { first }
            );
            if earlier.torn > 0 {
                assert_eq!(
                    std::fs::read(here.path().join(TORN)).unwrap(),
                    whole[first..cut]
                );
            }
        }
    }

    /// What was asked differently is named with both values; a line that is none with its place; a search
    /// is neither written over nor made up.
    #[test]
    fn what_does_not_fit_is_refused() {
        let here = tempfile::tempdir().unwrap();
        let open = |ask: &str, resume| Journal::open(here.path(), ask, resume);
        let none = open(ASK, true).unwrap_err().to_string();
        assert!(
            none.contains("tune.toml") && none.contains("--resume"),
            "{none}"
        );
        open(ASK, false).unwrap();
        let again = open(ASK, false).unwrap_err().to_string();
        assert!(
            again.contains("--resume") && again.contains("--out"),
            "{again}"
        );
        let other = open(&ASK.replace("= 3", "= 4"), true).unwrap_err();
        let said = "tune.toml: model.layers was 3 and is now 4; give --resume what";
        assert!(other.to_string().contains(said), "{other}");
        assert_eq!(other.exit_code(), 2);
        let more = open(&format!("{ASK}model.width = 8\n"), true).unwrap_err();
        assert!(
            more.to_string().contains("model.width was absent"),
            "{more}"
        );
        for (line, said) in [
            ("{\"trial\": 1}\n", "trials.jsonl:1"),
            ("\n\u{0}\n", "trials.jsonl:2"),
        ] {
            std::fs::write(here.path().join(TRIALS), line).unwrap();
            let wrong = open(ASK, true).unwrap_err().to_string();
            assert!(
                wrong.contains(said) && wrong.contains("take the line away"),
                "{wrong}"
            );
        }
        std::fs::write(here.path().join(ASKED), "seed = \n").unwrap();
        assert!(
            open(ASK, true)
                .unwrap_err()
                .to_string()
                .contains("tune.toml")
        );
    }
}
