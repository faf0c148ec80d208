//! The socket, and the process's life.

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

/// Listens until the process is told to end.
pub fn run(settings: Settings) -> io::Result<()> {
    log::debug!("{settings:?}");
    memory::keep_little();
    rayon::ThreadPoolBuilder::new()
        .num_threads(settings.threads)
        .thread_name(|_| "decode".to_owned())
        .build_global()
        .map_err(io::Error::other)?;
    let listener = bind(&settings.socket)?;
    end_with_standard_input(settings.socket.clone())?;
    log::info!("version {} is ready", env!("CARGO_PKG_VERSION"));
    let idle_timeout = settings.model_idle_timeout();
    let shared = Arc::new(Shared::new(settings));
    unload_idle_models(idle_timeout, &shared)?;
    end_when_stuck(&shared)?;
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

/// Unloads models that were not used for so long; zero never does.
fn unload_idle_models(timeout: Duration, shared: &Arc<Shared>) -> io::Result<()> {
    const LONGEST: Duration = Duration::from_secs(1);
    if timeout.is_zero() {
        return Ok(());
    }
    let shared = Arc::clone(shared);
    thread::Builder::new().name("idle models".to_owned()).spawn(move || {
        loop {
            thread::sleep(LONGEST.min(timeout / 4));
            shared.registry.unload_idle();
        }
    })?;
    Ok(())
}

/// Ends the process when it is stuck in a model, once those who wait for that model know.
fn end_when_stuck(shared: &Arc<Shared>) -> io::Result<()> {
    const LAST_WORDS: Duration = Duration::from_millis(500);
    let shared = Arc::clone(shared);
    thread::Builder::new().name("watch".to_owned()).spawn(move || {
        while !shared.registry.find_stuck() {
            thread::sleep(watchdog::INTERVAL);
        }
        thread::sleep(LAST_WORDS);
        end();
    })?;
    Ok(())
}

/// Binds the socket under another name and renames it: nobody ever connects to a socket that others
/// may use, or that is not listening yet.
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

/// Only PostgreSQL's own user may ask, whatever the permissions of the file are.
fn check_peer(stream: &UnixStream) -> io::Result<()> {
    let peer = rustix::net::sockopt::socket_peercred(stream)?;
    if peer.uid == rustix::process::geteuid() {
        Ok(())
    } else {
        Err(io::Error::new(
            io::ErrorKind::PermissionDenied,
            format!("user {} is a stranger", peer.uid.as_raw()),
        ))
    }
}

/// The supervisor holds the other end of standard input: when it has gone, however it went, so does
/// this process.
fn end_with_standard_input(socket: std::path::PathBuf) -> io::Result<()> {
    thread::Builder::new().name("supervisor".to_owned()).spawn(move || {
        let mut rest = [0; 64];
        let mut input = io::stdin().lock();
        while matches!(input.read(&mut rest), Ok(n) if n > 0) {}
        // Failing that, the next server replaces the socket.
        let _ = fs::remove_file(socket);
        end();
    })?;
    Ok(())
}

/// Ends this process where it stands. `exit` would run the destructors of ONNX Runtime's statics while
/// the tasks are still at work, and sessions would get errors that mean nothing, such as "GetElementType
/// is not implemented", instead of the end of their connection.
fn end() -> ! {
    let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
    std::process::abort()
}
