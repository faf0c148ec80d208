//! `susx-schema LIBRARY CONTROL VERSION` prints the SQL that `CREATE EXTENSION` runs.
//!
//! pgrx's macros describe the extension's functions in a section of its library. `cargo pgrx schema` turns that into SQL,
//! but takes minutes to compile, for all the other things that it can do. This is the part of it that susx needs.

use std::env;
use std::error::Error;
use std::fs;
use std::io;
use std::path::Path;

use object::{Object, ObjectSection};
use pgrx_sql_entity_graph::section::{decode_entities, is_schema_section_name};
use pgrx_sql_entity_graph::{ControlFile, PgrxSql, SqlGraphEntity};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [library, control, version] = arguments.as_slice() else {
        return Err("usage: susx-schema LIBRARY CONTROL VERSION".into());
    };
    let data = fs::read(library).map_err(|error| format!("cannot read {library}: {error}"))?;
    let entities = decode_entities(section(&data)?)?;
    let control = ControlFile::from_path_with_cargo_version(Path::new(control), version)?;
    let all = [SqlGraphEntity::ExtensionRoot(control)].into_iter().chain(entities);
    // The control file names the library, so the functions need not: `false`.
    PgrxSql::build(all, "susx".to_owned(), false)?.write(&mut io::stdout())?;
    Ok(())
}

/// The section in which pgrx's macros describe the extension.
fn section(library: &[u8]) -> Result<&[u8], Box<dyn Error>> {
    let object = object::File::parse(library)?;
    for section in object.sections() {
        if is_schema_section_name(section.name()?) {
            return Ok(section.data()?);
        }
    }
    Err("the library has no section with pgrx's description of its functions".into())
}
