//! Configuration files, and the presets that come with the program: the public code bases' own pillar configurations.

use super::DetectorConfig;
use std::path::Path;

/// A configuration that comes with the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Preset {
    pub name: &'static str,
    /// The YAML file, with its comments.
    pub yaml: &'static str,
}

macro_rules! presets {
    ($($name:literal),+ $(,)?) => {
        /// Where two fit a checkpoint equally well, the first is taken.
        pub const PRESETS: &[Preset] = &[$(Preset {
            name: $name,
            yaml: include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/config/models/", $name, ".yaml")),
        }),+];
    };
}

presets![
    "nuscenes_pillar_det3d",
    "nuscenes_pillar_openpcdet",
    "nuscenes_pillar_mmdet3d",
    "nuscenes_pillar_mmdet3d_circle",
    "waymo_pillar_det3d",
    "waymo_pillar_openpcdet",
    "edge_pillar",
    "kitti_pillar",
];

#[derive(Debug, thiserror::Error)]
pub enum ConfigFileError {
    #[error("`{name}` is neither a file nor a preset; the presets are {}", preset_names())]
    Unknown { name: String },
    #[error("{file}: {source}")]
    Io { file: String, source: std::io::Error },
    #[error("{file}: {source}")]
    Yaml { file: String, source: serde_norway::Error },
}

impl Preset {
    pub fn find(name: &str) -> Option<&'static Preset> {
        PRESETS.iter().find(|preset| preset.name == name)
    }

    /// # Errors
    /// None for the presets of this program (a test parses each).
    pub fn config(&self) -> Result<DetectorConfig, ConfigFileError> {
        DetectorConfig::from_yaml(self.yaml).map_err(|source| ConfigFileError::Yaml { file: self.name.to_owned(), source })
    }
}

impl DetectorConfig {
    /// Reads the YAML form. A choice with fields is written as a map of one entry: `voxelization: {dynamic: {test_z: false}}`.
    /// The values are checked by [`DetectorConfig::validate`], not here.
    ///
    /// # Errors
    /// Text that is no YAML; a field that is missing, unknown or of another type.
    pub fn from_yaml(text: &str) -> Result<Self, serde_norway::Error> {
        serde_norway::with::singleton_map_recursive::deserialize(serde_norway::Deserializer::from_str(text))
    }

    /// The preset of this name, else the file of this name.
    ///
    /// # Errors
    /// Neither exists, or the file is no configuration.
    pub fn load(file_or_preset: &str) -> Result<Self, ConfigFileError> {
        if let Some(preset) = Preset::find(file_or_preset) {
            return preset.config();
        }
        let file = file_or_preset.to_owned();
        if !Path::new(file_or_preset).exists() {
            return Err(ConfigFileError::Unknown { name: file });
        }
        let text = match std::fs::read_to_string(file_or_preset) {
            Ok(text) => text,
            Err(source) => return Err(ConfigFileError::Io { file, source }),
        };
        Self::from_yaml(&text).map_err(|source| ConfigFileError::Yaml { file, source })
    }
}

fn preset_names() -> String {
    PRESETS.iter().map(|preset| preset.name).collect::<Vec<_>>().join(", ")
}
