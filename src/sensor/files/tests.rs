//! Files written by hand, real files, and bytes that are no files.

use super::*;
use proptest::prelude::*;
use std::path::PathBuf;

fn owned(names: &[&str]) -> Vec<String> {
    names.iter().map(|n| n.to_string()).collect()
}

fn floats(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|v| v.to_le_bytes()).collect()
}

fn rows(parsed: &ParsedCloud) -> Vec<Vec<f32>> {
    parsed.cloud.data.rows().into_iter().map(|row| row.to_vec()).collect()
}

/// A plausible sweep of `points` rows of x, y, z, intensity and the given further columns.
fn sweep(points: usize, further: &[&dyn Fn(usize) -> f32]) -> Vec<u8> {
    let row = |i: usize| {
        let angle = i as f32 * 0.37;
        let mut row = vec![(3.0 + angle) * angle.cos(), (3.0 + angle) * angle.sin(), -1.7 + 0.01 * (i % 97) as f32, (i * 7 % 256) as f32];
        row.extend(further.iter().map(|column| column(i)));
        row
    };
    floats(&(0..points).flat_map(row).collect::<Vec<_>>())
}

fn ring(i: usize) -> f32 {
    (i % 32) as f32
}

/// Three sweeps of 0.05 s.
fn lag_of(points: usize) -> impl Fn(usize) -> f32 {
    move |i| 0.05 * (i * 3 / points) as f32
}

mod raw {
    use super::*;

    fn fields(bytes: &[u8]) -> Result<Vec<String>, CloudFormatError> {
        parse_bin(bytes, None).map(|parsed| parsed.cloud.fields)
    }

    #[test]
    fn four_and_five_columns_are_told_apart_whatever_the_length() {
        // 20 n bytes are also 16 m bytes whenever n is a multiple of 4.
        for points in [60, 61, 80, 400, 1001] {
            assert_eq!(fields(&sweep(points, &[])).unwrap(), owned(&["x", "y", "z", "intensity"]), "{points}");
            assert_eq!(fields(&sweep(points, &[&ring])).unwrap(), owned(&["x", "y", "z", "intensity", "ring"]), "{points}");
            let lag = lag_of(points);
            assert_eq!(fields(&sweep(points, &[&lag])).unwrap(), owned(&["x", "y", "z", "intensity", "time"]), "{points}");
            assert_eq!(fields(&sweep(points, &[&|_| 0.0])).unwrap(), owned(&["x", "y", "z", "intensity", "time"]), "{points}");
        }
    }

    #[test]
    fn what_cannot_be_told_asks_for_fields() {
        let undecided = [
            sweep(80, &[&|i| i as f32 * 1e-3]),         // a time for each point, an elongation
            sweep(80, &[&|i| (i % 3) as f32]),          // a return number
            sweep(80, &[&|i| 0.05 * (i % 2) as f32]),   // two values, but not in runs
            sweep(80, &[&|_| 0.0, &|_| 0.0, &|_| 0.0]), // seven columns
            floats(&[0.0; 80]),                         // nothing at all, in four or five columns
            floats(&[1e30; 40]),
        ];
        for (i, bytes) in undecided.iter().enumerate() {
            let error = fields(bytes).unwrap_err();
            assert!(matches!(error, CloudFormatError::Columns(ColumnsError::Undecided { .. })), "{i}: {error:?}");
            assert!(error.to_string().contains("--fields"), "{error}");
        }
        for bytes in [&[0u8; 12][..], &[0; 17], &[0; 3]] {
            assert_eq!(fields(bytes), Err(ColumnsError::Length { bytes: bytes.len() }.into()));
        }
    }

    #[test]
    fn an_empty_file_is_an_empty_cloud() {
        assert_eq!(parse_bin(&[], None).unwrap().cloud.data.dim(), (0, 4));
    }

