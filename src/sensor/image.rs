//! Colour images, and the two file formats that they leave in: PNG for pictures, JPEG for what a camera sends.

use std::io::{self, Write};
use std::path::Path;

/// Eight bits each of red, green and blue (sRGB), row by row from the top left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RgbImage {
    width: u32,
    height: u32,
    data: Vec<u8>,
}

#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    #[error("an image of {width} by {height} has {expected} bytes, found {found}")]
    Length { width: u32, height: u32, expected: usize, found: usize },
    #[error("a JPEG has from 1 to 65535 pixels a side, not {width} by {height}")]
    JpegSize { width: u32, height: u32 },
    #[error("could not encode the JPEG: {0}")]
    Jpeg(#[from] jpeg_encoder::EncodingError),
}

impl RgbImage {
    /// All of one colour.
    pub fn from_pixel(width: u32, height: u32, color: [u8; 3]) -> Self {
        let data = color.repeat(width as usize * height as usize);
        Self { width, height, data }
    }

    /// # Errors
    /// If there are not three bytes for each pixel.
    pub fn from_raw(width: u32, height: u32, data: Vec<u8>) -> Result<Self, ImageError> {
        let expected = 3 * width as usize * height as usize;
        if data.len() != expected {
            return Err(ImageError::Length { width, height, expected, found: data.len() });
        }
        Ok(Self { width, height, data })
    }

    pub fn width(&self) -> u32 {
        self.width
    }

    pub fn height(&self) -> u32 {
        self.height
    }

    /// Width and height.
    pub fn dimensions(&self) -> (u32, u32) {
        (self.width, self.height)
    }

    /// Three bytes a pixel.
    pub fn as_raw(&self) -> &[u8] {
        &self.data
    }

    /// Panics outside the image.
    pub fn pixel(&self, column: u32, row: u32) -> [u8; 3] {
        let at = self.offset(column, row);
        [self.data[at], self.data[at + 1], self.data[at + 2]]
    }

    /// Panics outside the image.
    pub fn pixel_mut(&mut self, column: u32, row: u32) -> &mut [u8] {
        let at = self.offset(column, row);
        &mut self.data[at..at + 3]
    }

    pub fn pixels(&self) -> impl Iterator<Item = [u8; 3]> + '_ {
        self.data.chunks_exact(3).map(|p| [p[0], p[1], p[2]])
    }

    fn offset(&self, column: u32, row: u32) -> usize {
        assert!(column < self.width && row < self.height, "pixel ({column}, {row}) of {} by {}", self.width, self.height);
        3 * (row as usize * self.width as usize + column as usize)
    }

    /// Copies another image over this one, its top left corner at `(column, row)`; what does not fit is left out.
    pub fn paste(&mut self, other: &RgbImage, column: u32, row: u32) {
        let columns = 3 * other.width.min(self.width.saturating_sub(column)) as usize;
        let rows = other.height.min(self.height.saturating_sub(row));
        for y in (0..rows).filter(|_| columns > 0) {
            let (from, to) = (other.offset(0, y), self.offset(column, row + y));
            self.data[to..to + columns].copy_from_slice(&other.data[from..from + columns]);
        }
    }

    /// Every `factor`-th of its size, each pixel the mean of those it stands for; rows and columns left over are cut off.
    pub fn shrunk(&self, factor: u32) -> Self {
        let factor = factor.max(1);
        let (width, height) = (self.width / factor, self.height / factor);
        let mut small = Self::from_pixel(width, height, [0; 3]);
        for row in 0..height {
            for column in 0..width {
                let mut sum = [0u32; 3];
                for (x, y) in (0..factor * factor).map(|i| (column * factor + i % factor, row * factor + i / factor)) {
                    sum.iter_mut().zip(self.pixel(x, y)).for_each(|(s, p)| *s += u32::from(p));
                }
                let area = factor * factor;
                small.pixel_mut(column, row).iter_mut().zip(sum).for_each(|(p, s)| *p = ((s + area / 2) / area) as u8);
            }
        }
        small
    }

    /// # Errors
    /// What `out` says, or that the image is empty.
    pub fn encode_png(&self, out: impl Write) -> io::Result<()> {
        let mut encoder = png::Encoder::new(out, self.width, self.height);
        encoder.set_color(png::ColorType::Rgb);
        encoder.set_depth(png::BitDepth::Eight);
        encoder.set_compression(png::Compression::Fast);
        let mut writer = encoder.write_header()?;
        writer.write_image_data(&self.data)?;
        Ok(writer.finish()?)
    }

    /// A baseline JPEG with halved colour resolution, as cameras send them; `quality` from 1 to 100.
    ///
    /// # Errors
    /// If a side is 0 or above 65535.
    pub fn encode_jpeg(&self, quality: u8) -> Result<Vec<u8>, ImageError> {
        let side = |n: u32| u16::try_from(n).ok().filter(|&n| n > 0);
        let (Some(width), Some(height)) = (side(self.width), side(self.height)) else {
            return Err(ImageError::JpegSize { width: self.width, height: self.height });
        };
        let mut bytes = Vec::with_capacity(self.data.len() / 8);
        let mut encoder = jpeg_encoder::Encoder::new(&mut bytes, quality.clamp(1, 100));
        encoder.set_sampling_factor(jpeg_encoder::SamplingFactor::F_2_2);
        encoder.encode(&self.data, width, height, jpeg_encoder::ColorType::Rgb)?;
        Ok(bytes)
    }

    /// Writes a PNG to a temporary file beside `path` and renames it, so that no reader sees half a picture.
    ///
    /// # Errors
    /// A folder that cannot be written to or a disk that is full, say.
    pub fn write_png(&self, path: &Path) -> io::Result<()> {
        write_whole(path, |writer| self.encode_png(writer))
    }
}

