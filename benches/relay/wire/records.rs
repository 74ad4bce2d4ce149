//! TLS 1.3 records (RFC 8446 section 5), sealed and opened in place.
//!
//! rustls makes the handshake and then hands over its keys. What follows is what a relay is fed
//! with, and it must cost less than the relay: no allocation for a record, one copy, and a record's
//! bounds where the bench wants them, which a TLS library does not let one say.

use ring::aead::{AES_128_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use rustls::{ConnectionTrafficSecrets, ExtractedSecrets};

/// The longest plaintext of a record (RFC 8446 section 5.1).
pub(crate) const RECORD: usize = 16 * 1024;

const HEADER: usize = 5;
const TAG: usize = 16;
/// The longest record there may be, header and all (section 5.2).
const RECORD_MAX: usize = HEADER + RECORD + 256;

/// The types of what is inside a record (section 5.1).
const ALERT: u8 = 21;
const HANDSHAKE: u8 = 22;
const DATA: u8 = 23;
/// A handshake message that may come at any time, and is of no use here (section 4.6.1).
const NEW_SESSION_TICKET: u8 = 4;
/// `close_notify`, as a warning (section 6.1).
const CLOSE_NOTIFY: [u8; 2] = [1, 0];

struct Secret {
    key: LessSafeKey,
    iv: [u8; 12],
    sequence: u64,
}

impl Secret {
    fn new((sequence, secrets): (u64, ConnectionTrafficSecrets)) -> Result<Self, String> {
        let ConnectionTrafficSecrets::Aes128Gcm { key, iv } = secrets else {
            return Err("the peers agreed on another cipher than AES-128-GCM".into());
        };
        let key = UnboundKey::new(&AES_128_GCM, key.as_ref()).map_err(|_| "a key of no use")?;
        let iv = iv.as_ref().try_into().map_err(|_| "an initial vector of no use")?;
        Ok(Self { key: LessSafeKey::new(key), iv, sequence })
    }

    /// The nonce of the next record (section 5.3).
    fn nonce(&mut self) -> Nonce {
        let mut nonce = self.iv;
        for (byte, part) in nonce[4..].iter_mut().zip(self.sequence.to_be_bytes()) {
            *byte ^= part;
        }
        self.sequence += 1;
        Nonce::assume_unique_for_key(nonce)
    }
}

/// Makes records.
pub(crate) struct Sealer(Secret);

impl Sealer {
    /// Reserves a record's header; what is appended next is its plaintext, until `finish`.
    pub(crate) fn begin(out: &mut Vec<u8>) -> usize {
        out.extend_from_slice(&[0; HEADER]);
        out.len()
    }

    /// Seals what was appended since `begin`, which said where it starts.
    pub(crate) fn finish(&mut self, out: &mut Vec<u8>, start: usize) -> Result<(), String> {
        self.seal(out, start, DATA)
    }

    fn seal(&mut self, out: &mut Vec<u8>, start: usize, kind: u8) -> Result<(), String> {
        out.push(kind);
        let len = u16::try_from(out.len() - start + TAG).map_err(at_length)?;
        let [high, low] = len.to_be_bytes();
        let header = [DATA, 3, 3, high, low];
        out[start - HEADER..start].copy_from_slice(&header);
        let nonce = self.0.nonce();
        let tag = self
            .0
            .key
            .seal_in_place_separate_tag(nonce, Aad::from(header), &mut out[start..])
            .map_err(|_| "a record cannot be sealed")?;
        out.extend_from_slice(tag.as_ref());
        Ok(())
    }

    /// Appends the plaintext as full records and a rest.
    pub(crate) fn seal_all(&mut self, out: &mut Vec<u8>, plain: &[u8]) -> Result<(), String> {
        for piece in plain.chunks(RECORD) {
            let start = Self::begin(out);
            out.extend_from_slice(piece);
            self.finish(out, start)?;
        }
        Ok(())
    }

    /// Appends the record that ends a direction.
    pub(crate) fn goodbye(&mut self, out: &mut Vec<u8>) -> Result<(), String> {
        let start = Self::begin(out);
        out.extend_from_slice(&CLOSE_NOTIFY);
        self.seal(out, start, ALERT)
    }
}

fn at_length(_: std::num::TryFromIntError) -> String {
    "a record is too long".into()
}

/// Opens records.
pub(crate) struct Opener {
    secret: Secret,
    /// The beginning of a record whose end was not read yet.
    cut: Vec<u8>,
}

impl Opener {
    /// Opens what was read in place and gives the plaintext of each record to `on`. Says false once
    /// the peer has ended its direction.
    pub(crate) fn open(
        &mut self,
        mut read: &mut [u8],
        on: &mut impl FnMut(&mut [u8]) -> Result<(), String>,
    ) -> Result<bool, String> {
        if !self.cut.is_empty() {
            let mut cut = std::mem::take(&mut self.cut);
            for want in [HEADER, RECORD_MAX] {
                let want = if want == HEADER { HEADER } else { whole(&cut)?.unwrap_or(HEADER) };
                let take = want.saturating_sub(cut.len()).min(read.len());
                cut.extend_from_slice(&read[..take]);
                read = &mut read[take..];
            }
            if whole(&cut)?.is_none_or(|len| cut.len() < len) {
                self.cut = cut;
                return Ok(true);
            }
            if !self.open_one(&mut cut, on)? {
                return Ok(false);
            }
        }
        while let Some(len) = whole(read)?
            && len <= read.len()
        {
            let (record, rest) = read.split_at_mut(len);
            read = rest;
            if !self.open_one(record, on)? {
                return Ok(false);
            }
        }
        self.cut.extend_from_slice(read);
        Ok(true)
    }

    fn open_one(
        &mut self,
        record: &mut [u8],
        on: &mut impl FnMut(&mut [u8]) -> Result<(), String>,
    ) -> Result<bool, String> {
        let (header, sealed) = record.split_at_mut(HEADER);
        let nonce = self.secret.nonce();
        let plain = self
            .secret
            .key
            .open_in_place(nonce, Aad::from(&*header), sealed)
            .map_err(|_| "a record that cannot be opened")?;
        // No padding: none of the peers here has a reason for it.
        match plain.split_last_mut() {
            Some((&mut DATA, data)) => on(data).map(|()| true),
            Some((&mut HANDSHAKE, [NEW_SESSION_TICKET, ..])) => Ok(true),
            Some((&mut ALERT, data)) if *data == CLOSE_NOTIFY => Ok(false),
            _ => Err("a record of another kind than data".into()),
        }
    }
}

/// The length of the record that begins here, if its header is there.
fn whole(bytes: &[u8]) -> Result<Option<usize>, String> {
    let Some(&[_, _, _, high, low]) = bytes.get(..HEADER) else { return Ok(None) };
    let len = HEADER + usize::from(u16::from_be_bytes([high, low]));
    if len > RECORD_MAX { Err("a record is too long".into()) } else { Ok(Some(len)) }
}

/// The two directions of a connection whose handshake is over.
pub(crate) fn take_over(secrets: ExtractedSecrets) -> Result<(Sealer, Opener), String> {
    let opener = Opener { secret: Secret::new(secrets.rx)?, cut: Vec::new() };
    Ok((Sealer(Secret::new(secrets.tx)?), opener))
}

/// How much of what was read is whole records, and where the first ends.
pub(crate) fn first_record(bytes: &[u8]) -> Result<Option<usize>, String> {
    Ok(whole(bytes)?.filter(|len| *len <= bytes.len()))
}
