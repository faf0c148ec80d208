//! Writes the seeds whose bytes cannot be typed: `cargo run -p susx-fuzz --example make_seeds`.

use std::borrow::Cow;
use std::fs;
use std::path::Path;

use serde_bytes::{ByteBuf, Bytes};
use susx_core::classifier::PartialParams;
use susx_server::protocol::{
    self, Cut, EncoderFile, Failure, FailureKind, ImageInfo, ImageRequest, Inputs, LENGTH_BYTES, LastError,
    Model, PROTOCOL_VERSION, Reply, Request, SheetCell, SheetPicture, SheetRequest, Stats, TextEmbedding,
    ThumbnailFormat, ThumbnailRequest,
};

fn main() {
    requests();
    replies();
    model_files();
    classifier_settings();
}

fn write(target: &str, name: &str, seed: &[u8]) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("seeds").join(target);
    fs::create_dir_all(&folder).expect("a folder");
    fs::write(folder.join(name), seed).expect("a file");
}

/// As `susx_fuzz` takes pieces apart.
fn pieces<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Vec<u8> {
    let mut seed = Vec::new();
    for piece in pieces {
        seed.extend((piece.len() as u16).to_le_bytes());
        seed.extend(piece);
    }
    seed
}

fn requests() {
    let request = |seed| ImageRequest {
        prompt: Cow::Borrowed("a photo of a dog."),
        negative_prompt: Cow::Borrowed(""),
        seed,
        steps: 20,
        guidance_scale: 7.5,
        width: None,
        height: Some(512),
    };
    let requests = [
        ("hello", vec![Request::Hello { protocol: PROTOCOL_VERSION, version: "0.2.0" }]),
        ("other_version", vec![Request::Hello { protocol: 1, version: "0.0.1" }]),
        (
            "images",
            vec![Request::Embed {
                id: 1,
                model: None,
                inputs: Inputs::Images(vec![Bytes::new(b"GIF89a"), Bytes::new(b"")]),
            }],
        ),
        (
            "pairs",
            vec![Request::EmbedPairs {
                id: 7,
                model: Some("clip"),
                likeness_model: "dino",
                images: vec![Bytes::new(b"GIF89a"), Bytes::new(b"")],
            }],
        ),
        (
            "texts",
            vec![Request::Embed { id: 2, model: Some("clip"), inputs: Inputs::Texts(vec!["a dog", ""]) }],
        ),
        (
            "pictures",
            vec![Request::Generate { id: 3, generator: None, requests: vec![request(1), request(2)] }],
        ),
        (
            "thumbnails",
            vec![Request::Thumbnails {
                id: 8,
                requests: vec![ThumbnailRequest {
                    file: Bytes::new(b"GIF89a"),
                    size: 160,
                    format: ThumbnailFormat::Jpeg,
                }],
            }],
        ),
        (
            "image_infos",
            vec![Request::ImageInfos { id: 10, images: vec![Bytes::new(b"GIF89a"), Bytes::new(b"")] }],
        ),
        (
            "sheet",
            vec![Request::Sheet {
                id: 9,
                sheet: SheetRequest {
                    columns: 2,
                    size: 16,
                    has_labels: true,
                    cells: vec![
                        SheetCell {
                            picture: SheetPicture::Thumbnail(Bytes::new(b"GIF89a")),
                            label: Some("a"),
                        },
                        SheetCell { picture: SheetPicture::Failed("broken"), label: None },
                        SheetCell { picture: SheetPicture::None, label: None },
                    ],
                },
            }],
        ),
        (
            "questions",
            vec![
                Request::Models { id: 4 },
                Request::Stats { id: 5 },
                Request::Describe { id: 6, model: Some("clip") },
                Request::DescribeGenerator { id: u64::MAX, generator: None },
            ],
        ),
    ];
    for (name, requests) in requests {
        let frames: Vec<_> =
            requests.iter().map(|request| protocol::encode(request).expect("short")).collect();
        // The first byte says that messages follow, and not bytes of the stream.
        let messages = frames.iter().map(|frame| &frame[LENGTH_BYTES..]);
        write("server_messages", name, &[vec![0], pieces(messages)].concat());
        write("server_messages", &format!("{name}_raw"), &[vec![1], frames.concat()].concat());
    }
    write("server_messages", "too_long", &[1, 0xff, 0xff, 0xff, 0xff, 0]);
    write("server_messages", "half", &[1, 40, 0, 0, 0, 3]);
}

