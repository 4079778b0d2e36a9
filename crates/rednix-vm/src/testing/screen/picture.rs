//! A picture of a screen: read from PNG (eight bits a channel, not interlaced) or PPM, compared, written as PNG. Other
//! forms of PNG are refused.

use std::io::{Read, Write};

use flate2::Compression;
use flate2::read::ZlibDecoder;
use flate2::write::ZlibEncoder;

use crate::limits::{PICTURE_PIXELS_MAX, PICTURE_SIDE_MAX};

/// Channels may differ by this much and count as the same: dithering and gamma are no news.
const SAME: u8 = 24;
const SIGNATURE: [u8; 8] = [0x89, b'P', b'N', b'G', b'\r', b'\n', 0x1a, b'\n'];

pub type Pixel = [u8; 3];

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Picture {
    pub width: u32,
    pub height: u32,
    /// Row by row from the top.
    pub pixels: Vec<Pixel>,
}

impl Picture {
    pub fn new(width: u32, height: u32, colour: Pixel) -> Picture {
        Picture { width, height, pixels: vec![colour; width as usize * height as usize] }
    }

    pub fn at(&self, x: u32, y: u32) -> Pixel {
        self.pixels[(y * self.width + x) as usize]
    }

    pub fn set(&mut self, x: u32, y: u32, colour: Pixel) {
        self.pixels[(y * self.width + x) as usize] = colour;
    }

    /// Reads a PNG or a binary PPM.
    pub fn read(bytes: &[u8]) -> Result<Picture, String> {
        match bytes.strip_prefix(&SIGNATURE) {
            Some(rest) => read_png(rest),
            None if bytes.starts_with(b"P6") => read_ppm(&bytes[2..]),
            None => Err("it is neither PNG nor PPM".into()),
        }
    }

    /// Pixels that differ visibly, and a picture of them in red over a pale one of ours. Both have one size.
    pub fn difference(&self, other: &Picture, ignore: &[[u32; 4]]) -> (u64, Picture) {
        let mut drawn = self.clone();
        let mut count = 0;
        for y in 0..self.height {
            for x in 0..self.width {
                let (ours, theirs) = (self.at(x, y), other.at(x, y));
                let inside = |[left, top, width, height]: &[u32; 4]| {
                    (*left..left.saturating_add(*width)).contains(&x)
                        && (*top..top.saturating_add(*height)).contains(&y)
                };
                let differs = ours.iter().zip(theirs).any(|(a, b)| a.abs_diff(b) > SAME);
                if differs && !ignore.iter().any(inside) {
                    count += 1;
                    drawn.set(x, y, [255, 0, 0]);
                } else {
                    drawn.set(x, y, ours.map(|channel| 170 + channel / 3));
                }
            }
        }
        (count, drawn)
    }

    pub fn to_png(&self) -> Vec<u8> {
        let mut rows = ZlibEncoder::new(Vec::new(), Compression::default());
        for row in self.pixels.chunks(self.width.max(1) as usize) {
            // Writing to memory cannot fail.
            let _ = rows.write_all(&[0]);
            let _ = rows.write_all(row.as_flattened());
        }
        let mut bytes = SIGNATURE.to_vec();
        let mut header = self.width.to_be_bytes().to_vec();
        header.extend(self.height.to_be_bytes());
        // Eight bits, red green blue, the only methods there are, not interlaced.
        header.extend([8, 2, 0, 0, 0]);
        chunk(&mut bytes, b"IHDR", &header);
        chunk(&mut bytes, b"IDAT", &rows.finish().unwrap_or_default());
        chunk(&mut bytes, b"IEND", &[]);
        bytes
    }
}

fn chunk(bytes: &mut Vec<u8>, kind: &[u8; 4], data: &[u8]) {
    bytes.extend(u32::try_from(data.len()).unwrap_or(u32::MAX).to_be_bytes());
    let mut sum = flate2::Crc::new();
    sum.update(kind);
    sum.update(data);
    bytes.extend(kind);
    bytes.extend(data);
    bytes.extend(sum.sum().to_be_bytes());
}

/// What the head of a PNG says.
struct Head {
    width: u32,
    height: u32,
    colour: u8,
    channels: usize,
}

impl Head {
    fn read(data: &[u8]) -> Result<Head, String> {
        let data: &[u8; 13] = data.try_into().map_err(|_| "its head is cut")?;
        let number = |at: usize| u32::from_be_bytes([data[at], data[at + 1], data[at + 2], data[at + 3]]);
        let (width, height) = (number(0), number(4));
        check_size(width, height)?;
        if data[8] != 8 || data[12] != 0 {
            return Err("only eight bits a channel, not interlaced, can be read".into());
        }
        let channels = match data[9] {
            0 | 3 => 1,
            2 => 3,
            4 => 2,
            6 => 4,
            other => return Err(format!("{other} is no kind of colour")),
        };
        Ok(Head { width, height, colour: data[9], channels })
    }
}

