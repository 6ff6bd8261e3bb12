//! Bitcoin's transactions and blocks, as far as somebody needs them who has the headers alone: nothing here is executed. Witnesses
//! (BIP 141) are read past: no header that is followed here says anything of them by itself, and names are without.

use std::collections::BTreeSet;

use p2p_core::Key;

use super::merkle::root_of;
use crate::codec::{Decode, Encode, InvalidEncoding, Reader, put_compact_size};
use crate::header::BitcoinHeader;
use crate::id::{TxId, put_reversed, reversed, twice};
use crate::transaction::OutPoint;

/// A transaction of Bitcoin's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BitcoinTransaction {
    /// Which rules it is under.
    pub version: u32,
    /// What it spends. At least one.
    pub inputs: Vec<BitcoinInput>,
    /// What it pays. At least one.
    pub outputs: Vec<BitcoinOutput>,
    /// From when on it counts.
    pub lock_time: u32,
}

/// What a transaction spends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BitcoinInput {
    /// The output; of a coinbase none, all zero and the highest index.
    pub previous: OutPoint,
    /// What opens it.
    pub script: Vec<u8>,
    /// Whether the lock times count, and for how long it must have been there.
    pub sequence: u32,
}

/// What a transaction pays.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BitcoinOutput {
    /// How much, in satoshis.
    pub value: u64,
    /// Who may spend it.
    pub script: Vec<u8>,
}

impl BitcoinTransaction {
    /// Its name.
    pub fn id(&self) -> TxId {
        TxId(twice(&self.to_bytes()))
    }

    /// Whether it makes new money, as the first of each block does.
    pub fn is_coinbase(&self) -> bool {
        let nothing = OutPoint { id: TxId(Key::ZERO), index: u32::MAX };
        matches!(&self.inputs[..], [input] if input.previous == nothing)
    }

    /// Whether it is about one of these, as BIP 37 has it: its name, an output that it spends, or something that is pushed
    /// by a script of one of its inputs or outputs, a key or its hash say. Hashes and output points as they travel.
    pub fn is_about(&self, items: &BTreeSet<Vec<u8>>) -> bool {
        let wanted = |bytes: &[u8]| items.contains(bytes);
        let pushed = |script: &[u8]| Pushes(script).any(|bytes| !bytes.is_empty() && wanted(bytes));
        let mut id = Vec::with_capacity(32);
        put_reversed(&mut id, &self.id().0);
        let spends = |input: &BitcoinInput| wanted(&point(&input.previous)) || pushed(&input.script);
        wanted(&id)
            || self.inputs.iter().any(spends)
            || self.outputs.iter().any(|output| pushed(&output.script))
    }
}

/// The name of an output as it travels.
fn point(of: &OutPoint) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(36);
    put_reversed(&mut bytes, &of.id.0);
    bytes.extend_from_slice(&of.index.to_le_bytes());
    bytes
}

fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_compact_size(out, bytes.len());
    out.extend_from_slice(bytes);
}

fn bytes(input: &mut Reader<'_>) -> Result<Vec<u8>, InvalidEncoding> {
    let len = input.compact_size(usize::MAX)?;
    input.bytes(len).map(<[u8]>::to_vec)
}

/// A list, of which each takes a byte at least.
fn list<T>(
    input: &mut Reader<'_>,
    one: impl Fn(&mut Reader<'_>) -> Result<T, InvalidEncoding>,
) -> Result<Vec<T>, InvalidEncoding> {
    let count = input.compact_size(input.left())?;
    (0..count).map(|_| one(input)).collect()
}

impl Encode for BitcoinTransaction {
    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.version.to_le_bytes());
        put_compact_size(out, self.inputs.len());
        for input in &self.inputs {
            out.extend_from_slice(&point(&input.previous));
            put_bytes(out, &input.script);
            out.extend_from_slice(&input.sequence.to_le_bytes());
        }
        put_compact_size(out, self.outputs.len());
        for output in &self.outputs {
            out.extend_from_slice(&output.value.to_le_bytes());
            put_bytes(out, &output.script);
        }
        out.extend_from_slice(&self.lock_time.to_le_bytes());
    }
}

impl Decode for BitcoinTransaction {
    fn decode(input: &mut Reader<'_>) -> Result<BitcoinTransaction, InvalidEncoding> {
        let version = input.u32()?;
        let read_input = |input: &mut Reader<'_>| {
            let previous = OutPoint { id: TxId(reversed(input)?), index: input.u32()? };
            Ok(BitcoinInput { previous, script: bytes(input)?, sequence: input.u32()? })
        };
        let mut inputs = list(input, read_input)?;
        // No inputs and then a flag: witnesses follow (BIP 144).
        let witnesses = inputs.is_empty();
        if witnesses {
            if input.u8()? != 1 {
                return Err(InvalidEncoding::NotCanonical("witness flag"));
            }
            inputs = list(input, read_input)?;
        }
        let outputs = list(input, |input| Ok(BitcoinOutput { value: input.u64()?, script: bytes(input)? }))?;
        if witnesses {
            for _ in &inputs {
                read_past_witness(input)?;
            }
        }
        match inputs.is_empty() {
            true => Err(InvalidEncoding::NotCanonical("transaction")),
            false => Ok(BitcoinTransaction { version, inputs, outputs, lock_time: input.u32()? }),
        }
    }
}

fn read_past_witness(input: &mut Reader<'_>) -> Result<(), InvalidEncoding> {
    for _ in 0..input.compact_size(input.left())? {
        let len = input.compact_size(usize::MAX)?;
        input.bytes(len)?;
    }
    Ok(())
}

/// What a script pushes; ends where it breaks off.
struct Pushes<'a>(&'a [u8]);

impl<'a> Iterator for Pushes<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let mut input = Reader::new(self.0);
        let len = match input.u8().ok()? {
            len @ 0..=75 => usize::from(len),
            76 => input.u8().ok()?.into(),
            77 => input.u16().ok()?.into(),
            78 => input.u32().ok()? as usize,
            _ => 0,
        };
        let pushed = input.bytes(len).ok()?;
        self.0 = input.bytes(input.left()).ok()?;
        Some(pushed)
    }
}

/// A block of Bitcoin's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BitcoinBlock {
    /// Its header.
    pub header: BitcoinHeader,
    /// The coinbase first.
    pub transactions: Vec<BitcoinTransaction>,
}

impl BitcoinBlock {
    /// Whether these are the transactions that the header commits to, all of them and none twice: who repeats the last ones gets
    /// the same root (CVE-2012-2459), and so does who passes nodes of the tree off as transactions (CVE-2017-12842), of which the
    /// first would have to look as a coinbase does.
    pub fn is_whole(&self) -> bool {
        if !self.transactions.first().is_some_and(BitcoinTransaction::is_coinbase) {
            return false;
        }
        let ids: Vec<Key> = self.transactions.iter().map(|transaction| transaction.id().0).collect();
        root_of(&ids) == Some(self.header.root)
    }
}

impl Encode for BitcoinBlock {
    fn encode(&self, out: &mut Vec<u8>) {
        self.header.encode(out);
        put_compact_size(out, self.transactions.len());
        self.transactions.iter().for_each(|transaction| transaction.encode(out));
    }
}

impl Decode for BitcoinBlock {
    fn decode(input: &mut Reader<'_>) -> Result<BitcoinBlock, InvalidEncoding> {
        let header = BitcoinHeader::decode(input)?;
        Ok(BitcoinBlock { header, transactions: list(input, BitcoinTransaction::decode)? })
    }
}
