//! What the caller may do.

use super::Item;
use crate::pg::catalog::own_functions::not_executable;
use crate::pg::error::Result;

pub(super) fn item() -> Item {
    Item::of("rights", rights())
}

fn rights() -> Result<Item> {
    let name = "rights";
    let denied = not_executable()?;
    Ok(match denied.len() {
        0 => Item::ok(name, "the caller can execute all functions"),
        _ => Item::bad(
            name,
            format!("the caller cannot execute {}", denied.join(", ")),
            "To allow it, the owner of the extension runs GRANT EXECUTE ON FUNCTION ... TO the role.",
        ),
    })
}
