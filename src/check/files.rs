//! Files that the administrator provides. The inference process has the account of PostgreSQL, as this session has, so
//! that both may read the same files.

use std::fs::{self, File};
use std::io::Read;
use std::path::Path;

use rustix::fs::{Access, access};

use super::Item;
use crate::inference::supervisor;
use crate::pg::guc;

/// In the first bytes of the library are the names of its versions.
const LIBRARY_HEAD: u64 = 4 << 20;
/// What the name of ONNX Runtime's version begins with.
const VERSION_PREFIX: &[u8] = b"VERS_";
/// The oldest one that works.
const OLDEST: [u32; 2] = [1, 24];

pub(super) fn items() -> Vec<Item> {
    vec![program(), library(), model_dir()]
}

fn program() -> Item {
    let name = "susx-server";
    let path = supervisor::program();
    let detail = path.display().to_string();
    match access(&path, Access::EXEC_OK) {
        Ok(()) if path.is_file() => Item::ok(name, detail),
        Ok(()) => Item::bad(name, format!("{detail} is not a file"), PROGRAM_HINT),
        Err(error) => Item::bad(name, format!("{detail}: {error}"), PROGRAM_HINT),
    }
}

const PROGRAM_HINT: &str =
    "make install puts the program next to postgres. If it is elsewhere, set susx.server_program.";
const LIBRARY_HINT: &str = "Put libonnxruntime.so, 1.24 or newer, next to the extension's library (pg_config \
                            --pkglibdir), or set susx.onnxruntime_library and reload the configuration.";

fn library() -> Item {
    let name = "ONNX Runtime";
    let Some(path) = supervisor::onnxruntime_library() else {
        return Item {
            ok: None,
            hint: Some(LIBRARY_HINT.to_owned()),
            ..Item::ok(
                name,
                "not set, and not next to the extension: the system's libonnxruntime.so is used, if there is one",
            )
        };
    };
    let detail = path.display().to_string();
    match version(&path) {
        Ok(Some((text, numbers))) if numbers < OLDEST => {
            Item::bad(name, format!("version {text}, {detail}: expected 1.24 or newer"), LIBRARY_HINT)
        }
        Ok(Some((text, _))) => Item::ok(name, format!("version {text}, {detail}")),
        Ok(None) => Item::bad(name, format!("{detail} does not look like ONNX Runtime"), LIBRARY_HINT),
        Err(error) => Item::bad(name, format!("{detail}: {error}"), LIBRARY_HINT),
    }
}

/// The version of an ONNX Runtime library, as it stands in the names of its symbols' versions; `None` if it has none. The
/// library is not loaded: PostgreSQL's processes never load it.
fn version(path: &Path) -> std::io::Result<Option<(String, [u32; 2])>> {
    if !fs::metadata(path)?.is_file() {
        return Ok(None);
    }
    let mut head = Vec::new();
    File::open(path)?.take(LIBRARY_HEAD).read_to_end(&mut head)?;
    let starts = head.windows(VERSION_PREFIX.len()).enumerate().filter(|(_, bytes)| *bytes == VERSION_PREFIX);
    let text = starts
        .map(|(start, _)| {
            let rest = &head[start + VERSION_PREFIX.len()..];
            let end = rest.iter().position(|byte| !byte.is_ascii_digit() && *byte != b'.');
            String::from_utf8_lossy(&rest[..end.unwrap_or(rest.len())]).into_owned()
        })
        .find(|text| text.contains('.'));
    Ok(text.map(|text| {
        let mut numbers = text.split('.').map(|part| part.parse().unwrap_or(0));
        let numbers = [numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)];
        (text, numbers)
    }))
}

fn model_dir() -> Item {
    let name = "susx.model_dir";
    let Some(path) = guc::model_dir() else {
        return Item::bad(
            name,
            "not set",
            "Set it to the directory that contains one directory per model, in postgresql.conf or with ALTER SYSTEM, \
             and reload the configuration. In a new session, run LOAD 'susx' first.",
        );
    };
    let detail = path.display().to_string();
    match fs::read_dir(&path) {
        Ok(_) => Item::ok(name, detail),
        Err(error) => Item::bad(
            name,
            format!("{detail}: {error}"),
            "The directory must exist, and PostgreSQL's operating system user must be able to read it and to enter all \
             parent directories: namei -l shows their permissions.",
        ),
    }
}
