use super::*;

#[test]
fn images_arrive_as_they_were_sent() -> Result<(), ProtocolError> {
    let image: Vec<u8> = (0..=255).collect();
    let inputs = Inputs::Images(vec![Bytes::new(&image), Bytes::new(&[])]);
    let frame = encode(&Request::Embed { id: 7, model: Some("clip"), inputs })?;
    let (length, message) = frame.split_at(LENGTH_BYTES);
    assert_eq!(message_length([length[0], length[1], length[2], length[3]])?, message.len());
    let Request::Embed { id: 7, model: Some("clip"), inputs: Inputs::Images(images) } = decode(message)?
    else {
        panic!("another message");
    };
    assert_eq!(images, [Bytes::new(&image), Bytes::new(&[])]);
    Ok(())
}

#[test]
fn garbage_is_an_error() {
    assert!(decode::<Request>(&[0xff; 40]).is_err());
    assert!(decode::<Request>(&[]).is_err());
    // A list that claims more elements than there are bytes.
    assert!(decode::<Reply>(&[1, 0, 0xff, 0xff, 0xff, 0xff, 0x0f]).is_err());
    assert!(message_length([0xff; 4]).is_err());
}