    #[test]
    fn given_columns_are_taken_at_their_word_and_coordinates_moved_to_the_front() {
        let names = owned(&["intensity", "z", "x", "y"]);
        let bytes = floats(&[9.0, 3.0, 1.0, 2.0, 8.0, f32::NAN, 1.0, 2.0, f32::NAN, 6.0, 4.0, 5.0]);
        let parsed = parse_bin(&bytes, Some(&names)).unwrap();
        assert_eq!(parsed.cloud.fields, ["x", "y", "z", "intensity"]);
        assert_eq!(parsed.dropped_non_finite, 1);
        assert_eq!(parsed.cloud.data.row(0).to_vec(), [1.0, 2.0, 3.0, 9.0]);
        assert_eq!(parsed.cloud.data.row(1).to_vec()[..3], [4.0, 5.0, 6.0]);
        assert!(parsed.cloud.data[[1, 3]].is_nan());
    }

    #[test]
    fn wrong_columns_are_errors() {
        let parse = |names: &[&str], bytes: &[u8]| parse_bin(bytes, Some(&owned(names))).unwrap_err();
        assert!(matches!(
            parse(&["x", "y", "z"], &[0; 16]),
            CloudFormatError::Columns(ColumnsError::RowLength { bytes: 16, columns: 3, .. })
        ));
        assert!(matches!(parse(&[], &[0; 16]), CloudFormatError::Columns(ColumnsError::RowLength { .. })));
        assert!(matches!(parse(&["x", "y"], &[0; 16]), CloudFormatError::Columns(ColumnsError::NoCoordinate { axis: "z", .. })));
        assert!(matches!(parse(&["x", "y", "z", "x"], &[0; 16]), CloudFormatError::Columns(ColumnsError::Duplicate { .. })));
    }

    #[test]
    fn the_name_decides_for_nuscenes_and_the_content_must_agree() {
        let read = |name: &str, bytes: &[u8]| parse_cloud(Path::new(name), bytes, None).map(|parsed| parsed.cloud);
        // Few rings would be undecided without the name.
        let cloud = read("a__LIDAR_TOP__1532402927647951.pcd.bin", &sweep(8, &[&|i| (i % 2) as f32])).unwrap();
        assert_eq!((cloud.fields[4].as_str(), cloud.stamp.0, cloud.frame_id.as_str()), ("ring", 1_532_402_927_647_951_000, FILE_FRAME));
        let error = read("x.pcd.bin", &sweep(80, &[&lag_of(80)])).unwrap_err();
        assert!(error.to_string().starts_with("x.pcd.bin: ") && error.to_string().contains("--fields"), "{error}");
        assert!(matches!(read("x.ply", &[]), Err(CloudFileError::Extension { .. })));
    }
}

mod pcd {
    use super::*;

    fn header(fields: &str, size: &str, kind: &str, rest: &str) -> String {
        format!("# .PCD v0.7 - Point Cloud Data file format\nVERSION 0.7\nFIELDS {fields}\nSIZE {size}\nTYPE {kind}\n{rest}")
    }

    #[test]
    fn ascii_with_counts_padding_comments_and_both_line_ends() {
        let text = header(
            "ring x _ y z normal",
            "2 4 1 4 8 4",
            "U F U F F F",
            "COUNT 1 1 2 1 1 3\nWIDTH 3\nHEIGHT 1\nVIEWPOINT 1 2 3 1 0 0 0\nPOINTS 3\nDATA ascii\n\
             7 1.5 0 0 2 -3e0 .1 .2 .3\n\n8 nan 0 0 0 0 0 0 0\n9 4 0 0 5 6 1 2 3\n",
        );
        for text in [text.clone(), text.replace('\n', "\r\n"), text.trim_end().to_owned()] {
            let parsed = parse_pcd(text.as_bytes()).unwrap();
            assert_eq!(parsed.cloud.fields, ["x", "y", "z", "ring", "normal_0", "normal_1", "normal_2"]);
            assert_eq!(rows(&parsed), [vec![1.5, 2.0, -3.0, 7.0, 0.1, 0.2, 0.3], vec![4.0, 5.0, 6.0, 9.0, 1.0, 2.0, 3.0]]);
            assert_eq!(parsed.dropped_non_finite, 1);
        }
    }

