//! Where results go: a bag, JSON lines, pictures, raw network outputs. Each file appears under its name only when complete.

use super::messages::{MarkerStyle, detection_array, marker_array};
use super::replay::{FrameRecord, FrameSink};
use crate::eval::ScoredBox;
use crate::eval::picture::{BevPicture, contact_sheet};
use crate::graph::Graph;
use crate::ros::bag::{BagWriter, RawMessage};
use crate::ros::msg::RosMessage;
use crate::ros::msg::nav_msgs::Odometry;
use crate::ros::msg::tf2_msgs::TFMessage;
use crate::ros::msg::vision_msgs::Detection3DArray;
use crate::ros::point_cloud::encode_cloud;
use crate::sensor::RgbImage;
use anyhow::{Context, bail};
use ndarray::{Array4, Axis};
use ndarray_npy::NpzWriter;
use serde::Serialize;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use tempfile::NamedTempFile;

/// Topics of the detector node, as `detect.launch.py` names it.
pub const DETECTIONS_TOPIC: &str = "/lidar_ptq/output/detections";
pub const MARKERS_TOPIC: &str = "/lidar_ptq/output/markers";
/// The cloud's topic where the input was no bag.
pub const CLOUD_TOPIC: &str = "/points";

/// An MCAP with the input clouds, transforms, odometry and labels, and the boxes as `Detection3DArray` and `MarkerArray`.
pub struct BagSink {
    writer: BagWriter,
    classes: Vec<String>,
}

impl BagSink {
    /// # Errors
    /// A folder that cannot be written to, or a path that is no regular file.
    pub fn create(path: &Path, classes: Vec<String>) -> anyhow::Result<Self> {
        Ok(Self { writer: BagWriter::create(&replaceable(path)?)?, classes })
    }

    /// # Errors
    /// A disk that is full, say.
    pub fn finish(self) -> anyhow::Result<()> {
        Ok(self.writer.finish()?)
    }
}

impl FrameSink for BagSink {
    fn on_motion(&mut self, message: &RawMessage) -> anyhow::Result<()> {
        let definition = match &*message.type_name {
            TFMessage::TYPE => TFMessage::DEFINITION,
            Odometry::TYPE => Odometry::DEFINITION,
            // Labels; what an earlier run has found would be mixed with what this one finds.
            Detection3DArray::TYPE if *message.topic != *DETECTIONS_TOPIC => Detection3DArray::DEFINITION,
            _ => return Ok(()),
        };
        Ok(self.writer.write_raw(&message.topic, &message.type_name, definition, message.stamp, &message.data)?)
    }

    fn on_frame(&mut self, record: &FrameRecord<'_>) -> anyhow::Result<()> {
        use crate::ros::msg::sensor_msgs::PointCloud2;
        let FrameRecord { input, frame, .. } = record;
        let stamp = match &input.message {
            Some(message) => {
                self.writer.write_raw(&message.topic, PointCloud2::TYPE, PointCloud2::DEFINITION, message.stamp, &message.data)?;
                message.stamp
            }
            None => {
                let stamp = input.cloud.stamp;
                self.writer.write(CLOUD_TOPIC, stamp, &encode_cloud(&input.cloud))?;
                stamp
            }
        };
        let (boxes, of, frame_id) = (&frame.detections.boxes, frame.cloud.stamp, &frame.cloud.frame_id);
        self.writer.write(DETECTIONS_TOPIC, stamp, &detection_array(of, frame_id, boxes, &self.classes))?;
        self.writer.write(MARKERS_TOPIC, stamp, &marker_array(of, frame_id, boxes, &self.classes, &MarkerStyle::default()))?;
        Ok(())
    }
}

/// One JSON object a frame, best box first.
pub struct JsonSink<W: Write> {
    out: W,
    classes: Vec<String>,
}

#[derive(Serialize)]
struct JsonFrame<'a> {
    /// Seconds.
    stamp: f64,
    source: &'a str,
    boxes: Vec<JsonBox<'a>>,
}

#[derive(Serialize)]
struct JsonBox<'a> {
    label: &'a str,
    score: f32,
    center: [f32; 3],
    size: [f32; 3],
    yaw: f32,
    velocity: [f32; 2],
}

