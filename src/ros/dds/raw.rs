//! Messages as bytes: nothing is decoded on the way in or encoded on the way out.

use crate::ros::cdr::ENCAPSULATION_BYTES;
use rustdds::bytes::Bytes;
use rustdds::no_key::{DataWriter, Decode, DefaultDecoder, DeserializerAdapter, SerializerAdapter, SimpleDataReader};
use rustdds::{RepresentationIdentifier, rpc};
use std::convert::Infallible;

pub(super) type RawReader = SimpleDataReader<Vec<u8>, RawCdr>;
pub(super) type RawWriter = DataWriter<Payload, RawCdr>;
pub(super) type SampleIdentity = rpc::SampleIdentity;

/// Bytes after the encapsulation, little-endian.
#[derive(Clone, Debug)]
pub(super) struct Payload(pub Bytes);

impl Payload {
    /// Of a little-endian message with its encapsulation.
    pub(super) fn of_message(message: &[u8]) -> Self {
        Self(Bytes::copy_from_slice(message.get(ENCAPSULATION_BYTES..).unwrap_or_default()))
    }
}

/// Plain CDR in either byte order comes in; little-endian goes out.
#[derive(Clone)]
pub(super) struct RawCdr;

const ENCODINGS: [RepresentationIdentifier; 2] = [RepresentationIdentifier::CDR_LE, RepresentationIdentifier::CDR_BE];

impl DeserializerAdapter<Vec<u8>> for RawCdr {
    type Error = Infallible;
    type Decoded = Vec<u8>;

    fn supported_encodings() -> &'static [RepresentationIdentifier] {
        &ENCODINGS
    }

    fn transform_decoded(decoded: Vec<u8>) -> Vec<u8> {
        decoded
    }
}

impl DefaultDecoder<Vec<u8>> for RawCdr {
    type Decoder = RawCdr;
    const DECODER: RawCdr = RawCdr;
}

impl Decode<'_, Vec<u8>> for RawCdr {
    type Error = Infallible;

    /// With the encapsulation, which the middleware has taken off.
    fn decode_bytes(self, payload: &[u8], encoding: RepresentationIdentifier) -> Result<Vec<u8>, Infallible> {
        let [high, low] = encoding.to_bytes();
        let mut bytes = Vec::with_capacity(ENCAPSULATION_BYTES + payload.len());
        bytes.extend_from_slice(&[high, low, 0, 0]);
        bytes.extend_from_slice(payload);
        Ok(bytes)
    }
}

impl SerializerAdapter<Payload> for RawCdr {
    type Error = Infallible;

    fn output_encoding() -> RepresentationIdentifier {
        RepresentationIdentifier::CDR_LE
    }

    fn to_bytes(payload: &Payload) -> Result<Bytes, Infallible> {
        Ok(payload.0.clone())
    }
}
