//! The `advect` command, started as a user starts it.

use std::path::Path;
use std::process::{Command, Output};

/// The program in a directory, without what the environment would tell it.
pub(crate) fn command(out: &Path, words: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_advect"));
    command.current_dir(out).args(words);
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("ADVECT_")) {
        command.env_remove(name);
    }
    command
}

/// The exit code, and what was said.
pub(crate) fn advect(out: &Path, words: &[&str]) -> (Option<i32>, String, String) {
    let Output {
        status,
        stdout,
        stderr,
    } = command(out, words).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (status.code(), text(stdout), text(stderr))
}
