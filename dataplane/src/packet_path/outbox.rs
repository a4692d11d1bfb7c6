//! Frames that the packet path makes itself: questions to neighbours, segments, fragments, and what
//! waited for a next hop. Buffers are made once and used again.

use super::verdict::Verdict;
use crate::frame::HEADROOM;
use crate::frame::{Frame, Offload};
use crate::table::PortId;

/// Frames kept at most. A super-frame of 64 KiB makes 47 segments, so several fit; what comes when
/// it is full is dropped and counted by the caller.
const MOST: usize = 512;

/// A frame in memory of its own.
#[derive(Debug, Default)]
pub struct OwnFrame {
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    /// Where it came in, or leaves.
    pub port: Option<PortId>,
    /// Work left to a network card.
    pub offload: Offload,
    /// What is to become of it.
    pub verdict: Option<Verdict>,
}

impl OwnFrame {
    /// The frame as the backends and the packet path see it.
    pub fn frame(&mut self) -> Frame<'_> {
        let port = self.port.unwrap_or(PortId(0));
        let mut frame = Frame::new(&mut self.buffer, self.start, self.end, port);
        frame.offload = self.offload;
        frame
    }

    /// Takes over what became of the frame while it was borrowed.
    fn keep(&mut self, start: usize, length: usize, offload: Offload, verdict: Verdict) {
        self.start = start;
        self.end = start + length;
        self.offload = offload;
        self.verdict = Some(verdict);
    }
}

/// Frames to send after the batch.
#[derive(Debug, Default)]
pub struct Outbox {
    ready: Vec<OwnFrame>,
    spare: Vec<OwnFrame>,
}

impl Outbox {
    /// Copies `parts`, one after the other, to a frame that leaves by `verdict`. `false` when the
    /// outbox is full.
    #[must_use]
    pub fn push(&mut self, parts: &[&[u8]], offload: Offload, verdict: Verdict) -> bool {
        let Some(mut own) = self.blank() else { return false };
        own.buffer.resize(HEADROOM, 0);
        for part in parts {
            own.buffer.extend_from_slice(part);
        }
        let length = own.buffer.len() - HEADROOM;
        own.keep(HEADROOM, length, offload, verdict);
        own.port = match verdict {
            Verdict::Send(port) => Some(port),
            Verdict::Host | Verdict::Deliver | Verdict::Consumed | Verdict::Drop(_) => None,
        };
        self.ready.push(own);
        true
    }

    /// A buffer to fill; `None` when as many as allowed are in use.
    pub fn blank(&mut self) -> Option<OwnFrame> {
        if self.ready.len() >= MOST {
            return None;
        }
        let mut own = self.spare.pop().unwrap_or_default();
        own.buffer.clear();
        own.verdict = None;
        Some(own)
    }

    /// A copy of a received frame, to be judged later.
    pub fn copy_of(&mut self, frame: &Frame<'_>) -> Option<OwnFrame> {
        let mut own = self.blank()?;
        own.buffer.resize(HEADROOM, 0);
        own.buffer.extend_from_slice(frame.bytes());
        own.start = HEADROOM;
        own.end = own.buffer.len();
        own.port = Some(frame.ingress);
        own.offload = frame.offload;
        Some(own)
    }

    /// Puts a frame in that was judged while it was borrowed from `own`: it starts at `start`. `false`
    /// when the outbox is full.
    #[must_use]
    pub fn put_judged(
        &mut self,
        mut own: OwnFrame,
        (start, length): (usize, usize),
        offload: Offload,
        verdict: Verdict,
    ) -> bool {
        if self.ready.len() >= MOST {
            self.discard(own);
            return false;
        }
        own.keep(start, length, offload, verdict);
        if let Verdict::Send(port) = verdict {
            own.port = Some(port);
        }
        self.ready.push(own);
        true
    }

    /// Gives a buffer back unused.
    pub fn discard(&mut self, own: OwnFrame) {
        if self.spare.len() < MOST {
            self.spare.push(own);
        }
    }

    /// Frames waiting to be sent.
    pub fn is_empty(&self) -> bool {
        self.ready.is_empty()
    }

    /// All frames waiting to be sent; the caller sends them and then calls [`Outbox::clear`].
    pub fn ready(&mut self) -> &mut [OwnFrame] {
        &mut self.ready
    }

    /// All frames have left.
    pub fn clear(&mut self) {
        while let Some(own) = self.ready.pop() {
            self.discard(own);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_outbox_refuses_a_judged_frame_and_keeps_its_buffer() {
        let mut outbox = Outbox::default();
        let own = outbox.blank().unwrap();
        while outbox.push(&[&[0; 60]], Offload::default(), Verdict::Deliver) {}
        assert_eq!(outbox.ready().len(), MOST);
        assert!(!outbox.put_judged(own, (HEADROOM, 60), Offload::default(), Verdict::Deliver));
        assert_eq!((outbox.ready().len(), outbox.spare.len()), (MOST, 1));
        outbox.clear();
        let own = outbox.blank().unwrap();
        assert!(outbox.put_judged(own, (HEADROOM, 60), Offload::default(), Verdict::Deliver));
    }
}
