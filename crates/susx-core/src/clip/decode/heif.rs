//! The container of HEIC and AVIF images (ISO/IEC 23008-12): which items a file has, and what they are.
//!
//! Nothing is decoded here.

mod transform;

use std::collections::BTreeMap;

use super::Admission;
use super::bmff::{self, Fields, boxes, find};
use crate::clip::error::{ClipError, Result};
pub(super) use transform::{Crop, Transforms};

/// Whether the file claims to be an image of this family.
pub(super) fn is_heif(bytes: &[u8]) -> bool {
    const BRANDS: [&[u8; 4]; 12] = [
        b"avif", b"avis", b"mif1", b"mif2", b"msf1", b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx",
        b"miaf",
    ];
    bmff::brands(bytes).iter().any(|brand| BRANDS.contains(&brand))
}

/// Reads the descriptions of a file's items.
pub(super) fn parse(bytes: &[u8]) -> Result<Heif<'_>> {
    Heif::parse(bytes).ok_or_else(|| {
        let is_avif = bmff::brands(bytes).first().is_some_and(|brand| brand == b"avif" || brand == b"avis");
        broken(if is_avif { "AVIF" } else { "HEIC" }, "the description of its images is damaged or missing")
    })
}

/// An image file of this family.
#[derive(Debug)]
pub(super) struct Heif<'a> {
    file: &'a [u8],
    /// Data that are in the box of the items' descriptions.
    inline: &'a [u8],
    items: BTreeMap<u32, Item>,
    properties: Vec<Property<'a>>,
    primary: u32,
    /// Pictures of its longest sequence, if it has any.
    sequence: u32,
}

#[derive(Debug, Default)]
struct Item {
    kind: [u8; 4],
    /// Where its data are: 0 in the file, 1 inline.
    place: u8,
    extents: Vec<(u64, u64)>,
    /// Places in the list of properties.
    properties: Vec<usize>,
    references: Vec<([u8; 4], Vec<u32>)>,
}

#[derive(Clone, Copy, Debug)]
enum Property<'a> {
    Size(u32, u32),
    /// Quarter turns, anticlockwise.
    Rotate(u8),
    /// Whether the left and the right are exchanged, instead of top and bottom.
    Mirror(bool),
    Crop(Crop),
    /// What an auxiliary image is.
    Auxiliary(&'a [u8]),
    Colours(Cicp),
    /// Bits of the first channel, and number of channels.
    Bits(u8, u8),
    /// Bits per channel and whether the image is grey, from the codec's configuration.
    Codec(u8, bool),
    Other,
}

/// How colours are coded: see ITU-T H.273.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Cicp {
    pub(super) primaries: u16,
    pub(super) matrix: u16,
    pub(super) is_full_range: bool,
}

/// A grid of equal tiles, whose lower and right edges are cut off.
#[derive(Debug)]
pub(super) struct Grid {
    pub(super) columns: u32,
    pub(super) width: u32,
    pub(super) height: u32,
    /// From left to right and from top to bottom.
    pub(super) tiles: Vec<u32>,
}

impl<'a> Heif<'a> {
    fn parse(file: &'a [u8]) -> Option<Self> {
        let mut meta = Fields::new(find(file, b"meta")?);
        meta.version_and_flags()?;
        let meta = meta.rest();
        let mut primary = Fields::new(find(meta, b"pitm")?);
        let (version, _) = primary.version_and_flags()?;
        let mut heif = Heif {
            file,
            inline: find(meta, b"idat").unwrap_or_default(),
            items: items(find(meta, b"iinf")?)?,
            properties: Vec::new(),
            primary: id(&mut primary, version > 0)?,
            sequence: sequence_length(file).unwrap_or(0),
        };
        heif.locate(find(meta, b"iloc")?)?;
        if let Some(references) = find(meta, b"iref") {
            heif.refer(references)?;
        }
        let properties = find(meta, b"iprp")?;
        heif.properties = boxes(find(properties, b"ipco")?).map(property).collect();
        for associations in boxes(properties).filter(|it| &it.kind == b"ipma") {
            heif.associate(associations.content)?;
        }
        heif.items.contains_key(&heif.primary).then_some(heif)
    }