    /// Two points in an organised cloud: f64 x, f32 y and z, u8 padding, i16 pair, u32.
    fn mixed_header(data: &str) -> String {
        header("x y z _ p t", "8 4 4 1 2 4", "F F F U I U", &format!("COUNT 1 1 1 3 2 1\nWIDTH 1\nHEIGHT 2\nDATA {data}\n"))
    }

    fn mixed_rows() -> Vec<Vec<f32>> {
        vec![vec![1.25, 2.5, -3.5, -300.0, 5.0, 4e9], vec![-1.25, 20.5, 3.75, 300.0, -5.0, 7.0]]
    }

    fn mixed_binary() -> Vec<u8> {
        let mut bytes = mixed_header("binary").into_bytes();
        for row in mixed_rows() {
            bytes.extend(f64::from(row[0]).to_le_bytes());
            bytes.extend(floats(&row[1..3]));
            bytes.extend([0xaa; 3]);
            bytes.extend((row[3] as i16).to_le_bytes());
            bytes.extend((row[4] as i16).to_le_bytes());
            bytes.extend((row[5] as u32).to_le_bytes());
        }
        bytes
    }

    fn mixed_compressed(with_padding: bool) -> Vec<u8> {
        let rows = mixed_rows();
        let mut block: Vec<u8> = rows.iter().flat_map(|r| f64::from(r[0]).to_le_bytes()).collect();
        block.extend(rows.iter().flat_map(|r| r[1].to_le_bytes()));
        block.extend(rows.iter().flat_map(|r| r[2].to_le_bytes()));
        block.extend(std::iter::repeat_n(0xaa, if with_padding { 6 } else { 0 }));
        block.extend(rows.iter().flat_map(|r| [(r[3] as i16).to_le_bytes(), (r[4] as i16).to_le_bytes()].concat()));
        block.extend(rows.iter().flat_map(|r| (r[5] as u32).to_le_bytes()));
        compressed(&mixed_header("binary_compressed"), &block)
    }

    /// LZF that only copies: runs of up to 32 bytes behind their length less one.
    fn compressed(header: &str, block: &[u8]) -> Vec<u8> {
        let lzf: Vec<u8> = block.chunks(32).flat_map(|run| [&[run.len() as u8 - 1], run].concat()).collect();
        let sizes = [lzf.len() as u32, block.len() as u32].map(u32::to_le_bytes).concat();
        [header.as_bytes(), &sizes, &lzf].concat()
    }

    #[test]
    fn binary_and_compressed_of_any_types() {
        for bytes in [mixed_binary(), mixed_compressed(false), mixed_compressed(true)] {
            let parsed = parse_pcd(&bytes).unwrap();
            assert_eq!(parsed.cloud.fields, ["x", "y", "z", "p_0", "p_1", "t"]);
            assert_eq!(rows(&parsed), mixed_rows());
        }
        // With Windows line ends the data still begins after the line feed.
        let binary = mixed_binary();
        let split = mixed_header("binary").len();
        let crlf = [mixed_header("binary").replace('\n', "\r\n").as_bytes(), &binary[split..]].concat();
        assert_eq!(rows(&parse_pcd(&crlf).unwrap()), mixed_rows());
    }

    #[test]
    fn compression_by_reference_is_undone() {
        let block = floats(&[1.0; 300]);
        let lzf = lzf::compress(&block).unwrap();
        let sizes = [lzf.len() as u32, block.len() as u32].map(u32::to_le_bytes).concat();
        let text = header("x y z", "4 4 4", "F F F", "WIDTH 100\nHEIGHT 1\nDATA binary_compressed\n");
        let parsed = parse_pcd(&[text.as_bytes(), &sizes, &lzf].concat()).unwrap();
        assert_eq!(parsed.cloud.data, ndarray::Array2::<f32>::ones((100, 3)));
    }

