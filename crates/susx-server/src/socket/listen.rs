//! Listens on the socket, and starts and ends the process's background threads.

use std::fs;
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use crate::memory;
use crate::settings::Settings;
use crate::socket::connection::{self, Shared};
use crate::watchdog;

/// Accepts connections until the process ends.
///
/// Fails if the socket cannot be bound or a thread cannot be started.
pub fn run(settings: Settings) -> io::Result<()> {
    log::debug!("{settings:?}");
    memory::limit_retained_memory();
    rayon::ThreadPoolBuilder::new()
        .num_threads(settings.threads)
        .thread_name(|_| "decode".to_owned())
        .build_global()
        .map_err(io::Error::other)?;
    let listener = bind(&settings.socket)?;
    end_with_standard_input(settings.socket.clone())?;
    log::info!("version {} is ready", env!("CARGO_PKG_VERSION"));
    let (idle_timeout, warm_up) = (settings.model_idle_timeout(), settings.warm_up());
    let shared = Arc::new(Shared::new(settings));
    unload_idle_models(idle_timeout, &shared)?;
    end_when_stuck(&shared)?;
    if let Some(model) = warm_up {
        load(model, &shared)?;
    }
    for (id, stream) in (0..).zip(listener.incoming()) {
        let accepted = stream.and_then(|stream| {
            check_peer(&stream)?;
            let shared = Arc::clone(&shared);
            thread::Builder::new()
                .name("connection".to_owned())
                .spawn(move || connection::serve(id, stream, &shared))
        });
        if let Err(error) = accepted {
            log::warn!("cannot accept a connection: {error}");
            // Out of file descriptors or memory, most likely: give it a moment instead of spinning.
            thread::sleep(Duration::from_millis(50));
        }
    }
    Ok(())
}

/// Starts the thread that unloads models unused for `timeout`; zero disables it.
fn unload_idle_models(timeout: Duration, shared: &Arc<Shared>) -> io::Result<()> {
    const MAX_INTERVAL: Duration = Duration::from_secs(1);
    if timeout.is_zero() {
        return Ok(());
    }
    let shared = Arc::clone(shared);
    thread::Builder::new().name("idle models".to_owned()).spawn(move || {
        loop {
            thread::sleep(MAX_INTERVAL.min(timeout / 4));
            shared.registry.unload_idle();
        }
    })?;
    Ok(())
}

/// Loads a model, so that the first request for it need not wait.
fn load(model: Option<String>, shared: &Arc<Shared>) -> io::Result<()> {
    let shared = Arc::clone(shared);
    thread::Builder::new().name("warm-up".to_owned()).spawn(move || {
        // The first request reports the failure, too.
        if let Err(failure) = shared.registry.embedder(model.as_deref(), || false) {
            log::info!("no model was loaded at the start: {}", failure.message);
        }
    })?;
    Ok(())
}

/// Starts the watchdog's thread, which ends the process when a model never finishes.
fn end_when_stuck(shared: &Arc<Shared>) -> io::Result<()> {
    // Time to send the failure to the requests that wait for the model.
    const REPLY_GRACE: Duration = Duration::from_millis(500);
    let shared = Arc::clone(shared);
    thread::Builder::new().name("watchdog".to_owned()).spawn(move || {
        while !shared.registry.find_stuck() {
            thread::sleep(watchdog::INTERVAL);
        }
        thread::sleep(REPLY_GRACE);
        end();
    })?;
    Ok(())
}

/// Binds the socket under a temporary name and renames it. A client never sees a socket that does not listen yet or
/// that other users may open.
fn bind(path: &Path) -> io::Result<UnixListener> {
    let new = path.with_extension("new");
    match fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(&new)?;
    fs::set_permissions(&new, fs::Permissions::from_mode(0o600))?;
    fs::rename(&new, path)?;
    Ok(listener)
}

/// Accepts only connections from PostgreSQL's own user, regardless of the socket's permissions.
fn check_peer(stream: &UnixStream) -> io::Result<()> {
    let peer = rustix::net::sockopt::socket_peercred(stream)?;
    if peer.uid == rustix::process::geteuid() {
        Ok(())
    } else {
        Err(io::Error::new(
            io::ErrorKind::PermissionDenied,
            format!("connection from uid {} refused", peer.uid.as_raw()),
        ))
    }
}

/// Ends the process when its standard input is closed. The supervisor holds the other end, so this happens however the
/// supervisor ends.
fn end_with_standard_input(socket: std::path::PathBuf) -> io::Result<()> {
    thread::Builder::new().name("supervisor".to_owned()).spawn(move || {
        let mut rest = [0; 64];
        let mut input = io::stdin().lock();
        while matches!(input.read(&mut rest), Ok(n) if n > 0) {}
        // A socket that cannot be removed is replaced by the next server.
        let _ = fs::remove_file(socket);
        end();
    })?;
    Ok(())
}

/// Kills this process. `exit` would run the destructors of ONNX Runtime's statics while tasks still use them, and
/// sessions would get misleading errors such as "GetElementType is not implemented" instead of a closed connection.
fn end() -> ! {
    let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
    std::process::abort()
}
