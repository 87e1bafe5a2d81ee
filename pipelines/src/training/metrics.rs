//! `metrics.jsonl`: a line for everything that is measured, and what an earlier run wrote of it.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use advect_engine::{EngineError, snapshot};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::{PipelineError, Result};
use crate::pipeline::Run;

const MEND: &str = "choose another directory with --out";

/// The file, open at its end.
pub(crate) struct Metrics {
    path: PathBuf,
    file: BufWriter<File>,
}

impl Metrics {
    /// Opens the file of a run; of one that goes on, the lines that `keep` says stay, and are given.
    ///
    /// # Errors
    /// If the system refuses.
    pub(crate) fn open<M: Serialize + DeserializeOwned>(
        run: &Run,
        keep: impl Fn(&M) -> bool,
    ) -> Result<(Self, Vec<M>)> {
        let path = run.result("metrics.jsonl");
        let before = match run.resume {
            true => earlier(&path, keep)?,
            false => Vec::new(),
        };
        // what is known stays whole if the run is killed here
        let lines = before.iter().filter_map(|m| serde_json::to_string(m).ok());
        let text: String = lines.map(|line| format!("{line}\n")).collect();
        let written = snapshot::whole(&path, |beside| {
            std::fs::write(beside, text).map_err(|source| EngineError::File {
                path: beside.display().to_string(),
                source,
            })
        });
        written.map_err(PipelineError::Engine)?;
        let file = File::options().append(true).open(&path);
        let file = file.map_err(PipelineError::file("open", &path, MEND))?;
        let file = BufWriter::new(file);
        Ok((Metrics { path, file }, before))
    }

    /// Writes a line at once: a reader follows the file.
    ///
    /// # Errors
    /// If the system refuses.
    pub(crate) fn write(&mut self, metric: &impl Serialize) -> Result<()> {
        let line = serde_json::to_string(metric).map_err(std::io::Error::from);
        let written = line.and_then(|line| writeln!(self.file, "{line}"));
        written
            .and_then(|()| self.file.flush())
            .map_err(PipelineError::file("write", &self.path, MEND))
    }
}

/// The lines that an earlier run wrote; one that was cut is left.
fn earlier<M: DeserializeOwned>(path: &Path, keep: impl Fn(&M) -> bool) -> Result<Vec<M>> {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => String::new(),
        Err(e) => return Err(PipelineError::file("read", path, MEND)(e)),
    };
    let all = text
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok());
    Ok(all.filter(keep).collect())
}
