use super::*;

/// A field of bytes in protobuf's format, shorter than 128 bytes.
fn field(number: u8, content: &[u8]) -> Vec<u8> {
    [&[number << 3 | 2, content.len() as u8], content].concat()
}

fn number(field: u8, value: u8) -> Vec<u8> {
    vec![field << 3, value]
}

fn port(name: &str, element: u8, shape: &[u8]) -> Vec<u8> {
    // A dimension has its extent (1), or a name (2) where any will do.
    let dimension = |extent: &u8| match extent {
        0 => field(1, &field(2, b"batch")),
        extent => field(1, &number(1, *extent)),
    };
    let shape: Vec<u8> = shape.iter().flat_map(dimension).collect();
    let tensor = [number(1, element), field(2, &shape)].concat();
    [field(1, name.as_bytes()), field(2, &field(1, &tensor))].concat()
}

fn read(name: &str, model: &[u8]) -> Result<Header> {
    let path = std::env::temp_dir().join(format!("susx-header-{name}-{}", std::process::id()));
    std::fs::write(&path, model).map_err(|error| OnnxError::file(&path, error))?;
    let header = Header::read(&path);
    let _ = std::fs::remove_file(&path);
    header
}

#[test]
fn a_graph_says_what_it_takes_and_what_it_is_made_of() {
    let scale = [field(8, b"model.logit_scale"), number(2, 1), field(9, &2.5_f32.to_le_bytes())].concat();
    let weights = [number(1, 100), number(2, 3), field(8, b"w")].concat();
    // The body of a branch has its own input, which is not the graph's.
    let branch = [field(11, &port("inner", 1, &[1])), field(1, &field(4, b"DynamicQuantizeLinear"))].concat();
    let node = [field(4, b"If"), field(5, &field(6, &branch))].concat();
    let graph = [
        field(1, &node),
        field(5, &scale),
        field(5, &weights),
        field(11, &port("pixel_values", 1, &[0, 3, 96, 96])),
        // Older graphs list their weights as inputs, too.
        field(11, &port("w", 3, &[100])),
        field(12, &port("image_embeds", 10, &[0, 32])),
    ]
    .concat();
    let opsets = [field(8, &number(2, 17)), field(8, &[field(1, b"com.microsoft"), number(2, 1)].concat())];
    // The graph is longer than 127 bytes.
    let length = [graph.len() as u8 | 0x80, (graph.len() >> 7) as u8];
    let model = [opsets.concat(), vec![7 << 3 | 2], length.to_vec(), graph].concat();
    let header = read("whole", &model).unwrap();
    assert_eq!(header.opset, Some(17));
    let [input] = &header.inputs[..] else { panic!("{:?}", header.inputs) };
    assert_eq!((input.name.as_str(), &input.shape[..]), ("pixel_values", &[-1, 3, 96, 96][..]));
    assert!(input.is_float() && header.outputs_have_shapes);
    assert_eq!(
        (header.outputs[0].name.as_str(), &header.outputs[0].shape[..]),
        ("image_embeds", &[-1, 32][..])
    );
    assert_eq!((header.precision(), header.depends_on_batch()), (Some("int8"), true));
    assert_eq!((header.scalar("logit_scale"), header.scalar("scale")), (Some(2.5), None));
    // Cut off anywhere, it is an error or a smaller graph, never a panic.
    for end in 0..model.len() {
        let _ = read("cut", &model[..end]);
    }
    assert!(read("short", &model[..model.len() - 1]).is_err());
}

#[test]
fn a_graph_without_anything_says_nothing() {
    let header = read("empty", b"").unwrap();
    assert_eq!((header.opset, header.precision(), header.depends_on_batch()), (None, None, false));
    assert!(header.inputs.is_empty() && header.outputs.is_empty());
}
