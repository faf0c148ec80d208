//! Memory use of a reply, for the budget.

use serde_bytes::ByteBuf;

use crate::protocol::{Failure, ImageInfo, Model, Reply, Stats, TextEmbedding};

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
            Reply::EmbeddedTexts { embeddings, .. } => {
                let size = |answer: &Result<TextEmbedding, Failure>| match answer {
                    Ok(embedding) => OVERHEAD + size_of_val(embedding.vector.as_slice()),
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
            Reply::ImageInfos { infos, .. } => {
                let size = |answer: &Result<ImageInfo, Failure>| match answer {
                    Ok(info) => size_of::<ImageInfo>() + info.format.len() + info.mode.len(),
                    Err(error) => OVERHEAD + failure(error),
                };
                infos.iter().map(size).sum()
            }
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
        let files = self.vision.iter().chain(&self.text);
        let in_files = files.flat_map(|file| [Some(&file.file), file.precision.as_ref()]);
        let in_broken =
            self.broken.iter().flat_map(|failure| [Some(&failure.message), failure.hint.as_ref()]);
        let others = [self.kind.as_ref(), self.provider.as_ref(), self.error.as_ref(), self.note.as_ref()];
        let texts = others.into_iter().chain(in_files).chain(in_broken);
        size_of::<Model>() + self.name.len() + texts.flatten().map(String::len).sum::<usize>()
    }
}