    #[test]
    fn the_number_of_points_may_stand_anywhere_or_for_ascii_nowhere() {
        let points = |rest: &str| parse_pcd(header("x y z", "4 4 4", "F F F", rest).as_bytes()).map(|p| p.cloud.len());
        assert_eq!(points("DATA ascii\n1 2 3\n4 5 6\n"), Ok(2));
        assert_eq!(points("POINTS 1\nDATA ascii\n1 2 3\n4 5 6\n"), Ok(1));
        assert_eq!(points("WIDTH 2\nDATA ascii\n1 2 3\n4 5 6\n"), Ok(2));
        assert_eq!(points("WIDTH 0\nHEIGHT 1\nDATA ascii\n"), Ok(0));
        assert_eq!(points("WIDTH 0\nHEIGHT 1\nDATA binary_compressed\n\0\0\0\0\0\0\0\0"), Ok(0));
        assert_eq!(points("WIDTH 2\nHEIGHT 2\nPOINTS 5\nDATA ascii\n"), Err(PcdError::Size { width: 2, height: 2, points: 5 }.into()));
        assert_eq!(points("DATA binary\n1 2 3\n4 5 6\n"), Err(PcdError::Missing { entry: "POINTS" }.into()));
        assert_eq!(points("POINTS 3\nDATA ascii\n1 2 3\n4 5 6\n"), Err(PcdError::Rows { expected: 3, found: 2 }.into()));
    }

    #[test]
    fn lies_are_errors() {
        let parse = |text: String| parse_pcd(text.as_bytes()).unwrap_err();
        let xyz = |rest: &str| header("x y z", "4 4 4", "F F F", rest);
        let huge = usize::MAX;
        let cases = [
            (parse(xyz(&format!("POINTS {huge}\nDATA binary\n"))), PcdError::Truncated { points: huge, expected: huge, found: 0 }),
            (parse(xyz("POINTS -1\nDATA ascii\n")), PcdError::Header { entry: "POINTS", found: "`-1`".into(), expected: "a whole number" }),
            (parse(xyz(&format!("WIDTH {huge}\nHEIGHT 2\nDATA binary\n"))), PcdError::Truncated { points: huge, expected: huge, found: 0 }),
            (parse(xyz("COUNT 1 1 99999999\nDATA ascii\n")), PcdError::TooWide { columns: 100_000_001 }),
            (parse(xyz("COUNT 1 1\nDATA ascii\n")), PcdError::EntryCount { entry: "COUNT", found: 2, fields: 3 }),
            (parse(xyz("DATA ascii\n1 2\n")), PcdError::RowLength { line: 7, found: 2, expected: 3 }),
            (parse(xyz("DATA ascii\n1 2 3\n1 2 three\n")), PcdError::Number { line: 8, found: "three".into() }),
            (parse(header(&"f".repeat(257), "4", "F", "COUNT 4096\nDATA ascii\n")), PcdError::NameLength { bytes: 257 }),
            (parse(xyz("POINTS 0\n")), PcdError::Missing { entry: "DATA" }),
            (parse(header("x y z", "4 4 3", "F F F", "DATA ascii\n")), PcdError::Type { field: "z".into(), kind: "F".into(), size: 3 }),
            (
                parse(xyz("POINTS 1\nDATA binary_compressed\n\x01\0\0\0\x7f\x7f\x7f\x7fx")),
                PcdError::Lzf("1 bytes cannot hold 2139062143".into()),
            ),
        ];
        for (found, expected) in cases {
            assert_eq!(found, CloudFormatError::Pcd(expected));
        }
        assert!(matches!(parse(header("x y", "4 4", "F F", "DATA ascii\n")), CloudFormatError::Columns(ColumnsError::NoCoordinate { .. })));
    }