fn check_size(width: u32, height: u32) -> Result<(), String> {
    if width == 0 || height == 0 || width > PICTURE_SIDE_MAX || height > PICTURE_SIDE_MAX {
        return Err(format!("it is {width}x{height}, and a side has 1 to {PICTURE_SIDE_MAX} pixels"));
    }
    if u64::from(width) * u64::from(height) > PICTURE_PIXELS_MAX {
        return Err(format!("it is {width}x{height}, and a picture has at most {PICTURE_PIXELS_MAX} pixels"));
    }
    Ok(())
}

fn read_png(mut bytes: &[u8]) -> Result<Picture, String> {
    let mut head = None;
    let mut palette: Vec<Pixel> = Vec::new();
    let mut packed = Vec::new();
    loop {
        let (start, rest) = bytes.split_at_checked(8).ok_or("it is cut")?;
        let length = u32::from_be_bytes([start[0], start[1], start[2], start[3]]) as usize;
        let (data, rest) = rest.split_at_checked(length).ok_or("it is cut")?;
        let (_, rest) = rest.split_at_checked(4).ok_or("it is cut")?;
        bytes = rest;
        match &start[4..] {
            b"IHDR" => head = Some(Head::read(data)?),
            b"PLTE" => palette = data.as_chunks::<3>().0.to_vec(),
            b"IDAT" => packed.extend_from_slice(data),
            b"IEND" => break,
            _ => {}
        }
    }
    let head = head.ok_or("it has no head")?;
    let row = head.width as usize * head.channels;
    let size = (row + 1) * head.height as usize;
    let mut raw = Vec::new();
    ZlibDecoder::new(&packed[..])
        .take(size as u64)
        .read_to_end(&mut raw)
        .map_err(|error| format!("its contents cannot be unpacked: {error}"))?;
    if raw.len() != size {
        return Err("it is cut".into());
    }
    unfilter(&mut raw, row, head.channels)?;
    let mut pixels = Vec::with_capacity(head.width as usize * head.height as usize);
    for line in raw.chunks(row + 1) {
        for pixel in line[1..].chunks(head.channels) {
            pixels.push(match head.colour {
                0 | 4 => [pixel[0]; 3],
                3 => *palette.get(usize::from(pixel[0])).ok_or("a colour is not in its palette")?,
                _ => [pixel[0], pixel[1], pixel[2]],
            });
        }
    }
    Ok(Picture { width: head.width, height: head.height, pixels })
}

/// Undoes the filter of each row: what was subtracted from a byte is guessed from its neighbours.
fn unfilter(raw: &mut [u8], row: usize, step: usize) -> Result<(), String> {
    let mut above = vec![0; row];
    for line in raw.chunks_mut(row + 1) {
        let (filter, line) = line.split_first_mut().ok_or("it is cut")?;
        for at in 0..line.len() {
            let left = if at >= step { line[at - step] } else { 0 };
            let corner = if at >= step { above[at - step] } else { 0 };
            let guess = match *filter {
                0 => 0,
                1 => left,
                2 => above[at],
                3 => ((u16::from(left) + u16::from(above[at])) / 2) as u8,
                4 => nearest(left, above[at], corner),
                other => return Err(format!("{other} is no filter of a row")),
            };
            line[at] = line[at].wrapping_add(guess);
        }
        above.copy_from_slice(line);
    }
    Ok(())
}

/// The neighbour next to what left and above lead one to expect.
fn nearest(left: u8, above: u8, corner: u8) -> u8 {
    let expected = i16::from(left) + i16::from(above) - i16::from(corner);
    let distance = |value: u8| (expected - i16::from(value)).abs();
    if distance(left) <= distance(above) && distance(left) <= distance(corner) {
        left
    } else if distance(above) <= distance(corner) {
        above
    } else {
        corner
    }
}

