//! References in Python: started by the benchmark that they are measured beside.

use std::io::Read;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use super::{Figure, Options, Report};

/// The interpreter that `make peers` sets up, relative to the project.
const PYTHON: &str = ".venv/bin/python";
/// How often a running reference is looked at.
const LOOK: Duration = Duration::from_millis(20);

/// Runs `benches/peers/NAME.py ARGUMENTS` in the project's virtual environment and returns the
/// figures it prints, one JSON object a line as [`Figure::json`] writes them.
///
/// Without the environment, without the script, when it fails or takes longer than
/// [`Options::patience`], the report is given a note that says so and the answer is `None`: the
/// benchmark then shows our side alone.
pub fn peer(
    name: &str,
    arguments: &[&str],
    options: &Options,
    report: &Report,
) -> Option<Vec<Figure>> {
    if !options.peers {
        return None;
    }
    let script = format!("benches/peers/{name}.py");
    for (path, mend) in [
        (PYTHON, "run `make peers`"),
        (&script, "run in the project's folder"),
    ] {
        if !Path::new(path).exists() {
            report.note(&format!(
                "{name}: our side alone, there is no {path} here; {mend}"
            ));
            return None;
        }
    }
    let mut command = Command::new(PYTHON);
    command.arg(&script).args(arguments);
    match finish(command, options.patience) {
        Ok(text) => Some(
            text.lines()
                .filter_map(|l| serde_json::from_str(l).ok())
                .collect(),
        ),
        Err(why) => {
            report.note(&format!("{name}: our side alone, {script}: {why}"));
            None
        }
    }
}

/// Runs a command to its end and returns what it printed; one that takes longer than `patience` is
/// ended.
pub(crate) fn finish(mut command: Command, patience: Duration) -> Result<String, String> {
    let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn();
    let mut child = child.map_err(|e| format!("could not be started: {e}"))?;
    let mut pipe = child.stdout.take().ok_or("has no standard output")?;
    // read beside the wait: a full pipe would stop the other side
    let reader = thread::spawn(move || {
        let mut text = String::new();
        pipe.read_to_string(&mut text).map(|_| text)
    });
    let deadline = Instant::now() + patience;
    let status = loop {
        match child.try_wait().map_err(|e| e.to_string())? {
            Some(status) => break status,
            None if Instant::now() < deadline => thread::sleep(LOOK),
            None => {
                let _ = child.kill();
                let _ = child.wait();
                return Err(format!("not done within {patience:?}, ended"));
            }
        }
    };
    if !status.success() {
        return Err(format!("ended with {status}"));
    }
    let text = reader.join().map_err(|_| "its reader failed".to_owned())?;
    text.map_err(|e| format!("printed something that is not text: {e}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    /// More output than a pipe holds does not block; a failure and a hang are errors in words.
    #[test]
    fn finish_reads_fails_and_gives_up() {
        let long = finish(shell("yes | head -c 1000000"), Duration::from_secs(20));
        assert_eq!(long.expect("prints").len(), 1_000_000);
        let failed = finish(shell("exit 3"), Duration::from_secs(20));
        assert!(failed.expect_err("fails").contains('3'));
        let hung = finish(shell("exec sleep 60"), Duration::from_millis(50));
        assert!(hung.expect_err("hangs").contains("50ms"));
    }

    /// Without the environment the benchmark goes on alone.
    #[test]
    fn no_peer_is_no_error() {
        let options = Options {
            peers: false,
            ..Options::default()
        };
        assert_eq!(peer("none", &[], &options, &Report::keeping()), None);
    }
}