fn replies() {
    let failure = || Failure {
        kind: FailureKind::TooLarge,
        message: "too many pixels".to_owned(),
        hint: Some("Raise susx.max_image_pixels.".to_owned()),
    };
    let model = || Model {
        name: "clip".to_owned(),
        kind: Some("clip".to_owned()),
        dimensions: Some(512),
        image_size: Some((224, 224)),
        provider: Some("cpu".to_owned()),
        loaded: true,
        bytes: Some(1 << 30),
        sha256: Some([7; 32]),
        logit_bias: Some(-12.9),
        defaults: PartialParams { alpha: Some(1.0), ..PartialParams::default() },
        error: None,
        vision: Some(EncoderFile {
            file: "onnx/vision_model_fp16.onnx".to_owned(),
            precision: Some("fp16".to_owned()),
            opset: Some(17),
        }),
        text: Some(EncoderFile { file: "onnx/text_model.onnx".to_owned(), precision: None, opset: None }),
        note: Some("different precisions".to_owned()),
        broken: Some(failure()),
    };
    let info = ImageInfo {
        format: "JPEG".to_owned(),
        width: 640,
        height: 480,
        orientation: 6,
        frames: 1,
        mode: "RGB".to_owned(),
    };
    let stats = Stats {
        version: "0.2.0".to_owned(),
        models: vec!["clip (cpu)".to_owned()],
        images: 1000,
        images_per_second: 12.5,
        batch_sizes: vec![1, 2, 0, 4],
        p50_ms: Some(3.5),
        last_error: Some(LastError { message: "out of memory".to_owned(), at: 1 }),
        ..Stats::default()
    };
    let replies = [
        ("hello", vec![Reply::Hello { protocol: PROTOCOL_VERSION, version: "0.2.0".to_owned() }]),
        ("embedded", vec![Reply::Embedded { id: 1, embeddings: vec![Ok(vec![0.6, 0.8]), Err(failure())] }]),
        (
            "embedded_texts",
            vec![Reply::EmbeddedTexts {
                id: 1,
                embeddings: vec![
                    Ok(TextEmbedding {
                        vector: vec![0.6, 0.8],
                        cut: Some(Cut { tokens: 77, digest: 1 << 63 }),
                    }),
                    Ok(TextEmbedding { vector: vec![1.0], cut: None }),
                    Err(failure()),
                ],
            }],
        ),
        (
            "embedded_pairs",
            vec![Reply::EmbeddedPairs {
                id: 1,
                pairs: vec![Ok([vec![0.6, 0.8], vec![1.0]]), Err(failure())],
            }],
        ),
        (
            "generated",
            vec![
                Reply::Denoised { id: 2, steps: 3 },
                Reply::Generated { id: 2, images: vec![Ok(ByteBuf::from(b"PNG".to_vec())), Err(failure())] },
            ],
        ),
        (
            "thumbnails",
            vec![Reply::Thumbnails {
                id: 7,
                files: vec![Ok(ByteBuf::from(b"JPEG".to_vec())), Err(failure())],
            }],
        ),
        ("image_infos", vec![Reply::ImageInfos { id: 10, infos: vec![Ok(info), Err(failure())] }]),
        ("sheet", vec![Reply::Sheet { id: 8, file: ByteBuf::from(b"PNG".to_vec()) }]),
        ("model", vec![Reply::Model { id: 3, model: Box::new(model()) }]),
        ("models", vec![Reply::Models { id: 4, models: vec![model(), Model::default()] }]),
        ("stats", vec![Reply::Stats { id: 5, stats: Box::new(stats) }]),
        ("failed", vec![Reply::Failed { id: 6, failure: failure() }]),
    ];
    for (name, replies) in replies {
        let frames: Vec<_> = replies.iter().map(|reply| protocol::encode(reply).expect("short")).collect();
        write("backend_replies", name, &frames.concat());
    }
}

