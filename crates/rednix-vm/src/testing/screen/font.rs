//! Reads the text of a console on a screen by looking each cell up in the console's own font. It knows no shapes:
//! text in another font, size or place than a grid is not read.
//!
//! Fonts are those consoles load: PSF of both versions, or bare glyphs of eight by sixteen pixels in the order of
//! their characters, as Redox's framebuffer console has them.

use std::collections::HashMap;

use super::picture::{Picture, Pixel};
use crate::limits::{GLYPH_HEIGHT_MAX, GLYPHS_MAX};

/// Stands for a cell that is no glyph.
const UNKNOWN: char = '\u{fffd}';

pub struct Font {
    width: u32,
    height: u32,
    glyphs: HashMap<Vec<u16>, char>,
}

impl Font {
    pub fn read(bytes: &[u8]) -> Result<Font, String> {
        if let Some(rest) = bytes.strip_prefix(&[0x36, 0x04]) {
            let (head, data) = rest.split_at_checked(2).ok_or("it is cut")?;
            let count = if head[0] & 1 == 1 { 512 } else { 256 };
            return Font::of(8, head[1].into(), count, data);
        }
        if let Some(rest) = bytes.strip_prefix(&[0x72, 0xb5, 0x4a, 0x86]) {
            let number = |at: usize| -> Result<u32, String> {
                let four = rest.get(at * 4..at * 4 + 4).ok_or("it is cut")?;
                Ok(u32::from_le_bytes([four[0], four[1], four[2], four[3]]))
            };
            let [_, head, _, count, _, height, width] = [0, 1, 2, 3, 4, 5, 6].map(number);
            let data = bytes.get(head? as usize..).ok_or("it is cut")?;
            return Font::of(width?, height?, count? as usize, data);
        }
        if bytes.len() < 128 * 16 || !bytes.len().is_multiple_of(16) {
            return Err("it is neither PSF nor glyphs of sixteen bytes".into());
        }
        Font::of(8, 16, bytes.len() / 16, bytes)
    }

    fn of(width: u32, height: u32, count: usize, data: &[u8]) -> Result<Font, String> {
        if !(1..=16).contains(&width) || !(1..=GLYPH_HEIGHT_MAX).contains(&height) || count > GLYPHS_MAX {
            return Err(format!("{count} glyphs of {width}x{height} pixels are not understood"));
        }
        let row_bytes = width.div_ceil(8) as usize;
        let size = row_bytes * height as usize;
        let mut glyphs = HashMap::new();
        for (number, glyph) in data.chunks_exact(size).take(count).enumerate() {
            let Some(character) = u32::try_from(number).ok().and_then(char::from_u32) else { continue };
            let rows: Vec<u16> = glyph
                .chunks(row_bytes)
                .map(|row| {
                    let bits = u16::from(row[0]) << 8 | row.get(1).map_or(0, |&low| low.into());
                    bits >> (16 - width)
                })
                .collect();
            if character.is_control() || rows.iter().all(|&row| row == 0) {
                continue;
            }
            // Of glyphs that look alike the first counts: that is the plain character.
            glyphs.entry(rows).or_insert(character);
        }
        if glyphs.is_empty() {
            return Err("it has no glyphs".into());
        }
        Ok(Font { width, height, glyphs })
    }

    /// The lines on the screen, for the place of the grid by which most cells are glyphs.
    fn read_at(&self, picture: &Picture, left: u32, top: u32) -> (i64, Vec<String>) {
        let mut score = 0;
        let mut lines = Vec::new();
        let mut y = top;
        while y + self.height <= picture.height {
            let mut line = String::new();
            let mut x = left;
            while x + self.width <= picture.width {
                match self.cell(picture, x, y) {
                    Some(' ') => line.push(' '),
                    Some(character) => {
                        score += 2;
                        line.push(character);
                    }
                    None => {
                        score -= 1;
                        line.push(UNKNOWN);
                    }
                }
                x += self.width;
            }
            lines.push(line.trim_end_matches([' ', UNKNOWN]).to_owned());
            y += self.height;
        }
        (score, lines)
    }

