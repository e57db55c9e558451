//! What is needed again later lies in a file, so that memory does not grow with the frames.
//!
//! A frame of a full-size network leaves some 20 MB to come back to: its pillars' features, maps that later layers read, what the
//! float network makes of its windows. 256 of them do not fit the memory of a robot, and each is read front to back a few times
//! only.

use super::CalibrationError;
use crate::engine::float::Inputs;
use crate::graph::PillarIndex;
use ndarray::{Array, ArrayD, ArrayView1, Dimension, IxDyn};
use rayon::prelude::*;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// Empty cells and silent channels shrink at once; more effort finds little more.
const ZSTD_LEVEL: i32 = 1;

/// A file that only this program sees, and that goes with it however it ends.
pub struct Shelf {
    directory: PathBuf,
    /// `None` before the first thing is put there.
    file: Mutex<Option<File>>,
}

/// Where something lies.
#[derive(Clone, Debug)]
pub struct Place {
    offset: u64,
    /// Bytes as they lie there, and unpacked.
    packed: usize,
    bytes: usize,
}

/// Where an array lies.
#[derive(Clone, Debug)]
pub struct ArrayPlace {
    shape: Vec<usize>,
    place: Place,
}

impl ArrayPlace {
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }
}

impl Shelf {
    /// A file in this directory, made when something is put there.
    pub fn new(directory: &Path) -> Self {
        Self { directory: directory.to_owned(), file: Mutex::new(None) }
    }

    /// An empty one in the same directory.
    pub fn another(&self) -> Self {
        Self::new(&self.directory)
    }

    /// # Errors
    /// A full disk.
    pub fn put(&self, bytes: &[u8]) -> Result<Place, CalibrationError> {
        let packed = zstd::bulk::compress(bytes, ZSTD_LEVEL).map_err(|e| self.error(e))?;
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        if file.is_none() {
            *file = Some(tempfile::tempfile_in(&self.directory).map_err(|e| self.error(e))?);
        }
        let Some(file) = file.as_mut() else { unreachable!("it was just made") };
        let offset = file.seek(SeekFrom::End(0)).map_err(|e| self.error(e))?;
        file.write_all(&packed).map_err(|e| self.error(e))?;
        Ok(Place { offset, packed: packed.len(), bytes: bytes.len() })
    }

    /// # Errors
    /// The disk fails.
    pub fn get(&self, place: &Place) -> Result<Vec<u8>, CalibrationError> {
        let mut packed = vec![0; place.packed];
        if let Some(file) = self.file.lock().unwrap_or_else(PoisonError::into_inner).as_mut() {
            file.seek(SeekFrom::Start(place.offset)).and_then(|_| file.read_exact(&mut packed)).map_err(|e| self.error(e))?;
        }
        zstd::bulk::decompress(&packed, place.bytes).map_err(|e| self.error(e))
    }

    /// # Errors
    /// As [`Shelf::put`].
    pub fn put_array<D: Dimension>(&self, values: &Array<f32, D>) -> Result<ArrayPlace, CalibrationError> {
        let bytes: Vec<[u8; 4]> = values.iter().map(|x| x.to_le_bytes()).collect();
        Ok(ArrayPlace { shape: values.shape().to_vec(), place: self.put(bytes.as_flattened())? })
    }

    /// # Errors
    /// As [`Shelf::get`].
    pub fn get_array(&self, at: &ArrayPlace) -> Result<ArrayD<f32>, CalibrationError> {
        let bytes = self.get(&at.place)?;
        let values = bytes.par_chunks_exact(4).with_min_len(4096).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
        Ok(ArrayD::from_shape_vec(IxDyn(&at.shape), values).expect("as many as it had"))
    }

    fn put_words(&self, words: impl Iterator<Item = u32>) -> Result<Place, CalibrationError> {
        let bytes: Vec<[u8; 4]> = words.map(u32::to_le_bytes).collect();
        self.put(bytes.as_flattened())
    }

    fn get_words(&self, at: &Place) -> Result<Vec<u32>, CalibrationError> {
        Ok(self.get(at)?.as_chunks().0.iter().map(|&b| u32::from_le_bytes(b)).collect())
    }

    fn error(&self, error: std::io::Error) -> CalibrationError {
        CalibrationError::Scratch { directory: self.directory.clone(), error }
    }
}

/// Inputs of a network, frame by frame. A copy shares what lies on the shelf.
#[derive(Clone)]
pub struct ShelvedInputs {
    shelf: Arc<Shelf>,
    frames: Vec<Arc<FramePlace>>,
    /// By what the channels of inputs are multiplied as they are taken out.
    factors: BTreeMap<String, Vec<f32>>,
}

struct FramePlace {
    dense: BTreeMap<String, ArrayPlace>,
    pillars: BTreeMap<String, IndexPlace>,
}

struct IndexPlace {
    batch: usize,
    offsets: Place,
    cells: Place,
}

impl ShelvedInputs {
    pub fn new(shelf: Shelf) -> Self {
        Self { shelf: Arc::new(shelf), frames: Vec::new(), factors: BTreeMap::new() }
    }

