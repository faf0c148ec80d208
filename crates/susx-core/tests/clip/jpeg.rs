//! JPEGs made of those of `images/` by changing their segments.

use susx_core::clip::{ImageLimits, RgbImage, decode_picture, decode_rgb};

use crate::root;

const APP0: u8 = 0xE0;
const APP1: u8 = 0xE1;
const APP14: u8 = 0xEE;
const COMMENT: u8 = 0xFE;
const FRAME: u8 = 0xC0;
const PROGRESSIVE_FRAME: u8 = 0xC2;
const HUFFMAN_TABLES: u8 = 0xC4;
const SCAN: u8 = 0xDA;
const END: [u8; 2] = [0xFF, 0xD9];

fn read(name: &str) -> Vec<u8> {
    std::fs::read(root().join("crates/susx-core/tests/clip/images").join(name)).unwrap()
}

/// A marker segment, a scan with its data.
#[derive(Clone)]
struct Segment {
    marker: u8,
    content: Vec<u8>,
    data: Vec<u8>,
}

fn segment(marker: u8, content: &[u8]) -> Segment {
    Segment { marker, content: content.to_vec(), data: Vec::new() }
}

fn segments(name: &str) -> Vec<Segment> {
    let file = read(name);
    let mut segments = Vec::new();
    let mut at = 2;
    while file[at..at + 2] != END {
        let length = usize::from(u16::from_be_bytes([file[at + 2], file[at + 3]]));
        let end = at + 2 + length;
        let is_scan = file[at + 1] == SCAN;
        let is_marker = |pair: &[u8]| pair[0] == 0xFF && !matches!(pair[1], 0 | 0xD0..=0xD7);
        let data_length = file[end..].windows(2).position(is_marker).filter(|_| is_scan).unwrap_or(0);
        let data = file[end..end + data_length].to_vec();
        segments.push(Segment { marker: file[at + 1], content: file[at + 4..end].to_vec(), data });
        at = end + data_length;
    }
    segments
}

fn joined(segments: &[Segment]) -> Vec<u8> {
    let mut file = vec![0xFF, 0xD8];
    for Segment { marker, content, data } in segments {
        file.extend([0xFF, *marker]);
        file.extend((content.len() as u16 + 2).to_be_bytes());
        file.extend(content);
        file.extend(data);
    }
    file.extend(END);
    file
}

fn decoded(file: &[u8]) -> Result<RgbImage, String> {
    decode_rgb(file, &ImageLimits::default()).map_err(|error| error.to_string())
}

/// The error of a file that is `name` after a change of its segments.
fn refusal(name: &str, change: impl FnOnce(&mut Vec<Segment>)) -> String {
    let mut segments = segments(name);
    change(&mut segments);
    decoded(&joined(&segments)).expect_err(name)
}

fn position(segments: &[Segment], marker: u8) -> usize {
    segments.iter().position(|segment| segment.marker == marker).unwrap()
}

#[test]
fn segments_are_taken_apart_and_joined() {
    for name in ["baseline.jpg", "progressive.jpg", "split_scans.jpg", "cmyk.jpg"] {
        assert!(joined(&segments(name)) == read(name), "{name}");
    }
}

/// `jpegtran` coded the coefficients of `baseline.jpg` in these ways.
#[test]
fn the_coding_does_not_change_the_pixels() {
    let expected = decoded(&read("baseline.jpg")).unwrap();
    for name in ["split_scans.jpg", "arithmetic.jpg", "arithmetic_progressive.jpg"] {
        assert!(decoded(&read(name)).unwrap() == expected, "{name}");
    }
}

/// Frames of Motion-JPEG rely on the tables of the standard, which are those that Pillow writes.
#[test]
fn huffman_tables_may_be_missing() {
    let mut segments = segments("baseline.jpg");
    segments.retain(|segment| segment.marker != HUFFMAN_TABLES);
    assert!(decoded(&joined(&segments)).unwrap() == decoded(&read("baseline.jpg")).unwrap());
}

#[test]
fn what_is_beside_the_picture_does_not_matter() {
    let expected = decoded(&read("baseline.jpg")).unwrap();
    let beside = [
        segment(APP14, b"Adobe\0"),
        segment(APP14, b""),
        segment(COMMENT, b""),
        segment(APP1, b"http://ns.adobe.com/xmp/extension/\0short"),
        segment(APP1, b"Exif\0\0"),
        segment(APP1, b"Exif\0\0no TIFF"),
        // A version of JFIF that does not exist.
        segment(APP0, b"JFIF\0\x09\x09\0\0\x01\0\x01\0\0"),
    ];
    for (number, one) in beside.iter().enumerate() {
        let mut segments = segments("baseline.jpg");
        segments.insert(1, one.clone());
        assert!(decoded(&joined(&segments)).unwrap() == expected, "{number}");
    }
    // Stray bytes between two segments, which some cameras write, and after the end.
    let mut segments = segments("baseline.jpg");
    segments[0].data = vec![0, 1, 2];
    let file = [joined(&segments), b"and so on".to_vec()].concat();
    assert!(decoded(&file).unwrap() == expected);
}

