//! Which files of a folder are point clouds, in which order, and when they were recorded.

use super::{CloudFileError, Format};
use crate::sensor::Stamp;
use std::cmp::Ordering;
use std::path::{Path, PathBuf};

/// All point cloud files in a folder and its subfolders, in natural order of their paths: `2.bin` before `10.bin`.
///
/// Links to files are listed, links to folders are not followed: they can lead in circles.
pub fn list_cloud_files(folder: &Path) -> Result<Vec<PathBuf>, CloudFileError> {
    let mut files = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        let io = |source| CloudFileError::Io { path: folder.clone(), source };
        for entry in std::fs::read_dir(&folder).map_err(io)? {
            let entry = entry.map_err(io)?;
            let path = entry.path();
            if entry.file_type().map_err(io)?.is_dir() {
                folders.push(path);
            } else if Format::of(&path).is_some() && path.is_file() {
                files.push(path);
            }
        }
    }
    files.sort_by(|a, b| natural_order(&a.to_string_lossy(), &b.to_string_lossy()));
    Ok(files)
}

/// The stamp that a file's name tells: nuScenes names end in `__<microseconds>.pcd.bin`; a stem of 16 or 17 digits is taken
/// for microseconds and one of 18 or 19 for nanoseconds since 1970 (16 and 18 digits hold any day since 2001 and 1973).
pub fn stamp_from_name(path: &Path) -> Option<Stamp> {
    let name = path.file_name()?.to_str()?;
    let stem = name.split('.').next()?;
    let digits = stem.rsplit_once("__").map_or(stem, |(_, last)| last);
    if !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let number: i64 = digits.parse().ok()?;
    match digits.len() {
        16 | 17 => number.checked_mul(1000).map(Stamp),
        18 | 19 => Some(Stamp(number)),
        _ => None,
    }
}

/// Compares runs of digits by value and everything else by character.
fn natural_order(a: &str, b: &str) -> Ordering {
    let (mut rest_a, mut rest_b) = (a, b);
    loop {
        let (Some(first_a), Some(first_b)) = (rest_a.chars().next(), rest_b.chars().next()) else {
            // Names that differ only in leading zeros are still in one order, always the same.
            return rest_a.len().cmp(&rest_b.len()).then_with(|| a.cmp(b));
        };
        let order = if first_a.is_ascii_digit() && first_b.is_ascii_digit() {
            let (number_a, number_b);
            (number_a, rest_a) = split_digits(rest_a);
            (number_b, rest_b) = split_digits(rest_b);
            number_a.len().cmp(&number_b.len()).then_with(|| number_a.cmp(number_b))
        } else {
            rest_a = &rest_a[first_a.len_utf8()..];
            rest_b = &rest_b[first_b.len_utf8()..];
            first_a.cmp(&first_b)
        };
        if order.is_ne() {
            return order;
        }
    }
}

/// The digits at the start without leading zeros, and what follows.
fn split_digits(text: &str) -> (&str, &str) {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (digits, rest) = text.split_at(end);
    (digits.trim_start_matches('0'), rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn natural_order_counts() {
        let mut names = vec!["b1", "a10", "a9", "a09", "a2/10", "a2/9", "a", "A3", "a99999999999999999999999", "a100000000000000000000000"];
        names.sort_by(|a, b| natural_order(a, b));
        let expected = ["A3", "a", "a2/9", "a2/10", "a09", "a9", "a10", "a99999999999999999999999", "a100000000000000000000000", "b1"];
        assert_eq!(names, expected);
    }

    #[test]
    fn stamps_in_names() {
        let stamp = |name: &str| stamp_from_name(Path::new(name)).map(|s| s.0);
        let nuscenes = "/d/n015-2018-07-24-11-22-45+0800__LIDAR_TOP__1532402927647951.pcd.bin";
        assert_eq!(stamp(nuscenes), Some(1_532_402_927_647_951_000));
        assert_eq!(stamp("1532402927647951.bin"), Some(1_532_402_927_647_951_000));
        assert_eq!(stamp("315966265259836000.npy"), Some(315_966_265_259_836_000));
        assert_eq!(stamp("1532402927647951123.pcd"), Some(1_532_402_927_647_951_123));
        for none in ["000001.bin", "99999999999999999999.bin", "9999999999999999999.bin", "15324029276479x1.bin", "", "a__.bin", ".bin"] {
            assert_eq!(stamp(none), None, "{none}");
        }
    }

    #[test]
    fn a_folder_is_listed_flat_and_in_order() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("a2")).unwrap();
        for name in ["10.bin", "9.bin", "notes.txt", "a2/x.PCD", "a2/1.pcd.bin", "z.npy"] {
            std::fs::write(folder.path().join(name), b"").unwrap();
        }
        let listed: Vec<_> = list_cloud_files(folder.path()).unwrap();
        let relative: Vec<_> = listed.iter().map(|p| p.strip_prefix(folder.path()).unwrap().to_str().unwrap()).collect();
        assert_eq!(relative, ["9.bin", "10.bin", "a2/1.pcd.bin", "a2/x.PCD", "z.npy"]);
        assert!(list_cloud_files(&folder.path().join("absent")).is_err());
    }
}