/// A message of `onnx.proto`, by the numbers of its fields.
fn field(number: u8, content: &[u8]) -> Vec<u8> {
    [&[number << 3 | 2, content.len() as u8], content].concat()
}

/// A graph with a tensor whose data are in another file.
fn graph(location: &str) -> Vec<u8> {
    let entry = [field(1, b"location"), field(2, location.as_bytes())].concat();
    let tensor = field(13, &entry);
    field(7, &field(5, &tensor))
}

fn model_files() {
    let clip =
        br#"{"image_processor_type": "CLIPImageProcessor", "size": {"shortest_edge": 32}, "crop_size": 32}"#;
    let config = br#"{"model_type": "clip", "projection_dim": 32, "logit_scale_init_value": 2.6592}"#;
    let susx = br#"{"alpha": 1, "beta": 5.5, "gamma": 3, "temperature": 0.5, "logit_scale": 100}"#;
    let tokenizer = br#"{"model_max_length": 77, "pad_token": "<|endoftext|>"}"#;
    let index = br#"{"_class_name": "StableDiffusionPipeline", "scheduler": ["diffusers", "PNDMScheduler"]}"#;
    let scheduler = br#"{"_class_name": "PNDMScheduler", "beta_start": 0.00085, "beta_end": 0.012,
        "beta_schedule": "scaled_linear", "num_train_timesteps": 1000, "skip_prk_steps": true}"#;
    let unet = br#"{"in_channels": 4, "sample_size": 64}"#;
    let (inside, outside) = (graph("model.onnx"), graph("../../etc/passwd"));
    let clip_files: [&[u8]; 4] = [clip, config, susx, tokenizer];
    let sd_files: [&[u8]; 3] = [index, scheduler, unet];
    for (name, graph) in [("inside", &inside), ("outside", &outside), ("no_weights", &field(7, b""))] {
        let files = clip_files.into_iter().chain([&graph[..]]).chain(sd_files).chain([&graph[..]]);
        write("model_files", name, &pieces(files));
    }
    write("model_files", "clip_alone", &pieces(clip_files.into_iter().chain([&inside[..]])));
    let immich: [&[u8]; 4] = [
        br#"{"embed_dim": 32, "vision_cfg": {"image_size": 32}, "text_cfg": {"context_length": 77}}"#,
        br#"{"size": [32, 32], "mode": "RGB", "interpolation": "bicubic", "resize_mode": "longest", "fill_color": 0}"#,
        &inside,
        tokenizer,
    ];
    write("model_files", "immich", &pieces([&b""[..]; 9].into_iter().chain(immich)));
    let empty: &[u8] = b"{}";
    write("model_files", "defaults", &pieces([empty; 9]));
}

/// `arbitrary` takes numbers from the front and lengths from the back.
fn classifier_settings() {
    let vector = |seed: usize| (0..5).flat_map(move |i| ((seed * 5 + i) as f32).sin().to_le_bytes());
    for method in 0..5u8 {
        // alpha, beta, gamma, temperature, logit_scale, lambda, ridge.
        let settings = [1.0f32, 5.5, 3.0, 0.5, 100.0, 2.0, 3.0].into_iter().flat_map(f32::to_le_bytes);
        let mut seed: Vec<u8> = [method].into_iter().chain(settings).collect();
        // The dimensions, the categories, their prompts; the images with their category and whether it is labelled.
        seed.extend([4, 2]);
        seed.extend((0..3).flat_map(vector));
        seed.push(6);
        for image in 0..6usize {
            seed.push(image as u8 % 3);
            seed.extend(vector(10 + image));
            seed.push(u8::from(image < usize::from(method)));
        }
        seed.extend(vector(30));
        seed.extend([0; 8]);
        write("classifier_settings", &format!("method_{method}"), &seed);
    }
}
