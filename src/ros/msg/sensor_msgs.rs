//! `sensor_msgs`.

use super::std_msgs::Header;
use super::{RosMessage, cdr_struct, ros_message};
use crate::ros::cdr::{Cdr, CdrError, CdrReader, CdrWriter};

cdr_struct! {
    #[derive(Clone, Debug, Default, PartialEq)]
    pub struct PointField {
        pub name: String,
        /// Bytes from the start of a point.
        pub offset: u32,
        /// `PointField::FLOAT32`, ...
        pub datatype: u8,
        /// Elements in the field.
        pub count: u32,
    }
}

impl PointField {
    pub const INT8: u8 = 1;
    pub const UINT8: u8 = 2;
    pub const INT16: u8 = 3;
    pub const UINT16: u8 = 4;
    pub const INT32: u8 = 5;
    pub const UINT32: u8 = 6;
    pub const FLOAT32: u8 = 7;
    pub const FLOAT64: u8 = 8;
}

/// Rows of points of `point_step` bytes each. `D` is `Vec<u8>`, or `&[u8]` for a view of the message that it was read from.
///
/// Nothing here is checked against anything: that is `ros::point_cloud::decode_cloud`'s work.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PointCloud2<D = Vec<u8>> {
    pub header: Header,
    pub height: u32,
    pub width: u32,
    pub fields: Vec<PointField>,
    pub is_bigendian: bool,
    /// Bytes from one point to the next.
    pub point_step: u32,
    /// Bytes from one row to the next.
    pub row_step: u32,
    pub data: D,
    /// No point has a coordinate that is not finite. Often set wrongly, therefore not relied upon.
    pub is_dense: bool,
}

pub type PointCloud2Ref<'a> = PointCloud2<&'a [u8]>;

impl<'a> PointCloud2Ref<'a> {
    /// As `PointCloud2::decode`, without copying the points.
    pub fn view(bytes: &'a [u8]) -> Result<Self, CdrError> {
        Self::read_view(&mut CdrReader::new(bytes, <PointCloud2 as RosMessage>::TYPE)?)
    }

    fn read_view(reader: &mut CdrReader<'a>) -> Result<Self, CdrError> {
        Ok(Self {
            header: reader.field("header")?,
            height: reader.field("height")?,
            width: reader.field("width")?,
            fields: reader.field("fields")?,
            is_bigendian: reader.field("is_bigendian")?,
            point_step: reader.field("point_step")?,
            row_step: reader.field("row_step")?,
            data: reader.bytes_field("data")?,
            is_dense: reader.field("is_dense")?,
        })
    }

    fn into_owned(self) -> PointCloud2 {
        PointCloud2 {
            header: self.header,
            height: self.height,
            width: self.width,
            fields: self.fields,
            is_bigendian: self.is_bigendian,
            point_step: self.point_step,
            row_step: self.row_step,
            data: self.data.to_vec(),
            is_dense: self.is_dense,
        }
    }
}

impl PointCloud2 {
    pub fn as_view(&self) -> PointCloud2Ref<'_> {
        PointCloud2 {
            header: self.header.clone(),
            height: self.height,
            width: self.width,
            fields: self.fields.clone(),
            is_bigendian: self.is_bigendian,
            point_step: self.point_step,
            row_step: self.row_step,
            data: &self.data,
            is_dense: self.is_dense,
        }
    }
}

impl Cdr for PointCloud2 {
    /// Header, six numbers and two sequence lengths.
    const MIN_BYTES: usize = Header::MIN_BYTES + 4 + 4 + 4 + 1 + 4 + 4 + 4 + 1;

    fn write(&self, writer: &mut CdrWriter) {
        self.header.write(writer);
        self.height.write(writer);
        self.width.write(writer);
        self.fields.write(writer);
        self.is_bigendian.write(writer);
        self.point_step.write(writer);
        self.row_step.write(writer);
        self.data.write(writer);
        self.is_dense.write(writer);
    }

    fn read(reader: &mut CdrReader) -> Result<Self, CdrError> {
        PointCloud2Ref::read_view(reader).map(PointCloud2Ref::into_owned)
    }
}

ros_message! {
    PointCloud2: "sensor_msgs" "PointCloud2",
    "std_msgs" "Header", "builtin_interfaces" "Time", "sensor_msgs" "PointField"
}

cdr_struct! {
    #[derive(Clone, Debug, Default, PartialEq)]
    pub struct CompressedImage {
        pub header: Header,
        /// Such as `jpeg`, or `rgb8; jpeg compressed bgr8`.
        pub format: String,
        pub data: Vec<u8>,
    }
}

ros_message! {
    CompressedImage: "sensor_msgs" "CompressedImage",
    "std_msgs" "Header", "builtin_interfaces" "Time"
}

cdr_struct! {
    #[derive(Clone, Copy, Debug, Default, PartialEq)]
    pub struct RegionOfInterest {
        pub x_offset: u32,
        pub y_offset: u32,
        pub height: u32,
        pub width: u32,
        pub do_rectify: bool,
    }
}

cdr_struct! {
    #[derive(Clone, Debug, Default, PartialEq)]
    pub struct CameraInfo {
        pub header: Header,
        pub height: u32,
        pub width: u32,
        pub distortion_model: String,
        /// Distortion parameters; how many depends on the model.
        pub d: Vec<f64>,
        /// Intrinsic matrix of the raw image, 3x3 row-major, pixels.
        pub k: [f64; 9],
        /// Rectification rotation, 3x3 row-major.
        pub r: [f64; 9],
        /// Projection matrix of the rectified image, 3x4 row-major, pixels.
        pub p: [f64; 12],
        pub binning_x: u32,
        pub binning_y: u32,
        pub roi: RegionOfInterest,
    }
}

ros_message! {
    CameraInfo: "sensor_msgs" "CameraInfo",
    "std_msgs" "Header", "builtin_interfaces" "Time", "sensor_msgs" "RegionOfInterest"
}