impl<W: Write> JsonSink<W> {
    pub fn new(out: W, classes: Vec<String>) -> Self {
        Self { out, classes }
    }

    /// # Errors
    /// A disk that is full, say.
    pub fn finish(mut self) -> anyhow::Result<W> {
        self.out.flush()?;
        Ok(self.out)
    }
}

impl<W: Write> FrameSink for JsonSink<W> {
    fn on_frame(&mut self, record: &FrameRecord<'_>) -> anyhow::Result<()> {
        let boxes = record.frame.detections.boxes.iter().map(|d| JsonBox {
            label: self.classes.get(d.label).map_or("", String::as_str),
            score: d.score,
            center: d.bbox.center,
            size: d.bbox.size,
            yaw: d.bbox.yaw,
            velocity: d.bbox.velocity,
        });
        let frame = JsonFrame { stamp: record.frame.cloud.stamp.as_secs_f64(), source: &record.input.source, boxes: boxes.collect() };
        let mut line = serde_json::to_vec(&frame)?;
        line.push(b'\n');
        // At once: whoever reads a pipe works on this frame while the next is computed.
        self.out.write_all(&line)?;
        Ok(self.out.flush()?)
    }
}

/// A file that appears under its name when it is complete.
pub struct PendingFile {
    file: BufWriter<NamedTempFile>,
    path: PathBuf,
}

impl PendingFile {
    /// # Errors
    /// A folder that cannot be written to, or a path that is no regular file.
    pub fn create(path: &Path) -> anyhow::Result<Self> {
        let path = replaceable(path)?;
        let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let file = new_file_in(folder).with_context(|| format!("{}: cannot write into its folder", path.display()))?;
        Ok(Self { file: BufWriter::new(file), path })
    }

    /// # Errors
    /// A disk that is full, say.
    pub fn finish(self) -> anyhow::Result<()> {
        let context = || self.path.display().to_string();
        let file = self.file.into_inner().map_err(|e| e.into_error()).with_context(context)?;
        file.persist(&self.path).map_err(|e| e.error).with_context(context)?;
        Ok(())
    }

    fn named(&self, error: std::io::Error) -> std::io::Error {
        std::io::Error::new(error.kind(), format!("{}: {error}", self.path.display()))
    }
}

/// The path that a finished file is renamed to: links are followed, so that they stay. A device or a pipe would be lost by
/// it, and a folder would refuse it after all the work.
fn replaceable(path: &Path) -> anyhow::Result<PathBuf> {
    let resolved = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    match resolved.metadata() {
        Ok(found) if !found.is_file() => bail!("{}: exists and is no regular file", path.display()),
        _ => Ok(resolved),
    }
}

/// Temporary files are private by themselves; results are as readable as the user's other files.
fn new_file_in(folder: &Path) -> std::io::Result<NamedTempFile> {
    let mut builder = tempfile::Builder::new();
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        builder.permissions(std::fs::Permissions::from_mode(0o666));
    }
    builder.tempfile_in(folder)
}

impl Write for PendingFile {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.file.write(bytes).map_err(|e| self.named(e))
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.file.flush().map_err(|e| self.named(e))
    }
}

/// A bird's-eye PNG a frame, and a sheet of some of them.
pub struct PictureSink {
    folder: Option<PathBuf>,
    sheet: Option<(PathBuf, Vec<RgbImage>)>,
    classes: Vec<String>,
    /// From the middle to each edge, metres.
    range_m: f32,
    /// Boxes below this score are not drawn.
    min_score: f32,
}

/// Pictures on a sheet, and columns of it.
const SHEET_PICTURES: usize = 12;
const SHEET_COLUMNS: usize = 3;
const SHEET_PIXELS: u32 = 480;
const PICTURE_PIXELS: u32 = 1000;

impl PictureSink {
    /// # Errors
    /// A folder that cannot be made, or a sheet that is no regular file.
    pub fn new(
        folder: Option<PathBuf>,
        sheet: Option<PathBuf>,
        classes: Vec<String>,
        range_m: f32,
        min_score: f32,
    ) -> anyhow::Result<Self> {
        if let Some(folder) = &folder {
            std::fs::create_dir_all(folder).with_context(|| format!("{}: cannot make this folder", folder.display()))?;
        }
        let sheet = sheet.as_deref().map(replaceable).transpose()?;
        Ok(Self { folder, sheet: sheet.map(|path| (path, Vec::new())), classes, range_m, min_score })
    }