    #[test]
    fn every_truncation_of_binary_data_is_an_error() {
        for bytes in [mixed_binary(), mixed_compressed(false)] {
            for end in 0..bytes.len() {
                assert!(parse_pcd(&bytes[..end]).is_err(), "{end}");
            }
        }
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = parse_pcd(&bytes);
        }

        #[test]
        fn no_change_of_a_valid_file_panics(which in 0usize..3, changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6)) {
            let ascii = header("x y z", "4 4 4", "F F F", "COUNT 1 1 1\nWIDTH 1\nHEIGHT 1\nPOINTS 1\nDATA ascii\n1 2 3\n").into_bytes();
            let mut bytes = [ascii, mixed_binary(), mixed_compressed(true)][which].clone();
            for (index, byte) in changes {
                let at = index.index(bytes.len());
                bytes[at] = byte;
            }
            let _ = parse_pcd(&bytes);
        }

        #[test]
        fn no_words_in_a_header_panic(words in prop::collection::vec("(FIELDS|SIZE|TYPE|COUNT|WIDTH|HEIGHT|POINTS|DATA|x y z|_|[0-9]{1,20}|F F F|U|4 4 4|ascii|binary|binary_compressed|\n){1,3}", 0..30)) {
            let _ = parse_pcd(words.join(" ").as_bytes());
        }
    }
}

mod npy {
    use super::*;

    fn npy(header: &str, body: &[u8]) -> Vec<u8> {
        [b"\x93NUMPY\x01\x00", &(header.len() as u16).to_le_bytes()[..], header.as_bytes(), body].concat()
    }

    fn matrix(descr: &str, fortran: &str, shape: &str, body: &[u8]) -> Vec<u8> {
        npy(&format!("{{'descr': '{descr}', 'fortran_order': {fortran}, 'shape': {shape}, }}    \n"), body)
    }

    #[test]
    fn matrices_of_both_orders_and_widths_of_number() {
        let expected = [vec![1.0, 2.0, 3.0, 40.0], vec![5.0, -6.0, 7.0, 80.0]];
        let c_order: Vec<f32> = expected.concat();
        let fortran_order: Vec<f32> = (0..4).flat_map(|c| [expected[0][c], expected[1][c]]).collect();
        let doubles = |values: &[f32]| values.iter().flat_map(|v| f64::from(*v).to_le_bytes()).collect::<Vec<_>>();
        let big: Vec<u8> = c_order.iter().flat_map(|v| v.to_be_bytes()).collect();
        let shorts: Vec<u8> = c_order.iter().flat_map(|v| (*v as i16).to_le_bytes()).collect();
        for bytes in [
            matrix("<f4", "False", "(2, 4)", &floats(&c_order)),
            matrix("<f4", "True", "(2, 4)", &floats(&fortran_order)),
            matrix("<f8", "False", "(2, 4)", &doubles(&c_order)),
            matrix("<f8", "True", "(2, 4)", &doubles(&fortran_order)),
            matrix(">f4", "False", "(2, 4)", &big),
            matrix("<i2", "False", "(2, 4)", &shorts),
        ] {
            let parsed = parse_npy(&bytes, None).unwrap();
            assert_eq!(parsed.cloud.fields, ["x", "y", "z", "intensity"]);
            assert_eq!(rows(&parsed), expected);
            let named = parse_npy(&bytes, Some(&owned(&["y", "x", "z", "ring"]))).unwrap();
            assert_eq!(named.cloud.fields, ["x", "y", "z", "ring"]);
            assert_eq!(rows(&named)[1], [-6.0, 5.0, 7.0, 80.0]);
        }
    }

