//! Whose fault a failure is.

use susx_server::protocol::{Failure, FailureKind};

/// Whether the image, the text or the prompt is to blame, or what came of it: another one would have fared better. Such
/// a failure costs one row or one image; any other would be that of all, and ends the call.
pub fn is_of_the_input(failure: &Failure) -> bool {
    match failure.kind {
        FailureKind::Input | FailureKind::TooLarge | FailureKind::Blocked | FailureKind::ServerDied => true,
        FailureKind::UnknownModel
        | FailureKind::WrongModel
        | FailureKind::Parameter
        | FailureKind::Configuration
        | FailureKind::Inference
        | FailureKind::Protocol => false,
    }
}
