//! What a call of `embed_table` says at its end.

use std::time::Instant;

use crate::embedding_stream::Counts;
use crate::pg::message::{note, note_with_hint, warn};

/// Says what was done, what was not, and how long it took. `skipped` images failed in earlier calls.
pub fn report(name: &str, counts: Counts, skipped: u64, refreshes: bool, since: Instant) {
    let Counts { embedded, replaced, right, failed, changed, refused } = counts;
    let left = failed + skipped + changed + refused;
    let seconds = since.elapsed().as_secs_f64();
    let mut text = format!("\"{name}\": {embedded} of {} images embedded in {seconds:.1} s", embedded + left);
    if refreshes {
        text += &format!(
            ", {replaced} of them because the image had changed; {right} embeddings were up to date"
        );
    }
    let reasons = [
        (failed, "could not be embedded: see susx.errors"),
        (skipped, "failed in earlier calls and were not tried again: use on_error => 'retry'"),
        (changed, "were changed by other sessions: call again"),
        (refused, "were skipped: a trigger or a policy of the table does not allow the update"),
    ];
    for (number, reason) in reasons.into_iter().filter(|(number, _)| *number > 0) {
        text += &format!("; {number} {reason}");
    }
    if left == 0 {
        text += "; none is left";
    }
    if failed > 0 { warn(text) } else { note(text) }
}

/// Says which index would make the next call faster.
pub fn advise(name: &str, create: &str) {
    note_with_hint(
        format!("\"{name}\" is large, and all of it was read to find a few images without an embedding"),
        format!("An index of these rows makes such calls fast: {create}"),
    );
}
