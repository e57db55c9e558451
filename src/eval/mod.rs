//! Metrics, tables and pictures.