/// Width and height that a PNG file states in its head; `None` if it cannot be read or is none.
pub fn png_size(path: &Path) -> Option<[u32; 2]> {
    let file = io::BufReader::new(std::fs::File::open(path).ok()?);
    let mut decoder = png::Decoder::new(file);
    let info = decoder.read_header_info().ok()?;
    Some([info.width, info.height])
}

/// Writes a file under a temporary name and renames it when it is complete.
fn write_whole(path: &Path, write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> io::Result<()> {
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut options = tempfile::Builder::new();
    // Readable as any other new file; without this only by the owner.
    #[cfg(unix)]
    options.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    let mut file = options.tempfile_in(folder)?;
    let mut writer = io::BufWriter::new(&mut file);
    write(&mut writer)?;
    // Dropped unflushed, it would hide that the disk is full.
    writer.flush()?;
    drop(writer);
    file.persist(path).map_err(|e| e.error)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Smooth in brightness and colour, so that a JPEG can be close to it.
    fn gradient(width: u32, height: u32) -> RgbImage {
        let mut image = RgbImage::from_pixel(width, height, [0; 3]);
        for row in 0..height {
            for column in 0..width {
                image.pixel_mut(column, row).copy_from_slice(&[(2 * column) as u8, (3 * row) as u8, (column + row) as u8]);
            }
        }
        image
    }

    #[test]
    fn a_png_reads_back() {
        let image = gradient(40, 30);
        let mut bytes = Vec::new();
        image.encode_png(&mut bytes).unwrap();
        let mut reader = png::Decoder::new(io::Cursor::new(bytes)).read_info().unwrap();
        let mut data = vec![0; reader.output_buffer_size().unwrap()];
        let info = reader.next_frame(&mut data).unwrap();
        assert_eq!(((info.width, info.height), data.as_slice()), ((40, 30), image.as_raw()));
    }

    #[test]
    fn a_png_file_states_its_size() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("picture.png");
        gradient(7, 5).write_png(&path).unwrap();
        assert_eq!(png_size(&path), Some([7, 5]));
        std::fs::write(&path, b"no picture").unwrap();
        assert!(png_size(&path).is_none() && png_size(&folder.path().join("nothing")).is_none());
    }

    #[test]
    fn a_jpeg_reads_back_nearly() {
        let image = gradient(64, 48);
        let mut decoder = zune_jpeg::JpegDecoder::new(zune_jpeg::zune_core::bytestream::ZCursor::new(image.encode_jpeg(90).unwrap()));
        let data = decoder.decode().unwrap();
        assert_eq!(decoder.dimensions(), Some((64, 48)));
        let worst = data.iter().zip(image.as_raw()).map(|(a, b)| a.abs_diff(*b)).max();
        assert!(worst.is_some_and(|w| w < 16), "{worst:?}");
        assert!(matches!(RgbImage::from_pixel(0, 4, [0; 3]).encode_jpeg(90), Err(ImageError::JpegSize { .. })));
    }

    #[test]
    fn pasting_cuts_off_what_does_not_fit_and_shrinking_takes_means() {
        let mut image = RgbImage::from_pixel(4, 4, [0; 3]);
        image.paste(&RgbImage::from_pixel(3, 3, [100, 50, 10]), 2, 1);
        image.paste(&RgbImage::from_pixel(3, 3, [9; 3]), 7, 7);
        assert_eq!((image.pixel(1, 1), image.pixel(3, 3), image.pixel(3, 0)), ([0; 3], [100, 50, 10], [0; 3]));
        assert_eq!(image.shrunk(2).as_raw(), [0, 0, 0, 50, 25, 5, 0, 0, 0, 100, 50, 10]);
    }

    #[test]
    fn a_wrong_number_of_bytes_is_refused() {
        assert!(matches!(RgbImage::from_raw(2, 2, vec![0; 11]), Err(ImageError::Length { expected: 12, found: 11, .. })));
    }
}