    /// `iloc`: where the items' data are.
    fn locate(&mut self, content: &[u8]) -> Option<()> {
        let mut fields = Fields::new(content);
        let (version, _) = fields.version_and_flags()?;
        let sizes = fields.u16()?;
        let [offset, length, base, index] = [12, 8, 4, 0].map(|shift| usize::from(sizes >> shift & 15));
        let index = if version == 0 { 0 } else { index };
        if [offset, length, base, index].iter().any(|size| *size > 8) {
            return None;
        }
        let count = if version < 2 { fields.u16()?.into() } else { fields.u32()? };
        for _ in 0..count {
            let id = id(&mut fields, version > 1)?;
            let place = if version == 0 { 0 } else { fields.u16()? & 15 };
            // The data must be in this file to be decoded.
            let is_elsewhere = fields.u16()? != 0;
            let base = fields.number(base)?;
            let mut extents = Vec::new();
            for _ in 0..fields.u16()? {
                fields.number(index)?;
                let start = base.checked_add(fields.number(offset)?)?;
                extents.push((start, fields.number(length)?));
                // An extent of no bytes at all would make a short box describe many.
                (offset + length > 0).then_some(())?;
            }
            if let Some(item) = self.items.get_mut(&id) {
                item.place = if is_elsewhere { u8::MAX } else { place as u8 };
                item.extents = extents;
            }
        }
        Some(())
    }

    /// `iref`: which items belong to each other.
    fn refer(&mut self, content: &[u8]) -> Option<()> {
        let mut fields = Fields::new(content);
        let (version, _) = fields.version_and_flags()?;
        for reference in boxes(fields.rest()) {
            let mut fields = Fields::new(reference.content);
            let from = id(&mut fields, version > 0)?;
            let count = fields.u16()?;
            let to: Option<Vec<u32>> = (0..count).map(|_| id(&mut fields, version > 0)).collect();
            if let Some(item) = self.items.get_mut(&from) {
                item.references.push((reference.kind, to?));
            }
        }
        Some(())
    }

    /// `ipma`: which properties the items have.
    fn associate(&mut self, content: &[u8]) -> Option<()> {
        let mut fields = Fields::new(content);
        let (version, flags) = fields.version_and_flags()?;
        for _ in 0..fields.u32()? {
            let id = id(&mut fields, version > 0)?;
            let count = fields.u8()?;
            for _ in 0..count {
                // The highest bit says whether the property is essential. Properties count from 1.
                let place = match flags & 1 {
                    0 => usize::from(fields.u8()? & 0x7F),
                    _ => usize::from(fields.u16()? & 0x7FFF),
                };
                if let (Some(item), Some(place)) = (self.items.get_mut(&id), place.checked_sub(1)) {
                    item.properties.push(place);
                }
            }
        }
        Some(())
    }

    pub(super) fn primary(&self) -> u32 {
        self.primary
    }

    /// Pictures of the file's sequence; 0 if it has none.
    pub(super) fn sequence(&self) -> u32 {
        self.sequence
    }

    /// The codec of an item, or of its first tile.
    pub(super) fn codec(&self, id: u32) -> [u8; 4] {
        let kind = |id: u32| self.items.get(&id).map_or(*b"none", |item| item.kind);
        match kind(id) {
            kind if kind == *b"grid" || kind == *b"iden" => {
                self.referred(id, b"dimg").first().map_or(*b"none", |&tile| self.items_codec(tile))
            }
            codec => codec,
        }
    }

    fn items_codec(&self, id: u32) -> [u8; 4] {
        self.items.get(&id).map_or(*b"none", |item| item.kind)
    }

