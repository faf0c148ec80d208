use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::LazyLock;
use std::thread;

use susx_core::onnx::ExecutionProvider;
use susx_server::protocol::{self, PROTOCOL_VERSION, Request};
use susx_server::settings::Settings;
use susx_server::socket::connection::{self, Shared};

use crate::pieces;

/// A server whose model directory is empty, so that every request is answered at once.
static SERVER: LazyLock<Shared> = LazyLock::new(|| {
    let model_dir = std::env::temp_dir().join(format!("susx-fuzz-no-models-{}", std::process::id()));
    std::fs::create_dir_all(&model_dir).expect("a folder for no models");
    Shared::new(Settings {
        socket: PathBuf::new(),
        model_dir: Some(model_dir),
        onnxruntime: None,
        provider: ExecutionProvider::Auto,
        require_gpu: false,
        gpu_device: 0,
        gpu_memory_limit: 0,
        max_image_bytes: 1 << 20,
        max_image_pixels: 1 << 20,
        full_decoding: false,
        max_text_bytes: 1 << 16,
        load_timeout: 60_000,
        batch_size: 8,
        batch_delay: 0,
        queue_megabytes: 64,
        threads: 1,
        generator_batch_size: 1,
        model_idle_timeout: 0,
        model_memory: 0,
        warm_up: None,
        restarts: 0,
    })
});

/// Bytes that the server receives from a backend, over a socket. After a greeting, each of the [`pieces`] is sent as
/// the message of a frame. If the first byte is odd, the rest is sent unchanged instead. Every valid request before the
/// first invalid one must get exactly one reply, with its id.
pub fn server_messages(data: &[u8]) {
    let Some((&kind, data)) = data.split_first() else { return };
    let hello = protocol::encode(&Request::Hello { protocol: PROTOCOL_VERSION, version: "fuzz" });
    let mut sent = hello.expect("a greeting");
    let mut expected = vec![0];
    if kind % 2 == 1 {
        sent.extend(data);
    } else {
        for message in pieces(data) {
            sent.extend((message.len() as u32).to_le_bytes());
            sent.extend(message);
        }
        let ids = pieces(data).map(|message| protocol::decode(message).ok().and_then(|request| id(&request)));
        expected.extend(ids.map_while(|id| id));
    }

    let (mut ours, theirs) = UnixStream::pair().expect("a pair of sockets");
    let mut received = Vec::new();
    thread::scope(|scope| {
        scope.spawn(|| connection::serve(1, theirs, &SERVER));
        // These fail if the server has closed the connection because of an invalid message.
        let _ = ours.write_all(&sent);
        let _ = ours.shutdown(Shutdown::Write);
        let _ = ours.read_to_end(&mut received);
    });
    let mut replied = Vec::new();
    while let Some(reply) = protocol::take_reply(&mut received).expect("a reply that can be read") {
        replied.push(reply.id());
    }
    assert!(received.is_empty(), "half a reply");
    if kind % 2 == 0 {
        assert_eq!(replied, expected);
    }
}

/// The id that the reply must have; `None` for a message that ends the connection.
fn id(request: &Request) -> Option<u64> {
    match request {
        Request::Hello { .. } => None,
        Request::Embed { id, .. }
        | Request::EmbedPairs { id, .. }
        | Request::Generate { id, .. }
        | Request::Thumbnails { id, .. }
        | Request::Sheet { id, .. }
        | Request::ImageInfos { id, .. }
        | Request::Describe { id, .. }
        | Request::DescribeGenerator { id, .. }
        | Request::Models { id }
        | Request::Stats { id } => Some(*id),
    }
}
