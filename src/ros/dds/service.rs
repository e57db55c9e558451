//! How an answer finds its question. DDS has no calls: ROS 2's middlewares say it in two ways.
//!
//! * Fast DDS and most others: the question's identity stands beside the message, and beside its answer.
//! * Cyclone DDS (`rmw_cyclonedds_cpp`): 16 bytes in front of both messages, the last half of the caller's identifier and its number.
//!
//! The first two bytes of an identifier are its vendor's number, which tells the way.

use super::raw::{Payload, SampleIdentity};
use crate::ros::cdr::ENCAPSULATION_BYTES;
use crate::ros::transport::RequestId;
use rustdds::{GUID, SequenceNumber};

const CYCLONE: [u8; 2] = [0x01, 0x10];
const HEADER_BYTES: usize = 16;

/// Who asks, and the question without the header; `None` if it is too short for one.
///
/// `related`: what stands beside the message.
pub(super) fn question(
    message: Vec<u8>,
    writer: GUID,
    sequence: SequenceNumber,
    related: Option<SampleIdentity>,
) -> Option<(RequestId, Vec<u8>)> {
    let mut caller = writer.to_bytes();
    if is_cyclone(&caller) {
        let header = message.get(ENCAPSULATION_BYTES..ENCAPSULATION_BYTES + HEADER_BYTES)?;
        caller[8..].copy_from_slice(&header[..8]);
        let sequence = i64::from_le_bytes(header[8..].try_into().ok()?);
        let body = [&message[..ENCAPSULATION_BYTES], &message[ENCAPSULATION_BYTES + HEADER_BYTES..]].concat();
        return Some((RequestId { caller, sequence }, body));
    }
    let mut id = RequestId { caller, sequence: sequence.into() };
    if let Some(related) = related {
        id.caller = related.writer_guid.to_bytes();
        // Fast DDS leaves the number out: it is the message's own.
        if related.sequence_number != SequenceNumber::UNKNOWN {
            id.sequence = related.sequence_number.into();
        }
    }
    Some((id, message))
}

/// The answer as it goes out, and what stands beside it.
pub(super) fn answer(to: RequestId, message: &[u8]) -> (Payload, SampleIdentity) {
    let identity = SampleIdentity { writer_guid: GUID::from_bytes(to.caller), sequence_number: to.sequence.into() };
    if !is_cyclone(&to.caller) {
        return (Payload::of_message(message), identity);
    }
    let body = message.get(ENCAPSULATION_BYTES..).unwrap_or_default();
    (Payload([&to.caller[8..], &to.sequence.to_le_bytes()[..], body].concat().into()), identity)
}

fn is_cyclone(guid: &[u8; 16]) -> bool {
    guid[..2] == CYCLONE
}

#[cfg(test)]
mod tests {
    use super::*;

    const BODY: [u8; 4] = [0, 1, 0, 0];

    #[test]
    fn cyclone_gets_its_own_header_back() {
        let mut guid = [7; 16];
        guid[..2].copy_from_slice(&CYCLONE);
        let header: Vec<u8> = (100..116).collect();
        let asked = [&BODY[..], &header, &[42]].concat();
        let (id, body) = question(asked, GUID::from_bytes(guid), 5i64.into(), None).unwrap();
        assert_eq!(body, [0, 1, 0, 0, 42]);
        assert_eq!(answer(id, &[0, 1, 0, 0, 9]).0.0[..], [&header[..], &[9]].concat());
        assert!(question(vec![0, 1, 0, 0, 1, 2], GUID::from_bytes(guid), 5i64.into(), None).is_none());
    }

    #[test]
    fn others_get_the_identity_of_their_question() {
        let (writer, reader) = (GUID::from_bytes([1; 16]), GUID::from_bytes([2; 16]));
        let ask = |related| question(BODY.to_vec(), writer, 5i64.into(), related).unwrap().0;
        assert_eq!(ask(None), RequestId { caller: [1; 16], sequence: 5 });
        let related = |sequence_number| Some(SampleIdentity { writer_guid: reader, sequence_number });
        assert_eq!(ask(related(9i64.into())), RequestId { caller: [2; 16], sequence: 9 });
        assert_eq!(ask(related(SequenceNumber::UNKNOWN)), RequestId { caller: [2; 16], sequence: 5 });
        let (payload, identity) = answer(ask(related(9i64.into())), &[0, 1, 0, 0, 8]);
        assert_eq!((&payload.0[..], identity), (&[8][..], related(9i64.into()).unwrap()));
    }
}
