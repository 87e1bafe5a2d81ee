//! The life of what observes a run: from before the first worker to after the last.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use super::board::{Board, Place, locked};
use super::http::{Pages, Server};
use super::options::Options;
use super::prometheus;
use super::trace::Tracer;
use super::watchdog::Watchdog;
use crate::error::{EngineError, Result};
use crate::fabric::Alarm;

/// Observes one run of one process.
pub(crate) struct Session {
    board: Arc<Board>,
    tracer: Option<Tracer>,
    server: Option<Server>,
    watchdog: Option<Watchdog>,
}

struct Served {
    board: Arc<Board>,
    alarm: Arc<Alarm>,
    trouble: Arc<OnceLock<String>>,
}

impl Pages for Served {
    fn metrics(&self) -> String {
        prometheus::render(&self.board)
    }

    fn health(&self) -> Result<(), String> {
        match self.alarm.raised().or_else(|| self.trouble.get().cloned()) {
            Some(why) => Err(why),
            None => Ok(()),
        }
    }
}

impl Session {
    /// Starts what `options` ask for.
    ///
    /// # Errors
    /// If the address of the metrics is taken or the trace cannot be created.
    pub(crate) fn start(options: &Options, place: Place, alarm: &Arc<Alarm>) -> Result<Self> {
        let bound = options
            .metrics
            .as_ref()
            .map(|address| bind(address, place.process))
            .transpose()?;
        let address = bound.as_ref().and_then(|l| l.local_addr().ok());
        let tracer = options
            .trace
            .as_ref()
            .map(|path| {
                let path = own_file(path, &place);
                let limit = options.trace_bytes;
                Tracer::start(&path, place.process, &place.fabric, limit).map_err(|source| {
                    EngineError::File {
                        path: path.display().to_string(),
                        source,
                    }
                })
            })
            .transpose()?;
        let board = Board::new(options, place, address, tracer.as_ref().map(Tracer::feed));
        let trouble = Arc::new(OnceLock::new());
        let pages = Served {
            board: Arc::clone(&board),
            alarm: Arc::clone(alarm),
            trouble: Arc::clone(&trouble),
        };
        let thread = |e: std::io::Error| EngineError::Connect {
            fabric: board.place.fabric.clone(),
            why: format!("no thread to observe it: {e}"),
        };
        let server = bound
            .map(|l| Server::start(l, pages))
            .transpose()
            .map_err(thread)?;
        let watchdog = options
            .silence
            .map(|s| Watchdog::start(Arc::clone(&board), Arc::clone(alarm), s, trouble))
            .transpose()
            .map_err(thread)?;
        let place = &board.place;
        tracing::info!(
            target: "advect::run",
            fabric = place.fabric,
            process = place.process,
            host = place.hosts.get(place.process),
            workers = place.local,
            of = place.peers,
            metrics = address.map(|a| format!("http://{a}/metrics")),
            trace = tracer.as_ref().map(|_| options.trace.as_ref().map(|p| p.display().to_string())),
            "start"
        );
        Ok(Session {
            board,
            tracer,
            server,
            watchdog,
        })
    }

    pub(crate) fn board(&self) -> Arc<Board> {
        Arc::clone(&self.board)
    }

    /// Ends the observation of a run that went well, or failed for the given reason.
    pub(crate) fn finish(self, failure: Option<&str>) {
        drop(self.watchdog);
        drop(self.server);
        if let Some((path, written)) = self.tracer.map(Tracer::finish) {
            let path = path.display().to_string();
            match written {
                Ok(left_out) => tracing::info!(target: "advect::trace", path, left_out, "trace"),
                Err(e) => tracing::warn!(target: "advect::trace", path, "trace is incomplete: {e}"),
            }
        }
        let (mut activations, mut messages) = (0, 0);
        for page in &self.board.pages {
            let page = locked(page);
            messages += page.messages;
            activations += page
                .operators
                .iter()
                .flatten()
                .map(|o| o.activations)
                .sum::<u64>();
        }
        let process = self.board.place.process;
        let seconds = self.board.now().as_secs_f64();
        match failure {
            None => tracing::info!(
                target: "advect::run",
                process, seconds, activations, messages, "end"
            ),
            Some(why) => tracing::error!(
                target: "advect::run",
                process, seconds, activations, messages, why, "failed"
            ),
        }
    }
}

fn bind(address: &str, process: usize) -> Result<TcpListener> {
    let fail = |why: String| EngineError::Connect {
        fabric: format!("metrics ({address})"),
        why,
    };
    let (host, port) = address
        .rsplit_once(':')
        .and_then(|(h, p)| Some((h, p.parse::<u16>().ok()?)))
        .ok_or_else(|| fail("give it as host:port, such as 127.0.0.1:9464".to_owned()))?;
    let port = match port {
        0 => Some(0),
        p => u16::try_from(process).ok().and_then(|q| p.checked_add(q)),
    };
    let port = port.ok_or_else(|| fail("no port is left for this process".to_owned()))?;
    TcpListener::bind((host.trim_matches(['[', ']']), port)).map_err(|e| {
        fail(format!(
            "cannot listen on port {port}: {e}; choose a free port"
        ))
    })
}

/// `out/trace.json`, or `out/trace.1.json` for process 1 of several.
fn own_file(path: &Path, place: &Place) -> PathBuf {
    if place.hosts.len() < 2 {
        return path.to_owned();
    }
    let extension = path.extension().map(|e| e.to_string_lossy().into_owned());
    let own = match extension {
        Some(e) => format!("{}.{e}", place.process),
        None => place.process.to_string(),
    };
    path.with_extension(own)
}