    /// The same, with channels multiplied; `factors` are by name, and may be of others too.
    pub fn multiplied(&self, factors: &BTreeMap<String, Vec<f32>>) -> Self {
        Self { factors: factors.clone(), ..self.clone() }
    }

    /// On which they lie.
    pub fn shelf(&self) -> &Shelf {
        &self.shelf
    }

    pub fn len(&self) -> usize {
        self.frames.len()
    }

    pub fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    /// # Errors
    /// As [`Shelf::put`].
    pub fn push(&mut self, inputs: &Inputs<f32>) -> Result<(), CalibrationError> {
        let shelf = &self.shelf;
        let dense = inputs.dense.iter().map(|(name, values)| Ok((name.clone(), shelf.put_array(values)?)));
        let pillars = inputs.pillars.iter().map(|(name, index)| {
            let offsets = shelf.put_words(index.offsets.iter().copied())?;
            let cells = shelf.put_words(index.cells.iter().flatten().copied())?;
            Ok((name.clone(), IndexPlace { batch: index.batch, offsets, cells }))
        });
        let frame = FramePlace {
            dense: dense.collect::<Result<_, CalibrationError>>()?,
            pillars: pillars.collect::<Result<_, CalibrationError>>()?,
        };
        self.frames.push(Arc::new(frame));
        Ok(())
    }

    /// Those of a frame.
    ///
    /// # Errors
    /// As [`Shelf::get`].
    pub fn get(&self, frame: usize) -> Result<Inputs<f32>, CalibrationError> {
        let frame = &self.frames[frame];
        let dense = frame.dense.iter().map(|(name, at)| {
            let mut values = self.shelf.get_array(at)?;
            if let Some(factors) = self.factors.get(name) {
                values *= &ArrayView1::from(factors);
            }
            Ok((name.clone(), values))
        });
        let pillars = frame.pillars.iter().map(|(name, index)| {
            let offsets = self.shelf.get_words(&index.offsets)?;
            let cells = self.shelf.get_words(&index.cells)?.as_chunks().0.to_vec();
            Ok((name.clone(), Arc::new(PillarIndex { offsets, cells, batch: index.batch })))
        });
        Ok(Inputs { dense: dense.collect::<Result<_, CalibrationError>>()?, pillars: pillars.collect::<Result<_, CalibrationError>>()? })
    }

    /// All, one after the other.
    pub fn iter(&self) -> impl Iterator<Item = Result<Inputs<f32>, CalibrationError>> {
        (0..self.len()).map(|frame| self.get(frame))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_comes_back() {
        let shelf = Shelf::new(&std::env::temp_dir());
        let map = ArrayD::from_shape_fn(vec![2, 70, 90, 3], |i| if i[1] % 7 == 0 { i[2] as f32 - 0.1 } else { 0.0 });
        let noise = ArrayD::from_shape_fn(vec![3], |i| [f32::MIN_POSITIVE, -0.0, f32::MAX][i[0]]);
        let places = [&map, &noise].map(|a| shelf.put_array(a).expect("room"));
        let empty = shelf.put(&[]).expect("room");
        assert!(places[0].place.packed < places[0].place.bytes / 2, "{places:?}");
        assert_eq!(shelf.get_array(&places[1]).expect("there"), noise);
        assert_eq!(shelf.get_array(&places[0]).expect("there"), map);
        assert!(shelf.get(&empty).expect("there").is_empty());

        let mut frames = ShelvedInputs::new(shelf.another());
        for number in 0..2u32 {
            let index = PillarIndex { offsets: vec![0, 3, 4], cells: vec![[0, 5, number], [0, 7, 1]], batch: 1 };
            frames.push(&Inputs::default().with_dense("rows", map.clone()).with_pillars("index", Arc::new(index))).expect("room");
        }
        let found: Vec<Inputs<f32>> = frames.iter().map(|frame| frame.expect("there")).collect();
        assert_eq!((found.len(), &found[1].dense["rows"]), (2, &map));
        let twice = frames.multiplied(&BTreeMap::from([("rows".to_owned(), vec![1.0, 2.0, 0.5])])).get(0).expect("there");
        assert_eq!(twice.dense["rows"][[1, 2, 3, 1]], 2.0 * map[[1, 2, 3, 1]]);
        assert_eq!(twice.dense["rows"][[1, 2, 3, 2]], 0.5 * map[[1, 2, 3, 2]]);
        let PillarIndex { offsets, cells, batch } = &*found[1].pillars["index"];
        assert_eq!((&offsets[..], &cells[..], *batch), (&[0, 3, 4][..], &[[0, 5, 1], [0, 7, 1]][..], 1));
    }

    #[test]
    fn a_directory_that_is_not_there_is_named() {
        let error = Shelf::new(Path::new("/no/such/directory")).put(&[1]).expect_err("nowhere");
        assert!(error.to_string().contains("/no/such/directory"), "{error}");
    }
}
