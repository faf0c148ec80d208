use serde_bytes::Bytes;

use super::*;

#[test]
fn images_survive_a_round_trip() -> Result<(), ProtocolError> {
    let image: Vec<u8> = (0..=255).collect();
    let inputs = Inputs::Images(vec![Bytes::new(&image), Bytes::new(&[])]);
    let frame = encode(&Request::Embed { id: 7, model: Some("clip"), inputs })?;
    let (length, message) = frame.split_at(LENGTH_BYTES);
    assert_eq!(message_length([length[0], length[1], length[2], length[3]])?, message.len());
    let Request::Embed { id: 7, model: Some("clip"), inputs: Inputs::Images(images) } = decode(message)?
    else {
        panic!("unexpected message");
    };
    assert_eq!(images, [Bytes::new(&image), Bytes::new(&[])]);
    Ok(())
}

#[test]
fn pairs_survive_a_round_trip() -> Result<(), ProtocolError> {
    let images = vec![Bytes::new(b"GIF89a")];
    let frame = encode(&Request::EmbedPairs { id: 7, model: Some("clip"), likeness_model: "dino", images })?;
    let request = decode(&frame[LENGTH_BYTES..])?;
    let Request::EmbedPairs { id: 7, model: Some("clip"), likeness_model: "dino", images } = request else {
        panic!("unexpected message");
    };
    assert_eq!(images, [Bytes::new(b"GIF89a")]);
    let failure = Failure { kind: FailureKind::Input, message: "broken".to_owned(), hint: None };
    let sent = vec![Ok([vec![0.6, 0.8], vec![1.0]]), Err(failure)];
    let mut received = encode(&Reply::EmbeddedPairs { id: 7, pairs: sent.clone() })?;
    assert!(
        matches!(take_reply(&mut received)?, Some(Reply::EmbeddedPairs { id: 7, pairs }) if pairs == sent)
    );
    Ok(())
}

#[test]
fn garbage_is_an_error() {
    assert!(decode::<Request>(&[0xff; 40]).is_err());
    assert!(decode::<Request>(&[]).is_err());
    // The length of the list exceeds the message.
    assert!(decode::<Reply>(&[1, 0, 0xff, 0xff, 0xff, 0xff, 0x0f]).is_err());
    assert!(message_length([0xff; 4]).is_err());
}
