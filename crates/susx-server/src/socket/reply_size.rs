//! Memory use of a reply, for the budget.

use serde_bytes::ByteBuf;

use crate::protocol::{Failure, Model, Reply, Stats};

impl Reply {
    /// Approximate size in memory, in bytes.
    pub fn bytes(&self) -> usize {
        // Overhead of one heap allocation and its owner.
        const OVERHEAD: usize = 64;
        let failure =
            |failure: &Failure| failure.message.len() + failure.hint.as_ref().map_or(0, String::len);
        let inner = match self {
            Reply::Embedded { embeddings, .. } => {
                let size = |answer: &Result<Vec<f32>, Failure>| match answer {
                    Ok(embedding) => OVERHEAD + size_of_val(embedding.as_slice()),
                    Err(error) => OVERHEAD + failure(error),
                };
                embeddings.iter().map(size).sum()
            }
            Reply::EmbeddedPairs { pairs, .. } => {
                let size = |answer: &Result<[Vec<f32>; 2], Failure>| match answer {
                    Ok(pair) => pair.iter().map(|vector| OVERHEAD + size_of_val(vector.as_slice())).sum(),
                    Err(error) => OVERHEAD + failure(error),
                };
                pairs.iter().map(size).sum()
            }
            Reply::Generated { images: files, .. } | Reply::Thumbnails { files, .. } => {
                let size = |answer: &Result<ByteBuf, Failure>| match answer {
                    Ok(file) => OVERHEAD + file.len(),
                    Err(error) => OVERHEAD + failure(error),
                };
                files.iter().map(size).sum()
            }
            Reply::Sheet { file, .. } => OVERHEAD + file.len(),
            Reply::Models { models, .. } => models.iter().map(Model::bytes_in_memory).sum(),
            Reply::Model { model, .. } => model.bytes_in_memory(),
            Reply::Failed { failure: error, .. } => failure(error),
            Reply::Stats { stats, .. } => {
                OVERHEAD * (stats.models.len() + stats.batch_sizes.len()) + size_of::<Stats>()
            }
            Reply::Hello { .. } | Reply::Denoised { .. } => 0,
        };
        size_of::<Reply>() + inner
    }
}

impl Model {
    fn bytes_in_memory(&self) -> usize {
        let texts = [self.kind.as_ref(), self.provider.as_ref(), self.error.as_ref()];
        size_of::<Model>() + self.name.len() + texts.into_iter().flatten().map(String::len).sum::<usize>()
    }
}
