//! `lidar_ptq sim` with cameras and layers, as its users see it: messages in a bag, arrays in files, pictures.

use lidar_ptq::ros::bag::{BagReader, RawMessage};
use lidar_ptq::ros::msg::RosMessage;
use lidar_ptq::ros::msg::sensor_msgs::{CameraInfo, CompressedImage};
use lidar_ptq::ros::msg::tf2_msgs::TFMessage;
use ndarray::{Array1, Array2, Array3, Axis};
use ndarray_npy::NpzReader;
use std::fs::File;
use std::path::Path;
use std::process::{Command, Output};

fn sim(folder: &Path, arguments: &str) -> Output {
    let output = Command::new(env!("CARGO_BIN_EXE_lidar_ptq")).arg("sim").args(arguments.split(' ')).current_dir(folder).output();
    output.expect("the program runs")
}

fn messages(path: &Path) -> Vec<RawMessage> {
    let mut reader = BagReader::open(path).expect("a bag");
    std::iter::from_fn(|| reader.next()).collect()
}

#[test]
fn a_bag_with_cameras() {
    let folder = tempfile::tempdir().expect("a folder");
    let output = sim(folder.path(), "--seed 4 --seconds 0.2 --cameras --camera-rate 10 --image-size 320x180 -o drive.mcap");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let messages = messages(&folder.path().join("drive.mcap"));
    let on = |topic: &str| messages.iter().filter(|m| &*m.topic == topic).collect::<Vec<_>>();
    // Four sweeps, and images at every second of them.
    let clouds = on("/lidar/points");
    assert_eq!(clouds.len(), 4);
    let statics = TFMessage::decode(&on("/tf_static")[0].data).expect("transforms");
    for name in ["CAM_FRONT", "CAM_FRONT_RIGHT", "CAM_FRONT_LEFT", "CAM_BACK", "CAM_BACK_LEFT", "CAM_BACK_RIGHT"] {
        let (images, infos) = (on(&format!("/{name}/image_raw/compressed")), on(&format!("/{name}/camera_info")));
        assert_eq!((images.len(), infos.len()), (2, 2), "{name}");
        assert_eq!([images[0].stamp, images[1].stamp], [clouds[0].stamp, clouds[2].stamp]);
        let image = CompressedImage::decode(&images[0].data).expect("an image");
        let info = CameraInfo::decode(&infos[0].data).expect("a calibration");
        let frame = format!("{name}_optical");
        assert_eq!((image.format.as_str(), &image.header.frame_id, &info.header), ("jpeg", &frame, &image.header));
        assert_eq!((info.width, info.height, info.k[0], info.p[5]), (320, 180, info.p[0], info.k[4]));
        let mut decoder = zune_jpeg::JpegDecoder::new(zune_jpeg::zune_core::bytestream::ZCursor::new(image.data));
        let pixels = decoder.decode().expect("a JPEG");
        assert_eq!(decoder.dimensions(), Some((320, 180)));
        let distinct: std::collections::HashSet<&[u8]> = pixels.chunks_exact(3).collect();
        assert!(distinct.len() > 1000, "{name}: {} colours", distinct.len());

        // Cameras look outwards, level and with their tops up: z of the optical frame away from the car, y down.
        let mounted = statics.transforms.iter().find(|t| t.child_frame_id == frame).expect("a place on the car");
        assert_eq!(mounted.header.frame_id, "base_link");
        let pose = mounted.transform.to_pose().expect("a pose");
        let direction = |v: [f64; 3]| std::array::from_fn::<f64, 3, _>(|i| pose.apply(v)[i] - pose.translation()[i]);
        let (forward, down) = (direction([0.0, 0.0, 1.0]), direction([0.0, 1.0, 0.0]));
        assert!(forward[2].abs() < 0.02 && down[2] < -0.999, "{name}: {forward:?} {down:?}");
        assert_eq!(forward[0] > 0.0, name.contains("FRONT"));
        assert_eq!(forward[1] > 0.3, name.ends_with("LEFT"));
    }
}

#[test]
fn layers_and_pictures_in_folders() {
    let folder = tempfile::tempdir().expect("a folder");
    let output = sim(folder.path(), "--seed 4 --seconds 0.1 --camera-rate 10 --image-size 160x96 --png pictures --layers layers");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let mut file = NpzReader::new(File::open(folder.path().join("layers/000000.npz")).expect("written")).expect("an archive");
    let road: Array2<u8> = file.by_name("drivable_area").expect("a layer");
    assert_eq!(road.dim(), (400, 400));
    assert_eq!(road[[200, 200]], 1, "the car is on the road");
    let semantics: Array3<u8> = file.by_name("semantics").expect("voxels");
    let observed: Array3<u8> = file.by_name("mask_lidar").expect("voxels");
    assert_eq!((semantics.dim(), observed.dim()), ((200, 200, 16), (200, 200, 16)));
    assert!(semantics.iter().all(|&c| c < 18) && observed.iter().all(|&o| o < 2));
    let boxes: Array2<f32> = file.by_name("boxes").expect("boxes");
    let points: Array1<u32> = file.by_name("num_lidar_points").expect("counts");
    let labels: Array1<u8> = file.by_name("labels").expect("labels");
    assert_eq!((boxes.len_of(Axis(0)), boxes.len_of(Axis(1))), (points.len(), 9));
    assert!(labels.len() == points.len() && labels.iter().all(|&l| l < 10) && points.iter().any(|&n| n > 20));

    let mut names: Vec<String> = folder
        .path()
        .join("pictures")
        .read_dir()
        .expect("a folder")
        .map(|e| e.expect("an entry").file_name().into_string().expect("text"))
        .collect();
    names.sort();
    assert_eq!(names.len(), 7, "{names:?}");
    assert_eq!([&*names[0], &*names[1]], ["000000.png", "000000_CAM_BACK.png"]);
}

#[test]
fn wrong_options_are_wrong_usage() {
    let folder = tempfile::tempdir().expect("a folder");
    for arguments in ["--image-size 1600 -o a.mcap", "--image-size 0x900 -o a.mcap", "--cameras", "--jpeg-quality 0 -o a.mcap"] {
        assert_eq!(sim(folder.path(), arguments).status.code(), Some(2), "{arguments}");
    }
    let output = sim(folder.path(), "--camera-rate 0 --seconds 0.1 -o a.mcap");
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("--camera-rate"));
}