    #[test]
    fn a_fifth_column_is_told_by_its_values() {
        let fields = |bytes: &[u8]| parse_npy(&matrix("<f4", "False", "(100, 5)", bytes), None).map(|p| p.cloud.fields[4].clone());
        assert_eq!(fields(&sweep(100, &[&ring])), Ok("ring".into()));
        assert_eq!(fields(&sweep(100, &[&lag_of(100)])), Ok("time".into()));
        assert!(fields(&sweep(100, &[&|i| i as f32 * 0.001])).is_err());
    }

    #[test]
    fn records_name_their_columns() {
        let header = "{'descr': [('t', '<f8'), ('x', '<f4'), ('y', '<f4'), ('n', '<i2', (2,)), ('', '|V3'), ('z', '<f4'), ('ring', '|u1')], \
                      'fortran_order': False, 'shape': (2,)}";
        let mut body = Vec::new();
        for k in [1i16, 2] {
            body.extend((0.5 * f64::from(k)).to_le_bytes());
            body.extend(floats(&[10.0 * f32::from(k), 20.0 * f32::from(k)]));
            body.extend([k.to_le_bytes(), (-k).to_le_bytes(), [9, 9]].concat());
            body.push(9);
            body.extend(floats(&[30.0 * f32::from(k)]));
            body.push(k as u8);
        }
        let parsed = parse_npy(&npy(header, &body), None).unwrap();
        assert_eq!(parsed.cloud.fields, ["x", "y", "z", "t", "n_0", "n_1", "ring"]);
        assert_eq!(rows(&parsed), [vec![10.0, 20.0, 30.0, 0.5, 1.0, -1.0, 1.0], vec![20.0, 40.0, 60.0, 1.0, 2.0, -2.0, 2.0]]);
    }

    #[test]
    fn lies_are_errors() {
        let parse = |bytes: &[u8]| parse_npy(bytes, None).unwrap_err();
        let npy_error = |error: NpyError| CloudFormatError::Npy(error);
        assert_eq!(parse(b"PK\x03\x04"), npy_error(NpyError::Magic));
        assert_eq!(parse(b"\x93NUMPY\x02\x00\xff\xff\xff\xff{"), npy_error(NpyError::HeaderTruncated { expected: 0xffff_ffff, found: 1 }));
        let huge = usize::MAX;
        assert_eq!(
            parse(&matrix("<f4", "False", &format!("({huge}, 4)"), &[0; 16])),
            npy_error(NpyError::Truncated { expected: huge, found: 16 })
        );
        assert_eq!(parse(&matrix("<f4", "True", &format!("(1, {huge})"), &[])), npy_error(NpyError::TooWide { columns: huge }));
        assert_eq!(parse(&matrix("<f4", "True", "(8,)", &[0; 32])), npy_error(NpyError::Shape(vec![8])));
        assert_eq!(parse(&matrix("|O", "True", "(2, 4)", &[0; 32])), npy_error(NpyError::Type("|O".into())));
        assert_eq!(parse(&matrix("<f4", "1", "(2, 4)", &[0; 32])), npy_error(NpyError::Header { at: 0 }));
        let wide = format!("{{'descr': [('x', '<f4', ({huge}, {huge}))], 'fortran_order': False, 'shape': (1,)}}");
        assert_eq!(parse(&npy(&wide, &[])), npy_error(NpyError::TooWide { columns: huge }));
        let named = format!("{{'descr': [('{}', '<f4', (4096,))], 'fortran_order': False, 'shape': (1,)}}", "f".repeat(257));
        assert_eq!(parse(&npy(&named, &[])), npy_error(NpyError::NameLength { bytes: 257 }));
        assert!(matches!(
            parse_npy(&matrix("<f4", "False", "(1, 4)", &[0; 16]), Some(&owned(&["x", "y", "z"]))),
            Err(CloudFormatError::Columns(ColumnsError::Count { found: 4, named: 3, .. }))
        ));
    }