#[test]
fn other_kinds_of_jpeg_are_named() {
    let frame = |marker| {
        refusal("baseline.jpg", |segments| {
            let frame = position(segments, FRAME);
            segments[frame].marker = marker;
        })
    };
    assert!(frame(0xC3).ends_with("lossless JPEG is not supported"), "{}", frame(0xC3));
    assert!(frame(0xCB).ends_with("lossless JPEG is not supported"));
    assert!(frame(0xC5).ends_with("hierarchical JPEG is not supported"));
    let changed = |at: usize, value: [u8; 2]| {
        refusal("baseline.jpg", |segments| {
            let frame = position(segments, FRAME);
            segments[frame].content[at..at + 2].copy_from_slice(&value);
        })
    };
    assert!(changed(0, [12, 0]).ends_with("samples of 12 bits are not supported, only 8"));
    assert!(changed(1, [0, 0]).contains("in a DNL marker is not supported"));
    let two = refusal("baseline.jpg", |segments| {
        let frame = position(segments, FRAME);
        segments[frame].content.truncate(6 + 2 * 3);
        segments[frame].content[5] = 2;
        let scan = position(segments, SCAN);
        segments[scan].content = vec![2, 1, 0, 2, 0x11, 0, 63, 0];
    });
    assert!(two.ends_with("only images with 1, 3 or 4 components are supported"), "{two}");
}

#[test]
fn damage_in_the_picture_is_an_error() {
    // Bytes that no pixel needs, after the last one and before the first.
    let more = |at: fn(usize) -> usize| {
        refusal("baseline.jpg", |segments| {
            let data = &mut segments.last_mut().unwrap().data;
            let at = at(data.len());
            data.splice(at..at, [0x12; 40]);
        })
    };
    assert!(
        more(|length| length).contains("extraneous bytes before marker 0xd9"),
        "{}",
        more(|length| length)
    );
    assert!(!more(|_| 0).is_empty());
    let less = refusal("baseline.jpg", |segments| {
        let data = &mut segments.last_mut().unwrap().data;
        data.truncate(data.len() / 2);
    });
    assert!(less.ends_with("the image data end early"), "{less}");
    let file = read("baseline.jpg");
    let cut = decoded(&file[..file.len() - 2]).unwrap_err();
    assert!(cut.ends_with("the file ends early"), "{cut}");
}

/// A value of a Huffman table for DC coefficients that is there twice, in place of the right one.
#[test]
fn a_damaged_huffman_table_is_an_error() {
    let error = refusal("baseline.jpg", |segments| {
        let tables = position(segments, HUFFMAN_TABLES);
        let values = &mut segments[tables].content[17..];
        values[0] = values[1];
    });
    assert!(error.starts_with("cannot decode the JPEG image: "), "{error}");
}

#[test]
fn every_scan_must_be_there() {
    for name in ["progressive.jpg", "split_scans.jpg", "arithmetic_progressive.jpg"] {
        let whole = segments(name);
        let scans: Vec<usize> = (0..whole.len()).filter(|&at| whole[at].marker == SCAN).collect();
        assert!(scans.len() > 1);
        for at in scans {
            let error = refusal(name, |segments| drop(segments.remove(at)));
            let is_named =
                ["one of its scans is missing", "Inconsistent progression", "Invalid progressive parameters"];
            assert!(is_named.iter().any(|words| error.contains(words)), "{name}, segment {at}: {error}");
        }
    }
}

/// Each scan costs time for all pixels, whatever its length.
#[test]
fn thousands_of_scans_are_refused() {
    let with_scans = |count: usize| {
        let mut segments = segments("split_scans.jpg");
        let scan = position(&segments, SCAN);
        let first = segments[scan].clone();
        segments.splice(scan..scan, vec![first; count]);
        decoded(&joined(&segments))
    };
    assert!(with_scans(98).unwrap() == decoded(&read("split_scans.jpg")).unwrap());
    for count in [99, 5_000] {
        let error = with_scans(count).unwrap_err();
        assert!(error.ends_with("it has more than 100 scans"), "{error}");
    }
    assert!(segments("progressive.jpg").iter().any(|segment| segment.marker == PROGRESSIVE_FRAME));
}

