//! Writes one part file of a table: rows go in, and a durable file of known size and row count comes out.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use highwater_engine::error::Result;
use parquet::arrow::ArrowWriter;

use super::codec::LineEncoder;
use super::durable::io_error;
use super::options::{FileFormat, FileOptions};
use super::parquet::{write_error, writer};

/// A part file that is being written.
pub(crate) struct PartWriter {
    path: PathBuf,
    body: Body,
    rows: u64,
}

#[expect(clippy::large_enum_variant, reason = "one a part file")]
enum Body {
    Parquet(Box<ArrowWriter<File>>),
    Lines { file: BufWriter<File>, encoder: LineEncoder, buffer: Vec<u8> },
}

/// A part file that is durable.
#[derive(Debug, Clone)]
pub(crate) struct FinishedPart {
    pub(crate) path: PathBuf,
    pub(crate) size_bytes: u64,
}

impl PartWriter {
    /// Creates the file.
    pub(crate) fn create(path: &Path, schema: &SchemaRef, format: FileFormat, options: &FileOptions) -> Result<Self> {
        let file = File::create_new(path).map_err(|error| io_error("create", path, error))?;
        let body = match format {
            FileFormat::Parquet => {
                Body::Parquet(Box::new(writer(path, file, SchemaRef::clone(schema), options.compression)?))
            }
            _ => {
                let mut buffer = Vec::new();
                let encoder = LineEncoder::new(format, schema, &options.record, &mut buffer)?;
                Body::Lines { file: BufWriter::with_capacity(1 << 17, file), encoder, buffer }
            }
        };
        Ok(Self { path: path.to_owned(), body, rows: 0 })
    }

    /// Rows so far.
    pub(crate) fn rows(&self) -> u64 {
        self.rows
    }

    /// About how large a Parquet file is by now; 0 for lines.
    pub(crate) fn size_bytes(&self) -> u64 {
        match &self.body {
            Body::Parquet(writer) => (writer.bytes_written() + writer.in_progress_size()) as u64,
            Body::Lines { .. } => 0,
        }
    }

    /// Adds rows.
    pub(crate) fn write(&mut self, rows: &RecordBatch) -> Result<()> {
        self.rows += rows.num_rows() as u64;
        match &mut self.body {
            Body::Parquet(writer) => writer.write(rows).map_err(|error| write_error(&self.path, error)),
            Body::Lines { file, encoder, buffer } => {
                encoder.encode(rows, buffer)?;
                file.write_all(buffer).map_err(|error| io_error("write", &self.path, error))?;
                buffer.clear();
                Ok(())
            }
        }
    }

    /// Ends the file and makes it durable.
    pub(crate) fn finish(self) -> Result<FinishedPart> {
        let failed = |error| io_error("write", &self.path, error);
        let file = match self.body {
            Body::Parquet(mut writer) => {
                // Not `into_inner`, which makes a text of what the system said.
                writer.finish().map_err(|error| write_error(&self.path, error))?;
                writer.inner().try_clone().map_err(failed)?
            }
            Body::Lines { mut file, buffer, .. } => {
                file.write_all(&buffer).map_err(failed)?;
                file.into_inner().map_err(|error| failed(error.into_error()))?
            }
        };
        file.sync_all().map_err(failed)?;
        let size_bytes = file.metadata().map_err(failed)?.len();
        Ok(FinishedPart { path: self.path, size_bytes })
    }
}