    #[test]
    fn every_truncation_is_an_error() {
        let bytes = matrix("<f4", "False", "(20, 4)", &sweep(20, &[]));
        assert_eq!(parse_npy(&bytes, None).unwrap().cloud.len(), 20);
        for end in 0..bytes.len() {
            assert!(parse_npy(&bytes[..end], None).is_err(), "{end}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_panic(header in "[{}()\\[\\]',: <>|a-zA-Z0-9]{0,80}", bytes in prop::collection::vec(any::<u8>(), 0..100)) {
            let _ = parse_npy(&bytes, None);
            let _ = parse_npy(&npy(&header, &bytes), None);
        }

        #[test]
        fn no_change_of_a_valid_file_panics(changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6)) {
            let mut bytes = matrix("<f4", "False", "(4, 5)", &sweep(4, &[&|_| 0.0]));
            for (index, byte) in changes {
                let at = index.index(bytes.len());
                bytes[at] = byte;
            }
            let _ = parse_npy(&bytes, None);
        }
    }
}

proptest! {
    #[test]
    fn raw_bytes_never_panic_and_lose_no_row(bytes in prop::collection::vec(any::<u8>(), 0..400), width in 0usize..8) {
        let _ = parse_bin(&bytes, None);
        let names: Vec<String> = ["x", "y", "z", "a", "b", "c", "d"].iter().take(width).map(|n| n.to_string()).collect();
        if let Ok(parsed) = parse_bin(&bytes, Some(&names)) {
            prop_assert_eq!((parsed.cloud.len() + parsed.dropped_non_finite) * width * 4, bytes.len());
            prop_assert!(parsed.cloud.data.columns().into_iter().take(3).all(|c| c.iter().all(|v| v.is_finite())));
        }
    }
}

/// The folder of data that is not in the repository. `None`, with a note, when it is absent.
fn shared(path: &str) -> Option<PathBuf> {
    let root = std::env::var_os("LIDAR_PTQ_SHARED").map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared"), PathBuf::from);
    let path = root.join(path);
    if !path.exists() {
        eprintln!("skipped: {} is absent", path.display());
        return None;
    }
    Some(path)
}

#[test]
fn real_kitti_frames_have_four_columns() {
    let Some(folder) = shared("data/kitti/velodyne_reduced") else { return };
    let files = list_cloud_files(&folder).unwrap();
    assert!(!files.is_empty());
    for file in files {
        let cloud = read_cloud(&file, None).unwrap();
        assert_eq!(cloud.fields, ["x", "y", "z", "intensity"], "{}", file.display());
        assert_eq!(cloud.len() as u64 * 16, file.metadata().unwrap().len());
    }
}

#[test]
fn real_nuscenes_sweeps_have_a_ring_with_and_without_their_name() {
    let Some(folder) = shared("data/nuscenes_demo") else { return };
    let files = list_cloud_files(&folder).unwrap();
    assert!(!files.is_empty());
    for file in files {
        let cloud = read_cloud(&file, None).unwrap();
        assert_eq!(cloud.fields, ["x", "y", "z", "intensity", "ring"]);
        assert!(cloud.stamp.0 > 1_500_000_000_000_000_000);
        let unnamed = parse_bin(&std::fs::read(&file).unwrap(), None).unwrap();
        assert_eq!((unnamed.cloud.fields, unnamed.cloud.data), (cloud.fields, cloud.data), "{}", file.display());
    }
}

#[test]
fn golden_points_have_a_time_lag() {
    for (name, sweeps) in [("points_s1.bin", 1), ("points_s3.bin", 3)] {
        let Some(file) = shared("golden/A_det3d_pillar").map(|folder| folder.join(name)) else { return };
        let cloud = read_cloud(&file, None).unwrap();
        assert_eq!(cloud.fields, ["x", "y", "z", "intensity", "time"]);
        let mut lags = cloud.column("time").unwrap().to_vec();
        lags.dedup();
        assert_eq!(lags.len(), sweeps);
    }
}