    /// Writes the sheet.
    ///
    /// # Errors
    /// A disk that is full, say.
    pub fn finish(self) -> anyhow::Result<()> {
        match self.sheet {
            Some((path, pictures)) if !pictures.is_empty() => {
                contact_sheet(&pictures, SHEET_COLUMNS).write_png(&path).with_context(|| path.display().to_string())
            }
            _ => Ok(()),
        }
    }
}

impl FrameSink for PictureSink {
    fn on_frame(&mut self, record: &FrameRecord<'_>) -> anyhow::Result<()> {
        let FrameRecord { index, input, frame, labelled, .. } = record;
        let boxes = &frame.detections.boxes;
        let boxes: Vec<ScoredBox> = boxes
            .iter()
            .filter(|d| d.score >= self.min_score)
            .map(|d| ScoredBox { bbox: d.bbox, label: d.label, score: d.score })
            .collect();
        // A file; or a bag and the topic, which has slashes of its own.
        let (path, topic) = input.source.split_once(":/").map_or((&*input.source, None), |(bag, topic)| (bag, Some(topic)));
        let name = Path::new(path).file_name().map_or_else(|| path.to_owned(), |n| n.to_string_lossy().into_owned());
        let title = format!("{name}{}   frame {index}", topic.map_or_else(String::new, |topic| format!(" /{topic}")));
        let draw = |pixels, labels| {
            let picture = BevPicture { title: title.clone(), range_m: self.range_m, pixels, labels, ..BevPicture::new(&self.classes) };
            picture.draw(frame.cloud.data.view(), &boxes, labelled.map(|l| &*l.truth))
        };
        if let Some(folder) = &self.folder {
            let path = folder.join(format!("{index:06}.png"));
            draw(PICTURE_PIXELS, true).write_png(&path).with_context(|| path.display().to_string())?;
        }
        if let Some((_, pictures)) = &mut self.sheet
            && pictures.len() < SHEET_PICTURES
        {
            pictures.push(draw(SHEET_PIXELS, false));
        }
        Ok(())
    }
}

/// The network's raw outputs, `[1, channels, height, width]`, under their node names; with several frames behind the frame's
/// number (`000007/NAME`).
pub struct DumpSink {
    writer: NpzWriter<BufWriter<NamedTempFile>>,
    path: PathBuf,
    /// Role and node name.
    names: Vec<(String, String)>,
    several: bool,
}

impl DumpSink {
    /// `several`: whether more than one frame may come.
    ///
    /// # Errors
    /// A folder that cannot be written to.
    pub fn create(path: &Path, graph: &Graph, several: bool) -> anyhow::Result<Self> {
        let names = graph.outputs.iter().map(|o| (o.role.clone(), graph.nodes[o.node].name.clone())).collect();
        let pending = PendingFile::create(path)?;
        Ok(Self { writer: NpzWriter::new(pending.file), path: pending.path, names, several })
    }

    /// # Errors
    /// A disk that is full, say.
    pub fn finish(self) -> anyhow::Result<()> {
        let file = self.writer.finish().with_context(|| self.path.display().to_string())?;
        PendingFile { file, path: self.path }.finish()
    }
}

impl FrameSink for DumpSink {
    fn wants_maps(&self) -> bool {
        true
    }

    fn on_frame(&mut self, record: &FrameRecord<'_>) -> anyhow::Result<()> {
        let Some(maps) = record.maps else { return Ok(()) };
        for (role, map) in maps.iter() {
            let Some((_, node)) = self.names.iter().find(|(r, _)| r == role) else { continue };
            let channels_first: Array4<f32> = map.view().permuted_axes([2, 0, 1]).insert_axis(Axis(0)).as_standard_layout().into_owned();
            let name = if self.several { format!("{:06}/{node}", record.index) } else { node.clone() };
            self.writer.add_array(name, &channels_first).with_context(|| self.path.display().to_string())?;
        }
        Ok(())
    }
}