    fn read_best(&self, picture: &Picture) -> Vec<String> {
        let places = (0..self.height).flat_map(|top| (0..self.width).map(move |left| (left, top)));
        let read = places.map(|(left, top)| self.read_at(picture, left, top));
        // The first of equals: the grid of most consoles begins in the corner.
        let best = read.reduce(|best, next| if next.0 > best.0 { next } else { best });
        best.map_or(Vec::new(), |(_, lines)| lines)
    }

    /// The text on the screen.
    pub fn text(&self, picture: &Picture) -> String {
        let mut text = self.read_best(picture).join("\n");
        text.push('\n');
        text
    }

    /// The character in a cell, by whichever of its two colours is the ground.
    fn cell(&self, picture: &Picture, x: u32, y: u32) -> Option<char> {
        let ground = picture.at(x, y);
        let mut ink: Option<Pixel> = None;
        let mut rows = Vec::with_capacity(self.height as usize);
        for dy in 0..self.height {
            let mut bits = 0;
            for dx in 0..self.width {
                let pixel = picture.at(x + dx, y + dy);
                if pixel != ground && pixel != *ink.get_or_insert(pixel) {
                    return None;
                }
                bits = bits << 1 | u16::from(pixel != ground);
            }
            rows.push(bits);
        }
        if ink.is_none() {
            return Some(' ');
        }
        if let Some(found) = self.glyphs.get(&rows) {
            return Some(*found);
        }
        // The corner belongs to the glyph, or the cell is the cursor.
        let all = ((1_u32 << self.width) - 1) as u16;
        rows.iter_mut().for_each(|row| *row = !*row & all);
        self.glyphs.get(&rows).copied()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A made-up font: every character has a shape of its own.
    fn font_bytes() -> Vec<u8> {
        (0..256_u32)
            .flat_map(|c| {
                (0..16_u32).map(move |row| {
                    if (0x21..0x7f).contains(&c) { ((c * 37 + row * 11) ^ (c >> 2)) as u8 } else { 0 }
                })
            })
            .collect()
    }

    fn draw(picture: &mut Picture, font: &[u8], (left, top): (u32, u32), text: &str, ink: Pixel) {
        for (column, character) in text.bytes().enumerate() {
            for row in 0..16 {
                let bits = font[usize::from(character) * 16 + row as usize];
                for dx in (0..8).filter(|dx| bits >> (7 - dx) & 1 == 1) {
                    picture.set(left + column as u32 * 8 + dx, top + row, ink);
                }
            }
        }
    }

    #[test]
    fn text_is_read_wherever_the_grid_is() {
        let bytes = font_bytes();
        let font = Font::read(&bytes).unwrap();
        for (left, top) in [(0, 0), (3, 5), (7, 15)] {
            let mut picture = Picture::new(320, 100, [0, 0, 0]);
            draw(&mut picture, &bytes, (left, top), "redox login:", [170, 170, 170]);
            draw(&mut picture, &bytes, (left + 16, top + 32), "x", [255, 0, 0]);
            let text = font.text(&picture);
            assert!(text.contains("redox login:\n\n  x\n"), "{text:?} at {left},{top}");
        }
    }

    #[test]
    fn fonts_of_consoles_are_read() {
        let glyphs = font_bytes();
        let mut first = vec![0x36, 0x04, 0, 16];
        first.extend(&glyphs);
        let mut second = vec![0x72, 0xb5, 0x4a, 0x86];
        for number in [0_u32, 32, 0, 256, 16, 16, 8] {
            second.extend(number.to_le_bytes());
        }
        second.extend(&glyphs);
        let mut picture = Picture::new(64, 16, [255, 255, 255]);
        draw(&mut picture, &glyphs, (0, 0), "hello", [0, 0, 0]);
        for bytes in [first, second] {
            assert_eq!(Font::read(&bytes).unwrap().text(&picture), "hello\n");
        }
        assert!(Font::read(b"no font").is_err());
    }

    proptest! {
        #[test]
        fn no_bytes_stop_it(bytes in prop::collection::vec(any::<u8>(), 0..300), magic in 0..3usize) {
            let mut font = [&[][..], &[0x36, 0x04], &[0x72, 0xb5, 0x4a, 0x86]][magic].to_vec();
            font.extend(bytes);
            if let Ok(font) = Font::read(&font) {
                let _ = font.text(&Picture::new(40, 40, [1, 2, 3]));
            }
        }
    }
}