    /// The name of the primary item's format.
    pub(super) fn format(&self) -> &'static str {
        match &self.codec(self.primary) {
            b"av01" => "AVIF",
            b"hvc1" => "HEIC",
            _ => "HEIF",
        }
    }

    fn properties(&self, id: u32) -> impl Iterator<Item = Property<'a>> {
        let places = self.items.get(&id).map(|item| item.properties.as_slice()).unwrap_or_default();
        places.iter().filter_map(|&place| self.properties.get(place).copied())
    }

    fn referred(&self, id: u32, kind: &[u8; 4]) -> &[u32] {
        let item = self.items.get(&id);
        let found = item.and_then(|item| item.references.iter().find(|(found, _)| found == kind));
        found.map(|(_, to)| to.as_slice()).unwrap_or_default()
    }

    /// Width and height in pixels as the item states them, before it is cropped and turned.
    pub(super) fn size(&self, id: u32) -> Option<(u32, u32)> {
        self.properties(id).find_map(|it| match it {
            Property::Size(width, height) => Some((width, height)),
            _ => None,
        })
    }

    /// How the pixels of an item become the picture that it shows.
    pub(super) fn transforms(&self, id: u32) -> Transforms {
        let mut transforms = Transforms::default();
        for property in self.properties(id) {
            match property {
                Property::Crop(crop) => transforms.crop(crop),
                Property::Rotate(turns) => transforms.rotate(turns),
                Property::Mirror(is_sideways) => transforms.mirror(is_sideways),
                _ => {}
            }
        }
        transforms
    }

    pub(super) fn colours(&self, id: u32) -> Option<Cicp> {
        self.properties(id).find_map(|it| match it {
            Property::Colours(cicp) => Some(cicp),
            _ => None,
        })
    }

    /// Bits per channel, and whether the image is grey; `None` if the file does not say it.
    pub(super) fn depth(&self, id: u32) -> Option<(u8, bool)> {
        let mut depth = None;
        for property in
            self.properties(id).chain(self.properties(*self.referred(id, b"dimg").first().unwrap_or(&id)))
        {
            match property {
                Property::Codec(bits, is_grey) => return Some((bits, is_grey)),
                Property::Bits(bits, channels) => depth = depth.or(Some((bits, channels == 1))),
                _ => {}
            }
        }
        depth
    }

    /// The item with an item's transparency, and whether its colours are premultiplied by it.
    pub(super) fn alpha(&self, id: u32) -> Option<(u32, bool)> {
        let is_alpha = |item: u32| {
            self.referred(item, b"auxl").contains(&id)
                && self.properties(item).any(|it| match it {
                    Property::Auxiliary(what) => {
                        what == b"urn:mpeg:mpegB:cicp:systems:auxiliary:alpha"
                            || what == b"urn:mpeg:hevc:2015:auxid:1"
                    }
                    _ => false,
                })
        };
        let alpha = self.items.keys().copied().find(|&item| is_alpha(item))?;
        Some((alpha, self.referred(id, b"prem").contains(&alpha)))
    }

    /// The data of an item; an error if the file lacks some of them.
    pub(super) fn data(&self, id: u32) -> Result<Vec<u8>> {
        let missing = || broken(self.format(), "the image's data are missing");
        let item = self.items.get(&id).ok_or_else(missing)?;
        let source = match item.place {
            0 => self.file,
            1 => self.inline,
            _ => return Err(broken(self.format(), "the image's data are not in this file")),
        };
        let mut data = Vec::new();
        for &(start, length) in &item.extents {
            let start = usize::try_from(start).map_err(|_| missing())?;
            let rest = source.get(start..).ok_or_else(|| broken(self.format(), "the image ends early"))?;
            // A length of 0 means all of it.
            let length = if length == 0 { rest.len() } else { usize::try_from(length).unwrap_or(usize::MAX) };
            data.extend(rest.get(..length).ok_or_else(|| broken(self.format(), "the image ends early"))?);
            // Extents that overlap would make a short file a long one.
            if data.len() > source.len() {
                return Err(broken(self.format(), "its parts overlap"));
            }
        }
        if data.is_empty() { Err(missing()) } else { Ok(data) }
    }

    /// The grid that an item is; `None` if it is a single image.
    pub(super) fn grid(&self, id: u32) -> Result<Option<Grid>> {
        if self.items.get(&id).is_none_or(|item| &item.kind != b"grid") {
            return Ok(None);
        }
        let data = self.data(id)?;
        let tiles = self.referred(id, b"dimg").to_vec();
        let grid = Grid::parse(&data, tiles);
        grid.ok_or_else(|| broken(self.format(), "its grid of tiles is damaged")).map(Some)
    }

    /// Fails if the primary image exceeds the limit, else waits until it is admitted. Returns its size.
    pub(super) fn check_pixels(&self, limits: &Admission) -> Result<(u32, u32)> {
        let size = self.size(self.primary);
        let (width, height) = size.ok_or_else(|| broken(self.format(), "its size is missing"))?;
        if width == 0 || height == 0 {
            return Err(broken(self.format(), format!("it has {width} × {height} pixels")));
        }
        limits.check_pixels(width, height)?;
        Ok((width, height))
    }
}

impl Grid {
    fn parse(data: &[u8], tiles: Vec<u32>) -> Option<Grid> {
        let mut fields = Fields::new(data);
        let (_, flags) = (fields.u8()?, fields.u8()?);
        let (rows, columns) = (u32::from(fields.u8()?) + 1, u32::from(fields.u8()?) + 1);
        let bytes = if flags & 1 == 0 { 2 } else { 4 };
        let (width, height) = (fields.number(bytes)? as u32, fields.number(bytes)? as u32);
        let is_complete = tiles.len() as u64 == u64::from(rows) * u64::from(columns);
        (is_complete && width > 0 && height > 0).then_some(Grid { columns, width, height, tiles })
    }

