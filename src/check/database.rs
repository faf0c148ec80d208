//! What the database must have.

use super::Item;
use crate::pg::error::{Error, Result};
use crate::pg::extensions::{installed_version, vector_version};
use crate::pg::settings;
use crate::pg::version::{self, LIBRARY};

/// pgvector's oldest version that works.
const OLDEST_VECTOR: [u32; 3] = [0, 5, 1];
/// The oldest version whose indexes return as many images as they are asked for.
const GOOD_VECTOR: [u32; 3] = [0, 8, 0];

pub(super) fn items() -> Vec<Item> {
    vec![Item::of("extension", extension()), Item::of("pgvector", vector()), encoding(), preload()]
}

fn extension() -> Result<Item> {
    let name = "extension";
    version::check()?;
    let installed = installed_version()?;
    Ok(match installed {
        Some(installed) => Item::ok(name, format!("version {installed}, the same as the library")),
        None => {
            Item::bad(name, format!("library {LIBRARY}, but no extension"), "CREATE EXTENSION susx CASCADE.")
        }
    })
}

fn vector() -> Result<Item> {
    let name = "pgvector";
    let found = vector_version()?.ok_or_else(|| Error::internal("the extension vector is not installed"))?;
    let mut numbers = [0; 3];
    for (number, part) in numbers.iter_mut().zip(found.split('.')) {
        *number = part.parse().unwrap_or(0);
    }
    let detail = format!("version {found}");
    let update = "Install a newer pgvector, then ALTER EXTENSION vector UPDATE.";
    Ok(if numbers < OLDEST_VECTOR {
        Item::bad(name, format!("{detail}: expected 0.5.1 or newer"), update)
    } else if numbers < GOOD_VECTOR {
        let hint = format!(
            "With 0.8.0 or newer, build_support_set can use an index for any number of images. {update}"
        );
        Item { hint: Some(hint), ..Item::ok(name, detail) }
    } else {
        Item::ok(name, detail)
    })
}

fn encoding() -> Item {
    let name = "encoding";
    match settings::database_encoding() {
        encoding if encoding == "UTF8" => Item::ok(name, encoding),
        encoding if encoding == "SQL_ASCII" => Item::ok(name, format!("{encoding}: texts must be UTF-8")),
        encoding => Item::bad(
            name,
            format!("{encoding}, not UTF8"),
            "Create a database with CREATE DATABASE ... ENCODING 'UTF8' TEMPLATE template0, and copy the tables.",
        ),
    }
}

fn preload() -> Item {
    let name = "shared_preload_libraries";
    match settings::is_preloaded() {
        true => Item::ok(name, "includes susx: the inference process starts with PostgreSQL"),
        false => Item::ok(name, "does not include susx: the inference process starts when it is first used"),
    }
}