fn read_ppm(bytes: &[u8]) -> Result<Picture, String> {
    let mut rest = bytes;
    let mut numbers = [0_u32; 3];
    for number in &mut numbers {
        rest = rest.trim_ascii_start();
        while rest.first() == Some(&b'#') {
            let end = rest.iter().position(|&byte| byte == b'\n').ok_or("it is cut")?;
            rest = rest[end..].trim_ascii_start();
        }
        let length = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let text = std::str::from_utf8(&rest[..length]).unwrap_or_default();
        *number = text.parse().map_err(|_| "a number is missing in its head")?;
        rest = &rest[length..];
    }
    let [width, height, most] = numbers;
    check_size(width, height)?;
    if most != 255 {
        return Err("only eight bits a channel can be read".into());
    }
    let data = rest.get(1..1 + width as usize * height as usize * 3).ok_or("it is cut")?;
    Ok(Picture { width, height, pixels: data.as_chunks::<3>().0.to_vec() })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn picture(width: u32, height: u32, seed: u8) -> Picture {
        let mut made = Picture::new(width, height, [0; 3]);
        for (at, pixel) in made.pixels.iter_mut().enumerate() {
            let value = (at as u8).wrapping_mul(31).wrapping_add(seed);
            *pixel = [value, value.wrapping_add(40), !value];
        }
        made
    }

    #[test]
    fn differences_are_counted_and_drawn() {
        let ours = picture(20, 10, 3);
        let mut theirs = ours.clone();
        assert_eq!(ours.difference(&theirs, &[]).0, 0);
        theirs.set(5, 5, theirs.at(5, 5).map(|channel| channel ^ 0x80));
        theirs.set(6, 5, theirs.at(6, 5).map(|channel| channel ^ 0x80));
        // Hardly to be seen.
        theirs.set(7, 5, theirs.at(7, 5).map(|channel| channel ^ 4));
        let (count, drawn) = ours.difference(&theirs, &[]);
        assert_eq!((count, drawn.at(5, 5)), (2, [255, 0, 0]));
        assert_ne!(drawn.at(7, 5), [255, 0, 0]);
        assert_eq!(ours.difference(&theirs, &[[6, 0, 1, u32::MAX]]).0, 1);
    }

    /// A PNG whose rows have the given filters, made of a picture in eight-bit channels of the colour kind.
    fn filtered(picture: &Picture, filters: &[u8]) -> Vec<u8> {
        let row = picture.width as usize * 3;
        let mut raw = Vec::new();
        let mut above = vec![0; row];
        for (number, line) in picture.pixels.chunks(picture.width as usize).enumerate() {
            let line = line.as_flattened();
            let filter = filters[number % filters.len()];
            raw.push(filter);
            for at in 0..row {
                let left = if at >= 3 { line[at - 3] } else { 0 };
                let corner = if at >= 3 { above[at - 3] } else { 0 };
                let guess = match filter {
                    1 => left,
                    2 => above[at],
                    3 => ((u16::from(left) + u16::from(above[at])) / 2) as u8,
                    4 => nearest(left, above[at], corner),
                    _ => 0,
                };
                raw.push(line[at].wrapping_sub(guess));
            }
            above = line.to_vec();
        }
        let mut packed = ZlibEncoder::new(Vec::new(), Compression::fast());
        packed.write_all(&raw).unwrap();
        let mut bytes = SIGNATURE.to_vec();
        let mut header = picture.width.to_be_bytes().to_vec();
        header.extend(picture.height.to_be_bytes());
        header.extend([8, 2, 0, 0, 0]);
        chunk(&mut bytes, b"IHDR", &header);
        chunk(&mut bytes, b"tEXt", b"left out");
        chunk(&mut bytes, b"IDAT", &packed.finish().unwrap());
        chunk(&mut bytes, b"IEND", &[]);
        bytes
    }

    #[test]
    fn other_forms_are_refused() {
        let good = picture(3, 2, 0).to_png();
        for (at, value, reason) in
            [(24, 16, "eight bits"), (28, 1, "interlaced"), (25, 5, "no kind"), (16, 0x7f, "a side")]
        {
            let mut wrong = good.clone();
            wrong[at] = value;
            let message = Picture::read(&wrong).unwrap_err();
            assert!(message.contains(reason), "{message}");
        }
        assert!(Picture::read(b"GIF89a").is_err() && Picture::read(b"P6 2 2 255 ").is_err());
        let ppm = b"P6\n# made by hand\n2 1\n255\nabcdef";
        assert_eq!(Picture::read(ppm).unwrap().pixels, [*b"abc", *b"def"]);
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(width in 1..40u32, height in 1..40u32, seed: u8, filters in prop::collection::vec(0..5u8, 1..5)) {
            let picture = picture(width, height, seed);
            prop_assert_eq!(Picture::read(&picture.to_png()).unwrap(), picture.clone());
            prop_assert_eq!(Picture::read(&filtered(&picture, &filters)).unwrap(), picture);
        }

        #[test]
        fn no_bytes_stop_it(bytes in prop::collection::vec(any::<u8>(), 0..200), at: prop::sample::Index, value: u8) {
            let _ = Picture::read(&bytes);
            let mut png = picture(5, 4, 1).to_png();
            let at = at.index(png.len());
            png[at] = value;
            let _ = Picture::read(&png);
            let _ = Picture::read(&png[..at]);
        }
    }
}