/// EXIF with an orientation of this kind: a SHORT (3) or a LONG (4).
fn exif(orientation: u8, kind: u8) -> Vec<u8> {
    let mut exif = b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01".to_vec();
    exif.extend([kind, 0, 1, 0, 0, 0, orientation, 0, 0, 0, 0, 0, 0, 0]);
    exif
}

#[test]
fn the_orientation_is_found_wherever_it_is() {
    let upright = decoded(&read("baseline.jpg")).unwrap();
    let turned = image::imageops::rotate180(&upright);
    let xmp = |orientation: u8| {
        let packet = format!("http://ns.adobe.com/xap/1.0/\0<x tiff:Orientation=\"{orientation}\"/>");
        segment(APP1, packet.as_bytes())
    };
    let exif = |orientation, kind| segment(APP1, &exif(orientation, kind));
    let cases: [(&str, Vec<Segment>, bool); 10] = [
        ("SHORT", vec![exif(3, 3)], true),
        ("LONG", vec![exif(3, 4)], true),
        ("after other segments", vec![segment(APP1, b"something else"), exif(3, 3)], true),
        ("after an empty one", vec![segment(APP1, b"Exif\0\0"), exif(3, 3)], true),
        ("after garbage", vec![segment(APP1, b"Exif\0\0garbage"), exif(3, 3)], true),
        ("before garbage", vec![exif(3, 3), segment(APP1, b"Exif\0\0garbage")], true),
        ("the first counts", vec![exif(1, 3), exif(3, 3)], false),
        ("XMP alone", vec![xmp(3)], true),
        ("EXIF before XMP", vec![xmp(3), exif(1, 3)], false),
        (
            "XMP where EXIF says nothing",
            vec![segment(APP1, b"Exif\0\0II*\0\x08\0\0\0\0\0\0\0"), xmp(3)],
            true,
        ),
    ];
    for (name, added, is_turned) in cases {
        let mut segments = segments("baseline.jpg");
        segments.splice(1..1, added);
        let found = decoded(&joined(&segments)).unwrap();
        assert!(found == if is_turned { turned.clone() } else { upright.clone() }, "{name}");
    }
}

/// At a half, a quarter and an eighth of its size the picture has the same rectangles.
#[test]
fn a_part_of_the_size_shows_the_same_picture() {
    for name in ["baseline.jpg", "progressive.jpg", "sideways.jpg", "grey.jpg", "cmyk.jpg"] {
        let whole = decoded(&read(name)).unwrap();
        for (asked, divisor) in [(0, 1), (1, 1), (3, 2), (4, 4), (9, 8)] {
            let sizes = std::cell::Cell::new(None);
            let reduction = |width, height| {
                sizes.set(Some((width, height)));
                asked
            };
            let picture = decode_picture(&read(name), &ImageLimits::default(), &reduction, &|_| ()).unwrap();
            assert_eq!(sizes.get(), Some((24, 16)), "{name}: upright");
            assert_eq!(picture.full_size(), (24, 16), "{name}");
            let image = picture.image();
            assert_eq!(image.dimensions(), (24 / divisor, 16 / divisor), "{name}");
            if divisor == 1 {
                assert!(*image == whole, "{name}");
            }
            for (x, y) in [(0, 0), (23, 0), (0, 15), (23, 15)] {
                let (found, expected) = (image.get_pixel(x / divisor, y / divisor), whole.get_pixel(x, y));
                let difference = found.0.iter().zip(expected.0).map(|(a, b)| a.abs_diff(b)).max().unwrap();
                assert!(difference <= 12, "{name} at 1/{divisor}: {found:?}, not {expected:?}");
            }
        }
    }
}

/// Memory is reckoned by what is decoded: the pixels, or the coefficients of a file with several scans.
#[test]
fn admission_is_asked_for_what_is_decoded() {
    let asked = |name: &str, divisor: u32| {
        let pixels = std::cell::Cell::new(0);
        decode_picture(&read(name), &ImageLimits::default(), &|_, _| divisor, &|count| pixels.set(count))
            .unwrap();
        pixels.get()
    };
    assert_eq!([1, 2, 8].map(|divisor| asked("baseline.jpg", divisor)), [24 * 16, 12 * 8, 3 * 2]);
    // 4:2:0 in MCUs of 16 × 16: 8 blocks of luma and 2 of each chroma, of 64 × 2 bytes.
    let coefficients = 12 * 128_u64;
    let of = |pixels: u64| pixels.max((coefficients + 6 * pixels).div_ceil(24));
    assert_eq!([1, 8].map(|divisor| asked("progressive.jpg", divisor)), [of(24 * 16), of(3 * 2)]);
}