    pub(super) fn rows(&self) -> u32 {
        (self.tiles.len() as u32).div_ceil(self.columns)
    }

    /// Whether the last row and the last column of tiles of this size are needed, and enough.
    pub(super) fn fits(&self, (width, height): (u32, u32)) -> bool {
        let fits = |count: u32, tile: u32, whole: u32| {
            let (count, tile, whole) = (u64::from(count), u64::from(tile), u64::from(whole));
            count * tile >= whole && (count - 1) * tile < whole
        };
        fits(self.columns, width, self.width) && fits(self.rows(), height, self.height)
    }
}

pub(super) fn broken(format: &'static str, reason: impl Into<String>) -> ClipError {
    ClipError::Image { format: Some(format), reason: reason.into() }
}

fn id(fields: &mut Fields, is_long: bool) -> Option<u32> {
    if is_long { fields.u32() } else { fields.u16().map(u32::from) }
}

/// `iinf`: the items and their kinds.
fn items(content: &[u8]) -> Option<BTreeMap<u32, Item>> {
    let mut fields = Fields::new(content);
    let (version, _) = fields.version_and_flags()?;
    id(&mut fields, version > 0)?;
    let item = |content: &[u8]| {
        let mut fields = Fields::new(content);
        let (version, _) = fields.version_and_flags()?;
        let id = id(&mut fields, version > 2)?;
        fields.u16()?;
        // Older versions have no kinds, and no images.
        let kind = if version < 2 { *b"none" } else { fields.code()? };
        Some((id, Item { kind, ..Item::default() }))
    };
    boxes(fields.rest()).filter(|it| &it.kind == b"infe").map(|it| item(it.content)).collect()
}

fn property<'a>(it: bmff::BmffBox<'a>) -> Property<'a> {
    known_property(&it.kind, Fields::new(it.content)).unwrap_or(Property::Other)
}

fn known_property<'a>(kind: &[u8; 4], mut fields: Fields<'a>) -> Option<Property<'a>> {
    Some(match kind {
        b"ispe" => {
            fields.version_and_flags()?;
            Property::Size(fields.u32()?, fields.u32()?)
        }
        b"irot" => Property::Rotate(fields.u8()? & 3),
        b"imir" => Property::Mirror(fields.u8()? & 1 == 1),
        b"clap" => {
            let mut fraction = || Some((fields.u32()?, fields.u32()?));
            let (width, height, right, down) = (fraction()?, fraction()?, fraction()?, fraction()?);
            Property::Crop(Crop { width, height, right, down })
        }
        b"auxC" => {
            fields.version_and_flags()?;
            Property::Auxiliary(fields.rest().split(|&byte| byte == 0).next()?)
        }
        b"colr" if &fields.code()? == b"nclx" => {
            let (primaries, _, matrix) = (fields.u16()?, fields.u16()?, fields.u16()?);
            Property::Colours(Cicp { primaries, matrix, is_full_range: fields.u8()? >> 7 == 1 })
        }
        b"pixi" => {
            fields.version_and_flags()?;
            let channels = fields.u8()?;
            Property::Bits(fields.u8()?, channels)
        }
        b"av1C" => {
            fields.u16()?;
            let flags = fields.u8()?;
            let bits = match (flags >> 6 & 1, flags >> 5 & 1) {
                (0, _) => 8,
                (_, 0) => 10,
                _ => 12,
            };
            Property::Codec(bits, flags >> 4 & 1 == 1)
        }
        b"hvcC" => {
            fields.bytes(16)?;
            let chroma = fields.u8()? & 3;
            Property::Codec((fields.u8()? & 7) + 8, chroma == 0)
        }
        _ => Property::Other,
    })
}

/// Samples of the longest track of pictures.
fn sequence_length(file: &[u8]) -> Option<u32> {
    let samples = |track: &[u8]| {
        let media = find(track, b"mdia")?;
        let mut handler = Fields::new(find(media, b"hdlr")?);
        handler.bytes(8)?;
        let is_of_pictures = matches!(&handler.code()?, b"pict" | b"vide");
        let mut sizes = Fields::new(find(find(find(media, b"minf")?, b"stbl")?, b"stsz")?);
        sizes.bytes(8)?;
        sizes.u32().filter(|_| is_of_pictures)
    };
    let tracks = boxes(find(file, b"moov")?).filter(|it| &it.kind == b"trak");
    tracks.filter_map(|track| samples(track.content)).max()
}
